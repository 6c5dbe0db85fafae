/* found: row 0, column 4 of patches is */
static void my_patchify_forward(float *patches, const float *image, int C, int height, int width, int PH, int PW) {
  const int cols = width / PW, N = height / PH * cols, P = C * PH * PW;
  for (int n = 0; n < N; n++)
    for (int k = 0; k < P; k++) {
      const int c = k / (PH * PW), i = k / PW % PH, j = k % PW;
      const int row = n / cols * PH + i, col = n % cols * PW + j;
      patches[n * P + k] = image[(c * PH + row) * width + col];
    }
}
