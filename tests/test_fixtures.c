/* Does vit.h compute what PyTorch computes? Each fixtures/model_*.safetensors
   holds one small model: its parameters, every intermediate of a forward pass,
   the loss, all gradients, and what three optimisers make of it in three steps.
   A tensor of the file that nothing was compared with fails the test. */
#include "test.h"

#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"

enum { MOST_TENSORS = 1024 };
static const double RTOL = 1e-4, ATOL = 1e-5;

/* One model file, and what the test has of it. */
static struct {
  const char *file;
  const vit_kernels *kernels;
  vit_safetensors f;
  vit_config config;
  unsigned char seen[MOST_TENSORS]; /* tensor i was compared */
  int batch, steps, *labels;
  float *images, smoothing;
  int compared; /* tensors */
  double worst; /* difference, as a part of the tensor's largest number */
} fix;

/* ---- reading ------------------------------------------------------------- */

/* "value" of "key=value key2=value2", as a number or as text. */
static int pair_text(const char *pairs, const char *key, char *value,
                     size_t size) {
  size_t length = strlen(key), n = 0;
  for (const char *p = pairs; p; p = strchr(p, ' ')) {
    if (*p == ' ') p++;
    if (strncmp(p, key, length) || p[length] != '=') continue;
    for (p += length + 1; *p && *p != ' ' && n + 1 < size; p++) value[n++] = *p;
    value[n] = '\0';
    return 1;
  }
  return 0;
}

static double pair_number(const char *pairs, const char *key, double other) {
  char text[40];
  return pairs && pair_text(pairs, key, text, sizeof text) ? strtod(text, NULL)
                                                           : other;
}

/* A copy of the tensor, marked as seen; NULL (and a failure) if it is not there
   or does not hold n numbers. */
static float *take(const char *name, size_t n) {
  vit_safetensor t;
  float *copy;
  int i = 0;
  while (vit_safetensors_at(&fix.f, i, &t) && strcmp(t.name, name)) i++;
  if (!CHECK(vit_safetensors_at(&fix.f, i, &t), "%s has no %s", fix.file, name) ||
      !CHECK(t.count == n && !strcmp(t.type, "F32"),
             "%s: %s has %lu numbers (%s), here are %lu", fix.file, name,
             (unsigned long)t.count, t.type, (unsigned long)n))
    return NULL;
  fix.seen[i] = 1;
  copy = (float *)malloc(n * sizeof(float) + 1);
  if (copy) memcpy(copy, t.data, n * sizeof(float));
  return copy;
}

static void compare(const char *name, const float *have, size_t n) {
  float *want = take(name, n);
  double largest = 0;
  char text[160];
  if (!want) return;
  snprintf(text, sizeof text, "%s %s %s", fix.file, fix.kernels->name, name);
  CHECK_CLOSE(text, have, want, n, RTOL, ATOL);
  for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)want[i]));
  if (largest > 0)
    fix.worst = fmax(fix.worst, vit_max_difference(have, want, n) / largest);
  fix.compared++;
  free(want);
}

static void compare_tensors(const char *prefix, const float *block) {
  vit_tensor t;
  for (int i = 0; vit_tensor_at(&fix.config, i, &t); i++) {
    char name[120];
    snprintf(name, sizeof name, "%s%s", prefix, t.name);
    compare(name, block + t.offset, t.count);
  }
}

static int open_fixture(const char *file) {
  char path[120], *pairs, *pair;
  const char *text;
  float *labels;
  size_t pixels;
  memset(fix.seen, 0, sizeof fix.seen);
  fix.file = file;
  snprintf(path, sizeof path, "tests/fixtures/%s.safetensors", file);
  if (!CHECK(!vit_safetensors_open(&fix.f, path), "%s", vit_error())) return 0;
  text = vit_safetensors_metadata(&fix.f, "config");
  if (!CHECK(text && strlen(text) < 2000, "%s has no config", file)) return 0;

  /* start far from the file's values: it names every field */
  fix.config = vit_config_l16();
  pairs = (char *)malloc(strlen(text) + 1);
  if (!pairs) return 0;
  strcpy(pairs, text);
  for (pair = strtok(pairs, " "); pair; pair = strtok(NULL, " ")) {
    char *value = strchr(pair, '=');
    if (value) *value++ = '\0';
    CHECK(value && !vit_config_set(&fix.config, pair, value), "%s", vit_error());
  }
  free(pairs);
  CHECK(!vit_config_resolve(&fix.config), "%s", vit_error());

  text = vit_safetensors_metadata(&fix.f, "batch");
  fix.batch = text ? atoi(text) : 0;
  text = vit_safetensors_metadata(&fix.f, "smoothing");
  fix.smoothing = text ? (float)strtod(text, NULL) : -1;
  text = vit_safetensors_metadata(&fix.f, "steps");
  fix.steps = text ? atoi(text) : 0;
  pixels = (size_t)(fix.config.channels * fix.config.image_height *
                    fix.config.image_width);
  fix.images = take("images", (size_t)fix.batch * pixels);
  labels = take("labels", (size_t)fix.batch);
  fix.labels = (int *)malloc((size_t)fix.batch * sizeof(int) + 1);
  if (!fix.images || !labels || !fix.labels) return 0;
  for (int i = 0; i < fix.batch; i++) fix.labels[i] = (int)labels[i];
  free(labels);
  return 1;
}

static void close_fixture(void) {
  free(fix.images);
  free(fix.labels);
  vit_safetensors_close(&fix.f);
}

/* A model with the file's parameters. */
static int load(vit_model *m) {
  vit_result r = vit_model_create(m, &fix.config, 1);
  m->kernels = fix.kernels;
  m->threads = 1; /* models this small only wait for other threads */
  if (!r) r = vit_model_load(m, &fix.f, "param/");
  return CHECK(!r, "%s: %s", fix.file, vit_error());
}

/* ---- comparing ----------------------------------------------------------- */

/* The state's activation of that name, and how many numbers it has. */
static const float *activation(const vit_state *s, const char *name, int layer,
                               size_t *count) {
  const vit_config *c = &fix.config;
  const int grad = 1, B = fix.batch, N = vit_config_patches(c),
            T = vit_config_tokens(c), D = c->width, H = c->heads,
            I = c->heads * c->head_dim, M = c->mlp_width, K = c->classes,
            P = c->channels * c->patch_height * c->patch_width, Q = T;
  const int units[] = {1, B, B * N, B * T, B * H}; /* VIT__ALL, VIT__IMAGE, ... */
  (void)grad, (void)Q;
#define FIELD(field, where, unit, exists, floats)                              \
  if (!strcmp(name, #field)) {                                                 \
    *count = (exists) ? (size_t)(units[VIT__##unit] * (floats)) : 0;           \
    return s->field ? s->field + (size_t)layer * s->field##_stride : NULL;     \
  }
  VIT_ACTIVATIONS(FIELD)
#undef FIELD
  return NULL;
}

/* Where the class token is pooled, the last block makes one row an image of most
   things, and so does what follows: those rows of the file's. */
static int has_class_rows(const char *name, int layer) {
  const vit_config *c = &fix.config;
  static const char *const all[] = {"qkv", "attn", "norm1", "norm1_mean",
                                    "norm1_rstd"};
  if (c->pool != VIT_POOL_CLS) return 0;
  if (!strncmp(name, "norm", 4) && name[4] != '1' && name[4] != '2') return 1;
  for (int i = 0; i < (c->norm == VIT_NORM_PRE ? 5 : 2); i++)
    if (!strcmp(name, all[i])) return 0;
  return layer == c->depth - 1;
}

static void compare_class_rows(const char *name, const float *have, size_t count) {
  const size_t T = (size_t)vit_config_tokens(&fix.config);
  const size_t B = (size_t)fix.batch, each = count / B / T;
  float *want = take(name, count);
  if (!want) return;
  for (size_t b = 0; b < B; b++)
    memmove(want + b * each, want + b * T * each, each * sizeof *want);
  CHECK_CLOSE(name, have, want, B * each, RTOL, ATOL);
  free(want);
}

/* Of its qkv there are K and V, and apart from them Q, where it is asked for. */
static void compare_last_qkv(const char *name, const vit_state *s) {
  const vit_config *c = &fix.config;
  const size_t I = (size_t)(c->heads * c->head_dim) ;
  const size_t rows = (size_t)fix.batch * (size_t)vit_config_tokens(c);
  const float *kv = s->qkv + (size_t)(c->depth - 1) * s->qkv_stride;
  float *have = (float *)malloc(rows * 3 * I * sizeof *have);
  for (size_t t = 0; have && t < rows; t++) {
    memcpy(have + t * 3 * I, s->all_q + t * I, I * sizeof *have);
    memcpy(have + t * 3 * I + I, kv + t * 2 * I, 2 * I * sizeof *have);
  }
  if (CHECK(have != NULL, "no memory")) compare(name, have, rows * 3 * I);
  free(have);
}

/* All "stage/NAME" and "stage/LAYER/NAME" of the file. */
static void compare_stages(const vit_state *s) {
  vit_safetensor t;
  for (int i = 0; vit_safetensors_at(&fix.f, i, &t); i++) {
    const char *name = t.name + strlen("stage/");
    const float *have;
    size_t count = 0;
    int layer = -1;
    if (strncmp(t.name, "stage/", 6)) continue;
    if (strchr(name, '/')) {
      layer = atoi(name);
      name = strchr(name, '/') + 1;
    }
    have = layer < fix.config.depth
               ? activation(s, name, layer < 0 ? 0 : layer, &count)
               : NULL;
    if (!CHECK(have != NULL, "%s: the state has no %s", fix.file, t.name))
      continue;
    if (!strcmp(name, "qkv") && layer == fix.config.depth - 1 &&
        fix.config.pool == VIT_POOL_CLS)
      compare_last_qkv(t.name, s);
    else if (has_class_rows(name, layer)) compare_class_rows(t.name, have, count);
    else compare(t.name, have, count);
  }
}

/* Forward, every stage, loss, backward, every gradient. */
static void compare_pass(void) {
  vit_model m;
  vit_state s;
  double loss = 0;
  float loss32;
  if (!load(&m)) return;
  compare_tensors("param/", m.params.block);
  if (!CHECK(!vit_state_create(&s, &m, fix.batch,
                               VIT_FOR_TRAINING | VIT_INPUT_GRADIENT |
                                   VIT_KEEP_ATTENTION,
                               1),
             "%s", vit_error()))
    return;
  CHECK(!vit_forward(&m, &s, fix.images, fix.batch), "%s", vit_error());
  CHECK(!vit_loss(&m, &s, fix.labels, fix.smoothing, &loss), "%s", vit_error());
  compare_stages(&s);
  loss32 = (float)loss;
  compare("loss", &loss32, 1);
  CHECK(loss == s.loss, "the state remembers another loss");
  CHECK(!vit_backward(&m, &s, 1), "%s", vit_error());
  compare_tensors("grad/", s.grads.block);
  compare("grad/images", s.dimages,
          (size_t)fix.batch * (size_t)(fix.config.channels *
                                       fix.config.image_height *
                                       fix.config.image_width));
  vit_state_free(&s);
  vit_model_free(&m);
}

static vit_schedule schedule_of(const char *pairs) {
  vit_schedule s = vit_schedule_constant((float)pair_number(pairs, "rate", -1));
  char kind[20] = "";
  pair_text(pairs, "schedule", kind, sizeof kind);
  if (!strcmp(kind, "linear")) s.kind = VIT_LINEAR;
  if (!strcmp(kind, "cosine")) s.kind = VIT_COSINE;
  if (!strcmp(kind, "step")) s.kind = VIT_STEP;
  CHECK(s.kind != VIT_CONSTANT, "%s: schedule \"%s\"", fix.file, kind);
  s.warmup = (int)pair_number(pairs, "warmup", 0);
  s.total = (int)pair_number(pairs, "total", 0);
  s.floor = (float)pair_number(pairs, "floor", 0);
  s.every = (int)pair_number(pairs, "every", 1);
  s.factor = (float)pair_number(pairs, "factor", 1);
  return s;
}

/* The logits in inference, more closely. */
static void compare_logits(void) {
  const size_t n = (size_t)fix.batch * (size_t)fix.config.classes;
  float *want = take("stage/logits", n);
  vit_model m;
  vit_state s;
  if (!want || !load(&m)) return;
  CHECK(!vit_state_create(&s, &m, fix.batch, VIT_FOR_INFERENCE, 1) &&
            !vit_forward(&m, &s, fix.images, fix.batch),
        "%s", vit_error());
  CHECK_CLOSE(fix.file, s.logits, want, n, 1e-5, 1e-6);
  vit_state_free(&s);
  vit_model_free(&m);
  free(want);
}

/* Some steps of one optimiser on the one batch. */
static void compare_training(const char *which, vit_algorithm algorithm) {
  const char *pairs = vit_safetensors_metadata(&fix.f, which);
  vit_optimizer_config c = vit_optimizer_defaults(algorithm);
  float loss[16], norm[16], rate[16];
  char name[120];
  vit_schedule schedule;
  vit_optimizer o;
  vit_model m;
  vit_state s;
  if (!CHECK(pairs && fix.steps > 0 && fix.steps <= 16, "%s has no %s", fix.file,
             which) ||
      !load(&m))
    return;
  schedule = schedule_of(pairs);
  c.momentum = (float)pair_number(pairs, "momentum", 0);
  c.beta1 = (float)pair_number(pairs, "beta1", 0);
  c.beta2 = (float)pair_number(pairs, "beta2", 0);
  c.eps = (float)pair_number(pairs, "eps", 1);
  c.weight_decay = (float)pair_number(pairs, "decay", -1);
  c.clip_norm = (float)pair_number(pairs, "clip", -1);
  CHECK(!vit_optimizer_create(&o, &m, &c) &&
            !vit_state_create(&s, &m, fix.batch, VIT_FOR_TRAINING, 1),
        "%s", vit_error());
  for (int i = 0; i < fix.steps; i++) {
    double l = 0;
    rate[i] = vit_schedule_rate(&schedule, NULL, i);
    vit_zero_gradients(&s);
    vit_forward(&m, &s, fix.images, fix.batch);
    vit_loss(&m, &s, fix.labels, fix.smoothing, &l);
    vit_backward(&m, &s, 1);
    CHECK(!vit_optimizer_step(&o, &m, &s, rate[i]), "%s", vit_error());
    loss[i] = (float)l;
    norm[i] = (float)o.norm;
  }
  CHECK(o.step == fix.steps, "%d steps counted, %d done", o.step, fix.steps);
  snprintf(name, sizeof name, "trace/%s/loss", which);
  compare(name, loss, (size_t)fix.steps);
  snprintf(name, sizeof name, "trace/%s/norm", which);
  compare(name, norm, (size_t)fix.steps);
  snprintf(name, sizeof name, "trace/%s/rate", which);
  compare(name, rate, (size_t)fix.steps);
  snprintf(name, sizeof name, "after/%s/", which);
  compare_tensors(name, m.params.block);
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- the same in every kind of state ------------------------------------- */

static void same_attention(const vit_model *m, const vit_state *a,
                           const vit_state *b) {
  const size_t TT = (size_t)vit_config_tokens(&fix.config) *
                    (size_t)vit_config_tokens(&fix.config);
  for (int l = 0; l < fix.config.depth; l++)
    for (int i = 0; i < fix.batch; i++)
      for (int h = 0; h < fix.config.heads; h++) {
        const float *p = vit_attention(m, a, l, i, h);
        const float *q = vit_attention(m, b, l, i, h);
        if (CHECK(p && q, "no attention of layer %d", l))
          CHECK_SAME_BITS("attention", p, q, TT);
      }
}

static void same_states(void) {
  const size_t BK = (size_t)fix.batch * (size_t)fix.config.classes;
  const size_t pixels = (size_t)(fix.config.channels * fix.config.image_height *
                                 fix.config.image_width);
  vit_model m;
  vit_state train, infer, keep, large;
  double loss, loss_large;
  vit_result r;
  if (!load(&m)) return;
  r = vit_state_create(&train, &m, fix.batch,
                       VIT_FOR_TRAINING | VIT_KEEP_ATTENTION, 1);
  if (!r) r = vit_state_create(&infer, &m, fix.batch, VIT_FOR_INFERENCE, 1);
  if (!r) r = vit_state_create(&keep, &m, fix.batch, VIT_KEEP_ATTENTION, 1);
  if (!r) r = vit_state_create(&large, &m, fix.batch + 3, VIT_FOR_TRAINING, 1);
  if (!CHECK(!r, "%s", vit_error())) return;
  vit_forward(&m, &train, fix.images, fix.batch);
  vit_forward(&m, &infer, fix.images, fix.batch);
  vit_forward(&m, &keep, fix.images, fix.batch);
  vit_forward(&m, &large, fix.images, fix.batch);
  CHECK_SAME_BITS("inference", infer.logits, train.logits, BK);
  CHECK_SAME_BITS("kept attention", keep.logits, train.logits, BK);
  CHECK_SAME_BITS("large state", large.logits, train.logits, BK);
  CHECK_SAME_BITS("inference", infer.probs, train.probs, BK);
  same_attention(&m, &train, &keep);
  CHECK(!vit_attention(&m, &infer, 0, 0, 0), "attention that was not kept");

  /* a state with room for more images has the same gradients */
  vit_loss(&m, &train, fix.labels, fix.smoothing, &loss);
  vit_loss(&m, &large, fix.labels, fix.smoothing, &loss_large);
  CHECK(loss == loss_large, "loss %g and %g", loss, loss_large);
  vit_backward(&m, &train, 1);
  vit_backward(&m, &large, 1);
  CHECK_SAME_BITS("gradients of a large state", large.grads.block,
                  train.grads.block, train.grads.count);

  /* each image alone gives what it gives in the batch */
  for (int i = 0; i < fix.batch; i++) {
    vit_forward(&m, &infer, fix.images + (size_t)i * pixels, 1);
    CHECK_SAME_BITS("one image", infer.logits,
                    train.logits + i * fix.config.classes, fix.config.classes);
  }
  vit_state_free(&train);
  vit_state_free(&infer);
  vit_state_free(&keep);
  vit_state_free(&large);
  vit_model_free(&m);
}

/* ---- files --------------------------------------------------------------- */

static void check_file(const char *file) {
  const vit_kernels *tables[2] = {&vit_naive, vit_best_kernels()};
  for (int i = 0; i < 2; i++) {
    vit_safetensor t;
    fix.kernels = tables[i];
    fix.compared = 0, fix.worst = 0;
    if (i && tables[i] == tables[0]) break;
    if (!open_fixture(file)) return;
    compare_pass();
    compare_training("sgd", VIT_SGD);
    compare_training("adam", VIT_ADAM);
    compare_training("adamw", VIT_ADAMW);
    same_states();
    for (int n = 0; vit_safetensors_at(&fix.f, n, &t) && n < MOST_TENSORS; n++)
      CHECK(fix.seen[n], "%s: nothing was compared with %s", file, t.name);
    close_fixture();
    printf("%s, %s: %d tensors, largest difference %.1e of a tensor's largest "
           "number\n", file, fix.kernels->name, fix.compared, fix.worst);
  }
}

/* Models of timm with the options of published ones: one step, and every kind of
   state. Their logits are as close as float can be expected to be. */
static void check_options(const char *file) {
  const vit_kernels *tables[2] = {&vit_naive, vit_best_kernels()};
  for (int i = 0; i < 2; i++) {
    vit_safetensor t;
    fix.kernels = tables[i];
    if (i && tables[i] == tables[0]) break;
    if (!open_fixture(file)) return;
    compare_pass();
    compare_logits();
    same_states();
    for (int n = 0; vit_safetensors_at(&fix.f, n, &t) && n < MOST_TENSORS; n++)
      CHECK(fix.seen[n], "%s: nothing was compared with %s", file, t.name);
    close_fixture();
  }
}

static void test_model_a(void) { check_file("model_a"); }
static void test_model_b(void) { check_file("model_b"); }
static void test_model_c(void) { check_file("model_c"); }
static void test_model_d(void) { check_file("model_d"); }
static void test_model_e(void) { check_file("model_e"); }
static void test_model_odd(void) { check_file("model_odd"); }
static void test_options_clip(void) { check_options("options_clip"); }
static void test_options_registers(void) { check_options("options_registers"); }
static void test_options_mean(void) { check_options("options_mean"); }
static void test_options_all(void) { check_options("options_all"); }
static void test_options_distilled(void) { check_options("options_distilled"); }

int main(void) {
  RUN(test_model_a);
  RUN(test_model_b);
  RUN(test_model_c);
  RUN(test_model_d);
  RUN(test_model_e);
  RUN(test_model_odd);
  RUN(test_options_clip);
  RUN(test_options_registers);
  RUN(test_options_mean);
  RUN(test_options_all);
  RUN(test_options_distilled);
  return test_end("fixtures");
}
