/* Layer norm in one pass over x (Welford 1962): the mean so far moves a little with each number, and the sum of
   squared distances grows by the distance before the move times the distance after it. Nothing large is subtracted. */
static void my_layernorm_forward(float *y, float *mean, float *rstd, const float *x, const float *w,
                                 const float *b, int rows, int D, float eps) {
  for (int r = 0; r < rows; r++, y += D, x += D) {
    double m = 0, squares = 0, s;
    for (int d = 0; d < D; d++) {
      double away = x[d] - m;
      m += away / (d + 1);
      squares += away * (x[d] - m);
    }
    s = 1 / sqrt(squares / D + eps);
    for (int d = 0; d < D; d++) y[d] = (float)((x[d] - m) * s * w[d] + b[d]);
    mean[r] = (float)m;
    rstd[r] = (float)s;
  }
}
