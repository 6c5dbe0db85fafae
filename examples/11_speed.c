// From plain loops to the limit of this machine: a matrix product in seven rungs, and a roofline.
//
// Nearly all the time of a Vision Transformer goes into matrix products. One of them is written
// here in seven ways, each with one idea more; then the kernels of a model are held against what
// this processor and its memory can do at best. Then work is left out: what nobody reads in the
// last block, and three of the four bytes of a float. The last cells look into the caches, and
// into int8 with a pencil. Read beside it: ladder.h, and chapter 11 of vit.h. Timings vary from
// run to run; ratios vary less.
#include "common.h"
#include "ladder.h"

enum { JOBS = 12, MOST = 99 }; /* at most: things timed in turn, repeats */

/* What the flags set. */
static int rows = 197, inputs = 768, outputs = 768, repeats = 7;
static const char *model_file = NULL;

/* Without vectors less must do. */
static int at_most(int fast, int slow) { return vit_best_kernels() == &vit_naive ? slow : fast; }

/* ---- timing -------------------------------------------------------------- */

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
    qsort(all[i], (size_t)rounds, sizeof(double), nb_by_size);
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
          "if (threads > 1) set label 'peak of all threads: %.0f' right at end-0.4,peak2 offset -0.5,0.6\n"
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

enum { BATCH = 32, WAYS = 3 };
static struct {
  vit_model model;
  vit_state state;
  vit_optimizer optimizer;
  int batch;
  double loss; /* of the first step */
} ways[JOBS];
static float *images;
static int labels[BATCH];

/* One step of training, as vit_fit does it. */
static void run_step(int i) {
  double loss = 0;
  nb_try(vit_forward(&ways[i].model, &ways[i].state, images, ways[i].batch));
  nb_try(vit_loss(&ways[i].model, &ways[i].state, labels, 0, &loss));
  vit_zero_gradients(&ways[i].state);
  nb_try(vit_backward(&ways[i].model, &ways[i].state, 1));
  nb_try(vit_optimizer_step(&ways[i].optimizer, &ways[i].model, &ways[i].state, 1e-3f));
  if (ways[i].optimizer.step == 1) ways[i].loss = loss;
}

static void make_way(int i, const vit_config *c, const vit_kernels *table, int threads,
                     int batch) {
  vit_optimizer_config o = vit_optimizer_defaults(VIT_ADAMW);
  nb_try(vit_model_create(&ways[i].model, c, 1));
  ways[i].model.kernels = table;
  ways[i].model.threads = threads;
  ways[i].batch = batch;
  nb_try(vit_state_create(&ways[i].state, &ways[i].model, batch, VIT_FOR_TRAINING, 1));
  nb_try(vit_optimizer_create(&ways[i].optimizer, &ways[i].model, &o));
}

static void free_ways(int n) {
  for (int i = 0; i < n; i++) {
    vit_optimizer_free(&ways[i].optimizer);
    vit_state_free(&ways[i].state);
    vit_model_free(&ways[i].model);
  }
  free(images);
}

/* Noise takes as long as photos: `floats` of it, and classes by chance. */
static void make_images(int floats) {
  vit_rng rng = vit_rng_create(3, 0);
  images = nb_floats(floats);
  nb_normal(images, floats, 4);
  for (int i = 0; i < BATCH; i++) labels[i] = (int)vit_random_below(&rng, 10);
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
  nb_cell("What a student gets from it: one training step of the MNIST model");
  printf("  %.0f parameters, batch %d; images of noise, which take as long as digits\n",
         (double)vit_parameter_count(&c), BATCH);
  fflush(stdout);
  make_images(BATCH * c.image_height * c.image_width);
  for (int i = 0; i < WAYS; i++)
    make_way(i, &c, i == 0 ? &vit_naive : vit_best_kernels(), i < 2, BATCH);
  time_in_turn(seconds, WAYS, run_step, repeats < 3 ? repeats : 3);
  print_ways(seconds);
  free_ways(WAYS);
}

/* ---- [7] ----------------------------------------------------------------- */

/* Float operations of a forward for one image; *spared: how many of these the last
   block would need for tokens that nobody reads. */
static double forward_flop(const vit_config *c, double *spared) {
  const double tokens = vit_config_tokens(c), width = c->width, inner = c->heads * c->head_dim;
  const double patch = c->channels * c->patch_height * c->patch_width;
  const double keys = 4 * width * inner; /* of a token: its key and value, then all the rest */
  const double rest = 4 * width * inner + 4 * tokens * inner + 4 * width * c->mlp_width;
  *spared = (tokens - 1) * rest;
  return c->depth * tokens * (keys + rest) + 2 * vit_config_patches(c) * patch * width +
         2 * width * c->classes;
}

static void run_forward(int i) {
  nb_try(vit_forward(&ways[i].model, &ways[i].state, images, ways[i].batch));
}

static void last_block(void) {
  static const struct {
    const char *name;
    vit_config (*make)(void);
    int batch; /* 0: only by arithmetic */
  } models[] = {{"A", vit_config_tutorial, 32}, {"MNIST", vit_config_mnist, 32},
                {"C", vit_config_cifar_cls, 32}, {"Ti/16", vit_config_ti16, 1},
                {"B/16", vit_config_b16, 0}};
  enum { MODELS = sizeof models / sizeof *models, TIMED = MODELS - 1 };
  const int timed = at_most(TIMED, TIMED - 1), rounds = at_most(repeats, repeats < 3 ? repeats : 3);
  double forward[2 * TIMED], step[2 * TIMED], spared, flop;
  nb_cell("Work that nobody reads: the last block, where the class token is pooled");
  nb_say("The head reads the class token alone. So the last block needs the keys and values of all "
         "tokens, but queries, scores, projection and MLP of one. \"whole\" is the same model with a "
         "mean over the patches for its answer, which needs all of it. One thread.");
  fflush(stdout);
  make_images(3 * 224 * 224);
  for (int i = 0; i < 2 * timed; i++) {
    vit_config c = models[i / 2].make();
    if (i % 2 == 0) c.pool = VIT_POOL_MEAN;
    make_way(i, &c, vit_best_kernels(), 1, models[i / 2].batch);
  }
  time_in_turn(forward, 2 * timed, run_forward, rounds);
  time_in_turn(step, 2 * timed, run_step, rounds);
  printf("\n  %s%-6s %6s %8s   %8s %8s %6s   %8s %8s %6s%s\n", nb_dim(), "", "", "spared,", "forward,",
         "class", "", "step,", "class", "", nb_plain());
  printf("  %s%-6s %6s %8s   %8s %8s %6s   %8s %8s %6s%s\n", nb_dim(), "model", "images", "of FLOP",
         "whole ms", "only ms", "spared", "whole ms", "only ms", "spared", nb_plain());
  for (int k = 0; k < MODELS; k++) {
    vit_config c = models[k].make();
    nb_try(vit_config_resolve(&c));
    flop = forward_flop(&c, &spared);
    printf("  %-6s ", models[k].name);
    if (k >= timed) {
      printf("%6s %6.1f %%   (by arithmetic alone)\n", "-", 100 * spared / flop);
      continue;
    }
    printf("%6d %6.1f %%", models[k].batch, 100 * spared / flop);
    for (int j = 0; j < 2; j++) {
      const double *t = (j ? step : forward) + 2 * k;
      printf("   %8.2f %8.2f %4.0f %%", 1e3 * t[0], 1e3 * t[1], 100 * (1 - t[1] / t[0]));
    }
    printf("\n");
  }
  nb_say("step: a step of training. Backward leaves out the same rows: where nobody reads, no gradient "
         "comes from. The fewer blocks, the larger the part. What differs from the arithmetic: keys and "
         "values of all tokens run at another speed than one row, and other programs disturb.");
  free_ways(2 * timed);
}

/* ---- [8] ----------------------------------------------------------------- */

static void *x8, *w8; /* the operands as bytes */

static void int8_rows(const vit_kernels *k, int from, int n) { /* as a quantized model does it */
  vit__linear_int8(k, y + (vit_idx)from * outputs, x + (vit_idx)from * inputs, (const float *)w8, NULL,
                   n, inputs, 0, outputs);
}
static void do_float(void) { ladder_vit(y, x, w, rows, inputs, outputs); }
static void do_int8_naive(void) { int8_rows(&vit_naive, 0, rows); }
static void do_int8(void) { int8_rows(vit_best_kernels(), 0, rows); }
static void do_int8_product(void) {
  vit_best_kernels()->linear_int8_forward(y, x8, w8, NULL, rows, inputs, 0, outputs);
}
static void do_float_threads(void) { ladder_threads(y, x, w, rows, inputs, outputs); }
static void do_int8_threads(void) {
  const int threads = vit_max_threads();
  VIT__PARALLEL_FOR
  for (int t = 0; t < threads; t++) {
    int from, n;
    vit__part(rows, threads, t, VIT__ROW_MULTIPLE, &from, &n);
    if (n > 0) int8_rows(vit_best_kernels(), from, n);
  }
}

/* What each is held against: a line further up. */
static const struct {
  const char *name;
  void (*run)(void);
  int against;
} bytes[] = {{"float", do_float, 0},
             {"int8, naive", do_int8_naive, 0},
             {"int8", do_int8, 0},
             {"without the rows", do_int8_product, 0},
             {"float, threads", do_float_threads, 4},
             {"int8, threads", do_int8_threads, 4}};
enum { BYTES = sizeof bytes / sizeof *bytes };
static void run_bytes(int i) { bytes[i].run(); }

/* Bytes of rows and of weights [out,in], whose outputs fill whole panels. */
static void *int8_space(int count, int in) {
  void *p = calloc(1, vit_int8_size((count + vit_panel() - 1) / vit_panel() * vit_panel(), in));
  if (!p) nb_stop("out of memory for the numbers of one byte");
  return p;
}

/* Do naive and SIMD turn the same floats into the same bytes, and these into the same
   bits? */
static int same_bits_at(int r, int in, int out, uint32_t seed) {
  const vit_kernels *const both[2] = {&vit_naive, vit_best_kernels()};
  float *a = nb_floats(r * in), *b = nb_floats(out * in), *bias = nb_floats(out), *c[2];
  void *a8[2], *b8 = int8_space(out, in);
  int same;
  nb_normal(a, r * in, seed);
  nb_normal(b, out * in, seed + 1);
  nb_normal(bias, out, seed + 2);
  vit_quantize_linear(b8, b, in, out);
  for (int k = 0; k < 2; k++) {
    c[k] = nb_floats(r * out);
    a8[k] = int8_space(r, in);
    both[k]->quantize_rows(a8[k], a, r, in);
    both[k]->linear_int8_forward(c[k], a8[k], b8, bias, r, in, 0, out);
  }
  same = !memcmp(a8[0], a8[1], vit_int8_size(r, in)) &&
         !memcmp(c[0], c[1], (size_t)r * (size_t)out * sizeof(float));
  for (int k = 0; k < 2; k++) {
    free(c[k]);
    free(a8[k]);
  }
  free(a);
  free(b);
  free(bias);
  free(b8);
  return same;
}

static void check_int8_bits(void) {
  enum { SHAPES = 100 };
  vit_rng rng = vit_rng_create(12, 0);
  int same = same_bits_at(rows, inputs, outputs, 1);
  for (uint32_t i = 0; i < SHAPES; i++) {
    int r = 1 + (int)vit_random_below(&rng, 40), in = 1 + (int)vit_random_below(&rng, 300);
    same += same_bits_at(r, in, 1 + (int)vit_random_below(&rng, 150), i);
  }
  if (same != SHAPES + 1) nb_stop("int8: naive and SIMD do not give the same bits");
  if (vit_best_kernels() == &vit_naive) printf("  There are no vectors here to give the same bits.\n");
  else
    printf("  Sums of whole numbers are exact, in any order. So plain loops and SIMD\n"
           "  give the same bits, checked here at %d shapes.\n", SHAPES + 1);
}

/* Root mean square of a - b, as a part of that of b. */
static double relative_error(const float *a, const float *b, int n) {
  double error = 0, size = 0;
  for (int i = 0; i < n; i++) {
    error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    size += (double)b[i] * (double)b[i];
  }
  return sqrt(error / fmax(size, 1e-30));
}

static void int8_product(void) {
  double seconds[BYTES], flop = 2.0 * rows * inputs * outputs, best;
  nb_cell("One more rung: whole numbers of one byte (int8)");
  nb_say("x [%d,%d], W [%d,%d]. Each row of x becomes numbers from 0 to 127 with a scale and a zero "
         "point as it passes, each row of W numbers from -64 to 64 with a scale, once and for all. A "
         "vector holds four times as many bytes as floats.", rows, inputs, outputs, inputs);
  fflush(stdout);
  x = nb_floats(rows * inputs);
  w = nb_floats(outputs * inputs);
  y = nb_floats(rows * outputs);
  first = nb_floats(rows * outputs);
  nb_normal(x, rows * inputs, 1);
  nb_normal(w, outputs * inputs, 2);
  x8 = int8_space(rows, inputs);
  w8 = int8_space(outputs, inputs);
  vit_best_kernels()->quantize_rows(x8, x, rows, inputs);
  vit_quantize_linear(w8, w, inputs, outputs);
  time_in_turn(seconds, BYTES, run_bytes, repeats);
  printf("\n  %s%-17s %10s %14s  %s%s\n", nb_dim(), "kernel", "GFLOP/s", "against float", "of the floats' peak",
         nb_plain());
  for (int i = 0; i < BYTES; i++) {
    const double part = flop / seconds[i] / peak[i >= 4];
    printf("  %-17s %10.1f %13.2fx  %5.0f %% ", bytes[i].name, flop / seconds[i] / 1e9,
           seconds[bytes[i].against] / seconds[i], 100 * part);
    nb_bar(part / 3, 24);
    printf("\n");
  }
  best = seconds[0] / seconds[2];
  nb_say("GFLOP/s: as many as the product has in floats; the bar ends at three times their peak. Lines "
         "1 to 4: one thread. \"without the rows\": x was turned into bytes before, which takes %.0f %% "
         "of the line above.", fmax(0, 100 * (1 - seconds[3] / seconds[2])));
  do_float();
  memcpy(first, y, (size_t)rows * (size_t)outputs * sizeof *y);
  do_int8();
  printf("  %.2f times as fast as floats; y differs by %.2f %% of its size (root mean\n"
         "  square), rounded inputs and weights together; W takes %.3f of the bytes.\n",
         best, 100 * relative_error(y, first, rows * outputs),
         (double)vit_int8_size((outputs + vit_panel() - 1) / vit_panel() * vit_panel(), inputs) /
             (4.0 * outputs * inputs));
  check_int8_bits();
  free(x);
  free(w);
  free(y);
  free(first);
  free(x8);
  free(w8);
}

/* ---- [9] ----------------------------------------------------------------- */

/* A trained model and images to test it, and from where they came. */
static struct {
  vit_model model;
  vit_dataset train, test;
  char why[600]; /* there are none */
} digits;

/* Before the first cell, so that a wrong file is not refused minutes later. */
static void get_digits(void) {
  vit_dataset about;
  vit_model *m = &digits.model;
  if (vit_dataset_mnist(&digits.test, nb_data, VIT_TEST) ||
      (!model_file && vit_dataset_mnist(&digits.train, nb_data, VIT_TRAIN))) {
    if (model_file || nb_data) nb_stop(vit_error());
    snprintf(digits.why, sizeof digits.why, "%s", vit_error());
    return;
  }
  if (!model_file) return;
  nb_try(vit_model_open(m, model_file, &about));
  if (m->quantized) nb_stop("--model: this model is quantized already; give the one that it was made from");
  if (m->config.channels != 1 || m->config.classes != 10) {
    char message[200];
    snprintf(message, sizeof message,
             "--model: a model of digits has 1 channel and 10 classes, this one has %d and %d",
             m->config.channels, m->config.classes);
    nb_stop(message);
  }
  nb_try(vit_dataset_resize(&digits.test, about.height, about.width));
  digits.test.mean[0] = about.mean[0];
  digits.test.std[0] = about.std[0];
  vit_dataset_free(&about);
}

/* The quick recipe of 09 without its augmentation, cut down to some seconds. */
static void train_digits(void) {
  vit_config c = vit_config_mnist();
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  const int learn = at_most(6000, 600);
  c.patch_height = c.patch_width = 7;
  c.init = VIT_INIT_TORCH;
  f.batch = 64;
  f.epochs = 5;
  f.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  f.optimizer.clip_norm = 1;
  f.schedule = vit_schedule_constant(3e-3f);
  f.schedule.kind = VIT_COSINE;
  f.schedule.warmup = 20;
  if (digits.train.count > learn) { /* some of every class */
    vit_dataset part;
    nb_try(vit_dataset_split(&digits.train, learn, 1, &part));
    vit_dataset_free(&digits.train);
    digits.train = part;
  }
  nb_try(vit_dataset_normalize(&digits.train, &digits.train));
  nb_try(vit_dataset_normalize(&digits.test, &digits.train));
  nb_try(vit_model_create(&digits.model, &c, 1));
  digits.model.kernels = vit_best_kernels(); /* whatever VIT_KERNELS says: plain loops take minutes */
  printf("  trained here: %d images, %d epochs\n", digits.train.count, f.epochs);
  fflush(stdout);
  nb_try(vit_fit(&digits.model, &f, &digits.train, NULL, &h));
  vit_history_free(&h);
  vit_dataset_free(&digits.train);
}

/* ---- [10] ---------------------------------------------------------------- */

/* Kernels of floats, but the inputs of one linear layer, or of all, are rounded as
   int8 rounds them: the layer is known by where its weights are. */
static struct {
  const float *from, *end;
} rounded;

static void rounding_linear(float *to, const float *from, const float *weights, const float *bias,
                            int count, int in, int out) {
  float *near, *row;
  if (weights < rounded.from || weights >= rounded.end) {
    vit_best_kernels()->linear_forward(to, from, weights, bias, count, in, out);
    return;
  }
  near = nb_floats(count * in);
  row = (float *)int8_space(1, in);
  for (vit_idx r = 0; r < count; r++) {
    vit_best_kernels()->quantize_rows(row, from + r * in, 1, in);
    for (vit_idx i = 0; i < in; i++) /* s (u - z), see chapter 11 */
      near[r * in + i] = row[0] * ((float)((const uint8_t *)(row + 2))[i] - row[1]);
  }
  vit_best_kernels()->linear_forward(to, near, weights, bias, count, in, out);
  free(near);
  free(row);
}

/* The weights of one layer, rounded in place. */
static void round_weights(float *weights, const vit_tensor *t) {
  const int out = t->shape[0], in = (int)(t->count / (size_t)out);
  void *q = int8_space(out, in);
  vit_quantize_linear(q, weights, in, out);
  vit_dequantize_linear(weights, q, in, out);
  free(q);
}

enum { WEIGHTS, INPUTS, BOTH, KINDS };
static struct {
  vit_kernels kernels;
  vit_dataset few;
  float *exact, *logits; /* [count,K] */
} probe;

static double error_of_logits(const vit_model *m) {
  double loss, accuracy;
  nb_try(vit_evaluate(m, &probe.few, &loss, &accuracy, NULL, NULL, probe.logits));
  return relative_error(probe.logits, probe.exact, probe.few.count * m->config.classes);
}

/* The error of the logits when one layer alone is rounded, or all (t NULL). The model
   is left as it was. */
static void round_layer(vit_model *m, const vit_tensor *only, double error[KINDS]) {
  const vit_kernels *table = m->kernels;
  const size_t size = m->params.count * sizeof(float);
  float *block = m->params.block, *copy = nb_floats((int)m->params.count);
  vit_tensor t;
  memcpy(copy, block, size);
  rounded.from = only ? block + only->offset : block;
  rounded.end = rounded.from + (only ? only->count : m->params.count);
  for (int kind = 0; kind < KINDS; kind++) {
    m->kernels = kind == WEIGHTS ? table : &probe.kernels;
    for (int i = 0; kind != INPUTS && vit_tensor_at(&m->config, i, &t); i++)
      if (t.is_matrix && (!only || t.offset == only->offset)) round_weights(block + t.offset, &t);
    error[kind] = error_of_logits(m);
    memcpy(block, copy, size);
  }
  m->kernels = table;
  free(copy);
}

/* blocks.0.attn.qkv.weight -> "1 qkv", and what is outside the blocks. */
static const char *layer_name(char text[40], const vit_tensor *t) {
  char part[VIT_NAME_SIZE];
  char *end, *start;
  snprintf(part, sizeof part, "%.60s", t->name);
  end = strrchr(part, '.'); /* .weight */
  if (end) *end = '\0';
  start = strrchr(part, '.');
  if (t->layer < 0) snprintf(text, 40, "%s", strncmp(part, "patch", 5) ? "head" : "patches");
  else snprintf(text, 40, "%d %.20s", t->layer + 1, start ? start + 1 : part);
  return text;
}

static void plot_layers(const char (*names)[40], const double (*error)[KINDS], int n,
                        const double all[KINDS]) {
  vit_plot p;
  double most = all[BOTH];
  for (int i = 0; i < n; i++)
    for (int k = 0; k < BOTH; k++) most = fmax(most, error[i][k]);
  nb_try(vit_plot_begin(&p, nb_out, "int8", 960, 540));
  fprintf(p.data, "# layer weights%% inputs%% both%%\n");
  for (int i = 0; i < n; i++)
    fprintf(p.data, "\"%s\" %.5g %.5g %.5g\n", names[i], 100 * error[i][WEIGHTS], 100 * error[i][INPUTS],
            100 * error[i][BOTH]);
  nb_axes(&p, "Where does the error of int8 come from? One linear layer alone is rounded, all else stays float",
          "linear layer: its block and its name", "error of the logits (% of their root mean square)");
  fprintf(p.script,
          "set style data histogram\nset style histogram clustered gap 1\n"
          "set style fill solid border lc rgb '#000000'\nset boxwidth 1\n"
          "unset grid\nset grid ytics lt 1 lc rgb '#cccccc' lw 1\n"
          "set xtics rotate by -60 scale 0 noenhanced\nset xrange [-0.8:%d.8]\nset yrange [0:%g]\n"
          "set key top left Left reverse spacing 1.3\n"
          "set arrow from -0.8,%g to %d.8,%g nohead front dt 2 lw 2 lc rgb '#000000'\n"
          "set label 'all %d layers, weights and inputs: %.2f %%' right at %d.6,%g offset 0,0.7 front\n"
          "plot 'int8.dat' using 2:xticlabels(1) lc rgb '#0072b2' lw 1 title 'its weights', \\\n"
          "     '' using 3 lc rgb '#e69f00' lw 1 title 'its inputs'\n",
          n - 1, 125 * fmax(most, 1e-9), 100 * all[BOTH], n - 1, 100 * all[BOTH], n, 100 * all[BOTH], n - 1,
          100 * all[BOTH]);
  nb_figure(vit_plot_end(&p), "int8");
}

/* A row for each block: weights of its four layers, then inputs. */
static void print_layers(const char (*names)[40], const double (*error)[KINDS], const vit_tensor *layer,
                         int n) {
  static const char *const parts[4] = {"qkv", "proj", "fc1", "fc2"};
  printf("\n  %s%-9s %26s   %32s%s\n  %s%-9s", nb_dim(), "", "its weights are rounded, %",
         "its inputs are rounded, %", nb_plain(), nb_dim(), "block");
  for (int i = 0; i < 8; i++) printf("%s%8s", i == 4 ? "   " : "", parts[i % 4]);
  printf("%s\n", nb_plain());
  for (int i = 0; i < n; i++) {
    const int each = layer[i].layer < 0 ? 1 : 4;
    if (each == 1) printf("  %-9s", names[i]);
    else printf("  %-9d", layer[i].layer + 1);
    for (int k = 0; k < BOTH; k++) {
      for (int j = 0; j < each; j++) printf("%8.2f", 100 * error[i + j][k]);
      printf("%*s", k ? 0 : 3 + 8 * (4 - each), "");
    }
    printf("\n");
    i += each - 1;
  }
}

/* The sums of squares tell whether errors add up as independent ones do. */
static void say_layers(const char (*names)[40], const double (*error)[KINDS], int n,
                       const double all[KINDS], double real, double apart) {
  double square[KINDS] = {0, 0, 0};
  int worst = 0;
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < KINDS; k++) square[k] += error[i][k] * error[i][k];
    if (error[i][BOTH] > error[worst][BOTH]) worst = i;
  }
  printf("\n  %-44s %7.2f %%\n  %-44s %7.2f %%\n  %-44s %7.2f %%\n", "all layers, weights alone",
         100 * all[WEIGHTS], "all layers, inputs alone", 100 * all[INPUTS], "all layers, both, rounded by hand in floats",
         100 * all[BOTH]);
  printf("  %-44s %7.2f %%  (%.2g %% apart)\n", "the quantized model itself", 100 * real, 100 * apart);
  printf("  %-44s %7.2f %%\n", "root of the sum of the layers' squares", 100 * sqrt(square[BOTH]));
  nb_say("%s gives most: %.0f %% of that sum. Errors of one origin would add up, those that know nothing "
         "of each other add as squares do: compare the last two lines. All inputs give %.1f times "
         "the error of all weights.",
         names[worst], 100 * error[worst][BOTH] * error[worst][BOTH] / fmax(square[BOTH], 1e-30),
         all[INPUTS] / fmax(all[WEIGHTS], 1e-30));
  if (!(apart < 0.5 * real + 1e-5))
    nb_stop("int8: the quantized model does not do what rounding its weights and inputs does");
}

static void errors_of_layers(vit_model *m, const vit_model *q) {
  const int most = at_most(250, 20), few = digits.test.count < most ? digits.test.count : most;
  const int values = few * m->config.classes;
  double all[KINDS], (*error)[KINDS], real, apart;
  float *of_q = nb_floats(values);
  char(*names)[40];
  vit_tensor t, *layer;
  int n = 0;
  nb_cell("Where does the error come from? Each linear layer rounded alone");
  for (int i = 0; vit_tensor_at(&m->config, i, &t); i++) n += t.is_matrix;
  names = (char(*)[40])calloc((size_t)n, sizeof *names);
  error = (double(*)[KINDS])calloc((size_t)n, sizeof *error);
  layer = (vit_tensor *)calloc((size_t)n, sizeof *layer);
  if (!names || !error || !layer) nb_stop("out of memory for the errors of the layers");
  probe.few = digits.test;
  vit_dataset_limit(&probe.few, few);
  probe.exact = nb_floats(values);
  probe.logits = nb_floats(values);
  probe.kernels = *m->kernels;
  probe.kernels.linear_forward = rounding_linear;
  nb_say("The error of the logits, root mean square over %d test images, as a part of their own. Of one "
         "layer the weights are rounded, or what comes into it, all else stays float.", probe.few.count);
  fflush(stdout);
  error_of_logits(m);
  memcpy(probe.exact, probe.logits, (size_t)values * sizeof(float));
  n = 0;
  for (int i = 0; vit_tensor_at(&m->config, i, &t); i++) {
    if (!t.is_matrix) continue;
    layer[n] = t;
    layer_name(names[n], &t);
    round_layer(m, &t, error[n++]);
  }
  real = error_of_logits(q);
  memcpy(of_q, probe.logits, (size_t)values * sizeof(float));
  round_layer(m, NULL, all); /* the last one is with both */
  apart = relative_error(of_q, probe.logits, values);
  print_layers((const char(*)[40])names, (const double(*)[KINDS])error, layer, n);
  say_layers((const char(*)[40])names, (const double(*)[KINDS])error, n, all, real, apart);
  plot_layers((const char(*)[40])names, (const double(*)[KINDS])error, n, all);
  free(probe.exact);
  free(probe.logits);
  free(of_q);
  free(names);
  free(error);
  free(layer);
}

static void int8_model(void) {
  vit_model q;
  nb_cell("What a trained model pays for int8, and what it gets");
  if (*digits.why) {
    nb_row("left out", digits.why);
    nb_cell("Where does the error come from? Each linear layer rounded alone");
    nb_row("left out", "there is no model"); /* so that the cells behind keep their numbers */
    return;
  }
  nb_row("data", digits.test.source);
  if (digits.test.count > at_most(digits.test.count, 500)) {
    vit_dataset_limit(&digits.test, 500);
    printf("  note         there are no vectors here: only %d of them are tested\n", digits.test.count);
  }
  if (model_file) nb_row("model", model_file);
  else train_digits();
  printf("  %.0f parameters, %d blocks, width %d, %d tokens\n", (double)digits.model.params.count,
         digits.model.config.depth, digits.model.config.width, vit_config_tokens(&digits.model.config));
  nb_quantized(&q, &digits.model);
  nb_both_ways(&digits.model, &q, &digits.test);
  errors_of_layers(&digits.model, &q);
  vit_model_free(&q);
  vit_model_free(&digits.model);
  vit_dataset_free(&digits.test);
}

/* ---- [11] ---------------------------------------------------------------- */

/* What the product of the ladder keeps where, by the sizes that vit.h was compiled with. */
static void the_levels(void) {
  nb_cell("Where the numbers lie while x [197,768] meets W [768,768]");
#ifdef VIT__HAS_SIMD
  const int high = VIT__HEIGHT, deep = VIT__DEPTH, wide = VIT__WIDTH, cols = VIT_TILE_COLS;
  const int sums = VIT_TILE_ROWS * cols;
  printf("  %s%-10s %-25s %9s %9s   %s%s\n", nb_dim(), "level", "what stays there", "floats", "bytes",
         "serves, while there", nb_plain());
  printf("  %-10s tile of y    %4d x %-5d %9d %9d   %d terms of sums\n", "registers", VIT_TILE_ROWS, cols,
         sums, 4 * sums, deep);
  printf("  %-10s panel of W   %4d x %-5d %9d %9d   %d rows of x\n", "cache 1", deep, cols, deep * cols,
         4 * deep * cols, high);
  printf("  %-10s block of x   %4d x %-5d %9d %9d   %d outputs\n", "cache 2", high, deep, high * deep,
         4 * high * deep, wide);
  printf("  %-10s packed of W  %4d x %-5d %9d %9d   %d rows of x\n", "cache 2", deep, wide, deep * wide,
         4 * deep * wide, T);
  printf("  %-10s W            %4d x %-5d %9d %9d   the whole product\n\n", "memory", D, D, D * D, 4 * D * D);
  printf("  vectors      %d of sums, %d of W, 1 of x\n", sums / VIT_LANES, cols / VIT_LANES);
  printf("  a term       %d numbers fetched, %d products: %.2f for each number\n", VIT_TILE_ROWS + cols, sums,
         sums / (double)(VIT_TILE_ROWS + cols));
  printf("  of memory    W once, x %d times, y %d times to and fro\n", (D + wide - 1) / wide,
         (D + deep - 1) / deep);
#else
  printf("  left out: there are no vectors in this build\n");
#endif
}

/* ---- [12] ---------------------------------------------------------------- */

/* Reads n floats, as fast as they come; the sum is not of interest. */
#ifdef VIT__HAS_SIMD
VIT__SIMD float read_vectors(const float *p, vit_idx n) {
  vit_vec sum[8];
  LADDER_UNROLL
  for (int j = 0; j < 8; j++) sum[j] = vit_set(0);
  for (vit_idx i = 0; i + 8 * VIT_LANES <= n; i += 8 * VIT_LANES) {
    LADDER_UNROLL
    for (int j = 0; j < 8; j++) sum[j] = vit_add(sum[j], vit_load(p + i + j * VIT_LANES));
  }
  LADDER_UNROLL
  for (int j = 1; j < 8; j++) sum[0] = vit_add(sum[0], sum[j]);
  return vit_sum(sum[0]);
}
#endif
static float read_floats(const float *p, vit_idx n) {
#ifdef VIT__HAS_SIMD
  if (vit_best_kernels() == &vit_simd) return read_vectors(p, n);
#endif
  return (float)(ladder_read((const uint64_t *)(const void *)p, n / 2) & 1);
}

/* Bytes per second of reading an array of n floats again and again; the best of 20. */
static double rate_of_reading(const float *p, vit_idx n) {
  const int turns = (int)(4000000 / n) + 1;
  double best = 1e9;
  for (int k = 0; k < 20; k++) {
    volatile float keep = 0;
    double seconds = vit_seconds();
    for (int i = 0; i < turns; i++) keep = read_floats(p, n);
    (void)keep;
    seconds = vit_seconds() - seconds;
    if (seconds < best) best = seconds;
  }
  return 4.0 * (double)n * turns / (best > 1e-9 ? best : 1e-9);
}

static void the_staircase(void) {
  static const struct {
    const char *what;
    int floats;
  } steps[] = {{"a panel of W", 4096}, {"a block of x", 24576}, {"packed part of W", 65536},
               {"W of the ladder", 589824}, {"more than all caches", 16000000}};
  float *p = nb_floats(16000000);
  nb_cell("How fast do numbers come? Arrays of growing size, read again and again");
  printf("  %s%-22s %8s %9s   %s%s\n", nb_dim(), "an array as large as", "KB", "GB/s", "must serve",
         nb_plain());
  for (int i = 0; i < 16000000; i++) p[i] = (float)(i & 7);
  for (int i = 0; i < 5; i++) {
    const double rate = rate_of_reading(p, steps[i].floats);
    printf("  %-22s %8d %9.1f   %5.1f products\n", steps[i].what, steps[i].floats / 256, rate / 1e9,
           2 * peak[0] / rate);
  }
  printf("  must serve: for how many multiply-adds each float has to be used, if one\n"
         "  thread shall multiply at its peak of %.0f GFLOP/s and is never to wait.\n", peak[0] / 1e9);
  free(p);
}

/* ---- [13] ---------------------------------------------------------------- */

/* The bytes of row 0 of x, and of output 0 of W, with four inputs. */
static void int8_by_pencil(void) {
  enum { IN = 4 };
  static const float a[IN] = {1.0f, -0.27f, 0.504f, 0}, b[IN] = {0.64f, -0.32f, 0.103f, 0.2f}, bias = 0.1f;
  float exact, near, *row = (float *)int8_space(1, IN), *q = (float *)int8_space(1, IN);
  const uint8_t *u = (const uint8_t *)(row + 2);
  int sum = 0, of_q = 0;
  nb_cell("int8 with a pencil: one row, one output, four inputs");
  nb_code("vit_naive.quantize_rows(row, x, 1, 4)");
  vit_naive.quantize_rows(row, a, 1, IN);
  nb_code("vit_quantize_linear(q, w, 4, 1)");
  vit_quantize_linear(q, b, IN, 1);
  printf("  x  %7.3f %7.3f %7.3f %7.3f    s = %.4f, z = %.0f\n  u ", (double)a[0], (double)a[1], (double)a[2],
         (double)a[3], (double)row[0], (double)row[1]);
  for (int i = 0; i < IN; i++) printf(" %7d", u[i]);
  printf("\n  w  %7.3f %7.3f %7.3f %7.3f    t = %.4f, sum of q = %.0f\n  q ", (double)b[0], (double)b[1],
         (double)b[2], (double)b[3], (double)q[0], (double)q[vit_panel()]);
  for (int i = 0; i < IN; i++) {
    const int byte = ((const int8_t *)q)[vit__int8_byte(0, i, IN)];
    printf(" %7d", byte);
    sum += u[i] * byte;
    of_q += byte;
  }
  printf("\n  sum of u q = %d, minus z * %d: %.0f, times s t: %.4f\n", sum, of_q,
         (double)sum - (double)row[1] * of_q, ((double)sum - (double)row[1] * of_q) * (double)row[0] * (double)q[0]);
  nb_code("vit_naive.linear_int8_forward(y, row, q, b, 1, 4, 0, 1)");
  vit_naive.linear_int8_forward(&near, row, q, &bias, 1, IN, 0, 1);
  vit_naive.linear_forward(&exact, a, b, &bias, 1, IN, 1);
  printf("  y = %.4f with b = %.1f; in floats %.4f\n", (double)near, (double)bias, (double)exact);
  free(row);
  free(q);
}

/* ---- [14] ---------------------------------------------------------------- */

/* One way to make whole numbers of a product [64,256] [256,64], and its error. */
typedef struct {
  const char *name;
  int u, q;      /* the largest of each */
  int symmetric; /* no zero point: u from -u/2 to u/2 */
  int cut;       /* what is behind the point is cut off, not rounded */
  int one_scale; /* all outputs share t */
  int clamp;     /* pairs of products are added in 16 bits, as the instruction does it */
} int8_way;

enum { WAY_ROWS = 64, WAY_IN = 256, WAY_OUT = 64 };
static double clamped; /* pairs that did not fit, as a part of all */

static double whole(const int8_way *way, double v) { return way->cut ? trunc(v) : nearbyint(v); }
static double between(double v, double low, double high) { return fmin(fmax(v, low), high); }

static void way_of_row(const int8_way *way, const float *a, int *u, double *s, double *z) {
  double low = 0, high = 0;
  for (int i = 0; i < WAY_IN; i++) low = fmin(low, (double)a[i]), high = fmax(high, (double)a[i]);
  *s = way->symmetric ? fmax(high, -low) / (way->u / 2) : (high - low) / way->u;
  *z = way->symmetric ? 0 : nearbyint(-low / *s);
  for (int i = 0; i < WAY_IN; i++)
    u[i] = (int)between(whole(way, (double)a[i] / *s + *z), way->symmetric ? -way->u / 2 : 0, way->u);
}

static double largest_of(const float *v, int n) {
  double most = 0;
  for (int i = 0; i < n; i++) most = fmax(most, fabs((double)v[i]));
  return most;
}

/* y = x W^T by this way, held against floats. */
static double error_of_way(const int8_way *way, const float *a, const float *b) {
  static int u[WAY_IN], q[WAY_OUT * WAY_IN];
  static float got[WAY_ROWS * WAY_OUT], right[WAY_ROWS * WAY_OUT];
  double t[WAY_OUT], s, z;
  clamped = 0;
  for (int o = 0; o < WAY_OUT; o++) {
    t[o] = (way->one_scale ? largest_of(b, WAY_OUT * WAY_IN) : largest_of(b + o * WAY_IN, WAY_IN)) / way->q;
    for (int i = 0; i < WAY_IN; i++) q[o * WAY_IN + i] = (int)whole(way, (double)b[o * WAY_IN + i] / t[o]);
  }
  for (int r = 0; r < WAY_ROWS; r++) {
    way_of_row(way, a + r * WAY_IN, u, &s, &z);
    for (int o = 0; o < WAY_OUT; o++) {
      double sum = 0, of_q = 0;
      for (int i = 0; i < WAY_IN; i += 2) {
        const int *w2 = q + o * WAY_IN + i;
        const double pair = u[i] * w2[0] + u[i + 1] * w2[1], fits = between(pair, -32768, 32767);
        clamped += way->clamp && pair != fits;
        sum += way->clamp ? fits : pair;
        of_q += w2[0] + w2[1];
      }
      got[r * WAY_OUT + o] = (float)(s * t[o] * (sum - z * of_q));
    }
  }
  clamped /= WAY_ROWS * WAY_OUT * (WAY_IN / 2);
  vit_naive.linear_forward(right, a, b, NULL, WAY_ROWS, WAY_IN, WAY_OUT);
  return relative_error(got, right, WAY_ROWS * WAY_OUT);
}

static void int8_broken(void) {
  static const int8_way ways_of[] = {{"as vit.h does it", 127, 64, 0, 0, 0, 0},
                                     {"cut off, not rounded", 127, 64, 0, 1, 0, 0},
                                     {"no zero point", 127, 64, 1, 0, 0, 0},
                                     {"one scale for all outputs", 127, 64, 0, 0, 1, 0},
                                     {"8 bits each", 255, 127, 0, 0, 0, 0},
                                     {"4 bits each", 15, 7, 0, 0, 0, 0}};
  float *a = nb_floats(WAY_ROWS * WAY_IN), *b = nb_floats(WAY_OUT * WAY_IN), *size = nb_floats(WAY_OUT);
  nb_cell("Break it: the scheme with one part taken away");
  nb_normal(a, WAY_ROWS * WAY_IN, 5);
  vit_naive.gelu_forward(a, a, WAY_ROWS * WAY_IN);
  nb_normal(b, WAY_OUT * WAY_IN, 6);
  nb_normal(size, WAY_OUT, 7);
  for (int i = 0; i < WAY_OUT * WAY_IN; i++) b[i] *= expf(size[i / WAY_IN]);
  printf("  x [64,256] after GELU, mostly positive; W [64,256], its rows of several sizes\n"
         "  %s%-28s %s%s\n", nb_dim(), "way", "error of y, of its size", nb_plain());
  for (int i = 0; i < 6; i++) printf("  %-28s %6.2f %%\n", ways_of[i].name, 100 * error_of_way(ways_of + i, a, b));
  free(a);
  free(b);
  free(size);
}

/* ---- [15] ---------------------------------------------------------------- */

static void int8_in_16_bits(void) {
  static const int8_way ways_of[] = {{"8 bits, sums of any size", 255, 127, 0, 0, 0, 0},
                                     {"8 bits, pairs in 16 bits", 255, 127, 0, 0, 0, 1},
                                     {"7 bits, pairs in 16 bits", 127, 64, 0, 0, 0, 1}};
  float *a = nb_floats(WAY_ROWS * WAY_IN), *b = nb_floats(WAY_OUT * WAY_IN);
  vit_rng rng = vit_rng_create(8, 0);
  nb_cell("Why 7 bits: the instruction of AVX2 adds two products in 16 bits");
  printf("  x from 0 to 1, as pixels are; W from -1 to 1, each as likely as the other\n"
         "  %s%-28s %10s %14s %12s%s\n", nb_dim(), "way", "largest", "do not fit", "error of y", nb_plain());
  for (int i = 0; i < WAY_ROWS * WAY_IN; i++) a[i] = vit_random_uniform(&rng);
  for (int i = 0; i < WAY_OUT * WAY_IN; i++) b[i] = 2 * vit_random_uniform(&rng) - 1;
  for (int i = 0; i < 3; i++) {
    const double error = error_of_way(ways_of + i, a, b);
    printf("  %-28s %10d %12.2f %% %10.2f %%\n", ways_of[i].name, 2 * ways_of[i].u * ways_of[i].q, 100 * clamped,
           100 * error);
  }
  printf("  largest: two products at the most, where 16 bits end at 32767.\n");
  free(a);
  free(b);
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
      {"--repeats", "N", "each timing is the median of N (7)", &repeats, NULL, NULL},
      {"--model", "FILE", "for the last cells: a model of digits from 08 or 09; else one is trained",
       NULL, NULL, &model_file}};
  double rate[JOBS];
  nb_start("11-speed",
           "The same matrix product, faster idea by idea, up to the limit of the machine.", argc,
           argv, flags, 5);
  check_flags();
  get_digits();
  the_limits();
  many_sums();
  the_ladder(rate);
  odd_sizes();
  the_roofline(rate);
  training_step();
  last_block();
  int8_product();
  int8_model();
  the_levels();
  the_staircase();
  int8_by_pencil();
  int8_broken();
  int8_in_16_bits();
  return 0;
}
