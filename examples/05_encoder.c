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

/* ---- [8] ---------------------------------------------------------------- */

static void four(const char *name, const float *x, const char *what) {
  printf("  %-7s", name);
  for (int i = 0; i < 4; i++) printf("%8.3f", (double)x[i]);
  printf("   %s\n", what);
}

static void pencil(void) {
  const float x[4] = {1, 7, 7, 9}, dy[4] = {0, 0, 0, 1}, w[4] = {1, 1, 1, 1}, b[4] = {0};
  float y[4], mean, rstd, dx[4] = {0}, dw[4] = {0}, db[4] = {0}, slope[4];
  char what[64];
  nb_cell("Four numbers, small enough for a pencil: layer norm there and back");
  NB_RUN(vit_naive.layernorm_forward(y, &mean, &rstd, x, w, b, 1, 4, 1e-5f));
  snprintf(what, sizeof what, "mean %.3f, rstd %.3f", (double)mean, (double)rstd);
  four("x", x, what);
  four("y", y, "w = 1 and b = 0, so y is n");
  NB_RUN(vit_naive.layernorm_backward(dx, dw, db, dy, x, w, &mean, &rstd, 1, 4));
  four("dy", dy, "the loss is the last y");
  four("dx", dx, "sums to 0");
  four("dw", dw, "dy n");
  four("db", db, "dy");
  for (int i = 0; i < 4; i++) {
    float moved[4], up[4], down[4];
    memcpy(moved, x, sizeof moved);
    moved[i] = x[i] + 1.0f / 64;
    vit_naive.layernorm_forward(up, &mean, &rstd, moved, w, b, 1, 4, 1e-5f);
    moved[i] = x[i] - 1.0f / 64;
    vit_naive.layernorm_forward(down, &mean, &rstd, moved, w, b, 1, 4, 1e-5f);
    slope[i] = (up[3] - down[3]) * 32;
  }
  four("nudged", slope, "each x by 1/64 up and down: the same");
}

/* ---- [9] ---------------------------------------------------------------- */

enum { ROWS = 5, COLS = 9, MANY = ROWS * COLS };

static void run_forward(int which, float *y, float *const *in) {
  const vit_kernels *k = &vit_naive;
  float mean[ROWS], rstd[ROWS];
  if (which == 0) k->layernorm_forward(y, mean, rstd, in[0], in[1], in[2], ROWS, COLS, 1e-5f);
  if (which == 1) k->gelu_forward(y, in[0], MANY);
  if (which == 2) k->gelu_tanh_forward(y, in[0], MANY);
  if (which == 3) k->dropout(y, in[0], MANY, 0.25f, 1, 0, 0);
}

/* A loss: all outputs, each times a fixed random number, which is then dy. */
static double nudged(int which, float *const *in, const float *dy, float *at, float by) {
  const float was = *at;
  float y[MANY];
  double loss = 0;
  *at = was + by;
  run_forward(which, y, in);
  *at = was;
  for (int i = 0; i < MANY; i++) loss += (double)y[i] * (double)dy[i];
  return loss;
}

static void numeric_check(void) {
  static const char *const names[] = {"layernorm", "gelu", "gelu_tanh", "dropout"};
  static const char *const of[] = {"dx", "dw", "db"};
  float x[MANY], w[COLS], b[COLS], dy[MANY], *in[3] = {x, w, b};
  nb_cell("Is that the gradient? Each number is nudged up and down by 1/32");
  nb_normal(x, MANY, 11);
  nb_normal(w, COLS, 12);
  nb_normal(b, COLS, 13);
  nb_normal(dy, MANY, 14);
  printf("  %s                    numbers    largest gradient    largest difference%s\n", nb_dim(), nb_plain());
  for (int which = 0; which < 4; which++) {
    float d[3][MANY] = {{0}}, y[MANY], mean[ROWS], rstd[ROWS];
    vit_naive.layernorm_forward(y, mean, rstd, x, w, b, ROWS, COLS, 1e-5f);
    if (which == 0) vit_naive.layernorm_backward(d[0], d[1], d[2], dy, x, w, mean, rstd, ROWS, COLS);
    if (which == 1) vit_naive.gelu_backward(d[0], dy, x, MANY);
    if (which == 2) vit_naive.gelu_tanh_backward(d[0], dy, x, MANY);
    if (which == 3) vit_naive.dropout(d[0], dy, MANY, 0.25f, 1, 0, 0);
    for (int a = 0; a < (which ? 1 : 3); a++) {
      double top = 0, worst = 0;
      const int n = a ? COLS : MANY;
      for (int i = 0; i < n; i++) {
        const double slope = (nudged(which, in, dy, in[a] + i, 1.0f / 32) -
                              nudged(which, in, dy, in[a] + i, -1.0f / 32)) * 16;
        worst = fmax(worst, fabs(slope - (double)d[a][i]));
        top = fmax(top, fabs((double)d[a][i]));
      }
      printf("  %-10s %-3s %12d %19.3f %21.0e\n", a ? "" : names[which], of[a], n, top, worst);
    }
  }
}

/* ---- [10] --------------------------------------------------------------- */

static int without_mean, without_deviation; /* which term is forgotten */

static void short_norm_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                                const float *w, const float *mean, const float *rstd, int rows, int cols) {
  for (int r = 0; r < rows; r++, dx += cols, dy += cols, x += cols) {
    double sum_g = 0, sum_gn = 0;
    for (int d = 0; d < cols; d++) {
      const double n = (double)((x[d] - mean[r]) * rstd[r]), g = (double)(dy[d] * w[d]);
      sum_g += without_mean ? 0 : g;
      sum_gn += without_deviation ? 0 : g * n;
      dw[d] += dy[d] * (float)n;
      db[d] += dy[d];
    }
    for (int d = 0; d < cols; d++) {
      const double n = (double)((x[d] - mean[r]) * rstd[r]), g = (double)(dy[d] * w[d]);
      dx[d] += rstd[r] * (float)(g - sum_g / cols - n * sum_gn / cols);
    }
  }
}

/* dx is written, not added: the gradient of the free path is lost. */
static void writing_norm_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                                  const float *w, const float *mean, const float *rstd, int rows, int cols) {
  memset(dx, 0, (size_t)rows * (size_t)cols * sizeof(float));
  vit_naive.layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, rows, cols);
}

static void break_backward(void) {
  static const char *const names[] = {"three terms, as it is", "without average(g)", "without n average(g n)",
                                      "only rstd g", "dx written, not added", "slope of the tanh form"};
  const vit_config c = vit_config_tutorial();
  nb_cell("Break the backward: which mistakes does the gradient check find?");
  printf("  %sgradient check of the tutorial model     error, below 0.01 is right%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 6; i++) {
    vit_gradient_report r;
    vit_kernels own = vit_naive;
    own.layernorm_backward = i == 4 ? writing_norm_backward : short_norm_backward;
    if (i == 5) own.gelu_backward = vit_naive.gelu_tanh_backward;
    without_mean = i == 1 || i == 3;
    without_deviation = i == 2 || i == 3;
    nb_try(vit_gradient_check(&c, &own, 2, 1, &r));
    printf("    %-28s %14.4f   %s\n", names[i], r.worst, r.worst < 0.01 ? "right" : r.name);
  }
}

/* ---- [11] --------------------------------------------------------------- */

/* y = scale f. Where it works in place, the backward adds up gradients: that stays. */
static void no_free_path(float *y, const float *x, const float *f, float scale, int n) {
  for (int i = 0; i < n; i++) y[i] = (y == x ? x[i] : 0) + scale * f[i];
}

/* How much of the numbers' deviation is between tokens, not alike in all. */
static double apart(const float *x) {
  double between = 0;
  for (int d = 0; d < D; d++) {
    float column[T];
    for (int t = 0; t < T; t++) column[t] = x[t * D + d];
    between += pow(nb_std(column, T), 2) / D;
  }
  return sqrt(between) / nb_std(x, T * D);
}

static void free_path(const float *image) {
  enum { DEPTH = 12 };
  double with[2][DEPTH + 1];
  vit_kernels own = vit_naive;
  nb_cell("Break it: the same 12 blocks without the free path, out = f(norm(x))");
  own.residual_forward = no_free_path;
  for (int way = 0; way < 2; way++) {
    vit_config c = vit_config_tutorial();
    vit_model m;
    vit_state s;
    c.depth = DEPTH;
    c.pool = VIT_POOL_MEAN;
    nb_try(vit_model_create(&m, &c, 1));
    m.kernels = way ? &own : &vit_naive;
    nb_try(vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 0));
    nb_try(vit_forward(&m, &s, image, 1));
    with[way][0] = apart(s.tokens);
    for (int l = 0; l < DEPTH; l++) with[way][l + 1] = apart(s.out + (size_t)l * s.out_stride);
    vit_state_free(&s);
    vit_model_free(&m);
  }
  printf("  %show far the five tokens are apart, as a part of the stream's deviation%s\n"
         "  blocks        0      1      2      4      8     12\n", nb_dim(), nb_plain());
  for (int way = 0; way < 2; way++) {
    static const int at[] = {0, 1, 2, 4, 8, 12};
    printf("  %-9s", way ? "without" : "with");
    for (int i = 0; i < 6; i++) printf("%7.3f", with[way][at[i]]);
    printf("\n");
  }
}

/* ---- [12] --------------------------------------------------------------- */

static void one_pass(const float *x, int n, double *std) {
  volatile float sum = 0, squares = 0, square, mean; /* volatile: each step is a float */
  for (int d = 0; d < n; d++) {
    square = x[d] * x[d];
    sum = sum + x[d];
    squares = squares + square;
  }
  mean = sum / (float)n;
  square = mean * mean;
  *std = sqrt((double)(squares / (float)n - square) + 1e-5);
}

static void wrong_variance(void) {
  enum { WIDE = 768 };
  static const float shift[] = {0, 10, 1000, 10000};
  static const int width[] = {4, 9, 64, 768};
  float x[4][WIDE], y[WIDE], w[WIDE], b[WIDE] = {0}, mean, rstd;
  double std;
  nb_cell("Wrong: the deviation from average(x^2) - mean^2, and with D - 1");
  nb_normal(x[0], WIDE, 15);
  for (int d = 0; d < WIDE; d++) {
    w[d] = 1;
    for (int i = 3; i >= 0; i--) x[i][d] = x[0][d] + shift[i];
  }
  printf("  %s768 numbers of deviation 1, their mean      0       10     1000    10000%s\n"
         "  average((x - mean)^2), vit_naive     ", nb_dim(), nb_plain());
  for (int i = 0; i < 4; i++) {
    vit_naive.layernorm_forward(y, &mean, &rstd, x[i], w, b, 1, WIDE, 1e-5f);
    printf("%9.3f", 1 / (double)rstd);
  }
  printf("\n  the same by vectors, SIMD            ");
  for (int i = 0; i < 4; i++) {
    vit_best_kernels()->layernorm_forward(y, &mean, &rstd, x[i], w, b, 1, WIDE, 1e-5f);
    printf("%9.3f", 1 / (double)rstd);
  }
  printf("\n  average(x^2) - mean^2 in float       ");
  for (int i = 0; i < 4; i++) {
    one_pass(x[i], WIDE, &std);
    if (isnan(std)) printf("      nan");
    else printf("%9.3f", std);
  }
  printf("\n  %swidth D                                     4        9       64      768%s\n"
         "  deviation after it, with D - 1       ", nb_dim(), nb_plain());
  for (int i = 0; i < 4; i++) {
    const int n = width[i];
    const double sample = nb_std(x[0], n) * sqrt((double)n / (n - 1));
    for (int d = 0; d < n; d++) y[d] = x[0][d] / (float)sample;
    printf("%9.3f", nb_std(y, n));
  }
  printf("\n");
}

/* ---- [13] --------------------------------------------------------------- */

enum { LONG = 65, WIDTH = 192, ALL = LONG * WIDTH };

static void run_timed(const vit_kernels *k, int way, float *x[4], float *small[6]) {
  if (way == 0) k->layernorm_forward(x[1], small[0], small[1], x[0], small[2], small[3], LONG, WIDTH, 1e-5f);
  if (way == 1) {
    memset(x[1], 0, ALL * sizeof(float));
    memset(small[4], 0, WIDTH * sizeof(float));
    memset(small[5], 0, WIDTH * sizeof(float));
    k->layernorm_backward(x[1], small[4], small[5], x[2], x[0], small[2], small[0], small[1], LONG, WIDTH);
  }
  if (way == 2) k->gelu_forward(x[1], x[0], ALL);
  if (way == 3) k->gelu_backward(x[1], x[2], x[0], ALL);
  if (way == 4) k->gelu_tanh_forward(x[1], x[0], ALL);
  if (way == 5) k->gelu_tanh_backward(x[1], x[2], x[0], ALL);
  if (way == 6) k->dropout(x[1], x[0], ALL, 0.25f, 1, 0, 0);
  if (way == 7) k->residual_forward(x[1], x[0], x[2], 1, ALL);
}

static double best_time(const vit_kernels *k, int way, float *x[4], float *small[6]) {
  double best;
  NB_FASTEST(best, run_timed(k, way, x, small));
  return best;
}

static void by_vectors(void) {
  static const char *const names[] = {"layernorm_forward", "layernorm_backward", "gelu_forward", "gelu_backward",
                                      "gelu_tanh_forward", "gelu_tanh_backward", "dropout", "residual_forward"};
  float *x[2][4], *small[2][6];
  nb_cell("Vectors: 65 tokens of 192 numbers, on one thread");
  for (int t = 0; t < 2; t++) {
    for (int i = 0; i < 4; i++) nb_normal(x[t][i] = nb_floats(ALL), ALL, (uint32_t)i);
    for (int i = 0; i < 6; i++) nb_normal(small[t][i] = nb_floats(WIDTH), WIDTH, (uint32_t)i);
  }
  printf("  %s                       naive (us)    SIMD (us)     ratio    difference%s\n", nb_dim(), nb_plain());
  for (int way = 0; way < 8; way++) {
    const double naive = best_time(&vit_naive, way, x[0], small[0]);
    const double simd = best_time(vit_best_kernels(), way, x[1], small[1]);
    printf("  %-20s %12.1f %12.1f %8.1fx %13.0e\n", names[way], naive, simd, naive / simd,
           vit_max_difference(x[0][1], x[1][1], ALL));
  }
  for (int t = 0; t < 2; t++) {
    for (int i = 0; i < 4; i++) free(x[t][i]);
    for (int i = 0; i < 6; i++) free(small[t][i]);
  }
}

/* ---- [14] --------------------------------------------------------------- */

/* A state of a new model after forward and backward. Way 0 is pre-norm, 1 is
   post-norm, 2 is pre-norm without the free path, there and back (the gradient
   check is content with it). */
static const char *const ways[] = {"pre", "post", "none"};

static void there_and_back(vit_model *m, vit_state *s, vit_kernels *own, int way, int depth, const float *image) {
  const int label = 2;
  double loss;
  vit_config c = vit_config_tutorial();
  c.depth = depth;
  c.norm = way == 1 ? VIT_NORM_POST : VIT_NORM_PRE;
  c.pool = VIT_POOL_MEAN;
  c.softmax_before_loss = 0;
  *own = vit_naive;
  if (way == 2) {
    own->residual_forward = no_free_path;
    own->layernorm_backward = writing_norm_backward;
  }
  nb_try(vit_model_create(m, &c, 1));
  m->kernels = own;
  nb_try(vit_state_create(s, m, 1, VIT_FOR_TRAINING, 0));
  nb_try(vit_forward(m, s, image, 1));
  nb_try(vit_loss(m, s, &label, 0, &loss));
  vit_zero_gradients(s);
  nb_try(vit_backward(m, s, 1));
}

static void gradients_over_depth(const float *image) {
  static const int depths[] = {12, 48};
  nb_cell("How large is the gradient in the first block, against the last one?");
  printf("  %sblocks    norm         first          last       first / last%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 6; i++) {
    const int depth = depths[i / 3], way = i % 3;
    double size[2];
    vit_kernels own;
    vit_model m;
    vit_state s;
    there_and_back(&m, &s, &own, way, depth, image);
    for (int last = 0; last < 2; last++) {
      char name[64];
      vit_tensor t;
      double sum = 0;
      snprintf(name, sizeof name, "blocks.%d.mlp.fc2.weight", last ? depth - 1 : 0);
      nb_try(vit_tensor_find(&m.config, name, &t));
      vit_naive.sum_squares(&sum, s.grads.block + t.offset, (int)t.count);
      size[last] = sqrt(sum);
    }
    printf("  %6d    %-4s   %11.4f   %11.4f   %16.3f\n", depth, ways[way], size[0], size[1], size[0] / size[1]);
    vit_state_free(&s);
    vit_model_free(&m);
  }
}

/* ---- [15] --------------------------------------------------------------- */

static double average(const float *x, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += (double)x[i] / n;
  return sum;
}

/* Correlation of what a block adds with what was there: 1 along, -1 against. */
static double along(const float *x, const float *added) {
  const double mx = average(x, T * D), ma = average(added, T * D);
  double sum = 0;
  for (int i = 0; i < T * D; i++) sum += ((double)x[i] - mx) * ((double)added[i] - ma) / (T * D);
  return sum / (nb_std(x, T * D) * nb_std(added, T * D));
}

static void twelve_blocks(const float *image) {
  enum { DEPTH = 12 };
  double table[DEPTH][6];
  nb_cell("Twelve new blocks: what each one adds, what a norm in the stream takes");
  for (int way = 0; way < 3; way++) {
    vit_kernels own;
    vit_model m;
    vit_state s;
    there_and_back(&m, &s, &own, way, DEPTH, image);
    for (int l = 0; l < DEPTH; l++) {
      const float *x = l ? s.out + (size_t)(l - 1) * s.out_stride : s.tokens;
      const float *out = s.out + (size_t)l * s.out_stride;
      float added[T * D];
      for (int i = 0; i < T * D; i++) added[i] = out[i] - x[i];
      if (way == 0) {
        table[l][0] = nb_std(out, T * D);
        table[l][1] = nb_std(added, T * D);
        table[l][2] = along(x, added);
      } else if (way == 1) {
        table[l][3] = average(s.norm1_rstd + (size_t)l * s.norm1_rstd_stride, T);
        table[l][4] = average(s.norm2_rstd + (size_t)l * s.norm2_rstd_stride, T);
      } else table[l][5] = nb_std(out, T * D);
    }
    vit_state_free(&s);
    vit_model_free(&m);
  }
  printf("  %s       pre-norm                     post-norm          no free path\n"
         "  block   size   added   along        s of 1   s of 2      size%s\n", nb_dim(), nb_plain());
  for (int l = 0; l < DEPTH; l++)
    printf("  %5d  %5.2f  %6.2f  %6.2f       %7.2f  %7.2f   %7.2f\n", l + 1, table[l][0], table[l][1], table[l][2],
           table[l][3], table[l][4], table[l][5]);
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
  pencil();
  numeric_check();
  break_backward();
  free_path(image);
  wrong_variance();
  by_vectors();
  gradients_over_depth(image);
  twelve_blocks(image);
  return 0;
}
