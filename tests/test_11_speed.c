/* Chapter 11: the limits of the fast path. A machine without SIMD, odd numbers of
   threads, batches larger than planned, a state that is used again and again. Then
   int8: the kernels, whole models, their files. */

#include "test.h"

/* What a CPU without AVX2 answers. vit.h asks through this builtin. */
static int has_features = 1;
#define __builtin_cpu_supports(feature) (has_features && feature[0] != 0)

#include "files.h"
#include "kernels.h"

#include "changed.h"

enum { IMAGES = 6, CLASSES = 5 };
static float images[IMAGES * 12 * 16];
static const int labels[IMAGES] = {0, 1, 2, 3, 4, 0};

static vit_config small_model(void) {
  return changed(vit_config_mnist(), "image_height=12 image_width=16 depth=2 "
                                     "width=20 heads=2 head_dim=5 mlp_width=24 "
                                     "classes=5 hidden_drop=0.1");
}

/* Some steps of training, then the logits of all images. */
static vit_result run(const vit_kernels *kernels, int threads, float *logits,
                      float *weights) {
  vit_config c = small_model();
  vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAMW);
  vit_model m;
  vit_state s;
  vit_optimizer o;
  double loss;
  int classes[IMAGES];
  vit_result r = vit_model_create(&m, &c, 7);
  if (!r) r = vit_optimizer_create(&o, &m, &oc);
  if (!r) r = vit_state_create(&s, &m, IMAGES, VIT_FOR_TRAINING, 7);
  if (!CHECK(!r, "%s", vit_error())) return r;
  if (kernels) m.kernels = kernels;
  m.threads = threads;
  for (int i = 0; i < 3 && !r; i++) {
    vit_zero_gradients(&s);
    r = vit_forward(&m, &s, images, IMAGES - i % 2 * 5); /* also one image */
    if (!r) r = vit_loss(&m, &s, labels, 0, &loss);
    if (!r) r = vit_backward(&m, &s, 1);
    if (!r) r = vit_optimizer_step(&o, &m, &s, 0.01f);
  }
  if (!r) r = vit_predict(&m, &s, images, IMAGES, classes, NULL);
  if (!r) memcpy(logits, s.logits, IMAGES * CLASSES * sizeof *logits);
  if (!r && weights) memcpy(weights, m.params.block, m.params.count * sizeof *weights);
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_model_free(&m);
  return r;
}

/* Without AVX2 the naive kernels are chosen, and the model works. The other
   dialects are compiled where the CPU is known to have them, and do not ask. */
static void test_cpu_without_simd(void) {
  const int asks = !strcmp(vit_simd_name(), "AVX2+FMA");
  float masked[IMAGES * CLASSES], naive[IMAGES * CLASSES];
  has_features = 0;
  CHECK(vit_best_kernels() == (asks || vit_simd_lanes() == 1 ? &vit_naive : &vit_simd),
        "the %s kernels were chosen", vit_best_kernels()->name);
  CHECK(!run(asks ? NULL : &vit_naive, 1, masked, NULL), "%s", vit_error());
  has_features = 1;
  CHECK(!run(&vit_naive, 1, naive, NULL), "%s", vit_error());
  CHECK_SAME_BITS("logits", masked, naive, IMAGES * CLASSES);
}

/* 0 is all of them; more than images, heads or cores change no bit. */
static void test_threads(void) {
  static const int threads[] = {0, 2, 3, 7, 61, 1024};
  static float one[20000], many[20000];
  float a[IMAGES * CLASSES], b[IMAGES * CLASSES];
  vit_config c = small_model();
  size_t count = vit_parameter_count(&c);
  if (!CHECK(count <= 20000, "%.0f parameters", (double)count)) return;
  CHECK(!run(NULL, 1, a, one), "%s", vit_error());
  for (int i = 0; i < 6; i++) {
    CHECK(!run(NULL, threads[i], b, many), "%s", vit_error());
    CHECK_SAME_BITS("logits", b, a, IMAGES * CLASSES);
    CHECK_SAME_BITS("weights", many, one, count);
  }
}

static void test_threads_out_of_range(void) {
  static const int wrong[] = {-1, 1025, 2147483647, -2147483647 - 1};
  float logits[IMAGES * CLASSES];
  char number[20];
  for (int i = 0; i < 4; i++) {
    snprintf(number, sizeof number, "%d", wrong[i]);
    CHECK(run(NULL, wrong[i], logits, NULL) == VIT_ERR_CONFIG &&
              strstr(vit_error(), number) && strstr(vit_error(), "threads"),
          "%d threads: %s", wrong[i], vit_error());
  }
}

/* A batch larger than planned is refused; what was there stays usable. */
static void test_batch_larger_than_planned(void) {
  vit_config c = small_model();
  vit_model m;
  vit_state s;
  int classes[IMAGES];
  CHECK(!vit_model_create(&m, &c, 1) && !vit_model_pack(&m) &&
            !vit_state_create(&s, &m, 2, VIT_FOR_INFERENCE, 1),
        "%s", vit_error());
  CHECK(vit_predict(&m, &s, images, 3, classes, NULL) == VIT_ERR_CONFIG &&
            strstr(vit_error(), "batch of 3") && strstr(vit_error(), "1 to 2"),
        "%s", vit_error());
  CHECK(vit_predict(&m, &s, images, 0, classes, NULL) == VIT_ERR_CONFIG, "0");
  CHECK(!vit_predict(&m, &s, images, 2, classes, NULL), "%s", vit_error());
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- int8: the kernels ----------------------------------------------------- */

static size_t int8_floats(int count, int in) { return vit_int8_size(count, in) / sizeof(float); }
static int whole_panels(int out) { return (out + vit_panel() - 1) / vit_panel() * vit_panel(); }

static void call_quantize(const vit_kernels *k, float *const *a, const k_case *c) {
  k->quantize_rows(a[0], a[1], c->size[0], c->size[1]);
}
static void quantize(k_case *c, int rows, int in, int d) {
  k_begin(c, "quantize_rows", call_quantize, rows, in, d);
  k_out(c, "q", int8_floats(rows, in), K_EXACT, 0);
  k_in(c, "x", k_n(rows, in))->shift = (float)(d % 3 - 1); /* also of one sign */
}

static void call_int8(const vit_kernels *k, float *const *a, const k_case *c) {
  k->linear_int8_forward(a[0], a[1], a[2], a[3], c->size[0], c->size[1], c->size[3], c->size[2] - c->size[3]);
}
/* x and w are filled with floats, then quantized. With number[0] all are 1, and
   w also -1: the largest sums there are. */
static void prepare_int8(float *const *a, const k_case *c) {
  const int rows = c->size[0], in = c->size[1], out = c->size[2];
  float *x = k_floats(k_n(rows, in)), *w = k_floats(k_n(out, in));
  test_random(x, k_n(rows, in), 1, 3);
  test_random(w, k_n(out, in), 1, 4);
  for (size_t i = 0; c->number[0] > 0 && i < k_n(rows, in); i++) x[i] = 1;
  for (size_t i = 0; c->number[0] > 0 && i < k_n(out, in); i++) w[i] = (float)(i / (size_t)in % 2) * 2 - 1;
  vit_naive.quantize_rows(a[1], x, rows, in);
  vit_quantize_linear(a[2], w, in, out);
  free(x);
  free(w);
}
static void int8(k_case *c, int rows, int in, int out) {
  k_begin(c, "linear_int8_forward", call_int8, rows, in, out);
  k_out(c, "y", k_n(rows, out), K_EXACT, 0);
  k_in(c, "x", int8_floats(rows, in));
  k_in(c, "w", int8_floats(whole_panels(out), in));
  k_in(c, "b", (size_t)out);
  c->prepare = prepare_int8;
}
static void int8_no_bias(k_case *c, int rows, int in, int out) {
  int8(c, rows, in, out);
  c->array[3].n = 0;
}
static void int8_part(k_case *c, int rows, int in, int out) { /* not the first outputs */
  int8(c, rows, in, out);
  c->size[3] = (out * 7 + in) % out;
  c->array[0].n = k_n(rows, out - c->size[3]);
}
static void int8_extremes(k_case *c, int rows, int in, int out) {
  int8(c, rows, in, out);
  c->number[0] = 1;
}

/* The same integers and the same bits, at all sizes. */
static void test_int8_simd(void) {
  static const k_describe kinds[] = {quantize, int8, int8_no_bias, int8_part, int8_extremes};
  K_NEEDS_SIMD;
  for (int i = 0; i < 5; i++) {
    k_compare_sizes(kinds[i], i ? 3 : 2);
    k_compare_one(kinds[i], 5, 3072, 37);
    k_compare_one(kinds[i], 3, 10007, 3);
  }
  for (int d = 0; d < 3; d++) k_compare_one(quantize, 7, 61, d);
}

/* What bytes stand for, read by hand. */
static double scale_of(const float *row) { return (double)row[0]; }
static int zero_of(const float *row) { return (int)row[1]; }
static const uint8_t *bytes_of(const float *row) { return (const uint8_t *)(row + 2); }

static void test_int8_rows_by_hand(void) {
  enum { IN = 9 };
  static const struct { float x[IN]; double scale; int zero, u[IN]; } rows[] = {
      {{0, 1, 2, 3, 126.4f, 126.6f, 127, 64, 0}, 1, 0, {0, 1, 2, 3, 126, 127, 127, 64, 0}},
      {{-127, -126, -1, 0, -64, -127, 0, 0, 0}, 1, 127, {0, 1, 126, 127, 63, 0, 127, 127, 127}},
      {{-50, 77, 0, 1, -1, 2, -2, 10, 20}, 1, 50, {0, 127, 50, 51, 49, 52, 48, 60, 70}},
      {{5, 5, 5, 5, 5, 5, 5, 5, 5}, 5.0 / 127, 0, {127, 127, 127, 127, 127, 127, 127, 127, 127}},
      {{0, 0, 0, 0, 0, 0, 0, 0, 0}, 1, 0, {0, 0, 0, 0, 0, 0, 0, 0, 0}},
      {{1e-40f, 0, -1e-40f, 0, 0, 0, 0, 0, 0}, 1, 0, {0, 0, 0, 0, 0, 0, 0, 0, 0}},
      {{FLT_MAX, -FLT_MAX / 4, 0, FLT_MAX, 0, 0, 0, 0, 0}, 1.25 * (double)FLT_MAX / 127, 25,
       {127, 0, 25, 127, 25, 25, 25, 25, 25}}};
  const vit_kernels *tables[2];
  CHECK(vit_int8_size(1, 9) == 24 && vit_int8_size(3, 16) == 72 && vit_int8_size(1, 17) == 40,
        "%d bytes", (int)vit_int8_size(1, 9));
  for (int t = 0, n = k_tables(tables); t < n; t++)
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
      float row[6];
      tables[t]->quantize_rows(row, rows[r].x, 1, IN);
      CHECK(fabs(scale_of(row) / rows[r].scale - 1) < 1e-6 && zero_of(row) == rows[r].zero,
            "%s, row %d: scale %g, zero %d", tables[t]->name, (int)r, scale_of(row), zero_of(row));
      for (int i = 0; i < IN; i++)
        CHECK(bytes_of(row)[i] == rows[r].u[i], "%s, row %d: byte %d is %d, not %d",
              tables[t]->name, (int)r, i, bytes_of(row)[i], rows[r].u[i]);
    }
}

/* Against the same sum in double over what the bytes stand for, and against x W^T
   within what rounding to bytes allows: half a step of x, half a step of w. */
static void check_int8(int rows, int in, int out, float shift) {
  const vit_kernels *tables[2];
  float *x = k_floats(k_n(rows, in)), *w = k_floats(k_n(out, in)), *v = k_floats(k_n(out, in));
  float *b = k_floats((size_t)out), *y = k_floats(k_n(rows, out));
  float *q = k_floats(int8_floats(rows, in)), *p = k_floats(int8_floats(whole_panels(out), in));
  test_random(x, k_n(rows, in), 1, 5);
  test_random(w, k_n(out, in), 0.1f, 6);
  test_random(b, (size_t)out, 1, 7);
  for (size_t i = 0; i < k_n(rows, in); i++) x[i] += shift;
  vit_quantize_linear(p, w, in, out);
  vit_dequantize_linear(v, p, in, out);
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    tables[t]->quantize_rows(q, x, rows, in);
    tables[t]->linear_int8_forward(y, q, p, b, rows, in, 0, out);
    for (int r = 0; r < rows; r++)
      for (int o = 0; o < out; o++) {
        const float *row = q + int8_floats(r, in), *wo = w + k_n(o, in), *vo = v + k_n(o, in);
        double want = (double)b[o], exact = (double)b[o], size = fabs(want), off = 0, top = 0;
        for (int i = 0; i < in; i++) top = fmax(top, fabs((double)wo[i]));
        for (int i = 0; i < in; i++) {
          const double u = scale_of(row) * (bytes_of(row)[i] - zero_of(row)), xi = (double)x[r * in + i];
          CHECK(fabs(u - xi) <= 1.001 * scale_of(row), "x %g is now %g", xi, u);
          CHECK(fabs((double)(vo[i] - wo[i])) <= 0.501 * top / 64, "w %g is now %g", (double)wo[i], (double)vo[i]);
          want += u * (double)vo[i], size += fabs(u * (double)vo[i]);
          exact += xi * (double)wo[i];
          off += 1.001 * scale_of(row) * fabs((double)vo[i]) + 0.501 * top / 64 * fabs(xi);
        }
        CHECK(fabs((double)y[r * out + o] - want) <= 1e-6 * size, "%s: y is %.9g, the bytes say %.9g",
              tables[t]->name, (double)y[r * out + o], want);
        CHECK(fabs((double)y[r * out + o] - exact) <= off, "%s: y is %g, x W^T + b %g, allowed %g",
              tables[t]->name, (double)y[r * out + o], exact, off);
      }
  }
  free(x), free(w), free(v), free(b), free(y), free(q), free(p);
}
static void test_int8_oracle(void) {
  check_int8(5, 37, 19, 0);
  check_int8(3, 64, 33, 0.9f);
  check_int8(4, 200, 40, -3);
}

/* A row with a number that is none gives none, and only that row; a channel of
   zeros gives its bias; the longest row there may be does not overflow. */
static void test_int8_odd_numbers(void) {
  enum { R = 4, IN = 21, OUT = 3, LONG = 262128 };
  static const float odd[] = {NAN, INFINITY, -INFINITY};
  const vit_kernels *tables[2];
  float x[R * IN], w[OUT * IN], b[OUT] = {1, 2, 3}, y[R * OUT];
  float q[R * 10], *p = k_floats(int8_floats(whole_panels(OUT), IN));
  float *ones = k_floats(LONG), *lq = k_floats(int8_floats(1, LONG));
  float *lp = k_floats(int8_floats(whole_panels(1), LONG));
  test_random(x, R * IN, 1, 1);
  test_random(w, OUT * IN, 1, 2);
  for (int i = 0; i < IN; i++) w[IN + i] = 0;
  vit_quantize_linear(p, w, IN, OUT);
  for (int i = 0; i < LONG; i++) ones[i] = 1;
  vit_quantize_linear(lp, ones, LONG, 1);
  for (int t = 0, n = k_tables(tables); t < n; t++) {
    for (int at = 0; at < IN; at++)
      for (int i = 0; i < 3; i++) {
        const float keep = x[2 * IN + at];
        x[2 * IN + at] = odd[i];
        tables[t]->quantize_rows(q, x, R, IN);
        tables[t]->linear_int8_forward(y, q, p, b, R, IN, 0, OUT);
        x[2 * IN + at] = keep;
        for (int j = 0; j < R * OUT; j++)
          CHECK(j / OUT == 2 ? y[j] != y[j] : fabs((double)y[j]) < 100, "%s, %g at %d: y[%d] is %g",
                tables[t]->name, (double)odd[i], at, j, (double)y[j]);
        CHECK(y[1] == 2 && y[OUT + 1] == 2, "a channel of zeros gives %g", (double)y[1]);
      }
    tables[t]->quantize_rows(lq, ones, 1, LONG);
    tables[t]->linear_int8_forward(y, lq, lp, NULL, 1, LONG, 0, 1);
    CHECK(fabs((double)y[0] / LONG - 1) < 1e-6, "%s: %d ones give %g", tables[t]->name, LONG, (double)y[0]);
  }
  free(p), free(ones), free(lq), free(lp);
}

/* ---- int8: models ---------------------------------------------------------- */

static const struct { const char *name, *pairs; } kinds[] = {
    {"pre-norm", ""},
    {"post-norm", "norm=1 final_norm=0 mlp_width=33"},
    {"mean", "pool=1 class_token=0 gelu=1 positions=2 mlp_last_gelu=1 qkv_bias=0"},
    {"mask", "local_mask=3 positions=3 width=32 heads=3 head_dim=7 classes=67"},
    {"registers", "reg_tokens=3 pre_norm=1 fc_norm=1 gelu=2"},
    {"two heads", "dist_token=1 reg_tokens=2 classes=67"}};
enum { KINDS = 6, MOST_LOGITS = IMAGES * 67 };

static vit_config kind(int i) { return changed(small_model(), *kinds[i].pairs ? kinds[i].pairs : "depth=3"); }

/* Logits of all images: NULL or the sentence. */
static const char *logits_of(vit_model *m, float *logits) {
  vit_state s;
  int classes[IMAGES];
  vit_result r = vit_state_create(&s, m, IMAGES, VIT_FOR_INFERENCE, 1);
  if (!r) r = vit_predict(m, &s, images, IMAGES, classes, NULL);
  if (!r) memcpy(logits, s.logits, IMAGES * (size_t)m->config.classes * sizeof *logits);
  vit_state_free(&s);
  return r ? vit_error() : NULL;
}

static double spread(const float *x, int n) {
  double sum = 0, squares = 0;
  for (int i = 0; i < n; i++) sum += (double)x[i], squares += (double)x[i] * (double)x[i];
  return sqrt(squares / n - sum / n * (sum / n));
}

/* Close to the model of floats, measured by how much the logits differ among
   themselves; naive and SIMD nearly the same: a last bit of a layer norm may turn
   a byte. Threads change no bit. */
static void test_int8_models(void) {
  for (int i = 0; i < KINDS; i++) {
    float plain[MOST_LOGITS], simd[MOST_LOGITS], naive[MOST_LOGITS], many[MOST_LOGITS];
    vit_config c = kind(i);
    vit_memory plan;
    vit_model m;
    const size_t n = (size_t)(IMAGES * c.classes);
    double unit;
    CHECK(!vit_model_create(&m, &c, 3) && !vit_memory_plan(&c, 1, &plan), "%s", vit_error());
    CHECK(!logits_of(&m, plain), "%s", vit_error());
    m.threads = 1;
    CHECK(!vit_model_quantize(&m) && m.quantized && m.threads == 1, "%s", vit_error());
    CHECK(m.arena.size == plan.quantized + plan.constants, "%s: %.0f bytes, planned %.0f",
          kinds[i].name, (double)m.arena.size, (double)(plan.quantized + plan.constants));
    CHECK(!logits_of(&m, simd), "%s", vit_error());
    m.threads = 7;
    CHECK(!logits_of(&m, many), "%s", vit_error());
    CHECK_SAME_BITS("7 threads", many, simd, n);
    m.kernels = &vit_naive;
    CHECK(!logits_of(&m, naive), "%s", vit_error());
    unit = spread(plain, (int)n);
    CHECK(vit_max_difference(simd, plain, n) < 0.15 * unit, "%s: int8 is %.3f of the spread away",
          kinds[i].name, vit_max_difference(simd, plain, n) / unit);
    CHECK(vit_max_difference(simd, naive, n) < 0.05 * unit, "%s: naive is %.3f of the spread away",
          kinds[i].name, vit_max_difference(simd, naive, n) / unit);
    CHECK(vit_max_difference(simd, plain, n) > 0, "it is the model of floats");
    vit_model_free(&m);
  }
}

static void test_int8_memory(void) {
  vit_config (*const make[])(void) = {vit_config_ti16, vit_config_s16, vit_config_b16};
  for (int i = 0; i < 3; i++) {
    vit_config c = make[i]();
    vit_memory plan;
    CHECK(!vit_memory_plan(&c, 1, &plan), "%s", vit_error());
    CHECK((double)plan.quantized <= 0.27 * (double)plan.parameters, "%.4f of the floats",
          (double)plan.quantized / (double)plan.parameters);
  }
}

static void refused(vit_result r, const char *what) {
  CHECK(r == VIT_ERR_STATE && strstr(vit_error(), "quantized"), "%s: %d, %s", what, (int)r, vit_error());
}

/* What needs floats refuses; a state from before is as good as a new one; attention
   is there. */
static void test_int8_refusals(void) {
  vit_config c = small_model();
  vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAMW);
  vit_optimizer o;
  vit_model m, packed;
  vit_state s, before, train;
  vit_safetensors none;
  float logits[IMAGES * CLASSES], wrong[12 * 16];
  int classes[IMAGES];
  double loss;
  memset(&none, 0, sizeof none);
  CHECK(!vit_model_create(&m, &c, 1) && !vit_optimizer_create(&o, &m, &oc) &&
            !vit_state_create(&before, &m, IMAGES, VIT_FOR_INFERENCE, 1) &&
            !vit_state_create(&train, &m, IMAGES, VIT_FOR_TRAINING, 1), "%s", vit_error());
  CHECK(!vit_model_create(&packed, &c, 1) && !vit_model_pack(&packed), "%s", vit_error());
  CHECK(vit_model_quantize(&packed) == VIT_ERR_STATE && strstr(vit_error(), "packed"), "%s", vit_error());
  vit_model_free(&packed);
  CHECK(vit_model_quantize(&packed) == VIT_ERR_STATE, "quantized what is not there");
  CHECK(!vit_forward(&m, &train, images, IMAGES) && !vit_loss(&m, &train, labels, 0, &loss), "%s", vit_error());
  CHECK(!vit_model_quantize(&m), "%s", vit_error());
  CHECK(!logits_of(&m, logits), "%s", vit_error());
  CHECK(!vit_predict(&m, &before, images, IMAGES, classes, NULL), "%s", vit_error());
  CHECK_SAME_BITS("a state from before", before.logits, logits, IMAGES * CLASSES);
  refused(vit_model_quantize(&m), "again");
  refused(vit_model_pack(&m), "pack");
  refused(vit_model_unpack(&m), "unpack");
  refused(vit_backward(&m, &train, 1), "backward");
  refused(vit_optimizer_step(&o, &m, &train, 0.1f), "step");
  refused(vit_model_load(&m, &none, ""), "load");
  refused(vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 1), "a state for training");
  CHECK(!vit_state_create(&s, &m, 2, VIT_KEEP_ATTENTION, 1) && !vit_predict(&m, &s, images, 2, classes, NULL) &&
            vit_attention(&m, &s, 1, 1, 1), "%s", vit_error());
  memcpy(wrong, images, sizeof wrong);
  wrong[100] = NAN;
  CHECK(vit_predict(&m, &s, wrong, 1, classes, NULL) == VIT_ERR_DIVERGED, "a pixel is NaN: %s", vit_error());
  wrong[100] = INFINITY;
  CHECK(vit_predict(&m, &s, wrong, 1, classes, NULL) == VIT_ERR_DIVERGED, "infinite: %s", vit_error());
  wrong[100] = 3e38f, wrong[101] = -3e38f;
  if (!vit_predict(&m, &s, wrong, 1, classes, NULL)) CHECK(vit_max_difference(s.logits, s.logits, CLASSES) == 0, "huge");
  vit_state_free(&s), vit_state_free(&before), vit_state_free(&train);
  vit_optimizer_free(&o);
  vit_model_free(&m);
}

/* vit_evaluate sees what vit_predict sees. */
static void test_int8_evaluate(void) {
  static uint8_t pixels[IMAGES * 12 * 16], truth[IMAGES];
  vit_config c = small_model();
  vit_model m;
  vit_dataset d;
  float logits[IMAGES * CLASSES], same[IMAGES * CLASSES], keep[IMAGES * 12 * 16];
  double loss, accuracy;
  memset(&d, 0, sizeof d);
  d.count = IMAGES, d.channels = 1, d.height = 12, d.width = 16, d.classes = CLASSES;
  d.pixels = pixels, d.labels = truth;
  for (int i = 0; i < 3; i++) d.std[i] = 1;
  memcpy(keep, images, sizeof keep);
  for (int i = 0; i < IMAGES * 12 * 16; i++) {
    pixels[i] = (uint8_t)(127 + 100 * images[i]);
    images[i] = (float)pixels[i] / 255;
  }
  for (int i = 0; i < IMAGES; i++) truth[i] = (uint8_t)labels[i];
  CHECK(!vit_model_create(&m, &c, 1) && !vit_model_quantize(&m) && !logits_of(&m, same), "%s", vit_error());
  CHECK(!vit_evaluate(&m, &d, &loss, &accuracy, NULL, NULL, logits) && loss > 0, "%s", vit_error());
  CHECK_CLOSE("evaluated", logits, same, IMAGES * CLASSES, 0, 0.05);
  memcpy(images, keep, sizeof keep);
  vit_model_free(&m);
}

/* Not finite, too long, no memory: m is as it was. */
static void test_int8_failures(void) {
  static const char *const names[] = {"blocks.1.mlp.fc2.weight", "cls_token", "head.bias"};
  vit_config c = small_model(), wide = changed(small_model(), "mlp_width=262144 width=2 heads=1 head_dim=1 depth=1");
  vit_model m;
  vit_tensor t;
  float before[IMAGES * CLASSES], after[IMAGES * CLASSES];
  no_leak("before");
  CHECK(!vit_model_create(&m, &c, 1) && !logits_of(&m, before), "%s", vit_error());
  for (int i = 0; i < 3; i++)
    for (int infinite = 0; infinite < 2; infinite++) {
      float *w, keep;
      CHECK(!vit_tensor_find(&c, names[i], &t), "%s", vit_error());
      w = m.params.block + t.offset + t.count / 2;
      keep = *w, *w = infinite ? -INFINITY : NAN;
      CHECK(vit_model_quantize(&m) == VIT_ERR_DIVERGED && strstr(vit_error(), names[i]), "%s", vit_error());
      *w = keep;
    }
  heap.calls = 0, heap.fail_at = 1;
  CHECK(vit_model_quantize(&m) == VIT_ERR_NO_MEMORY && heap.calls == 1, "%d, %s", heap.calls, vit_error());
  heap.fail_at = 0;
  CHECK(!m.quantized && !logits_of(&m, after), "%s", vit_error());
  CHECK_SAME_BITS("after", after, before, IMAGES * CLASSES);
  CHECK(!vit_model_quantize(&m), "%s", vit_error());
  vit_model_free(&m);
  CHECK(!vit_model_create(&m, &wide, 1), "%s", vit_error());
  fails(vit_model_quantize(&m), VIT_ERR_CONFIG,
        "a linear layer of this model has 262144 inputs; quantized they may be at most 262128, or their "
        "sums would not fit in 32 bits", "");
  vit_model_free(&m);
  no_leak("failures");
}

/* ---- int8: files ----------------------------------------------------------- */

static double size_of(const char *path) {
  struct stat info;
  return stat(path, &info) ? 0 : (double)info.st_size;
}

/* Back from its file a model has the same bits, and another dialect's file is the
   same: rows of I8 and scales. */
static void test_int8_files(void) {
  const char *path = path_of("int8.safetensors"), *plain = path_of("plain.safetensors");
  for (int i = 0; i < KINDS; i++) {
    vit_config c = kind(i);
    vit_model m, back;
    vit_safetensors f;
    vit_safetensor q, s;
    float a[MOST_LOGITS], b[MOST_LOGITS], w[99 * 33], v[99 * 33];
    const int D = c.width, P = 16 * c.channels;
    CHECK(!vit_model_create(&m, &c, 3) && !vit_model_save(&m, NULL, plain), "%s", vit_error());
    memcpy(w, m.params.patch_w, (size_t)(D * P) * sizeof *w);
    CHECK(!vit_model_quantize(&m) && !logits_of(&m, a) && !vit_model_save(&m, NULL, path), "%s", vit_error());
    vit_dequantize_linear(v, m.params.patch_w, P, D);
    CHECK(!vit_safetensors_open(&f, path) && !vit_safetensors_find(&f, "patch_embed.proj.weight", &q) &&
              !vit_safetensors_find(&f, "patch_embed.proj.weight_scale", &s), "%s", vit_error());
    CHECK(!strcmp(q.type, "I8") && q.dims == 4 && q.shape[0] == D && q.shape[2] == 4 && !strcmp(s.type, "F32") &&
              s.dims == 2 && s.shape[0] == D && s.shape[1] == 1, "%s %s", q.type, s.type);
    for (int o = 0; o < D; o++)
      for (int j = 0; j < P; j++) {
        float scale;
        memcpy(&scale, (const char *)s.data + 4 * o, 4);
        CHECK(scale * ((const signed char *)q.data)[o * P + j] == v[o * P + j], "number %d, %d", o, j);
      }
    for (int j = 0; j < f.count; j++)
      CHECK(strcmp(f.entries[j].type, "F32") || ((const unsigned char *)f.entries[j].data - f.bytes) % 4 == 0,
            "%s does not lie even", f.entries[j].name);
    vit_safetensors_close(&f);
    CHECK(!vit_model_open(&back, path, NULL) && back.quantized, "%s", vit_error());
    CHECK(back.params.count == m.params.count &&
              !memcmp(back.params.block, m.params.block, m.params.count * sizeof(float)), "%s: other bytes", kinds[i].name);
    CHECK(!logits_of(&back, b), "%s", vit_error());
    CHECK_SAME_BITS("opened", b, a, IMAGES * c.classes);
    vit_model_free(&back);
    CHECK(!vit_model_create(&back, &c, 4) && !vit_safetensors_open(&f, path), "%s", vit_error());
    CHECK(vit_model_load(&back, &f, "") == VIT_ERR_FORMAT && strstr(vit_error(), "wants F32"), "%s", vit_error());
    vit_safetensors_close(&f);
    vit_model_free(&back);
    vit_model_free(&m);
  }
  no_leak("files");
}

static void test_int8_file_size(void) {
  const char *path = path_of("int8.safetensors"), *plain = path_of("plain.safetensors");
  vit_config c = changed(vit_config_mnist(), "width=192 heads=3 mlp_width=768 depth=2");
  vit_model m;
  CHECK(!vit_model_create(&m, &c, 1) && !vit_model_save(&m, NULL, plain), "%s", vit_error());
  CHECK(!vit_model_quantize(&m) && !vit_model_save(&m, NULL, path), "%s", vit_error());
  CHECK(size_of(path) < 0.28 * size_of(plain), "%.0f of %.0f bytes", size_of(path), size_of(plain));
  vit_model_free(&m);
}

/* A file with one tensor changed: a name, a type, or a number in it. */
static void check_file(const char *name, const char *rename, const char *type, const float *number,
                       vit_result want, const char *sentence) {
  const char *from = path_of("int8.safetensors"), *to = path_of("changed.safetensors");
  vit_safetensors f;
  vit_safetensor *t = NULL;
  vit_model m;
  const char *notes[200];
  float *copy = NULL;
  int n = 0;
  if (!CHECK(!vit_safetensors_open(&f, from), "%s", vit_error())) return;
  for (int i = 0; i < f.count; i++)
    if (!strcmp(f.entries[i].name, name)) t = f.entries + i;
  for (; n < 198 && n / 2 < f.notes; n += 2) notes[n] = f.names[n / 2].name, notes[n + 1] = f.names[n / 2].text;
  notes[n] = NULL;
  if (!CHECK(t != NULL, "no %s", name)) return;
  copy = (float *)calloc(t->count, sizeof(float));
  memcpy(copy, t->data, t->count * (strcmp(t->type, "I8") ? 4 : 1));
  if (rename) t->name = rename;
  if (type) snprintf(t->type, sizeof t->type, "%s", type);
  if (number && !strcmp(t->type, "I8")) ((signed char *)copy)[t->count - 1] = (signed char)*number;
  else if (number) copy[t->count - 1] = *number;
  t->data = copy;
  CHECK(!vit_safetensors_write(to, f.entries, f.count, notes), "%s", vit_error());
  if (want) fails(vit_model_open(&m, to, NULL), want, sentence, ""), CHECK(!m.params.block, "half a model");
  else CHECK(!vit_model_open(&m, to, NULL), "%s", vit_error());
  vit_model_free(&m);
  vit_safetensors_close(&f);
  free(copy);
}

static void test_int8_bad_files(void) {
  const char *path = path_of("int8.safetensors"), *fc1 = "blocks.1.mlp.fc1.weight", *scale = "blocks.1.mlp.fc1.weight_scale";
  static const float numbers[] = {64, -64, 65, -65, -128, 0, -1, NAN, INFINITY};
  vit_config c = small_model();
  vit_model m;
  CHECK(!vit_model_create(&m, &c, 1) && !vit_model_quantize(&m) && !vit_model_save(&m, NULL, path), "%s", vit_error());
  vit_model_free(&m);
  check_file(fc1, NULL, NULL, NULL, VIT_OK, "");
  check_file(fc1, NULL, NULL, numbers, VIT_OK, "");
  check_file(fc1, NULL, NULL, numbers + 1, VIT_OK, "");
  for (int i = 2; i < 5; i++) {
    char text[200];
    snprintf(text, sizeof text, "tensor %s: number 479 is %d; a quantized model has numbers from -64 to 64", fc1, (int)numbers[i]);
    check_file(fc1, NULL, NULL, numbers + i, VIT_ERR_FORMAT, text);
  }
  for (int i = 5; i < 9; i++) {
    char text[200];
    snprintf(text, sizeof text, "tensor %s: scale 23 is %g; it must be finite and above 0", scale, (double)numbers[i]);
    check_file(scale, NULL, NULL, numbers + i, VIT_ERR_FORMAT, text);
  }
  check_file(scale, "other", NULL, NULL, VIT_ERR_FORMAT, "the file has no tensor \"blocks.1.mlp.fc1.weight_scale\"");
  check_file(fc1, NULL, "F32", NULL, VIT_ERR_FORMAT,
             "tensor blocks.1.mlp.fc1.weight is F32 [24,20] in the file, the model wants I8 [24,20]");
  check_file("head.weight", NULL, "F32", NULL, VIT_ERR_FORMAT,
             "tensor patch_embed.proj.weight is I8 [20,1,4,4] in the file, the model wants F32 [20,1,4,4]");
  check_file(fc1, NULL, "U8", NULL, VIT_ERR_FORMAT,
             "tensor blocks.1.mlp.fc1.weight is U8 [24,20] in the file, the model wants I8 [24,20]");
  no_leak("bad files");
}

int main(void) {
  snprintf(folder, sizeof folder, "build/test_11_speed_%ld", (long)getpid());
  folder_of("");
  test_random(images, IMAGES * 12 * 16, 1, 1);
  RUN(test_cpu_without_simd);
  RUN(test_threads);
  RUN(test_threads_out_of_range);
  RUN(test_batch_larger_than_planned);
  RUN(test_int8_simd);
  RUN(test_int8_rows_by_hand);
  RUN(test_int8_oracle);
  RUN(test_int8_odd_numbers);
  RUN(test_int8_models);
  RUN(test_int8_memory);
  RUN(test_int8_refusals);
  RUN(test_int8_evaluate);
  RUN(test_int8_failures);
  RUN(test_int8_files);
  RUN(test_int8_file_size);
  RUN(test_int8_bad_files);
  remove_all();
  return test_end("11_speed");
}
