/* Cross entropy that takes each exponential once: p holds them until the sum is known. */
static void my_crossentropy_forward(double *losses, float *p, const float *logits, const float *targets,
                                    int rows, int K) {
  for (int r = 0; r < rows; r++, p += K, logits += K, targets += K) {
    double top = logits[0], sum = 0, wanted = 0;
    for (int k = 1; k < K; k++) top = logits[k] > top ? logits[k] : top;
    for (int k = 0; k < K; k++) {
      const double z = logits[k] - top, e = exp(z);
      p[k] = (float)e;
      sum += e;
      wanted += targets[k] * z;
    }
    for (int k = 0; k < K; k++) p[k] = (float)(p[k] / sum);
    losses[r] = log(sum) - wanted;
  }
}
static void my_crossentropy_backward(float *dlogits, const float *p, const float *targets, float factor,
                                     int rows, int K) {
  for (int i = 0; i < rows * K; i++) dlogits[i] = factor * (p[i] - targets[i]);
}
