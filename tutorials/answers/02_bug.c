/* found: number 0 of dcls is */
static void my_tokens_backward(float *dembed, float *dcls, float *dpos, const float *dx, int N, int D) {
  int first = dcls ? 1 : 0;
  for (int t = 0; t < N + first; t++)
    for (int d = 0; d < D; d++) {
      float g = dx[t * D + d];
      if (t < first) dcls[d] = g;
      else dembed[(t - first) * D + d] = g;
      if (dpos) dpos[t * D + d] += g;
    }
}
