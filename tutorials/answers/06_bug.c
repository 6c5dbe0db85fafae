/* found: number 0 of y is */
/* Chapter 06, the planted bug: see 06.md. */
static void my_mean_forward(float *y, const float *x, int N, int D) {
  for (int d = 0; d < D; d++) {
    double sum = 0;
    for (int i = 0; i < N; i++) sum += x[i * N + d];
    y[d] = (float)(sum / N);
  }
}
