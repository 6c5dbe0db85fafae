/* 15 browser: what the page asks of vit.h. The page holds two models: the one
   that is looked at, and the pupil, which is being trained. Whatever can fail
   returns 0 when all is well; then page_error() has the sentence.

   The same file compiles for the machine itself: the tests compare the two. */
#define VIT_IMPLEMENTATION
#include "../../vit.h"

/* The generator of drawn digits is a program; the page wants its functions. */
#define main digits_main
#include "../../data/digits.c"
#undef main

#ifdef __EMSCRIPTEN__
#include <emscripten.h>
#define PAGE EMSCRIPTEN_KEEPALIVE
#else
#define PAGE
#endif

enum { DIGIT = 28, GROUP = 8 }; /* GROUP: most images at once */

static char sentence[400];
static int page_fail(const char *text) {
  snprintf(sentence, sizeof sentence, "%s", text);
  return 1;
}
static int page_result(vit_result r) { return r ? page_fail(vit_error()) : 0; }

PAGE const char *page_error(void) { return sentence; }
PAGE const char *page_simd(void) { return vit_best_kernels() == &vit_naive ? "none" : vit_simd_name(); }

/* ---- the picture ------------------------------------------------------------------ */

static uint8_t picture[DIGIT * DIGIT]; /* as MNIST's: light ink on black */
PAGE uint8_t *page_picture(void) { return picture; }

/* Number `number` of the generator's digits, as data/digits.c would write it. */
PAGE void page_draw_digit(uint8_t *out, int digit, int number) {
  pcg32 g = pcg32_start(15, (uint64_t)number * 4 + 2);
  digit_draw(out, digit, &g);
}
/* What somebody drew, dark on light, becomes the picture. */
PAGE int page_prepare(const uint8_t *grey, int height, int width) {
  return page_result(vit_digit_prepare(picture, grey, height, width));
}

/* ---- the model that is looked at --------------------------------------------------- */

typedef struct {
  vit_model model;
  vit_state state, group; /* one image with all there is to see; some without */
  vit_dataset about;      /* mean, std and the names of the classes */
  int at_once;            /* images that occlusion asks about in one slice */
  uint8_t *pixels;        /* [height,width]: the picture in the model's size */
  float *image, *baseline, *changed; /* [height,width] twice, GROUP of them */
  float *map, *logits;    /* for the methods: [T], [K] */
} sight;
static sight seen;

static void sight_free(sight *s) {
  vit_state_free(&s->state), vit_state_free(&s->group);
  vit_model_free(&s->model), vit_dataset_free(&s->about);
  free(s->pixels), free(s->image);
  memset(s, 0, sizeof *s);
}

/* All that a model needs to be looked at; takes the model, also when it fails. */
static int sight_create(sight *s) {
  const vit_config *c = &s->model.config;
  const size_t size = (size_t)(c->image_height * c->image_width), T = (size_t)vit_config_tokens(c);
  const double work = (double)s->model.params.count * (double)T; /* of a forward, about */
  char text[200];
  int wrong = 0;
  if (c->channels != 1)
    wrong = page_fail("this model wants coloured pictures, and here grey digits are drawn: open one with 1 channel");
  else if (work > 1e8 || T > 260 || c->classes > 20) {
    snprintf(text, sizeof text,
             "this model has %d tokens, %d classes and %.0f parameters; the page, which answers while you draw, takes "
             "260, 20, and 100 million divided by the tokens",
             (int)T, c->classes, (double)s->model.params.count);
    wrong = page_fail(text);
  }
  s->at_once = work > 2e7 ? 1 : GROUP;
  if (!wrong)
    wrong = page_result(vit_state_create(&s->state, &s->model, 1, VIT_FOR_TRAINING | VIT_KEEP_ATTENTION, 1)) ||
            page_result(vit_state_create(&s->group, &s->model, s->at_once, VIT_FOR_INFERENCE, 1));
  if (!wrong) {
    s->pixels = (uint8_t *)malloc(size);
    s->image = (float *)malloc(((2 + GROUP) * size + T + (size_t)c->classes) * sizeof *s->image);
    if (!s->pixels || !s->image) wrong = page_fail("there is no memory for this model");
  }
  if (!wrong) {
    s->baseline = s->image + size, s->changed = s->baseline + size;
    s->map = s->changed + GROUP * size, s->logits = s->map + T;
    return 0;
  }
  sight_free(s);
  return 1;
}

/* Another model is looked at; when it cannot be, the old one stays. */
static int sight_replace(sight *s) {
  if (sight_create(s)) return 1;
  sight_free(&seen);
  seen = *s;
  return 0;
}

/* A safetensors file: the page's first model, or one of the user's. */
PAGE int page_open(const char *file) {
  sight s;
  memset(&s, 0, sizeof s);
  if (page_result(vit_model_open(&s.model, file, &s.about))) return 1;
  if (s.model.quantized) {
    vit_model_free(&s.model), vit_dataset_free(&s.about);
    return page_fail("this model is quantized: gradients need its weights as floats, open the one it was made of");
  }
  return sight_replace(&s);
}
PAGE int page_save(const char *file) { return page_result(vit_model_save(&seen.model, &seen.about, file)); }

/* The picture through the model. */
PAGE int page_look(void) {
  const vit_config *c = &seen.model.config;
  const float mean = seen.about.mean[0], std = seen.about.std[0];
  const int size = c->image_height * c->image_width;
  if (page_result(
          vit_resize(seen.pixels, picture, 1, DIGIT, DIGIT, c->image_height, c->image_width, VIT_BILINEAR)))
    return 1;
  for (int i = 0; i < size; i++) {
    seen.image[i] = ((float)seen.pixels[i] / 255 - mean) / std;
    seen.baseline[i] = (0 - mean) / std;
  }
  return page_result(vit_forward(&seen.model, &seen.state, seen.image, 1));
}

PAGE uint8_t *page_pixels(void) { return seen.pixels; }
PAGE int page_at_once(void) { return seen.at_once; }
PAGE float *page_image(void) { return seen.image; }
PAGE double page_mean(void) { return seen.about.mean[0]; }
PAGE double page_std(void) { return seen.about.std[0]; }
PAGE const char *page_class(int k) { return vit_class_name(&seen.about, k); }
PAGE const char *page_source(void) { return seen.about.source; }

/* A field of the config by its name; NAN where there is none. */
PAGE double page_config(const char *name) {
  const char *field, *text;
  double value;
  for (int i = 0; vit_config_field(&seen.model.config, i, &field, &text, &value); i++)
    if (!strcmp(field, name)) return value;
  if (!strcmp(name, "tokens")) return vit_config_tokens(&seen.model.config);
  if (!strcmp(name, "patches")) return vit_config_patches(&seen.model.config);
  if (!strcmp(name, "parameters")) return (double)seen.model.params.count;
  return NAN;
}

/* The numbers of block `layer` of an activation or a parameter, by its name. */
PAGE float *page_activation(const char *name, int layer) {
#define FIND(field, where, unit, exists, floats)                                                                   \
  if (!strcmp(name, #field))                                                                                       \
    return seen.state.field ? seen.state.field + (size_t)layer * seen.state.field##_stride : NULL;
  VIT_ACTIVATIONS(FIND)
#undef FIND
  return NULL;
}
PAGE float *page_parameter(const char *name) {
  vit_tensor t;
  if (!strcmp(name, "fixed_pos")) return seen.model.fixed_pos;
  return vit_tensor_find(&seen.model.config, name, &t) ? NULL : seen.model.params.block + t.offset;
}

/* ---- the methods of chapter 10 ------------------------------------------------------- */

PAGE const float *page_attention(int layer, int head) {
  return vit_attention(&seen.model, &seen.state, layer, 0, head);
}
PAGE float *page_map(void) { return seen.map; }
PAGE float *page_logits(void) { return seen.logits; }
PAGE int page_rollout(void) {
  return page_result(vit_attention_rollout(&seen.model, &seen.state, 0, VIT_POOLED, seen.map));
}
PAGE int page_relevance(int k) {
  const int K = seen.model.config.classes;
  for (int i = 0; i < K; i++) seen.logits[i] = i == k;
  vit_zero_gradients(&seen.state);
  return page_result(vit_backward_logits(&seen.model, &seen.state, seen.logits, 1)) ||
         page_result(vit_attention_relevance(&seen.model, &seen.state, 0, VIT_POOLED, seen.map));
}
PAGE int page_lens(int layer) { return page_result(vit_logit_lens(&seen.model, &seen.state, layer, seen.logits)); }

/* Occlusion in slices: the map of patches first .. first + at_once - 1. One
   call of vit_occlusion would keep the page from answering for too long. */
PAGE int page_occlusion(int k, int first) {
  const vit_config *c = &seen.model.config;
  const int W = c->image_width, size = c->image_height * W, N = vit_config_patches(c);
  const int n = N - first < seen.at_once ? N - first : seen.at_once, columns = W / c->patch_width;
  for (int i = 0; i < n; i++) {
    float *to = seen.changed + i * size;
    const int top = (first + i) / columns * c->patch_height, left = (first + i) % columns * c->patch_width;
    memcpy(to, seen.image, (size_t)size * sizeof *to);
    for (int y = top; y < top + c->patch_height; y++)
      memcpy(to + y * W + left, seen.baseline + y * W + left, (size_t)c->patch_width * sizeof *to);
  }
  if (page_result(vit_forward(&seen.model, &seen.group, seen.changed, n))) return 1;
  for (int i = 0; i < n; i++)
    seen.map[first + i] = seen.state.logits[k] - seen.group.logits[i * c->classes + k];
  return 0;
}

/* ---- chapter 07's mistakes ------------------------------------------------------------ */

static void scale_forgotten(float *dq, float *dk, float *dp, const float *p, const float *q, const float *k,
                            int rows, int T, int Dh, int stride) {
  vit_best_kernels()->attention_scores_backward(dq, dk, dp, p, q, k, rows, T, Dh, stride);
  for (int i = 0; i < rows * Dh; i++) dq[i / Dh * stride + i % Dh] *= sqrtf((float)Dh);
  for (int i = 0; i < T * Dh; i++) dk[i / Dh * stride + i % Dh] *= sqrtf((float)Dh);
}
static void gelu_without_bell(float *dx, const float *dy, const float *x, int n) {
  for (int i = 0; i < n; i++) /* forgets x phi(x) */
    dx[i] = dy[i] * 0.5f * (1 + erff(x[i] / sqrtf(2)));
}
static void norm_of_constants(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                              const float *mean, const float *rstd, int rows, int D) {
  for (int i = 0; i < rows * D; i++) { /* takes mean and deviation for constants */
    dx[i] += rstd[i / D] * dy[i] * w[i % D];
    dw[i % D] += dy[i] * (x[i] - mean[i / D]) * rstd[i / D];
    db[i % D] += dy[i];
  }
}
static void keys_with_wrong_sign(float *dq, float *dk, float *dp, const float *p, const float *q,
                                 const float *k, int rows, int T, int Dh, int stride) {
  vit_best_kernels()->attention_scores_backward(dq, dk, dp, p, q, k, rows, T, Dh, stride);
  for (int i = 0; i < T * Dh; i++) dk[i / Dh * stride + i % Dh] *= -1;
}
static void norm_that_overwrites(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                                 const float *mean, const float *rstd, int rows, int D) {
  memset(dx, 0, (size_t)(rows * D) * sizeof *dx); /* = where += is meant */
  vit_best_kernels()->layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, rows, D);
}

static vit_kernels kernels_with(int mistake) {
  vit_kernels k = *vit_best_kernels();
  if (mistake == 1) k.attention_scores_backward = scale_forgotten;
  if (mistake == 2) k.gelu_backward = gelu_without_bell;
  if (mistake == 3) k.layernorm_backward = norm_of_constants;
  if (mistake == 4) k.attention_scores_backward = keys_with_wrong_sign;
  if (mistake == 5) k.layernorm_backward = norm_that_overwrites;
  return k;
}

/* ---- the pupil -------------------------------------------------------------------------- */

/* What the controls of the page say, once, in the order in which it sends them. */
typedef struct {
  double small;     /* 0: the tutorial's model, 1: a small one for MNIST's size */
  double rate, depth, heads, positions, softmax, mistake;
  double images, judges, epochs, batch, accumulate;
} lesson;

static struct {
  vit_model model;
  vit_kernels kernels;
  vit_dataset train, judge;
  vit_history history;
  vit_trainer trainer;
  vit_fit_config fit;
  vit_config config;
  int drawn, ready;
} pupil;

static vit_config lesson_config(const lesson *l) {
  vit_config c = l->small ? vit_config_mnist() : vit_config_tutorial();
  if (l->small) c.width = 32, c.mlp_width = 96, c.init = VIT_INIT_TORCH;
  c.depth = (int)l->depth, c.heads = (int)l->heads, c.head_dim = 0;
  if (!l->positions) c.positions = VIT_POSITIONS_NONE;
  c.softmax_before_loss = l->softmax != 0;
  return c;
}

PAGE void page_train_end(void) {
  if (pupil.ready) vit_trainer_free(&pupil.trainer);
  vit_model_free(&pupil.model), vit_history_free(&pupil.history);
  vit_dataset_free(&pupil.train), vit_dataset_free(&pupil.judge);
  memset(&pupil, 0, sizeof pupil);
}

static int dataset_begin(vit_dataset *d, int count) {
  const vit_config *c = &pupil.config;
  d->count = count, d->channels = 1, d->height = c->image_height, d->width = c->image_width;
  d->classes = 10, d->std[0] = d->std[1] = d->std[2] = 1;
  d->pixels = (uint8_t *)malloc((size_t)count * (size_t)(d->height * d->width));
  d->labels = (uint8_t *)malloc((size_t)count);
  snprintf(d->source, sizeof d->source, "digits drawn in the page by data/digits.c");
  return d->pixels && d->labels ? 0 : page_fail("there is no memory for so many digits");
}

/* A new lesson. Then page_train_draw until all is drawn, page_train_ready, and
   page_train_step as often as wanted. */
PAGE int page_train_begin(const lesson *l) {
  page_train_end();
  pupil.config = lesson_config(l);
  pupil.kernels = kernels_with((int)l->mistake);
  pupil.fit = vit_fit_defaults();
  pupil.fit.epochs = (int)l->epochs, pupil.fit.batch = (int)l->batch, pupil.fit.accumulate = (int)l->accumulate;
  pupil.fit.schedule.rate = (float)l->rate, pupil.fit.schedule.floor = 0.5f * (float)l->rate;
  if (l->small) {
    pupil.fit.optimizer = vit_optimizer_defaults(VIT_ADAMW);
    pupil.fit.optimizer.weight_decay = 0.05f, pupil.fit.optimizer.clip_norm = 1;
  }
  if (page_result(vit_model_create(&pupil.model, &pupil.config, 1)) ||
      dataset_begin(&pupil.train, (int)l->images) || dataset_begin(&pupil.judge, (int)l->judges)) {
    page_train_end();
    return 1;
  }
  pupil.model.kernels = &pupil.kernels;
  return 0;
}

/* Draw up to n digits more, in the model's size; how many are still to be drawn. */
PAGE int page_train_draw(int n) {
  const int all = pupil.train.count + pupil.judge.count;
  for (; n > 0 && pupil.drawn < all; n--, pupil.drawn++) {
    const int judges = pupil.drawn >= pupil.train.count, i = pupil.drawn - judges * pupil.train.count;
    vit_dataset *d = judges ? &pupil.judge : &pupil.train;
    uint8_t *to = d->pixels + (size_t)i * (size_t)(d->height * d->width), drawn[DIGIT * DIGIT];
    pcg32 g = pcg32_start(1, ((uint64_t)i + 1) * 4 + (uint64_t)judges);
    d->labels[i] = (uint8_t)(i % 10);
    digit_draw(drawn, i % 10, &g);
    if (vit_resize(to, drawn, 1, DIGIT, DIGIT, d->height, d->width, VIT_BILINEAR)) return page_fail(vit_error()), -1;
  }
  return all - pupil.drawn;
}

PAGE int page_train_ready(void) {
  if (pupil.ready) return 0;
  if (pupil.drawn < pupil.train.count + pupil.judge.count) return page_fail("the digits are not drawn yet");
  if (page_result(vit_dataset_normalize(&pupil.judge, &pupil.train)) ||
      page_result(vit_dataset_normalize(&pupil.train, &pupil.train)))
    return 1;
  if (page_result(vit_trainer_create(
          &pupil.trainer, &pupil.model, &pupil.fit, &pupil.train, &pupil.judge, &pupil.history)))
    return 1;
  pupil.ready = 1;
  return 0;
}

/* One batch of training or of judging. */
PAGE int page_train_step(void) { return page_train_ready() || page_result(vit_trainer_step(&pupil.trainer)); }

/* What there is to know of the lesson; the page has the same names in this order. */
PAGE const double *page_train_numbers(void) {
  static double number[10];
  const vit_trainer *t = &pupil.trainer;
  const vit_epoch *last = pupil.ready && t->epoch > 0 ? &pupil.history.epoch[pupil.history.epochs - 1] : NULL;
  memset(number, 0, sizeof number);
  if (!pupil.ready) return number;
  number[0] = t->done, number[1] = t->epoch, number[2] = t->batch, number[3] = t->loss;
  number[4] = t->optimizer.step, number[5] = t->progress.rate, number[6] = pupil.history.epochs;
  if (last && pupil.history.epochs > 0)
    number[7] = last->train_loss, number[8] = last->val_loss, number[9] = last->val_accuracy;
  return number;
}

PAGE float *page_train_parameters(void) { return pupil.model.params.block; }
PAGE int page_train_count(void) { return (int)pupil.model.params.count; }

/* Look at a model of the pupil's shape; the page then puts parameters into it. */
PAGE int page_train_watch(void) {
  sight s;
  memset(&s, 0, sizeof s);
  if (page_result(vit_model_create(&s.model, &pupil.config, 1))) return 1;
  s.about.channels = 1, s.about.height = pupil.config.image_height, s.about.width = pupil.config.image_width;
  s.about.classes = 10, s.about.std[0] = s.about.std[1] = s.about.std[2] = 1;
  if (pupil.ready) s.about.mean[0] = pupil.train.mean[0], s.about.std[0] = pupil.train.std[0];
  snprintf(s.about.source, sizeof s.about.source, "trained in the page on drawn digits");
  return sight_replace(&s);
}
PAGE float *page_seen_parameters(void) { return seen.model.params.block; }

/* ---- how fast ----------------------------------------------------------------------------- */

/* Forwards of the MNIST model (chapter 09's size), B images at once. */
PAGE int page_forwards(int B, int rounds) {
  static vit_model m;
  static vit_state s;
  static float images[32 * DIGIT * DIGIT];
  const vit_config c = vit_config_mnist();
  if (B < 1 || B > 32) return page_fail("1 to 32 images at once");
  if (!m.params.block) {
    if (page_result(vit_model_create(&m, &c, 1)) || page_result(vit_state_create(&s, &m, 32, VIT_FOR_INFERENCE, 1)))
      return 1;
    m.threads = 1;
    for (int i = 0; i < 32 * DIGIT * DIGIT; i++) images[i] = (float)(i % 97) / 97;
  }
  for (int i = 0; i < rounds; i++)
    if (page_result(vit_forward(&m, &s, images, B))) return 1;
  return 0;
}
