/* How fast vit.h is: against this machine, and against its peers.

   A measurement is a race. Its contenders take turns: one turn of vit.h, one of
   PyTorch, one of ONNX Runtime, and so on for several rounds, so that a busy
   minute of the machine falls on all of them. A turn repeats one step of work
   until its time is over; the table shows the median over the rounds, and the
   lowest and the highest.

   kernels.c and models.c say what is measured, plots.c draws it, peers.c and
   peers.py run PyTorch, ONNX Runtime and OpenVINO, each in a process of its own,
   blas.c is OpenBLAS. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

bench_settings bench = {0, 7, 0.3, 1, "out/bench", NULL, 0};

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "an unknown compiler"
#endif

static int status_shown = 0;

void bench_stop(const char *sentence) {
  bench_status("");
  fflush(stdout);
  fprintf(stderr, "%s\n", sentence);
  peers_stop();
  exit(1);
}

void bench_try(vit_result r) {
  if (r) bench_stop(vit_error());
}

float *bench_floats(size_t n) {
  float *p = (float *)malloc(n * sizeof *p);
  vit_rng rng = vit_rng_create(1, 0);
  enum { PERIOD = 4093 }; /* drawing all of them would take longer than the race */
  if (!p) bench_stop("out of memory for the arrays of the benchmark");
  for (size_t i = 0; i < n; i++) p[i] = i < PERIOD ? vit_random_normal(&rng) : p[i - PERIOD];
  return p;
}

void bench_status(const char *format, ...) {
  va_list args;
  if (!isatty(2)) return;
  fflush(stdout);
  if (status_shown) fprintf(stderr, "\r\033[K");
  status_shown = *format != '\0';
  if (!status_shown) return;
  fprintf(stderr, "  ... ");
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fflush(stderr);
}

void bench_fact(const char *format, ...) {
  static const char *mode = "w";
  char path[300];
  va_list args;
  FILE *f;
  bench_status("");
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  snprintf(path, sizeof path, "%s/machine.txt", bench.out);
  f = fopen(path, mode);
  if (!f) bench_stop("cannot write machine.txt in the folder of the results");
  mode = "a";
  va_start(args, format);
  vfprintf(f, format, args);
  va_end(args);
  fclose(f);
}

/* ---- results ------------------------------------------------------------- */

static bench_row *rows = NULL;
static int row_count = 0, row_room = 0;

void bench_add(const char *group, const char *what, const char *implementation, int threads,
               double median, double low, double high, const char *unit) {
  bench_row *r;
  if (row_count == row_room) {
    row_room = 2 * row_room + 64;
    rows = (bench_row *)realloc(rows, (size_t)row_room * sizeof *rows);
    if (!rows) bench_stop("out of memory for the results");
  }
  r = rows + row_count++;
  snprintf(r->group, sizeof r->group, "%s", group);
  snprintf(r->what, sizeof r->what, "%s", what);
  snprintf(r->implementation, sizeof r->implementation, "%s", implementation);
  snprintf(r->unit, sizeof r->unit, "%s", unit);
  r->threads = threads;
  r->median = median;
  r->low = low;
  r->high = high;
}

const bench_row *bench_row_at(int i) { return i < row_count ? rows + i : NULL; }

const bench_row *bench_find(const char *group, const char *what, const char *implementation,
                            int threads, const char *unit) {
  for (int i = 0; i < row_count; i++) {
    const bench_row *r = rows + i;
    if (!strcmp(r->group, group) && !strcmp(r->what, what) && r->threads == threads &&
        !strcmp(r->implementation, implementation) && !strcmp(r->unit, unit))
      return r;
  }
  return NULL;
}

/* After each group, so that a run that is stopped has not been in vain. */
static void write_csv(void) {
  char path[300];
  FILE *f;
  snprintf(path, sizeof path, "%s/results.csv", bench.out);
  f = fopen(path, "w");
  if (!f) bench_stop("cannot write results.csv in the folder of the results");
  fprintf(f, "group,case,implementation,threads,median,low,high,unit\n");
  for (int i = 0; i < row_count; i++)
    fprintf(f, "%s,%s,%s,%d,%.6g,%.6g,%.6g,%s\n", rows[i].group, rows[i].what,
            rows[i].implementation, rows[i].threads, rows[i].median, rows[i].low, rows[i].high,
            rows[i].unit);
  if (fclose(f)) bench_stop("cannot write results.csv: is the disk full?");
}

/* ---- races ----------------------------------------------------------------- */

void bench_race_begin(bench_race *r, const char *group, const char *what, double work,
                      const char *unit, double budget) {
  memset(r, 0, sizeof *r);
  r->group = group;
  r->what = what;
  r->work = work;
  r->unit = unit;
  r->budget = budget;
}

bench_contender *bench_enter(bench_race *r, const char *name, int threads,
                             void (*step)(void *), void *self) {
  bench_contender *c = r->list + r->count;
  if (r->count == BENCH_CONTENDERS) bench_stop("too many contenders in one race");
  r->count++;
  c->name = name;
  c->threads = threads;
  c->step = step;
  c->self = self;
  return c;
}

void bench_enter_peer(bench_race *r, int peer, int threads) {
  bench_contender *c = bench_enter(r, peers_label(peer), threads, NULL, NULL);
  c->peer = peer;
  c->int8 = peer == PEER_INT8;
}

/* Threads that have nothing to do wait actively for a moment, GNU's OpenMP some
   milliseconds, OpenBLAS a hundred: let them fall asleep before the next turn. */
static void settle(void) {
  const struct timespec moment = {0, 5000000};
  for (int i = 0; i < 60; i++) {
    clock_t before = clock(), spent; /* of all threads */
    nanosleep(&moment, NULL);
    spent = clock() - before;
    if ((double)spent < 0.001 * CLOCKS_PER_SEC) return;
  }
}

/* Seconds per step, of as many steps as fit into the time; at least one. */
static double time_steps(const bench_contender *c, double budget) {
  double start = vit_seconds(), spent;
  int steps = 0;
  do {
    c->step(c->self);
    steps++;
    spent = vit_seconds() - start;
  } while (spent < budget);
  if (c->threads > 1) settle();
  return spent / steps;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* A step before the race brings code, memory and caches to where they will be.
   Of the naive ones that take long it is the measurement. */
static void warm_up(bench_contender *c) {
  double seconds;
  if (!c->step) return; /* of a peer peers_open has done it */
  seconds = time_steps(c, 0);
  if (c->once && seconds > 0.5) c->seconds[c->samples++] = seconds;
}

static void take_turn(const bench_race *r, bench_contender *c) {
  double seconds;
  if (!c->step && !c->peer) return; /* cannot do this work */
  if (c->once && c->samples && c->seconds[0] > 0.5) return;
  seconds = c->peer ? peers_run(c->peer, r->budget, c->threads) : time_steps(c, r->budget);
  if (seconds > 0) c->seconds[c->samples++] = seconds;
}

void bench_run(bench_race *r) {
  bench_status("%s: %s", r->group, r->what);
  for (int i = 0; i < r->count; i++) warm_up(r->list + i);
  for (int round = 0; round < bench.rounds; round++)
    for (int i = 0; i < r->count; i++) take_turn(r, r->list + i);
  for (int i = 0; i < r->count; i++) {
    bench_contender *c = r->list + i;
    double best, worst, middle = bench_median(c);
    if (c->samples == 0) continue;
    best = c->seconds[0];
    worst = c->seconds[c->samples - 1];
    bench_add(r->group, r->what, c->name, c->threads, r->work / middle, r->work / worst,
              r->work / best, r->unit);
    bench_add(r->group, r->what, c->name, c->threads, middle * 1e3, best * 1e3, worst * 1e3,
              "ms");
  }
  bench_status("");
}

double bench_median(const bench_contender *contender) {
  bench_contender *c = (bench_contender *)(uintptr_t)contender; /* sorting changes no result */
  if (c->samples == 0) return NAN;
  qsort(c->seconds, (size_t)c->samples, sizeof c->seconds[0], ascending);
  return (c->seconds[(c->samples - 1) / 2] + c->seconds[c->samples / 2]) / 2;
}

const bench_contender *bench_best_peer(const bench_race *r, int threads, int int8) {
  const bench_contender *best = NULL;
  for (int i = 0; i < r->count; i++) {
    const bench_contender *c = r->list + i;
    if (c->ours || c->threads != threads || c->int8 != int8 || c->samples == 0) continue;
    if (!best || bench_median(c) < bench_median(best)) best = c;
  }
  return best;
}

/* ---- the table -------------------------------------------------------------- */

const char *bench_number(double v) {
  static char text[8][24]; /* so that one printf may have several */
  static int next = 0;
  char *t = text[next++ % 8];
  if (isnan(v))
    snprintf(t, 24, "-");
  else
    snprintf(t, 24, "%.*f", v >= 1000 ? 0 : v >= 100 ? 1 : v >= 1 ? 2 : 3, v);
  return t;
}

void bench_group(const char *title) {
  bench_status("");
  printf("\n%s\n", title);
}

void bench_print(const bench_race *r, const char *title, bench_note note) {
  printf("  %-38s %7s %9s %9s %9s  %-10s %s\n", title, "threads", "median", "low", "high", "",
         "vs best peer");
  for (int i = 0; i < r->count; i++) {
    const bench_contender *c = r->list + i, *peer = bench_best_peer(r, c->threads, c->int8);
    const bench_row *row = bench_find(r->group, r->what, c->name, c->threads, r->unit);
    char versus[64] = "", text[64] = "";
    if (!row) continue;
    if (c->ours && peer)
      snprintf(versus, sizeof versus, "%.2f x %s", bench_median(peer) / bench_median(c),
               peer->name);
    if (note) note(text, sizeof text, r, c);
    printf("    %-36s %7d %9s %9s %9s  %-10s %-24s%s\n", c->name, c->threads,
           bench_number(row->median), bench_number(row->low), bench_number(row->high), row->unit,
           versus, text);
  }
  fflush(stdout);
}

/* ---- main ------------------------------------------------------------------- */

typedef struct {
  const char *name, *help;
  void (*measure)(void);
  void (*plot)(void);
  int needs_peers, wanted;
} group;
static group groups[] = {
    {"machine", "what this machine can do at best", measure_machine, NULL, 0, 0},
    {"kernels", "each kernel, naive and SIMD: roofline", measure_kernels, plot_roofline, 0, 0},
    {"matmul", "matrix products: the ladder and OpenBLAS", measure_matmul, plot_matmul, 0, 0},
    {"training", "images per second, with the optimiser", measure_training, plot_training, 1, 0},
    {"inference", "Ti/16, S/16, B/16", measure_inference, plot_inference, 1, 0},
    {"scaling", "more threads, tokens, images", measure_scaling, plot_scaling, 0, 0},
    {"memory", "what is used against what is announced", measure_memory, NULL, 0, 0}};
enum { GROUPS = sizeof groups / sizeof groups[0] };

static void help(void) {
  printf("make bench ARGS=\"...\": times vit.h against this machine and its peers\n\n"
         "  --quick          fewer cases and rounds: about two minutes\n"
         "  --only GROUPS    some of these, with commas between:\n");
  for (int i = 0; i < GROUPS; i++)
    printf("                     %-10s %s\n", groups[i].name, groups[i].help);
  printf("  --rounds N       turns of each contender (7)\n"
         "  --avx2           holds PyTorch, OpenVINO and OpenBLAS to AVX2; ONNX Runtime has\n"
         "                   no setting for it, nor have its products inside OpenVINO\n"
         "  --out DIR        where results.csv, of this run alone, and the figures go\n"
         "                   (out/bench)\n"
         "  --help           this list\n\n"
         "PYTHON=/path/to/python says which Python has PyTorch and the others; NATIVE=1\n"
         "compiles vit.h with -march=native, and writes into out/bench-native.\n"
         "sh tests/bench/tables.sh prints the tables of README from results.csv.\n");
  exit(0);
}

static void choose_groups(const char *list) {
  while (*list) {
    size_t n = strcspn(list, ",");
    int found = 0;
    for (int i = 0; i < GROUPS; i++)
      if (strlen(groups[i].name) == n && !strncmp(list, groups[i].name, n))
        groups[i].wanted = found = 1;
    if (!found) bench_stop("--only needs groups with commas between; see --help");
    list += n + (list[n] == ',');
  }
}

static void read_flags(int argc, char **argv) {
  const char *only = NULL;
  int rounds = 0;
  for (int i = 1; i < argc; i++) {
    const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (!strcmp(flag, "--help") || !strcmp(flag, "-h")) help();
    if (!strcmp(flag, "--quick")) {
      bench.quick = 1;
      continue;
    }
    if (!strcmp(flag, "--avx2")) {
      bench.avx2 = 1;
      continue;
    }
    if (value && !strcmp(flag, "--only")) only = value;
    else if (value && !strcmp(flag, "--out")) bench.out = value;
    else if (value && !strcmp(flag, "--rounds") && atoi(value) > 0) rounds = atoi(value);
    else bench_stop("unknown flag, or a flag without its value; see --help");
    i++;
  }
  if (bench.quick) bench.rounds = 3, bench.seconds = 0.2;
  if (rounds) bench.rounds = rounds < BENCH_ROUNDS ? rounds : BENCH_ROUNDS - 1;
  for (int i = 0; !only && i < GROUPS; i++) groups[i].wanted = 1;
  if (only) choose_groups(only);
  groups[0].wanted = 1; /* the roofs */
}

/* "model name : ..." of /proc/cpuinfo, where there is one. */
static void processor_name(char *name, size_t size) {
  char line[300], *colon;
  FILE *f = fopen("/proc/cpuinfo", "r");
  snprintf(name, size, "unknown processor");
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, "model name", 10) && (colon = strchr(line, ':')) != NULL) {
      line[strcspn(line, "\n")] = '\0';
      snprintf(name, size, "%s", colon + 2);
      break;
    }
  if (f) fclose(f);
}

/* What the CPU has, as far as it matters here: a peer may take it. */
static void processor_has(char *text, size_t size) {
  static const char *const names[][2] = {
      {" avx2 ", "AVX2"},          {" avx512f ", "AVX-512"},   {" avx512_vnni ", "AVX-512 VNNI"},
      {" avx_vnni ", "AVX VNNI"},  {" avx512_bf16 ", "BF16"},  {" amx_int8 ", "AMX int8"},
      {" asimddp ", "dot product"}, {" i8mm ", "int8 matrices"}};
  static char line[10000];
  FILE *f = fopen("/proc/cpuinfo", "r");
  *text = '\0';
  while (f && fgets(line, sizeof line, f)) {
    if (strncmp(line, "flags", 5) && strncmp(line, "Features", 8)) continue;
    line[strcspn(line, "\n")] = ' ';
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
      if (strstr(line, names[i][0]))
        snprintf(text + strlen(text), size - strlen(text), "%s%s", *text ? ", " : "", names[i][1]);
    break;
  }
  if (f) fclose(f);
}

static void introduce(void) {
  char name[200], has[200];
  int peers = 0;
  processor_name(name, sizeof name);
  processor_has(has, sizeof has);
  printf("bench: vit.h against this machine and its peers%s\n", bench.quick ? ", quick" : "");
  bench_fact("  processor    %s, %d thread%s\n", name, bench.threads, bench.threads > 1 ? "s" : "");
  bench_fact("  it has       %s\n", *has ? has : "unknown");
  bench_fact("  vit.h        %s, compiled by %s\n", vit_simd_name(), COMPILER);
  bench_fact("  measured     median of %d rounds; the contenders take turns\n", bench.rounds);
  for (int i = 0; i < GROUPS; i++) peers |= groups[i].wanted && groups[i].needs_peers;
  if (peers) peers_start();
  if (blas_name()) {
    blas_about(name, sizeof name);
    bench_fact("  peer         %s\n", name);
  } else if (groups[2].wanted) {
    printf("  OpenBLAS is missing: install libopenblas-dev (openblas-devel, openblas)\n");
  }
}

/* OpenBLAS looks at OPENBLAS_CORETYPE before main() begins: where it is not as it
   shall be, this program starts once more. */
static void set_openblas(char **argv) {
  const char *now = getenv("OPENBLAS_CORETYPE"), *wanted = bench.avx2 ? "Haswell" : NULL;
  if (now == wanted || (now && wanted && !strcmp(now, wanted))) return;
  if (wanted) setenv("OPENBLAS_CORETYPE", wanted, 1);
  else unsetenv("OPENBLAS_CORETYPE");
  execvp(argv[0], argv);
  bench_stop("cannot start this program once more, without OPENBLAS_CORETYPE");
}

/* oneDNN's (PyTorch, OpenVINO), OpenVINO's, PyTorch's and MKL's own settings. */
static void hold_peers(void) {
  setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
  setenv("OV_CPU_MAX_ISA", "AVX2", 1);
  setenv("ATEN_CPU_CAPABILITY", "avx2", 1);
  setenv("MKL_ENABLE_INSTRUCTIONS", "AVX2", 1);
}

int main(int argc, char **argv) {
  const double start = vit_seconds();
  bench.self = argv[0];
  setenv("KMP_BLOCKTIME", "5", 0); /* clang's OpenMP: idle threads fall asleep */
  bench.threads = vit_max_threads(); /* reads it */
  if (argc == 3 && !strcmp(argv[1], "--memory-of")) return memory_case(argv[2]);
  read_flags(argc, argv);
  if (blas_name() && groups[2].wanted) set_openblas(argv);
  if (bench.avx2) hold_peers();
  bench_try(vit_make_dir(bench.out));
  introduce();
  for (int i = 0; i < GROUPS; i++) {
    if (!groups[i].wanted) continue;
    groups[i].measure();
    write_csv();
    if (groups[i].plot) groups[i].plot();
  }
  peers_stop();
  printf("\nresults      %s/results.csv, and figures beside it, in %.1f minutes\n", bench.out,
         (vit_seconds() - start) / 60);
  return 0;
}
