/* found: number 28 of y is not a number, or was never written */
static void my_scale(float *y, const float *x, float factor, int n) {
  for (int i = 0; i + 4 < n; i += 4)
    for (int j = i; j < i + 4; j++) y[j] = factor * x[j];
  for (int i = n - n % 4; i < n; i++) y[i] = factor * x[i];
}
