/* found: number 0 of m (Adam) is */
static void my_adam_step(float *w, float *m, float *v, const float *g, int n, const vit_adam_constants *a) {
  for (int i = 0; i < n; i++) {
    float slope = g[i];
    if (a->decoupled) w[i] -= a->rate * a->decay * w[i];
    else slope += a->decay * w[i];
    m[i] = a->beta1 * m[i] + (1 - a->beta1) * slope;
    v[i] = a->beta2 * v[i] + (1 - a->beta2) * slope * slope;
    m[i] /= a->correction1;
    v[i] /= a->correction2;
    w[i] -= a->rate * m[i] / (sqrtf(v[i]) + a->eps);
  }
}
