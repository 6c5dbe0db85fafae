/* The mended bug: the new row stands apart until all of it is there. */
static vit_result my_attention_rollout(const vit_model *m, const vit_state *s, int image, int token, float *map) {
  const vit_config *c = &m->config;
  const int T = vit_config_tokens(c), N = vit_config_patches(c), cls = c->class_token;
  double *next = (double *)malloc((size_t)T * sizeof *next);
  if (!next) return VIT_ERR_NO_MEMORY;
  for (int t = 0; t < T; t++)
    if (token >= 0 || c->pool == VIT_POOL_CLS) map[t] = t == (token > 0 ? token : 0);
    else map[t] = t >= cls && t < cls + N ? 1.0f / (float)N : 0;
  for (int l = c->depth - 1; l >= 0; l--) {
    for (int j = 0; j < T; j++) {
      double sum = 0;
      for (int h = 0; h < c->heads; h++) {
        const float *p = vit_attention(m, s, l, image, h);
        if (!p) return free(next), VIT_ERR_STATE;
        for (int i = 0; i < T; i++) sum += (double)map[i] * (double)p[i * T + j] / c->heads;
      }
      next[j] = 0.5 * (double)map[j] + 0.5 * sum;
    }
    for (int j = 0; j < T; j++) map[j] = (float)next[j];
  }
  free(next);
  return VIT_OK;
}
