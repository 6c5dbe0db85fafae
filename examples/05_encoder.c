// One encoder block from the inside: norm, attention, MLP, and the residual stream they add to.
//
// A block never replaces its input, it adds to it: x + attention(norm(x)), then x + MLP(norm(x)).
// What is added, how large it is, and what dropout does to it is printed step by step. Read
// beside it: chapter 05 of vit.h.
#include "common.h"

enum { SIZE = 32, PIXELS = SIZE * SIZE, T = 5, D = 9, H = 3, Dh = 3, M = 36 };

/* Rounding leaves -1e-9 where 0 is meant. */
static double mean_of(const float *x, int n) {
  double mean = nb_mean(x, n);
  return fabs(mean) < 5e-4 ? 0 : mean;
}

/* ---- [1] and [2] -------------------------------------------------------- */

static void row(const char *name, const float *x, int rows, int cols, const char *what) {
  char shape[24];
  snprintf(shape, sizeof shape, "[%d, %d]", rows, cols);
  printf("  %-12s %-9s %7.3f %6.3f  %s%s%s\n", name, shape, mean_of(x, rows * cols),
         nb_std(x, rows * cols), nb_dim(), what, nb_plain());
}

static void print_fields(const vit_state *s) {
  float added[2][T * D];
  for (int i = 0; i < T * D; i++) {
    added[0][i] = s->residual2[i] - s->tokens[i];
    added[1][i] = s->out[i] - s->residual2[i];
  }
  printf("  %sfield of s   shape        mean    std  what it is%s\n", nb_dim(), nb_plain());
  row("patches", s->patches, 4, 256, "pixels of each patch");
  row("patch_embed", s->patch_embed, 4, D, "projected patches");
  row("tokens", s->tokens, T, D, "x: class token, patches; with positions");
  row("norm1", s->norm1, T, D, "layer norm of x");
  row("qkv", s->qkv, T, 3 * D, "queries, keys and values of 3 heads");
  row("attn", s->attn, H * T, T, "attention of 3 heads, rows sum to 1");
  row("atty", s->atty, T, D, "outputs of the heads, side by side");
  row("+ attention", added[0], T, D, "projected: what attention adds");
  row("residual2", s->residual2, T, D, "x + attention");
  row("norm2", s->norm2, T, D, "layer norm of it");
  row("fch", s->fch, T, M, "MLP, first layer: 4 times as wide");
  row("fch_gelu", s->fch_gelu, T, M, "after GELU");
  row("+ MLP", added[1], T, D, "second layer: what the MLP adds");
  row("out", s->out, T, D, "residual2 + MLP: into the next block");
  row("logits", s->logits, 1, 10, "after block 2: head on the class token");
}

/* The block once more, as plain calls of kernels: this is all that it does. */
static void by_hand(const vit_tensors *w, const vit_state *s, float eps) {
  const vit_kernels k = vit_naive;
  float norm1[T * D], mean[T], rstd[T], qkv[T * 3 * D], attn[H * T * T], atty[T * D];
  float attproj[T * D], residual2[T * D], norm2[T * D], fch[T * M], fch_gelu[T * M];
  float fcproj[T * D], out[T * D];
  nb_cell("The same block by hand: each line is one kernel of vit.h");
  NB_RUN(k.layernorm_forward(norm1, mean, rstd, s->tokens, w->norm1_w, w->norm1_b, T, D, eps));
  NB_RUN(k.linear_forward(qkv, norm1, w->qkv_w, w->qkv_b, T, D, 3 * D));
  nb_code("for (int h = 0; h < H; h++) {");
  nb_code("  q = qkv + h * Dh, p = attn + h * T * T;");
  nb_code("  k.attention_scores_forward(p, q, q + D, NULL, T, T, Dh, 3 * D);");
  nb_code("  k.attention_values_forward(atty + h * Dh, p, q + 2 * D, T, T, Dh, 3 * D, D); }");
  for (int h = 0; h < H; h++) {
    const float *q = qkv + h * Dh;
    float *p = attn + h * T * T;
    k.attention_scores_forward(p, q, q + D, NULL, T, T, Dh, 3 * D);
    k.attention_values_forward(atty + h * Dh, p, q + 2 * D, T, T, Dh, 3 * D, D);
  }
  NB_RUN(k.linear_forward(attproj, atty, w->proj_w, w->proj_b, T, D, D));
  NB_RUN(k.residual_forward(residual2, s->tokens, attproj, 1, T * D));
  NB_RUN(k.layernorm_forward(norm2, mean, rstd, residual2, w->norm2_w, w->norm2_b, T, D, eps));
  NB_RUN(k.linear_forward(fch, norm2, w->fc1_w, w->fc1_b, T, D, M));
  NB_RUN(k.gelu_forward(fch_gelu, fch, T * M));
  NB_RUN(k.linear_forward(fcproj, fch_gelu, w->fc2_w, w->fc2_b, T, M, D));
  NB_RUN(k.residual_forward(out, residual2, fcproj, 1, T * D));
  printf("  %slargest difference to the model's%s\n", nb_dim(), nb_plain());
  printf("  norm1 %.1g   qkv %.1g   attn %.1g   atty %.1g   residual2 %.1g\n",
         vit_max_difference(norm1, s->norm1, T * D), vit_max_difference(qkv, s->qkv, T * 3 * D),
         vit_max_difference(attn, s->attn, H * T * T), vit_max_difference(atty, s->atty, T * D),
         vit_max_difference(residual2, s->residual2, T * D));
  printf("  norm2 %.1g   fch %.1g   fch_gelu %.1g   out %.1g   (rounding)\n",
         vit_max_difference(norm2, s->norm2, T * D), vit_max_difference(fch, s->fch, T * M),
         vit_max_difference(fch_gelu, s->fch_gelu, T * M), vit_max_difference(out, s->out, T * D));
}

static void one_block(const float *image) {
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  nb_cell("The first of two blocks, one digit: every intermediate, in order");
  NB_RUN(c.depth = 2);
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 0));
  NB_RUN(nb_try(vit_forward(&m, &s, image, 1)));
  print_fields(&s);
  by_hand(&m.params, &s, m.config.norm_eps);
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- [3] ---------------------------------------------------------------- */

static void draw_norm(const float *x, const float *y, const char *const *names) {
  vit_plot p;
  nb_try(vit_plot_begin(&p, nb_out, "layernorm", 960, 420));
  fprintf(p.script, "set multiplot layout 1,2 title \"What does layer norm do to a row of 8 numbers? Scale and "
                    "shift are gone, the shape stays\"\nset xlabel 'column (d)'\nset xtics 1\n"
                    "set xrange [-0.3:7.3]\nset grid lt 1 lc rgb '#cccccc' lw 1\n");
  for (int r = 0; r < 4; r++) {
    for (int d = 0; d < 8; d++)
      fprintf(p.data, "%d %.5f %.5f\n", d, (double)x[r * 8 + d], (double)y[r * 8 + d]);
    fprintf(p.data, "\n\n");
  }
  for (int after = 0; after < 2; after++) {
    fprintf(p.script, "set title '%s'\nset ylabel 'value'\nset key %s\nplot ",
            after ? "after: the first three rows are one" : "before", after ? "off" : "top left");
    for (int r = 0; r < 4; r++)
      fprintf(p.script, "%s'layernorm.dat' index %d using 1:%d with linespoints ps %.1f title '%s'",
              r ? ", " : "", r, 2 + after, after ? 1.8 - 0.4 * r : 0.8, names[r]);
    fprintf(p.script, "\n");
  }
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "layernorm");
}

static void layer_norm(void) {
  static const char *const names[] = {"x", "10 x + 3", "0.1 x", "one outlier"};
  float x[4 * 8], y[4 * 8], w[8], b[8] = {0}, mean[4], rstd[4];
  nb_cell("Layer norm: each token gets mean 0 and deviation 1, whatever came in");
  nb_normal(x, 8, 3);
  for (int d = 0; d < 8; d++) {
    w[d] = 1;
    x[8 + d] = 10 * x[d] + 3;
    x[16 + d] = 0.1f * x[d];
    x[24 + d] = d == 7 ? 50 : x[d];
  }
  NB_RUN(vit_naive.layernorm_forward(y, mean, rstd, x, w, b, 4, 8, 1e-5f));
  printf("  %s%-11s %5s %5s ->%5s %5s  the row after it%s\n", nb_dim(), "", "mean", "std", "mean",
         "std", nb_plain());
  for (int r = 0; r < 4; r++) {
    printf("  %-11s %5.2f %5.2f ->%5.2f %5.2f ", names[r], mean_of(x + r * 8, 8),
           nb_std(x + r * 8, 8), mean_of(y + r * 8, 8), nb_std(y + r * 8, 8));
    for (int d = 0; d < 8; d++) printf("%5.1f", (double)y[r * 8 + d]);
    printf("\n");
  }
  nb_say("Scale and shift are taken away: the first three rows come out the same. One outlier "
         "flattens its own row, and no other: norm works on tokens one by one.");
  draw_norm(x, y, names);
}

/* ---- [4] ---------------------------------------------------------------- */

static void pre_and_post(const float *image) {
  enum { DEPTH = 12 };
  vit_plot p;
  float size[2][DEPTH + 1];
  nb_cell("Pre-norm or post-norm: how large the stream is after each of 12 blocks");
  for (int post = 0; post < 2; post++) {
    vit_config c = vit_config_tutorial();
    vit_model m;
    vit_state s;
    c.depth = DEPTH;
    c.norm = post ? VIT_NORM_POST : VIT_NORM_PRE;
    c.pool = VIT_POOL_MEAN; /* then the last block has all tokens, too */
    nb_try(vit_model_create(&m, &c, 1));
    nb_try(vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 0));
    nb_try(vit_forward(&m, &s, image, 1));
    size[post][0] = (float)nb_std(s.tokens, T * D);
    for (int l = 0; l < DEPTH; l++)
      size[post][l + 1] = (float)nb_std(s.out + (size_t)l * s.out_stride, T * D);
    vit_state_free(&s);
    vit_model_free(&m);
  }
  nb_try(vit_plot_begin(&p, nb_out, "norm", 640, 400));
  printf("  %sblocks   pre-norm                            post-norm%s\n", nb_dim(), nb_plain());
  for (int l = 0; l <= DEPTH; l++) {
    fprintf(p.data, "%d %.4f %.4f\n", l, (double)size[0][l], (double)size[1][l]);
    if (l % 2) continue;
    printf("  %6d   %5.2f  ", l, (double)size[0][l]);
    nb_bar((double)size[0][l] / 2.5, 24);
    printf("     %5.2f  ", (double)size[1][l]);
    nb_bar((double)size[1][l] / 2.5, 24);
    printf("\n");
  }
  nb_say("Pre-norm keeps a free path from end to end, on which everything adds up (the last norm of "
         "a deep model tames it). Post-norm cuts it back to 1 after every sum.");
  nb_axes(&p, "How large is the stream after each of 12 untrained blocks?", "blocks passed",
          "standard deviation of the tokens");
  fprintf(p.script, "set yrange [0:*]\nset xrange [0:12]\nset key left top\n"
                    "plot 'norm.dat' using 1:2 with linespoints title 'pre-norm: out = x + f(norm(x))', \\\n"
                    "     '' using 1:3 with linespoints title 'post-norm: out = norm(x + f(x))'\n");
  nb_figure(vit_plot_end(&p), "norm");
}

/* ---- [5] ---------------------------------------------------------------- */

static void gelu(void) {
  enum { N = 801 };
  float x[N], exact[N], tanh_form[N];
  int worst = 0;
  vit_plot p;
  nb_cell("GELU lets large numbers through and small ones less: x times P(normal < x)");
  for (int i = 0; i < N; i++) x[i] = -4 + 0.01f * (float)i;
  NB_RUN(vit_naive.gelu_forward(exact, x, N));
  NB_RUN(vit_naive.gelu_tanh_forward(tanh_form, x, N));
  nb_try(vit_plot_begin(&p, nb_out, "gelu", 900, 380));
  for (int i = 0; i < N; i++) {
    float error = fabsf(exact[i] - tanh_form[i]);
    if (error > fabsf(exact[worst] - tanh_form[worst])) worst = i;
    fprintf(p.data, "%.2f %.6f %.6f\n", (double)x[i], (double)exact[i], (double)tanh_form[i]);
  }
  printf("  %s     x   exact (erf)   tanh form    ReLU%s\n", nb_dim(), nb_plain());
  for (int i = 100; i < N; i += 100)
    printf("  %6.1f %13.4f %11.4f %7.1f\n", (double)x[i], (double)exact[i], (double)tanh_form[i],
           x[i] > 0 ? (double)x[i] : 0.0);
  printf("  largest difference of the two forms: %.5f, at x = %.2f\n",
         fabs((double)exact[worst] - (double)tanh_form[worst]), (double)x[worst]);
  nb_axes(&p, "GELU and ReLU: small numbers pass in part", "x", "y");
  fprintf(p.script, "set multiplot layout 1,2\nset key left top\n"
                    "plot 'gelu.dat' using 1:2 with lines title 'GELU, exact', \\\n"
                    "     '' using 1:3 with lines dt 2 title 'GELU, tanh form', \\\n"
                    "     '' using 1:($1 > 0 ? $1 : 0) with lines lt 7 lw 1 dt 3 title 'ReLU'\n"
                    "unset key\nset title 'How far is the tanh form from the exact one?'\nset ylabel 'tanh form - exact'\n"
                    "plot 'gelu.dat' using 1:($3-$2) with lines\nunset multiplot\n");
  nb_figure(vit_plot_end(&p), "gelu");
}

/* ---- [6] ---------------------------------------------------------------- */

static void dropout(void) {
  enum { N = 100000 };
  static const uint32_t seeds[] = {1, 2, 1};
  float *ones = nb_floats(N), *y = nb_floats(N);
  for (int i = 0; i < N; i++) ones[i] = 1;
  nb_cell("Dropout: each number becomes 0 with probability 0.25, the others grow");
  nb_code("vit_naive.dropout(y, ones, 100000, 0.25f, seed, stream, 0);");
  for (int i = 0; i < 3; i++) {
    vit_naive.dropout(y, ones, N, 0.25f, seeds[i], 0, 0);
    printf("  seed %d  ", (int)seeds[i]);
    for (int j = 0; j < 9; j++) printf("%5.2f", (double)y[j]);
    printf(" ...  mean of all %.4f\n", nb_mean(y, N));
  }
  nb_say("The same seed gives the same mask, so none is stored: the backward asks for it again. "
         "1 / 0.75 = 1.33 keeps the mean at 1, so that nothing has to change when it is off.");
  free(ones);
  free(y);
}

/* ---- [7] ---------------------------------------------------------------- */

static void stochastic_depth(const float *image) {
  enum { DEPTH = 6, B = 32 };
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  float *images = nb_floats(B * PIXELS);
  nb_cell("Stochastic depth: in training, branches are skipped, deeper ones more often");
  for (int b = 0; b < B; b++) memcpy(images + b * PIXELS, image, PIXELS * sizeof(float));
  NB_RUN(c.drop_path = 0.5f; c.depth = 6; c.pool = VIT_POOL_MEAN);
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, B, VIT_FOR_TRAINING, 1));
  nb_try(vit_forward(&m, &s, images, B));
  printf("  %sattention of 32 times the same image: # added, . skipped      rate   skipped%s\n",
         nb_dim(), nb_plain());
  for (int l = 0; l < DEPTH; l++) {
    const float *in = l ? s.out + (size_t)(l - 1) * s.out_stride : s.tokens;
    const float *mid = s.residual2 + (size_t)l * s.residual2_stride;
    int skipped = 0;
    printf("  block %d      ", l);
    for (int b = 0; b < B; b++) { /* skipped: the sum is its first half */
      int same = !memcmp(mid + b * T * D, in + b * T * D, T * D * sizeof(float));
      printf("%c", same ? '.' : '#');
      skipped += same;
    }
    printf("                    %.1f %9d\n", 0.5 * l / (DEPTH - 1), skipped);
  }
  NB_RUN(s.dropout = 0; nb_try(vit_forward(&m, &s, images, B)));
  nb_say("With dropout = 0, as in vit_predict, all branches are there: the 32 logits are %s.",
         memcmp(s.logits, s.logits + 31 * 10, 10 * sizeof(float)) ? "DIFFERENT" : "the same");
  vit_state_free(&s);
  vit_model_free(&m);
  free(images);
}

int main(int argc, char **argv) {
  float image[PIXELS];
  vit_dataset d;
  nb_start("05-encoder", "A block adds to its input: attention mixes tokens, the MLP works on each.",
           argc, argv, NULL, 0);
  nb_load_few(&d, 1000, SIZE);
  nb_digit(image, &d, 2);
  vit_dataset_free(&d);
  one_block(image);
  layer_norm();
  pre_and_post(image);
  gelu();
  dropout();
  stochastic_depth(image);
  return 0;
}
