/* Adam with one division for each number: the corrections go into the rate and into eps. */
static void my_adam_step(float *w, float *m, float *v, const float *g, int n, const vit_adam_constants *a) {
  const float root = sqrtf(a->correction2);
  const float rate = a->rate * root / a->correction1, eps = a->eps * root;
  const float shrink = a->decoupled ? 1 - a->rate * a->decay : 1, decay = a->decoupled ? 0 : a->decay;
  for (int i = 0; i < n; i++) {
    const float slope = g[i] + decay * w[i];
    m[i] += (1 - a->beta1) * (slope - m[i]);
    v[i] += (1 - a->beta2) * (slope * slope - v[i]);
    w[i] = shrink * w[i] - rate * m[i] / (sqrtf(v[i]) + eps);
  }
}
