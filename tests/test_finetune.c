/* Fine-tuning: what is frozen keeps its bits and the rest learns as ever, layers
   near the images learn slower, a probe is the head's own training. */
#include "files.h"
#include "changed.h"

enum { IMAGES = 150 };

static vit_config small(const char *more) {
  return changed(changed(vit_config_tutorial(),
                         "image_height=6 image_width=8 patch_height=2 patch_width=4 classes=4 "
                         "width=12 depth=3 heads=2 mlp_width=16 positions=2 final_norm=1"),
                 more);
}

/* Of models: where the class token or a mean is pooled, pre-norm and post-norm,
   with a softmax before the loss, with two heads, with dropout. */
static const char *const models[] = {
    "pool=0 softmax_before_loss=0", "pool=1 class_token=0 norm=1 softmax_before_loss=1",
    "pool=0 dist_token=1 reg_tokens=2 softmax_before_loss=0",
    "pool=1 pre_norm=1 fc_norm=1 softmax_before_loss=0 positions=3 attn_drop=0.1 hidden_drop=0.2 drop_path=0.2"};
enum { MODELS = sizeof models / sizeof *models };

static int refused(vit_result have, vit_result want, const char *sentence) {
  return fails(have, want, sentence, "");
}

static const vit_kernels *table(int i) { return i ? vit_best_kernels() : &vit_naive; }

/* Pictures of four classes: a bright quarter each, and noise. */
static vit_dataset pictures(int count) {
  static uint8_t pixels[IMAGES * 48], labels[IMAGES];
  vit_rng rng = vit_rng_create(77, 0);
  vit_dataset d;
  memset(&d, 0, sizeof d);
  d.count = count;
  d.channels = 1, d.height = 6, d.width = 8, d.classes = 4;
  d.pixels = pixels;
  d.labels = labels;
  for (int i = 0; i < 3; i++) d.mean[i] = 0.4f, d.std[i] = 0.3f;
  for (int i = 0; i < count; i++) {
    labels[i] = (uint8_t)vit_random_below(&rng, 4);
    for (int j = 0; j < 48; j++) {
      const int bright = j / 8 / 3 == labels[i] / 2 && j % 8 / 4 == labels[i] % 2;
      pixels[i * 48 + j] = (uint8_t)(vit_random_below(&rng, 120) + (bright ? 110 : 0));
    }
  }
  return d;
}

/* The groups that timm 1.0.31 makes of a model of three blocks:
     param_groups_layer_decay(model, layer_decay=0.7)  gives the scales
     0.2401 cls_token, pos_embed, patch_embed.*        0.343 blocks.0.*
     0.49 blocks.1.*   0.7 blocks.2.*, norm.*          1 head.* */
static int group_of(const char *name) {
  if (!strncmp(name, "head", 4)) return 4; /* head_dist, too */
  if (!strncmp(name, "norm.", 5) || !strncmp(name, "fc_norm.", 8)) return 3;
  return strncmp(name, "blocks.", 7) ? 0 : 1 + name[7] - '0';
}
static const double timm_scales[] = {0.2401, 0.343, 0.49, 0.7, 1};

/* Floats in front of the first tensor that learns. */
static size_t frozen_floats(const vit_config *c, int freeze) {
  vit_tensor t;
  for (int i = 0; vit_tensor_at(c, i, &t); i++)
    if (group_of(t.name) >= freeze) return t.offset;
  return 0;
}

static void create(vit_model *m, const char *more, const vit_kernels *k) {
  const vit_config c = small(more);
  CHECK(!vit_model_create(m, &c, 3), "%s", vit_error());
  m->kernels = k;
  m->threads = 1;
}

static size_t zeroed; /* the first gradients that the hook sets to 0 */
static vit_result zero_front(float *g, size_t count, void *user) {
  (void)count, (void)user;
  memset(g, 0, zeroed * sizeof *g);
  return VIT_OK;
}

static vit_fit_config recipe(vit_algorithm a) {
  vit_fit_config f = vit_fit_defaults();
  f.epochs = 2;
  f.batch = 30;
  f.optimizer = vit_optimizer_defaults(a);
  f.optimizer.clip_norm = 0.5f;
  f.optimizer.weight_decay = 0;
  f.schedule = vit_schedule_constant(0.01f);
  return f;
}

/* Frozen, against a run whose gradients in front are set to 0 before they are
   clipped: the frozen tensors have the bits of the start, the others the same. */
static void test_freeze(void) {
  vit_dataset d = pictures(50), v = d;
  for (int run = 0; run < 2 * MODELS * 5; run++) {
    const int freeze = run % 5, k = run / 5 % 2;
    const char *more = models[run / 10];
    vit_fit_config f = recipe(run % 3 ? VIT_ADAMW : VIT_SGD);
    vit_model start, m, by_hook;
    vit_history h, g;
    size_t n;
    create(&start, more, table(k));
    create(&m, more, table(k));
    create(&by_hook, more, table(k));
    m.threads = run % 7 ? 1 : 3;
    f.ema = run % 2 ? 0.9f : 0;
    zeroed = n = frozen_floats(&m.config, freeze);
    f.gradients = zero_front;
    CHECK(!vit_fit(&by_hook, &f, &d, &v, &g), "%s", vit_error());
    f.gradients = NULL;
    f.optimizer.freeze = freeze;
    CHECK(!vit_fit(&m, &f, &d, &v, &h), "%s", vit_error());
    CHECK_SAME_BITS("frozen", m.params.block, start.params.block, n);
    CHECK_SAME_BITS("learned", m.params.block + n, by_hook.params.block + n, m.params.count - n);
    CHECK(memcmp(m.params.block + n, start.params.block + n, (m.params.count - n) * sizeof(float)) &&
              h.epoch[1].train_loss == g.epoch[1].train_loss,
          "nothing was learned, or the loss is another");
    vit_history_free(&h);
    vit_history_free(&g);
    vit_model_free(&start);
    vit_model_free(&m);
    vit_model_free(&by_hook);
  }
}

/* Weight decay acts on what learns alone, and AdamW's moments stay 0 in front. */
static void test_freeze_decay(void) {
  vit_dataset d = pictures(40);
  vit_fit_config f = recipe(VIT_ADAMW);
  vit_trainer t;
  vit_model start, m;
  vit_history h;
  vit_tensor last;
  size_t n;
  create(&start, models[0], table(1));
  create(&m, models[0], table(1));
  f.optimizer.weight_decay = 0.5f;
  f.optimizer.decay_all = 1;
  f.optimizer.freeze = 2;
  n = frozen_floats(&m.config, 2);
  CHECK(!vit_trainer_create(&t, &m, &f, &d, NULL, &h), "%s", vit_error());
  for (int i = 0; i < 3; i++) CHECK(!vit_trainer_step(&t), "%s", vit_error());
  CHECK_SAME_BITS("frozen", m.params.block, start.params.block, n);
  for (size_t i = 0; i < n; i++)
    if (!CHECK(t.optimizer.m.block[i] == 0 && t.optimizer.v.block[i] == 0, "a moment moved")) break;
  CHECK(!vit_tensor_find(&m.config, "blocks.1.norm1.weight", &last) && last.offset == n,
        "the first that learns is not block 1");
  CHECK(m.params.block[n] < 0.999f * start.params.block[n], "what learns did not decay");
  vit_trainer_free(&t);
  vit_history_free(&h);
  vit_model_free(&start);
  vit_model_free(&m);
}

static int products; /* of backward: how much of it was done */
static void counted(float *dx, const float *dy, const float *w, int rows, int in, int out) {
  products++;
  vit_naive.linear_backward_input(dx, dy, w, rows, in, out);
}

/* Gradients: 0 in front, behind it as without freeze; and backward really stops:
   four products with weights in each block, one in each head, and one for the query
   where the class token alone is read. */
static void test_backward_stops(void) {
  const vit_dataset d = pictures(8);
  float images[8 * 48], *whole;
  int labels[8], order[8];
  for (int b = 0; b < 8; b++) order[b] = b;
  vit_dataset_batch(&d, order, 8, images, labels);
  for (int i = 0; i < MODELS; i++) {
    vit_kernels own = vit_naive;
    vit_model m;
    vit_state s;
    double loss;
    own.linear_backward_input = counted;
    create(&m, models[i], &own);
    CHECK(!vit_state_create(&s, &m, 8, VIT_FOR_TRAINING, 1), "%s", vit_error());
    whole = (float *)malloc(m.params.count * sizeof(float));
    if (!whole) return;
    for (int freeze = 0; freeze <= 4; freeze++) {
      const size_t n = frozen_floats(&m.config, freeze);
      int zeros = 1;
      s.freeze = freeze;
      s.forwards = 0; /* the same masks */
      products = 0;
      vit_zero_gradients(&s);
      CHECK(!vit_forward(&m, &s, images, 8) && !vit_loss(&m, &s, labels, 0, &loss) &&
                !vit_backward(&m, &s, 1),
            "%s", vit_error());
      if (!freeze) memcpy(whole, s.grads.block, m.params.count * sizeof(float));
      for (size_t j = 0; j < n; j++) zeros &= s.grads.block[j] == 0;
      CHECK(zeros, "model %d, freeze %d: a gradient in front", i, freeze);
      CHECK_SAME_BITS("the others", s.grads.block + n, whole + n, m.params.count - n);
      const int blocks = freeze ? 4 - freeze : 3, query = blocks && i == 0, heads = 1 + (i == 2);
      CHECK(products == 8 * (heads + 4 * blocks + query), "model %d, freeze %d: %d products for 8 images", i, freeze, products);
    }
    free(whole);
    vit_state_free(&s);
    vit_model_free(&m);
  }
}

/* One step of plain SGD is rate * scale * gradient; of AdamW it has the bits of a
   step at this rate. */
static void test_layer_decay(void) {
  for (int run = 0; run < 4; run++) {
    const vit_algorithm a = run / 2 ? VIT_ADAMW : VIT_SGD;
    vit_optimizer_config c = vit_optimizer_defaults(a);
    const float rate = 0.01f;
    vit_model m, all[5], start;
    vit_state s;
    vit_optimizer o;
    vit_tensor t;
    int groups[5] = {0, 0, 0, 0, 0};
    create(&m, models[0], table(run % 2));
    create(&start, models[0], table(run % 2));
    CHECK(!vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 1), "%s", vit_error());
    test_random(s.grads.block, s.grads.count, 1, 5);
    for (int g = 0; g < 5; g++) { /* the whole model at each group's own rate */
      create(&all[g], models[0], table(run % 2));
      CHECK(!vit_optimizer_create(&o, &all[g], &c) &&
                !vit_optimizer_step(&o, &all[g], &s, rate * powf(0.7f, (float)(4 - g))),
            "%s", vit_error());
      vit_optimizer_free(&o);
    }
    c.layer_decay = 0.7f;
    m.threads = 3;
    CHECK(!vit_optimizer_create(&o, &m, &c) && !vit_optimizer_step(&o, &m, &s, rate), "%s", vit_error());
    for (int i = 0; vit_tensor_at(&m.config, i, &t); i++) {
      const int g = group_of(t.name);
      const float *w = m.params.block + t.offset, *was = start.params.block + t.offset;
      groups[g]++;
      CHECK_SAME_BITS(t.name, w, all[g].params.block + t.offset, t.count);
      for (size_t j = 0; a == VIT_SGD && j < t.count; j++) {
        const double step = (double)rate * timm_scales[g] * (double)s.grads.block[t.offset + j];
        if (!CHECK(fabs((double)was[j] - (double)w[j] - step) < 2e-7, "%s moved by %g, not %g", t.name,
                   (double)was[j] - (double)w[j], step))
          break;
      }
    }
    CHECK(groups[0] == 4 && groups[1] == 12 && groups[2] == 12 && groups[3] == 14 && groups[4] == 2,
          "groups of %d, %d, %d, %d, %d tensors", groups[0], groups[1], groups[2], groups[3], groups[4]);
    vit_optimizer_free(&o);
    vit_state_free(&s);
    for (int g = 0; g < 5; g++) vit_model_free(&all[g]);
    vit_model_free(&m);
    vit_model_free(&start);
  }
}

/* The features are what the head's layer gets in a forward, more images than are
   taken at a time; labels that the model has no class for do not matter. */
static void test_features(void) {
  vit_dataset d = pictures(IMAGES);
  float *features = (float *)malloc(sizeof(float) * IMAGES * 24), images[48];
  vit_model m;
  vit_state s;
  if (!features) return;
  d.classes = 200;
  for (int i = 0; i < MODELS; i++) {
    create(&m, models[i], table(i % 2));
    CHECK(!vit_features(&m, &d, features), "%s", vit_error());
    CHECK(!vit_state_create(&s, &m, 1, 0, 1), "%s", vit_error());
    for (int b = 0; b < IMAGES; b += 7) {
      vit_dataset_batch(&d, &b, 1, images, NULL);
      CHECK(!vit_forward(&m, &s, images, 1), "%s", vit_error());
      CHECK_CLOSE("features", features + b * (i == 2 ? 24 : 12), s.pooled, 12, 1e-5, 1e-5);
      if (i == 2) CHECK_CLOSE("features", features + b * 24 + 12, s.pooled_dist, 12, 1e-5, 1e-5);
    }
    vit_state_free(&s);
    d.height = 7;
    refused(vit_features(&m, &d, features), VIT_ERR_CONFIG,
          "the given images are 1 x 7 x 8 (channels, height, width), the model wants 1 x 6 x 8; "
          "vit_dataset_resize can help");
    d.height = 6;
    vit_model_free(&m);
  }
  free(features);
}

static int heard; /* calls of the callback, which looks at what a probe has not */
static int listen(const vit_progress *p, void *user) {
  const vit_trainer *t = (const vit_trainer *)user;
  vit_state s = t->state;
  float image[48] = {0};
  heard++;
  refused(vit_forward(p->model, &s, image, 1), VIT_ERR_STATE,
        "this is the state of a linear probe, which runs the head alone; create another one for the "
        "whole model");
  CHECK(!vit_attention(p->model, &s, 0, 0, 0) && strstr(vit_error(), "linear probe"), "%s", vit_error());
  CHECK(!vit_class_attention(p->model, &s, 0, 0) && p->model->config.class_token == !!strstr(vit_error(), "linear probe"), "%s", vit_error());
  return 0;
}

/* A probe has the bits of a training in which all but the head is frozen. */
static void test_probe(void) {
  vit_dataset d = pictures(80), v = d;
  v.count = 30;
  v.pixels += 50 * 48;
  v.labels += 50;
  for (int run = 0; run < 6; run++) { /* without dropout, both tables */
    vit_fit_config f = recipe(run % 2 ? VIT_ADAM : VIT_SGD);
    vit_model m, frozen, start;
    vit_history h, g;
    vit_trainer t;
    vit_result r;
    size_t n;
    create(&m, models[run / 2], table(run % 2));
    create(&frozen, models[run / 2], table(run % 2));
    create(&start, models[run / 2], table(run % 2));
    n = frozen_floats(&m.config, 4);
    f.ema = 0.8f;
    f.keep_best = 1;
    f.epochs = 4;
    f.smoothing = 0.1f;
    f.optimizer.freeze = 4;
    CHECK(!vit_fit(&frozen, &f, &d, &v, &g), "%s", vit_error());
    f.optimizer.freeze = 0;
    f.probe = 1;
    f.callback = listen;
    f.user = &t;
    heard = 0;
    m.threads = 1 + run;
    r = vit_trainer_create(&t, &m, &f, &d, &v, &h);
    CHECK(!r && t.state.tokens == NULL, "%s, or it has room for more than the head", vit_error());
    while (!r && !t.done) r = vit_trainer_step(&t);
    CHECK(!r && heard == 4 * (3 + 1), "%s, %d calls", vit_error(), heard);
    vit_trainer_free(&t);
    CHECK_SAME_BITS("probe", m.params.block, frozen.params.block, m.params.count);
    CHECK_SAME_BITS("frozen", m.params.block, start.params.block, n);
    CHECK(memcmp(m.params.block + n, start.params.block + n, (m.params.count - n) * sizeof(float)),
          "the head did not learn");
    for (int e = 0; e < 4; e++)
      CHECK(h.epoch[e].train_loss == g.epoch[e].train_loss && h.epoch[e].val_loss == g.epoch[e].val_loss &&
                h.epoch[e].val_accuracy == g.epoch[e].val_accuracy,
            "epoch %d is another", e);
    vit_history_free(&h);
    vit_history_free(&g);
    vit_model_free(&m);
    vit_model_free(&frozen);
    vit_model_free(&start);
  }
}

/* It may be stopped and go on; what is frozen, and how it decays, is compared. */
static int stop_after_2(const vit_progress *p, void *user) {
  (void)user;
  return p->epoch_done && p->epoch == 2;
}
static void test_resume(void) {
  vit_dataset d = pictures(60);
  const char *const files[] = {path_of("run/last.safetensors"), path_of("run/history.csv"),
                               path_of("run/lock")};
  const char *dir = path_of("run");
  char want[600];
  for (int probe = 0; probe < 2; probe++) {
    vit_fit_config f = recipe(VIT_ADAMW), whole;
    vit_model m, other;
    vit_history h;
    create(&m, models[0], table(1));
    create(&other, models[0], table(1));
    f.epochs = 4;
    f.probe = probe;
    f.optimizer.freeze = probe ? 0 : 2;
    f.optimizer.layer_decay = 0.5f;
    whole = f;
    CHECK(!vit_fit(&other, &whole, &d, NULL, &h), "%s", vit_error());
    vit_history_free(&h);
    f.dir = dir;
    f.callback = stop_after_2;
    CHECK(vit_fit(&m, &f, &d, NULL, &h) == VIT_STOPPED, "%s", vit_error());
    vit_history_free(&h);
    vit_model_free(&m);
    create(&m, models[0], table(1));
    f.callback = NULL;
    f.resume = 1;
    f.optimizer.layer_decay = 0.25f;
    snprintf(want, sizeof want,
             "cannot resume from %s/last.safetensors: its recipe.layer_decay is 0.5, here it is 0.25; use the "
             "settings and images that it was made with, or another folder", dir);
    refused(vit_fit(&m, &f, &d, NULL, &h), VIT_ERR_CONFIG, want);
    vit_history_free(&h);
    f.optimizer.layer_decay = 0.5f;
    f.probe = 0;
    f.optimizer.freeze = 1;
    snprintf(want, sizeof want,
             "cannot resume from %s/last.safetensors: its recipe.%s is %d, here it is %d; use the "
             "settings and images that it was made with, or another folder",
             dir, probe ? "probe" : "freeze", probe ? 1 : 2, probe ? 0 : 1);
    refused(vit_fit(&m, &f, &d, NULL, &h), VIT_ERR_CONFIG, want);
    vit_history_free(&h);
    f.probe = probe;
    f.optimizer.freeze = probe ? 0 : 2;
    CHECK(!vit_fit(&m, &f, &d, NULL, &h), "%s", vit_error());
    CHECK_SAME_BITS("resumed", m.params.block, other.params.block, m.params.count);
    vit_history_free(&h);
    vit_model_free(&m);
    vit_model_free(&other);
    for (int i = 0; i < 3; i++) remove(files[i]);
  }
}

static void test_errors(void) {
  vit_dataset d = pictures(20);
  vit_fit_config f = recipe(VIT_SGD), g;
  vit_optimizer_config c = f.optimizer;
  vit_optimizer o;
  vit_history h;
  vit_model m, start;
  vit_state s;
  float image[48] = {0};
  int label = 0;
  double loss;
  create(&m, models[0], table(1));
  create(&start, models[0], table(1));
#define FREEZE(n)                                                                                  \
  "freeze is " #n "; the model has a stem, 3 blocks and a head: it must be from 0, all learn, to " \
  "4, the head alone learns"
#define FIT(field, value, sentence)                                            \
  g = f, g.field = value;                                                      \
  refused(vit_fit(&m, &g, &d, NULL, &h), VIT_ERR_CONFIG, sentence)
  FIT(optimizer.freeze, 5, FREEZE(5));
  FIT(optimizer.freeze, -1, "the optimiser's freeze is -1; it must be from 0 to 1048576");
  FIT(optimizer.layer_decay, 1.5f, "the optimiser's layer_decay is 1.5; it must be from 0 to 1");
  FIT(optimizer.layer_decay, -0.5f, "the optimiser's layer_decay is -0.5; it must be from 0 to 1");
  g.optimizer.layer_decay = NAN;
  CHECK(vit_fit(&m, &g, &d, NULL, &h) == VIT_ERR_CONFIG, "took a decay that is no number");
  FIT(probe, 2, "probe is 2; it must be from 0 to 1");
  g.probe = 1;
  g.augment.shift = 0.1f;
  refused(vit_fit(&m, &g, &d, NULL, &h), VIT_ERR_CONFIG,
        "a probe makes the features of each image once, so nothing can change the images: set augment "
        "to zeros, or let freeze, not probe, be set");
  CHECK_SAME_BITS("a refused model", m.params.block, start.params.block, m.params.count);
  c.freeze = 9;
  refused(vit_optimizer_create(&o, &m, &c), VIT_ERR_CONFIG, FREEZE(9));
  c.freeze = 2;
  CHECK(!vit_optimizer_create(&o, &m, &c) && !vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 1) &&
            !vit_forward(&m, &s, image, 1) && !vit_loss(&m, &s, &label, 0, &loss),
        "%s", vit_error());
  s.freeze = 7;
  refused(vit_backward(&m, &s, 1), VIT_ERR_CONFIG, FREEZE(7));
  s.freeze = -3;
  refused(vit_backward(&m, &s, 1), VIT_ERR_CONFIG, FREEZE(-3));
  s.freeze = 1;
  CHECK(!vit_backward(&m, &s, 1), "%s", vit_error());
  refused(vit_optimizer_step(&o, &m, &s, 0.1f), VIT_ERR_STATE,
        "the optimiser's freeze is 2 and the state's 1; set both the same");
  CHECK_SAME_BITS("a refused step", m.params.block, start.params.block, m.params.count);
  vit_state_free(&s);
  CHECK(!vit_state_create(&s, &m, 1, VIT_FOR_TRAINING | VIT_INPUT_GRADIENT, 1) &&
            !vit_forward(&m, &s, image, 1) && !vit_loss(&m, &s, &label, 0, &loss),
        "%s", vit_error());
  s.freeze = 2;
  refused(vit_backward(&m, &s, 1), VIT_ERR_STATE,
        "the gradient by the images is wanted, but backward would stop before them: the state's freeze is "
        "2; set it to 0");
  vit_state_free(&s);
  CHECK(!vit_state_create(&s, &m, 1, VIT_FOR_TRAINING | VIT_KEEP_ATTENTION, 1) &&
            !vit_forward(&m, &s, image, 1) && !vit_loss(&m, &s, &label, 0, &loss),
        "%s", vit_error());
  s.freeze = 2; /* block 0 */
  CHECK(!vit_backward(&m, &s, 1) && vit_attention_gradient(&m, &s, 1, 0, 0), "%s", vit_error());
  CHECK(!vit_attention_gradient(&m, &s, 0, 0, 0) && strstr(vit_error(), "with freeze 0"), "%s", vit_error());
  vit_state_free(&s);
  vit_optimizer_free(&o);
  vit_model_free(&m);
  vit_model_free(&start);
}

/* No memory at any moment of a probe: nothing is lost, nothing is left. */
static void test_no_memory(void) {
  vit_dataset d = pictures(20), v = d;
  vit_fit_config f = recipe(VIT_SGD);
  vit_history h;
  vit_model m, start;
  vit_result r = VIT_ERR_NO_MEMORY;
  int live, failed = 0;
  create(&m, models[0], table(1));
  create(&start, models[0], table(1));
  f.probe = 1;
  f.keep_best = 1;
  live = heap.live;
  for (int n = 1; r && n < 50; n++) {
    heap.calls = 0;
    heap.fail_at = n;
    r = vit_fit(&m, &f, &d, &v, &h);
    heap.fail_at = 0;
    if (!r) break;
    failed++;
    CHECK(r == VIT_ERR_NO_MEMORY, "%s", vit_error());
    CHECK_SAME_BITS("without memory", m.params.block, start.params.block, m.params.count);
    vit_history_free(&h);
    CHECK(heap.live == live, "%d blocks are left", heap.live - live);
  }
  CHECK(!r && failed >= 6, "%d failures, then %s", failed, vit_error());
  vit_history_free(&h);
  vit_model_free(&m);
  vit_model_free(&start);
}

int main(void) {
#ifdef _WIN32
  snprintf(folder, sizeof folder, "build/test_finetune");
#else
  snprintf(folder, sizeof folder, "build/test_finetune_%ld", (long)getpid());
#endif
  if (vit_make_dir(folder)) return 1;
  RUN(test_freeze);
  RUN(test_freeze_decay);
  RUN(test_backward_stops);
  RUN(test_layer_decay);
  RUN(test_features);
  RUN(test_probe);
  RUN(test_resume);
  RUN(test_errors);
  RUN(test_no_memory);
  remove_all();
  remove(folder);
  return test_end("finetune");
}
