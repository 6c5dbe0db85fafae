// One attention head, worked out by hand and by the kernels: who looks at whom, and how much.
//
//     P = softmax(Q K^T / sqrt(Dh) + mask),   O = P V
//
// Each token asks (query Q), each token offers (key K); where they match, the value V flows. Read
// beside it: chapter 03 of vit.h.
#include "common.h"

enum { SIZE = 32, T = 5, D = 9, Dh = 3 };
static const char *const names[] = {"CLS", "P1", "P2", "P3", "P4"};

/* ---- [1] ---------------------------------------------------------------- */

static void two_tokens(void) {
  const float q[4] = {1, 0, 1, 1}, k[4] = {0, 1, 1, 0}, v[4] = {2, 0, 2, 4};
  double e = exp(1 / sqrt(2.0)), p = e / (1 + e); /* softmax of (0, 0.707) */
  float probs[4], o[4];
  nb_cell("Two tokens, small enough for a pencil");
  printf("  Q = 1 0    K = 0 1    V = 2 0        Q K^T = 1*0+0*1  1*1+0*0  =  0 1\n"
         "      1 1        1 0        2 4                1*0+1*1  1*1+1*0     1 1\n\n"
         "  / sqrt(2) = 0.000 0.707     softmax = 1/(1+e)  e/(1+e)  =  %.3f %.3f\n"
         "              0.707 0.707               1/2      1/2         0.500 0.500\n"
         "                              where e = exp(0.707) = %.3f\n"
         "\n  O = P V:  token 1 = %.3f * (2 0) + %.3f * (2 4) = (2 %.3f)\n"
         "            token 2 = 0.500 * (2 0) + 0.500 * (2 4) = (2 2.000)\n",
         1 - p, p, e, 1 - p, p, 4 * p);
  NB_RUN(vit_naive.attention_scores_forward(probs, q, k, NULL, 2, 2, 2, 2));
  nb_matrix(probs, 2, 2, " %6.3f", NULL);
  NB_RUN(vit_naive.attention_values_forward(o, probs, v, 2, 2, 2, 2, 2));
  nb_matrix(o, 2, 2, " %6.3f", NULL);
}

/* ---- [2] ---------------------------------------------------------------- */

/* Row t of y = W x_t + b: three such projections make Q, K and V. */
static void project(float *y, const float *x, const float *w, const float *b) {
  for (int t = 0; t < T; t++)
    for (int i = 0; i < Dh; i++) {
      float sum = b[i];
      for (int d = 0; d < D; d++) sum += w[i * D + d] * x[t * D + d];
      y[t * Dh + i] = sum;
    }
}

/* Head 0 of block 0: its Q, K and V are rows 0, 9 and 18 of the fused weight. */
static void queries_keys_values(const vit_model *m, const float *x, float *q, float *k, float *v) {
  const float *w = m->params.qkv_w, *b = m->params.qkv_b;
  nb_cell("One digit, five tokens: each asks (Q), offers (K) and carries (V)");
  NB_RUN(project(q, x, w, b));
  NB_RUN(project(k, x, w + 9 * D, b + 9));
  NB_RUN(project(v, x, w + 18 * D, b + 18));
  printf("  %s               Q                       K                       V%s\n", nb_dim(),
         nb_plain());
  for (int t = 0; t < T; t++) {
    const float *rows[3] = {q + t * Dh, k + t * Dh, v + t * Dh};
    printf("  %s%-4s%s", nb_dim(), names[t], nb_plain());
    for (int i = 0; i < 3; i++)
      printf("%s%7.3f%7.3f%7.3f", i ? "   " : "", (double)rows[i][0], (double)rows[i][1], (double)rows[i][2]);
    printf("\n");
  }
}

/* ---- [3] and [4] -------------------------------------------------------- */

/* By hand: the three steps as plain loops. */
static void scores_by_hand(float *p, const float *q, const float *k) {
  for (int i = 0; i < T; i++) {
    float sum = 0;
    for (int j = 0; j < T; j++) {
      float dot = 0;
      for (int d = 0; d < Dh; d++) dot += q[i * Dh + d] * k[j * Dh + d];
      p[i * T + j] = expf(dot / sqrtf((float)Dh)); /* small scores: exp cannot overflow */
      sum += p[i * T + j];
    }
    for (int j = 0; j < T; j++) p[i * T + j] /= sum;
  }
}

static void values_by_hand(float *o, const float *p, const float *v) {
  for (int i = 0; i < T; i++)
    for (int d = 0; d < Dh; d++) {
      o[i * Dh + d] = 0;
      for (int j = 0; j < T; j++) o[i * Dh + d] += p[i * T + j] * v[j * Dh + d];
    }
}

static void by_hand_and_by_code(const vit_model *m, const vit_state *s, const float *q,
                                const float *k, const float *v, float *p) {
  const float *model = vit_attention(m, s, 0, 0, 0);
  float naive[T * T], simd[T * T], o[T * Dh], o2[T * Dh];
  nb_cell("The attention matrix by hand: row i says how token i divides its attention");
  NB_RUN(scores_by_hand(p, q, k));
  nb_table(p, T, T, " %6.3f", names, names, 1);
  nb_say("Each row sums to 1. The model is not trained yet: the rows are nearly alike, "
         "what a token looks at hardly depends on who asks.");
  NB_RUN(values_by_hand(o, p, v));
  nb_matrix(o, T, Dh, " %6.3f", names);

  nb_cell("The same by the kernels, and what the whole model computed");
  NB_RUN(vit_naive.attention_scores_forward(naive, q, k, NULL, 5, 5, 3, 3));
  NB_RUN(vit_best_kernels()->attention_scores_forward(simd, q, k, NULL, 5, 5, 3, 3));
  NB_RUN(vit_naive.attention_values_forward(o2, naive, v, 5, 5, 3, 3, 3));
  printf("  largest difference to the loops\n"
         "  naive   %.1g\n"
         "  SIMD    %.1g\n"
         "  model   %.1g   (vit_attention, block 0, head 0)\n"
         "  values  %.1g\n",
         vit_max_difference(p, naive, T * T), vit_max_difference(p, simd, T * T),
         vit_max_difference(p, model, T * T), vit_max_difference(o, o2, T * Dh));
}

/* ---- [5] ---------------------------------------------------------------- */

static void local_mask(void) {
  enum { GRID = 4, N = GRID * GRID + 1 };
  float mask[N * N], q[N * 8], k[N * 8], p[N * N];
  int row = 6;
  vit_plot plot;
  nb_cell("A local mask: a patch sees the 3 x 3 patches around it (# seen, . masked)");
  NB_RUN(vit_local_mask(mask, 4, 4, 3, 1));
  for (int i = 0; i < N; i++) {
    char name[8];
    snprintf(name, sizeof name, i ? "P%d" : "CLS", i);
    printf("  %s%-5s%s", nb_dim(), name, nb_plain());
    for (int j = 0; j < N; j++) printf(" %c", mask[i * N + j] < 0 ? '.' : '#');
    if (i >= 2 && i < 6) { /* beside it: one row as the grid it stands for */
      printf(i == 2 ? "     what P6 sees:  " : "                    ");
      for (int j = 0; j < GRID; j++)
        printf(" %c", mask[row * N + 1 + (i - 2) * GRID + j] < 0 ? '.' : '#');
    }
    printf("\n");
  }
  nb_normal(q, N * 8, 1);
  nb_normal(k, N * 8, 2);
  NB_RUN(vit_naive.attention_scores_forward(p, q, k, mask, 17, 17, 8, 8));
  printf("  P6 gives %.3f to P1, %.3f to P11, and 0 to a masked patch: P16 %.3f\n",
         (double)p[row * N + 1], (double)p[row * N + 11], (double)p[row * N + 16]);
  nb_say("The mask is 0 or -infinity and is added to the scores: exp(-infinity) = 0.");
  nb_try(vit_plot_begin(&plot, nb_out, "mask", 960, 500));
  for (int i = 0; i < N * N; i++) mask[i] = mask[i] < 0 ? 0.0f : 1.0f; /* as a picture */
  fprintf(plot.script, "set multiplot layout 1,2 title \"What does a patch see through a 3 x 3 mask? "
                       "Framed: the row of patch P6\"\n"
                       "set palette defined (0 '#ffffff', 1 '#0072b2')\nset cbrange [0:1]\n"
                       "unset colorbox\nset size ratio -1\nset tics scale 0\n"
                       "set xlabel '... sees this token (blue)'\nset ylabel 'This token ...'\n"
                       "set xtics ('CLS' 0, 'P4' 4, 'P8' 8, 'P12' 12, 'P16' 16)\n"
                       "set ytics ('CLS' 0, 'P2' 2, 'P4' 4, 'P6' 6, 'P8' 8, 'P12' 12, 'P16' 16)\n");
  nb_mark(&plot, 0, row, N - 1, row);
  nb_panel(&plot, 0, "The mask [17, 17]", mask, N, N, NULL, 0);
  fprintf(plot.script, "unset arrow\nset xtics 1\nset ytics 1\nset xlabel 'column of the grid'\n"
                       "set ylabel 'row of the grid'\n");
  for (int i = 0; i < GRID * GRID; i++)
    fprintf(plot.script, "set label 'P%d' at %d,%d center front tc rgb '%s'\n", i + 1, i % GRID,
            i / GRID, mask[row * N + 1 + i] > 0 ? "#ffffff" : "#000000");
  nb_mark(&plot, (row - 1) % GRID, (row - 1) / GRID, (row - 1) % GRID, (row - 1) / GRID);
  nb_panel(&plot, 1, "Row P6 as the grid of patches", mask + row * N + 1, GRID, GRID, NULL, 0);
  fprintf(plot.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&plot), "mask");
}

/* ---- [6] ---------------------------------------------------------------- */

/* Average over the rows of the largest of their 5 weights. */
static double average_top(const float *p, int rows) {
  double sum = 0;
  for (int i = 0; i < rows; i++, p += 5) {
    float best = p[0];
    for (int j = 1; j < 5; j++) best = p[j] > best ? p[j] : best;
    sum += (double)best;
  }
  return sum / rows;
}

static void why_scale(void) {
  enum { KEYS = 5, TRIALS = 2000, MANY = KEYS * TRIALS, WIDEST = 256 };
  float *q = nb_floats(WIDEST * TRIALS), *k = nb_floats(WIDEST * MANY);
  float *raw = nb_floats(MANY), *scaled = nb_floats(MANY);
  vit_plot p;
  nb_cell("Why divide by sqrt(Dh)? Random Q and K, 2,000 tokens that choose among 5");
  nb_normal(q, WIDEST * TRIALS, 1);
  nb_normal(k, WIDEST * MANY, 2);
  nb_try(vit_plot_begin(&p, nb_out, "scale", 640, 400));
  printf("  %s       variance of                      mean largest of 5 weights\n"
         "    Dh           q.k     q.k/sqrt(Dh)        unscaled    scaled%s\n",
         nb_dim(), nb_plain());
  for (int width = 1; width <= WIDEST; width *= 4) {
    for (int i = 0; i < MANY; i++) {
      double dot = 0;
      for (int d = 0; d < width; d++)
        dot += (double)(q[i / KEYS * WIDEST + d] * k[i * WIDEST + d]);
      raw[i] = (float)dot;
      scaled[i] = (float)(dot / sqrt((double)width));
    }
    printf("  %4d %13.2f %16.2f", width, pow(nb_std(raw, MANY), 2), pow(nb_std(scaled, MANY), 2));
    vit_naive.softmax_forward(raw, raw, TRIALS, KEYS);
    vit_naive.softmax_forward(scaled, scaled, TRIALS, KEYS);
    printf(" %15.3f %9.3f\n", average_top(raw, TRIALS), average_top(scaled, TRIALS));
    fprintf(p.data, "%d %.4f %.4f\n", width, average_top(raw, TRIALS), average_top(scaled, TRIALS));
  }
  nb_say("The variance of a dot product grows with its width. Unscaled, softmax soon picks a single "
         "token and its gradient is lost; divided by sqrt(Dh), it stays open at any width.");
  nb_axes(&p, "Why divide by sqrt(Dh)? Without it, a wide head looks at one token only",
          "width of the head (Dh)", "mean largest of 5 attention weights");
  fprintf(p.script,
          "set logscale x 4\nset xrange [0.8:320]\nset yrange [0:1.05]\nset key bottom right\n"
          "plot 'scale.dat' using 1:2 with linespoints lt 2 title 'softmax(q.k)', \\\n"
          "     '' using 1:3 with linespoints lt 1 title 'softmax(q.k / sqrt(Dh))'\n");
  nb_figure(vit_plot_end(&p), "scale");
  free(q);
  free(k);
  free(raw);
  free(scaled);
}

/* ---- [7] ---------------------------------------------------------------- */

static void draw(const float *image, const float *p) {
  vit_plot plot;
  nb_cell("The matrix of [3] as a picture");
  nb_try(vit_plot_begin(&plot, nb_out, "attention", 960, 450));
  fprintf(plot.script, "set multiplot layout 1,2 title \"Who looks at whom? A digit 4, head 0 of block 0, "
                       "not trained yet:\\nthe rows are nearly alike\"\n"
                       "set xtics 8\nset ytics 8\nset xlabel 'column'\nset ylabel 'row'\n");
  for (int n = 0; n < 4; n++)
    fprintf(plot.script, "set label %d 'P%d' at %d,%d front tc rgb '#e69f00'\n", n + 1, n + 1,
            n % 2 * 27 + 1, n / 2 * 27 + 2);
  nb_image_panel(&plot, 0, "The digit and its four patches", image, SIZE, 16);
  nb_attention_style(&plot);
  fprintf(plot.script, "set colorbox\n");
  nb_panel(&plot, 1, "Attention: each row sums to 1", p, T, T, "%.2f", 0.55);
  fprintf(plot.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&plot), "attention");
}

/* ---- [8] ---------------------------------------------------------------- */

static void pair(const char *a, const float *x, const char *b, const float *y) {
  for (int i = 0; i < 4; i += 2)
    printf("  %-3s %7.3f %7.3f      %-3s %7.3f %7.3f\n", i ? "" : a, (double)x[i], (double)x[i + 1], i ? "" : b,
           (double)y[i], (double)y[i + 1]);
}

static void two_tokens_backward(void) {
  const float q[4] = {1, 0, 1, 1}, k[4] = {0, 1, 1, 0}, v[4] = {2, 0, 2, 4}, d_o[4] = {0, 1, 0, 1};
  float p[4], dp[4], dv[4], ds[4], dq[4], dk[4];
  nb_cell("The two tokens backward: the loss is the sum of O's second column");
  vit_naive.attention_scores_forward(p, q, k, NULL, 2, 2, 2, 2);
  NB_RUN(vit_naive.attention_values_backward(dp, dv, d_o, p, v, 2, 2, 2, 2, 2));
  pair("dP", dp, "dV", dv);
  NB_RUN(vit_naive.softmax_backward(ds, dp, p, 2, 2));
  pair("P", p, "dS", ds);
  NB_RUN(vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, 2, 2, 2, 2));
  pair("dQ", dq, "dK", dk);
}

/* ---- [9] ---------------------------------------------------------------- */

/* A loss: the outputs of the head, each times a fixed random number. */
static double head_loss(const float *q, const float *k, const float *v, const float *weights) {
  float p[T * T], o[T * Dh];
  double loss = 0;
  vit_naive.attention_scores_forward(p, q, k, NULL, T, T, Dh, Dh);
  vit_naive.attention_values_forward(o, p, v, T, T, Dh, Dh, Dh);
  for (int i = 0; i < T * Dh; i++) loss += (double)o[i] * (double)weights[i];
  return loss;
}

static void numeric_check(float *q, float *k, float *v) {
  float p[T * T], dp[T * T], d[3][T * Dh], weights[T * Dh], *x[3] = {q, k, v};
  nb_cell("Is that the gradient? Nudge each number of Q, K and V, look at the loss");
  nb_normal(weights, T * Dh, 3);
  vit_naive.attention_scores_forward(p, q, k, NULL, T, T, Dh, Dh);
  NB_RUN(vit_naive.attention_values_backward(dp, d[2], weights, p, v, 5, 5, 3, 3, 3));
  NB_RUN(vit_naive.attention_scores_backward(d[0], d[1], dp, p, q, k, 5, 5, 3, 3));
  printf("  %s     numbers    largest gradient    largest difference%s\n", nb_dim(), nb_plain());
  for (int a = 0; a < 3; a++) {
    const float h = 1.0f / 32;
    double worst = 0, top = 0;
    for (int i = 0; i < T * Dh; i++) {
      const float was = x[a][i];
      double up, down;
      x[a][i] = was + h;
      up = head_loss(q, k, v, weights);
      x[a][i] = was - h;
      down = head_loss(q, k, v, weights);
      x[a][i] = was;
      worst = fmax(worst, fabs((up - down) / (2 * (double)h) - (double)d[a][i]));
      top = fmax(top, fabs((double)d[a][i]));
    }
    printf("  d%c  %8d  %18.4f  %20.0e\n", "QKV"[a], T * Dh, top, worst);
  }
}

/* ---- [10] --------------------------------------------------------------- */

static void times(float *x, float factor, int rows, int width, int stride) {
  for (int i = 0; i < rows; i++)
    for (int d = 0; d < width; d++) x[i * stride + d] *= factor;
}

/* The gradient without the scale; the forward has it. */
static void backward_unscaled(float *dq, float *dk, float *dp, const float *p, const float *q,
                              const float *k, int rows, int tokens, int width, int stride) {
  vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, rows, tokens, width, stride);
  times(dq, sqrtf((float)width), rows, width, stride);
  times(dk, sqrtf((float)width), tokens, width, stride);
}

static void forward_unscaled(float *p, const float *q, const float *k, const float *mask, int rows,
                             int tokens, int width, int stride) {
  (void)mask; /* the tutorial model has none */
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < tokens; j++) {
      float dot = 0;
      for (int d = 0; d < width; d++) dot += q[i * stride + d] * k[j * stride + d];
      p[i * tokens + j] = dot;
    }
  vit_naive.softmax_forward(p, p, rows, tokens);
}

static void backward_sign(float *dq, float *dk, float *dp, const float *p, const float *q,
                          const float *k, int rows, int tokens, int width, int stride) {
  vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, rows, tokens, width, stride);
  times(dk, -1, tokens, width, stride);
}

/* Right answers of the tutorial model in %, after a short training with these kernels. */
static double trained(const vit_config *c, const vit_kernels *k, const vit_dataset *train, const vit_dataset *test) {
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  vit_model m;
  double right;
  nb_try(vit_model_create(&m, c, 1));
  m.kernels = k;
  f.epochs = 6;
  nb_try(vit_fit(&m, &f, train, test, &h));
  right = 100 * h.epoch[h.epochs - 1].val_accuracy;
  vit_history_free(&h);
  vit_model_free(&m);
  return right;
}

static void break_it(const vit_config *config, const vit_dataset *test) {
  const float s[3] = {1000, 1001, 1002};
  const char *names_of[4] = {"as it is", "no scale in the backward", "no scale at all", "dK with a wrong sign"};
  float p[3], sum = 0;
  vit_kernels own[4];
  vit_config c = *config;
  vit_dataset train;
  c.softmax_before_loss = 0;
  nb_cell("Break it: exp without the maximum taken off; the scale forgotten; a sign");
  for (int j = 0; j < 3; j++) sum += p[j] = expf(s[j]);
  printf("  softmax of 1000 1001 1002\n    exp(s) / sum          ");
  for (int j = 0; j < 3; j++) printf(" %6.3f", fabs((double)(p[j] / sum)));
  vit_naive.softmax_forward(p, s, 1, 3);
  printf("\n    vit_naive             ");
  for (int j = 0; j < 3; j++) printf(" %6.3f", (double)p[j]);
  nb_try(vit_dataset_mnist(&train, nb_data, VIT_TRAIN));
  vit_dataset_limit(&train, 2000);
  nb_try(vit_dataset_resize(&train, SIZE, SIZE));
  printf("\n\n  %sthe tutorial model           error of the gradient   trained for 6 epochs,\n"
         "                               below 0.01 is right     right of %d images%s\n", nb_dim(), test->count, nb_plain());
  for (int i = 0; i < 4; i++) {
    vit_gradient_report r;
    own[i] = vit_naive;
    if (i == 1) own[i].attention_scores_backward = backward_unscaled;
    if (i == 2) own[i].attention_scores_backward = backward_unscaled, own[i].attention_scores_forward = forward_unscaled;
    if (i == 3) own[i].attention_scores_backward = backward_sign;
    nb_try(vit_gradient_check(&c, &own[i], 2, 1, &r));
    printf("  %-28s %14.4f %22.1f %%\n", names_of[i], r.worst, trained(&c, &own[i], &train, test));
  }
  nb_say("Forgotten in both directions, the scale is not missed by the check: the gradient is that of "
         "another model. Forgotten in one, only the check tells: it trains all the same.");
  vit_dataset_free(&train);
}

/* ---- [11] --------------------------------------------------------------- */

static void wrong_scale(void) {
  enum { KEYS = 16, TRIALS = 500, WIDTH = 64, MANY = KEYS * TRIALS };
  static float q[WIDTH * TRIALS], k[WIDTH * MANY];
  float *s = nb_floats(MANY);
  nb_cell("The wrong width under the root: D of the model instead of Dh of the head");
  nb_normal(q, WIDTH * TRIALS, 4);
  nb_normal(k, WIDTH * MANY, 5);
  printf("  %s           1/sqrt(Dh)                    1/sqrt(D)\n"
         "   H     D   variance   largest of 16    variance   largest of 16%s\n", nb_dim(), nb_plain());
  for (int heads = 1; heads <= 16; heads *= 2) {
    printf("  %2d  %4d", heads, heads * WIDTH);
    for (int way = 0; way < 2; way++) {
      double top = 0, variance;
      for (int i = 0; i < MANY; i++) {
        double dot = 0;
        for (int d = 0; d < WIDTH; d++) dot += (double)(q[i / KEYS * WIDTH + d] * k[i * WIDTH + d]);
        s[i] = (float)(dot / sqrt((double)(way ? heads * WIDTH : WIDTH)));
      }
      variance = pow(nb_std(s, MANY), 2);
      vit_naive.softmax_forward(s, s, TRIALS, KEYS);
      for (int i = 0; i < TRIALS; i++) {
        float best = 0;
        for (int j = 0; j < KEYS; j++) best = s[i * KEYS + j] > best ? s[i * KEYS + j] : best;
        top += (double)best / TRIALS;
      }
      printf("   %8.3f   %13.3f ", variance, top);
    }
    printf("\n");
  }
  printf("  without looking at anything, each weight is 1/16 = %.3f\n", 1.0 / 16);
  free(s);
}

/* ---- [12] --------------------------------------------------------------- */

static void run(const vit_kernels *k, int way, float *x[8]) {
  if (way == 0) k->attention_scores_forward(x[3], x[0], x[1], NULL, 65, 65, 16, 16);
  if (way == 1) k->attention_values_forward(x[4], x[3], x[2], 65, 65, 16, 16, 16);
  if (way == 2) k->attention_values_backward(x[5], x[7], x[4], x[3], x[2], 65, 65, 16, 16, 16);
  if (way == 3) k->attention_scores_backward(x[6], x[7], x[5], x[3], x[0], x[1], 65, 65, 16, 16);
}

static double best_time(const vit_kernels *k, int way, float *x[8]) {
  double best;
  NB_FASTEST(best, run(k, way, x));
  return best;
}

static void by_vectors(void) {
  static const char *const what[4] = {"scores, forward", "values, forward", "values, backward", "scores, backward"};
  float *x[8], *y[8];
  nb_cell("Vectors: one head of 65 tokens, 16 wide, on one thread");
  for (int i = 0; i < 8; i++) {
    x[i] = nb_floats(65 * 65);
    y[i] = nb_floats(65 * 65);
    nb_normal(x[i], 65 * 65, (uint32_t)i);
    memcpy(y[i], x[i], 65 * 65 * sizeof(float));
  }
  printf("  %s                     naive (us)    SIMD (us)     ratio    difference%s\n", nb_dim(), nb_plain());
  for (int way = 0; way < 4; way++) {
    const int out = way == 0 ? 3 : way == 1 ? 4 : way == 2 ? 5 : 6, n = out == 3 || out == 5 ? 65 * 65 : 65 * 16;
    float *kept = nb_floats(65 * 65);
    double naive, simd, difference;
    memcpy(kept, x[5], 65 * 65 * sizeof(float)); /* the backward of the scores works in place */
    naive = best_time(&vit_naive, way, x);
    simd = best_time(vit_best_kernels(), way, y);
    if (way == 3) { /* timed on numbers that changed: once more, on the same ones */
      memcpy(x[5], kept, 65 * 65 * sizeof(float));
      memcpy(y[5], kept, 65 * 65 * sizeof(float));
      vit_naive.attention_scores_backward(x[6], x[7], x[5], x[3], x[0], x[1], 65, 65, 16, 16);
      vit_best_kernels()->attention_scores_backward(y[6], y[7], y[5], y[3], y[0], y[1], 65, 65, 16, 16);
    }
    difference = vit_max_difference(x[out], y[out], (size_t)n);
    printf("  %-18s %12.1f %12.1f %8.1fx %13.0e\n", what[way], naive, simd, naive / simd, difference);
    free(kept);
  }
  for (int i = 0; i < 8; i++) free(x[i]), free(y[i]);
}

int main(int argc, char **argv) {
  vit_config c = vit_config_tutorial();
  float image[SIZE * SIZE], q[T * Dh], k[T * Dh], v[T * Dh], p[T * T];
  vit_dataset d;
  vit_model m;
  vit_state s;
  nb_start("03-attention", "Attention is three steps: compare Q with K, softmax, mix the V.", argc,
           argv, NULL, 0);
  nb_load_few(&d, 1000, SIZE);
  nb_digit(image, &d, 4);
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, 1, VIT_FOR_INFERENCE | VIT_KEEP_ATTENTION, 0));
  nb_try(vit_forward(&m, &s, image, 1));
  two_tokens();
  { /* the input of attention in block 0, made again: layer norm of the tokens */
    float x[T * D], mean[T], rstd[T];
    vit_naive.layernorm_forward(x, mean, rstd, s.tokens, m.params.norm1_w, m.params.norm1_b, T, D,
                                m.config.norm_eps);
    queries_keys_values(&m, x, q, k, v);
  }
  by_hand_and_by_code(&m, &s, q, k, v, p);
  local_mask();
  why_scale();
  draw(image, p);
  two_tokens_backward();
  numeric_check(q, k, v);
  break_it(&c, &d);
  wrong_scale();
  by_vectors();
  vit_state_free(&s);
  vit_model_free(&m);
  vit_dataset_free(&d);
  return 0;
}
