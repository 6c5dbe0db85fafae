/* found: number 0 of y is */
static void my_linear_int8_forward(float *y, const void *x,
    const void *w, const float *b, int rows, int in, int first, int out) {
  const int8_t *q = (const int8_t *)w;
  for (vit_idx r = 0; r < rows; r++)
    for (vit_idx o = first; o < first + out; o++) {
      const float *row = (const float *)x + r * vit__int8_floats(in);
      const float *t = (const float *)w + vit__int8_scale(o, in);
      const uint8_t *u = (const uint8_t *)(row + 2);
      int32_t sum = 0;
      for (vit_idx i = 0; i < in; i++)
        sum += u[i] * q[vit__int8_byte(o, i, in)];
      *y++ = VIT__FMA(VIT__FMA(-row[1], t[VIT__PANEL], (float)sum), row[0] * *t,
          b ? b[o - first] : 0);
    }
}
