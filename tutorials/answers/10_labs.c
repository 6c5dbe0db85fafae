/* Three labs: how alike two layers are, the colours of tokens, and a gradient with less noise. */

/* x [rows,n] less the mean of each column */
static double *centred(const float *x, int rows, int n) {
  double *c = (double *)malloc((size_t)rows * (size_t)n * sizeof *c);
  for (int j = 0; c && j < n; j++) {
    double mean = 0;
    for (int r = 0; r < rows; r++) mean += (double)x[r * n + j] / rows;
    for (int r = 0; r < rows; r++) c[r * n + j] = (double)x[r * n + j] - mean;
  }
  return c;
}

/* The squares of all numbers of x^T y, summed; x [rows,a], y [rows,b] */
static double squares(const double *x, const double *y, int rows, int a, int b) {
  double all = 0;
  for (int i = 0; i < a; i++)
    for (int j = 0; j < b; j++) {
      double dot = 0;
      for (int r = 0; r < rows; r++) dot += x[r * a + i] * y[r * b + j];
      all += dot * dot;
    }
  return all;
}

/* 1: y is x, turned and scaled. 0: they have nothing in common. x [rows,a], y [rows,b] */
static double my_linear_cka(const float *x, const float *y, int rows, int a, int b) {
  double *u = centred(x, rows, a), *v = centred(y, rows, b);
  const double xy = squares(u, v, rows, a, b);
  const double both = sqrt(squares(u, u, rows, a, a) * squares(v, v, rows, b, b));
  free(u), free(v);
  return both > 0 ? xy / both : 0;
}

/* The three directions in which tokens differ most, and where each token lies on them: x [T,D] -> colors [T,3] */
static void token_colors(float *colors, const float *x, int T, int D) {
  double *c = centred(x, T, D), *v = (double *)calloc((size_t)(3 * D), sizeof *v);
  for (int k = 0; k < 3; k++) {
    double *own = v + k * D;
    for (int d = 0; d < D; d++) own[d] = d % 3 == k ? 1 : 0.1 * d;
    for (int step = 0; step < 200; step++) {
      double next[1024] = {0}, length = 0; /* D is at most 1024 here */
      for (int t = 0; t < T; t++) {
        double dot = 0;
        for (int d = 0; d < D; d++) dot += c[t * D + d] * own[d];
        for (int d = 0; d < D; d++) next[d] += dot * c[t * D + d];
      }
      for (int j = 0; j < k; j++) { /* what earlier directions have is theirs */
        double dot = 0;
        for (int d = 0; d < D; d++) dot += next[d] * v[j * D + d];
        for (int d = 0; d < D; d++) next[d] -= dot * v[j * D + d];
      }
      for (int d = 0; d < D; d++) length += next[d] * next[d];
      for (int d = 0; d < D && length > 0; d++) own[d] = next[d] / sqrt(length);
    }
    for (int t = 0; t < T; t++) {
      double dot = 0;
      for (int d = 0; d < D; d++) dot += c[t * D + d] * own[d];
      colors[t * 3 + k] = (float)dot;
    }
  }
  free(c), free(v);
}

/* The mean gradient of logit k by the pixels of `many` noisy copies of an image; s has VIT_INPUT_GRADIENT. */
static vit_result smooth_gradient(const vit_model *m, vit_state *s, const float *image, int pixels, int k, int many,
                                  float sigma, float *mean) {
  vit_rng rng = vit_rng_create(1, 0);
  float ask[1000] = {0}, *noisy = (float *)malloc((size_t)pixels * sizeof *noisy);
  vit_result r = noisy ? VIT_OK : VIT_ERR_NO_MEMORY;
  ask[k] = 1; /* at most 1000 classes here */
  for (int i = 0; i < pixels; i++) mean[i] = 0;
  for (int copy = 0; !r && copy < many; copy++) {
    for (int i = 0; i < pixels; i++) noisy[i] = image[i] + sigma * vit_random_normal(&rng);
    r = vit_predict(m, s, noisy, 1, NULL, NULL);
    if (!r) r = vit_backward_logits(m, s, ask, 1);
    for (int i = 0; !r && i < pixels; i++) mean[i] += s->dimages[i] / (float)many;
    vit_zero_gradients(s);
  }
  free(noisy);
  return r;
}
