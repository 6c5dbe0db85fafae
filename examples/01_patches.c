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
  nb_try(vit_plot_begin(&p, nb_out, "patches", 1400, 460));
  for (int i = 0; i < WIDE * WIDE; i++) apart[i] = -1; /* gaps: drawn in blue */
  for (int y = 0; y < SIZE; y++)
    for (int x = 0; x < SIZE; x++)
      apart[(y + y / P * GAP) * WIDE + x + x / P * GAP] = image[y * SIZE + x];
  fprintf(p.script, "set multiplot title \"How does an image become a row of tokens? The orange frame "
                    "follows patch P7 through all steps\"\n"
                    "set origin 0,0\nset size 0.25,0.95\nset xtics 8\nset ytics 8\n"
                    "set xlabel 'column'\nset ylabel 'row'\n");
  nb_mark(&p, col * P, row * P, col * P + P - 1, row * P + P - 1);
  nb_image_panel(&p, 0, "1. the image [32, 32]", image, SIZE, P);
  fprintf(p.script, "set origin 0.24,0\nset size 0.25,0.95\nunset xlabel\nunset ylabel\n"
                    "unset xtics\nunset ytics\nunset border\nset cbrange [-1:1]\n"
                    "set palette defined (-1 '#b9d4e8', -0.01 '#b9d4e8', 0 '#000000', 1 '#ffffff')\n");
  for (int i = 0; i < N; i++)
    fprintf(p.script, "set label 'P%d' at %d,%g center front font ',9'\n", i + 1,
            i % GRID * STEP + 4, i / GRID * STEP - 1.7);
  nb_mark(&p, col * STEP, row * STEP, col * STEP + P - 1, row * STEP + P - 1);
  nb_panel(&p, 1, "2. cut into 16 patches of 8 x 8\\n", apart, WIDE, WIDE, NULL, 0);
  fprintf(p.script, "unset label\nunset arrow\nset border\n" NB_GREYS
                    "set cbrange [0:1]\nset origin 0.48,0\nset size 0.31,0.95\nset xtics 16\n"
                    "set ytics ('P1' 0, 'P4' 3, 'P7' 6, 'P10' 9, 'P13' 12, 'P16' 15)\n"
                    "set xlabel 'pixel of the patch'\nset ylabel 'patch'\nset size noratio\n");
  nb_mark(&p, 0, n, K - 1, n);
  nb_panel(&p, 2, "3. a row of 64 pixels for each: [16, 64]", patches, N, K, NULL, 0);
  fprintf(p.script, "unset arrow\n" NB_SIGNS "set cbrange [-4:4]\nset colorbox\n"
                    "set cblabel 'number of a token'\nset origin 0.78,0\nset size 0.22,0.95\n"
                    "set xtics 2\nset xlabel 'column (d)'\nunset ylabel\n");
  nb_mark(&p, 0, n, WIDTH - 1, n);
  nb_panel(&p, 3, "4. projected: tokens [16, 9]", tokens, N, WIDTH, NULL, 0);
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "patches");
  free(apart);
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
  return 0;
}
