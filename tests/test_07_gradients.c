/* Gradients: vit_gradient_check on every preset and option, that check itself
   against another one written here, and against kernels with a wrong sign. */
#include "test.h"

#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"
#include "changed.h"

/* Largest error that a right gradient may show in vit_gradient_check; measured
   are 2e-3, naive and SIMD. A wrong sign shows 1 or more. */
static const double BOUND = 1e-2;

static vit_config preset(const char *name) {
  for (int i = 0; vit_preset_at(i); i++)
    if (!strcmp(vit_preset_at(i)->name, name)) return vit_preset_at(i)->make();
  CHECK(0, "no preset %s", name);
  return vit_config_tutorial();
}

/* N 6 patches, B 3: all sizes differ, neither image nor patches are square. */
#define ODD                                                                    \
  "image_height=6 image_width=8 channels=2 patch_height=2 patch_width=4 "     \
  "classes=7 width=8 depth=2 heads=3 head_dim=5 mlp_width=11 positions=2 "    \
  "head=0 final_norm=1 "
enum { BATCH = 3 };

static const struct { const char *preset, *pairs; } cases[] = {
    /* the presets, small */
    {"tutorial", "depth=2"},
    {"mnist", "image_height=8 image_width=12 width=12 depth=2 heads=3 mlp_width=17"},
    {"cifar_mean", "image_height=8 image_width=12 width=12 depth=2 heads=3 "
                   "head_dim=5 mlp_width=17 zero_head=0"},
    {"cifar_cls", "image_height=8 image_width=12 width=12 depth=2 heads=3 "
                  "mlp_width=17 classes=5"},
    {"local", "image_height=8 image_width=12 patch_height=2 patch_width=4 width=12 "
              "depth=2 heads=3 mlp_width=17 classes=5 norm_eps=1e-6"},
    {"post_norm", "image_height=8 image_width=12 patch_height=4 patch_width=4 "
                  "width=10 depth=2 heads=2 mlp_width=17 classes=5"},
    {"ti16", "image_height=8 image_width=12 patch_height=4 patch_width=4 width=12 "
             "depth=2 heads=3 mlp_width=17 classes=5"},
    /* one option after the other */
    {"tutorial", ODD},
    {"tutorial", ODD "norm=1"},
    {"tutorial", ODD "norm=1 final_norm=0 head=1 pool=1 class_token=0"},
    {"tutorial", ODD "final_norm=0"},
    {"tutorial", ODD "gelu=1"},
    {"tutorial", ODD "mlp_last_gelu=1"},
    {"tutorial", ODD "mlp_last_gelu=1 gelu=1 norm=1"},
    {"tutorial", ODD "pool=1"},
    {"tutorial", ODD "pool=1 class_token=0"},
    {"tutorial", ODD "head=1"},
    {"tutorial", ODD "positions=0"},
    {"tutorial", ODD "positions=1"},
    {"tutorial", ODD "positions=3"},
    {"tutorial", ODD "class_token=0 pool=1 positions=3"},
    {"tutorial", ODD "local_mask=3"},
    {"tutorial", ODD "local_mask=1 class_token=0 pool=1"},
    {"tutorial", ODD "qkv_bias=0"},
    {"tutorial", ODD "pos_drop=0.3"},
    {"tutorial", ODD "attn_drop=0.3"},
    {"tutorial", ODD "proj_drop=0.3"},
    {"tutorial", ODD "hidden_drop=0.3"},
    {"tutorial", ODD "mlp_drop=0.3"},
    {"tutorial", ODD "mlp_drop=0.3 mlp_last_gelu=1"},
    {"tutorial", ODD "block_drop=0.3"},
    {"tutorial", ODD "drop_path=0.5"},
    {"tutorial", ODD "depth=1 drop_path=0.4"},
    {"tutorial", ODD "norm=1 block_drop=0.2 drop_path=0.5 pos_drop=0.1 "
                     "attn_drop=0.2 proj_drop=0.1 hidden_drop=0.2 mlp_drop=0.1"},
    {"tutorial", ODD "block_drop=0.2 drop_path=0.5 pos_drop=0.1 attn_drop=0.2 "
                     "proj_drop=0.1 hidden_drop=0.2 mlp_drop=0.1 local_mask=3"},
    {"tutorial", ODD "width=1 heads=1 head_dim=1 mlp_width=1 final_norm=0 norm_eps=0.5"},
    {"tutorial", ODD "width=19 heads=2 head_dim=9 mlp_width=33 classes=13"},
    {"tutorial", ODD "classes=1 head=1"},
    /* the options of published models, alone and together */
    {"tutorial", ODD "gelu=2"},
    {"tutorial", ODD "gelu=2 mlp_last_gelu=1 norm=1"},
    {"tutorial", ODD "reg_tokens=3"},
    {"tutorial", ODD "reg_tokens=2 pool=1 class_token=0 positions=3"},
    {"tutorial", ODD "reg_tokens=1 norm=1 positions=1 final_norm=0"},
    {"tutorial", ODD "pre_norm=1"},
    {"tutorial", ODD "pre_norm=1 depth=1 gelu=2"},
    {"tutorial", ODD "fc_norm=1"},
    {"tutorial", ODD "fc_norm=1 final_norm=0 pool=1 reg_tokens=4"},
    {"tutorial", ODD "dist_token=1"},
    {"tutorial", ODD "dist_token=1 norm=1 head=1 positions=0 final_norm=0"},
    {"tutorial", ODD "dist_token=1 reg_tokens=2 pre_norm=1 gelu=2"},
    {"tutorial", ODD "pre_norm=1 reg_tokens=3 fc_norm=1 gelu=2 pool=1"},
    {"tutorial", ODD "pre_norm=1 reg_tokens=3 fc_norm=1 block_drop=0.2 drop_path=0.5 "
                     "pos_drop=0.2 attn_drop=0.2 proj_drop=0.1 hidden_drop=0.2 mlp_drop=0.1"},
    {"tutorial", ODD "dist_token=1 reg_tokens=1 pre_norm=1 block_drop=0.2 drop_path=0.5 "
                     "pos_drop=0.2 attn_drop=0.2 proj_drop=0.1 hidden_drop=0.2 mlp_drop=0.1"}};

/* ---- the library's check ------------------------------------------------- */

static double check_all(const vit_kernels *kernels) {
  double worst = 0;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    vit_config c = changed(preset(cases[i].preset), cases[i].pairs);
    vit_gradient_report r;
    vit_tensor t;
    int tensors = 0;
    if (test_quick() && i % 5) continue;
    CHECK(!vit_gradient_check(&c, kernels, BATCH, i + 1, &r), "%s", vit_error());
    CHECK(r.worst < BOUND,
          "%s %s, %s: error %g at %s[%d]: analytic %g, numeric %g", kernels->name,
          cases[i].preset, cases[i].pairs, r.worst, r.name, r.index, r.analytic,
          r.numeric);
    vit_config_resolve(&c);
    while (vit_tensor_at(&c, tensors, &t)) tensors++;
    CHECK(r.tensors == tensors && r.elements >= tensors,
          "%d tensors, %d elements of %d tensors", r.tensors, r.elements, tensors);
    if (r.worst > worst) worst = r.worst;
  }
  return worst;
}

static void test_check_naive(void) {
  double worst = check_all(&vit_naive);
  printf("  largest gradient error, naive: %.1e\n", worst);
}

static void test_check_simd(void) {
  if (vit_best_kernels() == &vit_naive) SKIP("no SIMD here");
  printf("  largest gradient error, SIMD:  %.1e\n", check_all(&vit_simd));
}

static void test_check_is_repeatable(void) {
  vit_config c = changed(vit_config_tutorial(), ODD "attn_drop=0.2 depth=1");
  vit_gradient_report a, b, other;
  vit_gradient_check(&c, &vit_naive, 2, 5, &a);
  vit_gradient_check(&c, &vit_naive, 2, 5, &b);
  vit_gradient_check(&c, &vit_naive, 2, 6, &other);
  CHECK(a.worst == b.worst && a.index == b.index && a.numeric == b.numeric,
        "the same seed gave %g and %g", a.worst, b.worst);
  CHECK(a.numeric != other.numeric, "another seed gave the same");
  CHECK(vit_gradient_check(&c, &vit_naive, 0, 5, &a) == VIT_ERR_CONFIG,
        "batch 0: %s", vit_error());
}

/* ---- another check, of every element and of the images ------------------- */

typedef struct {
  vit_model m;
  vit_state s;
  float *images;
  int labels[BATCH];
  size_t pixels;
} bench;

static int bench_create(bench *k, const vit_config *c, const vit_kernels *kernels,
                        float scale) {
  memset(k, 0, sizeof *k);
  k->pixels = (size_t)(BATCH * c->channels * c->image_height * c->image_width);
  k->images = (float *)malloc(k->pixels * sizeof(float));
  if (!k->images) return 0;
  test_random(k->images, k->pixels, 1, 21);
  for (int b = 0; b < BATCH; b++) k->labels[b] = (b * 3 + 1) % c->classes;
  if (!CHECK(!vit_model_create(&k->m, c, 1), "%s", vit_error())) return 0;
  k->m.kernels = kernels;
  k->m.threads = 1;
  if (!CHECK(!vit_state_create(&k->s, &k->m, BATCH,
                               VIT_FOR_TRAINING | VIT_INPUT_GRADIENT, 1),
             "%s", vit_error()))
    return 0;
  test_random(k->m.params.block, k->m.params.count, scale, 22);
  return 1;
}

static void bench_free(bench *k) {
  vit_state_free(&k->s);
  vit_model_free(&k->m);
  free(k->images);
}

static double bench_loss(bench *k) {
  double loss = -1;
  k->s.forwards = 0; /* the same dropout each time */
  vit_forward(&k->m, &k->s, k->images, BATCH);
  CHECK(!vit_loss(&k->m, &k->s, k->labels, 0.05f, &loss), "%s", vit_error());
  return loss;
}

/* Central difference, once with h and once with h/2, extrapolated. */
static double slope(bench *k, float *x) {
  const float start = *x, h = 0.03125f;
  double coarse, fine;
  *x = start + h;
  coarse = bench_loss(k);
  *x = start - h;
  coarse = (coarse - bench_loss(k)) / (2 * (double)h);
  *x = start + h / 2;
  fine = bench_loss(k);
  *x = start - h / 2;
  fine = (fine - bench_loss(k)) / (double)h;
  *x = start;
  return (4 * fine - coarse) / 3;
}

/* The error of n numbers, beside the largest of them. */
static double own_check(bench *k, const char *name, float *x, const float *g,
                        size_t n, double bound) {
  double largest = 0, worst = 0;
  size_t step = test_quick() ? n / 8 + 1 : 1;
  for (size_t i = 0; i < n; i++)
    if (fabs((double)g[i]) > largest) largest = fabs((double)g[i]);
  for (size_t i = 0; i < n; i += step) {
    double want = slope(k, x + i);
    double error = fabs((double)g[i] - want) / (largest + 1e-3);
    CHECK(error < bound, "%s %s[%lu]: analytic %g, numeric %g", k->m.kernels->name,
          name, (unsigned long)i, (double)g[i], want);
    if (error > worst) worst = error;
  }
  return worst;
}

static double own_checks(const vit_config *c, const vit_kernels *kernels,
                         double bound) {
  double worst = 0, error;
  vit_tensor t;
  bench k;
  if (!bench_create(&k, c, kernels, 0.6f)) return 1;
  bench_loss(&k);
  CHECK(!vit_backward(&k.m, &k.s, 1), "%s", vit_error());
  for (int i = 0; vit_tensor_at(&k.m.config, i, &t); i++) {
    error = own_check(&k, t.name, k.m.params.block + t.offset,
                      k.s.grads.block + t.offset, t.count, bound);
    if (error > worst) worst = error;
  }
  error = own_check(&k, "images", k.images, k.s.dimages, k.pixels, bound);
  if (error > worst) worst = error;
  bench_free(&k);
  return worst;
}

static void test_another_check(void) {
  vit_config pre = changed(vit_config_tutorial(), ODD "attn_drop=0.2 drop_path=0.3");
  vit_config post =
      changed(vit_config_tutorial(),
              ODD "norm=1 head=1 pool=1 gelu=1 final_norm=0 depth=1 hidden_drop=0.2");
  vit_config dist = changed(vit_config_tutorial(),
                            ODD "dist_token=1 reg_tokens=2 pre_norm=1 gelu=2 depth=1");
  double worst = own_checks(&pre, &vit_naive, 1e-3);
  double other = own_checks(&post, &vit_naive, 1e-3);
  printf("  largest error of the other check: %.1e\n", worst > other ? worst : other);
  own_checks(&dist, &vit_naive, 1e-3);
  if (vit_best_kernels() != &vit_naive) own_checks(&post, &vit_simd, 1e-2);
}

/* ---- wrong kernels are noticed ------------------------------------------- */

/* Each wrapper calls the naive kernel; where its number is `wrong`, it turns
   the sign of one result. Kernels that also run forward (dropout, residual)
   are wrong in the backward pass alone. */
enum {
  NOTHING, LINEAR_DX, LINEAR_DW, LINEAR_DB, TOKENS_DPATCHES, TOKENS_DCLS,
  TOKENS_DPOS, SOFTMAX, SCORES_DQ, SCORES_DK, VALUES_DP, VALUES_DV, NORM_DX,
  NORM_DW, NORM_DB, GELU, GELU_TANH, GELU_QUICK, MEAN, CROSSENTROPY, DROPOUT, RESIDUAL,
  SCALE, PATCHIFY, NOT_A_NUMBER
};
static int wrong, backward;

static void turn(float *x, vit_idx rows, vit_idx cols, vit_idx stride) {
  for (vit_idx r = 0; x && r < rows; r++)
    for (vit_idx i = 0; i < cols; i++) x[r * stride + i] = -x[r * stride + i];
}

static void bad_linear_backward_input(float *dx, const float *dy, const float *w,
                                      int rows, int in, int out) {
  vit_naive.linear_backward_input(dx, dy, w, rows, in, out);
  if (wrong == LINEAR_DX) turn(dx, rows, in, in);
}

/* Turned before and after: what is added has the wrong sign, the rest not. */
static void bad_linear_backward_weight(float *dw, float *db, const float *dy,
                                       const float *x, int rows, int in, int out,
                                       int dy_stride) {
  for (int i = 0; i < 2; i++) {
    if (wrong == LINEAR_DW) turn(dw, out, in, in);
    if (wrong == LINEAR_DB) turn(db, 1, out, out);
    if (i == 0)
      vit_naive.linear_backward_weight(dw, db, dy, x, rows, in, out, dy_stride);
  }
}

static void bad_tokens_backward(float *dpatches, float *dcls, float *dpos,
                                const float *dx, int N, int D) {
  for (int i = 0; i < 2; i++) {
    if (wrong == TOKENS_DCLS) turn(dcls, 1, D, D);
    if (wrong == TOKENS_DPOS) turn(dpos, N + (dcls ? 1 : 0), D, D);
    if (i == 0) vit_naive.tokens_backward(dpatches, dcls, dpos, dx, N, D);
  }
  if (wrong == TOKENS_DPATCHES) turn(dpatches, N, D, D);
}

static void bad_softmax_backward(float *ds, const float *dp, const float *p,
                                 int rows, int cols) {
  vit_naive.softmax_backward(ds, dp, p, rows, cols);
  if (wrong == SOFTMAX) turn(ds, rows, cols, cols);
}

static void bad_attention_scores_backward(float *dq, float *dk, float *dp,
                                          const float *p, const float *q,
                                          const float *k, int rows, int T,
                                          int Dh, int stride) {
  vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, rows, T, Dh, stride);
  if (wrong == SCORES_DQ) turn(dq, rows, Dh, stride);
  if (wrong == SCORES_DK) turn(dk, T, Dh, stride);
}

static void bad_attention_values_backward(float *dp, float *dv, const float *d_o,
                                          const float *p, const float *v,
                                          int rows, int T, int Dh, int stride,
                                          int o_stride) {
  vit_naive.attention_values_backward(dp, dv, d_o, p, v, rows, T, Dh, stride, o_stride);
  if (wrong == VALUES_DP) turn(dp, rows, T, T);
  if (wrong == VALUES_DV) turn(dv, T, Dh, stride);
}

static void bad_layernorm_backward(float *dx, float *dw, float *db,
                                   const float *dy, const float *x, const float *w,
                                   const float *mean, const float *rstd, int rows,
                                   int D) {
  for (int i = 0; i < 2; i++) {
    if (wrong == NORM_DX) turn(dx, rows, D, D);
    if (wrong == NORM_DW) turn(dw, 1, D, D);
    if (wrong == NORM_DB) turn(db, 1, D, D);
    if (i == 0)
      vit_naive.layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, rows, D);
  }
  if (wrong == NOT_A_NUMBER) dw[0] = (float)NAN;
}

static void bad_gelu_backward(float *dx, const float *dy, const float *x, int n) {
  vit_naive.gelu_backward(dx, dy, x, n);
  if (wrong == GELU) turn(dx, 1, n, n);
}

static void bad_gelu_tanh_backward(float *dx, const float *dy, const float *x,
                                   int n) {
  vit_naive.gelu_tanh_backward(dx, dy, x, n);
  if (wrong == GELU_TANH) turn(dx, 1, n, n);
}

static void bad_gelu_quick_backward(float *dx, const float *dy, const float *x,
                                    int n) {
  vit_naive.gelu_quick_backward(dx, dy, x, n);
  if (wrong == GELU_QUICK) turn(dx, 1, n, n);
}

static void bad_mean_backward(float *dx, const float *dy, int N, int D) {
  vit_naive.mean_backward(dx, dy, N, D);
  if (wrong == MEAN) turn(dx, N, D, D);
}

static void bad_crossentropy_backward(float *dlogits, const float *p,
                                      const float *targets, float factor,
                                      int rows, int K) {
  backward = 1; /* this is how a backward pass begins, */
  vit_naive.crossentropy_backward(dlogits, p, targets, factor, rows, K);
  if (wrong == CROSSENTROPY) turn(dlogits, rows, K, K);
}

static void bad_softmax_forward(float *p, const float *s, int rows, int cols) {
  backward = 0; /* and this is how a forward pass ends */
  vit_naive.softmax_forward(p, s, rows, cols);
}

static void bad_dropout(float *y, const float *x, int n, float rate, uint32_t key,
                        uint32_t stream, uint32_t first) {
  vit_naive.dropout(y, x, n, rate, key, stream, first);
  if (wrong == DROPOUT && backward) turn(y, 1, n, n);
}

static void bad_residual_forward(float *y, const float *x, const float *f,
                                 float scale, int n) {
  float sign = wrong == RESIDUAL && backward ? -1.0f : 1.0f;
  vit_naive.residual_forward(y, x, f, sign * scale, n);
}

static void bad_scale(float *y, const float *x, float factor, int n) {
  vit_naive.scale(y, x, wrong == SCALE ? -factor : factor, n);
}

static void bad_patchify_backward(float *dimage, const float *dpatches, int C,
                                  int height, int width, int PH, int PW) {
  vit_naive.patchify_backward(dimage, dpatches, C, height, width, PH, PW);
  if (wrong == PATCHIFY) turn(dimage, C * height, width, width);
}

static vit_kernels bad_kernels(void) {
  vit_kernels k = vit_naive;
  k.linear_backward_input = bad_linear_backward_input;
  k.linear_backward_weight = bad_linear_backward_weight;
  k.tokens_backward = bad_tokens_backward;
  k.softmax_backward = bad_softmax_backward;
  k.softmax_forward = bad_softmax_forward;
  k.attention_scores_backward = bad_attention_scores_backward;
  k.attention_values_backward = bad_attention_values_backward;
  k.layernorm_backward = bad_layernorm_backward;
  k.gelu_backward = bad_gelu_backward;
  k.gelu_tanh_backward = bad_gelu_tanh_backward;
  k.gelu_quick_backward = bad_gelu_quick_backward;
  k.mean_backward = bad_mean_backward;
  k.crossentropy_backward = bad_crossentropy_backward;
  k.dropout = bad_dropout;
  k.residual_forward = bad_residual_forward;
  k.scale = bad_scale;
  k.patchify_backward = bad_patchify_backward;
  return k;
}

static void test_wrong_kernels(void) {
  static const struct { int wrong; const char *name, *pairs; } bad[] = {
      {LINEAR_DX, "linear_backward_input", ""},
      {LINEAR_DW, "linear_backward_weight dw", ""},
      {LINEAR_DB, "linear_backward_weight db", ""},
      {TOKENS_DPATCHES, "tokens_backward dpatches", ""},
      {TOKENS_DCLS, "tokens_backward dcls", ""},
      {TOKENS_DPOS, "tokens_backward dpos", ""},
      {SOFTMAX, "softmax_backward", "head=1"},
      {SCORES_DQ, "attention_scores_backward dq", ""},
      {SCORES_DK, "attention_scores_backward dk", ""},
      {VALUES_DP, "attention_values_backward dp", ""},
      {VALUES_DV, "attention_values_backward dv", ""},
      {NORM_DX, "layernorm_backward dx", ""},
      {NORM_DX, "layernorm_backward dx", "norm=1 final_norm=0"},
      {NORM_DW, "layernorm_backward dw", ""},
      {NORM_DB, "layernorm_backward db", ""},
      {GELU, "gelu_backward", ""},
      {GELU_TANH, "gelu_tanh_backward", "gelu=1"},
      {GELU_QUICK, "gelu_quick_backward", "gelu=2"},
      {MEAN, "mean_backward", "pool=1"},
      {CROSSENTROPY, "crossentropy_backward", ""},
      {DROPOUT, "dropout", "pos_drop=0.2"},
      {DROPOUT, "dropout", "attn_drop=0.2"},
      {DROPOUT, "dropout", "proj_drop=0.2"},
      {DROPOUT, "dropout", "hidden_drop=0.2"},
      {DROPOUT, "dropout", "mlp_drop=0.2"},
      {DROPOUT, "dropout", "block_drop=0.2"},
      {RESIDUAL, "residual_forward", "norm=1"},
      {SCALE, "scale", "drop_path=0.3"},
      {SCALE, "scale", "dist_token=1"},
      {RESIDUAL, "residual_forward", "reg_tokens=2"},
      {NORM_DX, "layernorm_backward dx", "fc_norm=1 norm=1 final_norm=0"},
      {NORM_DX, "layernorm_backward dx", "pre_norm=1"}};
  vit_kernels kernels = bad_kernels();
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char pairs[500];
    vit_config c;
    vit_gradient_report r;
    snprintf(pairs, sizeof pairs,
             "%s width=4 heads=2 head_dim=3 mlp_width=5 classes=3 depth=1 %s", ODD,
             bad[i].pairs);
    c = changed(vit_config_tutorial(), pairs);
    if (i == 0 || strcmp(bad[i].pairs, bad[i - 1].pairs)) {
      wrong = NOTHING;
      CHECK(!vit_gradient_check(&c, &kernels, 2, 3, &r), "%s", vit_error());
      CHECK(r.worst < BOUND, "right kernels, %s: error %g at %s", bad[i].pairs,
            r.worst, r.name);
    }
    wrong = bad[i].wrong;
    vit_gradient_check(&c, &kernels, 2, 3, &r);
    CHECK(r.worst > 0.5, "a wrong sign in %s (%s) shows an error of only %g",
          bad[i].name, bad[i].pairs, r.worst);
  }
  wrong = NOTHING;
}

/* The gradient of the images is not among the parameters. */
static void test_wrong_image_gradient(void) {
  vit_config c = changed(vit_config_tutorial(), ODD "depth=1");
  vit_kernels kernels = bad_kernels();
  float want;
  bench k;
  wrong = NOTHING;
  if (!bench_create(&k, &c, &kernels, 0.6f)) return;
  bench_loss(&k);
  vit_backward(&k.m, &k.s, 1);
  want = k.s.dimages[17];
  wrong = PATCHIFY;
  vit_backward(&k.m, &k.s, 1);
  CHECK(want != 0 && k.s.dimages[17] == -want, "patchify_backward was not called");
  wrong = NOTHING;
  bench_free(&k);
}

/* NaN is an error, although it is larger than nothing. */
static void test_check_sees_nan(void) {
  vit_config c = changed(vit_config_tutorial(), ODD "depth=1");
  vit_kernels kernels = bad_kernels();
  vit_gradient_report r;
  wrong = NOT_A_NUMBER;
  vit_gradient_check(&c, &kernels, BATCH, 3, &r);
  wrong = NOTHING;
  CHECK(!(r.worst < BOUND), "NaN counts as an error of %g", r.worst);
}

/* ---- accumulation -------------------------------------------------------- */

static void test_accumulation(void) {
  vit_config c = changed(vit_config_tutorial(), ODD "local_mask=3");
  const size_t one = 2 * 6 * 8;
  static float images[4 * 96];
  const int labels[4] = {3, 0, 6, 1};
  const vit_kernels *tables[2] = {&vit_naive, vit_best_kernels()};
  test_random(images, 4 * one, 1, 31);
  for (int i = 0; i < 2; i++) {
    vit_model m;
    vit_state full, half;
    double loss, first, second;
    CHECK(!vit_model_create(&m, &c, 2) &&
              !vit_state_create(&full, &m, 4, VIT_FOR_TRAINING, 1) &&
              !vit_state_create(&half, &m, 2, VIT_FOR_TRAINING, 1),
          "%s", vit_error());
    m.kernels = tables[i];
    m.threads = 1;
    vit_forward(&m, &full, images, 4);
    vit_loss(&m, &full, labels, 0, &loss);
    vit_backward(&m, &full, 1);
    vit_forward(&m, &half, images, 2);
    vit_loss(&m, &half, labels, 0, &first);
    vit_backward(&m, &half, 0.5f);
    vit_forward(&m, &half, images + 2 * one, 2);
    vit_loss(&m, &half, labels + 2, 0, &second);
    vit_backward(&m, &half, 0.5f);
    CHECK(fabs(loss - (first + second) / 2) < 1e-6, "loss %g, halves %g and %g",
          loss, first, second);
    CHECK_CLOSE("two halves", half.grads.block, full.grads.block, full.grads.count,
                1e-4, 1e-6);

    /* zeroed; a factor is a factor; backward twice adds up */
    vit_zero_gradients(&half);
    for (size_t n = 0; n < half.grads.count; n++)
      CHECK(half.grads.block[n] == 0, "gradient %lu is not zero", (unsigned long)n);
    vit_backward(&m, &full, 1);
    vit_backward(&m, &full, -2);
    for (size_t n = 0; n < full.grads.count; n++)
      CHECK(fabsf(full.grads.block[n]) < 1e-5f, "1 + 1 - 2 = %g",
            (double)full.grads.block[n]);
    vit_state_free(&full);
    vit_state_free(&half);
    vit_model_free(&m);
  }
}

/* The loss is the mean of the images' losses, linear in the smoothing. */
static void test_loss(void) {
  vit_config c = changed(vit_config_tutorial(), ODD);
  static float images[96];
  vit_model m;
  vit_state s;
  double loss, mean = 0, hard = 0, smooth, want;
  int label = 4;
  test_random(images, 96, 1, 41);
  CHECK(!vit_model_create(&m, &c, 2) && !vit_state_create(&s, &m, 1, 0, 1), "%s",
        vit_error());
  vit_forward(&m, &s, images, 1);
  for (int k = 0; k < 7; k++) {
    CHECK(!vit_loss(&m, &s, &k, 0, &loss), "%s", vit_error());
    CHECK(fabs(loss + log((double)s.probs[k])) < 1e-5, "loss %g of p %g", loss,
          (double)s.probs[k]);
    mean += loss / 7;
    if (k == label) hard = loss;
  }
  for (int i = 0; i <= 4; i++) {
    float e = (float)i / 4;
    vit_loss(&m, &s, &label, e, &smooth);
    want = (1 - (double)e) * hard + (double)e * mean;
    CHECK(fabs(smooth - want) < 1e-5, "smoothing %g: loss %g, expected %g",
          (double)e, smooth, want);
  }
  vit_state_free(&s);
  vit_model_free(&m);
}

/* vit_predict turns dropout off for its own pass: a loss of that pass goes back
   without masks, also in a state that trains. And the other way round. */
static void test_dropout_of_the_last_pass(void) {
  vit_config c = changed(vit_config_tutorial(), ODD " pos_drop=0.3 attn_drop=0.3 "
                                                "proj_drop=0.3 hidden_drop=0.3 mlp_drop=0.3 "
                                                "block_drop=0.3 drop_path=0.3");
  static float images[2 * 96];
  const int labels[2] = {0, 6};
  int classes[2];
  vit_model m;
  vit_state s, t;
  double loss;
  test_random(images, 2 * 96, 1, 5);
  CHECK(!vit_model_create(&m, &c, 2) && !vit_state_create(&s, &m, 2, VIT_FOR_TRAINING, 1) &&
            !vit_state_create(&t, &m, 2, VIT_FOR_TRAINING, 1),
        "%s", vit_error());
  for (int on = 0; on < 2; on++) {
    s.dropout = t.dropout = on;
    vit_zero_gradients(&s);
    vit_zero_gradients(&t);
    vit_forward(&m, &s, images, 2);
    vit_loss(&m, &s, labels, 0, &loss);
    vit_backward(&m, &s, 1);
    t.dropout = 1;
    if (on) vit_forward(&m, &t, images, 2);
    else vit_predict(&m, &t, images, 2, classes, NULL);
    t.dropout = !on; /* does not matter now */
    vit_loss(&m, &t, labels, 0, &loss);
    CHECK(!vit_backward(&m, &t, 1), "%s", vit_error());
    CHECK_SAME_BITS("gradients", t.grads.block, s.grads.block, s.grads.count);
  }
  vit_state_free(&s);
  vit_state_free(&t);
  vit_model_free(&m);
}

/* ---- calls in the wrong order -------------------------------------------- */

static void test_order_errors(void) {
  vit_config c = changed(vit_config_tutorial(), ODD);
  static float images[2 * 96];
  int labels[2] = {0, 6}, classes[2];
  vit_model m;
  vit_state s, infer;
  double loss;
  CHECK(!vit_model_create(&m, &c, 2) &&
            !vit_state_create(&s, &m, 2, VIT_FOR_TRAINING, 1) &&
            !vit_state_create(&infer, &m, 2, VIT_FOR_INFERENCE, 1),
        "%s", vit_error());
#define FAILS(call, code, sentence)                                            \
  CHECK((call) == code && !strcmp(vit_error(), sentence), "%s", vit_error())
  FAILS(vit_loss(&m, &s, labels, 0, &loss), VIT_ERR_STATE,
        "there is no forward pass to take the loss of; call vit_forward first");
  FAILS(vit_backward(&m, &s, 1), VIT_ERR_STATE,
        "there is no loss to differentiate; call vit_forward and vit_loss first");
  vit_forward(&m, &s, images, 2);
  FAILS(vit_backward(&m, &s, 1), VIT_ERR_STATE,
        "there is no loss to differentiate; call vit_forward and vit_loss first");
  labels[1] = 7;
  FAILS(vit_loss(&m, &s, labels, 0, &loss), VIT_ERR_CONFIG,
        "label 7 of image 1 is not a class from 0 to 6");
  labels[1] = -1;
  FAILS(vit_loss(&m, &s, labels, 0, &loss), VIT_ERR_CONFIG,
        "label -1 of image 1 is not a class from 0 to 6");
  labels[1] = 6;
  FAILS(vit_loss(&m, &s, labels, 1.5f, &loss), VIT_ERR_CONFIG,
        "label smoothing is 1.5; it must be from 0 to 1");
  CHECK(vit_loss(&m, &s, labels, (float)NAN, &loss) == VIT_ERR_CONFIG, "NaN");
  FAILS(vit_backward(&m, &s, 1), VIT_ERR_STATE,
        "there is no loss to differentiate; call vit_forward and vit_loss first");
  CHECK(!vit_loss(&m, &s, labels, 0, &loss) && !vit_backward(&m, &s, 1), "%s",
        vit_error());
  vit_predict(&m, &s, images, 2, classes, NULL); /* the activations are gone */
  FAILS(vit_backward(&m, &s, 1), VIT_ERR_STATE,
        "there is no loss to differentiate; call vit_forward and vit_loss first");
  vit_forward(&m, &infer, images, 2);
  CHECK(!vit_loss(&m, &infer, labels, 0, &loss), "%s", vit_error());
  FAILS(vit_backward(&m, &infer, 1), VIT_ERR_STATE,
        "this state was created for inference; backward needs VIT_FOR_TRAINING");
  vit_zero_gradients(&infer); /* does nothing, and no harm */
  vit_state_free(&s);
  vit_state_free(&infer);
  vit_model_free(&m);
}

/* The gradients of sixteen parts, added as a tree: ((0 + 1) + (2 + 3)) + ... With
   sixteen images each is a part, and its gradient can be had alone. Each order of
   machines that climbs this tree gives these bits. */
static void test_parts_are_a_tree(void) {
  enum { IMAGES = 16 };
  vit_config c = changed(vit_config_tutorial(), ODD);
  const size_t pixels = (size_t)(c.image_height * c.image_width * c.channels);
  float *images = (float *)malloc((size_t)IMAGES * pixels * sizeof(float)), *parts;
  int labels[IMAGES];
  vit_model m;
  vit_state all, one;
  double loss;
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  CHECK(!vit_state_create(&all, &m, IMAGES, VIT_FOR_TRAINING, 1) &&
            !vit_state_create(&one, &m, 1, VIT_FOR_TRAINING, 1),
        "%s", vit_error());
  parts = (float *)malloc((size_t)IMAGES * m.params.count * sizeof(float));
  if (!images || !parts) return;
  test_random(images, (size_t)IMAGES * pixels, 1, 3);
  for (int b = 0; b < IMAGES; b++) labels[b] = b % c.classes;
  CHECK(!vit_forward(&m, &all, images, IMAGES) && !vit_loss(&m, &all, labels, 0, &loss) &&
            !vit_backward(&m, &all, 1),
        "%s", vit_error());
  for (size_t b = 0; b < IMAGES; b++) {
    vit_zero_gradients(&one);
    CHECK(!vit_forward(&m, &one, images + b * pixels, 1) && !vit_loss(&m, &one, labels + b, 0, &loss) &&
              !vit_backward(&m, &one, 1.0f / IMAGES),
          "%s", vit_error());
    memcpy(parts + b * m.params.count, one.grads.block, m.params.count * sizeof(float));
  }
  for (size_t step = 1; step < IMAGES; step *= 2)
    for (size_t b = 0; b < IMAGES; b += 2 * step)
      for (size_t i = 0; i < m.params.count; i++)
        parts[b * m.params.count + i] += parts[(b + step) * m.params.count + i];
  CHECK_SAME_BITS("the tree", all.grads.block, parts, (int)m.params.count);
  free(images);
  free(parts);
  vit_state_free(&all);
  vit_state_free(&one);
  vit_model_free(&m);
}

/* Programs that share a batch: each has its parts of the images, and adds up its
   branch of the tree. Dropout knows the image by its place in the whole batch. */
static void share_batch(const vit_model *m, vit_state *all, const float *images, const int *labels,
                        int B, int programs) {
  const size_t pixels = (size_t)(m->config.image_height * m->config.image_width * m->config.channels);
  float *sums = (float *)calloc((size_t)programs * m->params.count, sizeof *sums);
  const int each = 16 / programs;
  const uint32_t forwards = all->forwards;
  double loss;
  if (!sums) return;
  vit_zero_gradients(all);
  CHECK(!vit_forward(m, all, images, B) && !vit_loss(m, all, labels, 0.1f, &loss) && !vit_backward(m, all, 1),
        "%s", vit_error());
  for (int program = 0; program < programs; program++) {
    vit_state own;
    int first, end, n;
    vit__part(B, 16, program * each, 1, &first, &n);
    vit__part(B, 16, (program + 1) * each - 1, 1, &end, &n);
    n += end - first;
    if (n == 0) continue;
    CHECK(!vit_state_create(&own, m, n, VIT_FOR_TRAINING, 5), "%s", vit_error());
    own.shared = B, own.first = first, own.forwards = forwards;
    CHECK(!vit_forward(m, &own, images + (size_t)first * pixels, n) &&
              !vit_loss(m, &own, labels + first, 0.1f, &loss) && !vit_backward(m, &own, 1),
          "%s", vit_error());
    CHECK_SAME_BITS("logits of a shared batch", own.logits, all->logits + first * m->config.classes,
                    n * m->config.classes);
    memcpy(sums + (size_t)program * m->params.count, own.grads.block, m->params.count * sizeof *sums);
    vit_state_free(&own);
  }
  for (size_t step = 1; step < (size_t)programs; step *= 2)
    for (size_t p = 0; p < (size_t)programs; p += 2 * step)
      for (size_t i = 0; i < m->params.count; i++)
        sums[p * m->params.count + i] += sums[(p + step) * m->params.count + i];
  CHECK_SAME_BITS("gradients of a shared batch", all->grads.block, sums, (int)m->params.count);
  free(sums);
}

static void test_shared_batch(void) {
  static const int batches[] = {40, 16, 43, 10, 1};
  enum { MOST = 43 };
  vit_config c = changed(vit_config_tutorial(), ODD);
  size_t pixels;
  float *images;
  int labels[MOST];
  vit_model m;
  vit_state all;
  c.pos_drop = c.attn_drop = c.proj_drop = c.hidden_drop = c.mlp_drop = c.block_drop = c.drop_path = 0.2f;
  CHECK(!vit_model_create(&m, &c, 1) && !vit_state_create(&all, &m, MOST, VIT_FOR_TRAINING, 5), "%s",
        vit_error());
  pixels = (size_t)(c.image_height * c.image_width * c.channels);
  images = (float *)malloc(MOST * pixels * sizeof(float));
  if (!images) return;
  test_random(images, MOST * pixels, 1, 3);
  for (int b = 0; b < MOST; b++) labels[b] = b % c.classes;
  for (int i = 0; i < 5; i++)
    for (int programs = 1; programs <= 16; programs *= 2)
      share_batch(&m, &all, images, labels, batches[i], programs);
  for (int i = 0; i < 4; i++) { /* a place that is not in the batch */
    static const int places[][2] = {{10, 20}, {10, 8}, {0, 3}, {-5, 0}};
    double loss;
    all.shared = all.first = 0;
    CHECK(!vit_forward(&m, &all, images, 4) && !vit_loss(&m, &all, labels, 0, &loss), "%s", vit_error());
    all.shared = places[i][0], all.first = places[i][1];
    CHECK(vit_backward(&m, &all, 1) == VIT_ERR_CONFIG && strstr(vit_error(), "of a shared batch of"), "%s",
          vit_error());
  }
  free(images);
  vit_state_free(&all);
  vit_model_free(&m);
}

int main(void) {
#ifdef _OPENMP
  omp_set_num_threads(1); /* models this small only wait for other threads */
#endif
  RUN(test_check_naive);
  RUN(test_check_simd);
  RUN(test_check_is_repeatable);
  RUN(test_another_check);
  RUN(test_wrong_kernels);
  RUN(test_wrong_image_gradient);
  RUN(test_check_sees_nan);
  RUN(test_accumulation);
  RUN(test_loss);
  RUN(test_dropout_of_the_last_pass);
  RUN(test_order_errors);
  RUN(test_parts_are_a_tree);
  RUN(test_shared_batch);
  return test_end("07_gradients");
}
