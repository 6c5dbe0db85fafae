// A digit cut into patches; a linear projection of them and a strided convolution are the same.
//
// A transformer reads a row of tokens, not an image. So the image is cut into patches, each patch
// is written as one row of numbers, and each row is projected to the model's width. Read beside
// it: chapter 01 of vit.h.
#include "common.h"

enum { SIZE = 32, PIXELS = SIZE * SIZE, WIDTH = 9 };

/* ---- [1] ---------------------------------------------------------------- */

static void load_digit(float *image) {
  vit_dataset d;
  nb_cell("One digit, 28 x 28 pixels, made 32 x 32 so that patches of 16 x 16 fit");
  nb_load_few(&d, 1000, SIZE);
  NB_RUN(nb_digit(image, &d, 5));
  vit_dataset_free(&d);
}

/* ---- [2] ---------------------------------------------------------------- */

static void cut(const float *image) {
  nb_cell("Cut into 2 x 2 patches of 16 x 16 pixels: P1 P2 above, P3 P4 below");
  NB_RUN(nb_picture(image, 32, 32, 0, 1, 16, 16));
  printf("\n");
  nb_say("And into 4 x 4 patches of 8 x 8: four times as many tokens, each with a quarter of the "
         "pixels.");
  NB_RUN(nb_picture(image, 32, 32, 0, 1, 8, 8));
}

/* ---- [3] ---------------------------------------------------------------- */

static void patchify(const float *image, float *patches) {
  static const int asked[4][2] = {{0, 111}, {1, 100}, {2, 21}, {3, 66}};
  const int shape_image[3] = {1, 32, 32}, shape_patches[2] = {4, 256};
  float *back = nb_floats(PIXELS);
  nb_cell("Each patch becomes one row, its pixels one after the other");
  NB_RUN(vit_naive.patchify_forward(patches, image, 1, 32, 32, 16, 16));
  nb_shape("image", shape_image, 3, "[C, height, width]");
  nb_shape("patches", shape_patches, 2, "[N, C * PH * PW]: N = 32/16 * 32/16 = 4");
  printf("  %snumber of patches     is pixel of the image      values%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 4; i++) {
    int n = asked[i][0], k = asked[i][1];        /* patch n, number k of its row */
    int y = n / 2 * 16 + k / 16, x = n % 2 * 16 + k % 16;
    printf("  P%d, number %3d       row %2d, column %2d       %.3f = %.3f\n", n + 1, k, y, x,
           (double)patches[n * 256 + k], (double)image[y * 32 + x]);
  }
  nb_say("Nothing is lost: put back in place, every pixel is what it was.");
  NB_RUN(vit_naive.patchify_backward(back, patches, 1, 32, 32, 16, 16));
  printf("  largest difference to the image: %g\n", nb_difference(back, image, PIXELS));
  free(back);
}

/* ---- [4] and [5] -------------------------------------------------------- */

static void project(const float *image, const float *patches) {
  static const char *const names[] = {"P1", "P2", "P3", "P4"};
  float *w = nb_floats(WIDTH * 256), *b = nb_floats(WIDTH);
  float linear[4 * WIDTH], conv[4 * WIDTH], simd[4 * WIDTH];
  const int shape_w[2] = {WIDTH, 256}, shape_y[2] = {4, WIDTH};
  nb_cell("Each row of 256 pixels is projected to 9 numbers: y = x W^T + b");
  nb_normal(w, WIDTH * 256, 1);
  for (int i = 0; i < WIDTH * 256; i++) w[i] /= 16; /* 1 / sqrt(256) keeps y near 1 */
  nb_normal(b, WIDTH, 2);
  nb_shape("W", shape_w, 2, "[D, C * PH * PW], random here; a model learns it");
  nb_shape("y", shape_y, 2, "[N, D]: one token for each patch");
  NB_RUN(vit_naive.linear_forward(linear, patches, w, b, 4, 256, 9));
  nb_matrix(linear, 4, WIDTH, " %7.3f", names);

  nb_cell("The same W as a convolution: kernel 16 x 16, stride 16, one filter per number");
  NB_RUN(vit_conv2d_patches(conv, image, w, b, 1, 32, 32, 16, 16, 9));
  nb_matrix(conv, 4, WIDTH, " %7.3f", names);
  NB_RUN(vit_best_kernels()->linear_forward(simd, patches, w, b, 4, 256, 9));
  printf("  largest difference   projection - convolution  %g\n",
         nb_difference(linear, conv, 4 * WIDTH));
  printf("                       projection, naive - SIMD  %.1g   (rounding)\n",
         nb_difference(linear, simd, 4 * WIDTH));
  nb_say("A convolution whose stride is its kernel never looks at a pixel twice: it is a matrix "
         "product on patches, with W [9, 256] read as [9, 1, 16, 16].");
  free(w);
  free(b);
}

/* ---- [6] ---------------------------------------------------------------- */

static void sizes(void) {
  static const struct { const char *name; int height, width, C, PH, PW; } images[] = {
      {"this digit", 32, 32, 1, 16, 16},  {"smaller patches", 32, 32, 1, 8, 8},
      {"CIFAR photo", 32, 32, 3, 4, 4},   {"ViT photo", 224, 224, 3, 16, 16},
      {"not square", 48, 96, 3, 8, 16}};
  nb_cell("N patches of how many numbers? Any image works whose sides are multiples of the patch's");
  printf("  %s%-17s %-16s %-9s %6s %9s %14s%s\n", nb_dim(), "", "image", "patch", "N", "numbers",
         "pairs N * N", nb_plain());
  for (int i = 0; i < 5; i++) {
    vit_config c = vit_config_tutorial();
    char image[24], patch[24];
    int N;
    c.image_height = images[i].height, c.image_width = images[i].width;
    c.patch_height = images[i].PH, c.patch_width = images[i].PW;
    c.channels = images[i].C;
    nb_try(vit_config_resolve(&c));
    N = vit_config_patches(&c);
    snprintf(image, sizeof image, "%d x %d x %d", c.channels, c.image_height, c.image_width);
    snprintf(patch, sizeof patch, "%d x %d", c.patch_height, c.patch_width);
    printf("  %-17s %-16s %-9s %6d %9d %14d\n", images[i].name, image, patch, N,
           c.channels * c.patch_height * c.patch_width, N * N);
  }
  nb_say("Half the patch size means four times the tokens and sixteen times the pairs that "
         "attention compares.");
}

/* ---- [7] ---------------------------------------------------------------- */

/* The digit with the lines of the cut, its patches apart, and the matrix. */
static void draw(const float *image) {
  const int N = 16, P = 64, GAP = 3, WIDE = SIZE + 3 * 3;
  float *patches = nb_floats(PIXELS), *apart = nb_floats(WIDE * WIDE);
  vit_plot p;
  nb_cell("From the image to the matrix, as a picture");
  nb_try(vit_plot_begin(&p, nb_out, "patches", 1150, 460));
  vit_naive.patchify_forward(patches, image, 1, SIZE, SIZE, 8, 8);
  for (int i = 0; i < WIDE * WIDE; i++) apart[i] = -1; /* gaps: drawn in blue */
  for (int y = 0; y < SIZE; y++)
    for (int x = 0; x < SIZE; x++)
      apart[(y + y / 8 * GAP) * WIDE + x + x / 8 * GAP] = image[y * SIZE + x];
  fprintf(p.script, "set multiplot\nset origin 0,0\nset size 0.29,1\nset xtics 8\nset ytics 8\n"
                    "set xlabel 'column'\nset ylabel 'row'\n");
  nb_image_panel(&p, 0, "1. image [32, 32]", image, SIZE, 8);
  fprintf(p.script, "set origin 0.28,0\nset size 0.29,1\nunset xlabel\nunset ylabel\n"
                    "unset xtics\nunset ytics\nunset border\nset cbrange [-1:1]\n"
                    "set palette defined (-1 '#b9d4e8', -0.01 '#b9d4e8', 0 '#000000', 1 '#ffffff')\n");
  for (int n = 0; n < N; n++)
    fprintf(p.script, "set label '%d' at %d,%g center front font ',9'\n", n + 1,
            n % 4 * 11 + 4, n / 4 * 11 - 1.7);
  nb_panel(&p, 1, "2. cut into 16 patches of 8 x 8\\n", apart, WIDE, WIDE, NULL, 0);
  fprintf(p.script, "unset label\nset border\n" NB_GREYS "set cbrange [0:1]\nset origin 0.57,0\nset size 0.43,1\n"
                    "set xtics 16\nset ytics ('P1' 0, 'P4' 3, 'P8' 7, 'P12' 11, 'P16' 15)\n"
                    "set xlabel 'pixel of the patch'\nset ylabel 'patch'\nset size noratio\n");
  nb_panel(&p, 2, "3. matrix [16, 64]: one row for each patch", patches, N, P, NULL, 0);
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "patches");
  free(patches);
  free(apart);
}

int main(int argc, char **argv) {
  float image[PIXELS], patches[PIXELS];
  nb_start("01-patches", "An image becomes a row of tokens: cut it into patches, project each one.",
           argc, argv, NULL, 0);
  load_digit(image);
  cut(image);
  patchify(image, patches);
  project(image, patches);
  sizes();
  draw(image);
  return 0;
}
