/* found: row 1, column 0 of ds is */
static void my_softmax_backward(float *ds, const float *dp, const float *p, int rows, int cols) {
  double dot = 0;
  for (int r = 0; r < rows; r++, ds += cols, dp += cols, p += cols) {
    for (int j = 0; j < cols; j++) dot += (double)dp[j] * (double)p[j];
    for (int j = 0; j < cols; j++) ds[j] = (float)((double)p[j] * ((double)dp[j] - dot));
  }
}
