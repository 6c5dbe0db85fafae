/* Training: optimisers against closed forms, schedules, the fit loop, and the
   same bits with any number of threads. Prints one line
       checksum naive XXXXXXXX simd XXXXXXXX
   which test_same_bits.sh compares between builds of this program. */
#include "test.h"

#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"
#include "changed.h"

static vit_config small_config(void) {
  return changed(vit_config_tutorial(),
                 "image_height=6 image_width=8 patch_height=2 patch_width=4 "
                 "classes=4 width=12 depth=1 heads=2 mlp_width=16 positions=2 "
                 "head=0 final_norm=1");
}

/* Pictures of four classes: a bright quarter each, and noise. */
static struct {
  uint8_t pixels[400 * 48], labels[400];
} store;

static vit_dataset pictures(int count) {
  vit_rng rng = vit_rng_create(77, 0);
  vit_dataset d;
  memset(&d, 0, sizeof d);
  d.count = count;
  d.channels = 1;
  d.height = 6;
  d.width = 8;
  d.classes = 4;
  d.pixels = store.pixels;
  d.labels = store.labels;
  for (int i = 0; i < 3; i++) d.std[i] = 1;
  for (int i = 0; i < count; i++) {
    int label = (int)vit_random_below(&rng, 4);
    d.labels[i] = (uint8_t)label;
    for (int y = 0; y < 6; y++)
      for (int x = 0; x < 8; x++) {
        int bright = y / 3 == label / 2 && x / 4 == label % 2;
        d.pixels[(i * 6 + y) * 8 + x] =
            (uint8_t)(vit_random_below(&rng, 120) + (bright ? 110 : 0));
      }
  }
  return d;
}

static int fails(vit_result have, vit_result want, const char *sentence) {
  return CHECK(have == want && !strcmp(vit_error(), sentence),
               "result %d \"%s\",\n    expected %d \"%s\"", (int)have, vit_error(),
               (int)want, sentence);
}

static void make_model(vit_model *m, uint64_t seed) {
  vit_config c = small_config();
  CHECK(!vit_model_create(m, &c, seed), "%s", vit_error());
  m->threads = 1;
}

/* ---- optimisers ---------------------------------------------------------- */

typedef struct {
  vit_model m;
  vit_state s;
  vit_optimizer o;
  float *start;
} bench;

static int bench_create(bench *k, const vit_optimizer_config *c,
                        const vit_kernels *kernels) {
  make_model(&k->m, 3);
  k->m.kernels = kernels;
  CHECK(!vit_state_create(&k->s, &k->m, 1, VIT_FOR_TRAINING, 1) &&
            !vit_optimizer_create(&k->o, &k->m, c),
        "%s", vit_error());
  test_random(k->m.params.block, k->m.params.count, 1, 5);
  k->start = (float *)malloc(k->m.params.count * sizeof(float));
  if (!k->start) return 0;
  memcpy(k->start, k->m.params.block, k->m.params.count * sizeof(float));
  return 1;
}

static void bench_free(bench *k) {
  free(k->start);
  vit_optimizer_free(&k->o);
  vit_state_free(&k->s);
  vit_model_free(&k->m);
}

static const vit_kernels *table(int i) { return i ? vit_best_kernels() : &vit_naive; }

/* On sum a/2 (w - 1)^2, plain descent is w - 1 = (1 - rate a)^t (w0 - 1). */
static void test_sgd_on_a_quadratic(void) {
  vit_optimizer_config c = vit_optimizer_defaults(VIT_SGD);
  c.momentum = 0;
  for (int i = 0; i < 2; i++) {
    bench k;
    if (!bench_create(&k, &c, table(i))) return;
    for (int t = 1; t <= 6; t++) {
      for (size_t n = 0; n < k.m.params.count; n++)
        k.s.grads.block[n] = 3 * (k.m.params.block[n] - 1);
      CHECK(!vit_optimizer_step(&k.o, &k.m, &k.s, 0.1f), "%s", vit_error());
    }
    for (size_t n = 0; n < k.m.params.count; n++) {
      double want = 1 + pow(0.7, 6) * ((double)k.start[n] - 1);
      CHECK(fabs((double)k.m.params.block[n] - want) < 1e-6, "w[%lu] %g, not %g",
            (unsigned long)n, (double)k.m.params.block[n], want);
    }
    CHECK(k.o.step == 6, "step %d", k.o.step);
    bench_free(&k);
  }
}

/* A constant gradient g: the speed is g (1 - mu^t) / (1 - mu). */
static void test_momentum(void) {
  vit_optimizer_config c = vit_optimizer_defaults(VIT_SGD);
  const double mu = 0.8, g = 0.25, rate = 0.05;
  c.momentum = 0.8f;
  for (int i = 0; i < 2; i++) {
    double moved = 0;
    bench k;
    if (!bench_create(&k, &c, table(i))) return;
    for (int t = 1; t <= 5; t++) {
      for (size_t n = 0; n < k.m.params.count; n++) k.s.grads.block[n] = 0.25f;
      vit_optimizer_step(&k.o, &k.m, &k.s, 0.05f);
      moved += rate * g * (1 - pow(mu, t)) / (1 - mu);
    }
    for (size_t n = 0; n < k.m.params.count; n++) {
      double have = (double)k.start[n] - (double)k.m.params.block[n];
      CHECK(fabs(have - moved) < 1e-6, "w[%lu] moved %g, not %g", (unsigned long)n,
            have, moved);
    }
    bench_free(&k);
  }
}

/* A constant gradient: both averages are right from the first step on, so each
   step is rate g / (|g| + eps). AdamW shrinks w first: a geometric series. */
static void test_adam(void) {
  for (int run = 0; run < 4; run++) {
    const vit_algorithm a = run % 2 ? VIT_ADAMW : VIT_ADAM;
    vit_optimizer_config c = vit_optimizer_defaults(a);
    const double rate = 0.01, eps = 0.125, shrink = run % 2 ? 1 - rate * 0.5 : 1;
    bench k;
    c.beta1 = 0.75f;
    c.beta2 = 0.96f;
    c.eps = 0.125f;
    c.weight_decay = run % 2 ? 0.5f : 0;
    c.decay_all = 1;
    if (!bench_create(&k, &c, table(run / 2))) return;
    for (int t = 1; t <= 7; t++) {
      for (size_t n = 0; n < k.m.params.count; n++)
        k.s.grads.block[n] = n % 2 ? -0.5f : 2.0f;
      vit_optimizer_step(&k.o, &k.m, &k.s, 0.01f);
      for (size_t n = 0; n < k.m.params.count; n++) {
        double g = n % 2 ? -0.5 : 2.0, sum = 0;
        for (int j = 0; j < t; j++) sum += pow(shrink, j);
        double want = pow(shrink, t) * (double)k.start[n] -
                      sum * rate * g / (fabs(g) + eps);
        CHECK(fabs((double)k.m.params.block[n] - want) < 2e-6,
              "%s step %d: w[%lu] %.7g, not %.7g", run % 2 ? "AdamW" : "Adam", t,
              (unsigned long)n, (double)k.m.params.block[n], want);
      }
    }
    bench_free(&k);
  }
}

/* Without a gradient, weights shrink and the rest stays, unless decay_all. */
static void test_decay_mask(void) {
  for (int run = 0; run < 8; run++) {
    const int adamw = run % 2, all = run / 2 % 2;
    vit_optimizer_config c = vit_optimizer_defaults(adamw ? VIT_ADAMW : VIT_SGD);
    vit_tensor t;
    bench k;
    int kept = 0, shrunk = 0;
    c.momentum = 0;
    c.weight_decay = 0.5f;
    c.decay_all = all;
    if (!bench_create(&k, &c, table(run / 4))) return;
    vit_optimizer_step(&k.o, &k.m, &k.s, 0.1f);
    for (int i = 0; vit_tensor_at(&k.m.config, i, &t); i++) {
      const float *have = k.m.params.block + t.offset, *was = k.start + t.offset;
      const int decays = all || (t.dims >= 2 && t.layer >= 0) ||
                         !strcmp(t.name, "patch_embed.proj.weight") ||
                         !strcmp(t.name, "head.weight");
      if (!decays) CHECK_SAME_BITS(t.name, have, was, t.count);
      for (size_t n = 0; decays && n < t.count; n++)
        CHECK(fabsf(have[n] - 0.95f * was[n]) < 1e-6f, "%s[%lu] %g became %g",
              t.name, (unsigned long)n, (double)was[n], (double)have[n]);
      kept += !decays;
      shrunk += decays;
    }
    CHECK(shrunk > 0 && (kept > 0) == !all, "%d kept, %d shrunk", kept, shrunk);
    bench_free(&k);
  }
}

static void test_clipping(void) {
  vit_optimizer_config c = vit_optimizer_defaults(VIT_SGD);
  for (int i = 0; i < 2; i++) {
    const double limit = 0.5;
    double norm = 0, after = 0;
    bench k;
    c.momentum = 0;
    c.clip_norm = 0.5f;
    if (!bench_create(&k, &c, table(i))) return;
    test_random(k.s.grads.block, k.s.grads.count, 1, 6);
    for (size_t n = 0; n < k.s.grads.count; n++)
      norm += pow((double)k.s.grads.block[n], 2);
    norm = sqrt(norm);
    CHECK(fabs(vit_clip_gradients(&k.m, &k.s, 1e9f) / norm - 1) < 1e-6, "norm");
    vit_optimizer_step(&k.o, &k.m, &k.s, 1);
    CHECK(fabs(k.o.norm / norm - 1) < 1e-6, "norm %g, not %g", k.o.norm, norm);
    for (size_t n = 0; n < k.s.grads.count; n++)
      after += pow((double)k.s.grads.block[n], 2);
    CHECK(fabs(sqrt(after) / limit - 1) < 1e-4, "clipped to %g", sqrt(after));
    for (size_t n = 0; n < k.s.grads.count; n++)
      CHECK(fabsf(k.start[n] - k.s.grads.block[n] - k.m.params.block[n]) < 1e-5f,
            "the step did not use the clipped gradient");
    /* below the limit nothing changes */
    memcpy(k.start, k.s.grads.block, k.s.grads.count * sizeof(float));
    vit_clip_gradients(&k.m, &k.s, 0.6f);
    CHECK_SAME_BITS("small gradients", k.s.grads.block, k.start, k.s.grads.count);
    /* no limit turns them round, and without a model there are none */
    CHECK(vit_clip_gradients(&k.m, &k.s, -1) > 0, "norm");
    CHECK_SAME_BITS("a limit of -1", k.s.grads.block, k.start, k.s.grads.count);
    {
      vit_model none;
      memset(&none, 0, sizeof none);
      CHECK(vit_clip_gradients(&none, &k.s, 1) == 0 && strstr(vit_error(), "there is no model"), "%s", vit_error());
    }
    bench_free(&k);
  }
}

static void test_optimizer_errors(void) {
  static const struct {
    float momentum, beta1, beta2, eps, decay, clip;
    const char *sentence;
  } bad[] = {
      {-0.1f, 0.9f, 0.9f, 1e-8f, 0, 0, "the optimiser's momentum is -0.1; it must be at least 0 and below 1"},
      {0.9f, 1, 0.9f, 1e-8f, 0, 0, "the optimiser's beta1 is 1; it must be "},
      {0.9f, 0.9f, 1.5f, 1e-8f, 0, 0, "the optimiser's beta2 is 1.5; it must be "},
      {0.9f, 0.9f, 0.9f, 0, 0, 0, "the optimiser's eps is 0; it must be above 0 and finite"},
      {0.9f, 0.9f, 0.9f, INFINITY, 0, 0, "the optimiser's eps is inf; it must be above 0 and finite"},
      {0.9f, 0.9f, 0.9f, 1e-8f, -1, 0, "the optimiser's weight_decay is -1; it must be at least 0 and below 1e+06"},
      {0.9f, 0.9f, 0.9f, 1e-8f, 0, -2, "the optimiser's clip_norm is -2; it must be at least 0 and below 1e+30"}};
  vit_model m, other;
  vit_state s, infer;
  vit_optimizer o;
  vit_config c = changed(small_config(), "width=16");
  make_model(&m, 1);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAM);
    oc.momentum = bad[i].momentum;
    oc.beta1 = bad[i].beta1;
    oc.beta2 = bad[i].beta2;
    oc.eps = bad[i].eps;
    oc.weight_decay = bad[i].decay;
    oc.clip_norm = bad[i].clip;
    CHECK(vit_optimizer_create(&o, &m, &oc) == VIT_ERR_CONFIG &&
              !strncmp(vit_error(), bad[i].sentence, strlen(bad[i].sentence)),
          "%s", vit_error());
    CHECK(!o.m.block, "an optimiser is left");
  }
  for (int a = -1; a <= 7; a += 8) {
    vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAM);
    char sentence[120];
    oc.algorithm = (vit_algorithm)a;
    snprintf(sentence, sizeof sentence, "the optimiser's algorithm is %d; it must be VIT_SGD, VIT_ADAM or VIT_ADAMW", a);
    fails(vit_optimizer_create(&o, &m, &oc), VIT_ERR_CONFIG, sentence);
  }
  { /* of another model, and of a state without gradients */
    vit_optimizer_config oc = vit_optimizer_defaults(VIT_ADAM);
    CHECK(!vit_model_create(&other, &c, 1) && !vit_optimizer_create(&o, &m, &oc) &&
              !vit_state_create(&s, &other, 1, VIT_FOR_TRAINING, 1) &&
              !vit_state_create(&infer, &m, 1, VIT_FOR_INFERENCE, 1),
          "%s", vit_error());
    CHECK(vit_optimizer_step(&o, &m, &s, 1) == VIT_ERR_STATE, "another model");
    vit_state_free(&s);
    CHECK(!vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 1), "%s", vit_error());
    CHECK(vit_optimizer_step(&o, &m, &s, (float)NAN) == VIT_ERR_CONFIG &&
              vit_optimizer_step(&o, &m, &s, -1) == VIT_ERR_CONFIG &&
              !strcmp(vit_error(), "the learning rate is -1; it must be finite and at least 0"),
          "%s", vit_error());
    CHECK(vit_optimizer_step(&o, &m, &infer, 1) == VIT_ERR_STATE && o.step == 0,
          "no gradients");
    o.config.algorithm = VIT_SGD;
    fails(vit_optimizer_step(&o, &m, &s, 1), VIT_ERR_STATE,
          "this optimiser was made for Adam or AdamW; to change that, make another");
    vit_optimizer_free(&o);
    oc = vit_optimizer_defaults(VIT_SGD);
    CHECK(!vit_optimizer_create(&o, &m, &oc), "%s", vit_error());
    o.config.algorithm = VIT_ADAM;
    fails(vit_optimizer_step(&o, &m, &s, 1), VIT_ERR_STATE,
          "this optimiser was made for SGD; to change that, make another");
  }
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_state_free(&infer);
  vit_model_free(&m);
  vit_model_free(&other);
}

/* ---- schedules ----------------------------------------------------------- */

static void sequence(const char *name, const vit_schedule *s, const double *want,
                     int n) {
  for (int i = 0; i < n; i++) {
    double have = (double)vit_schedule_rate(s, NULL, i);
    CHECK(fabs(have - want[i]) < 1e-6, "%s: rate of step %d is %g, not %g", name, i,
          have, want[i]);
  }
}

static vit_plateau no_plateau(void) {
  vit_plateau p;
  memset(&p, 0, sizeof p);
  return p;
}

static void test_schedules(void) {
  static const double constant[3] = {0.5, 0.5, 0.5};
  static const double linear[8] = {0, 0.5, 1, 0.775, 0.55, 0.325, 0.1, 0.1};
  static const double steps[7] = {1, 1, 1, 0.5, 0.5, 0.5, 0.25};
  const double half = 0.1 + 0.9 * 0.5; /* half way down the cosine */
  const double q = 0.1 + 0.9 * 0.5 * (1 + sqrt(0.5));
  const double cosine[8] = {0, 0.5, 1, q, half, 1.1 - q, 0.1, 0.1};
  vit_schedule s = vit_schedule_constant(0.5f);
  vit_plateau p = no_plateau();
  sequence("constant", &s, constant, 3);
  CHECK((double)vit_schedule_rate(&s, NULL, 1000000) == 0.5, "constant for ever");
  CHECK(!vit_plateau_observe(&p, &s, 5) && !p.started && !p.lowered, "a constant rate was lowered");
  s = vit_schedule_constant(1);
  s.floor = 0.1f;
  s.warmup = 2;
  s.total = 6;
  s.kind = VIT_LINEAR;
  sequence("linear", &s, linear, 8);
  s.kind = VIT_COSINE;
  sequence("cosine", &s, cosine, 8);
  s.kind = VIT_STEP;
  s.every = 3;
  s.factor = 0.5f;
  sequence("step", &s, steps, 7);
  s.every = 0; /* never */
  CHECK((double)vit_schedule_rate(&s, NULL, 7) == 1, "every 0 steps");
  s.every = 3;
  s.kind = VIT_LINEAR; /* without a warm-up it starts at the top */
  s.warmup = 0;
  CHECK((double)vit_schedule_rate(&s, NULL, 0) == 1, "first rate");
  for (int kind = VIT_LINEAR; kind <= VIT_COSINE; kind++) { /* no end: it does not fall */
    s.kind = (vit_schedule_kind)kind;
    s.total = 0;
    s.warmup = 0;
    CHECK((double)vit_schedule_rate(&s, NULL, 0) == 1 && (double)vit_schedule_rate(&s, NULL, 99) == 1, "total 0");
    s.warmup = 4;
    CHECK((double)vit_schedule_rate(&s, NULL, 2) == 0.5 && (double)vit_schedule_rate(&s, NULL, 99) == 1,
          "a warm-up, then no end");
  }
}

static void test_plateau(void) {
  static const struct { double loss; int lowered; double rate; } epochs[] = {
      {3, 0, 1},   {2, 0, 1},   {2.5, 0, 1}, {1.9, 0, 1}, /* waited once: forgotten */
      {1.9, 0, 1}, {2, 1, 0.5}, {5, 0, 0.5}, {6, 1, 0.25}, {1, 0, 0.25},
      {1, 0, 0.25}, {1, 1, 0.2}, {1, 0, 0.2}, {1, 0, 0.2}}; /* not below the floor */
  vit_schedule s = vit_schedule_constant(1);
  vit_plateau p = no_plateau();
  s.kind = VIT_PLATEAU;
  s.factor = 0.5f;
  s.patience = 2;
  s.floor = 0.2f;
  for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
    int lowered = vit_plateau_observe(&p, &s, epochs[i].loss);
    double rate = (double)vit_schedule_rate(&s, &p, (int)i);
    CHECK(lowered == epochs[i].lowered && fabs(rate - epochs[i].rate) < 1e-7,
          "epoch %d: lowered %d, rate %g", (int)i, lowered, rate);
  }
  CHECK((double)vit_schedule_rate(&s, NULL, 9) == 1, "without a memory nothing was lowered");
  p = no_plateau(); /* what is not a number is not a best loss */
  for (int i = 0; i < 6; i++)
    CHECK(!vit_plateau_observe(&p, &s, i ? 6 - i : (double)NAN), "lowered at loss %d", 6 - i);
  CHECK(!vit_plateau_observe(&p, &s, (double)NAN) && vit_plateau_observe(&p, &s, (double)NAN), "NaN is no progress");
}

/* ---- fit ----------------------------------------------------------------- */

static void test_fit_reaches_everything(void) {
  for (int i = 0; i < 2; i++) {
    vit_dataset d = pictures(24);
    vit_fit_config f = vit_fit_defaults();
    vit_history h;
    vit_model m;
    make_model(&m, 1);
    m.kernels = table(i);
    f.epochs = 150;
    f.batch = 24; /* one batch, over and over */
    f.schedule = vit_schedule_constant(0.01f);
    CHECK(!vit_fit(&m, &f, &d, &d, &h), "%s", vit_error());
    if (!CHECK(h.epochs == 150, "%d epochs", h.epochs)) return;
    CHECK(h.epoch[149].val_accuracy == 1 && h.epoch[149].train_loss < 0.1,
          "after 150 epochs: loss %g, accuracy %g", h.epoch[149].train_loss,
          h.epoch[149].val_accuracy);
    CHECK(h.epoch[0].train_loss > 1, "loss %g at first", h.epoch[0].train_loss);
    for (int e = 0; e < 150; e++) {
      CHECK(fabs(h.epoch[e].rate - 0.01) < 1e-7, "rate %g", h.epoch[e].rate);
      CHECK(h.epoch[e].seconds >= (e ? h.epoch[e - 1].seconds : 0), "seconds");
    }
    vit_history_free(&h);
    CHECK(h.epochs == 0 && !h.epoch, "the history is not empty");
    vit_history_free(&h);
    vit_model_free(&m);
  }
}

/* What the callback was told, and when it says stop. */
static struct {
  int calls, done, stop_at, wrong;
  vit_progress last;
} told;

static int listen(const vit_progress *p, void *user) {
  told.calls++;
  told.done += p->epoch_done;
  if (user != &told || p->epochs != 3 || p->steps != 4 || !p->model) told.wrong = 1;
  if (p->epoch != (told.calls - 1) / 5 + 1) told.wrong = 2;
  if (p->epoch_done != (told.calls % 5 == 0)) told.wrong = 3;
  if (!p->epoch_done && p->step != (told.calls - 1) % 5 + 1) told.wrong = 4;
  if ((p->result != NULL) != p->epoch_done) told.wrong = 5;
  if (!(p->loss > 0 && p->loss < 10) || !(p->rate > 0) || !(p->seconds >= 0) ||
      !(p->seconds_left >= 0) || !(p->images_per_second >= 0))
    told.wrong = 6;
  if (p->result && p->result->train_loss != p->loss) told.wrong = 7;
  told.last = *p;
  return told.calls == told.stop_at;
}

static void test_callback(void) {
  static const struct { int stop_at, epochs; const char *sentence; } stops[] = {
      {0, 3, ""},
      {1, 0, "stopped at epoch 1, step 1"},
      {5, 1, "stopped after epoch 1"},
      {8, 1, "stopped at epoch 2, step 3"},
      {15, 3, "stopped after epoch 3"}};
  for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
    vit_dataset d = pictures(14); /* 4 + 4 + 4 + 2 */
    vit_fit_config f = vit_fit_defaults();
    vit_history h;
    vit_model m;
    vit_result r;
    make_model(&m, 1);
    memset(&told, 0, sizeof told);
    told.stop_at = stops[i].stop_at;
    f.epochs = 3;
    f.batch = 4;
    f.callback = listen;
    f.user = &told;
    r = vit_fit(&m, &f, &d, NULL, &h);
    if (stops[i].stop_at)
      fails(r, VIT_STOPPED, stops[i].sentence);
    else
      CHECK(!r, "%s", vit_error());
    CHECK(told.wrong == 0, "the callback was told something wrong: %d", told.wrong);
    CHECK(told.calls == (stops[i].stop_at ? stops[i].stop_at : 15), "%d calls",
          told.calls);
    CHECK(h.epochs == stops[i].epochs, "%d epochs in the history", h.epochs);
    for (int e = 0; e < h.epochs; e++)
      CHECK(h.epoch[e].train_loss > 0 && isnan(h.epoch[e].val_accuracy),
            "epoch %d of the history", e);
    vit_history_free(&h);
    vit_model_free(&m);
  }
}

/* The parameters after a fit. */
static void fit_model(vit_model *m, const vit_fit_config *f, int count) {
  vit_dataset d = pictures(count);
  vit_history h;
  make_model(m, 1);
  CHECK(!vit_fit(m, f, &d, NULL, &h), "%s", vit_error());
  vit_history_free(&h);
}

static void test_seeds(void) {
  vit_fit_config f = vit_fit_defaults();
  vit_model a, b, other;
  f.epochs = 2;
  f.batch = 5;
  f.seed = 4;
  fit_model(&a, &f, 23);
  fit_model(&b, &f, 23);
  f.seed = 5;
  fit_model(&other, &f, 23);
  CHECK_SAME_BITS("the same seed", b.params.block, a.params.block, a.params.count);
  CHECK(memcmp(a.params.block, other.params.block, a.params.count * 4),
        "another seed gives the same");
  vit_model_free(&a);
  vit_model_free(&b);
  vit_model_free(&other);
}

/* Two batches of 4 in one step are one batch of 8. */
static void test_accumulate(void) {
  vit_fit_config f = vit_fit_defaults();
  vit_model whole, parts;
  f.epochs = 3;
  f.optimizer = vit_optimizer_defaults(VIT_SGD);
  f.schedule = vit_schedule_constant(0.1f);
  f.batch = 8;
  fit_model(&whole, &f, 24);
  f.batch = 4;
  f.accumulate = 2;
  fit_model(&parts, &f, 24);
  CHECK_CLOSE("accumulated", parts.params.block, whole.params.block,
              whole.params.count, 1e-4, 1e-5);
  vit_model_free(&parts);
  /* the last step of an epoch takes what is left: 4 + 4, 4 */
  f.epochs = 1;
  f.accumulate = 100;
  fit_model(&parts, &f, 12);
  vit_model_free(&whole);
  f.batch = 12;
  f.accumulate = 1;
  fit_model(&whole, &f, 12);
  CHECK_CLOSE("the rest of an epoch", parts.params.block, whole.params.block,
              whole.params.count, 1e-4, 1e-5);
  vit_model_free(&parts);
  vit_model_free(&whole);
}

/* 4 + 4 + 2 images in one step, and a step that takes the 3 which are left: each
   image weighs the same as any other. */
static void test_short_group(void) {
  static const struct { int images, batch, accumulate, whole; } groups[] = {
      {10, 4, 3, 10}, {11, 4, 2, 8}, {5, 4, 7, 5}, {23, 5, 3, 15}};
  for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
    vit_fit_config f = vit_fit_defaults();
    vit_model whole, parts;
    f.epochs = 2;
    f.optimizer = vit_optimizer_defaults(VIT_SGD);
    f.schedule = vit_schedule_constant(0.1f);
    f.batch = groups[i].whole;
    fit_model(&whole, &f, groups[i].images);
    f.batch = groups[i].batch;
    f.accumulate = groups[i].accumulate;
    fit_model(&parts, &f, groups[i].images);
    CHECK_CLOSE("a short group", parts.params.block, whole.params.block, whole.params.count, 1e-4,
                1e-5);
    vit_model_free(&parts);
    vit_model_free(&whole);
  }
}

/* ---- the loop in steps --------------------------------------------------- */

static struct { int calls, fail_at; size_t count; float factor; } hooked;

static vit_result hook(float *g, size_t count, void *user) {
  if (user != &told) told.wrong = 9;
  hooked.count = count;
  for (size_t i = 0; i < count; i++) g[i] *= hooked.factor;
  return ++hooked.calls == hooked.fail_at ? VIT_STOPPED : VIT_OK;
}

/* One batch a step: 4 of training, then 3 of judging, in each of two epochs; the
   same bits as vit_fit, also where the callback stops it now and then. */
static void test_trainer_steps(void) {
  vit_dataset d = pictures(350), v = d;
  vit_fit_config f = vit_fit_defaults();
  vit_history h, g;
  vit_trainer t;
  vit_model m, whole;
  vit_result r = VIT_OK;
  f.epochs = 2;
  f.batch = 100;
  f.ema = 0.5f;
  f.keep_best = 1;
  make_model(&whole, 1);
  make_model(&m, 1);
  CHECK(!vit_fit(&whole, &f, &d, &v, &g), "%s", vit_error());
  memset(&told, 0, sizeof told);
  f.callback = listen;
  f.user = &told;
  told.stop_at = 2;
  CHECK(!vit_trainer_create(&t, &m, &f, &d, &v, &h), "%s", vit_error());
  for (int step = 0; step < 16 && !r && !t.done; step++) {
    const int of_epoch = step % 8, epoch = step / 8;
    const int judged = of_epoch < 4 ? 0 : 100 * (of_epoch - 3);
    r = vit_trainer_step(&t);
    if (r == VIT_STOPPED && step == 1) r = VIT_OK; /* and goes on */
    CHECK(!r, "step %d: %s", step, vit_error());
    if (of_epoch < 7)
      CHECK(t.epoch == epoch && t.batch == (of_epoch < 4 ? of_epoch + 1 : 4) &&
                t.judged.images == judged,
            "step %d: epoch %d, batch %d, %d judged", step, t.epoch, t.batch, t.judged.images);
    else
      CHECK(t.epoch == epoch + 1 && t.batch == 0 && h.epochs == epoch + 1 && t.progress.epoch_done,
            "step %d ends no epoch", step);
    CHECK(t.loss > 0 && t.progress.step == (of_epoch < 4 ? of_epoch + 1 : 4), "step %d: progress", step);
  }
  CHECK(!t.done && !vit_trainer_step(&t) && t.done && !vit_trainer_step(&t), "it does not end");
  vit_trainer_free(&t);
  fails(vit_trainer_step(&t), VIT_ERR_STATE,
        "this training has failed, or was not begun; create another trainer");
  CHECK_SAME_BITS("in steps", m.params.block, whole.params.block, m.params.count);
  for (int e = 0; e < 2; e++)
    CHECK(h.epochs == 2 && h.epoch[e].train_loss == g.epoch[e].train_loss &&
              h.epoch[e].val_loss == g.epoch[e].val_loss && h.best == g.best,
          "epoch %d is another", e);
  vit_history_free(&h);
  vit_history_free(&g);
  vit_model_free(&m);
  vit_model_free(&whole);
}

/* The hook sees the gradients of each optimiser step, and may change them. */
static void test_hook(void) {
  vit_dataset d = pictures(14);
  vit_fit_config f = vit_fit_defaults();
  vit_model m, plain;
  vit_history h;
  vit_trainer t;
  memset(&told, 0, sizeof told);
  memset(&hooked, 0, sizeof hooked);
  f.epochs = 2;
  f.batch = 4;
  f.accumulate = 3;
  f.optimizer = vit_optimizer_defaults(VIT_SGD);
  f.optimizer.momentum = 0;
  f.schedule = vit_schedule_constant(0.5f);
  fit_model(&plain, &f, 14);
  f.schedule = vit_schedule_constant(0.25f);
  f.gradients = hook;
  f.user = &told;
  hooked.factor = 2;
  fit_model(&m, &f, 14);
  CHECK(hooked.calls == 4 && hooked.count == m.params.count && !told.wrong, "%d calls", hooked.calls);
  CHECK_SAME_BITS("half the rate, twice the gradient", m.params.block, plain.params.block, m.params.count);
  hooked.fail_at = hooked.calls + 2;
  CHECK(!vit_trainer_create(&t, &m, &f, &d, NULL, &h), "%s", vit_error());
  for (int i = 0; i < 4; i++)
    CHECK(vit_trainer_step(&t) == (i == 3 ? VIT_STOPPED : VIT_OK), "step %d", i);
  vit_trainer_free(&t);
  vit_history_free(&h);
  hooked.factor = (float)NAN; /* a broken one reaches no weight */
  memcpy(plain.params.block, m.params.block, m.params.count * sizeof(float));
  CHECK(vit_fit(&m, &f, &d, NULL, &h) == VIT_ERR_DIVERGED, "%s", vit_error());
  CHECK_SAME_BITS("after NaN", m.params.block, plain.params.block, m.params.count);
  vit_history_free(&h);
  vit_model_free(&m);
  vit_model_free(&plain);
}

/* Two programs share each batch: this one has part 0 of 2; its hook adds what the
   other one, played by a state and a loader, makes of part 1. */
static struct { vit_model *m; vit_state s; vit_loader l; vit_trainer *t; } other;

static vit_result add_other(float *g, size_t count, void *user) {
  const int first = other.t->batch * 20, B = first + 20 > 50 ? 50 - first : 20;
  const int own = 8 * ((B + 15) / 16), n = B - own; /* eight of the sixteen parts */
  double loss;
  (void)user;
  if (other.l.epoch != other.t->epoch) vit_loader_epoch(&other.l, other.t->epoch);
  vit_zero_gradients(&other.s);
  other.s.shared = B, other.s.first = own;
  CHECK(!vit_loader_batch(&other.l, first + own, n) &&
            !vit_forward(other.m, &other.s, other.l.images, n) &&
            !vit_loss_targets(other.m, &other.s, other.l.targets, &loss) &&
            !vit_backward(other.m, &other.s, 1),
        "%s", vit_error());
  for (size_t i = 0; i < count; i++) g[i] += other.s.grads.block[i];
  return VIT_OK;
}

static vit_result add_losses(double *losses, int count, void *user) {
  (void)user;
  for (int i = 0; i < count; i++) { /* this runs before the other one's step */
    losses[i] += losses[i] > 0 ? 0 : 0.5;
    CHECK((losses[i] == 0.5) == (i >= 8 * ((count + 15) / 16)), "loss %d is %g", i, losses[i]);
  }
  return VIT_OK;
}

static void test_parts(void) {
  vit_dataset d = pictures(50); /* 20 + 20 + 10 */
  vit_fit_config f = vit_fit_defaults();
  vit_model m, whole;
  vit_history h;
  vit_trainer t;
  vit_result r = VIT_OK;
  f.epochs = 3;
  f.batch = 20;
  f.seed = 8;
  f.augment.shift = 0.2f;
  f.optimizer = vit_optimizer_defaults(VIT_SGD);
  f.schedule = vit_schedule_constant(0.1f);
  fit_model(&whole, &f, 50);
  make_model(&m, 1);
  f.parts = 2;
  f.gradients = add_other;
  other.m = &m;
  other.t = &t;
  CHECK(!vit_state_create(&other.s, &m, 20, VIT_FOR_TRAINING, 1) &&
            !vit_loader_create(&other.l, &d, &m, &f.augment, 20, 0, 8) &&
            !vit_trainer_create(&t, &m, &f, &d, NULL, &h),
        "%s", vit_error());
  while (!r && !t.done) r = vit_trainer_step(&t);
  CHECK(!r && h.epochs == 3, "%s", vit_error());
  CHECK_SAME_BITS("two parts", m.params.block, whole.params.block, (int)m.params.count);
  vit_trainer_free(&t);
  vit_history_free(&h);
  f.losses = add_losses;
  CHECK(!vit_trainer_create(&t, &m, &f, &d, NULL, &h) && !vit_trainer_step(&t), "%s", vit_error());
  CHECK(t.loss > 0.5 * 4 / 20 && t.loss < 3, "the loss of both is %g", t.loss);
  vit_trainer_free(&t);
  vit_history_free(&h);
  f.part = 2;
  fails(vit_fit_check(&f), VIT_ERR_CONFIG, "part is 2; it must be from 0 to 1");
  f.part = -1;
  fails(vit_fit_check(&f), VIT_ERR_CONFIG, "part is -1; it must be from 0 to 1");
  f.parts = 0;
  fails(vit_fit_check(&f), VIT_ERR_CONFIG, "parts is 0; it must be from 1 to 1048576");
  vit_loader_free(&other.l);
  vit_state_free(&other.s);
  vit_model_free(&m);
  vit_model_free(&whole);
}

/* A learning rate far too high is an error, whatever judges, and with each
   optimiser; the numbers of the model are left as something that can be read. */
static void test_rate_too_high(void) {
  for (int run = 0; run < 24; run++) {
    vit_dataset d = pictures(24);
    vit_fit_config f = vit_fit_defaults();
    vit_history h;
    vit_model m;
    vit_result r;
    make_model(&m, 1);
    m.kernels = table(run / 12);
    f.epochs = 30;
    f.batch = 24;
    f.ema = run % 2 ? 0.9f : 0;
    f.optimizer = vit_optimizer_defaults((vit_algorithm)(run / 2 % 3));
    f.schedule = vit_schedule_constant(run / 6 % 2 ? 1e6f : 10000);
    m.params.head_b[0] = 1;
    r = vit_fit(&m, &f, &d, run % 4 == 3 ? &d : NULL, &h);
    CHECK(r == VIT_ERR_DIVERGED || r == VIT_OK, "run %d: %s", run, vit_error());
    for (int e = 0; e < h.epochs; e++)
      CHECK(h.epoch[e].train_loss < 1e30, "run %d: loss %g", run, h.epoch[e].train_loss);
    if (!r)
      for (size_t i = 0; i < m.params.count; i++)
        if (!CHECK(fabs((double)m.params.block[i]) < 1e30, "run %d: a weight is %g", run,
                   (double)m.params.block[i]))
          break;
    vit_history_free(&h);
    vit_model_free(&m);
  }
  { /* one step alone, whose loss and gradient are good: a huge bias of all keys
       changes no attention, but the step makes it infinite */
    vit_dataset d = pictures(24);
    vit_fit_config f = vit_fit_defaults();
    vit_history h;
    vit_model m;
    make_model(&m, 1);
    m.params.qkv_b[12] = 1e27f;
    f.epochs = 1;
    f.batch = 24;
    f.optimizer = vit_optimizer_defaults(VIT_ADAMW);
    f.optimizer.weight_decay = 9e5f;
    f.optimizer.decay_all = 1;
    f.schedule = vit_schedule_constant(1e6f);
    fails(vit_fit(&m, &f, &d, NULL, &h), VIT_ERR_DIVERGED,
          "the weights after step 1 of the optimiser are too large: training diverged; a smaller "
          "learning rate may help");
    CHECK(h.epochs == 0, "%d epochs", h.epochs);
    vit_history_free(&h);
    vit_model_free(&m);
  }
}

/* What fit does, by hand: the same batches, steps and rates. */
static void test_fit_by_hand(void) {
  vit_fit_config f = vit_fit_defaults();
  vit_dataset d;
  vit_model m, hand;
  vit_state s;
  vit_optimizer o;
  float images[4 * 48];
  int order[10], labels[4], step = 0;
  f.epochs = 2;
  f.batch = 4;
  f.seed = 9;
  f.smoothing = 0.2f;
  f.schedule = vit_schedule_constant(0.02f);
  f.schedule.kind = VIT_LINEAR;
  f.schedule.warmup = 1;
  f.schedule.total = 6;
  fit_model(&m, &f, 10);
  make_model(&hand, 1);
  d = pictures(10);
  CHECK(!vit_state_create(&s, &hand, 4, VIT_FOR_TRAINING, 9) &&
            !vit_optimizer_create(&o, &hand, &f.optimizer),
        "%s", vit_error());
  for (int e = 0; e < 2; e++) {
    vit_rng rng = vit_rng_create(9 ^ VIT__SALT_SHUFFLE, (uint32_t)e);
    vit_shuffle(order, 10, &rng);
    for (int i = 0; i < 10; i += 4, step++) {
      int B = i + 4 > 10 ? 2 : 4;
      double loss;
      vit_dataset_batch(&d, order + i, B, images, labels);
      vit_zero_gradients(&s);
      vit_forward(&hand, &s, images, B);
      vit_loss(&hand, &s, labels, 0.2f, &loss);
      vit_backward(&hand, &s, 1);
      vit_optimizer_step(&o, &hand, &s, vit_schedule_rate(&f.schedule, NULL, step));
    }
  }
  CHECK_SAME_BITS("by hand", hand.params.block, m.params.block, m.params.count);
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_model_free(&hand);
  vit_model_free(&m);
}

static void test_divergence(void) {
  vit_dataset d = pictures(12);
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  vit_model m;
  vit_result r;
  int step = 0;
  f.batch = 4;
  make_model(&m, 1);
  m.params.qkv_w[3] = (float)NAN;
  r = vit_fit(&m, &f, &d, &d, &h);
  CHECK(r == VIT_ERR_DIVERGED && strstr(vit_error(), "nan") &&
            !strncmp(vit_error(), "the loss of step 1 is ", 22) &&
            strstr(vit_error(),
                   ": training diverged; a smaller learning rate may help"),
        "result %d, %s", (int)r, vit_error());
  CHECK(h.epochs == 0, "%d epochs", h.epochs);
  vit_history_free(&h);
  vit_model_free(&m);

  make_model(&m, 1); /* the loss of step 1 is good, then it bursts */
  f.optimizer = vit_optimizer_defaults(VIT_SGD);
  f.schedule = vit_schedule_constant(1e6f);
  f.epochs = 50;
  m.params.head_b[0] = 1;
  r = vit_fit(&m, &f, &d, NULL, &h);
  CHECK(r == VIT_ERR_DIVERGED && sscanf(vit_error(), "the loss of step %d is", &step) == 1 &&
            step > 1,
        "result %d, %s", (int)r, vit_error());
  CHECK(h.epochs == (step - 1) / 3, "step %d, %d epochs in the history", step,
        h.epochs);
  vit_history_free(&h);
  vit_model_free(&m);
}

/* The plateau lowers the rate when the loss that judges an epoch does not sink. */
static void test_fit_plateau(void) {
  vit_dataset d = pictures(8);
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  vit_model m;
  make_model(&m, 1);
  f.epochs = 4;
  f.batch = 8;
  f.optimizer = vit_optimizer_defaults(VIT_SGD);
  f.schedule = vit_schedule_constant(1e-12f); /* no step is large enough */
  f.schedule.kind = VIT_PLATEAU;
  f.schedule.factor = 0.5f;
  f.schedule.patience = 2;
  CHECK(!vit_fit(&m, &f, &d, &d, &h), "%s", vit_error());
  for (int e = 0; e < h.epochs; e++)
    CHECK(fabs(h.epoch[e].rate / (e < 3 ? 1e-12 : 0.5e-12) - 1) < 1e-4,
          "epoch %d: rate %g", e, h.epoch[e].rate);
  CHECK(f.schedule.kind == VIT_PLATEAU && f.schedule.patience == 2, "the config changed");
  vit_history_free(&h);
  vit_model_free(&m);
}

static void test_fit_errors(void) {
  vit_dataset good = pictures(8), bad;
  vit_fit_config f = vit_fit_defaults(), g;
  vit_history h;
  vit_model m;
  float was;
  make_model(&m, 1);
  was = m.params.block[0];
#define FIT(train, test, sentence)                                             \
  fails(vit_fit(&m, &g, train, test, &h), VIT_ERR_CONFIG, sentence);           \
  CHECK(!h.epoch && h.epochs == 0, "a history is left")
  g = f;
  bad = good;
  bad.count = 0;
  FIT(&bad, &good, "the training set is empty");
  FIT(&good, &bad, "the validation set is empty");
  bad = good;
  bad.height = 28;
  FIT(&bad, NULL,
      "the training images are 1 x 28 x 8 (channels, height, width), the model "
      "wants 1 x 6 x 8; vit_dataset_resize can help");
  FIT(&good, &bad,
      "the validation images are 1 x 28 x 8 (channels, height, width), the model "
      "wants 1 x 6 x 8; vit_dataset_resize can help");
  bad = good;
  bad.channels = 3;
  FIT(&bad, NULL,
      "the training images are 3 x 6 x 8 (channels, height, width), the model "
      "wants 1 x 6 x 8");
  bad = good;
  bad.classes = 10;
  FIT(&bad, NULL, "the training set has 10 classes, the model only 4");
  g.batch = 0;
  FIT(&good, NULL, "batch is 0; it must be from 1 to 1048576");
  g = f;
  g.epochs = 0;
  FIT(&good, NULL, "epochs is 0; it must be from 1 to 1048576");
  g = f;
  g.accumulate = -1;
  FIT(&good, NULL, "accumulate is -1; it must be from 1 to 1048576");
  g = f;
  g.schedule.rate = -1;
  FIT(&good, NULL, "the learning rate is -1 and its floor 0.0025; both must be from 0 to 1e6");
  g.schedule.rate = 0.001f;
  FIT(&good, NULL, "the learning rate is 0.001, below its floor 0.0025; lower schedule.floor too");
  g.schedule.rate = (float)NAN;
  CHECK(vit_fit(&m, &g, &good, NULL, &h) == VIT_ERR_CONFIG, "rate NaN");
  g = f;
  g.schedule.kind = VIT_LINEAR;
  g.schedule.warmup = 5;
  g.schedule.total = 5;
  FIT(&good, NULL, "the schedule warms up for 5 of 5 steps; warmup must be from 0 "
                   "to total - 1");
  g = f;
  g.schedule.kind = VIT_STEP;
  g.schedule.every = 0;
  FIT(&good, NULL, "the schedule lowers the rate every 0 steps or after 1 epochs; "
                   "both must be at least 1");
  g = f;
  g.resume = 1;
  FIT(&good, NULL, "resume is set, but not dir, the folder of the run to go on with");
  g = f;
  g.smoothing = 1.5f;
  CHECK(vit_fit(&m, &g, &good, NULL, &h) == VIT_ERR_CONFIG &&
            strstr(vit_error(), "label smoothing is 1.5"),
        "%s", vit_error());
  vit_history_free(&h);
  g = f;
  g.optimizer.beta1 = 2;
  CHECK(vit_fit_check(&f) == VIT_OK, "good settings: %s", vit_error());
  CHECK(vit_fit_check(&g) == VIT_ERR_CONFIG && strstr(vit_error(), "beta1 is 2"), "%s", vit_error());
  CHECK(vit_fit(&m, &g, &good, NULL, &h) == VIT_ERR_CONFIG, "beta1 2");
  vit_history_free(&h);
  CHECK(m.params.block[0] == was, "a failure changed the model");
  vit_model_free(&m);
  CHECK(vit_fit(&m, &f, &good, NULL, &h) == VIT_ERR_STATE && strstr(vit_error(), "there is no model"), "%s",
        vit_error());
}

/* ---- evaluate ------------------------------------------------------------ */

static void test_evaluate(void) {
  const int count = 300; /* more than two batches of evaluate */
  vit_dataset d = pictures(count);
  static float p[300 * 4], z[300 * 4], one[48];
  static int classes[300];
  double loss, accuracy, l, total = 0;
  int right = 0, label;
  vit_model m;
  vit_state s;
  make_model(&m, 6);
  CHECK(!vit_evaluate(&m, &d, &loss, &accuracy, classes, p, z), "%s", vit_error());
  CHECK(!vit_state_create(&s, &m, 1, VIT_FOR_INFERENCE, 1), "%s", vit_error());
  for (int i = 0; i < count; i++) {
    int guess = 0;
    vit_dataset_batch(&d, &i, 1, one, &label);
    vit_forward(&m, &s, one, 1);
    vit_loss(&m, &s, &label, 0, &l);
    total += l;
    for (int k = 1; k < 4; k++)
      if (s.logits[k] > s.logits[guess]) guess = k;
    right += guess == d.labels[i];
    CHECK(guess == classes[i], "image %d is %d, not %d", i, classes[i], guess);
    CHECK_SAME_BITS("probabilities", p + i * 4, s.probs, 4);
    CHECK_SAME_BITS("logits", z + i * 4, s.logits, 4);
  }
  CHECK(right > 0 && accuracy == (double)right / count, "accuracy %g, counted %d",
        accuracy, right);
  CHECK(fabs(loss - total / count) < 1e-9, "loss %g, counted %g", loss, total / count);
  CHECK(!vit_evaluate(&m, &d, &loss, &accuracy, NULL, NULL, NULL), "%s", vit_error());
  for (int k = 0; k < 4; k++) { /* one is not a number, then more: nothing is known */
    m.params.head_b[k] = k % 2 ? (float)INFINITY : (float)NAN;
    loss = accuracy = -7;
    fails(vit_evaluate(&m, &d, &loss, &accuracy, classes, p, NULL), VIT_ERR_DIVERGED,
          "a logit of image 0 is not a finite number: are all pixels and all weights finite?");
    CHECK(loss == -7 && accuracy == -7, "loss %g, accuracy %g", loss, accuracy);
  }
  d.count = 0;
  fails(vit_evaluate(&m, &d, &loss, &accuracy, NULL, NULL, NULL), VIT_ERR_CONFIG,
        "the test set is empty");
  d.count = 3;
  d.width = 9;
  fails(vit_evaluate(&m, &d, &loss, &accuracy, NULL, NULL, NULL), VIT_ERR_CONFIG,
        "the test images are 1 x 6 x 9 (channels, height, width), the model wants "
        "1 x 6 x 8; vit_dataset_resize can help");
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- the same bits ------------------------------------------------------- */

static uint32_t checksum(uint32_t sum, const float *x, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    sum = (sum ^ bits) * 16777619u; /* FNV-1a, by words */
    sum ^= sum >> 15;
  }
  return sum;
}

/* A fit, then one more forward and backward pass; everything that came out. */
typedef struct {
  vit_model m;
  vit_state s;
  double loss, accuracy;
} outcome;

static void train(outcome *r, const vit_config *c, const vit_kernels *kernels,
                  int threads, vit_algorithm a) {
  vit_dataset d = pictures(13);
  vit_fit_config f = vit_fit_defaults();
  static float images[13 * 48];
  int order[13], labels[13];
  vit_history h;
  f.epochs = 2;
  f.batch = 7;
  f.smoothing = 0.1f;
  f.optimizer = vit_optimizer_defaults(a);
  f.optimizer.clip_norm = 0.5f;
  CHECK(!vit_model_create(&r->m, c, 2), "%s", vit_error());
  r->m.kernels = kernels;
  r->m.threads = threads;
  CHECK(!vit_fit(&r->m, &f, &d, &d, &h), "%s", vit_error());
  r->loss = h.epoch[1].val_loss;
  vit_history_free(&h);
  CHECK(!vit_state_create(&r->s, &r->m, 13, VIT_FOR_TRAINING | VIT_INPUT_GRADIENT, 3),
        "%s", vit_error());
  for (int i = 0; i < 13; i++) order[i] = i;
  vit_dataset_batch(&d, order, 13, images, labels);
  vit_forward(&r->m, &r->s, images, 13);
  vit_loss(&r->m, &r->s, labels, 0.1f, &r->accuracy);
  vit_backward(&r->m, &r->s, 1);
}

static void outcome_free(outcome *r) {
  vit_state_free(&r->s);
  vit_model_free(&r->m);
}

static const char *const same_bits[] = {
    "", "pos_drop=0.1 attn_drop=0.2 proj_drop=0.1 hidden_drop=0.1 mlp_drop=0.1 "
        "block_drop=0.1 drop_path=0.3 depth=2",
    "norm=1 final_norm=0 head=1 pool=1 class_token=0 positions=1 gelu=1 "
    "attn_drop=0.2 drop_path=0.3 depth=2",
    "width=52 heads=4 mlp_width=70 local_mask=3 mlp_last_gelu=1 pool=1 positions=3",
    "dist_token=1 reg_tokens=2 pre_norm=1 gelu=2 pos_drop=0.1 attn_drop=0.1",
    "reg_tokens=3 pre_norm=1 fc_norm=1 depth=2 norm=1 drop_path=0.2"};

static uint32_t check_same_bits(const vit_kernels *kernels) {
  static const int threads[] = {2, 3, 5};
  uint32_t sum = 2166136261u;
  for (size_t i = 0; i < sizeof same_bits / sizeof *same_bits; i++) {
    vit_config c = changed(small_config(), same_bits[i]);
    vit_algorithm a = (vit_algorithm)(i % 3);
    outcome one, many;
    train(&one, &c, kernels, 1, a);
    sum = checksum(sum, one.m.params.block, one.m.params.count);
    sum = checksum(sum, one.s.grads.block, one.s.grads.count);
    sum = checksum(sum, one.s.logits, 13 * 4);
    for (int t = 0; t < 3; t++) {
      char name[80];
      snprintf(name, sizeof name, "%s, config %d, %d threads:", kernels->name, (int)i,
               threads[t]);
      train(&many, &c, kernels, threads[t], a);
      CHECK_SAME_BITS(name, many.m.params.block, one.m.params.block,
                      one.m.params.count);
      CHECK_SAME_BITS(name, many.s.logits, one.s.logits, 13 * 4);
      CHECK_SAME_BITS(name, many.s.grads.block, one.s.grads.block,
                      one.s.grads.count);
      CHECK_SAME_BITS(name, many.s.dimages, one.s.dimages, 13 * 48);
      CHECK(many.loss == one.loss && many.accuracy == one.accuracy, "%s loss", name);
      outcome_free(&many);
    }
    outcome_free(&one);
  }
  return sum;
}

static uint32_t checksums[2];
static void test_same_bits_naive(void) { checksums[0] = check_same_bits(&vit_naive); }
static void test_same_bits_simd(void) {
  checksums[1] = check_same_bits(vit_best_kernels());
}

int main(void) {
  RUN(test_sgd_on_a_quadratic);
  RUN(test_momentum);
  RUN(test_adam);
  RUN(test_decay_mask);
  RUN(test_clipping);
  RUN(test_optimizer_errors);
  RUN(test_schedules);
  RUN(test_plateau);
  RUN(test_fit_reaches_everything);
  RUN(test_callback);
  RUN(test_seeds);
  RUN(test_accumulate);
  RUN(test_short_group);
  RUN(test_trainer_steps);
  RUN(test_hook);
  RUN(test_parts);
  RUN(test_rate_too_high);
  RUN(test_fit_by_hand);
  RUN(test_divergence);
  RUN(test_fit_plateau);
  RUN(test_fit_errors);
  RUN(test_evaluate);
  RUN(test_same_bits_naive);
  RUN(test_same_bits_simd);
  printf("checksum naive %08lx simd %08lx\n", (unsigned long)checksums[0],
         (unsigned long)checksums[1]);
  return test_end("08_training");
}
