// From plain loops to the limit of this machine: a matrix product in seven rungs, and a roofline.
//
// Nearly all the time of a Vision Transformer goes into matrix products. One of them is written
// here in seven ways, each with one idea more; then the kernels of a model are held against what
// this processor and its memory can do at best. Read beside it: ladder.h, and chapter 11
// of vit.h. Timings vary from run to run; ratios vary less.
#include "common.h"
#include "ladder.h"

enum { JOBS = 12, MOST = 99 }; /* at most: things timed in turn, repeats */

/* What the flags set. */
static int rows = 197, inputs = 768, outputs = 768, repeats = 7;

/* ---- timing -------------------------------------------------------------- */

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Seconds of one call. What is too short for the clock is called more often. */
static double seconds_of(void (*run)(int), int i) {
  double start = vit_seconds(), passed;
  int calls = 0;
  do {
    run(i);
    calls++;
    passed = vit_seconds() - start;
  } while (passed < 0.01);
  return passed / calls;
}

/* The medians of run(0) ... run(n - 1). They take turns, so that a disturbance of the machine
   hits all of them alike; the first round only warms up. */
static void time_in_turn(double *median, int n, void (*run)(int), int rounds) {
  static double all[JOBS][MOST];
  for (int round = -1; round < rounds; round++)
    for (int i = 0; i < n; i++) {
      double seconds = seconds_of(run, i);
      if (round >= 0) all[i][round] = seconds;
    }
  for (int i = 0; i < n; i++) {
    qsort(all[i], (size_t)rounds, sizeof(double), by_size);
    median[i] = all[i][rounds / 2];
  }
}

/* ---- [1] ----------------------------------------------------------------- */

/* What the machine can do at best: floating-point operations and bytes per second,
   [0] on one thread, [1] on all. */
static double peak[2], memory[2];

static void the_limits(void) {
  nb_cell("The limits of this machine, measured");
  for (int all = 0; all < 2; all++) {
    peak[all] = ladder_fma_peak(!all);
    memory[all] = ladder_bandwidth(!all);
    if (all && peak[1] < peak[0]) peak[1] = peak[0]; /* others use the cores too */
    if (all && memory[1] < memory[0]) memory[1] = memory[0];
    if (memory[all] <= 0) nb_stop("out of memory: measuring the memory needs 250 MB of it");
  }
  if (vit_best_kernels() == &vit_naive)
    printf("  vectors      none here: the SIMD rung is left out, vit.h runs plain loops\n");
  else
    printf("  vectors      %s, %d floats in each\n", vit_simd_name(), vit_simd_lanes());
#ifdef _OPENMP
  printf("  threads      %d, by OpenMP\n\n", vit_max_threads());
#else
  printf("  threads      1, built without OpenMP: the last rung adds nothing\n\n");
#endif
  printf("  %s%-24s %12s %12s%s\n", nb_dim(), "at best", "one thread", "all threads", nb_plain());
  printf("  %-24s %12.1f %12.1f   GFLOP/s\n", "multiply and add", peak[0] / 1e9, peak[1] / 1e9);
  printf("  %-24s %12.1f %12.1f   GB/s\n\n", "memory, to and fro", memory[0] / 1e9,
         memory[1] / 1e9);
  printf("  GFLOP/s: billions of additions or multiplications of floats in a second.\n"
         "  While one float (4 bytes) comes from memory, one thread could do %.0f of them.\n"
         "  A fast loop therefore uses what it has fetched many times.\n",
         4 * peak[0] / memory[0]);
  if (vit_max_threads() > 1 && peak[1] < 1.5 * peak[0])
    printf("  More threads were hardly faster: other programs keep the cores busy, or the\n"
           "  threads share a core. What follows about threads will show that, too.\n");
}

/* ---- [2] ----------------------------------------------------------------- */

static void many_sums(void) {
  double slowest = 0;
  nb_cell("Why a fast loop keeps many sums: nothing but s = a * b + s, in registers");
  if (vit_best_kernels() == &vit_naive) {
    printf("  left out: there are no vectors in this build or processor\n");
    return;
  }
  printf("  %ssums   GFLOP/s%s\n", nb_dim(), nb_plain());
  for (int i = 0; ladder_chain_at(i); i++) {
    double rate = ladder_chain_rate(ladder_chain_at(i), 1);
    if (i == 0) slowest = rate;
    printf("  %4d %9.1f  ", ladder_chain_at(i)->sums, rate / 1e9);
    nb_bar(rate / peak[0], 50);
    printf("\n");
  }
  printf("  A sum can grow again only when its last addition is done (latency). One sum\n"
         "  alone reaches 1/%.0f of the peak, so %.0f multiply-adds must be under way at once.\n",
         peak[0] / slowest, ceil(peak[0] / slowest - 0.25));
  printf("  vit.h keeps %d vectors of sums. More help only while registers last.\n",
         LADDER_SUMS);
}

/* ---- [3] ----------------------------------------------------------------- */

/* What a rung adds: a word for the figure and some lines of prose. */
static const struct {
  const char *name, *idea, *text;
} ideas[] = {
    {"naive", "the formula",
     "The formula. Each addition waits for the one before it, and the compiler\n"
     "may not add in another order: in floats (a + b) + c is not a + (b + c).\n"
     "So there are no vectors, and the processor mostly waits."},
    {"loop order", "vectors",
     "W is transposed, and the inner loop runs along a row of y:\n"
     "y[o] += x[i] * w[i][o]. These sums are independent and lie side by side:\n"
     "the compiler can take several at once (gcc wants -O3 for it). Four i in a\n"
     "turn, so that y is fetched and stored once for four products."},
    {"blocked", "level-2 cache",
     "The rung before fetches all of W again for each row of x. Now 16 rows of\n"
     "the transposed W stay in the second-level cache while all of x uses them."},
    {"packed", "level-1 cache",
     "A block of 64 x 64 fits the first-level cache. But its rows lie far apart,\n"
     "and addresses 4096 bytes apart share few places in the cache: they would\n"
     "push each other out. So the block is copied into one piece."},
    {"SIMD", "registers",
     "A tile of sums stays in registers: y is not fetched or stored meanwhile.\n"
     "Wide vectors, and FMA, which does a * b + c in one instruction. As many\n"
     "sums as cell [2] asks for."},
    {"vit.h", "all sizes",
     "What a model runs: the same ideas, and vectors also for the rows and\n"
     "columns that do not fill a tile."},
    {"threads", "all cores",
     "Each thread has rows of its own. No sum is shared, so nobody waits and\n"
     "the bits do not depend on the number of threads."}};

static int idea_of(const ladder_rung *r) {
  int i = 0;
  while (strcmp(ideas[i].name, r->name)) i++;
  return i;
}

static float *x, *w, *y, *first; /* operands; the result of rung 0 */

static void run_rung(int i) { ladder_at(i)->run(y, x, w, rows, inputs, outputs); }

/* Text of several lines, indented. */
static void print_lines(const char *text) {
  while (*text) {
    int n = (int)strcspn(text, "\n");
    printf("     %.*s\n", n, text);
    text += n + (text[n] == '\n');
  }
}

/* Sums of `n` products in another order, or fused, differ by rounding: so much at most. */
static double rounding(int n) { return (n + 100) * 1e-6; }
static void wrong_rung(const char *name, int r, int in, int out, double error) {
  char text[200];
  snprintf(text, sizeof text, "rung \"%s\" is wrong by %.2g at [%d,%d] times [%d,%d]", name,
           error, r, in, in, out);
  nb_stop(text);
}

static void print_ladder(const double *rate, int n) {
  int beyond = 0, best = 0;
  printf("\n  %s%-11s %9s %8s %8s  %-26s %8s%s\n", nb_dim(), "rung", "GFLOP/s", "faster", "of peak",
         "", "differs", nb_plain());
  for (int i = 0; i < n; i++) {
    const ladder_rung *r = ladder_at(i);
    double difference, part = rate[i] / (peak[!r->threads] / 1e9);
    char faster[20] = "";
    beyond |= part > 1;
    run_rung(i);
    difference = vit_max_difference(y, first, (size_t)rows * (size_t)outputs);
    if (i) snprintf(faster, sizeof faster, "%.1fx", rate[i] / rate[i - 1]);
    if (rate[i] > rate[best]) best = i;
    printf("  %-11s %9.1f %8s %6.0f %%  ", r->name, rate[i], faster, 100 * part);
    nb_bar(part, 26);
    printf(" %8.1g\n", difference);
    if (!(difference < rounding(inputs))) wrong_rung(r->name, rows, inputs, outputs, difference);
  }
  if (beyond)
    printf("  Above 100 %%: other programs ran while the peak was measured.\n");
  printf("  Medians of %d runs, taken in turn; they vary, so run it again.\n"
         "  faster: than the rung before. of peak: of the peak of its threads.\n"
         "  differs: largest |y - y of naive|. FMA rounds once where * and + round twice.\n"
         "  From %s to %s: %.*f times faster.\n",
         repeats, ladder_at(0)->name, ladder_at(best)->name, rate[best] < 10 * rate[0],
         rate[best] / rate[0]);
}

static void plot_ladder(const double *rate, int n) {
  const int threads = vit_max_threads();
  char all_threads[140] = ""; /* a colour of its own, where there are several */
  vit_plot p;
  nb_try(vit_plot_begin(&p, nb_out, "ladder", 960, 520));
  if (threads > 1)
    snprintf(all_threads, sizeof all_threads,
             "     '' using 0:(of_all(strcol(1)) ? $2 : NaN) with boxes lt 5 "
             "title 'all threads (%d)', \\\n",
             threads);
  fprintf(p.data, "# rung GFLOP/s times_faster threads\n");
  for (int i = 0; i < n; i++)
    fprintf(p.data, "\"%s\" %.2f %.4g %d\n", ladder_at(i)->name, rate[i],
            i ? rate[i] / rate[i - 1] : 0, ladder_at(i)->threads ? 1 : threads);
  fprintf(p.script,
          "set title \"How fast is one matrix product, [%d,%d] times [%d,%d], written in %d ways?\\n"
          "above a bar: GFLOP/s, and how many times faster than the bar before it\" noenhanced\n"
          "set ylabel 'GFLOP/s (billions of float operations in a second)'\n"
          "set grid ytics lt 1 lc rgb '#dddddd' lw 1\nset key top left reverse Left spacing 1.3\n"
          "set style fill solid noborder\nset style textbox opaque noborder\n"
          "set boxwidth 0.7\nset xtics scale 0\nset bmargin 3.5\n"
          "set xrange [-0.6:%d.6]\nset yrange [0:%g]\nset xtics (",
          rows, inputs, inputs, outputs, n, n - 1,
          1.2 * (peak[1] > rate[n - 1] * 1e9 ? peak[1] / 1e9 : rate[n - 1]));
  for (int i = 0; i < n; i++)
    fprintf(p.script, "%s\"%s\\n%s\" %d", i ? ", " : "", ladder_at(i)->name,
            ideas[idea_of(ladder_at(i))].idea, i);
  fprintf(p.script,
          ")\npeak1 = %.2f\npeak2 = %.2f\nthreads = %d\nend = %d\n"
          "set style line 1 dt 2 lw 1.5 lc rgb '#000000'\n"
          "set arrow from -0.6,peak1 to (threads > 1 ? end-1.5 : end-0.4),peak1 nohead back ls 1\n"
          "set label 'measured peak of one thread: %.0f' at -0.5,peak1 offset 0,0.6\n"
          "if (threads > 1) set arrow from end-1.5,peak2 to end-0.4,peak2 nohead back ls 1\n"
          "if (threads > 1) set label 'peak of all threads: %.0f' right at end-0.4,peak2 offset 0,0.6\n"
          "of_all(name) = threads > 1 && name eq 'threads'\n"
          "plot 'ladder.dat' using 0:(of_all(strcol(1)) ? NaN : $2) with boxes lt 1 "
          "title 'one thread', \\\n"
          "%s"
          "     '' using 0:2:(sprintf('%%.1f', $2)) every ::0::0 with labels "
          "offset 0,0.7 notitle, \\\n"
          "     '' using ($0+1):2:(sprintf(\"%%.1f\\n%%.1fx\", $2, $3)) every ::1 with labels "
          "boxed offset 0,1.7 notitle\n",
          peak[0] / 1e9, peak[1] / 1e9, threads, n, peak[0] / 1e9, peak[1] / 1e9, all_threads);
  nb_figure(vit_plot_end(&p), "ladder");
}

static void the_ladder(double *rate) {
  double seconds[JOBS], flop = 2.0 * rows * inputs * outputs;
  int n = 0;
  nb_cell("The ladder: y = x W^T in several ways, each with one idea more");
  printf("  x [%d,%d], W [%d,%d] -> y [%d,%d]: %.0f million operations", rows, inputs, outputs,
         inputs, rows, outputs, flop / 1e6);
  printf("%s.\n", rows == 197 && inputs == 768 && outputs == 768
                      ? "\n  (the 197 tokens of one image, through a projection of ViT-B/16)" : "");
  for (; ladder_at(n); n++) {
    printf("  %d  %s%s%s\n", n + 1, nb_bold(), ladder_at(n)->name, nb_plain());
    print_lines(ideas[idea_of(ladder_at(n))].text);
    if (!strcmp(ladder_at(n)->name, "vit.h") && vit_best_kernels() == &vit_naive)
      print_lines("Here there are no vectors: it runs plain loops, with sums in double.");
  }
  fflush(stdout);
  x = nb_floats(rows * inputs);
  w = nb_floats(outputs * inputs);
  y = nb_floats(rows * outputs);
  first = nb_floats(rows * outputs);
  nb_normal(x, rows * inputs, 1);
  nb_normal(w, outputs * inputs, 2);
  ladder_at(0)->run(first, x, w, rows, inputs, outputs);
  time_in_turn(seconds, n, run_rung, repeats);
  for (int i = 0; i < n; i++) rate[i] = flop / seconds[i] / 1e9;
  print_ladder(rate, n);
  plot_ladder(rate, n);
  free(x);
  free(w);
  free(y);
  free(first);
}

/* ---- [4] ----------------------------------------------------------------- */

/* Largest error of all rungs at one shape, against vit.h's plain loops, which
   carry their sums in double. */
static double worst_at(int r, int in, int out, uint32_t seed) {
  float *a = nb_floats(r * in), *b = nb_floats(out * in), *c = nb_floats(r * out);
  float *right = nb_floats(r * out);
  double worst = 0;
  nb_normal(a, r * in, seed);
  nb_normal(b, out * in, seed + 1);
  vit_naive.linear_forward(right, a, b, NULL, r, in, out);
  for (int i = 0; ladder_at(i); i++) {
    double error;
    for (int j = 0; j < r * out; j++) c[j] = NAN; /* each number must be written */
    ladder_at(i)->run(c, a, b, r, in, out);
    error = vit_max_difference(c, right, (size_t)r * (size_t)out);
    if (!(error < rounding(in))) wrong_rung(ladder_at(i)->name, r, in, out, error);
    worst = error > worst ? error : worst;
  }
  free(a);
  free(b);
  free(c);
  free(right);
  return worst;
}

static void odd_sizes(void) {
  enum { SHAPES = 100 };
  vit_rng rng = vit_rng_create(11, 0);
  double worst = worst_at(1, 1, 1, 1);
  nb_cell("Fast is worth nothing if wrong: every rung at sizes that fill no tile");
  for (uint32_t i = 0; i < SHAPES; i++) {
    int r = 1 + (int)vit_random_below(&rng, 40), in = 1 + (int)vit_random_below(&rng, 300);
    double error = worst_at(r, in, 1 + (int)vit_random_below(&rng, 150), i);
    worst = error > worst ? error : worst;
  }
  printf("  %d shapes up to [40,300] times [300,150]: every rung is right.\n"
         "  largest |y - y in double|: %.1g, which is rounding\n", SHAPES + 1, worst);
}

/* ---- [5] ----------------------------------------------------------------- */

/* Arrays larger than the caches, as in a batch: N floats hold the tokens of 64 images. */
enum { T = 197, D = 768, H = 12, M = 3072, N = 64 * T * D, PARTS = 4 };
static float *pool[PARTS]; /* N floats each, one after the other */

static void do_residual(const vit_kernels *k) {
  k->residual_forward(pool[0], pool[1], pool[2], 1, N);
}
static void do_one_row(const vit_kernels *k) { /* 12 layers, each with its own weights */
  for (int l = 0; l < 12; l++)
    k->linear_forward(pool[3], pool[3] + M, pool[0] + l * M * D, NULL, 1, D, M);
}
static void do_one_row_packed(const vit_kernels *k) { /* as after vit_model_pack */
  for (int l = 0; l < 12; l++)
    k->linear_packed_forward(pool[3], pool[3] + M, pool[0] + l * M * D, NULL, 1, D, M);
}
static void do_adamw(const vit_kernels *k) {
  const vit_adam_constants a = {1e-6f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.1f, 0.001f, 1};
  k->adam_step(pool[0], pool[1], pool[2], pool[3], N, &a);
}
static void do_layernorm(const vit_kernels *k) {
  float *of_rows = pool[2]; /* mean and 1 / standard deviation of each row */
  k->layernorm_forward(pool[0], of_rows, of_rows + 64 * T, pool[1], pool[3], pool[3] + D, 64 * T,
                       D, 1e-5f);
}
static void do_softmax(const vit_kernels *k) {
  k->softmax_forward(pool[0], pool[1], 16 * H * T, T);
}
static void do_gelu(const vit_kernels *k) { k->gelu_forward(pool[0], pool[1], 16 * T * M); }
static void do_attention(const vit_kernels *k) {
  const float *qkv = pool[1];
  for (int h = 0; h < H; h++) {
    float *p = pool[0] + h * T * T;
    k->attention_scores_forward(p, qkv + h * 64, qkv + D + h * 64, NULL, T, T, 64, 3 * D);
    k->attention_values_forward(pool[2] + h * 64, p, qkv + 2 * D + h * 64, T, T, 64, 3 * D,
                                D);
  }
}
static void do_linear(const vit_kernels *k) {
  k->linear_forward(pool[0], pool[1], pool[2], NULL, T, D, D);
}

/* Operations on one number, as the SIMD kernels of vit.h do them (an FMA is 2, an
   exp is 22), and floats that must be read or written at least once. */
static const struct {
  const char *name, *size;
  void (*run)(const vit_kernels *);
  double flop, floats;
  int left; /* on which side of the point the figure has its name */
} kernels[] = {
    {"residual", "64 images", do_residual, 2.0 * N, 3.0 * N, 0},
    {"linear, 1 row", "12 x [1,768] [768,3072]", do_one_row, 24.0 * D * M,
     12.0 * (D * M + D + M), 0},
    {"1 row, packed", "the same, W packed before", do_one_row_packed, 24.0 * D * M,
     12.0 * (D * M + D + M), 0},
    {"AdamW", "9.7 million numbers", do_adamw, 18.0 * N, 7.0 * N, 0},
    {"layer norm", "64 images", do_layernorm, 9.0 * N, 2.0 * N, 0},
    {"softmax", "16 images, 12 heads", do_softmax, 28.0 * 16 * H * T * T, 2.0 * 16 * H * T * T, 0},
    {"GELU", "16 images, MLP", do_gelu, 44.0 * N, 2.0 * N, 1},
    {"attention", "1 image, 12 heads", do_attention, 1.0 * H * T * T * (4 * 64 + 28),
     4.0 * T * D + 1.0 * H * T * T, 1},
    {"linear layer", "[197,768] [768,768]", do_linear, 2.0 * T * D * D,
     2.0 * T * D + 1.0 * D * D, 0}};
enum { KERNELS = sizeof kernels / sizeof kernels[0] };

static void run_kernel(int i) { kernels[i].run(vit_best_kernels()); }

/* The roof: GFLOP/s at best with so many operations per byte. */
static double roof(double intensity, int all) {
  double slope = intensity * memory[all];
  return (slope < peak[all] ? slope : peak[all]) / 1e9;
}

static void print_roofline(const double *rate) {
  printf("\n  %s%-13s %-25s %9s %8s %6s %6s%s\n", nb_dim(), "kernel", "on", "FLOP/byte", "GFLOP/s",
         "roof", "of it", nb_plain());
  for (int i = 0; i < KERNELS; i++) {
    double intensity = kernels[i].flop / kernels[i].floats / 4, top = roof(intensity, 0);
    printf("  %-13s %-25s %9.2f %8.1f %6.1f %4.0f %%\n", kernels[i].name, kernels[i].size,
           intensity, rate[i], top, 100 * rate[i] / top);
  }
  printf("  Below %.1f FLOP/byte memory is the limit: only fewer bytes help there. Above,\n"
         "  arithmetic is. %d rows share what is fetched and packed of W; one row alone\n"
         "  does not repay the packing, which vit_model_pack does once and for all.\n"
         "  What else keeps a kernel below its roof: a line of the cache is fetched before\n"
         "  it is written (residual); divisions, comparisons and roundings take longer\n"
         "  than the multiply-adds that make the peak (layer norm, softmax, GELU).\n",
         peak[0] / memory[0], T);
}

/* Roofs (index 0, 1), kernels (2) and the rungs of the ladder (3) as gnuplot reads them. */
static void write_roofline(const vit_plot *p, const double *rate, const double *rungs) {
  for (int all = 0; all < 2; all++)
    fprintf(p->data, "0.1 %.4g\n%.4g %.4g\n1000 %.4g\n\n\n", roof(0.1, all),
            peak[all] / memory[all], peak[all] / 1e9, roof(1000, all));
  for (int i = 0; i < KERNELS; i++)
    fprintf(p->data, "%.4g %.4g \"%s\" %d\n", kernels[i].flop / kernels[i].floats / 4, rate[i],
            kernels[i].name, kernels[i].left);
  fprintf(p->data, "\n\n");
  for (int i = 0; ladder_at(i) && strcmp(ladder_at(i)->name, "vit.h"); i++)
    fprintf(p->data, "%.4g %.4g \"%s\"\n", /* 2 operations, 4 bytes */
            0.5 * rows * inputs * outputs /
                ((double)rows * inputs + (double)inputs * outputs + (double)rows * outputs),
            rungs[i], ladder_at(i)->name);
}

static void plot_roofline(const double *rate, const double *rungs) {
  char all_threads[140] = ""; /* where there is one, this roof is the other */
  vit_plot p;
  if (vit_max_threads() > 1)
    snprintf(all_threads, sizeof all_threads,
             "'roofline.dat' index 1 with lines lt 5 dt 2 lw 2 "
             "title 'roof of all threads: %.0f GFLOP/s, %.0f GB/s', \\\n     ",
             peak[1] / 1e9, memory[1] / 1e9);
  nb_try(vit_plot_begin(&p, nb_out, "roofline", 960, 580));
  write_roofline(&p, rate, rungs);
  nb_axes(&p, "What limits each kernel of a Vision Transformer on this machine? The roof above it",
          "FLOP for each byte that memory moves (each mark is ten times more)",
          "GFLOP/s (each mark is ten times more)");
  fprintf(p.script,
          "set logscale xy\nset xrange [0.1:1000]\nset yrange [0.2:%g]\n"
          "set format x '%%g'\nset format y '%%g'\nset key bottom right spacing 1.3\n"
          "at(left) = column(4) == left ? column(2) : NaN\n"
          "named = 'naive, packed'\n"
          "set label 'memory is the limit' at %g,%g rotate by 34 offset 0,1 tc rgb '#777777'\n"
          "set label 'arithmetic is the limit' at 900,%g right offset 0,0.7 tc rgb '#777777'\n"
          "plot %s'roofline.dat' index 0 with lines lt 7 lw 3 "
          "title 'roof of one thread: %.0f GFLOP/s, %.0f GB/s', \\\n"
          "     '' index 3 with linespoints pt 6 ps 1.2 lw 1 lc rgb '#777777' "
          "title 'the ladder of the linear layer', \\\n"
          "     '' index 2 with points lt 1 ps 1.6 title 'kernels of vit.h, one thread', \\\n"
          "     '' index 2 using 1:(at(0)):3 with labels left offset 1.2,-0.3 notitle, \\\n"
          "     '' index 2 using 1:(at(1)):3 with labels right offset -1.2,0.3 notitle, \\\n"
          "     '' index 3 using 1:(strstrt(named, strcol(3)) ? $2 : NaN):3 with labels left "
          "offset 1.2,0 tc rgb '#777777' notitle\n",
          2.5 * peak[1] / 1e9, 0.16, roof(0.16, 0), peak[0] / 1e9, all_threads, peak[0] / 1e9,
          memory[0] / 1e9);
  nb_figure(vit_plot_end(&p), "roofline");
}

static void the_roofline(const double *rungs) {
  double seconds[JOBS], rate[KERNELS];
  nb_cell("The roofline: is a kernel limited by arithmetic or by memory?");
  printf("  FLOP/byte: operations for each byte that must come from memory or go there.\n"
         "  roof: the smaller of the peak (%.0f GFLOP/s) and FLOP/byte x %.1f GB/s.\n"
         "  One thread, %s kernels, sizes of ViT-B/16.\n",
         peak[0] / 1e9, memory[0] / 1e9, vit_best_kernels()->name);
  fflush(stdout);
  pool[0] = nb_floats(PARTS * N);
  for (int i = 1; i < PARTS; i++) pool[i] = pool[i - 1] + N;
  for (int i = 0; i < PARTS * N; i++) pool[0][i] = (float)(i % 1009) / 1009;
  time_in_turn(seconds, KERNELS, run_kernel, repeats);
  for (int i = 0; i < KERNELS; i++) rate[i] = kernels[i].flop / seconds[i] / 1e9;
  print_roofline(rate);
  plot_roofline(rate, rungs);
  free(pool[0]);
}

/* ---- [6] ----------------------------------------------------------------- */

enum { BATCH = 32, PIXELS = 28 * 28, WAYS = 3 };
static struct {
  vit_model model;
  vit_state state;
  vit_optimizer optimizer;
  double loss; /* of the first step */
} ways[WAYS];
static float *images;
static int labels[BATCH];

/* One step of training, as vit_fit does it. */
static void run_step(int i) {
  double loss = 0;
  nb_try(vit_forward(&ways[i].model, &ways[i].state, images, BATCH));
  nb_try(vit_loss(&ways[i].model, &ways[i].state, labels, 0, &loss));
  vit_zero_gradients(&ways[i].state);
  nb_try(vit_backward(&ways[i].model, &ways[i].state, 1));
  nb_try(vit_optimizer_step(&ways[i].optimizer, &ways[i].model, &ways[i].state, 1e-3f));
  if (ways[i].optimizer.step == 1) ways[i].loss = loss;
}

static void make_way(int i) {
  vit_config c = vit_config_mnist();
  vit_optimizer_config o = vit_optimizer_defaults(VIT_ADAMW);
  nb_try(vit_model_create(&ways[i].model, &c, 1));
  ways[i].model.kernels = i == 0 ? &vit_naive : vit_best_kernels();
  ways[i].model.threads = i < 2 ? 1 : 0;
  nb_try(vit_state_create(&ways[i].state, &ways[i].model, BATCH, VIT_FOR_TRAINING, 1));
  nb_try(vit_optimizer_create(&ways[i].optimizer, &ways[i].model, &o));
}

/* "45 seconds", "12 minutes", "3.4 hours" */
static const char *duration(double seconds, char text[32]) {
  double v = seconds < 100 ? seconds : seconds < 6000 ? seconds / 60 : seconds / 3600;
  snprintf(text, 32, "%.*f %s", seconds >= 6000, v,
           seconds < 100 ? "seconds" : seconds < 6000 ? "minutes" : "hours");
  return text;
}

static void print_ways(const double *seconds) {
  const double epoch = 60000.0 / BATCH;
  char text[32], more[32];
  int best = 0;
  printf("\n  %s%-19s %9s %8s %12s   %-13s%s\n", nb_dim(), "kernels", "images/s", "faster",
         "first loss", "60,000 images", nb_plain());
  for (int i = 0; i < WAYS; i++) {
    char faster[20] = "";
    if (i) snprintf(faster, sizeof faster, "%.1fx", seconds[i - 1] / seconds[i]);
    printf("  %s, %-*s %9.0f %8s %12.4f   %s\n", ways[i].model.kernels->name,
           17 - (int)strlen(ways[i].model.kernels->name), i < 2 ? "one thread" : "all threads",
           BATCH / seconds[i], faster, ways[i].loss, duration(epoch * seconds[i], text));
  }
  if (vit_best_kernels() == &vit_naive)
    printf("  There are no SIMD kernels here: the second line repeats the first.\n");
  for (int i = 1; i < WAYS; i++) best = seconds[i] < seconds[best] ? i : best;
  printf("  The same loss, so the same learning. 20 epochs take %s with the\n"
         "  plain loops, and %s in the fastest way.\n",
         duration(20 * epoch * seconds[0], text), duration(20 * epoch * seconds[best], more));
}

static void training_step(void) {
  const vit_config c = vit_config_mnist();
  double seconds[WAYS];
  vit_rng rng = vit_rng_create(3, 0);
  nb_cell("What a student gets from it: one training step of the MNIST model");
  printf("  %.0f parameters, batch %d; images of noise, which take as long as digits\n",
         (double)vit_parameter_count(&c), BATCH);
  fflush(stdout);
  images = nb_floats(BATCH * PIXELS);
  nb_normal(images, BATCH * PIXELS, 4);
  for (int i = 0; i < BATCH; i++) labels[i] = (int)vit_random_below(&rng, 10);
  for (int i = 0; i < WAYS; i++) make_way(i);
  time_in_turn(seconds, WAYS, run_step, repeats < 3 ? repeats : 3);
  print_ways(seconds);
  for (int i = 0; i < WAYS; i++) {
    vit_optimizer_free(&ways[i].optimizer);
    vit_state_free(&ways[i].state);
    vit_model_free(&ways[i].model);
  }
  free(images);
}

/* Refuse what cannot work, or would take minutes. */
static void check_flags(void) {
  if (rows < 1 || rows > 20000) nb_stop("--rows must be from 1 to 20000");
  if (inputs < 1 || inputs > 20000) nb_stop("--inputs must be from 1 to 20000");
  if (outputs < 1 || outputs > 20000) nb_stop("--outputs must be from 1 to 20000");
  if (repeats < 1 || repeats > MOST) nb_stop("--repeats must be from 1 to 99");
  if ((double)rows * inputs * outputs > 4e9)
    nb_stop("--rows x --inputs x --outputs must not be above 4e9, or the naive rung takes minutes");
}

int main(int argc, char **argv) {
  const nb_flag flags[] = {
      {"--rows", "N", "rows of x in the ladder (197)", &rows, NULL, NULL},
      {"--inputs", "N", "columns of x and W (768)", &inputs, NULL, NULL},
      {"--outputs", "N", "rows of W, columns of y (768)", &outputs, NULL, NULL},
      {"--repeats", "N", "each timing is the median of N (7)", &repeats, NULL, NULL}};
  double rate[JOBS];
  nb_start("11-speed",
           "The same matrix product, faster idea by idea, up to the limit of the machine.", argc,
           argv, flags, 4);
  check_flags();
  the_limits();
  many_sums();
  the_ladder(rate);
  odd_sizes();
  the_roofline(rate);
  training_step();
  return 0;
}
