/* test.h - a small test harness, C99 and C++11

       static void test_sum(void) {
         CHECK(2 + 2 == 4, "2 + 2 = %d", 2 + 2);
       }
       int main(void) {
         RUN(test_sum);
         return test_end("00_foundations");
       }

   prints `00_foundations: 1 passed, 0 failed`. The exit status is the verdict:
   1 when a test failed, and also when none ran.

   CHECK(condition, format, ...)   fails the running test, which goes on
   CHECK_CLOSE(name, a, b, n, rtol, atol)   |a[i] - b[i]| <= atol + rtol |b[i]|
                                   for all i; b is the reference; NaN fails
   CHECK_SAME_BITS(name, a, b, n)  n floats, equal to the last bit
   SKIP(why)                       leaves the running test, counted as skipped
   The three checks are 1 or 0, so that a test can stop: if (!CHECK(...)) return;
   Of each test, the first five failures are printed.

   test_guarded_alloc()            floats that end where the memory ends
   test_random()                   the same random numbers on every machine
   test_quick()                    1: use small sizes (VIT_TEST_QUICK is set)

   VIT_TEST_ONLY=sum build/test_00_foundations   runs only tests with that name
   VIT_TEST_VERBOSE=1                            names each test and its time

   A test program is run from the top folder: its files are tests/fixtures/... */

#ifndef TEST_H
#define TEST_H

#if defined(__APPLE__) && !defined(_DARWIN_C_SOURCE)
#define _DARWIN_C_SOURCE 1 /* MAP_ANON */
#endif

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

/* The sanitizers report a crash better than we can. */
#if defined(__SANITIZE_ADDRESS__)
#define TEST__SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST__SANITIZED 1
#endif
#endif

#if defined(__GNUC__)
#define TEST__PRINTF(text, args) __attribute__((format(printf, text, args)))
#else
#define TEST__PRINTF(text, args)
#endif

/* One C file per program: this state belongs to it. */
static struct {
  const char *name; /* of the running test, NULL between tests */
  int failures;     /* of the running test */
  int skipped_now;  /* the running test called SKIP */
  int passed, failed, skipped;
} test__state;

/* ---- running ------------------------------------------------------------- */

#define RUN(function) test__run(function, #function)
#define SKIP(why)                                                              \
  do {                                                                         \
    test__skip(why);                                                           \
    return;                                                                    \
  } while (0)

static inline int test__setting(const char *name) {
  const char *value = getenv(name);
  return value && *value && strcmp(value, "0") != 0;
}

static inline int test_quick(void) { return test__setting("VIT_TEST_QUICK"); }

#if !defined(_WIN32) && !defined(TEST__SANITIZED)
/* Say which test crashed: a guarded array was overrun, or worse. */
static inline void test__crashed(int number) {
  const char *parts[3] = {"  CRASH ", "", "\n"};
  if (test__state.name) parts[1] = test__state.name;
  for (int i = 0; i < 3; i++)
    if (write(2, parts[i], strlen(parts[i])) < 0) break;
  signal(number, SIG_DFL);
  raise(number);
}
static inline void test__catch_crashes(void) {
  signal(SIGSEGV, test__crashed);
  signal(SIGBUS, test__crashed);
  signal(SIGILL, test__crashed);
  signal(SIGFPE, test__crashed);
  signal(SIGABRT, test__crashed);
}
#else
static inline void test__catch_crashes(void) {}
#endif

static inline void test__skip(const char *why) {
  test__state.skipped_now = 1;
  printf("  skip %s: %s\n", test__state.name, why);
}

static inline void test__run(void (*function)(void), const char *name) {
  const char *only = getenv("VIT_TEST_ONLY");
  if (only && !strstr(name, only)) return;
  test__catch_crashes();
  test__state.name = name;
  test__state.failures = 0;
  test__state.skipped_now = 0;
  if (test__setting("VIT_TEST_VERBOSE")) {
    printf("  %s", name);
    fflush(stdout);
  }
  clock_t start = clock();
  function();
  if (test__setting("VIT_TEST_VERBOSE"))
    printf(" %.2f s\n", (double)(clock() - start) / (double)CLOCKS_PER_SEC);

  if (test__state.failures) {
    test__state.failed++;
    printf("  FAIL %s: %d failed checks\n", name, test__state.failures);
  } else if (test__state.skipped_now) {
    test__state.skipped++;
  } else {
    test__state.passed++;
  }
  fflush(stdout);
  test__state.name = NULL;
}

static inline int test_end(const char *program) {
  if (test__state.passed + test__state.failed + test__state.skipped == 0) {
    printf("  FAIL no test ran\n");
    test__state.failed = 1;
  }
  printf("%s: %d passed, %d failed", program, test__state.passed,
         test__state.failed);
  if (test__state.skipped) printf(", %d skipped", test__state.skipped);
  printf("\n");
  return test__state.failed != 0;
}

/* ---- checks -------------------------------------------------------------- */

#define CHECK(condition, ...)                                                  \
  test__check((condition) ? 1 : 0, __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_CLOSE(name, a, b, n, rtol, atol)                                 \
  test__close(__FILE__, __LINE__, name, a, b, (size_t)(n), rtol, atol)
#define CHECK_SAME_BITS(name, a, b, n)                                         \
  test__same_bits(__FILE__, __LINE__, name, a, b, (size_t)(n))

static inline int test__check(int ok, const char *file, int line,
                              const char *format, ...) TEST__PRINTF(4, 5);
static inline int test__check(int ok, const char *file, int line,
                              const char *format, ...) {
  if (ok) return 1;
  test__state.failures++;
  if (test__state.failures > 5) return 0;
  printf("  %s:%d: ", file, line);
  va_list args;
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  printf("\n");
  return 0;
}

/* The worst index is the one whose error is largest beside what is allowed. */
static inline int test__close(const char *file, int line, const char *name,
                              const float *a, const float *b, size_t n,
                              double rtol, double atol) {
  size_t worst = 0, wrong = 0;
  double worst_excess = -1;
  for (size_t i = 0; i < n; i++) {
    double x = (double)a[i], y = (double)b[i];
    double error = fabs(x - y), allowed = atol + rtol * fabs(y);
    if (x == y) continue; /* infinite on both sides, too */
    if (fabs(y) < HUGE_VAL && error <= allowed) continue; /* not so with NaN */
    double excess = error < HUGE_VAL ? error / (allowed + 1e-300) : HUGE_VAL;
    if (excess > worst_excess) {
      worst = i;
      worst_excess = excess;
    }
    wrong++;
  }
  if (!wrong) return 1;
  return test__check(0, file, line,
                     "%s[%lu] = %.9g, expected %.9g, error %.3g, allowed %.3g "
                     "(%lu of %lu are wrong)",
                     name, (unsigned long)worst, (double)a[worst],
                     (double)b[worst], fabs((double)a[worst] - (double)b[worst]),
                     atol + rtol * fabs((double)b[worst]), (unsigned long)wrong,
                     (unsigned long)n);
}

static inline int test__same_bits(const char *file, int line, const char *name,
                                  const float *a, const float *b, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t x, y;
    memcpy(&x, a + i, sizeof x);
    memcpy(&y, b + i, sizeof y);
    if (x != y)
      return test__check(0, file, line,
                         "%s[%lu] = %.9g (%08lx), expected the bits of %.9g "
                         "(%08lx)",
                         name, (unsigned long)i, (double)a[i], (unsigned long)x,
                         (double)b[i], (unsigned long)y);
  }
  return 1;
}

/* ---- random numbers ------------------------------------------------------ */

/* x[i] in [-scale, scale): SplitMix64 of the seed, its upper 24 bits. */
static inline void test_random(float *x, size_t n, float scale, uint64_t seed) {
  for (size_t i = 0; i < n; i++) {
    uint64_t z = seed * 0x9E3779B97F4A7C15u + (uint64_t)(i + 1) * 0xD1B54A32D192ED03u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    x[i] = scale * ((float)(z >> 40) / 8388608.0f - 1.0f);
  }
}

/* ---- guarded arrays ------------------------------------------------------ */

/* n floats that end exactly where a page ends; the next page may not be
   touched, so reading one float too many crashes, and test__crashed names the
   test. The floats before the array hold a pattern, and freeing the array fails
   the running test if it has changed.

       test_guard g;
       float *x = test_guarded_alloc(n, &g);
       ...
       test_guarded_free(&g);

   With test_guarded_shift, `shift` floats (of the same pattern, also watched)
   lie between the array and the end of the page. Shifts 0 to 15 give every
   alignment that a float may have beside a 64-byte line. */
typedef struct {
  unsigned char *block;
  size_t size;          /* of the block, the forbidden page included */
  uint32_t *first;      /* start of the page or pages that may be used */
  size_t before, count; /* floats of pattern, floats of the array */
  size_t shift;         /* floats of pattern behind it */
} test_guard;

#define TEST__PATTERN 0x7FC5A5A5u /* as a float: NaN, which spreads */

static inline float *test_guarded_shift(size_t n, size_t shift, test_guard *g) {
#ifdef _WIN32
  size_t page = 4096, used = (n + shift) * sizeof(float) / page * page + page;
  unsigned char *block = (unsigned char *)malloc(used);
  g->size = used;
#else
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  size_t used = (n + shift) * sizeof(float) / page * page + page;
  g->size = used + page;
#if defined(MAP_ANONYMOUS)
  void *block = mmap(NULL, g->size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#elif defined(MAP_ANON)
  void *block = mmap(NULL, g->size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANON, -1, 0);
#else /* strict C99 on Linux hides both */
  int zero = open("/dev/zero", O_RDWR);
  void *block =
      mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
  close(zero);
#endif
  if (block == MAP_FAILED) block = NULL;
  if (block && mprotect((unsigned char *)block + used, page, PROT_NONE) != 0)
    block = NULL;
#endif
  if (!block) {
    printf("test_guarded_alloc: no memory for %lu floats\n", (unsigned long)n);
    exit(1);
  }
  g->block = (unsigned char *)block;
  g->first = (uint32_t *)(void *)g->block;
  g->before = used / sizeof(float) - n - shift;
  g->count = n;
  g->shift = shift;
  for (size_t i = 0; i < used / sizeof(float); i++) g->first[i] = TEST__PATTERN;
  return (float *)(void *)(g->first + g->before);
}

static inline float *test_guarded_alloc(size_t n, test_guard *g) {
  return test_guarded_shift(n, 0, g);
}

/* A guarded array with a copy of n floats. */
static inline float *test_guarded_copy(const float *x, size_t n, size_t shift,
                                       test_guard *g) {
  float *copy = test_guarded_shift(n, shift, g);
  if (n) memcpy(copy, x, n * sizeof *x);
  return copy;
}

static inline int test_guarded_free(test_guard *g) {
  int ok = 1;
  for (size_t i = 0; i < g->before; i++)
    if (g->first[i] != TEST__PATTERN) ok = 0;
  CHECK(ok, "something was written before an array of %lu floats",
        (unsigned long)g->count);
  int end = 1;
  for (size_t i = 0; i < g->shift; i++)
    if (g->first[g->before + g->count + i] != TEST__PATTERN) end = 0;
  CHECK(end, "something was written behind an array of %lu floats",
        (unsigned long)g->count);
#ifdef _WIN32
  free(g->block);
#else
  munmap((void *)g->block, g->size);
#endif
  return ok && end;
}

#endif /* TEST_H */
