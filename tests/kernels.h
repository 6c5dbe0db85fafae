/* kernels.h - what the tests of chapters 00 to 05 share

   A k_case describes one call of a kernel: its arrays, in the order of its
   arguments and under the names of the formulas, and its sizes. From this one
   description come three tests:

   k_compare    SIMD gives what naive gives, touches no float outside its arrays
                and none of its inputs, at any alignment
   k_fixture    naive and SIMD give what PyTorch gives
   k_gradient   naive and SIMD backward give the numeric gradient

   The names tie them together: "dx" is the gradient of "x", and "linear/x" is
   the fixture of a case that is called "linear". */

#ifndef KERNELS_H
#define KERNELS_H

#include "test.h"

#include <float.h>

#define VIT_IMPLEMENTATION
#include "../vit.h"

/* ---- one call of a kernel ------------------------------------------------ */

typedef enum {
  K_IN,    /* only read */
  K_OUT,   /* written */
  K_ADD,   /* added to */
  K_CHANGE /* in place: read, then written */
} k_role;

/* How far SIMD may be from naive: `limit` times FLT_EPSILON times ... */
typedef enum {
  K_EXACT, /* not at all: the same bits */
  K_SUMS,  /* the same kernel on the absolute values: the size of the terms of
              a sum, however much they cancel */
  K_EACH,  /* the number itself */
  K_TOP,   /* the largest number of the array */
  K_ONE    /* 1 */
} k_bound;

/* Below this, nothing counts: vit_exp is 0 where exp gives less than 1e-37. */
#define K_TINY 1e-35

enum { K_ARRAYS = 9, K_SIZES = 6 };

typedef struct {
  const char *name;
  k_role role;
  size_t n; /* 0: the kernel gets NULL */
  k_bound bound;
  double limit;
  float scale; /* random values from -scale to scale ... */
  float shift; /* ... plus this */
  int same;    /* the memory of this other array, or -1 */
} k_array;

typedef struct k_case k_case;
struct k_case {
  const char *name; /* of the kernel */
  void (*call)(const vit_kernels *k, float *const *a, const k_case *c);
  /* after the random values, where they would make no sense; may be NULL */
  void (*prepare)(float *const *a, const k_case *c);
  int size[K_SIZES];
  float number[3];
  int arrays;
  k_array array[K_ARRAYS];
};

static inline void k_begin(k_case *c, const char *name,
                           void (*call)(const vit_kernels *, float *const *,
                                        const k_case *),
                           int a, int b, int d) {
  memset(c, 0, sizeof *c);
  c->name = name;
  c->call = call;
  c->size[0] = a;
  c->size[1] = b;
  c->size[2] = d;
}

static inline k_array *k_add_array(k_case *c, const char *name, k_role role,
                                   size_t n, k_bound bound, double limit) {
  k_array *a = &c->array[c->arrays++];
  a->name = name;
  a->role = role;
  a->n = n;
  a->bound = bound;
  a->limit = limit;
  a->scale = 1;
  a->same = -1;
  return a;
}

static inline k_array *k_in(k_case *c, const char *name, size_t n) {
  return k_add_array(c, name, K_IN, n, K_EXACT, 0);
}

static inline k_array *k_out(k_case *c, const char *name, size_t n,
                             k_bound bound, double limit) {
  return k_add_array(c, name, K_OUT, n, bound, limit);
}

/* The product of sizes, as size_t. */
static inline size_t k_n(int a, int b) { return (size_t)a * (size_t)b; }

/* A matrix whose rows are `stride` apart: nothing lies behind its last row. */
static inline size_t k_strided(int rows, int cols, int stride) {
  return k_n(rows - 1, stride) + (size_t)cols;
}

/* Rounding of a sum of K products, in units of FLT_EPSILON: half a unit at each
   step, up and down by chance, so that it grows as the square root of K. Four
   standard deviations and the two roundings at the end. */
static inline double k_chain(int K) { return 2 + 2 * sqrt((double)K); }

static inline int k_find(const k_case *c, const char *name) {
  for (int i = 0; i < c->arrays; i++)
    if (!strcmp(c->array[i].name, name)) return i;
  return -1;
}

/* Array i of a second case is named "d" and this name. */
static inline int k_find_gradient(const k_case *c, const char *name) {
  char with_d[32];
  snprintf(with_d, sizeof with_d, "d%s", name);
  return k_find(c, with_d);
}

static inline int k_is_pattern(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits == TEST__PATTERN;
}

static inline void k_set_pattern(float *x, size_t n) {
  const uint32_t bits = TEST__PATTERN;
  for (size_t i = 0; i < n; i++) memcpy(x + i, &bits, sizeof bits);
}

/* ---- values -------------------------------------------------------------- */

/* Memory of every array; what is only written starts as a pattern of NaNs, so
   that a number which was never written, or read too early, shows. */
typedef struct { float *a[K_ARRAYS]; } k_values;

static inline float *k_floats(size_t n) {
  float *p = (float *)malloc(n * sizeof(float) + 1);
  if (!p) {
    printf("no memory for %lu floats\n", (unsigned long)n);
    exit(1);
  }
  return p;
}

static inline k_values k_values_create(const k_case *c, uint64_t seed) {
  k_values v;
  memset(&v, 0, sizeof v);
  for (int i = 0; i < c->arrays; i++) {
    const k_array *a = &c->array[i];
    if (a->n == 0 || a->same >= 0) continue;
    v.a[i] = k_floats(a->n);
    if (a->role == K_OUT) {
      k_set_pattern(v.a[i], a->n);
      continue;
    }
    test_random(v.a[i], a->n, a->scale, seed * 31 + (uint64_t)i);
    for (size_t j = 0; j < a->n; j++) v.a[i][j] += a->shift;
  }
  for (int i = 0; i < c->arrays; i++)
    if (c->array[i].same >= 0) v.a[i] = v.a[c->array[i].same];
  if (c->prepare) c->prepare(v.a, c);
  return v;
}

static inline void k_values_free(const k_case *c, k_values *v) {
  for (int i = 0; i < c->arrays; i++)
    if (c->array[i].same < 0) free(v->a[i]);
  memset(v, 0, sizeof *v);
}

static inline k_values k_values_copy(const k_case *c, const k_values *from) {
  k_values v;
  memset(&v, 0, sizeof v);
  for (int i = 0; i < c->arrays; i++) {
    if (!from->a[i] || c->array[i].same >= 0) continue;
    v.a[i] = k_floats(c->array[i].n);
    memcpy(v.a[i], from->a[i], c->array[i].n * sizeof(float));
  }
  for (int i = 0; i < c->arrays; i++)
    if (c->array[i].same >= 0) v.a[i] = v.a[c->array[i].same];
  return v;
}

/* ---- which kernels ------------------------------------------------------- */

static inline int k_has_simd(void) { return vit_best_kernels() == &vit_simd; }

/* naive, and SIMD where this machine has it. */
static inline int k_tables(const vit_kernels *tables[2]) {
  tables[0] = &vit_naive;
  tables[1] = &vit_simd;
  return k_has_simd() ? 2 : 1;
}

#define K_NEEDS_SIMD                                                           \
  if (!k_has_simd()) SKIP("no SIMD kernels here")

/* Sizes 1 to 70: all of them, or those around the edges of a vector. */
enum { K_MOST = 70 };
static inline int k_next(int n) {
  static const int quick[] = {1,  2,  3,  4,  5,  7,  8,  9,  15, 16, 17, 23,
                              24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 70};
  if (!test_quick()) return n + 1;
  for (size_t i = 0; i < sizeof quick / sizeof *quick; i++)
    if (quick[i] > n) return quick[i];
  return K_MOST + 1;
}

/* ---- SIMD against naive -------------------------------------------------- */

static inline double k_abs(float x) { return fabs((double)x); }

/* The worst element of one array; 1 when all are within the bound. */
static inline int k_compare_array(const k_case *c, const k_array *a, int shift,
                                  const float *simd, const float *naive,
                                  const float *size) {
  double top = 0, worst = 0;
  size_t at = 0, wrong = 0;
  for (size_t i = 0; i < a->n; i++)
    if (k_abs(naive[i]) > top) top = k_abs(naive[i]); /* a NaN is not larger */
  for (size_t i = 0; i < a->n; i++) {
    double unit = a->bound == K_SUMS   ? k_abs(size[i])
                  : a->bound == K_EACH ? k_abs(naive[i])
                  : a->bound == K_ONE  ? 1
                                       : top;
    double allowed = a->limit * (double)FLT_EPSILON * unit + K_TINY;
    double error = fabs((double)simd[i] - (double)naive[i]);
    if (!memcmp(simd + i, naive + i, sizeof(float))) continue;
    if (a->bound != K_EXACT && !k_is_pattern(naive[i]) &&
        !k_is_pattern(simd[i]) &&
        (error <= allowed || (naive[i] != naive[i] && simd[i] != simd[i]) ||
         simd[i] == naive[i]))
      continue;
    error = error <= allowed * 1e30 ? error / allowed : 1e30; /* NaN: last */
    wrong++;
    if (error <= worst) continue;
    worst = error;
    at = i;
  }
  return CHECK(!wrong,
               "%s, sizes %d %d %d %d %d, shift %d: %s[%lu] is %.9g, naive has "
               "%.9g, %.3g times what is allowed (%lu of %lu wrong)",
               c->name, c->size[0], c->size[1], c->size[2], c->size[3],
               c->size[4], shift, a->name, (unsigned long)at, (double)simd[at],
               (double)naive[at], worst, (unsigned long)wrong,
               (unsigned long)a->n);
}

/* Run SIMD on guarded copies of `start`; compare with `naive`. */
static inline int k_compare_at(const k_case *c, int shift, const k_values *start,
                               const k_values *naive, const k_values *size) {
  test_guard guard[K_ARRAYS];
  float *simd[K_ARRAYS];
  int ok = 1;
  for (int i = 0; i < c->arrays; i++) {
    /* shift 0: the memory ends with the array. Otherwise each array has its
       own alignment, and the floats behind it are watched. */
    size_t by = shift ? (size_t)(shift + 3 * i) % 16 : 0;
    simd[i] = NULL;
    if (start->a[i] && c->array[i].same < 0)
      simd[i] = test_guarded_copy(start->a[i], c->array[i].n, by, &guard[i]);
  }
  for (int i = 0; i < c->arrays; i++)
    if (c->array[i].same >= 0) simd[i] = simd[c->array[i].same];
  c->call(&vit_simd, simd, c);
  for (int i = 0; i < c->arrays; i++)
    if (simd[i] && c->array[i].same < 0)
      ok &= k_compare_array(c, &c->array[i], shift, simd[i], naive->a[i],
                            size->a[i]);
  for (int i = 0; i < c->arrays; i++)
    if (simd[i] && c->array[i].same < 0)
      ok &= test_guarded_free(&guard[i]);
  return ok;
}

static inline int k_compare(const k_case *c, uint64_t seed) {
  k_values start = k_values_create(c, seed);
  k_values naive = k_values_copy(c, &start), size = k_values_copy(c, &start);
  int ok = 1, sums = 0;
  c->call(&vit_naive, naive.a, c);
  for (int i = 0; i < c->arrays; i++) {
    if (c->array[i].bound == K_SUMS) sums = 1;
    if (size.a[i] && c->array[i].same < 0 && c->array[i].role != K_OUT)
      for (size_t j = 0; j < c->array[i].n; j++)
        size.a[i][j] = fabsf(size.a[i][j]);
  }
  if (sums) c->call(&vit_naive, size.a, c);
  ok &= k_compare_at(c, 0, &start, &naive, &size);
  ok &= k_compare_at(c, 1, &start, &naive, &size);
  ok &= k_compare_at(c, 2 + (int)(seed % 14), &start, &naive, &size);
  k_values_free(c, &start);
  k_values_free(c, &naive);
  k_values_free(c, &size);
  return ok;
}

/* How to describe a call of a kernel by up to three sizes. */
typedef void (*k_describe)(k_case *c, int a, int b, int d);

/* Each of the first `dims` sizes from 1 to 70 while the others are small and
   odd, then all of them at random. Stops at the first kind of mistake. */
static inline void k_compare_sizes(k_describe describe, int dims) {
  const int randoms = dims == 1 ? 0 : test_quick() ? 12 : 60;
  vit_rng rng = vit_rng_create(7, 0);
  uint64_t seed = 1;
  for (int which = 0; which < dims; which++)
    for (int n = 1; n <= K_MOST; n = k_next(n)) {
      int size[3] = {3, 5, 7};
      k_case c;
      size[which] = n;
      describe(&c, size[0], size[1], size[2]);
      if (!k_compare(&c, seed++)) return;
    }
  for (int i = 0; i < randoms; i++) {
    int size[3];
    k_case c;
    for (int j = 0; j < 3; j++) size[j] = 1 + (int)vit_random_below(&rng, K_MOST);
    describe(&c, size[0], size[1], size[2]);
    if (!k_compare(&c, seed++)) return;
  }
}

static inline void k_compare_one(k_describe describe, int a, int b, int d) {
  k_case c;
  describe(&c, a, b, d);
  k_compare(&c, 99);
}

/* A NaN in any input must not get lost: a training that went wrong has to show.
   Where naive has a NaN, SIMD has one, and nowhere else. */
static inline void k_compare_nan(k_describe describe, int a, int b, int d) {
  k_case c;
  describe(&c, a, b, d);
  for (int i = 0; i < c.arrays; i++) {
    k_values naive = k_values_create(&c, 5), simd;
    if (c.array[i].role == K_OUT || !naive.a[i]) {
      k_values_free(&c, &naive);
      continue;
    }
    naive.a[i][c.array[i].n / 2] = NAN;
    simd = k_values_copy(&c, &naive);
    c.call(&vit_naive, naive.a, &c);
    c.call(&vit_simd, simd.a, &c);
    for (int j = 0; j < c.arrays; j++)
      for (size_t e = 0; naive.a[j] && e < c.array[j].n; e++)
        if (!CHECK((naive.a[j][e] != naive.a[j][e]) ==
                       (simd.a[j][e] != simd.a[j][e]),
                   "%s, a NaN in %s: %s[%lu] is %g, naive has %g", c.name,
                   c.array[i].name, c.array[j].name, (unsigned long)e,
                   (double)simd.a[j][e], (double)naive.a[j][e]))
          break;
    k_values_free(&c, &naive);
    k_values_free(&c, &simd);
  }
}

/* ---- against PyTorch ----------------------------------------------------- */

/* The project's bound for everything that PyTorch computed. */
#define K_RTOL 1e-4
#define K_ATOL 1e-5

static vit_safetensors k_file;

/* n floats of the fixture "GROUP/NAME" from float `first` on, copied (the
   file's are not aligned). NULL where there is no such tensor. n 0: all. */
static inline float *k_load(const char *group, const char *name, size_t first,
                            size_t n) {
  char full[80];
  vit_safetensor t;
  float *copy;
  if (!k_file.bytes &&
      vit_safetensors_open(&k_file, "tests/fixtures/kernels.safetensors")) {
    printf("%s\n", vit_error());
    exit(1);
  }
  snprintf(full, sizeof full, "%s/%s", group, name);
  if (vit_safetensors_find(&k_file, full, &t)) return NULL;
  if (n == 0) n = t.count;
  if (strcmp(t.type, "F32") || t.count < first + n) {
    printf("fixture %s has %lu numbers, not %lu\n", full,
           (unsigned long)t.count, (unsigned long)(first + n));
    exit(1);
  }
  copy = k_floats(n);
  memcpy(copy, (const float *)t.data + first, n * sizeof(float));
  return copy;
}

/* The same for a fixture that must be there. */
static inline float *k_need(const char *group, const char *name, size_t n) {
  float *p = k_load(group, name, 0, n);
  if (p) return p;
  printf("fixture %s/%s is missing\n", group, name);
  exit(1);
}

/* The whole of a fixture against n numbers. */
static inline void k_close_to(const char *group, const char *name,
                              const float *x, size_t n) {
  float *want = k_need(group, name, n);
  CHECK_CLOSE(name, x, want, n, K_RTOL, K_ATOL);
  free(want);
}

static inline void k_close_file(void) {
  if (k_file.bytes) vit_safetensors_close(&k_file);
  memset(&k_file, 0, sizeof k_file);
}

/* Slice number `slice` of the fixtures in `group`; what is not in there is in
   `other` (or NULL). Both tables. Returns how many arrays were compared. */
static inline int k_fixture(const k_case *c, const char *group,
                            const char *other, size_t slice) {
  const vit_kernels *tables[2];
  int count = k_tables(tables), compared = 0;
  for (int t = 0; t < count; t++) {
    k_values v = k_values_create(c, 3);
    for (int i = 0; i < c->arrays; i++) {
      const k_array *a = &c->array[i];
      float *x = NULL;
      if (a->n == 0) continue;
      if (a->role == K_ADD) memset(v.a[i], 0, a->n * sizeof(float));
      if (a->role == K_OUT || a->role == K_ADD) continue;
      if (!strcmp(a->name, "mask")) x = k_load(group, a->name, 0, a->n);
      if (!x) x = k_load(group, a->name, slice * a->n, a->n);
      if (!x && other) x = k_load(other, a->name, slice * a->n, a->n);
      if (!CHECK(x != NULL, "no fixture %s/%s", group, a->name)) continue;
      memcpy(v.a[i], x, a->n * sizeof(float));
      free(x);
    }
    c->call(tables[t], v.a, c);
    for (int i = 0; i < c->arrays; i++) {
      const k_array *a = &c->array[i];
      char label[80];
      float *want;
      if (a->n == 0 || (a->role != K_OUT && a->role != K_ADD)) continue;
      want = k_load(group, a->name, slice * a->n, a->n);
      if (!want) continue;
      snprintf(label, sizeof label, "%s %s %s", tables[t]->name, group, a->name);
      CHECK_CLOSE(label, v.a[i], want, a->n, K_RTOL, K_ATOL);
      compared++;
      free(want);
    }
    k_values_free(c, &v);
  }
  return compared;
}

/* ---- numeric gradients --------------------------------------------------- */

/* The loss is the sum of dy * y over all outputs y, in double. */
static inline double k_loss(const k_case *f, const k_values *in,
                            const k_case *b, const k_values *up) {
  k_values v = k_values_copy(f, in);
  double loss = 0;
  f->call(&vit_naive, v.a, f);
  for (int i = 0; i < f->arrays; i++) {
    int d = f->array[i].role == K_OUT ? k_find_gradient(b, f->array[i].name) : -1;
    if (d < 0) continue;
    for (size_t j = 0; j < f->array[i].n; j++)
      if (!k_is_pattern(v.a[i][j])) /* not a gap between two rows */
        loss += (double)up->a[d][j] * (double)v.a[i][j];
  }
  k_values_free(f, &v);
  return loss;
}

/* d loss / d x[j] from four points: the error is of order h^4 = 1.5e-5 times
   the fifth derivative / 30; rounding of y to float gives about 1e-6. */
static inline double k_slope(const k_case *f, k_values *in, const k_case *b,
                             const k_values *up, float *x) {
  const float h = 1.0f / 16, start = *x;
  double loss[4];
  static const int steps[4] = {-2, -1, 1, 2};
  for (int i = 0; i < 4; i++) {
    *x = start + (float)steps[i] * h;
    loss[i] = k_loss(f, in, b, up);
  }
  *x = start;
  return (8 * (loss[2] - loss[1]) - (loss[3] - loss[0])) / (12 * (double)h);
}

/* Measured: at most 4e-6, for the layer norm. A wrong sign or factor is of
   order 1. */
#define K_GRADIENT_LIMIT 2e-5

/* Every gradient that `backward` computes, against the numeric gradient of
   `forward`, element by element, sign included. */
static inline void k_gradient(const k_case *forward, const k_case *backward,
                              uint64_t seed) {
  const vit_kernels *tables[2];
  const int count = k_tables(tables);
  k_values in = k_values_create(forward, seed), out = k_values_copy(forward, &in);
  k_values up = k_values_create(backward, seed + 1), got[2];
  int checked = 0;
  forward->call(&vit_naive, out.a, forward);
  for (int i = 0; i < backward->arrays; i++) { /* inputs and cached outputs */
    int j = k_find(forward, backward->array[i].name);
    if (j >= 0 && up.a[i] && backward->array[i].role == K_IN) {
      CHECK(forward->array[j].n == backward->array[i].n, "sizes of %s",
            backward->array[i].name);
      memcpy(up.a[i], out.a[j], backward->array[i].n * sizeof(float));
    }
  }
  for (int t = 0; t < count; t++) {
    got[t] = k_values_copy(backward, &up);
    backward->call(tables[t], got[t].a, backward);
  }
  for (int i = 0; i < forward->arrays; i++) {
    const k_array *a = &forward->array[i];
    int d = k_find_gradient(backward, a->name);
    double *numeric, top = 0;
    if (a->role != K_IN || d < 0 || a->n == 0) continue;
    if (backward->array[d].role == K_IN) continue;
    numeric = (double *)calloc(a->n, sizeof *numeric);
    for (size_t j = 0; numeric && j < a->n; j++) {
      numeric[j] = k_slope(forward, &in, backward, &up, &in.a[i][j]);
      if (fabs(numeric[j]) > top) top = fabs(numeric[j]);
    }
    CHECK(top > 1e-3, "%s: the gradient by %s is zero", backward->name, a->name);
    for (int t = 0; numeric && t < count; t++)
      for (size_t j = 0; j < a->n; j++) {
        float analytic = got[t].a[d][j];
        double start = backward->array[d].role == K_ADD
                           ? (double)up.a[d][j]
                           : 0; /* gradients of parameters are added */
        double error = fabs((double)analytic - start - numeric[j]);
        if (k_is_pattern(analytic)) error = fabs(numeric[j]); /* a gap */
        if (!CHECK(error <= K_GRADIENT_LIMIT * (top > 1 ? top : 1),
                   "%s %s: d%s[%lu] is %.7g, numeric %.7g", tables[t]->name,
                   backward->name, a->name, (unsigned long)j,
                   (double)analytic - start, numeric[j]))
          break;
      }
    free(numeric);
    checked++;
  }
  CHECK(checked > 0, "%s: no gradient was checked", backward->name);
  for (int t = 0; t < count; t++) k_values_free(backward, &got[t]);
  k_values_free(backward, &up);
  k_values_free(forward, &in);
  k_values_free(forward, &out);
}

#endif /* KERNELS_H */
