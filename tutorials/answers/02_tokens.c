static void my_tokens_forward(float *x, const float *embed, const float *cls, const float *pos, int N, int D) {
  int first = cls ? 1 : 0;
  if (cls) memcpy(x, cls, (size_t)D * sizeof(float));
  memcpy(x + first * D, embed, (size_t)(N * D) * sizeof(float));
  for (int i = 0, n = pos ? (N + first) * D : 0; i < n; i++) x[i] += pos[i];
}
