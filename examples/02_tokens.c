// Why positions are added to the tokens: without them a shuffled image is the same image.
//
// Attention treats its tokens as a set. A class token joins the patches to collect the answer, and
// a pattern of numbers is added to each token that says where it was. Read beside it: chapter 02
// of vit.h.
#include "common.h"

enum { SIZE = 32, PIXELS = SIZE * SIZE };
static const char *const names[] = {"CLS", "P1", "P2", "P3", "P4"};

/* ---- [1] and [2] -------------------------------------------------------- */

static void class_token(const float *image, float *tokens) {
  vit_config c = vit_config_tutorial();
  vit_model m;
  float patches[PIXELS], embedded[4 * 9];
  const int shape[2] = {5, 9};
  nb_cell("A class token is put before the patches: 4 patches become 5 tokens");
  nb_try(vit_model_create(&m, &c, 1));
  vit_naive.patchify_forward(patches, image, 1, 32, 32, 16, 16);
  NB_RUN(vit_naive.linear_forward(embedded, patches, m.params.patch_w, m.params.patch_b, 4, 256, 9));
  NB_RUN(vit_naive.tokens_forward(tokens, embedded, m.params.cls_token, NULL, 4, 9));
  nb_shape("tokens", shape, 2, "[T, D], T = N + 1");
  nb_matrix(tokens, 5, 9, " %7.3f", names);
  nb_say("CLS has no pixels: it is a row of 9 parameters, the same for every image. What it has "
         "become after the last block is what the head classifies.");
  vit_model_free(&m);
}

static void sinusoid(const float *tokens) {
  float pos[5 * 9], sum[5 * 9];
  nb_cell("Positions as waves: pairs of columns, a sine and a cosine, each pair slower");
  NB_RUN(vit_positions_sinusoid(pos, 5, 9));
  nb_matrix(pos, 5, 9, " %7.3f", names);
  nb_say("Column 0 is sin(t), column 1 cos(t) for token t = 0 ... 4, columns 2 and 3 turn 7.7 times "
         "more slowly. 9 is odd, so the last column is a sine without its cosine.");
  NB_RUN(vit_naive.tokens_forward(sum, tokens + 9, tokens, pos, 4, 9));
  printf("  tokens + positions, what block 0 reads:\n");
  nb_matrix(sum, 5, 9, " %7.3f", names);
}

/* ---- [3] ---------------------------------------------------------------- */

static void kinds(void) {
  static const char *const cells[] = {"CLS", "0,0", "0,1", "1,0", "1,1"};
  float pos[5 * 8];
  nb_cell("Positions in two directions: half of the columns tell x, the other half y");
  NB_RUN(vit_positions_sincos2d(pos, 2, 2, 8, 1));
  printf("  %srow,column%s  sin x          cos x            sin y           cos y\n", nb_dim(),
         nb_plain());
  nb_matrix(pos, 5, 8, " %7.3f", cells);
  nb_say("Patches 0,0 and 1,0 share a column, so they share the first four numbers. Learned "
         "positions are a third kind: the same table, started at random and trained.");
}

/* ---- [4] ---------------------------------------------------------------- */

/* The image with its 16 patches of 8 x 8 in another order. */
static void shuffle_patches(float *out, const float *image, int order[16]) {
  float patches[PIXELS], mixed[PIXELS];
  vit_rng rng = vit_rng_create(4, 0);
  vit_shuffle(order, 16, &rng);
  vit_naive.patchify_forward(patches, image, 1, SIZE, SIZE, 8, 8);
  for (int n = 0; n < 16; n++) memcpy(mixed + n * 64, patches + order[n] * 64, 64 * sizeof(float));
  vit_naive.patchify_backward(out, mixed, 1, SIZE, SIZE, 8, 8);
}

/* In the figure, each patch says where it comes from; without `order`, its own place. */
static void label_patches(vit_plot *p, const int *order) {
  for (int n = 0; n < 16; n++)
    fprintf(p->script, "set label 'P%d' at %g,%g front boxed font ',9' tc rgb '#e69f00'\n",
            (order ? order[n] : n) + 1, n % 4 * 8 - 0.2, n / 4 * 8 + 0.9);
}

static void why_order_matters(const float *image) {
  static const struct { vit_positions kind; const char *name, *in_figure; } rows[] = {
      {VIT_POSITIONS_NONE, "none", "none"},
      {VIT_POSITIONS_SINUSOID, "sinusoid", "sinusoid"},
      {VIT_POSITIONS_LEARNED, "learned (at its start)", "learned"},
      {VIT_POSITIONS_SINCOS2D, "2-D sin-cos", "2-D"}};
  float pair[2 * PIXELS];
  int order[16];
  vit_plot p;
  nb_cell("Shuffle the 16 patches of a digit: does the class token notice?");
  memcpy(pair, image, PIXELS * sizeof(float));
  shuffle_patches(pair + PIXELS, image, order);
  nb_pictures(pair, 2, SIZE);
  nb_try(vit_plot_begin(&p, nb_out, "shuffle", 960, 380));
  fprintf(p.script, "set multiplot title \"Does the class token notice that the patches were "
                    "shuffled? Only with positions\"\nset xtics 8\nset ytics 8\n"
                    "set xlabel 'column'\nset ylabel 'row'\n"
                    "set style textbox opaque fillcolor rgb '#000000' noborder margins 0.5,0.5\n"
                    "set size 0.32,0.92\nset origin 0,0\n");
  label_patches(&p, NULL);
  nb_image_panel(&p, 0, "image 0: the digit", pair, SIZE, 8);
  label_patches(&p, order);
  fprintf(p.script, "set origin 0.29,0\n");
  nb_image_panel(&p, 1, "image 1: the same patches, shuffled", pair + PIXELS, SIZE, 8);
  printf("\n");
  nb_code("vit_forward(&m, &s, pair, 2); // image 0: the digit, image 1: shuffled");
  printf("  %s%-24s %32s   %s%s\n", nb_dim(), "positions", "change of the class token's output",
         "order seen?", nb_plain());
  for (int i = 0; i < 4; i++) {
    vit_config c = vit_config_tutorial();
    vit_model m;
    vit_state s;
    double change;
    c.patch_height = c.patch_width = 8;
    c.width = 12; /* 2-D positions need a multiple of 4 */
    c.positions = rows[i].kind;
    nb_try(vit_model_create(&m, &c, 1));
    nb_try(vit_state_create(&s, &m, 2, VIT_FOR_INFERENCE, 0));
    nb_try(vit_forward(&m, &s, pair, 2));
    change = vit_max_difference(s.pooled, s.pooled + 12, 12);
    printf("  %-24s %34.7f   %s\n", rows[i].name, change, change > 1e-4 ? "yes" : "no");
    fprintf(p.data, "\"%s\" %.7f\n", rows[i].in_figure, change);
    vit_state_free(&s);
    vit_model_free(&m);
  }
  nb_say("Without positions the two pictures are one and the same to the model (what is left is "
         "rounding). With any of the three kinds they are not.");
  fprintf(p.script,
          "reset\nset origin 0.59,0\nset size 0.41,0.92\nset title \"change of the class token's output\"\nset xlabel 'kind of positions'\n"
          "set ylabel 'largest of its 12 numbers'\nset xtics noenhanced scale 0\nset ytics 0.01\n"
          "set grid ytics lt 1 lc rgb '#cccccc' lw 1\nset boxwidth 0.6\nset style fill solid\n"
          "set xrange [-0.6:3.6]\nset yrange [0:*]\nset offsets 0,0,graph 0.12,0\n"
          "plot 'shuffle.dat' index 2 using 0:2:xtic(1) with boxes lc rgb '#0072b2' notitle, \\\n"
          "     '' index 2 using 0:2:(sprintf('%%.2g', $2)) with labels offset 0,0.7 notitle\n"
          "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "shuffle");
}

/* ---- [5] ---------------------------------------------------------------- */

/* Cosine between the position of the middle patch and all others. */
static void similarity(float *map, const float *pos, int grid, int D) {
  const float *a = pos + (grid * grid / 2) * D;
  for (int i = 0; i < grid * grid; i++) {
    const float *b = pos + i * D;
    double ab = 0, aa = 0, bb = 0;
    for (int d = 0; d < D; d++) {
      ab += (double)(a[d] * b[d]);
      aa += (double)(a[d] * a[d]);
      bb += (double)(b[d] * b[d]);
    }
    map[i] = (float)(ab / sqrt(aa * bb));
  }
}

static void neighbours(void) {
  enum { GRID = 9, D = 64 };
  float *line = nb_floats(GRID * GRID * D), *plane = nb_floats(GRID * GRID * D);
  float near_line[GRID * GRID], near_plane[GRID * GRID];
  vit_plot p;
  nb_cell("Which positions are alike? Cosine of the middle of a 9 x 9 grid with each patch");
  NB_RUN(vit_positions_sinusoid(line, 81, 64); similarity(near_line, line, 9, 64));
  nb_table(near_line, GRID, GRID, " %5.2f", NULL, NULL, 1);
  NB_RUN(vit_positions_sincos2d(plane, 9, 9, 64, 0); similarity(near_plane, plane, 9, 64));
  nb_table(near_plane, GRID, GRID, " %5.2f", NULL, NULL, 1);
  nb_say("The sinusoid counts patches in reading order: left and right are near, above and below "
         "are 9 steps away. The 2-D form falls alike along rows and along columns.");
  nb_try(vit_plot_begin(&p, nb_out, "positions", 960, 400));
  fprintf(p.script, "set multiplot layout 1,3 title \"Which positions are alike? Framed: the middle patch, "
                    "row 4, column 4, with which all are compared\"\n"
                    "set tics scale 0\n" NB_SIGNS "set cbrange [-1:1]\nset cblabel 'value'\n"
                    "set xlabel 'column of the table (d)'\nset ylabel 'patch, in reading order'\n"
                    "set xtics 20\nset ytics 20\nset ytics add ('middle: 40' 40)\n");
  nb_panel(&p, 0, "the sinusoid's table [81, 64]", line, GRID * GRID, D, NULL, 0);
  fprintf(p.script, NB_BLUES "set cbrange [0.4:1]\nset size ratio -1\nset xlabel 'column'\n"
                             "set ylabel 'row'\nset xtics 2\nset ytics 2\nset cblabel 'cosine'\n");
  nb_mark(&p, GRID / 2, GRID / 2, GRID / 2, GRID / 2);
  nb_panel(&p, 1, "sinusoid: along the row only", near_line, GRID, GRID, NULL, 0);
  nb_panel(&p, 2, "2-D sin-cos: in all directions", near_plane, GRID, GRID, NULL, 0);
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "positions");
  free(line);
  free(plane);
}

/* ---- [6] ---------------------------------------------------------------- */

static void small_forward(void) {
  const float cls[2] = {1, 2}, embed[4] = {3, 4, 5, 6}, pos[6] = {10, 20, 30, 40, 50, 60};
  float x[6];
  nb_cell("Two patches, small enough for a pencil");
  printf("  cls = 1 2     embed = 3 4     pos = 10 20\n"
         "                        5 6           30 40\n"
         "                                      50 60\n");
  NB_RUN(vit_naive.tokens_forward(x, embed, cls, pos, 2, 2));
  nb_matrix(x, 3, 2, " %5.0f", names);
}

/* ---- [7] ---------------------------------------------------------------- */

static void small_backward(void) {
  const float dx[2][6] = {{1, 2, 3, 4, 5, 6}, {10, 20, 30, 40, 50, 60}};
  float dembed[2][4], dcls[2] = {0, 0}, dpos[6] = {0, 0, 0, 0, 0, 0};
  nb_cell("The same backward, for two images: what is shared collects from both");
  printf("  dx of image 0 = 1 2     of image 1 = 10 20\n"
         "                  3 4                  30 40\n"
         "                  5 6                  50 60\n");
  NB_RUN(for (int b = 0; b < 2; b++) vit_naive.tokens_backward(dembed[b], dcls, dpos, dx[b], 2, 2));
  printf("  dembed of image 0 = %.0f %.0f     of image 1 = %.0f %.0f\n", (double)dembed[0][0], (double)dembed[0][1],
         (double)dembed[1][0], (double)dembed[1][1]);
  printf("  %19s %.0f %.0f %18.0f %.0f\n", "", (double)dembed[0][2], (double)dembed[0][3], (double)dembed[1][2],
         (double)dembed[1][3]);
  printf("  dcls = %.0f %.0f     dpos = %.0f %.0f\n", (double)dcls[0], (double)dcls[1], (double)dpos[0],
         (double)dpos[1]);
  for (int t = 1; t < 3; t++) printf("  %23.0f %.0f\n", (double)dpos[2 * t], (double)dpos[2 * t + 1]);
}

/* ---- [8] ---------------------------------------------------------------- */

static double loss_of(vit_model *m, vit_state *s, const float *images, const int *labels) {
  double loss;
  nb_try(vit_forward(m, s, images, 3));
  nb_try(vit_loss(m, s, labels, 0, &loss));
  return loss;
}

static void numeric_check(const vit_dataset *d) {
  static const int order[3] = {0, 1, 2};
  static float images[3 * PIXELS];
  const float h = 1.0f / 64;
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  int labels[3];
  nb_cell("Is that the gradient? Nudge the class token and the learned positions");
  c.softmax_before_loss = 0;
  c.positions = VIT_POSITIONS_LEARNED;
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, 3, VIT_FOR_TRAINING, 0));
  vit_dataset_batch(d, order, 3, images, labels);
  loss_of(&m, &s, images, labels);
  vit_zero_gradients(&s);
  NB_RUN(nb_try(vit_backward(&m, &s, 1)));
  printf("  %s                 numbers    largest gradient    largest difference%s\n", nb_dim(), nb_plain());
  for (int which = 0; which < 2; which++) {
    const int n = which ? 5 * 9 : 9;
    const float *analytic = which ? s.grads.pos_embed : s.grads.cls_token;
    float *x = which ? m.params.pos_embed : m.params.cls_token;
    double worst = 0, top = 0;
    for (int i = 0; i < n; i++) {
      const float was = x[i];
      double up, down;
      x[i] = was + h;
      up = loss_of(&m, &s, images, labels);
      x[i] = was - h;
      down = loss_of(&m, &s, images, labels);
      x[i] = was;
      worst = fmax(worst, fabs((up - down) / (2 * (double)h) - (double)analytic[i]));
      top = fmax(top, fabs((double)analytic[i]));
    }
    printf("  %-15s %8d  %18.4f  %20.0e\n", which ? "positions" : "class token", n, top, worst);
  }
  printf("  class token against row 0 of the positions: largest difference %g\n",
         vit_max_difference(s.grads.cls_token, s.grads.pos_embed, 9));
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- [9] ---------------------------------------------------------------- */

/* All images with their 16 patches in the same new order. */
static void shuffle_all(vit_dataset *d) {
  int order[16];
  vit_rng rng = vit_rng_create(4, 0);
  vit_shuffle(order, 16, &rng);
  for (int i = 0; i < d->count; i++) {
    uint8_t was[PIXELS], *image = d->pixels + i * PIXELS;
    memcpy(was, image, PIXELS);
    for (int n = 0; n < 16; n++)
      for (int row = 0; row < 8; row++)
        memcpy(image + (n / 4 * 8 + row) * SIZE + n % 4 * 8,
               was + (order[n] / 4 * 8 + row) * SIZE + order[n] % 4 * 8, 8);
  }
}

static void train_without(vit_dataset *test) {
  static const struct { vit_positions kind; const char *name; } rows[] = {
      {VIT_POSITIONS_NONE, "none"}, {VIT_POSITIONS_SINUSOID, "sinusoid"},
      {VIT_POSITIONS_LEARNED, "learned"}, {VIT_POSITIONS_SINCOS2D, "2-D sin-cos"}};
  vit_dataset train;
  vit_model m[4];
  vit_history history;
  double accuracy[4][2], loss;
  vit_plot p;
  nb_cell("Break it: what can a model learn without positions?");
  nb_load(&train, VIT_TRAIN);
  vit_dataset_limit(&train, 2000);
  nb_try(vit_dataset_resize(&train, SIZE, SIZE));
  for (int shuffled = 0; shuffled < 2; shuffled++) {
    if (shuffled) shuffle_all(test);
    for (int i = 0; i < 4; i++) {
      vit_config c = vit_config_tutorial();
      vit_fit_config f = vit_fit_defaults();
      c.patch_height = c.patch_width = 8;
      c.width = 12;
      c.softmax_before_loss = 0;
      c.positions = rows[i].kind;
      f.epochs = 4, f.batch = 32;
      if (!shuffled) {
        nb_try(vit_model_create(&m[i], &c, 1));
        nb_try(vit_fit(&m[i], &f, &train, NULL, &history));
        vit_history_free(&history);
      }
      nb_try(vit_evaluate(&m[i], test, &loss, &accuracy[i][shuffled], NULL, NULL, NULL));
    }
  }
  printf("  %s%-14s %24s %32s%s\n", nb_dim(), "positions", "right of the test images", "of the same, patches shuffled",
         nb_plain());
  nb_try(vit_plot_begin(&p, nb_out, "without", 900, 420));
  for (int i = 0; i < 4; i++) {
    printf("  %-14s %22.1f %% %30.1f %%\n", rows[i].name, 100 * accuracy[i][0], 100 * accuracy[i][1]);
    fprintf(p.data, "\"%s\" %.1f %.1f\n", rows[i].name, 100 * accuracy[i][0], 100 * accuracy[i][1]);
    vit_model_free(&m[i]);
  }
  nb_say("Guessing is right in 10 %% of the cases.");
  nb_axes(&p, "Accuracy after a short training, on test images and on the same with their patches shuffled",
          "kind of positions", "accuracy in %");
  fprintf(p.script, "set style data histograms\nset style histogram clustered gap 1\nset style fill solid border -1\n"
                    "set yrange [0:100]\nset xtics noenhanced scale 0\nset key top left\n"
                    "plot 'without.dat' using 2:xtic(1) lc rgb '#0072b2' title 'test images', \\\n"
                    "     '' using 3 fill pattern 4 lc rgb '#d55e00' title 'patches shuffled', \\\n"
                    "     '' using ($0-0.17):2:(sprintf('%%.0f', $2)) with labels offset 0,0.7 notitle, \\\n"
                    "     '' using ($0+0.17):3:(sprintf('%%.0f', $3)) with labels offset 0,0.7 notitle\n");
  nb_figure(vit_plot_end(&p), "without");
  vit_dataset_free(&train);
}

/* ---- [10] --------------------------------------------------------------- */

static void tokens_once(const vit_kernels *k, int backward, float *x[4]) {
  if (!backward) k->tokens_forward(x[0], x[1], x[2], x[3], 64, 64);
  else k->tokens_backward(x[1], x[2], x[3], x[0], 64, 64);
}

static double best_time(const vit_kernels *k, int backward, float *x[4]) {
  double best;
  NB_FASTEST(best, tokens_once(k, backward, x));
  return best;
}

static void by_vectors(void) {
  float *x[4], *y[4];
  nb_cell("Vectors: the tokens of one image, 64 patches, 64 wide");
  for (int i = 0; i < 4; i++) {
    x[i] = nb_floats(65 * 64);
    nb_normal(x[i], 65 * 64, (uint32_t)i);
  }
  for (int i = 0; i < 4; i++) y[i] = nb_floats(65 * 64);
  printf("  %s                naive (us)    SIMD (us)     ratio    numbers that differ%s\n", nb_dim(), nb_plain());
  for (int backward = 0; backward < 2; backward++) {
    int differ = 0;
    for (int i = 0; i < 4; i++) memcpy(y[i], x[i], 65 * 64 * sizeof(float));
    tokens_once(&vit_naive, backward, x);
    tokens_once(vit_best_kernels(), backward, y);
    for (int i = 0; i < 4 * 65 * 64; i++)
      differ += memcmp(x[i / (65 * 64)] + i % (65 * 64), y[i / (65 * 64)] + i % (65 * 64), sizeof(float)) != 0;
    const double naive = best_time(&vit_naive, backward, x), simd = best_time(vit_best_kernels(), backward, x);
    printf("  %-13s %12.2f %12.2f %8.1fx %22d\n", backward ? "backward" : "forward", naive, simd, naive / simd,
           differ);
  }
  for (int i = 0; i < 4; i++) free(x[i]), free(y[i]);
}

int main(int argc, char **argv) {
  float image[PIXELS], tokens[5 * 9];
  vit_dataset d;
  nb_start("02-tokens", "Attention sees a set of tokens; positions tell it where each patch was.",
           argc, argv, NULL, 0);
  nb_load_few(&d, 1000, SIZE);
  nb_digit(image, &d, 4);
  nb_one_thread();
  class_token(image, tokens);
  sinusoid(tokens);
  kinds();
  why_order_matters(image);
  neighbours();
  small_forward();
  small_backward();
  numeric_check(&d);
  train_without(&d);
  by_vectors();
  vit_dataset_free(&d);
  return 0;
}
