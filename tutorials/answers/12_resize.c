/* A row of n_in pixels becomes n_out: a triangle around each new pixel's place, which
   is as wide as the scale when shrinking, never narrower than 1. */
static void my_resize_row(unsigned char *out, const unsigned char *in, int n_in, int n_out) {
  const double scale = (double)n_in / n_out, reach = scale < 1 ? 1 : scale;
  for (int x = 0; x < n_out; x++) {
    const double centre = (x + 0.5) * scale;
    double sum = 0, all = 0;
    for (int i = 0; i < n_in; i++) {
      const double far = fabs(i + 0.5 - centre) / reach;
      const double weight = far < 1 ? 1 - far : 0;
      sum += weight * in[i];
      all += weight;
    }
    out[x] = (unsigned char)(sum / all + 0.5);
  }
}
