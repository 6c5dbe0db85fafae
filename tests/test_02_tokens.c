/* Chapter 02: class token and positions; what a model without positions cannot
   see. */

#include "kernels.h"

/* ---- the kernels --------------------------------------------------------- */

/* sizes: N, D, has a class token, has positions */
static void call_tokens(const vit_kernels *k, float *const *a, const k_case *c) {
  k->tokens_forward(a[0], a[1], a[2], a[3], c->size[0], c->size[1]);
}
static void tokens_with(k_case *c, int N, int D, int cls, int pos) {
  int T = N + cls;
  k_begin(c, "tokens_forward", call_tokens, N, D, cls);
  c->size[3] = pos;
  k_out(c, "x", k_n(T, D), K_EXACT, 0);
  k_in(c, "patches", k_n(N, D));
  k_in(c, "cls", k_n(cls, D));
  k_in(c, "pos", pos ? k_n(T, D) : 0);
}

static void call_tokens_backward(const vit_kernels *k, float *const *a,
                                 const k_case *c) {
  k->tokens_backward(a[0], a[1], a[2], a[3], c->size[0], c->size[1]);
}
static void tokens_backward_with(k_case *c, int N, int D, int cls, int pos) {
  int T = N + cls;
  k_begin(c, "tokens_backward", call_tokens_backward, N, D, cls);
  c->size[3] = pos;
  k_out(c, "dpatches", k_n(N, D), K_EXACT, 0);
  k_add_array(c, "dcls", K_ADD, k_n(cls, D), K_EXACT, 0);
  k_add_array(c, "dpos", K_ADD, pos ? k_n(T, D) : 0, K_EXACT, 0);
  k_in(c, "dx", k_n(T, D));
}

/* the four kinds, for k_compare_sizes: the third size is not used */
#define KIND(name, cls, pos)                                                   \
  static void tokens_##name(k_case *c, int N, int D, int unused) {             \
    (void)unused;                                                              \
    tokens_with(c, N, D, cls, pos);                                            \
  }                                                                            \
  static void tokens_backward_##name(k_case *c, int N, int D, int unused) {    \
    (void)unused;                                                              \
    tokens_backward_with(c, N, D, cls, pos);                                   \
  }
KIND(both, 1, 1)
KIND(cls, 1, 0)
KIND(pos, 0, 1)
KIND(plain, 0, 0)

static void test_tokens_simd(void) {
  static const k_describe kinds[] = {
      tokens_both,          tokens_cls,           tokens_pos,
      tokens_plain,         tokens_backward_both, tokens_backward_cls,
      tokens_backward_pos,  tokens_backward_plain};
  K_NEEDS_SIMD;
  for (int i = 0; i < 8; i++) {
    k_compare_sizes(kinds[i], 2);
    k_compare_one(kinds[i], 196, 768, 1);
    k_compare_nan(kinds[i], 5, 11, 1);
  }
}

static void test_tokens_by_hand(void) {
  const vit_kernels *tables[2];
  static const float patches[4] = {1, 2, 3, 4}, cls[2] = {10, 20};
  static const float pos[6] = {100, 200, 300, 400, 500, 600};
  static const float all[6] = {110, 220, 301, 402, 503, 604};
  static const float no_cls[4] = {101, 202, 303, 404};
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    float x[6];
    tables[t]->tokens_forward(x, patches, cls, pos, 2, 2);
    CHECK_SAME_BITS("class token and positions", x, all, 6);
    tables[t]->tokens_forward(x, patches, NULL, pos, 2, 2);
    CHECK_SAME_BITS("positions", x, no_cls, 4);
    tables[t]->tokens_forward(x, patches, cls, NULL, 2, 2);
    CHECK_SAME_BITS("class token", x, cls, 2);
    CHECK_SAME_BITS("patches behind it", x + 2, patches, 4);
  }
}

static void test_tokens_gradient(void) {
  for (int kind = 0; kind < 4; kind++) {
    k_case f, b;
    tokens_with(&f, 5, 7, kind & 1, kind >> 1);
    tokens_backward_with(&b, 5, 7, kind & 1, kind >> 1);
    k_gradient(&f, &b, 21);
  }
}

/* ---- positions ----------------------------------------------------------- */

static void test_sinusoid_fixture(void) {
  float pos[17 * 9];
  vit_positions_sinusoid(pos, 17, 9); /* odd: the last column is a sine */
  k_close_to("sinusoid", "d9", pos, 17 * 9);
  vit_positions_sinusoid(pos, 17, 8);
  k_close_to("sinusoid", "d8", pos, 17 * 8);
}

/* Position 0 is 0 1 0 1 ...; each pair of columns is one wave, so that its
   squares add up to 1; moving on is a rotation. */
static void test_sinusoid_properties(void) {
  enum { T = 50, D = 12 };
  float pos[T * D];
  vit_positions_sinusoid(pos, T, D);
  for (int t = 0; t < T; t++)
    for (int d = 0; d < D; d += 2) {
      double s = (double)pos[t * D + d], c = (double)pos[t * D + d + 1];
      double w = 1 / pow(10000, d / (double)D);
      CHECK(fabs(s * s + c * c - 1) < 1e-6, "position %d, column %d", t, d);
      if (t == 0) CHECK(s == 0 && c == 1, "position 0, column %d", d);
      if (t + 1 < T) {
        double next = s * cos(w) + c * sin(w);
        CHECK(fabs(next - (double)pos[(t + 1) * D + d]) < 1e-6,
              "position %d to %d, column %d", t, t + 1, d);
      }
    }
}

static void test_sincos2d_fixture(void) {
  float pos[16 * 8];
  vit_positions_sincos2d(pos, 3, 5, 8, 0);
  k_close_to("sincos2d", "grid", pos, 15 * 8);
  vit_positions_sincos2d(pos, 3, 5, 8, 1);
  k_close_to("sincos2d", "grid_cls", pos, 16 * 8);
  for (int d = 0; d < 8; d++) CHECK(pos[d] == 0, "class token, column %d", d);
}

/* Nothing is written behind the table. */
static void test_positions_stay_inside(void) {
  for (int D = 1; D <= K_MOST; D = k_next(D)) {
    test_guard g;
    float *pos = test_guarded_alloc(k_n(3, D), &g);
    vit_positions_sinusoid(pos, 3, D);
    test_guarded_free(&g);
    if (D % 4) continue;
    pos = test_guarded_alloc(k_n(2 * 3 + 1, D), &g);
    vit_positions_sincos2d(pos, 2, 3, D, 1);
    test_guarded_free(&g);
  }
}

/* ---- what positions are for ---------------------------------------------- */

enum { SIDE = 3, PATCH = 2, IMAGE = SIDE * PATCH, CLASSES = 5 };

/* The same image with its patches in another order. */
static void shuffle_patches(float *to, const float *from) {
  static const int order[SIDE * SIDE] = {4, 7, 0, 2, 8, 1, 3, 6, 5};
  for (int n = 0; n < SIDE * SIDE; n++)
    for (int y = 0; y < PATCH; y++)
      for (int x = 0; x < PATCH; x++) {
        int m = order[n];
        to[(n / SIDE * PATCH + y) * IMAGE + n % SIDE * PATCH + x] =
            from[(m / SIDE * PATCH + y) * IMAGE + m % SIDE * PATCH + x];
      }
}

/* How far the logits move when the patches are shuffled. */
static double shuffle_effect(const vit_kernels *k, vit_positions positions,
                             vit_pool pool, int class_token) {
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  float images[2 * IMAGE * IMAGE];
  double most = 0;
  c.image_height = c.image_width = IMAGE;
  c.patch_height = c.patch_width = PATCH;
  c.classes = CLASSES;
  c.width = 12;
  c.depth = 2;
  c.positions = positions;
  c.pool = pool;
  c.class_token = class_token;
  c.softmax_before_loss = 0;
  if (!CHECK(!vit_model_create(&m, &c, 3), "%s", vit_error())) return -1;
  m.kernels = k;
  if (!CHECK(!vit_state_create(&s, &m, 2, VIT_FOR_INFERENCE, 1), "%s",
             vit_error())) {
    vit_model_free(&m);
    return -1;
  }
  test_random(images, IMAGE * IMAGE, 1, 4);
  shuffle_patches(images + IMAGE * IMAGE, images);
  CHECK(!vit_forward(&m, &s, images, 2), "%s", vit_error());
  for (int i = 0; i < CLASSES; i++) {
    double far = fabs((double)s.logits[i] - (double)s.logits[CLASSES + i]);
    if (far > most) most = far;
  }
  vit_state_free(&s);
  vit_model_free(&m);
  return most;
}

static void test_order_of_patches(void) {
  static const struct { vit_pool pool; int class_token; } kinds[3] = {
      {VIT_POOL_CLS, 1}, {VIT_POOL_MEAN, 0}, {VIT_POOL_MEAN, 1}};
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int i = 0; i < 3; i++) {
      double none = shuffle_effect(tables[t], VIT_POSITIONS_NONE, kinds[i].pool,
                                   kinds[i].class_token);
      CHECK(none >= 0 && none < 1e-5, "without positions: %g", none);
      for (int p = VIT_POSITIONS_SINUSOID; p <= VIT_POSITIONS_SINCOS2D; p++) {
        double with = shuffle_effect(tables[t], (vit_positions)p, kinds[i].pool,
                                     kinds[i].class_token);
        CHECK(with > 1e-3, "with positions %d: %g", p, with);
      }
    }
}

int main(void) {
  RUN(test_tokens_by_hand);
  RUN(test_tokens_simd);
  RUN(test_tokens_gradient);
  RUN(test_sinusoid_fixture);
  RUN(test_sinusoid_properties);
  RUN(test_sincos2d_fixture);
  RUN(test_positions_stay_inside);
  RUN(test_order_of_patches);
  k_close_file();
  return test_end("02_tokens");
}
