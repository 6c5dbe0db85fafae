/* n_in numbers of a row of positions become n_out: the cubic of Keys, a = -0.5, which
   grows with the scale when shrinking; the weights are divided by their sum. */
static double cubic(double x) {
  x = fabs(x);
  if (x < 1) return 1.5 * x * x * x - 2.5 * x * x + 1;
  return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}
void my_positions_row(float *out, const float *in, int n_in, int n_out) {
  const double scale = (double)n_in / n_out, wide = scale < 1 ? 1 : scale;
  for (int x = 0; x < n_out; x++) {
    const double centre = (x + 0.5) * scale;
    double sum = 0, all = 0;
    for (int i = 0; i < n_in; i++) {
      const double weight = cubic((i + 0.5 - centre) / wide);
      sum += weight * (double)in[i];
      all += weight;
    }
    out[x] = (float)(sum / all);
  }
}
