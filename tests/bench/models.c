/* Measures whole models: training, inference, how they scale, what they need. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <sys/resource.h>

/* ---- a model at work ----------------------------------------------------------- */

typedef struct {
  vit_model model;
  vit_state state;
  vit_optimizer optimizer; /* training only */
  float *images;           /* [batch,C,height,width], already in memory */
  int *labels;
  int batch, trains, int8;
  float rate;
} worker;

/* How a contender runs it. */
typedef struct {
  worker *w;
  const vit_kernels *kernels;
  int threads;
} worker_turn;

static size_t image_floats(const vit_config *c) {
  return (size_t)c->channels * (size_t)c->image_height * (size_t)c->image_width;
}

static void worker_create(worker *w, const vit_config *c, int batch, const vit_optimizer_config *o,
                          float rate, int int8) {
  memset(w, 0, sizeof *w);
  w->batch = batch;
  w->int8 = int8;
  w->trains = o != NULL;
  w->rate = rate;
  bench_try(vit_model_create(&w->model, c, 1));
  if (int8) bench_try(vit_model_quantize(&w->model));
  bench_try(vit_state_create(&w->state, &w->model, batch,
                             o ? VIT_FOR_TRAINING : VIT_FOR_INFERENCE, 1));
  if (o) bench_try(vit_optimizer_create(&w->optimizer, &w->model, o));
  else if (!int8) bench_try(vit_model_pack(&w->model)); /* as whoever only infers would */
  w->images = bench_floats((size_t)batch * image_floats(c));
  w->labels = (int *)malloc((size_t)batch * sizeof(int));
  if (!w->labels) bench_stop("out of memory for the labels of a batch");
  for (int i = 0; i < batch; i++) w->labels[i] = i % c->classes;
}

static void worker_free(worker *w) {
  if (w->trains) vit_optimizer_free(&w->optimizer);
  vit_state_free(&w->state);
  vit_model_free(&w->model);
  free(w->images);
  free(w->labels);
}

/* One step of the optimiser on the batch, or one forward pass. */
static void step_worker(void *self) {
  const worker_turn *t = (const worker_turn *)self;
  worker *w = t->w;
  double loss;
  w->model.kernels = t->kernels;
  w->model.threads = t->threads;
  if (!w->trains) {
    bench_try(vit_forward(&w->model, &w->state, w->images, w->batch));
    return;
  }
  vit_zero_gradients(&w->state);
  bench_try(vit_forward(&w->model, &w->state, w->images, w->batch));
  bench_try(vit_loss(&w->model, &w->state, w->labels, 0, &loss));
  bench_try(vit_backward(&w->model, &w->state, 1));
  bench_try(vit_optimizer_step(&w->optimizer, &w->model, &w->state, w->rate));
}

static const char *table_name(const vit_kernels *k) {
  return k == &vit_naive ? "vit.h naive" : "vit.h simd";
}

static void enter_worker(bench_race *r, worker_turn *t, worker *w, const vit_kernels *kernels,
                         int threads) {
  bench_contender *c;
  t->w = w;
  t->kernels = kernels;
  t->threads = threads;
  c = bench_enter(r, w->int8 ? "vit.h int8" : table_name(kernels), threads, step_worker, t);
  c->ours = 1;
  c->int8 = w->int8;
  c->once = kernels == &vit_naive;
}

/* 2340 -> "2,340" */
static const char *thousands(size_t n) {
  static char text[32];
  size_t at = sizeof text - 1, digits = 0;
  do {
    if (digits && digits % 3 == 0) text[--at] = ',';
    text[--at] = (char)('0' + n % 10);
    n /= 10;
    digits++;
  } while (n);
  return text + at;
}

/* ---- training -------------------------------------------------------------------- */

typedef struct {
  const char *name;
  vit_config (*config)(void);
  int batch;
  vit_algorithm algorithm;
  float rate;
  int quick; /* measured with --quick too */
} training;
/* The optimisers of the published recipes. */
static const training trainings[] = {
    {"A tutorial", vit_config_tutorial, 128, VIT_ADAM, 5e-3f, 1},
    {"MNIST", vit_config_mnist, 128, VIT_ADAMW, 1e-3f, 1},
    {"C CIFAR", vit_config_cifar_cls, 256, VIT_ADAMW, 1e-2f, 0}};
enum { TRAININGS = sizeof trainings / sizeof trainings[0] };

/* Peers first .. last that have opened the model, as bits. */
static int open_peers(int first, int last, const char *job, const char *what, const vit_config *c,
                      int batch, const char *extra) {
  char threads[32];
  int open = 0;
  snprintf(threads, sizeof threads, bench.threads > 1 ? "%d,1" : "%d", bench.threads);
  for (int i = first; i <= last; i++)
    if (peers_open(i, job, what, c, batch, threads, extra)) open |= 1 << i;
  return open;
}

static void enter_peers(bench_race *r, int open, int threads) {
  for (int i = 1; i < PEERS; i++)
    if (open >> i & 1) bench_enter_peer(r, i, threads);
}

static void measure_one_training(const training *t) {
  const vit_config c = t->config();
  const vit_optimizer_config o = vit_optimizer_defaults(t->algorithm);
  worker w;
  worker_turn turns[3];
  bench_race r;
  char title[80], extra[80];
  int open;
  worker_create(&w, &c, t->batch, &o, t->rate, 0);
  snprintf(extra, sizeof extra, "optimizer=%s rate=%g", t->algorithm == VIT_ADAM ? "adam" : "adamw",
           (double)t->rate);
  open = open_peers(PEER_EAGER, PEER_COMPILE, "train", t->name, &c, t->batch, extra);
  bench_race_begin(&r, "training", t->name, t->batch, "images/s", bench.seconds);
  for (int all = bench.threads > 1; all >= 0; all--) {
    const int n = all ? bench.threads : 1;
    enter_worker(&r, turns + all, &w, vit_best_kernels(), n);
    enter_peers(&r, open, n);
  }
  if (vit_best_kernels() != &vit_naive) enter_worker(&r, turns + 2, &w, &vit_naive, bench.threads);
  bench_run(&r);
  snprintf(title, sizeof title, "%s, %s weights, batch %d", t->name,
           thousands(w.model.params.count), t->batch);
  bench_print(&r, title, NULL);
  peers_close();
  worker_free(&w);
}

void measure_training(void) {
  bench_group("training: images/s; a step is zero gradients, forward, loss, backward, optimiser");
  for (int i = 0; i < TRAININGS; i++)
    if (trainings[i].quick || !bench.quick) measure_one_training(trainings + i);
}

/* ---- inference ---------------------------------------------------------------------- */

typedef struct {
  const char *name;
  vit_config (*config)(void);
  int quick;
} family;
static const family families[] = {
    {"Ti/16", vit_config_ti16, 1}, {"S/16", vit_config_s16, 0}, {"B/16", vit_config_b16, 1}};
enum { FAMILIES = sizeof families / sizeof families[0] };

static void note_milliseconds(char *text, size_t size, const bench_race *r,
                              const bench_contender *c) {
  (void)r;
  snprintf(text, size, "%8s ms a batch", bench_number(1e3 * bench_median(c)));
}

static void measure_one_inference(const family *f, int batch) {
  const vit_config c = f->config();
  worker w[2]; /* floats, bytes */
  worker_turn turns[2][2];
  bench_race r;
  char what[64], title[80];
  int open;
  for (int int8 = 0; int8 < 2; int8++)
    worker_create(w + int8, &c, batch, NULL, 0, int8);
  snprintf(what, sizeof what, "%s batch %d", f->name, batch);
  open = open_peers(PEER_EAGER, PEER_INT8, "infer", what, &c, batch, "");
  bench_race_begin(&r, "inference", what, batch, "images/s", bench.seconds);
  for (int all = bench.threads > 1; all >= 0; all--) {
    const int n = all ? bench.threads : 1;
    for (int int8 = 0; int8 < 2; int8++)
      enter_worker(&r, &turns[all][int8], w + int8, vit_best_kernels(), n);
    enter_peers(&r, open, n);
  }
  bench_run(&r);
  snprintf(title, sizeof title, "%s, 224x224, batch %d", f->name, batch);
  bench_print(&r, title, note_milliseconds);
  peers_close();
  for (int int8 = 0; int8 < 2; int8++) worker_free(w + int8);
}

void measure_inference(void) {
  bench_group("inference: images/s");
  for (int i = 0; i < FAMILIES; i++)
    for (int batch = 1; batch <= 8; batch += 7)
      if (families[i].quick || !bench.quick) measure_one_inference(families + i, batch);
}

/* ---- scaling -------------------------------------------------------------------------- */

/* FLOP of one forward pass of one image: the products, which are all that counts.
   A training step is three times that: dX and dW cost as much as Y each. */
static double forward_flop(const vit_config *config) {
  vit_config c = *config;
  double n, t, d, inner, m;
  bench_try(vit_config_resolve(&c));
  n = vit_config_patches(&c);
  t = vit_config_tokens(&c);
  d = c.width;
  inner = c.heads * c.head_dim;
  m = c.mlp_width;
  return 2 * n * d * c.channels * c.patch_height * c.patch_width + 2 * d * c.classes +
         c.depth * (2 * t * d * 4 * inner + 4 * t * t * inner + 4 * t * d * m);
}

static void print_point(const char *what, int threads) {
  const char *name = table_name(vit_best_kernels());
  const bench_row *rate = bench_find("scaling", what, name, threads, "images/s");
  const bench_row *flop = bench_find("scaling", what, name, threads, "GFLOP/s");
  if (!rate || !flop) return;
  printf("    %-28s %7d %9s %9s %9s %9.0f %%\n", what, threads, bench_number(rate->median),
         bench_number(1e3 / rate->median), bench_number(flop->median),
         100 * flop->median * 1e9 / bench_peak(threads));
  fflush(stdout);
}

/* One point of a curve: `what` is "threads MNIST training" or "tokens 197". */
static void measure_point(const char *what, const vit_config *c, int batch,
                          const vit_optimizer_config *o, int threads) {
  worker w;
  worker_turn turn;
  bench_race r;
  const bench_row *row;
  const double flop = forward_flop(c) * (o ? 3 : 1) / 1e9;
  worker_create(&w, c, batch, o, 1e-3f, 0);
  bench_race_begin(&r, "scaling", what, batch, "images/s", bench.seconds / 2);
  enter_worker(&r, &turn, &w, vit_best_kernels(), threads);
  bench_run(&r);
  row = bench_find("scaling", what, r.list[0].name, threads, "images/s");
  if (row)
    bench_add("scaling", what, r.list[0].name, threads, row->median * flop, row->low * flop,
              row->high * flop, "GFLOP/s");
  print_point(what, threads);
  worker_free(&w);
}

void measure_scaling(void) {
  static const int sides[] = {112, 224, 320, 384, 512};
  static const int batches[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
  const vit_optimizer_config adamw = vit_optimizer_defaults(VIT_ADAMW);
  const vit_config mnist = vit_config_mnist(), b16 = vit_config_b16();
  vit_config tokens = vit_config_ti16();
  char what[64];
  bench_group("scaling: threads, tokens (Ti/16 on larger images), batch (MNIST model)");
  printf("  %-30s %7s %9s %9s %9s %11s\n", "", "threads", "images/s", "ms/image", "GFLOP/s",
         "of peak");
  for (int n = 1; n <= bench.threads; n++)
    measure_point("threads MNIST training", &mnist, 128, &adamw, n);
  for (int n = 1; n <= bench.threads; n++) measure_point("threads B/16 batch 1", &b16, 1, NULL, n);
  for (int i = 0; i < 5; i++) {
    tokens.image_height = tokens.image_width = sides[i];
    snprintf(what, sizeof what, "tokens %d", vit_config_tokens(&tokens));
    measure_point(what, &tokens, 1, NULL, bench.threads);
  }
  for (int i = 0; i < 9; i += bench.quick ? 2 : 1) {
    snprintf(what, sizeof what, "batch %d", batches[i]);
    measure_point(what, &mnist, batches[i], NULL, bench.threads);
  }
}

/* ---- memory ------------------------------------------------------------------------------ */

/* Highest resident memory of this process in bytes. Linux's getrusage also counts
   what the process was before exec, so /proc goes first. */
static double peak_memory(void) {
  struct rusage u;
  char line[200];
  double kilobytes = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, "VmHWM:", 6)) kilobytes = strtod(line + 6, NULL);
  if (f) fclose(f);
  if (kilobytes > 0) return kilobytes * 1024;
  getrusage(RUSAGE_SELF, &u);
#ifdef __APPLE__
  return (double)u.ru_maxrss;
#else
  return (double)u.ru_maxrss * 1024;
#endif
}

/* In a process of its own: one step of a training or of an inference ("nothing":
   none), and the memory that it took, on stdout. */
int memory_case(const char *name) {
  worker w;
  for (int i = 0; i < TRAININGS + FAMILIES; i++) {
    const int train = i < TRAININGS;
    const training *t = trainings + (train ? i : 0);
    const family *f = families + (train ? 0 : i - TRAININGS);
    const vit_config c = train ? t->config() : f->config();
    const vit_optimizer_config o = vit_optimizer_defaults(t->algorithm);
    worker_turn turn = {NULL, NULL, 0};
    turn.w = &w;
    turn.kernels = vit_best_kernels();
    if (strcmp(name, train ? t->name : f->name)) continue;
    worker_create(&w, &c, train ? t->batch : 1, train ? &o : NULL, 0, 0);
    step_worker(&turn);
    worker_free(&w);
  }
  printf("%.0f\n", peak_memory());
  return 0;
}

static double memory_of(const char *name) {
  const char *argv[] = {NULL, "--memory-of", NULL, NULL};
  bench_child child;
  char line[100], log[300];
  double bytes = NAN;
  argv[0] = bench.self;
  argv[2] = name;
  snprintf(log, sizeof log, "%s/memory.log", bench.out);
  if (!bench_child_start(&child, argv, log)) return NAN;
  if (bench_child_line(&child, line, sizeof line, 120)) bytes = strtod(line, NULL);
  bench_child_stop(&child);
  return bytes;
}

/* Used against announced; of inference also against the weights alone. */
static void measure_one_memory(const char *name, const vit_config *c, int batch, int train,
                               double empty) {
  vit_memory plan;
  double used = memory_of(name) - empty, announced, images = 4.0 * batch * (double)image_floats(c);
  bench_try(vit_memory_plan(c, batch, &plan));
  announced = (double)plan.parameters + (double)plan.constants;
  if (train) announced += (double)plan.gradients + (double)plan.moments + (double)plan.training;
  else announced += (double)plan.inference;
  announced += images; /* the batch is the caller's */
  printf("    %-28s %9s %9s %9s %9.2f %11.2f\n", name, bench_number(used / 1e6),
         bench_number(announced / 1e6), bench_number((double)plan.parameters / 1e6),
         used / announced, used / (double)plan.parameters);
  fflush(stdout);
  bench_add("memory", name, "used", bench.threads, used / 1e6, used / 1e6, used / 1e6, "MB");
  bench_add("memory", name, "announced", bench.threads, announced / 1e6, announced / 1e6,
            announced / 1e6, "MB");
  bench_add("memory", name, "weights", bench.threads, (double)plan.parameters / 1e6,
            (double)plan.parameters / 1e6, (double)plan.parameters / 1e6, "MB");
}

void measure_memory(void) {
  const double empty = memory_of("nothing"); /* the program itself */
  bench_group("memory: peak of one step, MB; announced by vit_memory_plan, and the images");
  printf("  %-30s %9s %9s %9s %9s %11s\n", "", "used", "announced", "weights", "used/ann.",
         "used/weights");
  for (int i = 0; i < TRAININGS; i++) {
    const vit_config c = trainings[i].config();
    measure_one_memory(trainings[i].name, &c, trainings[i].batch, 1, empty);
  }
  for (int i = 0; i < FAMILIES; i++) {
    const vit_config c = families[i].config();
    measure_one_memory(families[i].name, &c, 1, 0, empty);
  }
}
