/* OpenBLAS as a peer. A file of its own: cblas.h brings the macro I of
   complex.h with it. */
#include "bench.h"

#ifdef BENCH_OPENBLAS
#include <cblas.h>

const char *blas_name(void) { return "OpenBLAS"; }
void blas_about(char *text, size_t size) { /* "OpenBLAS 0.3.21", its options, its kernels */
  const char *version = openblas_get_config();
  snprintf(text, size, "%.*s (%s)", (int)strcspn(version + 9, " ") + 9, version,
           openblas_get_corename());
}
void blas_threads(int threads) { openblas_set_num_threads(threads); }

void blas_forward(float *y, const float *x, const float *w, int rows, int in, int out) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, out, in, 1, x, in, w, in, 0, y, out);
}

void blas_backward_input(float *dx, const float *dy, const float *w, int rows, int in, int out) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, in, out, 1, dy, out, w, in, 0, dx,
              in);
}

void blas_backward_weight(float *dw, const float *dy, const float *x, int rows, int in, int out) {
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, rows, 1, dy, out, x, in, 1, dw,
              in);
}

#else /* nothing asks for these: blas_name() is NULL */

const char *blas_name(void) { return NULL; }
void blas_about(char *text, size_t size) { (void)text, (void)size; }
void blas_threads(int threads) { (void)threads; }

void blas_forward(float *y, const float *x, const float *w, int rows, int in, int out) {
  (void)y, (void)x, (void)w, (void)rows, (void)in, (void)out;
}

void blas_backward_input(float *dx, const float *dy, const float *w, int rows, int in, int out) {
  (void)dx, (void)dy, (void)w, (void)rows, (void)in, (void)out;
}

void blas_backward_weight(float *dw, const float *dy, const float *x, int rows, int in, int out) {
  (void)dw, (void)dy, (void)x, (void)rows, (void)in, (void)out;
}

#endif
