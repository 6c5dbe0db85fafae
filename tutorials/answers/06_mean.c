/* Chapter 06, a kernel of your own: the mean, row by row. */
static void my_mean_forward(float *y, const float *x, int N, int D) {
  for (int d = 0; d < D; d++) y[d] = 0;
  for (int i = 0; i < N; i++)
    for (int d = 0; d < D; d++) y[d] += x[i * D + d];
  for (int d = 0; d < D; d++) y[d] /= (float)N;
}
