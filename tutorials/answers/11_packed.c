/* A panel at a time: the packed weights are read once, in the order in which they lie. */
static void my_linear_packed_forward(
    float *y, const float *x, const float *packed, const float *b, int rows, int in, int out) {
  const int panel = vit_panel();
  for (int r = 0; r < rows; r++) {
    const float *w = packed;
    for (int first = 0; first < out; first += panel) {
      double sum[64];
      for (int o = 0; o < panel; o++) sum[o] = b ? (double)b[first + o] : 0;
      for (int i = 0; i < in; i++, w += panel)
        for (int o = 0; o < panel; o++) sum[o] += (double)x[r * in + i] * (double)w[o];
      for (int o = 0; o < panel; o++) y[r * out + first + o] = (float)sum[o];
    }
  }
}
