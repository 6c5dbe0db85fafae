/* Measures the machine's roofs, every kernel, and the matrix product. */
#define VIT_IMPLEMENTATION
#include "bench.h"

#include "../../examples/ladder.h"

/* ---- machine --------------------------------------------------------------- */

static double peaks[2], bandwidths[2]; /* of one thread, of all */

/* Of some, but not all threads: so many times that of one. */
static double roof_of(const double roof[2], int threads) {
  if (threads <= 1) return roof[0];
  return threads < bench.threads && threads * roof[0] < roof[1] ? threads * roof[0] : roof[1];
}

double bench_peak(int threads) { return roof_of(peaks, threads); }
double bench_bandwidth(int threads) { return roof_of(bandwidths, threads); }

/* Bytes/s of a copy of 128 MB: each byte is read once and written once. */
static double copy_bandwidth(int threads) {
  const size_t share = ((size_t)128 << 20) / (size_t)threads;
  char *from = (char *)malloc(share * (size_t)threads);
  char *to = (char *)malloc(share * (size_t)threads);
  double best = 1e9;
  if (!from || !to) bench_stop("out of memory for the copy that measures the memory");
  memset(from, 1, share * (size_t)threads);
  for (int turn = 0; turn < 4; turn++) { /* the first one fetches the pages */
    double seconds = vit_seconds();
    VIT__PARALLEL_FOR
    for (int t = 0; t < threads; t++)
      memcpy(to + share * (size_t)t, from + share * (size_t)t, share);
    seconds = vit_seconds() - seconds;
    if (turn && seconds < best) best = seconds;
  }
  free(from);
  free(to);
  return 2 * (double)(share * (size_t)threads) / best;
}

/* One roof, measured in each round. Returns the highest: that is the roof. */
static double measure_roof(const char *what, double (*measure)(int), int threads,
                           const char *unit) {
  bench_contender c;
  double middle, low, high;
  memset(&c, 0, sizeof c);
  for (int round = 0; round < bench.rounds; round++) c.seconds[c.samples++] = measure(threads);
  middle = bench_median(&c);
  low = c.seconds[0];
  high = c.seconds[c.samples - 1];
  bench_add("machine", what, "machine", threads, middle / 1e9, low / 1e9, high / 1e9, unit);
  printf("    %-36s %7d %9s %9s %9s  %s\n", what, threads, bench_number(middle / 1e9),
         bench_number(low / 1e9), bench_number(high / 1e9), unit);
  return high;
}

/* The memory's roof is the most that was ever seen, whatever was done. */
static void raise_bandwidth(int all, double bytes_per_second) {
  if (bytes_per_second > bandwidths[all]) bandwidths[all] = bytes_per_second;
}

void measure_machine(void) {
  bench_group("machine: the roofs");
  printf("  %-38s %7s %9s %9s %9s\n", "", "threads", "median", "low", "high");
  for (int all = 0; all < (bench.threads > 1 ? 2 : 1); all++) {
    const int threads = all ? bench.threads : 1;
    peaks[all] = measure_roof("multiply-adds in registers", ladder_fma_peak, threads, "GFLOP/s");
    raise_bandwidth(all, measure_roof("memory read or changed", ladder_bandwidth, threads, "GB/s"));
    raise_bandwidth(all, measure_roof("memory copied", copy_bandwidth, threads, "GB/s"));
  }
  if (bench.threads > 1 && peaks[1] < 1.5 * peaks[0])
    printf("  %d threads hardly do more than one: other programs keep the cores busy. Do not\n"
           "  trust what follows for several threads, least of all the small cases.\n",
           bench.threads);
}

/* ---- kernels: one line for each of VIT_KERNELS -------------------------------- */

/* Sizes of Ti/16. A batch is as large as the arrays hold: no cache holds those.
   Products, which memory does not slow down, are content with HEAVY images. */
enum {
  T = 197, N = 196, D = 192, H = 3, DH = 64, M = 768, K = 1000,
  CHANNELS = 3, SIDE = 224, PATCH = 16,
  PIXELS = CHANNELS * SIDE * SIDE, MAP = H * T * T, /* attention of one image */
  EACH = T * M,                    /* the longest row of activations: MLP */
  /* Additions and multiplications that the function takes: as vit_exp does it,
     with 8 terms and the reduction; erf and tanh are built from it. */
  EXP = 24, ERF = 40, TANH = 28,
  ROOM = 64 * EACH,                /* floats of an array */
  HEAVY = 8
};
static int images;               /* in the batch of the kernel at work */
static float *big[5], *small[6]; /* [ROOM], [M * D] */
static double *losses;
static const vit_adam_constants adam = {1e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.5f, 0.5f, 1};

typedef struct {
  const char *name;
  void (*run)(const vit_kernels *k);
  int row;             /* floats of an image in the longest array */
  double flop, floats; /* per image: operations, and numbers read or written */
} kernel;

#define A big[0]
#define B big[1]
#define X big[2]
#define Y big[3]
#define ZERO big[4]
#define ROWS (images * T)
#define EACH_IMAGE for (vit_idx i = 0; i < images; i++)
#define EACH_HEAD for (vit_idx i = 0; i < (vit_idx)images * H; i++)
/* Head i in memory that holds Q, K, V of each token side by side. */
#define HEAD(p, part) ((p) + i / H * T * 3 * D + (part) * D + i % H * DH)
#define OUT(p) ((p) + i / H * T * D + i % H * DH)
#define SCORES(p) ((p) + i * T * T)

/* kernel, floats of an image in the longest array, operations per image, numbers
   per image that must come from or go to memory (x += counts twice), the call.
   The random numbers of dropout are integers: they count as no operation. */
#define KERNEL(name, row, flop, floats, ...)                                   \
  static void run_##name(const vit_kernels *k) { __VA_ARGS__; }                \
  static const kernel kernel_##name = {#name, run_##name, row, flop, floats};

KERNEL(patchify_forward, PIXELS, 0, 2 * PIXELS,
       EACH_IMAGE k->patchify_forward(A + i * PIXELS, X + i * PIXELS, CHANNELS, SIDE, SIDE,
                                      PATCH, PATCH))
KERNEL(patchify_backward, PIXELS, 0, 2 * PIXELS,
       EACH_IMAGE k->patchify_backward(A + i * PIXELS, X + i * PIXELS, CHANNELS, SIDE, SIDE,
                                       PATCH, PATCH))
KERNEL(linear_forward, EACH, 2 * T * D * M, T * D + T * M,
       k->linear_forward(A, X, small[0], small[1], ROWS, D, M))
KERNEL(linear_packed_forward, EACH, 2 * T * D * M, T * D + T * M,
       k->linear_packed_forward(A, X, small[0], small[1], ROWS, D, M))
KERNEL(quantize_rows, T * D, 8 * T * D, T * D + T * (2 + D / 4), k->quantize_rows(A, X, ROWS, D))
/* Its operations are on bytes: it may go beyond the roof of floats. */
KERNEL(linear_int8_forward, EACH, 2 * T * D * M, T * (2 + D / 4) + T * M,
       k->linear_int8_forward(A, X, small[0], small[1], ROWS, D, 0, M))
KERNEL(linear_backward_input, EACH, 2 * T * D * M, T * D + T * M,
       k->linear_backward_input(A, X, small[0], ROWS, D, M))
KERNEL(linear_backward_weight, EACH, 2 * T * D * M + T * M, T * D + T * M,
       k->linear_backward_weight(small[2], small[3], X, Y, ROWS, D, M, M))
KERNEL(tokens_forward, T * D, T * D, 2 * T * D,
       EACH_IMAGE k->tokens_forward(A + i * T * D, X + i * N * D, small[1], small[4], N, D))
KERNEL(tokens_backward, T * D, T * D, 2 * T * D,
       EACH_IMAGE k->tokens_backward(A + i * N * D, small[3], small[5], X + i * T * D, N, D))
KERNEL(softmax_forward, MAP, MAP * (4 + EXP), 2 * MAP, k->softmax_forward(A, X, images * H * T, T))
KERNEL(softmax_backward, MAP, MAP * 4, 3 * MAP, k->softmax_backward(A, X, Y, images * H * T, T))
KERNEL(attention_scores_forward, MAP, 2 * MAP * DH + MAP * (5 + EXP), 2 * T * D + MAP,
       EACH_HEAD k->attention_scores_forward(SCORES(A), HEAD(X, 0), HEAD(X, 1), NULL, T, T, DH,
                                             3 * D))
KERNEL(attention_scores_backward, MAP, 4 * MAP * DH + 5 * MAP, 4 * T * D + 3 * MAP,
       EACH_HEAD k->attention_scores_backward(HEAD(A, 0), HEAD(A, 1), SCORES(ZERO), SCORES(Y),
                                              HEAD(X, 0), HEAD(X, 1), T, T, DH, 3 * D))
KERNEL(attention_values_forward, MAP, 2 * MAP * DH, 2 * T * D + MAP,
       EACH_HEAD k->attention_values_forward(OUT(A), SCORES(Y), HEAD(X, 2), T, T, DH, 3 * D, D))
KERNEL(attention_values_backward, MAP, 4 * MAP * DH, 3 * T * D + 2 * MAP,
       EACH_HEAD k->attention_values_backward(SCORES(B), HEAD(A, 2), OUT(X), SCORES(Y),
                                              HEAD(X, 2), T, T, DH, 3 * D, D))
KERNEL(layernorm_forward, T * D, 8 * T * D, 2 * T * D,
       k->layernorm_forward(A, small[2], small[3], X, small[0], small[1], ROWS, D, 1e-6f))
KERNEL(layernorm_backward, T * D, 15 * T * D, 4 * T * D,
       k->layernorm_backward(A, small[2], small[3], X, Y, small[0], small[1], small[4], ROWS, D))
KERNEL(gelu_forward, EACH, EACH * (4 + ERF), 2 * EACH, k->gelu_forward(A, X, images * EACH))
KERNEL(gelu_backward, EACH, EACH * (8 + ERF), 3 * EACH, k->gelu_backward(A, Y, X, images * EACH))
KERNEL(gelu_tanh_forward, EACH, EACH * (7 + TANH), 2 * EACH,
       k->gelu_tanh_forward(A, X, images * EACH))
KERNEL(gelu_tanh_backward, EACH, EACH * (14 + TANH), 3 * EACH,
       k->gelu_tanh_backward(A, Y, X, images * EACH))
KERNEL(gelu_quick_forward, EACH, EACH * (4 + EXP), 2 * EACH, k->gelu_quick_forward(A, X, images * EACH))
KERNEL(gelu_quick_backward, EACH, EACH * (8 + EXP), 3 * EACH,
       k->gelu_quick_backward(A, Y, X, images * EACH))
KERNEL(uniform, EACH, EACH, EACH, k->uniform(A, images * EACH, 1, 2, 0))
KERNEL(dropout, EACH, EACH, 2 * EACH, k->dropout(A, X, images * EACH, 0.1f, 1, 2, 0))
KERNEL(residual_forward, EACH, 2 * EACH, 3 * EACH, k->residual_forward(A, X, Y, 1, images * EACH))
KERNEL(scale, EACH, EACH, 2 * EACH, k->scale(A, X, 0.5f, images * EACH))
KERNEL(mean_forward, T * D, T * D, T * D,
       EACH_IMAGE k->mean_forward(small[3], X + i * T * D, T, D))
KERNEL(mean_backward, T * D, T * D, T * D,
       EACH_IMAGE k->mean_backward(A + i * T * D, small[1], T, D))
KERNEL(crossentropy_forward, K, K * (4 + EXP), 3 * K,
       k->crossentropy_forward(losses, A, X, Y, images, K))
KERNEL(crossentropy_backward, K, 2 * K, 3 * K,
       k->crossentropy_backward(A, X, Y, 1, images, K))
KERNEL(sgd_step, EACH, 6 * EACH, 5 * EACH, k->sgd_step(A, B, X, images * EACH, 1e-6f, 0.9f, 0))
KERNEL(adam_step, EACH, 14 * EACH, 7 * EACH, k->adam_step(A, B, Y, X, images * EACH, &adam))
KERNEL(sum_squares, EACH, 2 * EACH, EACH, k->sum_squares(losses, X, images * EACH))

#undef A
#undef B
#undef X
#undef Y

/* A new kernel of vit.h does not compile here until it has a line above. */
#define VIT__FIELD(name, args) &kernel_##name,
static const kernel *const kernels[] = {VIT_KERNELS(VIT__FIELD) NULL};
#undef VIT__FIELD

static int batch_of(const kernel *k) {
  return k->flop > 40 * k->floats ? HEAVY : ROOM / k->row;
}

typedef struct { const kernel *what; const vit_kernels *table; } kernel_turn;
static void step_kernel(void *self) {
  const kernel_turn *t = (const kernel_turn *)self;
  t->what->run(t->table);
}

static double kernel_milliseconds(const kernel *k, const char *table) {
  const bench_row *row = bench_find("kernels", k->name, table, 1, "ms");
  return row ? row->median : NAN;
}

static void print_kernel(const kernel *k) {
  const double naive = kernel_milliseconds(k, "naive"), simd = kernel_milliseconds(k, "simd");
  const double best = isnan(simd) ? naive : simd, count = batch_of(k);
  const double flop = k->flop * count, bytes = 4 * k->floats * count, intensity = flop / bytes;
  double roof = intensity * bench_bandwidth(1);
  if (roof > bench_peak(1)) roof = bench_peak(1);
  printf("    %-26s %9s %9s %8s %9s %8s %8s %8s %%\n", k->name, bench_number(naive),
         bench_number(simd), bench_number(naive / simd), bench_number(flop / best / 1e6),
         bench_number(bytes / best / 1e6), bench_number(intensity),
         bench_number(flop > 0 ? 100 * flop / best * 1e3 / roof : NAN));
  bench_add("kernels", k->name, "intensity", 1, intensity, intensity, intensity, "FLOP/byte");
}

static void measure_kernel(const kernel *k) {
  kernel_turn naive = {k, &vit_naive}, simd = {k, &vit_simd};
  bench_race r;
  images = batch_of(k);
  bench_race_begin(&r, "kernels", k->name, k->flop * images / 1e9, "GFLOP/s", bench.seconds / 10);
  bench_enter(&r, "naive", 1, step_kernel, &naive)->once = 1;
  if (vit_best_kernels() == &vit_simd) bench_enter(&r, "simd", 1, step_kernel, &simd)->ours = 1;
  bench_run(&r);
}

void measure_kernels(void) {
  for (int i = 0; i < 5; i++) big[i] = bench_floats(ROOM);
  for (int i = 0; i < 6; i++) small[i] = bench_floats((size_t)M * D);
  for (int i = 0; i < ROOM; i++) {
    ZERO[i] = 0;               /* scores_backward scales it at each call: 0 stays 0 */
    big[3][i] *= big[3][i];    /* probabilities, and Adam's second moments: positive */
  }
  losses = (double *)calloc(ROOM / K, sizeof *losses);
  if (!losses) bench_stop("out of memory for the kernels' measurement");
  bench_group("kernels: one thread, a batch of Ti/16; roof: what memory and multiply-adds allow");
  for (int i = 0; kernels[i]; i++) {
    measure_kernel(kernels[i]);
    if (i % 4 == 0) raise_bandwidth(0, ladder_bandwidth(1)); /* other guests use it, too */
  }
  printf("  %-28s %9s %9s %8s %9s %8s %8s %10s\n", "", "naive ms", "simd ms", "x naive",
         "GFLOP/s", "GB/s", "FLOP/B", "of roof");
  for (int i = 0; kernels[i]; i++) print_kernel(kernels[i]);
  for (int i = 0; i < 5; i++) free(big[i]);
  for (int i = 0; i < 6; i++) free(small[i]);
  free(losses);
}

/* ---- matmul -------------------------------------------------------------------- */

enum { FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT, FORMS };
static const char *const forms[FORMS] = {"forward", "dX", "dW"};
typedef struct { int rows, in, out; } shape;
static const shape shapes[] = {
    {1024, 1024, 1024}, {197, 768, 768}, {197, 768, 2304}, {197, 768, 3072}, {197, 3072, 768},
    {6400, 64, 64},     {6400, 64, 256}, {6400, 256, 64},  {640, 9, 27},     {640, 9, 36},
    {640, 256, 9}};
static const int quick_shapes[] = {0, 3, 6, 7, 9};

/* Of y = x W^T what the form reads and writes. `packed`: W as
   linear_packed_forward wants it, or NULL. */
typedef struct {
  shape s;
  int form, threads;
  float *x, *w, *y, *packed;
  ladder_product rung;
} product;

static void step_rung(void *self) {
  const product *p = (const product *)self;
  p->rung(p->y, p->x, p->w, p->s.rows, p->s.in, p->s.out);
}

/* Rows first .. first + count - 1 of what the form writes: y, dx or dw. */
static void run_share(const product *p, vit_idx first, int count) {
  const vit_kernels *k = vit_best_kernels();
  const int rows = p->s.rows, in = p->s.in, out = p->s.out;
  if (p->form == FORWARD)
    k->linear_packed_forward(p->y + first * out, p->x + first * in, p->packed, NULL, count, in, out);
  else if (p->form == BACKWARD_INPUT)
    k->linear_backward_input(p->x + first * in, p->y + first * out, p->w, count, in, out);
  else
    k->linear_backward_weight(p->w + first * in, NULL, p->y + first, p->x, rows, in, count, out);
}

/* What the ladder has not, as the model does it: each thread has rows of its
   own, in whole tiles. */
static void step_shared(void *self) {
  const product *p = (const product *)self;
  const int threads = p->threads, n = p->form == BACKWARD_WEIGHT ? p->s.out : p->s.rows;
  VIT__PARALLEL_FOR
  for (int t = 0; t < threads; t++) {
    int first, count;
    vit__part(n, threads, t, VIT__ROW_MULTIPLE, &first, &count);
    if (count > 0) run_share(p, first, count);
  }
}

static void step_blas(void *self) {
  const product *p = (const product *)self;
  const int rows = p->s.rows, in = p->s.in, out = p->s.out;
  blas_threads(p->threads);
  if (p->form == FORWARD) blas_forward(p->y, p->x, p->w, rows, in, out);
  if (p->form == BACKWARD_INPUT) blas_backward_input(p->x, p->y, p->w, rows, in, out);
  if (p->form == BACKWARD_WEIGHT) blas_backward_weight(p->w, p->y, p->x, rows, in, out);
}

static void enter_product(bench_race *r, const product *work, const char *name, int threads,
                          void (*step)(void *), ladder_product rung) {
  static product works[BENCH_CONTENDERS]; /* what each contender of this race works on */
  bench_contender *c = bench_enter(r, name, threads, step, works + r->count);
  product *p = works + r->count - 1;
  *p = *work;
  p->threads = threads;
  p->rung = rung;
  c->ours = step != step_blas;
  c->once = !strcmp(name, "naive");
}

/* Those of one thread, then those of all. The ladder is a forward product only. */
static void enter_products(bench_race *r, const product *work) {
  const int forward = work->form == FORWARD;
  for (int all = 0; all < (bench.threads > 1 ? 2 : 1); all++) {
    const int threads = all ? bench.threads : 1;
    for (int i = 0; forward && ladder_at(i); i++) {
      const ladder_rung *rung = ladder_at(i);
      if ((rung->threads == 0) == all)
        enter_product(r, work, all ? "vit.h" : rung->name, threads, step_rung, rung->run);
    }
    if (forward) /* not every shape has packed weights: then a dash in the table */
      enter_product(r, work, "vit.h packed", threads, work->packed ? step_shared : NULL, NULL);
    else enter_product(r, work, "vit.h", threads, step_shared, NULL);
    if (blas_name()) enter_product(r, work, blas_name(), threads, step_blas, NULL);
  }
}

static int column(const bench_contender *c) { return (int)strlen(c->name) + 2; }

/* Two lines above the first row: the contenders and their threads. */
static void print_product_heading(const bench_race *r, int form) {
  static const char *const titles[FORMS] = {"forward: Y = X W^T", "backward: dX = dY W",
                                            "backward: dW += dY^T X"};
  printf("  %s, GFLOP/s\n    %-14s", titles[form], "rows x in x out");
  for (int i = 0; i < r->count; i++) printf("%*s", column(r->list + i), r->list[i].name);
  printf("   vit.h vs OpenBLAS   of peak\n    %-14s ", "threads");
  for (int i = 0; i < r->count; i++) printf("%*d", column(r->list + i), r->list[i].threads);
  printf("\n");
}

static const bench_contender *find_contender(const bench_race *r, const char *name, int threads) {
  for (int i = 0; i < r->count; i++)
    if (!strcmp(r->list[i].name, name) && r->list[i].threads == threads) return r->list + i;
  return NULL;
}

/* How many times as fast as OpenBLAS vit.h is, or NAN. */
static double versus_blas(const bench_race *r, int threads) {
  const bench_contender *vit = find_contender(r, "vit.h", threads);
  const bench_contender *peer = bench_best_peer(r, threads, 0);
  return vit && peer ? bench_median(peer) / bench_median(vit) : NAN;
}

static void print_product(const bench_race *r, const product *p) {
  char name[40], versus[40];
  const bench_contender *one = find_contender(r, "vit.h", 1);
  const double share = one ? r->work * 1e9 / bench_median(one) / bench_peak(1) : NAN;
  snprintf(name, sizeof name, "%dx%dx%d", p->s.rows, p->s.in, p->s.out);
  printf("    %-14s ", name);
  for (int i = 0; i < r->count; i++)
    printf("%*s", column(r->list + i), bench_number(r->work / bench_median(r->list + i)));
  snprintf(versus, sizeof versus, "%s x  %s x", bench_number(versus_blas(r, 1)),
           bench_number(bench.threads > 1 ? versus_blas(r, bench.threads) : NAN));
  printf("   %17s %7.0f %%\n", versus, 100 * share);
  fflush(stdout);
}

/* Every contender as a share of what its threads could do at best. */
static void add_shares(const bench_race *r) {
  for (int i = 0; i < r->count; i++) {
    const bench_contender *c = r->list + i;
    const double whole = r->work * 1e9 / bench_peak(c->threads) * 100;
    if (c->samples)
      bench_add(r->group, r->what, c->name, c->threads, whole / bench_median(c),
                whole / c->seconds[c->samples - 1], whole / c->seconds[0], "% of peak");
  }
}

static void measure_product(const shape *s, int form, int first) {
  product p;
  bench_race r;
  char what[64];
  p.s = *s;
  p.form = form;
  p.threads = 1;
  p.rung = NULL;
  p.x = bench_floats((size_t)s->rows * (size_t)s->in);
  p.w = bench_floats((size_t)s->out * (size_t)s->in);
  p.y = bench_floats((size_t)s->rows * (size_t)s->out);
  p.packed = NULL;
  if (form == FORWARD && s->out % vit_panel() == 0) {
    p.packed = bench_floats((size_t)s->out * (size_t)s->in);
    vit_pack_linear(p.packed, p.w, s->in, s->out);
  }
  snprintf(what, sizeof what, "%dx%dx%d %s", s->rows, s->in, s->out, forms[form]);
  bench_race_begin(&r, "matmul", what, 2e-9 * s->rows * s->in * s->out, "GFLOP/s",
                   bench.seconds / 10);
  enter_products(&r, &p);
  if (first) print_product_heading(&r, form);
  bench_run(&r);
  add_shares(&r);
  print_product(&r, &p);
  free(p.x);
  free(p.w);
  free(p.y);
  free(p.packed);
}

void measure_matmul(void) {
  const int count = bench.quick ? (int)(sizeof quick_shapes / sizeof quick_shapes[0])
                                : (int)(sizeof shapes / sizeof shapes[0]);
  bench_group("matmul: the ladder of examples/ladder.h, vit.h and OpenBLAS");
  for (int form = 0; form < FORMS; form++)
    for (int i = 0; i < count; i++)
      measure_product(shapes + (bench.quick ? quick_shapes[i] : i), form, i == 0);
}
