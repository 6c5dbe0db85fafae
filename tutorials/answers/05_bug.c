/* found: number 0 of dx is */
static void my_layernorm_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                                  const float *w, const float *mean, const float *rstd, int rows, int D) {
  for (int r = 0; r < rows; r++, dx += D, dy += D, x += D) {
    double sum_g = 0, sum_gn = 0;
    for (int d = 0; d < D; d++) {
      double n = ((double)x[d] - mean[r]) * rstd[r];
      sum_g += dy[d];
      sum_gn += dy[d] * n;
      dw[d] += (float)(dy[d] * n);
      db[d] += dy[d];
    }
    for (int d = 0; d < D; d++) {
      double n = ((double)x[d] - mean[r]) * rstd[r], g = (double)dy[d] * w[d];
      dx[d] += (float)(rstd[r] * (g - sum_g / D - n * sum_gn / D));
    }
  }
}
