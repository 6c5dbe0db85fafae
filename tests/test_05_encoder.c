/* Chapter 05: layer norm, GELU, dropout, residuals, and the small kernels of
   the chapters behind it: mean, cross entropy, the optimisers' steps. */

#include "kernels.h"

/* ---- layer norm ---------------------------------------------------------- */

/* y = n w + b with numbers of order 1; the mean is rounded to float, which
   moves n by a few units when the row's numbers are close to each other. */
#define LAYERNORM_LIMIT 64
static const float EPS = 1e-5f;

/* sizes: rows, D */
static void call_layernorm(const vit_kernels *k, float *const *a,
                           const k_case *c) {
  k->layernorm_forward(a[0], a[1], a[2], a[3], a[4], a[5], c->size[0],
                       c->size[1], EPS);
}
static void layernorm(k_case *c, int rows, int D, int unused) {
  k_begin(c, "layernorm_forward", call_layernorm, rows, D, unused);
  k_out(c, "y", k_n(rows, D), K_TOP, LAYERNORM_LIMIT);
  k_out(c, "mean", (size_t)rows, K_TOP, LAYERNORM_LIMIT);
  k_out(c, "rstd", (size_t)rows, K_EACH, LAYERNORM_LIMIT);
  k_in(c, "x", k_n(rows, D))->scale = 3;
  c->array[3].shift = 0.5f;
  k_in(c, "w", (size_t)D);
  k_in(c, "b", (size_t)D);
}

static void call_layernorm_backward(const vit_kernels *k, float *const *a,
                                    const k_case *c) {
  k->layernorm_backward(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7],
                        c->size[0], c->size[1]);
}
static void layernorm_backward(k_case *c, int rows, int D, int unused) {
  k_begin(c, "layernorm_backward", call_layernorm_backward, rows, D, unused);
  k_add_array(c, "dx", K_ADD, k_n(rows, D), K_TOP, LAYERNORM_LIMIT);
  k_add_array(c, "dw", K_ADD, (size_t)D, K_TOP, k_chain(rows));
  k_add_array(c, "db", K_ADD, (size_t)D, K_SUMS, k_chain(rows));
  k_in(c, "dy", k_n(rows, D));
  k_in(c, "x", k_n(rows, D));
  k_in(c, "w", (size_t)D);
  k_in(c, "mean", (size_t)rows);
  k_in(c, "rstd", (size_t)rows)->shift = 1.5f;
}

static void test_layernorm_simd(void) {
  K_NEEDS_SIMD;
  k_compare_sizes(layernorm, 2);
  k_compare_sizes(layernorm_backward, 2);
  k_compare_one(layernorm, 197, 768, 0);
  k_compare_one(layernorm_backward, 197, 768, 0);
  k_compare_nan(layernorm, 3, 11, 0);
  k_compare_nan(layernorm_backward, 3, 11, 0);
}

/* With w = 1 and b = 0 each row has mean 0 and variance 1, wherever it was. */
static void test_layernorm_properties(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int D = 2; D <= K_MOST; D = k_next(D)) {
      float x[K_MOST], y[K_MOST], w[K_MOST], b[K_MOST], mean, rstd;
      double sum = 0, squares = 0;
      test_random(x, (size_t)D, 5, (uint64_t)D);
      x[0] = -5;
      x[1] = 5; /* so that eps is small beside the variance */
      for (int i = 0; i < D; i++) {
        x[i] += 30;
        w[i] = 1;
        b[i] = 0;
      }
      tables[t]->layernorm_forward(y, &mean, &rstd, x, w, b, 1, D, EPS);
      for (int i = 0; i < D; i++) {
        sum += (double)y[i] / D;
        squares += (double)y[i] * (double)y[i] / D;
      }
      CHECK(fabs(sum) < 5e-6, "%s: mean %g of %d", tables[t]->name, sum, D);
      CHECK(fabs(squares - 1) < 3e-5, "%s: variance %g of %d", tables[t]->name,
            squares, D);
      /* A constant row gives b, and a row of one number does, too. */
      for (int i = 0; i < D; i++) {
        x[i] = 2.5f;
        b[i] = (float)i;
      }
      tables[t]->layernorm_forward(y, &mean, &rstd, x, w, b, 1, D, EPS);
      CHECK_SAME_BITS("constant", y, b, D);
      CHECK(mean == 2.5f && fabs((double)rstd * sqrt(1e-5) - 1) < 1e-6,
            "mean %g, rstd %g", (double)mean, (double)rstd);
    }
}

/* A row of equal numbers has no deviation from its mean, also where the mean is
   far from 0 and eps is tiny: rounding in the mean must not be blown up. */
static void test_layernorm_constant_rows(void) {
  static const float values[3] = {0.1f, 30.7f, -1000.1f};
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int D = 1; D <= K_MOST; D = k_next(D))
      for (int i = 0; i < 3; i++) {
        float x[K_MOST], y[K_MOST], w[K_MOST], b[K_MOST], mean, rstd;
        for (int d = 0; d < D; d++) {
          x[d] = values[i];
          w[d] = 1;
          b[d] = (float)d;
        }
        tables[t]->layernorm_forward(y, &mean, &rstd, x, w, b, 1, D, 1e-12f);
        CHECK(mean == values[i], "%s: mean %.9g of %d times %.9g",
              tables[t]->name, (double)mean, D, (double)values[i]);
        CHECK_CLOSE(tables[t]->name, y, b, D, 0, 1e-5);
      }
}

/* Small numbers after a large one are not lost: a sum of floats would stay at 1e8. */
static void test_layernorm_sums(void) {
  enum { ROWS = 1001 };
  static float dy[ROWS], x[ROWS], mean[ROWS], rstd[ROWS], dx[ROWS];
  float dw = 0, db = 0;
  const float w = 1;
  for (int i = 0; i < ROWS; i++) {
    dy[i] = i ? 1 : 1e8f;
    x[i] = 2;
    mean[i] = rstd[i] = 1;
  }
  vit_naive.layernorm_backward(dx, &dw, &db, dy, x, &w, mean, rstd, ROWS, 1);
  CHECK(dw == 100001000.0f && db == dw, "%.0f and %.0f of 1e8 + 1000", (double)dw, (double)db);
}

static void test_layernorm_gradient(void) {
  k_case f, b;
  layernorm(&f, 4, 11, 0);
  f.array[3].scale = 1;
  layernorm_backward(&b, 4, 11, 0);
  k_gradient(&f, &b, 51);
}

static void test_layernorm_fixture(void) {
  k_case c;
  CHECK(k_file.bytes == NULL || EPS == 1e-5f, "eps of the fixture");
  layernorm(&c, 6, 11, 0);
  CHECK(k_fixture(&c, "layer_norm", NULL, 0) > 2, "nothing was compared");
  layernorm_backward(&c, 6, 11, 0);
  CHECK(k_fixture(&c, "layer_norm", NULL, 0) > 2, "nothing was compared");
}

/* ---- GELU ---------------------------------------------------------------- */

/* For numbers up to 4: Phi has an absolute error of 0.75e-7, which is multiplied
   by x. 8 * FLT_EPSILON is 0.95e-6; the promise is 1e-6. */
#define GELU_LIMIT 8
/* The tanh form's slope has 1 - tanh, rounded to float, times x u', up to 20. */
#define GELU_SLOPE_LIMIT 24

#define GELU(kind)                                                             \
  static void call_##kind(const vit_kernels *k, float *const *a,               \
                          const k_case *c) {                                   \
    k->kind##_forward(a[0], a[1], c->size[0]);                                 \
  }                                                                            \
  static void call_##kind##_backward(const vit_kernels *k, float *const *a,    \
                                     const k_case *c) {                        \
    k->kind##_backward(a[0], a[1], a[2], c->size[0]);                          \
  }                                                                            \
  static void kind(k_case *c, int n, int unused, int unused2) {                \
    k_begin(c, #kind "_forward", call_##kind, n, unused, unused2);             \
    k_out(c, "y", (size_t)n, K_ONE, GELU_LIMIT);                               \
    k_in(c, "x", (size_t)n)->scale = 4;                                        \
  }                                                                            \
  static void kind##_in_place(k_case *c, int n, int unused, int unused2) {     \
    kind(c, n, unused, unused2);                                               \
    c->array[0].role = K_CHANGE;                                               \
    c->array[0].scale = 4;                                                     \
    c->array[1].same = 0;                                                      \
  }                                                                            \
  static void kind##_backward(k_case *c, int n, int unused, int unused2) {     \
    k_begin(c, #kind "_backward", call_##kind##_backward, n, unused, unused2); \
    k_out(c, "dx", (size_t)n, K_ONE, GELU_SLOPE_LIMIT);                        \
    k_in(c, "dy", (size_t)n);                                                  \
    k_in(c, "x", (size_t)n)->scale = 4;                                        \
  }                                                                            \
  static void kind##_backward_in_place(k_case *c, int n, int unused,           \
                                       int unused2) {                          \
    kind##_backward(c, n, unused, unused2);                                    \
    c->array[0].role = K_CHANGE;                                               \
    c->array[1].same = 0;                                                      \
  }                                                                            \
  static void test_##kind##_simd(void) {                                       \
    static const k_describe kinds[] = {kind, kind##_in_place, kind##_backward, \
                                       kind##_backward_in_place};              \
    K_NEEDS_SIMD;                                                              \
    for (int i = 0; i < 4; i++) {                                              \
      k_compare_sizes(kinds[i], 1);                                            \
      k_compare_one(kinds[i], 197 * 97, 0, 0);                                 \
      k_compare_nan(kinds[i], 11, 0, 0);                                       \
    }                                                                          \
  }                                                                            \
  static void test_##kind##_gradient(void) {                                   \
    k_case f, b;                                                               \
    kind(&f, 67, 0, 0);                                                        \
    kind##_backward(&b, 67, 0, 0);                                             \
    k_gradient(&f, &b, 52);                                                    \
  }
GELU(gelu)
GELU(gelu_tanh)
GELU(gelu_quick)

static void test_gelu_fixture(void) {
  k_case c;
  gelu(&c, 1601, 0, 0);
  CHECK(k_fixture(&c, "gelu_erf", NULL, 0) > 0, "nothing was compared");
  gelu_backward(&c, 1601, 0, 0);
  CHECK(k_fixture(&c, "gelu_erf", NULL, 0) > 0, "nothing was compared");
  gelu_tanh(&c, 1601, 0, 0);
  CHECK(k_fixture(&c, "gelu_tanh", NULL, 0) > 0, "nothing was compared");
  gelu_tanh_backward(&c, 1601, 0, 0);
  CHECK(k_fixture(&c, "gelu_tanh", NULL, 0) > 0, "nothing was compared");
}

static void test_gelu_values(void) {
  const vit_kernels *tables[2];
  /* x Phi(x): the normal distribution's tables */
  static const float x[5] = {0, 1, -1, 2, -3};
  static const float erf_form[5] = {0, 0.8413447f, -0.1586553f, 1.9544997f,
                                    -0.0040497f};
  static const float tanh_form[5] = {0, 0.8411920f, -0.1588080f, 1.9545977f,
                                     -0.0036374f};
  /* x / (1 + exp(-1.702 x)) */
  static const float quick_form[5] = {0, 0.8457958f, -0.1542042f, 1.9356585f,
                                      -0.0180713f};
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    float y[5];
    tables[t]->gelu_forward(y, x, 5);
    CHECK_CLOSE("erf form", y, erf_form, 5, 0, 5e-7);
    tables[t]->gelu_tanh_forward(y, x, 5);
    CHECK_CLOSE("tanh form", y, tanh_form, 5, 0, 5e-7);
    tables[t]->gelu_quick_forward(y, x, 5);
    CHECK_CLOSE("quick form", y, quick_form, 5, 0, 5e-7);
  }
}

/* Within 1e-6 of exact on a dense grid from -12 to 12, and calm far outside. */
static void test_gelu_accuracy(void) {
  enum { N = 24001 };
  static float x[N], y[N], want[N], ones[N];
  static const float far[8] = {-60, 60, -1e3f, 1e3f, -1e8f, 1e8f, -3e38f, 3e38f};
  K_NEEDS_SIMD;
  for (int i = 0; i < N; i++) {
    x[i] = (float)(i - N / 2) / 1000;
    ones[i] = 1;
  }
#define ACCURATE(call, limit)                                                  \
  vit_naive.call(want, x, N);                                                  \
  vit_simd.call(y, x, N);                                                      \
  CHECK_CLOSE(#call, y, want, N, 0, limit);                                    \
  vit_naive.call(want, far, 8);                                                \
  vit_simd.call(y, far, 8);                                                    \
  CHECK_CLOSE(#call " far outside", y, want, 8, 1e-6, 1e-12)
#define ACCURATE_BACKWARD(call, limit)                                         \
  vit_naive.call(want, ones, x, N);                                            \
  vit_simd.call(y, ones, x, N);                                                \
  CHECK_CLOSE(#call, y, want, N, 0, limit);                                    \
  vit_naive.call(want, ones, far, 8);                                          \
  vit_simd.call(y, ones, far, 8);                                              \
  CHECK_CLOSE(#call " far outside", y, want, 8, 1e-6, 1e-12)
  ACCURATE(gelu_forward, 1e-6);
  ACCURATE(gelu_tanh_forward, 1e-6);
  ACCURATE(gelu_quick_forward, 1e-6);
  ACCURATE_BACKWARD(gelu_backward, 1e-6);
  ACCURATE_BACKWARD(gelu_tanh_backward, 4e-6);
  ACCURATE_BACKWARD(gelu_quick_backward, 1e-6);
}

/* ---- residual, scale, mean ----------------------------------------------- */

static void call_residual(const vit_kernels *k, float *const *a,
                          const k_case *c) {
  k->residual_forward(a[0], a[1], a[2], c->number[0], c->size[0]);
}
/* x + s f, rounded once or twice */
static void residual(k_case *c, int n, int unused, int unused2) {
  k_begin(c, "residual_forward", call_residual, n, unused, unused2);
  c->number[0] = 1.25f;
  k_out(c, "y", (size_t)n, K_SUMS, 1);
  k_in(c, "x", (size_t)n);
  k_in(c, "f", (size_t)n);
}
static void residual_plain(k_case *c, int n, int unused, int unused2) {
  residual(c, n, unused, unused2);
  c->number[0] = 1; /* no rounding but that of the sum */
  c->array[0].bound = K_EXACT;
}
static void residual_in_place(k_case *c, int n, int unused, int unused2) {
  residual(c, n, unused, unused2);
  c->array[0].role = K_CHANGE;
  c->array[1].same = 0;
}

static void call_scale(const vit_kernels *k, float *const *a, const k_case *c) {
  k->scale(a[0], a[1], c->number[0], c->size[0]);
}
static void scale(k_case *c, int n, int unused, int unused2) {
  k_begin(c, "scale", call_scale, n, unused, unused2);
  c->number[0] = -0.7f;
  k_out(c, "y", (size_t)n, K_EXACT, 0);
  k_in(c, "x", (size_t)n);
}
static void scale_in_place(k_case *c, int n, int unused, int unused2) {
  scale(c, n, unused, unused2);
  c->array[0].role = K_CHANGE;
  c->array[1].same = 0;
}

/* sizes: N, D */
static void call_mean(const vit_kernels *k, float *const *a, const k_case *c) {
  k->mean_forward(a[0], a[1], c->size[0], c->size[1]);
}
static void mean(k_case *c, int N, int D, int unused) {
  k_begin(c, "mean_forward", call_mean, N, D, unused);
  k_out(c, "y", (size_t)D, K_SUMS, k_chain(N));
  k_in(c, "x", k_n(N, D));
}
static void call_mean_backward(const vit_kernels *k, float *const *a,
                               const k_case *c) {
  k->mean_backward(a[0], a[1], c->size[0], c->size[1]);
}
static void mean_backward(k_case *c, int N, int D, int unused) {
  k_begin(c, "mean_backward", call_mean_backward, N, D, unused);
  k_out(c, "dx", k_n(N, D), K_EXACT, 0);
  k_in(c, "dy", (size_t)D);
}

static void test_small_kernels_simd(void) {
  static const k_describe one[] = {residual, residual_plain, residual_in_place,
                                   scale, scale_in_place};
  static const k_describe two[] = {mean, mean_backward};
  K_NEEDS_SIMD;
  for (int i = 0; i < 5; i++) {
    k_compare_sizes(one[i], 1);
    k_compare_one(one[i], 10007, 0, 0);
    k_compare_nan(one[i], 11, 0, 0);
  }
  for (int i = 0; i < 2; i++) {
    k_compare_sizes(two[i], 2);
    k_compare_one(two[i], 196, 770, 0);
    k_compare_nan(two[i], 4, 11, 0);
  }
}

static void test_small_kernels_by_hand(void) {
  const vit_kernels *tables[2];
  static const float x[6] = {1, 2, 3, 5, 8, 13}, f[6] = {1, 1, 2, 2, 4, 4};
  static const float sum[6] = {0, 1, 1, 3, 4, 9}, mean_of[3] = {3, 5, 8};
  static const float twice[6] = {-2, -4, -6, -10, -16, -26};
  static const float half[6] = {0.5f, 1, 1.5f, 0.5f, 1, 1.5f};
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    float y[6];
    double squares = 0;
    tables[t]->residual_forward(y, x, f, -1, 6);
    CHECK_SAME_BITS("x - f", y, sum, 6);
    tables[t]->scale(y, x, -2, 6);
    CHECK_SAME_BITS("scale", y, twice, 6);
    tables[t]->mean_forward(y, x, 2, 3);
    CHECK_SAME_BITS("mean", y, mean_of, 3);
    tables[t]->mean_backward(y, x, 2, 3);
    CHECK_SAME_BITS("mean backward", y, half, 6);
    tables[t]->sum_squares(&squares, x, 6);
    CHECK(squares == 272, "sum of squares %g", squares);
  }
}

static void test_mean_gradient(void) {
  k_case f, b;
  mean(&f, 5, 7, 0);
  mean_backward(&b, 5, 7, 0);
  k_gradient(&f, &b, 53);
}

/* The gradient of scale f by f is scale dy, which is what the model uses. */
static void call_residual_backward(const vit_kernels *k, float *const *a,
                                   const k_case *c) {
  k->scale(a[0], a[2], 1, c->size[0]);
  k->scale(a[1], a[2], c->number[0], c->size[0]);
}
static void test_residual_gradient(void) {
  k_case f, b;
  residual(&f, 19, 0, 0);
  k_begin(&b, "residual backward", call_residual_backward, 19, 0, 0);
  b.number[0] = f.number[0];
  k_out(&b, "dx", 19, K_EXACT, 0);
  k_out(&b, "df", 19, K_EXACT, 0);
  k_in(&b, "dy", 19);
  k_gradient(&f, &b, 54);
}

/* ---- cross entropy ------------------------------------------------------- */

/* A case has labels and a smoothing, the kernel wants targets; and its losses
   are double. Both stand in guarded arrays, so that their ends are watched. */
static float *targets_of(const float *labels, float smoothing, int rows, int K,
                         test_guard *g) {
  float *targets = test_guarded_alloc(k_n(rows, K), g);
  for (int r = 0; r < rows; r++)
    for (int k = 0; k < K; k++)
      targets[r * K + k] = smoothing / (float)K +
                           (k == (int)labels[r] ? 1 - smoothing : 0);
  return targets;
}
static void prepare_labels(float *const *a, const k_case *c) {
  int at = k_find(c, "labels"), up = k_find(c, "dlosses");
  for (int r = 0; r < c->size[0]; r++)
    a[at][r] = (float)((r * 5 + c->size[0]) % c->size[1]);
  for (int r = 0; up >= 0 && r < c->size[0]; r++) a[up][r] = c->number[1];
}

/* sizes: rows, K; number 0: smoothing, 1: factor */
static void call_entropy(const vit_kernels *k, float *const *a,
                         const k_case *c) {
  const int rows = c->size[0];
  test_guard g[2];
  float *targets = targets_of(a[3], c->number[0], rows, c->size[1], &g[0]);
  double *losses = (double *)(void *)test_guarded_alloc(2 * (size_t)rows, &g[1]);
  k->crossentropy_forward(losses, a[1], a[2], targets, rows, c->size[1]);
  for (int i = 0; i < rows; i++) a[0][i] = (float)losses[i];
  test_guarded_free(&g[0]);
  test_guarded_free(&g[1]);
}
static void entropy(k_case *c, int rows, int K, int unused) {
  k_begin(c, "crossentropy_forward", call_entropy, rows, K, unused);
  c->number[0] = 0.1f;
  k_out(c, "losses", (size_t)rows, K_TOP, 16);
  k_out(c, "p", k_n(rows, K), K_EACH, 16); /* as the softmax of chapter 03 */
  k_in(c, "logits", k_n(rows, K))->scale = 4;
  k_in(c, "labels", (size_t)rows);
  c->prepare = prepare_labels;
}

static void call_entropy_backward(const vit_kernels *k, float *const *a,
                                  const k_case *c) {
  test_guard g;
  float *targets = targets_of(a[2], c->number[0], c->size[0], c->size[1], &g);
  k->crossentropy_backward(a[0], a[1], targets, c->number[1], c->size[0],
                           c->size[1]);
  test_guarded_free(&g);
}
static void entropy_backward(k_case *c, int rows, int K, int unused) {
  k_begin(c, "crossentropy_backward", call_entropy_backward, rows, K, unused);
  c->number[0] = 0.1f;
  c->number[1] = 0.3f;
  k_out(c, "dlogits", k_n(rows, K), K_TOP, 4);
  k_in(c, "p", k_n(rows, K));
  k_in(c, "labels", (size_t)rows);
  k_in(c, "dlosses", (size_t)rows); /* the factor, for the numeric gradient */
  c->prepare = prepare_labels;
}

static void test_entropy_simd(void) {
  K_NEEDS_SIMD;
  k_compare_sizes(entropy, 2);
  k_compare_sizes(entropy_backward, 2);
  k_compare_one(entropy, 9, 1000, 0);
  k_compare_one(entropy_backward, 9, 1000, 0);
}

static void test_entropy_gradient(void) {
  for (int smooth = 0; smooth < 2; smooth++) {
    k_case f, b;
    entropy(&f, 5, 7, 0);
    entropy_backward(&b, 5, 7, 0);
    f.number[0] = b.number[0] = smooth ? 0.25f : 0;
    k_gradient(&f, &b, 55);
  }
}

static void test_entropy_fixture(void) {
  for (int smooth = 0; smooth < 2; smooth++) {
    const char *group = smooth ? "cross_entropy_smooth" : "cross_entropy";
    const vit_kernels *tables[2];
    k_case c;
    float *logits = k_need("cross_entropy", "logits", 35), p[35], d[35];
    float *y = k_need("cross_entropy", "labels", 5), *loss = k_need(group, "loss", 1);
    entropy(&c, 5, 7, 0);
    c.number[0] = smooth ? 0.1f : 0;
    c.prepare = NULL;
    CHECK(k_fixture(&c, group, "cross_entropy", 0) > 0, "nothing was compared");
    for (int t = 0, n = k_tables(tables); t < n; t++) {
      double losses[5], sum = 0;
      test_guard g;
      float *targets = targets_of(y, c.number[0], 5, 7, &g);
      tables[t]->crossentropy_forward(losses, p, logits, targets, 5, 7);
      tables[t]->crossentropy_backward(d, p, targets, 0.2f, 5, 7);
      test_guarded_free(&g);
      for (int i = 0; i < 5; i++) sum += losses[i] / 5;
      CHECK(fabs(sum - (double)*loss) < 1e-5, "loss %g, not %g", sum,
            (double)*loss);
      k_close_to(group, "dlogits", d, 35);
    }
    free(logits);
    free(y);
    free(loss);
  }
}

/* No overflow where the logits are far apart; a certain mistake is expensive. */
static void test_entropy_extremes(void) {
  const vit_kernels *tables[2];
  static const float logits[6] = {1e4f, 0, -1e4f, -1e4f, -1e4f, -1e4f};
  static const float targets[6] = {0, 0, 1, 0, 1, 0};
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    double losses[2];
    float p[6];
    tables[t]->crossentropy_forward(losses, p, logits, targets, 2, 3);
    CHECK(fabs(losses[0] - 2e4) < 1e-2, "%s: %g", tables[t]->name, losses[0]);
    CHECK(fabs(losses[1] - log(3.0)) < 1e-6, "%s: %g", tables[t]->name,
          losses[1]);
    CHECK(p[0] == 1 && p[2] == 0, "p %g %g", (double)p[0], (double)p[2]);
  }
}

/* ---- the optimisers' steps ----------------------------------------------- */

static void call_sgd(const vit_kernels *k, float *const *a, const k_case *c) {
  k->sgd_step(a[0], a[1], a[2], c->size[0], 0.1f, 0.9f, c->number[0]);
}
/* Two products and two sums of numbers up to 1. */
static void sgd(k_case *c, int n, int unused, int unused2) {
  k_begin(c, "sgd_step", call_sgd, n, unused, unused2);
  c->number[0] = 0.01f;
  k_add_array(c, "w", K_ADD, (size_t)n, K_ONE, 2);
  k_add_array(c, "m", K_ADD, (size_t)n, K_ONE, 2);
  k_in(c, "g", (size_t)n);
}

static void call_adam(const vit_kernels *k, float *const *a, const k_case *c) {
  vit_adam_constants adam;
  adam.rate = 0.01f;
  adam.beta1 = 0.9f;
  adam.beta2 = 0.99f;
  adam.eps = 1e-8f;
  adam.decay = 0.1f;
  adam.correction1 = 1 - 0.9f * 0.9f;
  adam.correction2 = 1 - 0.99f * 0.99f;
  adam.decoupled = (int)c->number[0];
  k->adam_step(a[0], a[1], a[2], a[3], c->size[0], &adam);
}
/* m and v are sums of two products of numbers up to 1; w moves by the small
   rate times m / sqrt(v), so that their errors hardly reach it. */
static void adam(k_case *c, int n, int unused, int unused2) {
  k_begin(c, "adam_step", call_adam, n, unused, unused2);
  k_add_array(c, "w", K_ADD, (size_t)n, K_ONE, 2);
  k_add_array(c, "m", K_ADD, (size_t)n, K_ONE, 2);
  k_add_array(c, "v", K_ADD, (size_t)n, K_EACH, 4);
  c->array[2].scale = 0.5f; /* v is never negative */
  c->array[2].shift = 0.51f;
  k_in(c, "g", (size_t)n);
}
static void adamw(k_case *c, int n, int unused, int unused2) {
  adam(c, n, unused, unused2);
  c->number[0] = 1;
}

static void call_squares(const vit_kernels *k, float *const *a,
                         const k_case *c) {
  double sum = -1;
  k->sum_squares(&sum, a[1], c->size[0]);
  a[0][0] = (float)sum;
}
static void squares(k_case *c, int n, int unused, int unused2) {
  k_begin(c, "sum_squares", call_squares, n, unused, unused2);
  k_out(c, "sum", 1, K_EACH, k_chain(n < 256 ? n : 256));
  k_in(c, "x", (size_t)n);
}

static void test_steps_simd(void) {
  static const k_describe kinds[] = {sgd, adam, adamw, squares};
  K_NEEDS_SIMD;
  for (int i = 0; i < 4; i++) {
    k_compare_sizes(kinds[i], 1);
    for (int n = 255; n < 258; n++) k_compare_one(kinds[i], n, 0, 0);
    k_compare_one(kinds[i], 30011, 0, 0);
    /* SIMD AdamW adds 0 * w to the gradient: a NaN of w reaches m and v too */
    if (kinds[i] != adamw) k_compare_nan(kinds[i], 11, 0, 0);
  }
}

/* Each formula, in double, on numbers that differ in every place. */
static void test_steps_by_formula(void) {
  enum { N = 37 };
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int kind = 0; kind < 3; kind++) {
      float w[N], m[N], v[N], g[N], want[3][N];
      float *arrays[4];
      k_case c;
      arrays[0] = w;
      arrays[1] = m;
      arrays[2] = kind ? v : g;
      arrays[3] = g;
      test_random(w, N, 1, 1);
      test_random(m, N, 1, 2);
      test_random(v, N, 1, 3);
      test_random(g, N, 1, 4);
      for (int i = 0; i < N; i++) {
        double W = (double)w[i], M = (double)m[i], G = (double)g[i], V;
        v[i] = fabsf(v[i]) + 0.1f;
        V = (double)v[i];
        if (kind == 0) {
          M = 0.9 * M + G + 0.01 * W;
          W -= 0.1 * M;
        } else {
          if (kind == 2) W *= 1 - 0.01 * 0.1;
          if (kind == 1) G += 0.1 * W;
          M = 0.9 * M + 0.1 * G;
          V = 0.99 * V + 0.01 * G * G;
          W -= 0.01 * (M / 0.19) / (sqrt(V / 0.0199) + 1e-8);
        }
        want[0][i] = (float)W;
        want[1][i] = (float)M;
        want[2][i] = (float)V;
      }
      if (kind == 0) sgd(&c, N, 0, 0);
      if (kind == 1) adam(&c, N, 0, 0);
      if (kind == 2) adamw(&c, N, 0, 0);
      c.call(tables[t], arrays, &c);
      CHECK_CLOSE("w", w, want[0], N, 1e-6, 1e-6);
      CHECK_CLOSE("m", m, want[1], N, 1e-6, 1e-6);
      CHECK_CLOSE("v", v, want[2], N, 1e-6, 1e-6);
    }
}

/* ---- schedules ----------------------------------------------------------- */

static void test_schedule_fixture(void) {
  static const struct { const char *name; vit_schedule_kind kind; } kinds[3] = {
      {"linear", VIT_LINEAR}, {"cosine", VIT_COSINE}, {"step", VIT_STEP}};
  static const float rate[3] = {0.05f, 0.01f, 0.005f};
  static const float last[3] = {0.001f, 0.0005f, 0};
  static const int warmup[3] = {3, 2, 0}, total[3] = {9, 10, 0};
  for (int i = 0; i < 3; i++) {
    vit_schedule s = vit_schedule_constant(rate[i]);
    float got[12];
    s.kind = kinds[i].kind;
    s.warmup = warmup[i];
    s.total = total[i];
    s.floor = last[i];
    s.every = 3;
    s.factor = 0.5f;
    for (int step = 0; step < 12; step++) got[step] = vit_schedule_rate(&s, NULL, step);
    { /* rates are small: relative to each of them */
      float *want = k_need("schedule", kinds[i].name, 12);
      CHECK_CLOSE(kinds[i].name, got, want, 12, 1e-6, 1e-9);
      free(want);
    }
  }
}

/* ---- dropout ------------------------------------------------------------- */

static void call_dropout(const vit_kernels *k, float *const *a,
                         const k_case *c) {
  k->dropout(a[0], a[1], c->size[0], c->number[0], 0x12345678u, 77,
             (uint32_t)c->number[1]);
}
static void dropout(k_case *c, int n, int unused, int unused2) {
  k_begin(c, "dropout", call_dropout, n, unused, unused2);
  c->number[0] = 0.3f;
  c->number[1] = (float)n; /* start anywhere */
  k_out(c, "y", (size_t)n, K_EXACT, 0);
  k_in(c, "x", (size_t)n);
}
static void dropout_in_place(k_case *c, int n, int unused, int unused2) {
  dropout(c, n, unused, unused2);
  c->array[0].role = K_CHANGE;
  c->array[1].same = 0;
}

static void call_uniform(const vit_kernels *k, float *const *a,
                         const k_case *c) {
  k->uniform(a[0], c->size[0], 0x12345678u, 77, (uint32_t)c->number[0]);
}
static void uniform(k_case *c, int n, int unused, int unused2) {
  k_begin(c, "uniform", call_uniform, n, unused, unused2);
  c->number[0] = (float)n; /* start anywhere */
  k_out(c, "x", (size_t)n, K_EXACT, 0);
}

/* The numbers of vit_random_uniform, also where the counter wraps round. */
static void test_uniform(void) {
  const vit_kernels *tables[2];
  float x[50];
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    vit_rng rng = vit_rng_create(9, 4);
    rng.index = 0xfffffff0u;
    tables[t]->uniform(x, 50, rng.key, rng.stream, rng.index);
    for (int i = 0; i < 50; i++) {
      float want = vit_random_uniform(&rng);
      CHECK(x[i] == want, "%s: number %d is %g, not %g", tables[t]->name, i,
            (double)x[i], (double)want);
    }
  }
}
static void test_uniform_simd(void) {
  K_NEEDS_SIMD;
  k_compare_sizes(uniform, 1);
}

static void test_dropout_simd(void) {
  K_NEEDS_SIMD;
  k_compare_sizes(dropout, 1);
  k_compare_sizes(dropout_in_place, 1);
  k_compare_one(dropout, 100003, 0, 0);
  k_compare_nan(dropout, 37, 0, 0);
}

/* Element i is decided by random number first + i of the stream alone. */
static void test_dropout_is_philox(void) {
  enum { N = 1000 };
  const vit_kernels *tables[2];
  static const uint32_t firsts[3] = {0, 12345, 0xfffffff0u}; /* wraps round */
  float x[N], y[N], want[N];
  test_random(x, N, 1, 1);
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (int f = 0; f < 3; f++) {
      for (int i = 0; i < N; i++) {
        uint32_t bits = vit_philox(5, 6, firsts[f] + (uint32_t)i);
        int drop = (float)(bits >> 8) / 16777216.0f < 0.25f;
        want[i] = drop ? 0 : x[i] * (1 / (1 - 0.25f));
      }
      tables[t]->dropout(y, x, N, 0.25f, 5, 6, firsts[f]);
      CHECK_CLOSE(tables[t]->name, y, want, N, 0, 0);
      for (uint32_t i = 0; i < 10; i++) { /* dropped below the rate, not at it */
        uint32_t bits = vit_philox(5, 6, firsts[f] + i) >> 8;
        tables[t]->dropout(y, x, N, (float)bits / 16777216.0f, 5, 6, firsts[f]);
        CHECK(y[i] != 0, "%s: dropped at the rate itself", tables[t]->name);
        tables[t]->dropout(y, x, N, (float)(bits + 1) / 16777216.0f, 5, 6,
                           firsts[f]);
        CHECK(y[i] == 0, "%s: kept just below the rate", tables[t]->name);
      }
    }
}

static void test_dropout_rates(void) {
  enum { N = 40000 };
  const double n = N;
  static float x[N], y[N];
  const vit_kernels *tables[2];
  static const float rates[4] = {0.1f, 0.25f, 0.5f, 0.9f};
  for (int i = 0; i < N; i++) x[i] = 1;
  for (int t = 0, count = k_tables(tables); t < count; t++) {
    tables[t]->dropout(y, x, N, 0, 1, 2, 0);
    CHECK_SAME_BITS("rate 0", y, x, N);
    tables[t]->dropout(y, x, N, 1, 1, 2, 0);
    for (int i = 0; i < N; i++)
      if (!CHECK(y[i] == 0, "rate 1: %g", (double)y[i])) break;
    for (int k = 0; k < 4; k++) {
      double rate = (double)rates[k], sum = 0, pairs = 0;
      int kept = 0, other = 0;
      double allowed = 5 * sqrt(rate * (1 - rate) / n);
      tables[t]->dropout(y, x, N, rates[k], 1, 2, 0);
      for (int i = 0; i < N; i++) {
        kept += y[i] != 0;
        sum += (double)y[i];
        other += y[i] != 0 && fabs((double)y[i] * (1 - rate) - 1) > 1e-6;
        if (i) pairs += (y[i] != 0) == (y[i - 1] != 0);
      }
      CHECK(fabs(kept / n - (1 - rate)) < allowed, "kept %d of %d", kept,
            N);
      CHECK(!other, "%d were not scaled by 1 / (1 - rate)", other);
      CHECK(fabs(sum / n - 1) < allowed / (1 - rate), "the mean became %g",
            sum / n);
      /* neighbours are dropped independently */
      CHECK(fabs(pairs / n - (rate * rate + (1 - rate) * (1 - rate))) < 0.02,
            "neighbours agree in %g", pairs / n);
    }
  }
}

/* In pieces, as threads do it, the mask is the same; another key or stream has
   another mask. */
static void test_dropout_in_pieces(void) {
  enum { N = 500 };
  const vit_kernels *tables[2];
  float x[N], whole[N], pieces[N], other[N];
  test_random(x, N, 1, 1);
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    int same[2] = {0, 0};
    tables[t]->dropout(whole, x, N, 0.5f, 1, 2, 100);
    for (int i = 0, size = 1; i < N; i += size, size = size % 23 + 1) {
      if (size > N - i) size = N - i;
      tables[t]->dropout(pieces + i, x + i, size, 0.5f, 1, 2,
                         100 + (uint32_t)i);
    }
    CHECK_SAME_BITS("pieces", pieces, whole, N);
    for (int k = 0; k < 2; k++) {
      tables[t]->dropout(other, x, N, 0.5f, k ? 1 : 3, k ? 3 : 2, 100);
      for (int i = 0; i < N; i++) same[k] += (other[i] == 0) == (whole[i] == 0);
      CHECK(same[k] > 190 && same[k] < 310, "%d of 500 agree", same[k]);
    }
  }
}

/* Backward is the same call on dy. */
static void test_dropout_gradient(void) {
  k_case f, b;
  dropout(&f, 41, 0, 0);
  dropout(&b, 41, 0, 0);
  b.array[0].name = "dx";
  b.array[1].name = "dy";
  k_gradient(&f, &b, 56);
}

/* ---- where the model drops ----------------------------------------------- */

typedef struct { vit_model m; vit_state s; float *images; } dropping;
enum { IMAGES = 48, T = 5, D = 8 };

/* Two blocks on IMAGES copies of one image, after a pass with dropout. */
static int drop_start(dropping *x, const vit_config *config,
                      const vit_kernels *k) {
  vit_config c = *config;
  memset(x, 0, sizeof *x);
  x->images = k_floats(IMAGES * 64);
  test_random(x->images, 64, 1, 3);
  for (int b = 1; b < IMAGES; b++)
    memcpy(x->images + b * 64, x->images, 64 * sizeof(float));
  if (!CHECK(!vit_model_create(&x->m, &c, 2), "%s", vit_error())) return 0;
  x->m.kernels = k;
  if (!CHECK(!vit_state_create(&x->s, &x->m, IMAGES, VIT_FOR_TRAINING, 4), "%s",
             vit_error()))
    return 0;
  return CHECK(!vit_forward(&x->m, &x->s, x->images, IMAGES), "%s", vit_error());
}
static void drop_stop(dropping *x) {
  vit_state_free(&x->s);
  vit_model_free(&x->m);
  free(x->images);
}
static vit_config drop_config(void) {
  vit_config c = vit_config_tutorial();
  c.image_height = c.image_width = 8;
  c.patch_height = c.patch_width = 4;
  c.width = D;
  c.heads = 2;
  c.depth = 2;
  c.mlp_width = 16;
  c.pool = VIT_POOL_MEAN; /* then the last block has all tokens */
  return c;
}
/* Share of zeros within five standard deviations of the rate. */
static void check_zeros(const char *name, const float *x, int n, double rate) {
  int zeros = 0;
  for (int i = 0; i < n; i++) zeros += x[i] == 0;
  CHECK(fabs((double)zeros / n - rate) < 5 * sqrt(rate * (1 - rate) / n) + 1e-9,
        "%s: %d of %d are 0, the rate is %g", name, zeros, n, rate);
}

static void test_dropout_places(void) {
  const vit_kernels *tables[2];
  const int TD = IMAGES * T * D;
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    vit_config c = drop_config();
    dropping x;
    c.pos_drop = 0.3f;
    c.attn_drop = 0.4f;
    c.hidden_drop = 0.2f;
    c.block_drop = 0.6f;
    if (drop_start(&x, &c, tables[t])) {
      float *again = k_floats((size_t)TD);
      check_zeros("tokens", x.s.tokens, TD, 0.3);
      for (size_t l = 0; l < 2; l++) {
        check_zeros("dropped", x.s.attn_used + l * x.s.attn_used_stride,
                    IMAGES * 2 * T * T, 0.4);
        check_zeros("hidden", x.s.fch_gelu + l * x.s.fch_gelu_stride,
                    IMAGES * T * 16, 0.2);
        check_zeros("out", x.s.out + l * x.s.out_stride, TD, 0.6);
      }
      check_zeros("probs", x.s.attn, IMAGES * 2 * T * T, 0); /* kept whole */
      /* The next pass has other masks; switched off, there are none. */
      memcpy(again, x.s.tokens, (size_t)TD * sizeof(float));
      vit_forward(&x.m, &x.s, x.images, IMAGES);
      CHECK(memcmp(again, x.s.tokens, (size_t)TD * sizeof(float)) != 0,
            "the second pass has the first one's mask");
      x.s.dropout = 0;
      vit_forward(&x.m, &x.s, x.images, IMAGES);
      check_zeros("tokens", x.s.tokens, TD, 0);
      check_zeros("out", x.s.out, TD, 0);
      CHECK_SAME_BITS("copies", x.s.out + T * D, x.s.out, T * D);
      free(again);
    }
    drop_stop(&x);
  }
}

/* proj_drop and mlp_drop act on the branch: where it is dropped, the residual
   passes through unchanged. */
static void test_dropout_on_branches(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    vit_config c = drop_config();
    dropping x;
    c.proj_drop = 0.5f;
    c.mlp_drop = 0.25f;
    if (drop_start(&x, &c, tables[t])) {
      float move[IMAGES * T * D];
      for (int i = 0; i < IMAGES * T * D; i++) move[i] = x.s.residual2[i] - x.s.tokens[i];
      check_zeros("attention", move, IMAGES * T * D, 0.5);
      for (int i = 0; i < IMAGES * T * D; i++) move[i] = x.s.out[i] - x.s.residual2[i];
      check_zeros("MLP", move, IMAGES * T * D, 0.25);
    }
    drop_stop(&x);
  }
}

/* Stochastic depth: an image's branch is left out as a whole, or multiplied by
   1 / (1 - rate); never in the first block, and each branch for itself. */
static void test_stochastic_depth(void) {
  const vit_kernels *tables[2];
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    vit_config c = drop_config();
    dropping x, plain;
    c.drop_path = 0.5f;
    if (drop_start(&x, &c, tables[t])) {
      const float *in = x.s.out, *mid = x.s.residual2 + x.s.residual2_stride;
      const float *out = x.s.out + x.s.out_stride;
      int left[2] = {0, 0}, same = 0;
      c.drop_path = 0;
      if (drop_start(&plain, &c, tables[t])) {
        const float *without = plain.s.residual2 + plain.s.residual2_stride;
        CHECK_SAME_BITS("block 0", x.s.out, plain.s.out, IMAGES * T * D);
        for (int b = 0; b < IMAGES; b++) {
          const int at = b * T * D;
          int gone = !memcmp(in + at, mid + at, T * D * sizeof(float));
          int gone2 = !memcmp(mid + at, out + at, T * D * sizeof(float));
          left[0] += gone;
          left[1] += gone2;
          same += gone == gone2;
          if (!gone) { /* twice the branch */
            float twice[T * D];
            for (int i = 0; i < T * D; i++)
              twice[i] = in[at + i] + 2 * (without[at + i] - in[at + i]);
            CHECK_CLOSE("branch / (1 - rate)", mid + at, twice, T * D, 1e-5, 1e-5);
          }
        }
        for (int i = 0; i < 2; i++) /* 24 +- 5 * sqrt(48) / 2 */
          CHECK(left[i] > 6 && left[i] < 42, "branch %d: %d of %d left out", i,
                left[i], (int)IMAGES);
        CHECK(same > 6 && same < 42, "the branches agree in %d of %d", same,
              (int)IMAGES);
      }
      drop_stop(&plain);
    }
    drop_stop(&x);
  }
}

int main(void) {
  RUN(test_layernorm_simd);
  RUN(test_layernorm_properties);
  RUN(test_layernorm_constant_rows);
  RUN(test_layernorm_sums);
  RUN(test_layernorm_gradient);
  RUN(test_layernorm_fixture);
  RUN(test_gelu_values);
  RUN(test_gelu_simd);
  RUN(test_gelu_tanh_simd);
  RUN(test_gelu_quick_simd);
  RUN(test_gelu_accuracy);
  RUN(test_gelu_gradient);
  RUN(test_gelu_tanh_gradient);
  RUN(test_gelu_quick_gradient);
  RUN(test_gelu_fixture);
  RUN(test_small_kernels_by_hand);
  RUN(test_small_kernels_simd);
  RUN(test_residual_gradient);
  RUN(test_mean_gradient);
  RUN(test_entropy_simd);
  RUN(test_entropy_extremes);
  RUN(test_entropy_gradient);
  RUN(test_entropy_fixture);
  RUN(test_steps_by_formula);
  RUN(test_steps_simd);
  RUN(test_schedule_fixture);
  RUN(test_dropout_is_philox);
  RUN(test_uniform);
  RUN(test_uniform_simd);
  RUN(test_dropout_simd);
  RUN(test_dropout_rates);
  RUN(test_dropout_in_pieces);
  RUN(test_dropout_gradient);
  RUN(test_dropout_places);
  RUN(test_dropout_on_branches);
  RUN(test_stochastic_depth);
  k_close_file();
  return test_end("05_encoder");
}
