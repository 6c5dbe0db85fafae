/* Chapter 03: softmax and one attention head. */

#include "kernels.h"

/* ---- the kernels --------------------------------------------------------- */

/* A softmax of numbers up to 4: the distance to the largest, up to 8, is
   rounded to half a unit of 8, which e^x turns into 8 * eps / 2 of its value;
   vit_exp, the sum and the division add a few more. */
#define SOFTMAX_LIMIT 16

/* The gradient of a softmax is a difference: its size is that of p * dp. */
#define SOFTMAX_BACKWARD_LIMIT 16

/* sizes: rows, cols */
static void call_softmax(const vit_kernels *k, float *const *a,
                         const k_case *c) {
  k->softmax_forward(a[0], a[1], c->size[0], c->size[1]);
}
static void softmax(k_case *c, int rows, int cols, int unused) {
  k_begin(c, "softmax_forward", call_softmax, rows, cols, unused);
  k_out(c, "y", k_n(rows, cols), K_EACH, SOFTMAX_LIMIT);
  k_in(c, "x", k_n(rows, cols))->scale = 4;
}
static void softmax_in_place(k_case *c, int rows, int cols, int unused) {
  softmax(c, rows, cols, unused);
  c->array[0].role = K_CHANGE;
  c->array[0].scale = 4;
  c->array[1].same = 0;
}

static void call_softmax_backward(const vit_kernels *k, float *const *a,
                                  const k_case *c) {
  k->softmax_backward(a[0], a[1], a[2], c->size[0], c->size[1]);
}
/* p: the softmax of what is there */
static void prepare_softmax(float *const *a, const k_case *c) {
  vit_naive.softmax_forward(a[2], a[2], c->size[0], c->size[1]);
}
static void softmax_backward(k_case *c, int rows, int cols, int unused) {
  k_begin(c, "softmax_backward", call_softmax_backward, rows, cols, unused);
  k_out(c, "dx", k_n(rows, cols), K_TOP, SOFTMAX_BACKWARD_LIMIT);
  k_in(c, "dy", k_n(rows, cols));
  k_in(c, "y", k_n(rows, cols));
  c->prepare = prepare_softmax;
}
static void softmax_backward_in_place(k_case *c, int rows, int cols,
                                      int unused) {
  softmax_backward(c, rows, cols, unused);
  c->array[0].role = K_CHANGE;
  c->array[1].same = 0;
}

/* sizes: T, Dh, stride, o_stride, mask: 0 or 1, rows: T queries, or fewer. Q, K and V of a model have a
   stride of three times all heads; here each is one array without a tail. */
static void call_scores(const vit_kernels *k, float *const *a,
                        const k_case *c) {
  k->attention_scores_forward(a[0], a[1], a[2], a[3], c->size[5], c->size[0],
                              c->size[1], c->size[2]);
}
/* A token sees itself and about half of the others. */
static void prepare_mask(float *const *a, const k_case *c) {
  int T = c->size[0], at = k_find(c, "mask");
  for (int i = 0; a[at] && i < c->size[5]; i++)
    for (int j = 0; j < T; j++)
      a[at][i * T + j] = i == j || a[at][i * T + j] > 0 ? 0 : -INFINITY;
}
static void scores_with(k_case *c, int rows, int T, int Dh, int stride,
                        int mask) {
  k_begin(c, "attention_scores_forward", call_scores, T, Dh, stride);
  c->size[4] = mask;
  c->size[5] = rows;
  k_out(c, "probs", k_n(rows, T), K_EACH, SOFTMAX_LIMIT + k_chain(Dh));
  k_in(c, "q", k_strided(rows, Dh, stride));
  k_in(c, "k", k_strided(T, Dh, stride));
  k_in(c, "mask", mask ? k_n(rows, T) : 0);
  c->prepare = prepare_mask;
}

static void call_scores_backward(const vit_kernels *k, float *const *a,
                                 const k_case *c) {
  k->attention_scores_backward(a[0], a[1], a[2], a[3], a[4], a[5], c->size[5],
                               c->size[0], c->size[1], c->size[2]);
}
static void prepare_probs(float *const *a, const k_case *c) {
  int at = k_find(c, "probs"), T = c->size[0], rows = c->size[5];
  for (int i = 0; i < rows * T; i++) a[at][i] *= 2;
  vit_naive.softmax_forward(a[at], a[at], rows, T);
}
static void scores_backward_with(k_case *c, int rows, int T, int Dh,
                                 int stride) {
  k_begin(c, "attention_scores_backward", call_scores_backward, T, Dh, stride);
  /* the terms of a single row may all but cancel each other */
  const double limit = SOFTMAX_BACKWARD_LIMIT * (rows < T ? 8 : 1) + k_chain(T);
  c->size[5] = rows;
  k_out(c, "dq", k_strided(rows, Dh, stride), K_TOP, limit);
  k_out(c, "dk", k_strided(T, Dh, stride), K_TOP, limit);
  k_add_array(c, "dprobs", K_CHANGE, k_n(rows, T), K_TOP, 1e30); /* scratch */
  k_in(c, "probs", k_n(rows, T));
  k_in(c, "q", k_strided(rows, Dh, stride));
  k_in(c, "k", k_strided(T, Dh, stride));
  c->prepare = prepare_probs;
}

static void call_values(const vit_kernels *k, float *const *a,
                        const k_case *c) {
  k->attention_values_forward(a[0], a[1], a[2], c->size[5], c->size[0], c->size[1],
                              c->size[2], c->size[3]);
}
static void values_with(k_case *c, int rows, int T, int Dh, int stride,
                        int o_stride) {
  k_begin(c, "attention_values_forward", call_values, T, Dh, stride);
  c->size[3] = o_stride;
  c->size[5] = rows;
  k_out(c, "y", k_strided(rows, Dh, o_stride), K_SUMS, k_chain(T));
  k_in(c, "probs", k_n(rows, T));
  k_in(c, "v", k_strided(T, Dh, stride));
}

static void call_values_backward(const vit_kernels *k, float *const *a,
                                 const k_case *c) {
  k->attention_values_backward(a[0], a[1], a[2], a[3], a[4], c->size[5],
                               c->size[0], c->size[1], c->size[2], c->size[3]);
}
static void values_backward_with(k_case *c, int rows, int T, int Dh, int stride,
                                 int o_stride) {
  k_begin(c, "attention_values_backward", call_values_backward, T, Dh, stride);
  c->size[3] = o_stride;
  c->size[5] = rows;
  k_out(c, "dprobs", k_n(rows, T), K_SUMS, k_chain(Dh));
  k_out(c, "dv", k_strided(T, Dh, stride), K_SUMS, k_chain(T));
  k_in(c, "dy", k_strided(rows, Dh, o_stride));
  k_in(c, "probs", k_n(rows, T));
  k_in(c, "v", k_strided(T, Dh, stride));
}

/* Heads that are part of a wider matrix: `more` floats between two rows. */
static void scores(k_case *c, int T, int Dh, int more) {
  scores_with(c, T, T, Dh, Dh + more, 0);
}
static void scores_masked(k_case *c, int T, int Dh, int more) {
  scores_with(c, T, T, Dh, Dh + more, 1);
}
static void scores_backward(k_case *c, int T, int Dh, int more) {
  scores_backward_with(c, T, T, Dh, Dh + more);
}
static void values(k_case *c, int T, int Dh, int more) {
  values_with(c, T, T, Dh, 2 * Dh + more, Dh + more);
}
static void values_backward(k_case *c, int T, int Dh, int more) {
  values_backward_with(c, T, T, Dh, 2 * Dh + more, Dh + more);
}
/* One query, the class token's, as in a last block. */
static void one_score(k_case *c, int T, int Dh, int more) {
  scores_with(c, 1, T, Dh, Dh + more, more % 2);
}
static void one_score_backward(k_case *c, int T, int Dh, int more) {
  scores_backward_with(c, 1, T, Dh, Dh + more);
}
static void one_value(k_case *c, int T, int Dh, int more) {
  values_with(c, 1, T, Dh, 2 * Dh + more, Dh + more);
}
static void one_value_backward(k_case *c, int T, int Dh, int more) {
  values_backward_with(c, 1, T, Dh, 2 * Dh + more, Dh + more);
}

/* ---- SIMD against naive -------------------------------------------------- */

static void test_softmax_simd(void) {
  static const k_describe kinds[] = {softmax, softmax_in_place, softmax_backward,
                                     softmax_backward_in_place};
  K_NEEDS_SIMD;
  for (int i = 0; i < 4; i++) {
    k_compare_sizes(kinds[i], 2);
    k_compare_one(kinds[i], 3, 1000, 1);
    k_compare_one(kinds[i], 197, 197, 1);
    k_compare_nan(kinds[i], 3, 11, 1);
  }
}

static void test_attention_simd(void) {
  static const k_describe kinds[] = {
      scores,    scores_masked,      scores_backward, values,
      one_score, one_score_backward, one_value,       values_backward,
      one_value_backward};
  K_NEEDS_SIMD;
  for (int i = 0; i < 9; i++) {
    k_compare_sizes(kinds[i], 3);
    k_compare_one(kinds[i], 9, 64, 0); /* rows that touch */
    k_compare_one(kinds[i], 197, test_quick() ? 5 : 64, 128); /* B/16 */
    k_compare_one(kinds[i], test_quick() ? 65 : 257, 9, 3);
    k_compare_nan(kinds[i], 7, 5, 2);
  }
}

/* ---- what they compute --------------------------------------------------- */

static void test_softmax_by_hand(void) {
  const vit_kernels *tables[2];
  static const float x[6] = {0, 0.69314718f, 1.0986123f, 5, 5, 5};
  static const float want[6] = {1 / 6.0f, 2 / 6.0f, 3 / 6.0f,
                                1 / 3.0f, 1 / 3.0f, 1 / 3.0f};
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    float y[6];
    tables[t]->softmax_forward(y, x, 2, 3);
    CHECK_CLOSE("softmax", y, want, 6, 1e-6, 0);
  }
}

static void test_softmax_properties(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int cols = 1; cols <= K_MOST; cols = k_next(cols)) {
      float x[K_MOST], y[K_MOST], moved[K_MOST];
      double sum = 0;
      int most = cols / 2;
      /* Rows sum to 1, and a constant changes nothing. */
      test_random(x, (size_t)cols, 4, (uint64_t)cols);
      for (int i = 0; i < cols; i++) x[i] = rintf(x[i] * 64) / 64; /* exact */
      tables[t]->softmax_forward(y, x, 1, cols);
      for (int i = 0; i < cols; i++) sum += (double)y[i];
      CHECK(fabs(sum - 1) < 1e-6, "%s: %d columns sum to %.9g", tables[t]->name,
            cols, sum);
      for (int i = 0; i < cols; i++) x[i] += 1024;
      tables[t]->softmax_forward(moved, x, 1, cols);
      CHECK_SAME_BITS("moved by 1024", moved, y, cols);
      /* Far apart: no overflow, the largest gets all. */
      for (int i = 0; i < cols; i++) x[i] = i == most ? 3e38f : -3e38f;
      tables[t]->softmax_forward(y, x, 1, cols);
      for (int i = 0; i < cols; i++)
        CHECK(y[i] == (i == most ? 1 : 0), "%s: far apart, %g", tables[t]->name,
              (double)y[i]);
      /* Masked: exactly 0, and the others share. */
      for (int i = 0; i < cols; i++) x[i] = i % 2 ? -INFINITY : -7e4f;
      tables[t]->softmax_forward(y, x, 1, cols);
      for (int i = 0; i < cols; i++)
        CHECK(i % 2 ? y[i] == 0
                    : fabs((double)y[i] * ((cols + 1) / 2) - 1) < 1e-6,
              "%s: masked, %g", tables[t]->name, (double)y[i]);
    }
}

/* The gradient of a softmax sums to 0: its outputs cannot all grow. */
static void test_softmax_backward_sums_to_zero(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int cols = 1; cols <= K_MOST; cols = k_next(cols)) {
      float p[K_MOST], dp[K_MOST], ds[K_MOST];
      double sum = 0;
      test_random(p, (size_t)cols, 2, 5);
      test_random(dp, (size_t)cols, 1, 6);
      tables[t]->softmax_forward(p, p, 1, cols);
      tables[t]->softmax_backward(ds, dp, p, 1, cols);
      for (int i = 0; i < cols; i++) sum += (double)ds[i];
      CHECK(fabs(sum) < 1e-6, "%s: %d columns sum to %g", tables[t]->name, cols,
            sum);
    }
}

/* Q K^T / sqrt(Dh) with one large match each: token i looks at token 2 - i. */
static void test_attention_by_hand(void) {
  const vit_kernels *tables[2];
  static const float q[6] = {0, 60, 30, 30, 60, 0};
  static const float k[6] = {60, 0, 30, 30, 0, 60};
  static const float v[6] = {1, 2, 3, 4, 5, 6}, want[6] = {5, 6, 3, 4, 1, 2};
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    float p[9], o[6];
    static const float even[6] = {3, 4, 3, 4, 3, 4}, zero[6] = {0};
    tables[t]->attention_scores_forward(p, q, k, NULL, 3, 3, 2, 2);
    tables[t]->attention_values_forward(o, p, v, 3, 3, 2, 2, 2);
    /* row 1 is a tie between all three, whose average is v_1 as well */
    CHECK_CLOSE("sharp", o, want, 6, 1e-6, 1e-6);
    tables[t]->attention_scores_forward(p, zero, k, NULL, 3, 3, 2, 2);
    tables[t]->attention_values_forward(o, p, v, 3, 3, 2, 2, 2);
    CHECK_CLOSE("even", o, even, 6, 1e-6, 1e-6);
    CHECK(fabs((double)p[4] - 1 / 3.0) < 1e-6, "p = %g", (double)p[4]);
  }
}

/* Attention has no order: permuted tokens give permuted outputs. */
static void test_attention_permutes(void) {
  enum { T = 11, DH = 6 };
  const vit_kernels *tables[2];
  float q[T * DH], k[T * DH], v[T * DH], p[T * T], o[T * DH];
  float q2[T * DH], k2[T * DH], v2[T * DH], o2[T * DH], back[T * DH];
  int order[T];
  vit_rng rng = vit_rng_create(1, 1);
  vit_shuffle(order, T, &rng);
  test_random(q, T * DH, 2, 1);
  test_random(k, T * DH, 2, 2);
  test_random(v, T * DH, 1, 3);
  for (int i = 0; i < T * DH; i++) {
    int from = order[i / DH] * DH + i % DH;
    q2[i] = q[from];
    k2[i] = k[from];
    v2[i] = v[from];
  }
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    tables[t]->attention_scores_forward(p, q, k, NULL, T, T, DH, DH);
    tables[t]->attention_values_forward(o, p, v, T, T, DH, DH, DH);
    tables[t]->attention_scores_forward(p, q2, k2, NULL, T, T, DH, DH);
    tables[t]->attention_values_forward(o2, p, v2, T, T, DH, DH, DH);
    for (int i = 0; i < T * DH; i++) back[order[i / DH] * DH + i % DH] = o2[i];
    CHECK_CLOSE(tables[t]->name, back, o, T * DH, 1e-5, 1e-6);
  }
}

/* ---- against PyTorch ----------------------------------------------------- */

static void test_softmax_fixture(void) {
  k_case c;
  softmax(&c, 6, 17, 0);
  CHECK(k_fixture(&c, "softmax", NULL, 0) > 0, "nothing was compared");
  softmax_backward(&c, 6, 17, 0);
  CHECK(k_fixture(&c, "softmax", NULL, 0) > 0, "nothing was compared");
}

static void test_attention_fixture(void) {
  enum { HEADS = 6, T = 7, DH = 5 }; /* 2 images of 3 heads */
  for (size_t head = 0; head < HEADS; head++)
    for (int masked = 0; masked < 2; masked++) {
      const char *group = masked ? "attention_masked" : "attention";
      k_case c;
      scores_with(&c, T, T, DH, DH, masked);
      CHECK(k_fixture(&c, group, "attention", head) > 0, "no p");
      values_with(&c, T, T, DH, DH, DH);
      CHECK(k_fixture(&c, group, "attention", head) > 0, "no y");
      values_backward_with(&c, T, T, DH, DH, DH);
      CHECK(k_fixture(&c, group, "attention", head) > 1, "no dp or dv");
      scores_backward_with(&c, T, T, DH, DH);
      CHECK(k_fixture(&c, group, "attention", head) > 1, "no dq or dk");
    }
}

/* ---- gradients ----------------------------------------------------------- */

static void test_softmax_gradient(void) {
  k_case f, b;
  softmax(&f, 4, 13, 0);
  f.array[1].scale = 2;
  softmax_backward(&b, 4, 13, 0);
  k_gradient(&f, &b, 31);
}

static void test_attention_gradient(void) {
  for (int mask = 0; mask < 2; mask++) {
    k_case f, b;
    scores_with(&f, 6, 6, 5, 8, mask);
    scores_backward_with(&b, 6, 6, 5, 8);
    k_gradient(&f, &b, 32);
    scores_with(&f, 2, 6, 5, 8, mask);
    scores_backward_with(&b, 2, 6, 5, 8);
    k_gradient(&f, &b, 32);
  }
  for (int more = 0; more < 4; more += 3) {
    k_case f, b;
    values_with(&f, 6, 6, 5, 5 + more, 5 + 2 * more);
    values_backward_with(&b, 6, 6, 5, 5 + more, 5 + 2 * more);
    k_gradient(&f, &b, 33);
    values_with(&f, 1, 6, 5, 5 + more, 5 + 2 * more);
    values_backward_with(&b, 1, 6, 5, 5 + more, 5 + 2 * more);
    k_gradient(&f, &b, 33);
  }
}

/* ---- the local mask ------------------------------------------------------ */

static void test_local_mask_fixture(void) {
  float mask[13 * 13], *want;
  vit_local_mask(mask, 4, 3, 3, 0);
  want = k_need("local_mask", "grid", 144);
  for (int i = 0; i < 144; i++)
    CHECK(mask[i] == want[i], "grid, %d: %g", i, (double)mask[i]);
  free(want);
  vit_local_mask(mask, 4, 3, 3, 1);
  want = k_need("local_mask", "grid_cls", 169);
  for (int i = 0; i < 169; i++)
    CHECK(mask[i] == want[i], "with a class token, %d: %g", i, (double)mask[i]);
  free(want);
}

static void test_local_mask_windows(void) {
  float mask[21 * 21];
  vit_local_mask(mask, 4, 5, 1, 1); /* a patch sees itself and the class token */
  for (int i = 0; i < 21; i++)
    for (int j = 0; j < 21; j++)
      CHECK((mask[i * 21 + j] == 0) == (i == 0 || j == 0 || i == j), "%d, %d", i,
            j);
  vit_local_mask(mask, 4, 5, 9, 0); /* a window that covers the grid */
  for (int i = 0; i < 400; i++) CHECK(mask[i] == 0, "all, %d", i);
  vit_local_mask(mask, 4, 5, 3, 0);
  for (int i = 0; i < 20; i++) {
    int seen = 0, rows = i / 5 > 0 && i / 5 < 3 ? 3 : 2;
    int cols = i % 5 > 0 && i % 5 < 4 ? 3 : 2;
    for (int j = 0; j < 20; j++) {
      seen += mask[i * 20 + j] == 0;
      CHECK(mask[i * 20 + j] == mask[j * 20 + i], "not symmetric: %d, %d", i, j);
    }
    CHECK(seen == rows * cols, "patch %d sees %d, not %d", i, seen, rows * cols);
  }
}

/* What is masked gets the probability 0, exactly, and no gradient. */
static void test_masked_attention(void) {
  enum { T = 13, DH = 5 };
  const vit_kernels *tables[2];
  float mask[T * T], p[T * T], dp[T * T], q[T * DH], k[T * DH];
  float dq[T * DH], dk[T * DH];
  vit_local_mask(mask, 4, 3, 3, 1);
  test_random(q, T * DH, 3, 1);
  test_random(k, T * DH, 3, 2);
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    tables[t]->attention_scores_forward(p, q, k, mask, T, T, DH, DH);
    for (int i = 0; i < T; i++) {
      double sum = 0;
      for (int j = 0; j < T; j++) {
        int open = mask[i * T + j] == 0;
        sum += (double)p[i * T + j];
        CHECK((p[i * T + j] > 0) == open, "%s: p[%d,%d] = %g", tables[t]->name,
              i, j, (double)p[i * T + j]);
      }
      CHECK(fabs(sum - 1) < 1e-6, "%s: row %d sums to %.9g", tables[t]->name, i,
            sum);
    }
    test_random(dp, T * T, 1, 3);
    tables[t]->attention_scores_backward(dq, dk, dp, p, q, k, T, T, DH, DH);
    for (int i = 0; i < T * T; i++)
      if (mask[i] != 0)
        CHECK(dp[i] == 0, "%s: a masked score has the gradient %g",
              tables[t]->name, (double)dp[i]);
  }
}

/* Some of the queries: the same rows of P and O as when all are asked for. */
static void test_some_queries(void) {
  enum { T = 13, DH = 5, FIRST = 4, ROWS = 7 };
  const vit_kernels *tables[2];
  float q[T * DH], k[T * DH], v[T * DH], mask[T * T], p[T * T], o[T * DH];
  float part[ROWS * T], o_part[ROWS * DH];
  test_random(q, T * DH, 1, 1);
  test_random(k, T * DH, 1, 2);
  test_random(v, T * DH, 1, 3);
  vit_local_mask(mask, 3, 4, 3, 1);
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    tables[t]->attention_scores_forward(p, q, k, mask, T, T, DH, DH);
    tables[t]->attention_values_forward(o, p, v, T, T, DH, DH, DH);
    tables[t]->attention_scores_forward(part, q + FIRST * DH, k, mask + FIRST * T,
                                        ROWS, T, DH, DH);
    tables[t]->attention_values_forward(o_part, part, v, ROWS, T, DH, DH, DH);
    CHECK_SAME_BITS(tables[t]->name, part, p + FIRST * T, ROWS * T);
    CHECK_SAME_BITS(tables[t]->name, o_part, o + FIRST * DH, ROWS * DH);
  }
}

int main(void) {
  RUN(test_softmax_by_hand);
  RUN(test_softmax_properties);
  RUN(test_softmax_simd);
  RUN(test_softmax_backward_sums_to_zero);
  RUN(test_softmax_gradient);
  RUN(test_softmax_fixture);
  RUN(test_attention_by_hand);
  RUN(test_attention_permutes);
  RUN(test_attention_simd);
  RUN(test_attention_gradient);
  RUN(test_attention_fixture);
  RUN(test_local_mask_fixture);
  RUN(test_local_mask_windows);
  RUN(test_masked_attention);
  k_close_file();
  RUN(test_some_queries);
  return test_end("03_attention");
}
