/* The sum of squares as the vectors make it: eight sums side by side, each piece of 256 numbers added in double. */
static void my_sum_squares(double *sum, const float *x, int n) {
  *sum = 0;
  for (int i = 0; i < n; i += 256) {
    const int end = n < i + 256 ? n : i + 256;
    float lane[8] = {0}, part = 0;
    for (int j = i; j < end; j++) lane[(j - i) % 8] += x[j] * x[j];
    for (int l = 0; l < 8; l++) part += lane[l];
    *sum += (double)part;
  }
}
