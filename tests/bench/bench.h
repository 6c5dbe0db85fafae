/* What the files of the benchmark share: contenders that take turns, the table
   of results, the peers. See bench.c for how a measurement is made. */
#ifndef BENCH_H
#define BENCH_H

#include "../../vit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings ---------------------------------------------------------- */

typedef struct {
  int quick;        /* fewer cases, fewer rounds */
  int rounds;       /* turns of each contender */
  double seconds;   /* of a turn of a model; kernels take a tenth */
  int threads;      /* all that there are */
  const char *out;  /* folder of the results */
  const char *self; /* this program, to measure memory in a fresh process */
  int avx2;         /* peers that can be held to AVX2 are */
} bench_settings;
extern bench_settings bench;

/* One sentence to stderr, and the end. */
void bench_stop(const char *sentence);
void bench_try(vit_result r);
float *bench_floats(size_t n); /* normal numbers, always the same; free() them */
/* What is going on, on one line of a terminal that the next output replaces. */
void bench_status(const char *format, ...);
/* About this run: printed, and kept in machine.txt beside the results. */
void bench_fact(const char *format, ...);

/* ---- results ----------------------------------------------------------- */

/* A line of results.csv: so there is no comma in a text. */
typedef struct {
  char group[16], what[64], implementation[32], unit[16];
  int threads;
  double median, low, high;
} bench_row;
void bench_add(const char *group, const char *what, const char *implementation, int threads,
               double median, double low, double high, const char *unit);
/* The row of a result, or NULL. */
const bench_row *bench_find(const char *group, const char *what, const char *implementation,
                            int threads, const char *unit);
const bench_row *bench_row_at(int i);
/* Measured roofs of this machine: FLOP/s and bytes/s. */
double bench_peak(int threads);
double bench_bandwidth(int threads);

/* ---- races ------------------------------------------------------------- */

enum { BENCH_ROUNDS = 50, BENCH_CONTENDERS = 16 };

/* One implementation of a piece of work. */
typedef struct {
  const char *name;         /* "vit.h simd" */
  int threads;
  int ours;                 /* 1: a part of vit.h, which is compared with its peers */
  int int8;                 /* weights are signed bytes: compared among themselves */
  int once;                 /* the naive ones: if a step takes long, one is enough */
  void (*step)(void *self); /* does the work once ... */
  void *self;
  int peer;                 /* ... or which one; with neither it cannot */
  int samples;
  double seconds[BENCH_ROUNDS]; /* per step, sorted after the race */
} bench_contender;

typedef struct {
  const char *group, *what, *unit;
  double work;   /* images or FLOP in one step, in the unit's measure */
  double budget; /* seconds of a turn */
  bench_contender list[BENCH_CONTENDERS];
  int count;
} bench_race;

void bench_race_begin(bench_race *r, const char *group, const char *what, double work,
                      const char *unit, double budget);
bench_contender *bench_enter(bench_race *r, const char *name, int threads,
                             void (*step)(void *), void *self);
/* A peer that has the model open. */
void bench_enter_peer(bench_race *r, int peer, int threads);
/* All contenders take turns; the results are added to the table. */
void bench_run(bench_race *r);
double bench_median(const bench_contender *c); /* seconds per step, or NAN */
/* The fastest that is not ours and has as many threads, or NULL. */
const bench_contender *bench_best_peer(const bench_race *r, int threads, int int8);
/* The race as lines of the table; `note` (may be NULL) writes the last column. */
typedef void (*bench_note)(char *text, size_t size, const bench_race *r,
                           const bench_contender *c);
void bench_print(const bench_race *r, const char *title, bench_note note);
void bench_group(const char *title);
const char *bench_number(double value); /* four digits or so; NAN is a dash */

/* ---- peers ------------------------------------------------------------- */

/* Another program, and the pipes to it. */
typedef struct { int pid, to, from; } bench_child;
int bench_child_start(bench_child *c, const char *const *argv, const char *log);
/* One line, without its end; 0 when the program ended or the time is over. */
int bench_child_line(bench_child *c, char *line, size_t size, double timeout);
void bench_child_stop(bench_child *c);

/* Each in a process of its own. */
enum { PEER_NONE, PEER_EAGER, PEER_COMPILE, PEER_ONNXRUNTIME, PEER_OPENVINO, PEER_INT8, PEERS };

void peers_start(void);
void peers_stop(void);
const char *peers_label(int peer); /* "PyTorch eager" */
/* 1: the peer has built the model and is warm. At the first failure of a peer
   one line says why, and it is not asked again. `threads`: "1,2". `extra`: more
   keys and values, or "". */
int peers_open(int peer, const char *job, const char *what, const vit_config *c, int batch,
               const char *threads, const char *extra);
/* Seconds per step, or a negative number when the peer failed. */
double peers_run(int peer, double seconds, int threads);
void peers_close(void);

/* OpenBLAS, or NULL and functions that must not be called. y = x W^T,
   dx = dy W, dw += dy^T x, with the shapes of vit.h's linear layer. */
const char *blas_name(void);
void blas_about(char *text, size_t size); /* "OpenBLAS 0.3.21 (Zen)" */
void blas_threads(int threads);
void blas_forward(float *y, const float *x, const float *w, int rows, int in, int out);
void blas_backward_input(float *dx, const float *dy, const float *w, int rows, int in, int out);
void blas_backward_weight(float *dw, const float *dy, const float *x, int rows, int in, int out);

/* ---- groups, and their figures ------------------------------------------- */

void measure_machine(void); /* always the first: others need the roofs */
void measure_kernels(void);
void measure_matmul(void);
void measure_training(void);
void measure_inference(void);
void measure_scaling(void);
void measure_memory(void);
int memory_case(const char *name); /* runs in a process of its own */

void plot_roofline(void);
void plot_matmul(void);
void plot_training(void);
void plot_inference(void);
void plot_scaling(void);

#endif
