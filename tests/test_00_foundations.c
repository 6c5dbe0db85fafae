/* Chapter 00: errors, sizes, memory, random numbers, SIMD vocabulary, table. */

#include <stdlib.h>

/* An allocator that fails on demand and counts what it has given out. */
static int alloc_fail, alloc_live;
static void *test_malloc(size_t n) {
  void *p = alloc_fail ? NULL : malloc(n);
  alloc_live += p != NULL;
  return p;
}
static void test_release(void *p) {
  alloc_live--;
  free(p);
}
#define VIT_MALLOC(n) test_malloc(n)
#define VIT_FREE(p) test_release(p)
#include "kernels.h"

/* ---- errors -------------------------------------------------------------- */

static void test_error_starts_empty(void) {
  CHECK(vit_error()[0] == 0, "before any failure: \"%s\"", vit_error());
}

static void test_error_codes(void) {
  CHECK(VIT_OK == 0, "VIT_OK is %d", (int)VIT_OK);
  for (int i = 0; i < VIT_RESULT_COUNT; i++) {
    const char *text = vit_result_text((vit_result)i);
    CHECK(strlen(text) > 5 && strlen(text) < 80, "code %d: \"%s\"", i, text);
    for (int j = 0; j < i; j++)
      CHECK(strcmp(text, vit_result_text((vit_result)j)) != 0,
            "codes %d and %d have the same text", i, j);
  }
  CHECK(!strcmp(vit_result_text(VIT_ERR_NO_MEMORY), "out of memory"), "%s",
        vit_result_text(VIT_ERR_NO_MEMORY));
  CHECK(!strcmp(vit_result_text(VIT_RESULT_COUNT), "unknown result"), "%s",
        vit_result_text(VIT_RESULT_COUNT));
}

static void test_error_sentence(void) {
  vit_config c = vit_config_tutorial();
  char longest[900];
  c.image_height = 30;
  CHECK(vit_config_resolve(&c) == VIT_ERR_CONFIG, "30 rows in patches of 16");
  CHECK(!strcmp(vit_error(),
                "image height 30 is not a multiple of patch height 16"),
        "%s", vit_error());
  /* Success leaves the sentence of the last failure alone. */
  c.image_height = 32;
  CHECK(vit_config_resolve(&c) == VIT_OK, "%s", vit_error());
  CHECK(strstr(vit_error(), "30") != NULL, "%s", vit_error());
  /* Whatever the user passes, the sentence fits: its end is there. */
  memset(longest, 'x', sizeof longest - 1);
  longest[sizeof longest - 1] = 0;
  CHECK(vit_config_set(&c, longest, longest) == VIT_ERR_CONFIG, "a long name");
  CHECK(!strcmp(vit_error() + strlen(vit_error()) - 10, " zero_head"), "%s", vit_error());
  CHECK(vit_config_set(&c, "width", longest) == VIT_ERR_CONFIG, "a long value");
  CHECK(strlen(vit_error()) < 200, "%lu characters",
        (unsigned long)strlen(vit_error()));
}

/* Each thread has its own last sentence. */
static void test_error_thread(void) {
#ifdef _OPENMP
  vit_config mine = vit_config_tutorial();
  int other = 0;
  mine.heads = 2;
  CHECK(vit_config_resolve(&mine) == VIT_ERR_CONFIG, "2 heads, width 9");
#pragma omp parallel num_threads(2)
  {
    if (omp_get_thread_num() == 1) {
      vit_config theirs = vit_config_tutorial();
      theirs.depth = -7;
      other = vit_config_resolve(&theirs) == VIT_ERR_CONFIG &&
              strstr(vit_error(), "-7") != NULL;
    } else if (omp_get_num_threads() == 1) {
      other = 1;
    }
  }
  CHECK(other, "the second thread has no sentence");
  CHECK(strstr(vit_error(), "heads") != NULL, "%s", vit_error());
#else
  SKIP("no OpenMP");
#endif
}

/* ---- sizes and memory ---------------------------------------------------- */

static void test_checked_mul(void) {
  const size_t most = SIZE_MAX;
  const size_t factors[] = {1,      2,         3,        7,       64,
                            1000,   65536,     most / 7, most / 3, most / 2,
                            most - 1, most, (size_t)1 << (sizeof(size_t) * 4)};
  size_t product;
  for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
    size_t a = factors[i], b = most / a; /* the largest b that fits */
    product = 5;
    CHECK(vit_checked_mul(a, b, &product) && product == a * b, "%.0f * %.0f",
          (double)a, (double)b);
    CHECK(vit_checked_mul(b, a, &product) && product == a * b, "%.0f * %.0f",
          (double)b, (double)a);
    if (b < most) {
      CHECK(!vit_checked_mul(a, b + 1, &product), "%.0f * %.0f", (double)a,
            (double)b + 1);
      CHECK(!vit_checked_mul(b + 1, a, &product), "%.0f * %.0f", (double)b + 1,
            (double)a);
    }
    CHECK(vit_checked_mul(a, 0, &product) && product == 0, "a * 0");
    CHECK(vit_checked_mul(0, a, &product) && product == 0, "0 * a");
  }
}

typedef struct { float *a; double *b; char *c; void *none; int *d; } plan_result;
static void plan(plan_result *r, vit_arena *a) {
  r->a = (float *)vit_arena_take(a, 33, sizeof(float));
  r->b = (double *)vit_arena_take(a, 1, sizeof(double));
  r->none = vit_arena_take(a, 0, 8);
  r->c = (char *)vit_arena_take(a, 64, 1);
  r->d = (int *)vit_arena_take(a, 17, sizeof(int));
}

static void test_arena_two_walks(void) {
  vit_arena a;
  plan_result r;
  size_t measured;
  memset(&a, 0, sizeof a);
  plan(&r, &a);
  CHECK(!r.a && !r.b && !r.c && !r.d && !r.none, "measuring gave out memory");
  measured = a.used;
  CHECK(measured == 192 + 64 + 64 + 128, "measured %lu",
        (unsigned long)measured);
  if (!CHECK(vit_arena_allocate(&a, "test") == VIT_OK, "%s", vit_error())) return;
  plan(&r, &a);
  CHECK(a.used == measured && a.size == measured, "walks took %lu and %lu",
        (unsigned long)measured, (unsigned long)a.used);
  CHECK(r.a && r.b && r.c && r.d && !r.none, "assigned");
  CHECK((uintptr_t)r.a % 64 == 0 && (uintptr_t)r.b % 64 == 0 &&
            (uintptr_t)r.c % 64 == 0 && (uintptr_t)r.d % 64 == 0,
        "an array is not on a multiple of 64");
  for (size_t i = 0; i < a.size; i++)
    if (!CHECK(a.base[i] == 0, "byte %lu is not zero", (unsigned long)i)) break;
  /* No two arrays share a byte, and the block is as large as it says. */
  for (int i = 0; i < 33; i++) r.a[i] = 1;
  *r.b = 2;
  memset(r.c, 3, 64);
  for (int i = 0; i < 17; i++) r.d[i] = 4;
  memset(a.base + a.size - 1, 9, 1);
  for (int i = 0; i < 33; i++) CHECK(r.a[i] == 1, "a[%d] was overwritten", i);
  CHECK(*r.b == 2 && r.c[0] == 3 && r.c[63] == 3, "b or c was overwritten");
  vit_arena_free(&a);
  CHECK(!a.base && !a.block && !a.size && !a.used, "freed is not zero");
  vit_arena_free(&a); /* twice does no harm */
  CHECK(alloc_live == 0, "%d blocks are left", alloc_live);
}

static void test_arena_overflow(void) {
  vit_arena a;
  memset(&a, 0, sizeof a);
  CHECK(!vit_arena_take(&a, SIZE_MAX / 2, 4) && a.overflow, "a product");
  CHECK(vit_arena_allocate(&a, "thing") == VIT_ERR_OVERFLOW, "allocated");
  CHECK(strstr(vit_error(), "thing") != NULL, "%s", vit_error());
  CHECK(!a.block, "allocated after an overflow");
  memset(&a, 0, sizeof a); /* each fits, their sum does not */
  for (int i = 0; i < 3 && !a.overflow; i++)
    vit_arena_take(&a, SIZE_MAX / 4, 1);
  CHECK(a.overflow, "a sum");
  vit_arena_take(&a, 1, 1);
  CHECK(a.overflow, "forgot the overflow");
  CHECK(vit_arena_allocate(&a, "thing") == VIT_ERR_OVERFLOW, "allocated");
}

static void test_arena_no_memory(void) {
  vit_arena a;
  memset(&a, 0, sizeof a);
  vit_arena_take(&a, 3000000, 1);
  alloc_fail = 1;
  CHECK(vit_arena_allocate(&a, "big thing") == VIT_ERR_NO_MEMORY, "allocated");
  alloc_fail = 0;
  CHECK(strstr(vit_error(), "big thing") && strstr(vit_error(), "3.0 MB"), "%s",
        vit_error());
  vit_arena_free(&a);
  CHECK(alloc_live == 0, "%d blocks are left", alloc_live);
}

/* ---- random numbers ------------------------------------------------------ */

/* Known answers from Random123's file kat_vectors, philox2x32 with 10 rounds.
   Counter words: index, stream. */
static void test_philox_known_answers(void) {
  static const uint32_t known[3][4] = {
      {0, 0, 0, 0xff1dae59u},
      {0xffffffffu, 0xffffffffu, 0xffffffffu, 0x2c3f628bu},
      {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0xdd7ce038u}};
  for (int i = 0; i < 3; i++) {
    uint32_t x = vit_philox(known[i][2], known[i][1], known[i][0]);
    CHECK(x == known[i][3], "vector %d: %08lx, not %08lx", i, (unsigned long)x,
          (unsigned long)known[i][3]);
  }
}

static void test_rng_streams(void) {
  vit_rng a = vit_rng_create(1, 0), b = vit_rng_create(1, 0);
  const vit_rng others[] = {vit_rng_create(2, 0), vit_rng_create(1, 1),
                            vit_rng_create(1 + ((uint64_t)1 << 32), 0)};
  CHECK(vit_random_u32(&a) == vit_philox(b.key, 0, 0), "number 0");
  CHECK(vit_random_u32(&a) == vit_philox(b.key, 0, 1), "number 1");
  b.index = 1000; /* any number can be computed alone */
  for (int i = 2; i < 1000; i++) vit_random_u32(&a);
  CHECK(vit_random_u32(&a) == vit_random_u32(&b), "number 1000");
  for (int k = 0; k < 3; k++) { /* another seed or stream is another sequence */
    vit_rng x = vit_rng_create(1, 0), y = others[k];
    int same = 0;
    for (int i = 0; i < 1000; i++) same += vit_random_u32(&x) == vit_random_u32(&y);
    CHECK(same <= 1, "sequence %d: %d of 1000 numbers are the same", k, same);
  }
}

/* With n numbers the mean of x is off by about std(x) / sqrt(n): five of those. */
static double tolerance(double std, int n) { return 5 * std / sqrt((double)n); }

static void test_uniform(void) {
  const int n = test_quick() ? 100000 : 1000000;
  vit_rng rng = vit_rng_create(3, 5);
  double sum = 0, squares = 0, pairs = 0, last = 0;
  int bins[20] = {0}, outside = 0;
  for (int i = 0; i < n; i++) {
    double x = (double)vit_random_uniform(&rng);
    outside += !(x >= 0 && x < 1);
    bins[(int)(x * 20)]++;
    sum += x - 0.5;
    squares += (x - 0.5) * (x - 0.5);
    pairs += (x - 0.5) * last;
    last = x - 0.5;
  }
  CHECK(outside == 0, "%d numbers are not in [0, 1)", outside);
  CHECK(fabs(sum / n) < tolerance(sqrt(1.0 / 12), n), "mean %g", 0.5 + sum / n);
  CHECK(fabs(squares / n - 1.0 / 12) < tolerance(sqrt(1.0 / 180), n),
        "variance %g", squares / n);
  CHECK(fabs(pairs / n) < tolerance(1.0 / 12, n), "neighbours %g", pairs / n);
  for (int i = 0; i < 20; i++)
    CHECK(fabs((double)bins[i] / n - 0.05) < tolerance(sqrt(0.05), n),
          "bin %d holds %d of %d", i, bins[i], n);
}

static void test_normal(void) {
  const int n = test_quick() ? 100000 : 1000000;
  vit_rng rng = vit_rng_create(4, 5);
  double power[5] = {0};
  int beyond = 0, broken = 0;
  for (int i = 0; i < n; i++) {
    double x = (double)vit_random_normal(&rng), p = 1;
    broken += !(fabs(x) < 7);
    beyond += fabs(x) > 1.959964;
    for (int k = 0; k < 5; k++, p *= x) power[k] += p / n;
  }
  /* standard deviations of x, x^2, x^3, x^4: 1, sqrt 2, sqrt 15, sqrt 96 */
  CHECK(broken == 0, "%d numbers are infinite or far outside", broken);
  CHECK(fabs(power[1]) < tolerance(1, n), "mean %g", power[1]);
  CHECK(fabs(power[2] - 1) < tolerance(sqrt(2.0), n), "variance %g", power[2]);
  CHECK(fabs(power[3]) < tolerance(sqrt(15.0), n), "third moment %g", power[3]);
  CHECK(fabs(power[4] - 3) < tolerance(sqrt(96.0), n), "fourth moment %g",
        power[4]);
  CHECK(fabs((double)beyond / n - 0.05) < tolerance(sqrt(0.05), n),
        "%d of %d are beyond 1.96", beyond, n);
}

static void test_random_below(void) {
  static const uint32_t limits[] = {1, 2, 3, 7, 10, 1000, 0x80000001u, 0xffffffffu};
  const int n = 20000;
  int counts[10] = {0};
  vit_rng rng = vit_rng_create(5, 0);
  for (size_t k = 0; k < sizeof limits / sizeof *limits; k++)
    for (int i = 0; i < 1000; i++) {
      uint32_t x = vit_random_below(&rng, limits[k]);
      if (!CHECK(x < limits[k], "%lu below %lu", (unsigned long)x,
                 (unsigned long)limits[k]))
        break;
    }
  for (int i = 0; i < n; i++) counts[vit_random_below(&rng, 10)]++;
  for (int i = 0; i < 10; i++)
    CHECK(fabs((double)counts[i] / n - 0.1) < tolerance(sqrt(0.1), n),
          "%d came %d times in %d", i, counts[i], n);
}

static void test_shuffle(void) {
  enum { N = 257 };
  int a[N], b[N], seen[N] = {0}, same = 0, where[4] = {0};
  vit_rng r1 = vit_rng_create(6, 1), r2 = vit_rng_create(6, 1);
  vit_rng r3 = vit_rng_create(7, 1);
  vit_shuffle(a, N, &r1);
  vit_shuffle(b, N, &r2);
  CHECK(!memcmp(a, b, sizeof a), "the same seed gives another order");
  for (int i = 0; i < N; i++)
    if (CHECK(a[i] >= 0 && a[i] < N, "a[%d] = %d", i, a[i])) seen[a[i]]++;
  for (int i = 0; i < N; i++) CHECK(seen[i] == 1, "%d is there %d times", i, seen[i]);
  vit_shuffle(b, N, &r3);
  for (int i = 0; i < N; i++) same += a[i] == b[i];
  CHECK(same < 10, "two seeds agree at %d of %d places", same, N);
  vit_shuffle(b, N, &r1);
  CHECK(memcmp(a, b, sizeof a) != 0, "the second shuffle repeats the first");
  /* Each place is equally likely. */
  for (int i = 0; i < 8000; i++) {
    int four[4];
    vit_shuffle(four, 4, &r1);
    for (int j = 0; j < 4; j++) where[j] += four[j] == 0;
  }
  for (int j = 0; j < 4; j++)
    CHECK(fabs(where[j] / 8000.0 - 0.25) < tolerance(sqrt(0.25), 8000),
          "0 came to place %d in %d of 8000", j, where[j]);
  b[0] = -5;
  vit_shuffle(b, 0, &r1);
  CHECK(b[0] == -5, "an empty shuffle wrote");
  vit_shuffle(b, 1, &r1);
  CHECK(b[0] == 0, "a shuffle of one");
}

/* ---- clock, CPU, table --------------------------------------------------- */

static void test_clock(void) {
  double first = vit_seconds(), last = first;
  for (int i = 0; i < 1000; i++) {
    double now = vit_seconds();
    CHECK(now >= last, "time went back by %g s", last - now);
    last = now;
  }
  CHECK(last - first < 5, "%g s for nothing", last - first);
  CHECK(vit_max_threads() >= 1, "%d threads", vit_max_threads());
}

static void test_simd_name(void) {
  int lanes = vit_simd_lanes();
  const char *name = vit_simd_name();
#if defined(VIT_NO_SIMD)
  CHECK(lanes == 1 && !strcmp(name, "none"), "%s, %d lanes", name, lanes);
  CHECK(vit_best_kernels() == &vit_naive, "no SIMD was compiled");
#elif defined(VIT_SIMD_AVX2)
  CHECK(lanes == 8 && !strcmp(name, "AVX2+FMA"), "%s, %d lanes", name, lanes);
#elif defined(VIT_SIMD_AVX512)
  CHECK(lanes == 16 && !strcmp(name, "AVX-512"), "%s, %d lanes", name, lanes);
  CHECK(vit_best_kernels() == &vit_simd, "the compiler was told to");
#elif defined(__wasm_simd128__)
  CHECK(lanes == 4 && !strcmp(name, "WebAssembly SIMD128"), "%s, %d lanes", name,
        lanes);
  CHECK(vit_best_kernels() == &vit_simd, "the compiler was told to");
#elif defined(_WIN32) && !defined(__clang__)
  CHECK(lanes == 1 && !strcmp(name, "none"), "%s, %d lanes", name, lanes);
#elif defined(__x86_64__) && defined(__GNUC__)
  CHECK(lanes == 8 && !strcmp(name, "AVX2+FMA"), "%s, %d lanes", name, lanes);
#elif defined(__aarch64__) && defined(__GNUC__)
  CHECK(lanes == 4 && !strcmp(name, "NEON"), "%s, %d lanes", name, lanes);
  CHECK(vit_best_kernels() == &vit_simd, "NEON is always there");
#else
  CHECK(lanes == 1, "%s, %d lanes", name, lanes);
#endif
}

static void test_kernel_table(void) {
  int count = 0;
#define ENTRY(name, args)                                                      \
  CHECK(vit_naive.name != NULL, "vit_naive." #name " is missing");             \
  CHECK(vit_simd.name != NULL, "vit_simd." #name " is missing");               \
  if (k_has_simd())                                                            \
    CHECK(vit_naive.name != vit_simd.name, #name " has no SIMD kernel");       \
  count++;
  VIT_KERNELS(ENTRY)
#undef ENTRY
  CHECK(!strcmp(vit_naive.name, "naive"), "%s", vit_naive.name);
  CHECK(!strcmp(vit_simd.name, k_has_simd() ? "simd" : vit_simd.name), "%s",
        vit_simd.name);
  CHECK(vit_best_kernels() == &vit_naive || vit_best_kernels() == &vit_simd,
        "a third table");
  /* A new kernel needs a comparison in test_01 to test_05 or test_11; then count it. */
  CHECK(count == 35, "%d kernels, but 35 are tested", count);
}

/* ---- the SIMD vocabulary, word by word ----------------------------------- */

#ifdef VIT__HAS_SIMD

/* A function of vectors must carry VIT__SIMD; these bring the results out. */
#define WORD1(word)                                                            \
  VIT__SIMD void run_##word(float *y, const float *a) {                        \
    vit_store(y, vit_##word(vit_load(a)));                                     \
  }
#define WORD2(word)                                                            \
  VIT__SIMD void run_##word(float *y, const float *a, const float *b) {        \
    vit_store(y, vit_##word(vit_load(a), vit_load(b)));                        \
  }
#define IWORD2(word)                                                           \
  VIT__SIMD void run_##word(uint32_t *y, const uint32_t *a,                    \
                            const uint32_t *b) {                               \
    store_int(y, vit_##word(load_int(a), load_int(b)));                        \
  }
VIT__OP vit_ivec load_int(const uint32_t *p) {
  vit_ivec a;
  memcpy(&a, p, sizeof a);
  return a;
}
VIT__OP void store_int(uint32_t *p, vit_ivec a) { memcpy(p, &a, sizeof a); }
WORD1(sqrt)
WORD1(round)
WORD1(pow2)
WORD1(exp)
WORD2(add)
WORD2(sub)
WORD2(mul)
WORD2(div)
WORD2(max)
WORD2(min)
WORD2(zip_low)
WORD2(zip_high)
IWORD2(iadd)
IWORD2(ixor)
IWORD2(imul)
IWORD2(imulhi)
VIT__SIMD void run_set(float *y, float a) { vit_store(y, vit_set(a)); }
VIT__SIMD void run_fma(float *y, const float *a, const float *b, const float *c) {
  vit_store(y, vit_fma(vit_load(a), vit_load(b), vit_load(c)));
}
VIT__SIMD void run_if_less(float *y, const float *a, const float *b) {
  vit_store(y, vit_if_less(vit_load(a), vit_load(b), vit_set(1), vit_set(2)));
}
VIT__SIMD void run_iset(uint32_t *y, uint32_t a) { store_int(y, vit_iset(a)); }
VIT__SIMD void run_icount(uint32_t *y, uint32_t a) { store_int(y, vit_icount(a)); }
VIT__SIMD void run_iunit(float *y, const uint32_t *a) {
  vit_store(y, vit_iunit(load_int(a)));
}
VIT__SIMD float run_sum(const float *a) { return vit_sum(vit_load(a)); }
VIT__SIMD float run_top(const float *a) { return vit_top(vit_load(a)); }
/* y[0..LANES-1] = the vector of n floats from p on; the rest must be zero */
VIT__SIMD void run_load_n(float *y, const float *p, int n) {
  vit_store(y, vit_load_n(p, n));
}
VIT__SIMD void run_store_n(float *p, const float *a, int n) {
  vit_store_n(p, vit_load(a), n);
}
VIT__SIMD void run_transpose(float *y, const float *a) {
  vit_vec v[VIT_LANES];
  for (int i = 0; i < VIT_LANES; i++) v[i] = vit_load(a + i * VIT_LANES);
  vit_transpose(v);
  for (int i = 0; i < VIT_LANES; i++) vit_store(y + i * VIT_LANES, v[i]);
}
VIT__SIMD void run_load_or(float *y, const float *p, int n, float other) {
  vit_store(y, vit__load_or(p, n, other));
}

static void test_simd_arithmetic(void) {
  float a[VIT_LANES], b[VIT_LANES], c[VIT_LANES], y[VIT_LANES];
  K_NEEDS_SIMD;
  for (uint64_t seed = 1; seed < 200; seed++) {
    test_random(a, VIT_LANES, 5, seed);
    test_random(b, VIT_LANES, 5, seed + 1000);
    test_random(c, VIT_LANES, 5, seed + 2000);
    if (seed % 5 == 0) b[seed % VIT_LANES] = a[seed % VIT_LANES];
#define SAME(call, expected)                                                   \
  call;                                                                        \
  for (int i = 0; i < VIT_LANES; i++) {                                        \
    float want = expected;                                                     \
    CHECK(y[i] == want, #call " lane %d: %.9g, not %.9g", i, (double)y[i],     \
          (double)want);                                                       \
  }
    /* One operation is rounded once, so it gives the bits of plain C. */
    SAME(run_add(y, a, b), a[i] + b[i])
    SAME(run_sub(y, a, b), a[i] - b[i])
    SAME(run_mul(y, a, b), a[i] * b[i])
    SAME(run_div(y, a, b), a[i] / b[i])
    SAME(run_max(y, a, b), a[i] > b[i] ? a[i] : b[i])
    SAME(run_min(y, a, b), a[i] < b[i] ? a[i] : b[i])
    SAME(run_if_less(y, a, b), a[i] < b[i] ? 1.0f : 2.0f)
#ifdef __wasm_simd128__ /* no such instruction: rounded twice */
    SAME(run_fma(y, a, b, c), a[i] * b[i] + c[i])
#else
    SAME(run_fma(y, a, b, c), fmaf(a[i], b[i], c[i]))
#endif
    /* of each four lanes, the first two of a and b, then the last two */
    SAME(run_zip_low(y, a, b), (i % 2 ? b : a)[i / 4 * 4 + i % 4 / 2])
    SAME(run_zip_high(y, a, b), (i % 2 ? b : a)[i / 4 * 4 + 2 + i % 4 / 2])
    SAME(run_round(y, a), rintf(a[i]))
    SAME(run_set(y, a[0]), a[0])
    for (int i = 0; i < VIT_LANES; i++) a[i] = fabsf(a[i]);
    SAME(run_sqrt(y, a), sqrtf(a[i]))
    for (int i = 0; i < VIT_LANES; i++) a[i] = rintf(b[i] * 25);
    SAME(run_pow2(y, a), ldexpf(1, (int)a[i]))
  }
  for (int at = 0; at < 8; at += VIT_LANES) {
    static const float halves[8] = {0.5f,  1.5f,  2.5f, -0.5f,
                                    -1.5f, -2.5f, 3.5f, -126.5f};
    static const float x[8] = {1, NAN, 1, -0.0f, 1, NAN, 1, -INFINITY};
    static const float z[8] = {1, 1, NAN, 0.0f, 2, NAN, INFINITY, INFINITY};
    for (int i = 0; i < VIT_LANES; i++) {
      a[i] = x[(at + i) % 8];
      b[i] = z[(at + i) % 8];
      c[i] = halves[(at + i) % 8];
    }
    /* halves go to the even neighbour; equal and NaN choose the second */
    SAME(run_round(y, c), rintf(c[i]))
    SAME(run_if_less(y, a, b), a[i] < b[i] ? 1.0f : 2.0f)
  }
  { /* a NaN in b comes through max and min */
    float x[VIT_LANES], z[VIT_LANES];
    for (int i = 0; i < VIT_LANES; i++) {
      x[i] = 1;
      z[i] = NAN;
    }
    run_max(y, x, z);
    for (int i = 0; i < VIT_LANES; i++) CHECK(y[i] != y[i], "max(1, NaN)");
    run_min(y, x, z);
    for (int i = 0; i < VIT_LANES; i++) CHECK(y[i] != y[i], "min(1, NaN)");
  }
}

static void test_simd_integers(void) {
  static const uint32_t edges[] = {0, 1, 2, 0xffffu, 0x10000u, 0x7fffffffu,
                                   0x80000000u, 0xfffffffeu, 0xffffffffu};
  uint32_t a[VIT_LANES], b[VIT_LANES], y[VIT_LANES];
  float u[VIT_LANES];
  vit_rng rng = vit_rng_create(8, 0);
  K_NEEDS_SIMD;
  for (int turn = 0; turn < 2000; turn++) {
    for (int i = 0; i < VIT_LANES; i++) {
      a[i] = vit_random_u32(&rng);
      b[i] = vit_random_u32(&rng);
      if (turn % 3 == 0) a[i] = edges[vit_random_below(&rng, 9)];
      if (turn % 4 == 0) b[i] = edges[vit_random_below(&rng, 9)];
    }
#define SAME_INT(call, expected)                                               \
  call;                                                                        \
  for (int i = 0; i < VIT_LANES; i++) {                                        \
    uint32_t want = expected;                                                  \
    CHECK(y[i] == want, #call " lane %d: %lu, not %lu", i, (unsigned long)y[i], \
          (unsigned long)want);                                                \
  }
    SAME_INT(run_iadd(y, a, b), a[i] + b[i])
    SAME_INT(run_ixor(y, a, b), a[i] ^ b[i])
    SAME_INT(run_imul(y, a, b), (uint32_t)((uint64_t)a[i] * b[i]))
    SAME_INT(run_imulhi(y, a, b), (uint32_t)(((uint64_t)a[i] * b[i]) >> 32))
    SAME_INT(run_iset(y, a[0]), a[0])
    SAME_INT(run_icount(y, a[0]), a[0] + (uint32_t)i)
    run_iunit(u, a);
    for (int i = 0; i < VIT_LANES; i++)
      CHECK(u[i] == vit__unit(a[i]) && u[i] < 1, "unit of %lu: %.9g",
            (unsigned long)a[i], (double)u[i]);
  }
}

static void test_simd_across_lanes(void) {
  float a[VIT_LANES], square[VIT_LANES * VIT_LANES], turned[VIT_LANES * VIT_LANES];
  K_NEEDS_SIMD;
  for (int i = 0; i < VIT_LANES * VIT_LANES; i++) square[i] = (float)i;
  run_transpose(turned, square);
  for (int i = 0; i < VIT_LANES * VIT_LANES; i++)
    CHECK(turned[i] == square[i % VIT_LANES * VIT_LANES + i / VIT_LANES],
          "row %d, lane %d of the transpose: %g", i / VIT_LANES, i % VIT_LANES,
          (double)turned[i]);
  for (int i = 0; i < VIT_LANES; i++) a[i] = (float)(1 << i); /* exact */
  CHECK(run_sum(a) == (float)((1 << VIT_LANES) - 1), "sum %g",
        (double)run_sum(a));
  for (int i = 0; i < VIT_LANES; i++) { /* the largest in each lane */
    for (int j = 0; j < VIT_LANES; j++) a[j] = -10.0f - (float)j;
    a[i] = -3;
    CHECK(run_top(a) == -3, "top in lane %d: %g", i, (double)run_top(a));
    a[i] = INFINITY;
    CHECK(run_top(a) == INFINITY, "infinity in lane %d", i);
  }
  for (int i = 0; i < VIT_LANES; i++) a[i] = -INFINITY;
  CHECK(run_top(a) == -INFINITY, "top of nothing but -infinity");
  for (uint64_t seed = 1; seed < 300; seed++) {
    double sum = 0;
    float again;
    test_random(a, VIT_LANES, 1, seed);
    for (int i = 0; i < VIT_LANES; i++) sum += (double)a[i];
    again = run_sum(a);
    /* the more lanes, the larger the sum and what it is rounded to */
    CHECK(fabs((double)again - sum) < 4e-7 * (VIT_LANES > 8 ? 2 : 1), "sum %.9g, not %.9g", (double)again,
          sum);
  }
}

/* No byte outside is touched: the array lies against a forbidden page. */
static void test_simd_ends_of_rows(void) {
  float y[VIT_LANES], values[VIT_LANES];
  K_NEEDS_SIMD;
  test_random(values, VIT_LANES, 1, 3);
  for (int n = 1; n <= VIT_LANES + 3; n++)
    for (size_t shift = 0; shift < 2; shift++) {
      int real = n < VIT_LANES ? n : VIT_LANES;
      test_guard g;
      float *p = test_guarded_shift((size_t)real, shift, &g);
      for (int i = 0; i < real; i++) p[i] = values[i];
      run_load_n(y, p, n);
      for (int i = 0; i < VIT_LANES; i++)
        CHECK(y[i] == (i < n ? values[i] : 0), "load_n %d, lane %d: %g", n, i,
              (double)y[i]);
      run_load_or(y, p, n, -7);
      for (int i = 0; i < VIT_LANES; i++)
        CHECK(y[i] == (i < n ? values[i] : -7), "load_or %d, lane %d: %g", n, i,
              (double)y[i]);
      for (int i = 0; i < real; i++) p[i] = 0;
      run_store_n(p, values, n);
      for (int i = 0; i < real; i++)
        CHECK(p[i] == values[i], "store_n %d, lane %d: %g", n, i, (double)p[i]);
      test_guarded_free(&g);
    }
}

/* vit_exp promises about 2 units in the last place up to 88, and 0 below -88.03. */
static void test_simd_exp(void) {
  const int n = test_quick() ? 100000 : 1000000;
  float x[VIT_LANES], y[VIT_LANES];
  double worst = 0, at = 0;
  static const float special[8] = {0,      -INFINITY, -1e30f,  -88.04f,
                                   -88.5f, -1000,     -103.9f, -87.0f};
  K_NEEDS_SIMD;
  for (int i = 0; i + VIT_LANES <= n; i += VIT_LANES) {
    for (int j = 0; j < VIT_LANES; j++)
      x[j] = (float)(-87.0 + 175.0 * (double)(i + j) / (double)(n - 1));
    run_exp(y, x);
    for (int j = 0; j < VIT_LANES; j++) {
      double want = exp((double)x[j]);
      double ulp = ldexp(1, (int)floor(log2(want)) - 23);
      double error = fabs((double)y[j] - want) / ulp;
      if (error > worst) worst = error, at = (double)x[j];
    }
  }
  CHECK(worst <= 2, "exp is %.2f units in the last place off at %.9g", worst, at);
  for (int i = 0; i < 8; i += VIT_LANES) {
    for (int j = 0; j < VIT_LANES; j++) x[j] = special[(i + j) % 8];
    run_exp(y, x);
    for (int j = 0; j < VIT_LANES; j++) {
      float s = x[j];
      if (s < -88) CHECK(y[j] == 0, "exp(%g) = %g", (double)s, (double)y[j]);
      if (s == 0) CHECK(y[j] == 1, "exp(0) = %.9g", (double)y[j]);
    }
  }
  for (int j = 0; j < VIT_LANES; j++) x[j] = j % 2 ? NAN : 88;
  run_exp(y, x);
  for (int j = 0; j < VIT_LANES; j++)
    CHECK(j % 2 ? y[j] != y[j] : y[j] > 1e38f, "exp(%g) = %g", (double)x[j],
          (double)y[j]);
}
#endif

int main(void) {
  RUN(test_error_starts_empty); /* must be the first */
  RUN(test_error_codes);
  RUN(test_error_sentence);
  RUN(test_error_thread);
  RUN(test_checked_mul);
  RUN(test_arena_two_walks);
  RUN(test_arena_overflow);
  RUN(test_arena_no_memory);
  RUN(test_philox_known_answers);
  RUN(test_rng_streams);
  RUN(test_uniform);
  RUN(test_normal);
  RUN(test_random_below);
  RUN(test_shuffle);
  RUN(test_clock);
  RUN(test_simd_name);
  RUN(test_kernel_table);
#ifdef VIT__HAS_SIMD
  RUN(test_simd_arithmetic);
  RUN(test_simd_integers);
  RUN(test_simd_across_lanes);
  RUN(test_simd_ends_of_rows);
  RUN(test_simd_exp);
#endif
  return test_end("00_foundations");
}
