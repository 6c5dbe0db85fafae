/* Chapter 04: many heads from one fused projection. A model of one block is
   compared with heads that are computed one by one, each with its own three
   linear layers, and with the naive kernels. */

#include "kernels.h"

enum { B = 2, MOST = 16 * 64 };

/* 12 x 15 pixels, 4 x 5 patches: a grid of 3 x 3. */
static vit_config small_config(int width, int heads, int head_dim) {
  vit_config c = vit_config_tutorial();
  c.image_height = 12;
  c.image_width = 15;
  c.patch_height = 4;
  c.patch_width = 5;
  c.classes = 5;
  c.width = width;
  c.depth = 1;
  c.heads = heads;
  c.head_dim = head_dim;
  c.mlp_width = 7;
  c.positions = VIT_POSITIONS_LEARNED;
  c.pool = VIT_POOL_MEAN; /* then the last block has the heads of all tokens */
  c.softmax_before_loss = 0;
  return c;
}

typedef struct { vit_model m; vit_state s; float images[B * 180]; } fixture;

/* A model after one forward pass; 0 if it failed. */
static int start(fixture *f, const vit_config *c, const vit_kernels *k,
                 int flags) {
  memset(f, 0, sizeof *f);
  if (!CHECK(!vit_model_create(&f->m, c, 5), "%s", vit_error())) return 0;
  f->m.kernels = k;
  test_random(f->m.params.block, f->m.params.count, 0.7f, 8);
  if (!CHECK(!vit_state_create(&f->s, &f->m, B, flags, 1), "%s", vit_error()))
    return 0;
  f->s.dropout = 0;
  test_random(f->images, B * 180, 1, 9);
  return CHECK(!vit_forward(&f->m, &f->s, f->images, B), "%s", vit_error());
}

static void stop(fixture *f) {
  vit_state_free(&f->s);
  vit_model_free(&f->m);
}

/* Row `row` of the fused weight: part 0, 1, 2 is Q, K, V. */
static const float *qkv_row(const fixture *f, int part, int head) {
  const vit_config *c = &f->m.config;
  return f->m.params.qkv_w +
         (size_t)((part * c->heads + head) * c->head_dim) * (size_t)c->width;
}
static const float *qkv_bias(const fixture *f, int part, int head) {
  const vit_config *c = &f->m.config;
  return f->m.params.qkv_b
             ? f->m.params.qkv_b + (part * c->heads + head) * c->head_dim
             : NULL;
}

/* Heads of image b, computed one by one and put side by side: out [T,I], and
   their probabilities, probs [H,T,T]. */
static void separate_heads(const fixture *f, int b, float *out, float *probs) {
  const vit_config *c = &f->m.config;
  const int T = vit_config_tokens(c), D = c->width, Dh = c->head_dim;
  const int I = c->heads * Dh;
  const float *x = f->s.norm1 + (size_t)(b * T) * (size_t)D;
  float part[3][MOST], o[MOST];
  for (int h = 0; h < c->heads; h++) {
    float *p = probs + h * T * T;
    for (int i = 0; i < 3; i++)
      vit_naive.linear_forward(part[i], x, qkv_row(f, i, h), qkv_bias(f, i, h), T,
                               D, Dh);
    vit_naive.attention_scores_forward(p, part[0], part[1], f->m.mask, T, T, Dh, Dh);
    vit_naive.attention_values_forward(o, p, part[2], T, T, Dh, Dh, Dh);
    for (int t = 0; t < T; t++)
      for (int d = 0; d < Dh; d++) out[t * I + h * Dh + d] = o[t * Dh + d];
  }
}

/* Separate heads = fused heads, and mid = x + their projection. */
static void check_heads(const vit_config *config, const vit_kernels *k) {
  fixture f;
  float out[MOST], probs[8 * 100], projected[MOST], mid[MOST];
  if (start(&f, config, k, VIT_FOR_TRAINING)) {
    const vit_config *c = &f.m.config;
    const int T = vit_config_tokens(c), D = c->width, H = c->heads;
    const int I = H * c->head_dim;
    for (int b = 0; b < B; b++) {
      separate_heads(&f, b, out, probs);
      for (int h = 0; h < H; h++)
        CHECK_CLOSE("probabilities", vit_attention(&f.m, &f.s, 0, b, h),
                    probs + h * T * T, T * T, 1e-5, 1e-7);
      CHECK_CLOSE("heads", f.s.atty + b * T * I, out, T * I, 1e-5, 2e-6);
      vit_naive.linear_forward(projected, out, f.m.params.proj_w,
                               f.m.params.proj_b, T, I, D);
      for (int i = 0; i < T * D; i++)
        mid[i] = f.s.tokens[b * T * D + i] + projected[i];
      CHECK_CLOSE("x + projection", f.s.residual2 + b * T * D, mid, T * D, 1e-5, 1e-5);
    }
  }
  stop(&f);
}

static void test_fused_is_separate(void) {
  /* width, heads, head_dim: D / H; narrower; wider; one head; odd ones */
  static const int shapes[][3] = {{12, 3, 0}, {12, 3, 2}, {12, 2, 9}, {7, 1, 0},
                                  {10, 5, 3}, {9, 4, 8},  {16, 2, 0}};
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int i = 0; i < 7; i++)
      for (int kind = 0; kind < 8; kind++) {
        vit_config c = small_config(shapes[i][0], shapes[i][1], shapes[i][2]);
        c.qkv_bias = kind & 1;
        c.local_mask = kind & 2 ? 3 : 0;
        c.class_token = kind & 4 ? 1 : 0;
        if (!c.class_token) c.pool = VIT_POOL_MEAN;
        check_heads(&c, tables[t]);
      }
}

/* Without a bias the model has none; with one, it matters. */
static void test_qkv_bias(void) {
  vit_config c = small_config(12, 3, 0);
  fixture f;
  float before[MOST];
  c.qkv_bias = 0;
  if (start(&f, &c, vit_best_kernels(), VIT_FOR_TRAINING))
    CHECK(!f.m.params.qkv_b, "there is a bias");
  stop(&f);
  c.qkv_bias = 1;
  if (start(&f, &c, vit_best_kernels(), VIT_FOR_TRAINING)) {
    const size_t n = (size_t)(10 * 12);
    float far = 0;
    memcpy(before, f.s.atty, n * sizeof(float));
    f.m.params.qkv_b[2 * 12] += 1; /* the first value of the first head */
    CHECK(!vit_forward(&f.m, &f.s, f.images, B), "%s", vit_error());
    for (size_t i = 0; i < n; i++)
      far = fmaxf(far, fabsf(f.s.atty[i] - before[i] - (i % 12 == 0 ? 1 : 0)));
    /* its probabilities sum to 1: the output moves by as much, others do not */
    CHECK(far < 1e-5f, "a bias of 1 on a value moves the head by 1 +- %g",
          (double)far);
  }
  stop(&f);
}

/* Each head has its own weights: a change in one leaves the others alone. */
static void test_heads_are_independent(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int part = 0; part < 3; part++) {
      enum { T = 10, H = 3, DH = 5, I = H * DH, D = 12 };
      vit_config c = small_config(D, H, DH);
      fixture f;
      if (start(&f, &c, tables[t], VIT_FOR_TRAINING)) {
        float before[B * T * I];
        int changed = 0;
        memcpy(before, f.s.atty, sizeof before);
        f.m.params.qkv_w[((part * H + 1) * DH + 2) * D + 4] += 1;
        CHECK(!vit_forward(&f.m, &f.s, f.images, B), "%s", vit_error());
        for (int i = 0; i < B * T * I; i++) {
          int same = f.s.atty[i] == before[i];
          if (i % I / DH == 1) changed += !same;
          if (i % I / DH != 1)
            CHECK(same, "part %d: head %d changed", part, i % I / DH);
        }
        CHECK(changed > 0, "part %d: head 1 did not change", part);
      }
      stop(&f);
    }
}

/* Images of a batch do not see each other. */
static void test_images_are_independent(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    vit_config c = small_config(12, 3, 5);
    fixture f;
    if (start(&f, &c, tables[t], VIT_FOR_TRAINING)) {
      float second[10 * 15];
      memcpy(second, f.s.atty + 150, sizeof second);
      CHECK(!vit_forward(&f.m, &f.s, f.images + 180, 1), "%s", vit_error());
      CHECK_SAME_BITS("the second image alone", f.s.atty, second, 150);
    }
    stop(&f);
  }
}

/* What the mask hides has probability 0, exactly, in every head; each row still
   sums to 1. A window as large as the grid is no mask. */
static void test_local_mask(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int cls = 0; cls < 2; cls++) {
      vit_config c = small_config(12, 3, 0);
      fixture f, g;
      const int T = 9 + cls;
      c.class_token = cls;
      c.pool = cls ? VIT_POOL_CLS : VIT_POOL_MEAN;
      c.local_mask = 3;
      if (start(&f, &c, tables[t], VIT_KEEP_ATTENTION))
        for (int b = 0; b < B; b++)
          for (int h = 0; h < 3; h++) {
            const float *p = vit_attention(&f.m, &f.s, 0, b, h);
            if (!CHECK(p != NULL, "no probabilities")) continue;
            for (int i = 0; i < T; i++) {
              double sum = 0;
              for (int j = 0; j < T; j++) {
                int a = i - cls, e = j - cls;
                int open = a < 0 || e < 0 ||
                           (abs(a / 3 - e / 3) <= 1 && abs(a % 3 - e % 3) <= 1);
                CHECK((p[i * T + j] > 0) == open, "p[%d,%d] = %g", i, j,
                      (double)p[i * T + j]);
                sum += (double)p[i * T + j];
              }
              CHECK(fabs(sum - 1) < 1e-6, "row %d sums to %.9g", i, sum);
            }
          }
      stop(&f);
      c.local_mask = 5; /* reaches from corner to corner of a 3 x 3 grid */
      if (start(&f, &c, tables[t], VIT_FOR_INFERENCE)) {
        c.local_mask = 0;
        if (start(&g, &c, tables[t], VIT_FOR_INFERENCE))
          CHECK_SAME_BITS("logits", f.s.logits, g.s.logits, B * 5);
        stop(&g);
      }
      stop(&f);
    }
}

int main(void) {
  RUN(test_fused_is_separate);
  RUN(test_qkv_bias);
  RUN(test_heads_are_independent);
  RUN(test_images_are_independent);
  RUN(test_local_mask);
  return test_end("04_heads");
}
