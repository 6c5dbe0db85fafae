/* One matrix product, seven times: each rung of the ladder adds one idea to the
   one before it. Include it after vit.h with VIT_IMPLEMENTATION.

       y = x W^T      x [rows,in], w [out,in] -> y [rows,out]

   Also here: how fast this processor can be at best (ladder_fma_peak), and how
   fast its memory is (ladder_bandwidth). */
#ifndef LADDER_H
#define LADDER_H

#include <stdint.h>
#include <stdlib.h>

#if defined(__GNUC__)
#define LADDER_PUBLIC __attribute__((unused)) static
#else
#define LADDER_PUBLIC static
#endif

/* gcc -O2 turns only the simplest loops into vectors, gcc -O3 and clang -O2
   also those whose length is known late. */
#if defined(__GNUC__) && !defined(__clang__)
#define LADDER_VECTORISE __attribute__((optimize("O3"))) static
#else
#define LADDER_VECTORISE static
#endif

/* Short loops over an array that shall live in registers, written out. */
#if defined(__clang__)
#define LADDER_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define LADDER_UNROLL _Pragma("GCC unroll 24")
#else
#define LADDER_UNROLL
#endif

typedef void (*ladder_product)(float *y, const float *x, const float *w, int rows, int in,
                               int out);
typedef struct {
  const char *name;
  ladder_product run;
  int threads; /* 1, or 0 = all */
} ladder_rung;

static vit_idx ladder_least(vit_idx a, vit_idx b) { return a < b ? a : b; }

/* ---- rung 1: naive ------------------------------------------------------- */

/* The formula. Each addition waits for the one before it, and the compiler may
   not add in another order: float sums depend on the order (-ffast-math says
   that you do not mind). So there are no vectors, and most of the processor
   waits. */
static void ladder_naive(float *y, const float *x, const float *w, int rows, int in, int out) {
  for (vit_idx r = 0; r < rows; r++)
    for (vit_idx o = 0; o < out; o++) {
      float sum = 0;
      for (vit_idx i = 0; i < in; i++) sum += x[r * in + i] * w[o * in + i];
      y[r * out + o] = sum;
    }
}

/* ---- rung 2: loop order --------------------------------------------------- */

/* Part of one row of y: y[o] += x[0] w[0][o] + x[1] w[1][o] + ...; `step` floats
   lie between the rows of w. The inner loop now runs over sums that have nothing
   to do with each other and lie side by side: vectors change no order, so the
   compiler may use them. Four terms at a time: y is fetched and stored once for
   four products. `restrict`: y does not overlap the others. */
LADDER_VECTORISE void ladder_row(float *restrict y, const float *restrict x,
                                 const float *restrict w, vit_idx in, vit_idx out,
                                 vit_idx step) {
  vit_idx i = 0;
  for (; i + 4 <= in; i += 4, w += 4 * step)
    for (vit_idx o = 0; o < out; o++)
      y[o] = y[o] + x[i] * w[o] + x[i + 1] * w[step + o] + x[i + 2] * w[2 * step + o] +
             x[i + 3] * w[3 * step + o];
  for (; i < in; i++, w += step)
    for (vit_idx o = 0; o < out; o++) y[o] += x[i] * w[o];
}

/* w [out,in] -> [in,out], or NULL. The caller frees it. */
static float *ladder_transpose(const float *w, int in, int out) {
  float *t = (float *)malloc((size_t)in * (size_t)out * sizeof *t);
  for (vit_idx i = 0; t && i < in; i++)
    for (vit_idx o = 0; o < out; o++) t[i * out + o] = w[o * in + i];
  return t;
}

static void ladder_zero(float *y, int rows, int out) {
  for (vit_idx i = 0; i < (vit_idx)rows * out; i++) y[i] = 0;
}

static void ladder_loop_order(float *y, const float *x, const float *w, int rows, int in,
                              int out) {
  float *t = ladder_transpose(w, in, out);
  if (!t) { /* no memory for it: slower, but right */
    ladder_naive(y, x, w, rows, in, out);
    return;
  }
  ladder_zero(y, rows, out);
  for (vit_idx r = 0; r < rows; r++) ladder_row(y + r * out, x + r * in, t, in, out, out);
  free(t);
}

/* ---- rung 3: blocked ------------------------------------------------------- */

/* How many rows of the transposed w make a block: 48 KB where out is 768. */
enum { LADDER_BAND = 16 };

/* Rung 2 fetches all of w again for each row of x. Here a block of w is fetched
   once and stays in the second-level cache while all rows of x use it. */
static void ladder_blocked(float *y, const float *x, const float *w, int rows, int in, int out) {
  float *t = ladder_transpose(w, in, out);
  if (!t) {
    ladder_naive(y, x, w, rows, in, out);
    return;
  }
  ladder_zero(y, rows, out);
  for (vit_idx i = 0; i < in; i += LADDER_BAND)
    for (vit_idx r = 0; r < rows; r++)
      ladder_row(y + r * out, x + r * in + i, t + i * out, ladder_least(in - i, LADDER_BAND),
                 out, out);
  free(t);
}

/* ---- rung 4: packed -------------------------------------------------------- */

/* A block that fits the first-level cache, with room for x and y: 16 KB. */
enum { LADDER_IN = 64, LADDER_OUT = 64 };

/* A block of w, turned over and without gaps: panel[i][o] = w[o][i]. */
static void ladder_pack(float *panel, const float *w, int in, vit_idx depth, vit_idx cols) {
  for (vit_idx o = 0; o < cols; o++)
    for (vit_idx i = 0; i < depth; i++) panel[i * cols + o] = w[o * in + i];
}

/* A smaller block is narrower too: it stays in the first-level cache together
   with its part of y. Its rows would lie far apart, though, and addresses that
   differ by a multiple of 4096 bytes compete for the same few places of that
   cache. So the block is copied into one piece; then w need not be transposed as
   a whole either. */
static void ladder_packed(float *y, const float *x, const float *w, int rows, int in, int out) {
  float panel[LADDER_IN * LADDER_OUT];
  ladder_zero(y, rows, out);
  for (vit_idx o = 0; o < out; o += LADDER_OUT)
    for (vit_idx i = 0; i < in; i += LADDER_IN) {
      vit_idx depth = ladder_least(in - i, LADDER_IN), cols = ladder_least(out - o, LADDER_OUT);
      ladder_pack(panel, w + o * in + i, in, depth, cols);
      for (vit_idx r = 0; r < rows; r++)
        ladder_row(y + r * out + o, x + r * in + i, panel, depth, cols, cols);
    }
}

/* ---- rung 5: SIMD ----------------------------------------------------------- */

#ifdef VIT__HAS_SIMD
/* A panel as wide as a tile; deep, since the sums stay in registers. */
enum {
  LADDER_COLS = VIT_TILE_COLS,
  LADDER_DEPTH = 256,
  LADDER_SUMS = (int)VIT_TILE_ROWS * VIT_TILE_VECS
};

/* VIT_TILE_ROWS x LADDER_COLS numbers of y stay in registers while k runs. Rung
   4 reads and writes y once for four products; here two loads of the panel and six
   numbers of x feed twelve multiply-adds of eight lanes (AVX2). Twelve: a
   multiply-add takes about 4 cycles and 2 can start in each, so at least 8 must
   be under way; 12 sums, 2 vectors of the panel and 1 of x are 15 of the 16
   registers. */
VIT__SIMD void ladder_tile(float *y, const float *x, const float *panel, vit_idx in, vit_idx out,
                           vit_idx depth) {
  vit_vec sum[VIT_TILE_ROWS][VIT_TILE_VECS];
  LADDER_UNROLL
  for (vit_idx r = 0; r < VIT_TILE_ROWS; r++) {
    LADDER_UNROLL
    for (vit_idx v = 0; v < VIT_TILE_VECS; v++) sum[r][v] = vit_load(y + r * out + v * VIT_LANES);
  }
  for (vit_idx k = 0; k < depth; k++) {
    vit_vec b[VIT_TILE_VECS];
    LADDER_UNROLL
    for (vit_idx v = 0; v < VIT_TILE_VECS; v++)
      b[v] = vit_load(panel + k * LADDER_COLS + v * VIT_LANES);
    LADDER_UNROLL
    for (vit_idx r = 0; r < VIT_TILE_ROWS; r++) {
      vit_vec a = vit_set(x[r * in + k]);
      LADDER_UNROLL
      for (vit_idx v = 0; v < VIT_TILE_VECS; v++) sum[r][v] = vit_fma(a, b[v], sum[r][v]);
    }
  }
  LADDER_UNROLL
  for (vit_idx r = 0; r < VIT_TILE_ROWS; r++) {
    LADDER_UNROLL
    for (vit_idx v = 0; v < VIT_TILE_VECS; v++) vit_store(y + r * out + v * VIT_LANES, sum[r][v]);
  }
}

/* Rung 4 with another innermost loop. What does not fill a tile goes through
   rung 4's; vit.h, more patient, uses vectors there too. */
static void ladder_simd(float *y, const float *x, const float *w, int rows, int in, int out) {
  float panel[LADDER_DEPTH * LADDER_COLS];
  ladder_zero(y, rows, out);
  for (vit_idx o = 0; o < out; o += LADDER_COLS)
    for (vit_idx i = 0; i < in; i += LADDER_DEPTH) {
      vit_idx depth = ladder_least(in - i, LADDER_DEPTH), r = 0;
      vit_idx cols = ladder_least(out - o, LADDER_COLS);
      ladder_pack(panel, w + o * in + i, in, depth, cols);
      for (; cols == LADDER_COLS && r + VIT_TILE_ROWS <= rows; r += VIT_TILE_ROWS)
        ladder_tile(y + r * out + o, x + r * in + i, panel, in, out, depth);
      for (; r < rows; r++)
        ladder_row(y + r * out + o, x + r * in + i, panel, depth, cols, cols);
    }
}
#else
enum { LADDER_SUMS = 1 };
#endif

/* ---- rungs 6 and 7: vit.h, and its threads ----------------------------------- */

static void ladder_vit(float *y, const float *x, const float *w, int rows, int in, int out) {
  vit_best_kernels()->linear_forward(y, x, w, NULL, rows, in, out);
}

/* Each thread has rows of its own, in whole tiles: nobody waits, nothing is added
   up afterwards, and the bits are those of one thread. */
static void ladder_threads(float *y, const float *x, const float *w, int rows, int in, int out) {
  const int threads = vit_max_threads();
  VIT__PARALLEL_FOR
  for (int t = 0; t < threads; t++) {
    int first, n;
    vit__part(rows, threads, t, VIT__ROW_MULTIPLE, &first, &n);
    if (n > 0) ladder_vit(y + (vit_idx)first * out, x + (vit_idx)first * in, w, n, in, out);
  }
}

/* ---- the ladder --------------------------------------------------------------- */

/* Rung i from 0, or NULL past the last. "SIMD" is left out where the processor
   or the build has no vectors; "vit.h" then runs its plain loops. */
LADDER_PUBLIC const ladder_rung *ladder_at(int i) {
  static const ladder_rung rungs[] = {
      {"naive", ladder_naive, 1},     {"loop order", ladder_loop_order, 1},
      {"blocked", ladder_blocked, 1}, {"packed", ladder_packed, 1},
#ifdef VIT__HAS_SIMD
      {"SIMD", ladder_simd, 1},
#endif
      {"vit.h", ladder_vit, 1},       {"threads", ladder_threads, 0}};
  const int count = (int)(sizeof rungs / sizeof rungs[0]);
#ifdef VIT__HAS_SIMD
  if (i >= 4 && vit_best_kernels() != &vit_simd) i++;
#endif
  return i >= 0 && i < count ? rungs + i : NULL;
}

/* ---- what the processor can do at best ------------------------------------------ */

/* N sums in registers, and nothing but multiply-adds: no memory, no waiting if N
   is large enough. Each sum is a chain: its next link needs the last one. */
#ifdef VIT__HAS_SIMD
#define LADDER_CHAINS(N)                                                       \
  VIT__SIMD float ladder_chains_##N(int turns, float a) {                      \
    vit_vec s[N], f = vit_set(a);                                              \
    LADDER_UNROLL                                                              \
    for (int j = 0; j < N; j++) s[j] = vit_set((float)j);                      \
    for (int i = 0; i < turns; i++) {                                          \
      LADDER_UNROLL                                                            \
      for (int j = 0; j < N; j++) s[j] = vit_fma(f, f, s[j]);                  \
    }                                                                          \
    LADDER_UNROLL                                                              \
    for (int j = 1; j < N; j++) s[0] = vit_add(s[0], s[j]);                    \
    return vit_sum(s[0]);                                                      \
  }
LADDER_CHAINS(1)
LADDER_CHAINS(2)
LADDER_CHAINS(4)
LADDER_CHAINS(8)
LADDER_CHAINS(12)
LADDER_CHAINS(24)
#endif

/* The same without vectors of ours: what the compiler makes of 48 sums. */
LADDER_VECTORISE float ladder_chains_plain(int turns, float a) {
  float s[48];
  for (int j = 0; j < 48; j++) s[j] = (float)j;
  for (int i = 0; i < turns; i++)
    for (int j = 0; j < 48; j++) s[j] = s[j] * a + a;
  for (int j = 1; j < 48; j++) s[0] += s[j];
  return s[0];
}

typedef struct {
  int sums, lanes; /* a turn is sums * lanes multiply-adds, each 2 FLOP */
  float (*run)(int turns, float a);
} ladder_chain;

/* Loop i from 0, or NULL past the last. */
LADDER_PUBLIC const ladder_chain *ladder_chain_at(int i) {
  static const ladder_chain plain = {48, 1, ladder_chains_plain};
#ifdef VIT__HAS_SIMD
  static const ladder_chain chains[] = {
      {1, VIT_LANES, ladder_chains_1}, {2, VIT_LANES, ladder_chains_2},
      {4, VIT_LANES, ladder_chains_4}, {8, VIT_LANES, ladder_chains_8},
      {12, VIT_LANES, ladder_chains_12}, {24, VIT_LANES, ladder_chains_24}};
  const int count = (int)(sizeof chains / sizeof chains[0]);
  if (vit_best_kernels() == &vit_simd) return i >= 0 && i < count ? chains + i : NULL;
#endif
  return i == 0 ? &plain : NULL;
}

static int ladder_threads_of(int threads) { return threads > 0 ? threads : vit_max_threads(); }

/* How many turns take some milliseconds; fewer cannot be timed well. */
static int ladder_turns(const ladder_chain *c) {
  volatile float a = 1e-3f, keep;
  double seconds = 0;
  int turns = 1000;
  while (seconds < 0.003 && turns < 1 << 28) {
    double start = vit_seconds();
    turns *= 2;
    keep = c->run(turns, a); /* kept, or the work would be left out */
    (void)keep;
    seconds = vit_seconds() - start;
  }
  return turns;
}

/* FLOP/s of a loop that runs on some threads at once; 0 = all. The best of 20:
   what disturbs only makes slower. */
static double ladder_chain_rate(const ladder_chain *c, int threads) {
  const int turns = ladder_turns(c);
  volatile float a = 1e-3f;
  double best = 1e9;
  threads = ladder_threads_of(threads);
  for (int calls = 0; calls < 20; calls++) {
    double seconds = vit_seconds();
    VIT__PARALLEL_FOR
    for (int t = 0; t < threads; t++) {
      volatile float keep = c->run(turns, a);
      (void)keep;
    }
    seconds = vit_seconds() - seconds;
    if (seconds < best) best = seconds;
  }
  return 2.0 * c->sums * c->lanes * (double)turns * threads / (best > 1e-9 ? best : 1e-9);
}

/* FLOP/s, measured: many independent multiply-adds in registers. */
LADDER_PUBLIC double ladder_fma_peak(int threads) {
  double best = 0;
  for (int i = 0; ladder_chain_at(i); i++) {
    double rate = ladder_chain_rate(ladder_chain_at(i), threads);
    if (rate > best) best = rate;
  }
  return best;
}

/* ---- how fast memory is ------------------------------------------------------------ */

/* Four places at once, a line of the cache (8 x 8 bytes) at each: a single one
   leaves memory waiting. Whole numbers may be added in any order, so the compiler
   may use vectors. */
LADDER_VECTORISE uint64_t ladder_read(const uint64_t *p, vit_idx n) {
  const vit_idx part = n / 4;
  uint64_t sum = 0;
  for (vit_idx i = 0; i + 8 <= part; i += 8)
    for (vit_idx k = 0; k < 4; k++)
      for (vit_idx j = 0; j < 8; j++) sum += p[k * part + i + j];
  return sum;
}

/* The same, and each number is written back. */
LADDER_VECTORISE uint64_t ladder_update(uint64_t *p, vit_idx n) {
  const vit_idx part = n / 4;
  for (vit_idx i = 0; i + 8 <= part; i += 8)
    for (vit_idx k = 0; k < 4; k++)
      for (vit_idx j = 0; j < 8; j++) p[k * part + i + j] += 1;
  return p[0];
}

/* Seconds of the fastest of 5 passes over `threads` parts of n numbers. */
static double ladder_pass(uint64_t *p, vit_idx n, int threads, int update) {
  double best = 1e9;
  for (int calls = 0; calls < 5; calls++) {
    double seconds = vit_seconds();
    VIT__PARALLEL_FOR
    for (int t = 0; t < threads; t++) {
      uint64_t *mine = p + t * n;
      volatile uint64_t keep = update ? ladder_update(mine, n) : ladder_read(mine, n);
      mine[0] = keep; /* the array has changed: the next pass is not in vain */
    }
    seconds = vit_seconds() - seconds;
    if (seconds < best) best = seconds;
  }
  return best > 1e-9 ? best : 1e-9;
}

/* Bytes/s, measured on 250 MB, far more than the caches hold: reading, or reading
   and writing back, which is faster where memory does both at once. 0 when there
   is not so much memory. Not 256 MB: places that lie a power of two apart share
   too few lines of the cache. */
LADDER_PUBLIC double ladder_bandwidth(int threads) {
  vit_idx n, count;
  uint64_t *p;
  double read, update;
  threads = ladder_threads_of(threads);
  n = 250000000 / 8 / threads;
  count = n * threads;
  p = (uint64_t *)malloc((size_t)count * sizeof *p);
  if (!p) return 0;
  VIT__PARALLEL_FOR
  for (int t = 0; t < threads; t++) /* written once, so that it is there */
    for (vit_idx i = t * n; i < (t + 1) * n; i++) p[i] = (uint64_t)i;
  read = (double)count * 8 / ladder_pass(p, n, threads, 0);
  update = (double)count * 16 / ladder_pass(p, n, threads, 1);
  free(p);
  return read > update ? read : update;
}

#endif
