// A digit cut into patches; a linear projection of them and a strided convolution are the same.
//
// A transformer reads a row of tokens, not an image. So the image is cut into patches, each patch
// is written as one row of numbers, and each row is projected to the model's width. Read beside
// it: chapter 01 of vit.h.
#include "common.h"

enum {
  SIZE = 32,
  PIXELS = SIZE * SIZE,
  P = 8,                       /* side of a patch */
  GRID = SIZE / P,             /* patches in a row */
  N = GRID * GRID,             /* patches */
  K = P * P,                   /* pixels of a patch */
  WIDTH = 9,                   /* numbers of a token */
  SHOWN = 7                    /* the patch that is followed from cell to cell: P7 */
};

/* ---- [1] ---------------------------------------------------------------- */

static void load_digit(float *image) {
  vit_dataset d;
  nb_cell("One digit, 28 x 28 pixels, made 32 x 32 so that patches of 8 x 8 fit");
  nb_load_few(&d, 1000, SIZE);
  NB_RUN(nb_digit(image, &d, 5));
  vit_dataset_free(&d);
}

/* ---- [2] ---------------------------------------------------------------- */

static void cut(const float *image) {
  nb_cell("Cut into 4 x 4 patches of 8 x 8 pixels: P1 to P4 above, P13 to P16 below");
  NB_RUN(nb_picture(image, 32, 32, 0, 1, 8, 8));
  nb_say("P7, the third patch of the second row, is followed from here on.");
}

/* ---- [3] ---------------------------------------------------------------- */

static void patchify(const float *image, float *patches) {
  static const int asked[5] = {0, 1, 7, 8, 63};
  const int shape_image[3] = {1, SIZE, SIZE}, shape_patches[2] = {N, K};
  const int n = SHOWN - 1, top = n / GRID * P, left = n % GRID * P;
  float *back = nb_floats(PIXELS);
  nb_cell("Each patch becomes one row, its pixels one after the other");
  NB_RUN(vit_naive.patchify_forward(patches, image, 1, 32, 32, 8, 8));
  nb_shape("image", shape_image, 3, "[C, height, width]");
  nb_shape("patches", shape_patches, 2, "[N, C * PH * PW]: N = 32/8 * 32/8 = 16");
  printf("  %snumber of row P7        is pixel of the image      values%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 5; i++) {
    const int k = asked[i], y = top + k / P, x = left + k % P;
    printf("  P7, number %2d           row %2d, column %2d          %.3f = %.3f\n", k, y, x,
           (double)patches[n * K + k], (double)image[y * SIZE + x]);
  }
  nb_say("Number 8 is the first of the next line: 8 pixels lie side by side, then the row of the "
         "image changes. Nothing is lost: put back in place, every pixel is what it was.");
  NB_RUN(vit_naive.patchify_backward(back, patches, 1, 32, 32, 8, 8));
  printf("  largest difference to the image: %g\n", vit_max_difference(back, image, PIXELS));
  free(back);
}

/* ---- [4] and [5] -------------------------------------------------------- */

static void project(const float *image, const float *patches, float *tokens) {
  static const char *const names[N] = {"P1", "P2",  "P3",  "P4",  "P5",  "P6",  "P7",  "P8",
                                       "P9", "P10", "P11", "P12", "P13", "P14", "P15", "P16"};
  float *w = nb_floats(WIDTH * K), *b = nb_floats(WIDTH);
  float conv[N * WIDTH], simd[N * WIDTH];
  const int shape_w[2] = {WIDTH, K}, shape_y[2] = {N, WIDTH};
  nb_cell("Each row of 64 pixels is projected to 9 numbers: y = x W^T + b");
  nb_normal(w, WIDTH * K, 1);
  for (int i = 0; i < WIDTH * K; i++) w[i] /= P; /* 1 / sqrt(64) keeps y near 1 */
  nb_normal(b, WIDTH, 2);
  nb_shape("W", shape_w, 2, "[D, C * PH * PW], random here; a model learns it");
  nb_shape("y", shape_y, 2, "[N, D]: one token for each patch");
  NB_RUN(vit_naive.linear_forward(tokens, patches, w, b, 16, 64, 9));
  nb_matrix(tokens, N, WIDTH, " %7.3f", names);
  nb_say("Dark patches have no pixels to weigh: their token is b alone, as in row P1.");

  nb_cell("The same W as a convolution: kernel 8 x 8, stride 8, one filter per number");
  NB_RUN(vit_conv2d_patches(conv, image, w, b, 1, 32, 32, 8, 8, 9));
  nb_matrix(conv + (SHOWN - 1) * WIDTH, 1, WIDTH, " %7.3f", names + SHOWN - 1);
  NB_RUN(vit_best_kernels()->linear_forward(simd, patches, w, b, 16, 64, 9));
  printf("  largest difference   projection - convolution  %g\n",
         vit_max_difference(tokens, conv, N * WIDTH));
  printf("                       projection, naive - SIMD  %.1g   (rounding)\n",
         vit_max_difference(tokens, simd, N * WIDTH));
  nb_say("A convolution whose stride is its kernel never looks at a pixel twice: it is a matrix "
         "product on patches, with W [9, 64] read as [9, 1, 8, 8].");
  free(w);
  free(b);
}

/* ---- [6] ---------------------------------------------------------------- */

static void sizes(void) {
  static const struct { const char *name; int height, width, C, PH, PW; } images[] = {
      {"this digit", 32, 32, 1, 8, 8},    {"larger patches", 32, 32, 1, 16, 16},
      {"CIFAR photo", 32, 32, 3, 4, 4},   {"ViT photo", 224, 224, 3, 16, 16},
      {"not square", 48, 96, 3, 8, 16}};
  nb_cell("How many patches, of how many numbers? The sides must be multiples of the patch's");
  printf("  %s%-17s %-16s %-9s %6s %9s %14s%s\n", nb_dim(), "", "image", "patch", "N", "numbers",
         "pairs N * N", nb_plain());
  for (int i = 0; i < 5; i++) {
    vit_config c = vit_config_tutorial();
    char image[24], patch[24];
    int patches;
    c.image_height = images[i].height, c.image_width = images[i].width;
    c.patch_height = images[i].PH, c.patch_width = images[i].PW;
    c.channels = images[i].C;
    nb_try(vit_config_resolve(&c));
    patches = vit_config_patches(&c);
    snprintf(image, sizeof image, "%d x %d x %d", c.channels, c.image_height, c.image_width);
    snprintf(patch, sizeof patch, "%d x %d", c.patch_height, c.patch_width);
    printf("  %-17s %-16s %-9s %6d %9d %14d\n", images[i].name, image, patch, patches,
           c.channels * c.patch_height * c.patch_width, patches * patches);
  }
  nb_say("Half the patch size means four times the tokens and sixteen times the pairs that "
         "attention compares.");
}

/* ---- [7] ---------------------------------------------------------------- */

/* The digit with the lines of the cut, its patches apart, the matrix and the tokens. */
static void draw(const float *image, const float *patches, const float *tokens) {
  enum { GAP = 3, STEP = P + GAP, WIDE = SIZE + (GRID - 1) * GAP };
  const int n = SHOWN - 1, row = n / GRID, col = n % GRID;
  float *apart = nb_floats(WIDE * WIDE);
  vit_plot p;
  nb_cell("From the image to the tokens, as a picture");
  nb_try(vit_plot_begin(&p, nb_out, "patches", 960, 800));
  for (int i = 0; i < WIDE * WIDE; i++) apart[i] = -1; /* gaps: drawn in blue */
  for (int y = 0; y < SIZE; y++)
    for (int x = 0; x < SIZE; x++)
      apart[(y + y / P * GAP) * WIDE + x + x / P * GAP] = image[y * SIZE + x];
  fprintf(p.script, "set multiplot title \"How does an image become a row of tokens? The orange frame "
                    "follows patch P7 through all steps\"\n"
                    "set origin 0,0.49\nset size 0.46,0.45\nset xtics 8\nset ytics 8\n"
                    "set xlabel 'column'\nset ylabel 'row'\n");
  nb_mark(&p, col * P, row * P, col * P + P - 1, row * P + P - 1);
  nb_image_panel(&p, 0, "1. the image [32, 32]", image, SIZE, P);
  fprintf(p.script, "set origin 0.5,0.49\nset size 0.46,0.45\nunset xlabel\nunset ylabel\n"
                    "unset xtics\nunset ytics\nunset border\nset cbrange [-1:1]\n"
                    "set palette defined (-1 '#b9d4e8', -0.01 '#b9d4e8', 0 '#000000', 1 '#ffffff')\n");
  for (int i = 0; i < N; i++)
    fprintf(p.script, "set label 'P%d' at %d,%g center front font ',9'\n", i + 1,
            i % GRID * STEP + 4, i / GRID * STEP - 1.7);
  nb_mark(&p, col * STEP, row * STEP, col * STEP + P - 1, row * STEP + P - 1);
  nb_panel(&p, 1, "2. cut into 16 patches of 8 x 8\\n", apart, WIDE, WIDE, NULL, 0);
  fprintf(p.script, "unset label\nunset arrow\nset border\n" NB_GREYS
                    "set cbrange [0:1]\nset origin 0,0\nset size 0.58,0.48\nset xtics 16\n"
                    "set ytics ('P1' 0, 'P4' 3, 'P7' 6, 'P10' 9, 'P13' 12, 'P16' 15)\n"
                    "set xlabel 'pixel of the patch'\nset ylabel 'patch'\nset size noratio\n");
  nb_mark(&p, 0, n, K - 1, n);
  nb_panel(&p, 2, "3. a row of 64 pixels for each: [16, 64]", patches, N, K, NULL, 0);
  fprintf(p.script, "unset arrow\n" NB_SIGNS "set cbrange [-4:4]\nset colorbox\n"
                    "set cblabel 'number of a token'\nset origin 0.58,0\nset size 0.42,0.48\n"
                    "set xtics 2\nset xlabel 'column (d)'\nunset ylabel\n");
  nb_mark(&p, 0, n, WIDTH - 1, n);
  nb_panel(&p, 3, "4. projected: tokens [16, 9]", tokens, N, WIDTH, NULL, 0);
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "patches");
  free(apart);
}

/* ---- [8] and [9] -------------------------------------------------------- */

static void row_of(const char *name, const float *v, int n) {
  printf("%s", name);
  for (int i = 0; i < n; i++) printf(" %2g", (double)v[i]);
}

static void two_rows(const char *name, const float *v, int n, const char *first, const char *second,
                     const float *u, int m) {
  row_of(name, v, n);
  row_of(first, u, m);
  printf("\n%*s", (int)strlen(name), "");
  row_of("", v + n, n);
  row_of(second, u + m, *second ? m : 0);
  printf("\n");
}

/* Two patches of 2 x 2 pixels, projected to two numbers each. */
static void with_a_pencil(void) {
  const float image[8] = {1, 2, 0, 1, 3, 0, 2, 1}, b[2] = {1, 0};
  const float w[8] = {1, 0, 2, 0, 0, 1, 0, -1}, dy[4] = {1, 2, 0, 1};
  float patches[8], y[4], dx[8], dimage[8], dw[8] = {0}, db[2] = {0};
  nb_cell("Two patches, small enough for a pencil");
  NB_RUN(vit_naive.patchify_forward(patches, image, 1, 2, 4, 2, 2));
  two_rows("  image  ", image, 4, "     x of P1 =", "     x of P2 =", patches, 4);
  NB_RUN(vit_naive.linear_forward(y, patches, w, b, 2, 4, 2));
  two_rows("  W      ", w, 4, "     y of P1 =", "     y of P2 =", y, 2);
  row_of("  b      ", b, 2);

  printf("\n");
  nb_cell("The same backward: dy is given, as a loss further on would hand it back");
  NB_RUN(vit_naive.linear_backward_input(dx, dy, w, 2, 4, 2));
  two_rows("  dy     ", dy, 2, "           dx of P1 =", "           dx of P2 =", dx, 4);
  NB_RUN(vit_naive.patchify_backward(dimage, dx, 1, 2, 4, 2, 2));
  two_rows("  dimage ", dimage, 4, "", "", dimage, 0);
  NB_RUN(vit_naive.linear_backward_weight(dw, db, dy, patches, 2, 4, 2, 2));
  two_rows("  dW     ", dw, 4, "     db =", "", db, 2);
  nb_say("Called again: the gradients of parameters are added, +=");
  NB_RUN(vit_naive.linear_backward_weight(dw, db, dy, patches, 2, 4, 2, 2));
  two_rows("  dW     ", dw, 4, "     db =", "", db, 2);
}

/* ---- [10] --------------------------------------------------------------- */

/* A loss: the numbers of all tokens, each times a fixed random number. */
static double loss_of(const float *image, const float *w, const float *b, const float *g) {
  float patches[PIXELS], y[N * WIDTH];
  double loss = 0;
  vit_naive.patchify_forward(patches, image, 1, SIZE, SIZE, P, P);
  vit_naive.linear_forward(y, patches, w, b, N, K, WIDTH);
  for (int i = 0; i < N * WIDTH; i++) loss += (double)y[i] * (double)g[i];
  return loss;
}

static void numeric_check(float *image, const float *patches) {
  enum { MOST = PIXELS };
  static const char *const names[3] = {"dW", "db", "dimage"};
  const int count[3] = {WIDTH * K, WIDTH, PIXELS};
  float w[WIDTH * K], b[WIDTH], dy[N * WIDTH], dx[PIXELS], d[3][MOST] = {{0}}, *x[3];
  x[0] = w, x[1] = b, x[2] = image;
  nb_cell("Is that the gradient? Nudge each weight, bias and pixel of the digit");
  nb_normal(w, WIDTH * K, 1);
  nb_normal(b, WIDTH, 2);
  nb_normal(dy, N * WIDTH, 3);
  NB_RUN(vit_naive.linear_backward_weight(d[0], d[1], dy, patches, 16, 64, 9, 9));
  NB_RUN(vit_naive.linear_backward_input(dx, dy, w, 16, 64, 9));
  NB_RUN(vit_naive.patchify_backward(d[2], dx, 1, 32, 32, 8, 8));
  printf("  %s         numbers    largest gradient    largest difference%s\n", nb_dim(), nb_plain());
  for (int a = 0; a < 3; a++) {
    const float h = 0.25f;
    double worst = 0, top = 0;
    for (int i = 0; i < count[a]; i++) {
      const float was = x[a][i];
      double up, down;
      x[a][i] = was + h;
      up = loss_of(image, w, b, dy);
      x[a][i] = was - h;
      down = loss_of(image, w, b, dy);
      x[a][i] = was;
      worst = fmax(worst, fabs((up - down) / (2 * (double)h) - (double)d[a][i]));
      top = fmax(top, fabs((double)d[a][i]));
    }
    printf("  %-6s %9d  %18.4f  %20.0e\n", names[a], count[a], top, worst);
  }
}

/* ---- [11] --------------------------------------------------------------- */

/* Length of a row of n numbers. */
static double length(const float *v, int n) {
  double sum;
  vit_naive.sum_squares(&sum, v, n);
  return sqrt(sum);
}

/* Attention backward of which a part is thrown away. */
static void without_values(float *dp, float *dv, const float *d_o, const float *p, const float *v,
                           int rows, int T, int Dh, int stride, int o_stride) {
  vit_naive.attention_values_backward(dp, dv, d_o, p, v, rows, T, Dh, stride, o_stride);
  for (int t = 0; t < T; t++) memset(dv + t * stride, 0, (size_t)Dh * sizeof *dv);
}
static void without_scores(float *dq, float *dk, float *dp, const float *p, const float *q,
                           const float *k, int rows, int T, int Dh, int stride) {
  vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, rows, T, Dh, stride);
  for (int t = 0; t < rows; t++) memset(dq + t * stride, 0, (size_t)Dh * sizeof *dq);
  for (int t = 0; t < T; t++) memset(dk + t * stride, 0, (size_t)Dh * sizeof *dk);
}

/* The size of the gradient of the projection's weights, in the tutorial model. */
static double model_gradient(const float *image, int values, int scores) {
  vit_config c = vit_config_tutorial();
  vit_kernels own = vit_naive;
  const int label = 5;
  vit_model m;
  vit_state s;
  vit_tensor t;
  double loss, size;
  c.softmax_before_loss = 0;
  if (!values) own.attention_values_backward = without_values;
  if (!scores) own.attention_scores_backward = without_scores;
  nb_try(vit_model_create(&m, &c, 1));
  m.kernels = &own;
  nb_try(vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 1));
  nb_try(vit_forward(&m, &s, image, 1));
  nb_try(vit_loss(&m, &s, &label, 0, &loss));
  vit_zero_gradients(&s);
  nb_try(vit_backward(&m, &s, 1));
  nb_try(vit_tensor_find(&c, "patch_embed.proj.weight", &t));
  size = length(s.grads.block + t.offset, (int)t.count);
  vit_state_free(&s);
  vit_model_free(&m);
  return size;
}

static void how_a_patch_learns(const float *image) {
  enum { T = 5, Dh = 3, BIG = 16, ALL = 3 * Dh }; /* 4 patches of 16 x 16 */
  static const char *const names[T] = {"CLS", "P1", "P2", "P3", "P4"};
  float patches[PIXELS], pw[WIDTH * BIG * BIG], x[T * WIDTH], w[ALL * WIDTH], qkv[T * ALL];
  float p[T * T], dp[T * T], o[T * Dh], d_o[T * Dh] = {0}, d[T * ALL] = {0}, dx[T * WIDTH];
  nb_cell("How does a patch get its gradient? The loss reads row 0 alone");
  nb_normal(pw, WIDTH * BIG * BIG, 1);
  for (int i = 0; i < WIDTH * BIG * BIG; i++) pw[i] /= BIG;
  nb_normal(w, ALL * WIDTH, 2);
  for (int i = 0; i < ALL * WIDTH; i++) w[i] /= 3;
  nb_normal(x, WIDTH, 3);
  vit_naive.patchify_forward(patches, image, 1, SIZE, SIZE, BIG, BIG);
  vit_naive.linear_forward(x + WIDTH, patches, pw, NULL, T - 1, BIG * BIG, WIDTH);
  vit_naive.linear_forward(qkv, x, w, NULL, T, WIDTH, ALL);
  vit_naive.attention_scores_forward(p, qkv, qkv + Dh, NULL, T, T, Dh, ALL);
  vit_naive.attention_values_forward(o, p, qkv + 2 * Dh, T, T, Dh, ALL, Dh);
  for (int i = 0; i < Dh; i++) d_o[i] = 1;
  vit_naive.attention_values_backward(dp, d + 2 * Dh, d_o, p, qkv + 2 * Dh, T, T, Dh, ALL, Dh);
  vit_naive.attention_scores_backward(d, d + Dh, dp, p, qkv, qkv + Dh, T, T, Dh, ALL);
  vit_naive.linear_backward_input(dx, d, w, T, WIDTH, ALL);
  printf("  %ssize of the row of           dO       dQ       dK       dV   ->  dx%s\n", nb_dim(),
         nb_plain());
  for (int t = 0; t < T; t++) {
    const float *r = d + t * ALL;
    printf("  %-22s %8.3f %8.3f %8.3f %8.3f %8.3f\n", names[t], length(d_o + t * Dh, Dh), length(r, Dh),
           length(r + Dh, Dh), length(r + 2 * Dh, Dh), length(dx + t * WIDTH, WIDTH));
  }
  printf("  the tutorial model: size of the gradient of patch_embed.proj.weight\n");
  printf("    as it is                        %.6f\n", model_gradient(image, 1, 1));
  printf("    through the values alone        %.6f\n", model_gradient(image, 1, 0));
  printf("    through the scores alone        %.6f\n", model_gradient(image, 0, 1));
  printf("    no gradient through attention   %.6f\n", model_gradient(image, 0, 0));
}

/* ---- [12] --------------------------------------------------------------- */

/* From how many patches do the pixels of a row come? */
static int sources(const int *from, int n) {
  int seen[N] = {0}, count = 0;
  for (int i = 0; i < n; i++) count += !seen[from[i]]++;
  return count;
}

static void cut_wrongly(const float *image) {
  int from[PIXELS], conv[N * WIDTH];
  float patches[PIXELS], strips[PIXELS], copy[PIXELS];
  vit_plot p;
  nb_cell("Wrong in the wild: a reshape in place of the cut, and of the transpose");
  for (int i = 0; i < PIXELS; i++) from[i] = i / SIZE / P * GRID + i % SIZE / P;
  for (int i = 0; i < N * WIDTH; i++) conv[i] = i % N; /* [D, N]: number d of token n at d * N + n */
  vit_naive.patchify_forward(patches, image, 1, SIZE, SIZE, P, P);
  printf("  %s                                      row 7 comes from%s\n", nb_dim(), nb_plain());
  printf("  patchify_forward                      1 patch\n");
  printf("  image [32, 32] read as [16, 64]       %d patches\n", sources(from + (SHOWN - 1) * K, K));
  printf("  conv [9, 16] read as [16, 9]          %d patches\n",
         sources(conv + (SHOWN - 1) * WIDTH, WIDTH));
  printf("  pixels that 28 x 28 loses to a convolution of stride 16: %d of %d\n", 28 * 28 - 16 * 16,
         28 * 28);
  vit_naive.patchify_backward(copy, patches, 1, SIZE, SIZE, P, P); /* each row as a square */
  vit_naive.patchify_backward(strips, image, 1, SIZE, SIZE, P, P);
  nb_try(vit_plot_begin(&p, nb_out, "reshape", 900, 480));
  fprintf(p.script, "set multiplot layout 1,2 title \"16 rows of 64 numbers, each shown as a square of "
                    "8 x 8: cut, or reshaped?\"\nset xtics 8\nset ytics 8\n");
  nb_image_panel(&p, 0, "cut: patchify_forward", copy, SIZE, P);
  nb_image_panel(&p, 1, "reshaped: [32, 32] read as [16, 64]", strips, SIZE, P);
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "reshape");
}

/* ---- [13] --------------------------------------------------------------- */

static void run(int way, const vit_kernels *k, float *const x[6]) {
  if (way == 0) k->patchify_forward(x[0], x[1], 3, 32, 32, 4, 4);
  if (way == 1) k->patchify_forward(x[0], x[1], 3, 32, 32, 16, 16);
  if (way == 2) k->patchify_backward(x[0], x[1], 3, 32, 32, 16, 16);
  if (way == 3) k->linear_forward(x[0], x[1], x[2], x[3], 64, 48, 64);
  if (way == 4) k->linear_backward_input(x[0], x[4], x[2], 64, 48, 64);
  if (way == 5) k->linear_backward_weight(x[0], x[5], x[4], x[1], 64, 48, 64, 64);
}

static double time_of(int way, const vit_kernels *k, float *const x[6]) {
  double best;
  NB_FASTEST(best, run(way, k, x));
  memset(x[0], 0, 4096 * sizeof(float)); /* gradients of weights are added */
  run(way, k, x);
  return best;
}

static void by_vectors(void) {
  static const char *const what[6] = {"patchify_forward, 4 x 4", "patchify_forward, 16 x 16",
                                      "patchify_backward, 16 x 16", "linear_forward",
                                      "linear_backward_input", "linear_backward_weight"};
  float *x[6], *y[6];
  nb_cell("Vectors: a photo of 3 x 32 x 32; 64 rows of 48 numbers to 64 each");
  for (int i = 0; i < 6; i++) {
    x[i] = nb_floats(4096), y[i] = nb_floats(4096);
    nb_normal(x[i], 4096, (uint32_t)i);
    memcpy(y[i], x[i], 4096 * sizeof(float));
  }
  printf("  %s                            naive (us)    SIMD (us)     ratio    difference%s\n",
         nb_dim(), nb_plain());
  for (int way = 0; way < 6; way++) {
    const double naive = time_of(way, &vit_naive, x), simd = time_of(way, vit_best_kernels(), y);
    printf("  %-26s %11.1f %12.1f %9.1fx %13.0e\n", what[way], naive, simd, naive / simd,
           vit_max_difference(x[0], y[0], 4096));
  }
  for (int i = 0; i < 6; i++) free(x[i]), free(y[i]);
}

int main(int argc, char **argv) {
  float image[PIXELS], patches[PIXELS], tokens[N * WIDTH];
  nb_start("01-patches", "An image becomes a row of tokens: cut it into patches, project each one.",
           argc, argv, NULL, 0);
  load_digit(image);
  cut(image);
  patchify(image, patches);
  project(image, patches, tokens);
  sizes();
  draw(image, patches, tokens);
  with_a_pencil();
  numeric_check(image, patches);
  how_a_patch_learns(image);
  cut_wrongly(image);
  by_vectors();
  return 0;
}
