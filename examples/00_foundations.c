// Which path runs on this machine, and why it can be trusted: naive = SIMD, seeds, errors, memory.
//
// Before the first patch: vit.h holds every computation twice, as plain loops and with vectors.
// This program asks the processor which of the two may run, compares them, and shows the four
// things that all later chapters stand on. Read beside it: chapter 00 of vit.h.
#include "common.h"

enum { SIZE = 256, FLOATS = SIZE * SIZE };

/* ---- [1] ---------------------------------------------------------------- */

static int has_gnuplot(void) { return system("gnuplot --version >/dev/null 2>&1") == 0; }

static void what_runs_here(void) {
  const vit_kernels *best = vit_best_kernels();
  nb_cell("What was compiled, and what of it runs on this processor");
  printf("  vectors      %s, %d floats in each\n", vit_simd_name(), vit_simd_lanes());
  printf("  kernels      %s: %s\n", best->name,
         best == &vit_naive ? "plain loops, no vectors here" : "the processor has these vectors");
#ifdef _OPENMP
  printf("  threads      %d, by OpenMP\n", vit_max_threads());
#else
  printf("  threads      1, built without OpenMP\n");
#endif
#ifdef VIT_HAVE_STB
  printf("  stb_image    yes: .gz data can be read as it is\n");
#else
  printf("  stb_image    no: data must be unpacked first (gunzip)\n");
#endif
  printf("  gnuplot      %s\n", has_gnuplot() ? "yes: figures become pictures"
                                              : "no: figures stay scripts, to be drawn later");
}

/* ---- [2] ---------------------------------------------------------------- */

static float *x, *w, *b; /* inputs of the kernels: random numbers */

static void run_linear(const vit_kernels *k, float *y) {
  k->linear_forward(y, x, w, b, SIZE, SIZE, SIZE);
}
static void run_softmax(const vit_kernels *k, float *y) { k->softmax_forward(y, x, SIZE, SIZE); }
static void run_gelu(const vit_kernels *k, float *y) { k->gelu_forward(y, x, FLOATS); }
static void run_dropout(const vit_kernels *k, float *y) {
  k->dropout(y, x, FLOATS, 0.5f, 1, 2, 0);
}

static double microseconds(void (*run)(const vit_kernels *, float *), const vit_kernels *k,
                           float *y) {
  double best;
  NB_FASTEST(best, run(k, y));
  return best;
}

static void naive_against_simd(void) {
  static const struct {
    const char *name, *size;
    void (*run)(const vit_kernels *, float *);
  } jobs[] = {{"matrix product", "256 x 256 x 256", run_linear},
              {"softmax", "256 rows of 256", run_softmax},
              {"GELU", "65,536 numbers", run_gelu},
              {"dropout", "65,536 numbers", run_dropout}};
  const vit_kernels *best = vit_best_kernels();
  float *slow = nb_floats(FLOATS), *fast = nb_floats(FLOATS);
  const int vectors = best != &vit_naive;
  vit_plot p;
  nb_cell("The same numbers through both tables of kernels: equal results, less time");
  if (!vectors) nb_say("There are no vectors here: both columns are the plain loops.");
  nb_code("vit_naive.linear_forward(slow, x, w, b, 256, 256, 256);");
  nb_code("vit_best_kernels()->linear_forward(fast, x, w, b, 256, 256, 256);");
  nb_try(vit_plot_begin(&p, nb_out, "speed", 760, 420));
  printf("  %s%-15s %-15s %11s %11s %8s %11s%s\n", nb_dim(), "kernel", "work", "naive (us)",
         vectors ? "SIMD (us)" : "again (us)", "ratio", "difference", nb_plain());
  for (int i = 0; i < 4; i++) {
    double t0 = microseconds(jobs[i].run, &vit_naive, slow);
    double t1 = microseconds(jobs[i].run, best, fast);
    printf("  %-15s %-15s %11.1f %11.1f %7.1fx %11.1g\n", jobs[i].name, jobs[i].size, t0, t1,
           t0 / t1, vit_max_difference(slow, fast, FLOATS));
    fprintf(p.data, "\"%s\" %.3f %.3f %.2f\n", jobs[i].name, t0, t1, t0 / t1);
  }
  if (vectors)
    nb_say("One thread each. A float has 7 digits: differences of 1e-5 in sums of 256 products, and "
           "of 1e-7 elsewhere, are rounding.");
  nb_axes(&p,
          vectors ? "How many times faster are vectors? One call of each kernel, on one thread\\n"
                    "(each line is ten times more)"
                  : "One call of each kernel, on one thread: the plain loops, twice\\n"
                    "(each line is ten times more)", "",
          "time of a call (microseconds)");
  fprintf(p.script,
          "set logscale y\nset format y '%%.0f'\nset yrange [1:*]\nset offsets 0,0,graph 0.1,0\n"
          "unset grid\nset grid ytics lt 1 lc rgb '#cccccc' lw 1\n"
          "set style data histograms\nset style histogram clustered gap 1\n"
          "set style fill solid\nset boxwidth 0.9\nset key top right\n"
          "plot 'speed.dat' using 2:xtic(1) title 'naive' lt 5, '' using 3 title '%s' lt 1, \\\n"
          "     '' using ($0+0.17):3:(sprintf('%%.0f x', $4)) with labels offset 0,0.7 notitle\n",
          vectors ? "SIMD" : "again");
  nb_figure(vit_plot_end(&p), "speed");
  free(slow);
  free(fast);
}

/* ---- [3] ---------------------------------------------------------------- */

static void print_error(vit_result r) {
  char number[20];
  snprintf(number, sizeof number, "  %2d  ", (int)r);
  nb_wrap(stdout, vit_error(), number, "      ");
}

static void errors_are_sentences(void) {
  vit_config c = vit_config_tutorial(), wrong;
  vit_model m;
  vit_dataset d;
  vit_result r;
  nb_cell("What cannot work returns a code, and vit_error() says why in one sentence");
  wrong = c;
  NB_RUN(wrong.image_height = 30; r = vit_model_create(&m, &wrong, 1));
  print_error(r);
  wrong = c;
  NB_RUN(wrong.heads = 4; r = vit_model_create(&m, &wrong, 1));
  print_error(r);
  wrong = c;
  NB_RUN(wrong.attn_drop = 1.5f; r = vit_model_create(&m, &wrong, 1));
  print_error(r);
  NB_RUN(r = vit_dataset_idx(&d, "no-such-file", "labels", 10));
  print_error(r);
  nb_say("The number is the vit_result: %d = \"%s\", %d = \"%s\". Nothing was allocated.",
         VIT_ERR_CONFIG, vit_result_text(VIT_ERR_CONFIG), VIT_ERR_FILE,
         vit_result_text(VIT_ERR_FILE));
}

/* ---- [4] ---------------------------------------------------------------- */

static void print_numbers(uint64_t seed) {
  vit_rng rng = vit_rng_create(seed, 0);
  printf("  seed %d      ", (int)seed);
  for (int i = 0; i < 6; i++) printf("%8.4f", (double)vit_random_uniform(&rng));
  printf("\n");
}

static void seeds(void) {
  vit_config c = vit_config_tutorial();
  vit_model one, two;
  vit_state s1, s2;
  int same;
  nb_cell("The same seed gives the same numbers, and the same model on any number of threads");
  print_numbers(1);
  print_numbers(2);
  print_numbers(1);
  nb_try(vit_model_create(&one, &c, 7));
  nb_try(vit_model_create(&two, &c, 7));
  nb_try(vit_state_create(&s1, &one, 64, VIT_FOR_INFERENCE, 0));
  nb_try(vit_state_create(&s2, &two, 64, VIT_FOR_INFERENCE, 0));
  NB_RUN(one.threads = 1; two.threads = 3);
  nb_try(vit_forward(&one, &s1, x, 64)); /* 64 noise images of 32 x 32 */
  nb_try(vit_forward(&two, &s2, x, 64));
  same = !memcmp(s1.logits, s2.logits, 64 * 10 * sizeof(float));
  nb_say("64 images through two models of seed 7, on 1 thread and on %d: %s.", vit_model_threads(&two),
         same ? "the same bits" : "DIFFERENT");
  vit_state_free(&s1);
  vit_state_free(&s2);
  vit_model_free(&one);
  vit_model_free(&two);
}

/* ---- [5] ---------------------------------------------------------------- */

/* A plan: which arrays are needed. It runs twice, and cannot disagree with itself. */
typedef struct { float *tokens, *scores, *labels; } arrays;
static void plan(arrays *p, vit_arena *a) {
  p->tokens = (float *)vit_arena_take(a, 5 * 9, sizeof(float));
  p->scores = (float *)vit_arena_take(a, 5 * 5, sizeof(float));
  p->labels = (float *)vit_arena_take(a, 1, sizeof(float));
}

static void memory(void) {
  vit_arena arena = {NULL, NULL, 0, 0, 0};
  arrays p;
  nb_cell("Memory: walk the plan to measure, allocate once, walk it again to assign");
  NB_RUN(plan(&p, &arena));
  printf("  measured     %d bytes for 180 + 100 + 4; pointers are still NULL\n", (int)arena.used);
  NB_RUN(nb_try(vit_arena_allocate(&arena, "example")); plan(&p, &arena));
  printf("  assigned     tokens at byte %d, scores at %d, labels at %d\n",
         (int)((unsigned char *)p.tokens - arena.base), (int)((unsigned char *)p.scores - arena.base),
         (int)((unsigned char *)p.labels - arena.base));
  nb_say("Each array starts on a multiple of 64 bytes, the width of a cache line.");
  vit_arena_free(&arena);
}

/* ---- [6] ---------------------------------------------------------------- */

/* vit_philox, but with fewer rounds than its ten, or more. */
static uint32_t philox_of(int rounds, uint32_t key, uint32_t stream, uint32_t index) {
  uint32_t x0 = index, x1 = stream;
  for (int round = 0; round < rounds; round++) {
    uint64_t product = (uint64_t)VIT__PHILOX_M * x0;
    x0 = (uint32_t)(product >> 32) ^ key ^ x1;
    x1 = (uint32_t)product;
    key += VIT__PHILOX_W;
  }
  return x0;
}

static int ones(uint32_t bits) {
  int n = 0;
  for (; bits; bits &= bits - 1) n++;
  return n;
}

static void fewer_rounds(void) {
  static const int tried[5] = {1, 2, 3, 5, 10};
  const uint32_t key = vit_rng_create(1, 0).key;
  vit_plot p;
  nb_cell("Break it: Philox with fewer than its ten rounds, numbers 0 to 5 of a stream");
  printf("  %srounds                                                     bits that change%s\n",
         nb_dim(), nb_plain());
  for (int t = 0; t < 5; t++) {
    double changed = 0;
    printf("  %4d  ", tried[t]);
    for (uint32_t i = 0; i < 6; i++)
      printf("%8.4f", (double)vit__unit(philox_of(tried[t], key, 0, i)));
    for (uint32_t i = 0; i < 1000; i++)
      changed += ones(philox_of(tried[t], key, 0, i) ^ philox_of(tried[t], key, 0, i + 1)) / 1000.0;
    printf("  %6.2f of 32\n", changed);
  }
  nb_say("From one index to the next, a coin for each bit would change 16 of 32.");
  nb_try(vit_plot_begin(&p, nb_out, "rounds", 960, 380));
  fprintf(p.script, "set multiplot layout 1,3 title \"Random numbers and the one that follows: "
                    "is there a pattern after so many rounds?\"\n"
                    "set size square\nset xrange [0:1]\nset yrange [0:1]\nset tics 0.5\n"
                    "set xlabel 'number i'\nset ylabel 'number i + 1'\nunset key\n");
  for (int t = 1; t < 5; t += 1 + (t == 2)) {
    for (uint32_t i = 0; i < 2000; i++)
      fprintf(p.data, "%.4f %.4f\n", (double)vit__unit(philox_of(tried[t], key, 0, i)),
              (double)vit__unit(philox_of(tried[t], key, 0, i + 1)));
    fprintf(p.data, "\n\n");
    fprintf(p.script, "set title '%d rounds'\nplot 'rounds.dat' index %d using 1:2 with points pt 7 "
                      "ps 0.25 lc rgb '#0072b2'\n", tried[t], t - (t > 2) - 1);
  }
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "rounds");
}

/* ---- [7] ---------------------------------------------------------------- */

static float squares_in_float(const float *v, int n) {
  float sum = 0;
  for (int i = 0; i < n; i++) sum += v[i] * v[i];
  return sum;
}

static void sums(void) {
  enum { MANY = 1000000 };
  float *v = nb_floats(MANY);
  double naive, simd, wanted = (double)0.1f * (double)0.1f * MANY;
  float one = 16777216.0f;
  nb_cell("A sum of a million squares of 0.1f, in float and in double");
  NB_RUN(one = one + 1.0f);
  printf("  in a float, 16777216 + 1 = %.0f\n", (double)one);
  for (int i = 0; i < MANY; i++) v[i] = 0.1f;
  NB_RUN(vit_naive.sum_squares(&naive, v, 1000000));
  vit_best_kernels()->sum_squares(&simd, v, MANY);
  printf("  %s                                     sum           error%s\n", nb_dim(), nb_plain());
  printf("  one sum in float            %14.5f  %14.5f\n", (double)squares_in_float(v, MANY),
         (double)squares_in_float(v, MANY) - wanted);
  printf("  one sum in double: naive    %14.5f  %14.5f\n", naive, naive - wanted);
  printf("  256 at a time: SIMD         %14.5f  %14.5f\n", simd, simd - wanted);
  nb_say("The right sum is a million times the square of what the float 0.1f really is.");
  free(v);
}

/* ---- [8] ---------------------------------------------------------------- */

/* What vit_load_part does on AVX2, in plain C: lane i is p[i] where the mask is -1. */
static void load_part(float lane[8], const float *p, int n) {
  static const int mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  const int *m = mask + 8 - n;
  for (int i = 0; i < 8; i++) lane[i] = m[i] ? p[i] : 0;
}

static void end_of_a_row(void) {
  const float p[5] = {10, 20, 30, 40, 50};
  float lane[8];
  nb_cell("The end of a row: a window of eight, slid over eight -1 and eight 0");
  printf("  mask       ");
  for (int i = 0; i < 16; i++) printf("%3d", i < 8 ? -1 : 0);
  printf("\n  number     ");
  for (int i = 0; i < 16; i++) printf("%3d", i);
  printf("\n");
  for (int n = 1; n <= 5; n += 2) {
    printf("  n = %d       ", n);
    for (int i = 0; i < 16; i++)
      printf("%s", i < 8 - n || i > 15 - n ? "   " : i == 8 - n ? " [-" : i == 15 - n ? "--]" : "---");
    printf("  mask + 8 - %d\n", n);
  }
  NB_RUN(load_part(lane, p, 5));
  printf("  lanes      ");
  for (int i = 0; i < 8; i++) printf("%3.0f", (double)lane[i]);
  printf("\n");
}

/* ---- [9] ---------------------------------------------------------------- */

static void run_scale(const vit_kernels *k, float *y) { k->scale(y, x, 0.75f, FLOATS); }
static void run_residual(const vit_kernels *k, float *y) {
  k->residual_forward(y, x, w, 1.25f, FLOATS);
}
static void run_uniform(const vit_kernels *k, float *y) { k->uniform(y, FLOATS, 7, 0, 0); }
static void run_squares(const vit_kernels *k, float *y) {
  double sum;
  k->sum_squares(&sum, x, FLOATS);
  y[0] = (float)sum;
}

static void four_kernels(void) {
  static const struct {
    const char *name;
    void (*run)(const vit_kernels *, float *);
  } jobs[] = {{"scale", run_scale}, {"residual_forward", run_residual}, {"uniform", run_uniform},
              {"sum_squares", run_squares}};
  float *slow = nb_floats(FLOATS), *fast = nb_floats(FLOATS);
  nb_cell("The four kernels of this chapter on 65,536 numbers, one thread");
  printf("  %s%-17s %11s %11s %8s %11s%s\n", nb_dim(), "kernel", "naive (us)", "SIMD (us)", "ratio",
         "difference", nb_plain());
  for (int i = 0; i < 4; i++) {
    const double t0 = microseconds(jobs[i].run, &vit_naive, slow);
    const double t1 = microseconds(jobs[i].run, vit_best_kernels(), fast);
    printf("  %-17s %11.1f %11.1f %7.1fx %11.1g\n", jobs[i].name, t0, t1, t0 / t1,
           vit_max_difference(slow, fast, i < 3 ? FLOATS : 1));
  }
  free(slow);
  free(fast);
}

/* ---- [10] --------------------------------------------------------------- */

static int calls, added;

static void counted(float *y, const float *a, const float *f, float scale, int n) {
  calls++, added += n;
  vit_naive.residual_forward(y, a, f, scale, n);
}

/* Whole vectors of eight alone: the last n % 8 numbers stay what they were. */
static void without_tail(float *y, const float *a, const float *f, float scale, int n) {
  for (int i = 0; i + 8 <= n; i += 8)
    for (int j = i; j < i + 8; j++) y[j] = a[j] + scale * f[j];
}

static void another_table(void) {
  vit_config c = vit_config_tutorial();
  vit_kernels own = vit_naive, bad = vit_naive;
  vit_gradient_report report;
  vit_model m;
  vit_state s;
  float right[10];
  c.softmax_before_loss = 0;
  nb_cell("A kernel of one's own: a copy of the table with one entry replaced");
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, 1, VIT_FOR_INFERENCE, 0));
  NB_RUN(own.residual_forward = counted; m.kernels = &own);
  nb_try(vit_forward(&m, &s, x, 1));
  memcpy(right, s.logits, sizeof right);
  printf("  one image through three blocks: %d calls, %d numbers\n", calls, added);
  NB_RUN(bad.residual_forward = without_tail; m.kernels = &bad);
  nb_try(vit_forward(&m, &s, x, 1));
  printf("  largest difference of the 10 logits: %.3f\n", vit_max_difference(right, s.logits, 10));
  nb_try(vit_gradient_check(&c, &vit_naive, 2, 1, &report));
  printf("  gradient check                       error, below 0.01 is right\n");
  printf("    the table vit_naive                %.4f\n", report.worst);
  nb_try(vit_gradient_check(&c, &bad, 2, 1, &report));
  printf("    the tail left out                  %.4f\n", report.worst);
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- [11] --------------------------------------------------------------- */

/* The sum of n floats, made in parts that are then added in order. */
static float sum_in_parts(const float *v, int n, int parts) {
  float all = 0;
  for (int i = 0; i < parts; i++) {
    int first, count;
    float sum = 0;
    vit__part(n, parts, i, 1, &first, &count);
    for (int j = first; j < first + count; j++) sum += v[j];
    all += sum;
  }
  return all;
}

static void parts_and_threads(void) {
  static const int tried[5] = {1, 2, 3, 8, 16};
  nb_cell("One sum of 1,000 floats, in parts: how many parts changes the last bits");
  for (int t = 0; t < 5; t++)
    printf("  %2d part%s    %.6f\n", tried[t], tried[t] > 1 ? "s" : " ",
           (double)sum_in_parts(x, 1000, tried[t]));
  printf("  parts of 1,000 items by vit__part(1000, 3, i, 1, ...):");
  for (int i = 0; i < 3; i++) {
    int first, count;
    vit__part(1000, 3, i, 1, &first, &count);
    printf(" %d", count);
  }
  printf("\n");
  nb_say("So the number of parts is fixed, at 16 for sums over a batch, and the threads share the "
         "parts: who computes a part does not change it.");
}

int main(int argc, char **argv) {
  nb_start("00-foundations",
           "Every computation exists twice, as plain loops and with vectors; both give the same.",
           argc, argv, NULL, 0);
  x = nb_floats(FLOATS);
  w = nb_floats(FLOATS);
  b = nb_floats(SIZE);
  nb_normal(x, FLOATS, 1);
  nb_normal(w, FLOATS, 2);
  nb_normal(b, SIZE, 3);
  what_runs_here();
  naive_against_simd();
  errors_are_sentences();
  seeds();
  memory();
  fewer_rounds();
  sums();
  end_of_a_row();
  four_kernels();
  another_table();
  parts_and_threads();
  free(x);
  free(w);
  free(b);
  return 0;
}
