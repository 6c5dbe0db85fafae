/* Softmax that looks at the scores once: largest score and sum grow together. When a larger score turns up, what was
   summed so far shrinks by exp(old - new). */
static void my_softmax_forward(float *p, const float *s, int rows, int cols) {
  for (int r = 0; r < rows; r++, p += cols, s += cols) {
    double top = s[0], sum = 1;
    for (int j = 1; j < cols; j++) {
      if (s[j] > top) {
        sum = sum * exp(top - s[j]) + 1;
        top = s[j];
      } else if (s[j] > -INFINITY) sum += exp(s[j] - top);
    }
    for (int j = 0; j < cols; j++) p[j] = (float)(exp(s[j] - top) / sum);
  }
}
