/* The gradient of each pixel, fetched from its place: patch n, number k. */
static void my_patchify_backward(float *dimage, const float *dpatches, int C, int height, int width, int PH, int PW) {
  const int cols = width / PW, P = C * PH * PW;
  for (int c = 0; c < C; c++)
    for (int row = 0; row < height; row++)
      for (int col = 0; col < width; col++) {
        const int n = row / PH * cols + col / PW;
        const int k = (c * PH + row % PH) * PW + col % PW;
        dimage[(c * height + row) * width + col] = dpatches[n * P + k];
      }
}
