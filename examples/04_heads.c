// Several heads side by side are one fused projection; training changes what each looks at.
//
// A head is the attention of chapter 03 on a few columns. Heads run side by side, their outputs are
// joined, and one matrix holds the Q, K and V weights of all of them. Read beside it: chapter 04
// of vit.h.
#include "common.h"

enum { SIZE = 32, T = 5, D = 9, H = 3, Dh = 3, I = H * Dh };
static const char *const names[] = {"CLS", "P1", "P2", "P3", "P4"};

/* ---- [1] and [2] -------------------------------------------------------- */

/* The weights of one head, as its own three layers: [Dh, D] and [Dh] each. */
typedef struct { float wq[Dh * D], wk[Dh * D], wv[Dh * D], bq[Dh], bk[Dh], bv[Dh]; } head;

static void run_head(float *o, const float *x, const head *h) {
  float q[T * Dh], k[T * Dh], v[T * Dh], p[T * T];
  vit_naive.linear_forward(q, x, h->wq, h->bq, T, D, Dh);
  vit_naive.linear_forward(k, x, h->wk, h->bk, T, D, Dh);
  vit_naive.linear_forward(v, x, h->wv, h->bv, T, D, Dh);
  vit_naive.attention_scores_forward(p, q, k, NULL, T, T, Dh, Dh);
  vit_naive.attention_values_forward(o, p, v, T, T, Dh, Dh, I); /* rows of the joined matrix */
}

/* All heads at once: w [3I, D] holds rows for Q, then K, then V. */
static void run_fused(const vit_kernels *kernels, float *o, const float *x, const float *w,
                      const float *b) {
  float qkv[T * 3 * I], p[T * T];
  kernels->linear_forward(qkv, x, w, b, T, D, 3 * I);
  for (int h = 0; h < H; h++) {
    const float *q = qkv + h * Dh, *k = q + I, *v = k + I;
    kernels->attention_scores_forward(p, q, k, NULL, T, T, Dh, 3 * I);
    kernels->attention_values_forward(o + h * Dh, p, v, T, T, Dh, 3 * I, I);
  }
}

static void separate_is_fused(const float *x) {
  head heads[H];
  float w[3 * I * D], b[3 * I], joined[T * I], fused[T * I], simd[T * I];
  nb_cell("Three heads, each with its own Q, K and V layer; their outputs are joined");
  nb_normal(w, 3 * I * D, 1);
  nb_normal(b, 3 * I, 2);
  for (int h = 0; h < H; h++) { /* head h's layers are rows of one large weight */
    memcpy(heads[h].wq, w + (0 * I + h * Dh) * D, sizeof heads[h].wq);
    memcpy(heads[h].wk, w + (1 * I + h * Dh) * D, sizeof heads[h].wk);
    memcpy(heads[h].wv, w + (2 * I + h * Dh) * D, sizeof heads[h].wv);
    memcpy(heads[h].bq, b + 0 * I + h * Dh, sizeof heads[h].bq);
    memcpy(heads[h].bk, b + 1 * I + h * Dh, sizeof heads[h].bk);
    memcpy(heads[h].bv, b + 2 * I + h * Dh, sizeof heads[h].bv);
  }
  NB_RUN(for (int h = 0; h < 3; h++) run_head(joined + h * Dh, x, heads + h));
  printf("  %s        head 0                head 1                head 2%s\n", nb_dim(), nb_plain());
  nb_matrix(joined, T, I, " %6.2f", names);

  nb_cell("The same weights in one matrix W [27, 9]: one product instead of nine");
  printf("  rows of W   0-2   3-5   6-8   9-11  12-14  15-17  18-20  21-23  24-26\n"
         "  make        Q 0   Q 1   Q 2   K 0    K 1    K 2    V 0    V 1    V 2\n"
         "  %s            (Q, K, V of all heads; in each, head after head: timm's order)%s\n",
         nb_dim(), nb_plain());
  NB_RUN(run_fused(&vit_naive, fused, x, w, b));
  NB_RUN(run_fused(vit_best_kernels(), simd, x, w, b));
  printf("  largest difference   separate - fused   %.1g\n"
         "                       fused naive - SIMD %.1g\n",
         vit_max_difference(joined, fused, T * I), vit_max_difference(fused, simd, T * I));
}

/* ---- [3] ---------------------------------------------------------------- */

static void biases(const float *x) {
  static const char *const which[] = {"Q", "K", "V"};
  float w[3 * I * D], b[3 * I] = {0}, without[T * I], with[T * I];
  nb_cell("What do the biases do? Add 1 to one of them and look at the output");
  nb_normal(w, 3 * I * D, 1);
  run_fused(&vit_naive, without, x, w, NULL); /* qkv_bias = 0 */
  for (int i = 0; i < 3; i++) {
    for (int j = 0; j < 3 * I; j++) b[j] = j / I == i ? 1 : 0;
    run_fused(&vit_naive, with, x, w, b);
    printf("  bias of %s + 1    the output changes by up to %.7f\n", which[i],
           vit_max_difference(with, without, T * I));
  }
  nb_say("A bias of K adds the same number to all scores of a row, and softmax takes it away again: "
         "a key's bias does nothing. qkv_bias = 0 leaves all three out.");
}

/* ---- [4] ---------------------------------------------------------------- */

static void widths(void) {
  static const struct { const char *name; int width, heads, head_dim; } rows[] = {
      {"tutorial", 9, 3, 0}, {"one wide head", 9, 1, 0}, {"heads of 8", 9, 3, 8},
      {"cifar_mean", 64, 4, 64}, {"B/16", 768, 12, 0}};
  vit_config c = vit_config_tutorial();
  nb_cell("The width of a head is free: the projection brings H * Dh back to D");
  printf("  %s%-14s %4s %4s %4s %6s   %-12s %-12s %10s%s\n", nb_dim(), "", "D", "H", "Dh", "H*Dh",
         "qkv weight", "proj weight", "parameters", nb_plain());
  for (int i = 0; i < 5; i++) {
    vit_tensor qkv, proj;
    int inner;
    c.width = rows[i].width, c.heads = rows[i].heads, c.head_dim = rows[i].head_dim;
    nb_try(vit_config_resolve(&c));
    nb_try(vit_tensor_find(&c, "blocks.0.attn.qkv.weight", &qkv));
    nb_try(vit_tensor_find(&c, "blocks.0.attn.proj.weight", &proj));
    inner = c.heads * c.head_dim;
    printf("  %-14s %4d %4d %4d %6d   [%d, %d]%*s[%d, %d]%*s%10d\n", rows[i].name, c.width, c.heads,
           c.head_dim, inner, qkv.shape[0], qkv.shape[1],
           13 - snprintf(NULL, 0, "[%d, %d]", qkv.shape[0], qkv.shape[1]), "", proj.shape[0],
           proj.shape[1], 13 - snprintf(NULL, 0, "[%d, %d]", proj.shape[0], proj.shape[1]), "",
           (int)(qkv.count + proj.count) + 3 * inner + c.width);
  }
  c.width = 9, c.heads = 4, c.head_dim = 0;
  NB_RUN(c.width = 9; c.heads = 4; c.head_dim = 0; vit_config_resolve(&c));
  nb_say("%s", vit_error());
  nb_say("One wide head costs as much as three narrow ones: more heads are more opinions, not more "
         "weights.");
}

/* ---- [5] ---------------------------------------------------------------- */

/* The attention of all heads in block 0, [H, T, T], and what was answered. */
static int look(const vit_model *m, vit_state *s, const float *image, float *attention, double *sure) {
  int class;
  nb_try(vit_predict(m, s, image, 1, &class, NULL));
  *sure = 100 * (double)s->probs[class];
  for (int h = 0; h < H; h++)
    memcpy(attention + h * T * T, vit_attention(m, s, 0, 0, h), T * T * sizeof(float));
  return class;
}

static void print_heads(const float *attention) {
  printf("  %s      ", nb_dim());
  for (int h = 0; h < H; h++) printf("%shead %d looks at", h ? "         " : "", h);
  printf("\n        ");
  for (int h = 0; h < H; h++)
    for (int j = 0; j < T; j++) printf("%*s", j || !h ? 4 : 7, names[j]);
  printf("%s\n", nb_plain());
  for (int i = 0; i < T; i++) {
    printf("  %s%-6s%s", nb_dim(), names[i], nb_plain());
    for (int h = 0; h < H; h++)
      for (int j = 0; j < T; j++)
        printf("%*.0f", j || !h ? 4 : 7, 100 * (double)attention[(h * T + i) * T + j]);
    printf("\n");
  }
}

static void draw(const float *image, const float *attention, const char *const *answer) {
  float percent[T * T];
  vit_plot p;
  nb_try(vit_plot_begin(&p, nb_out, "heads", 960, 560));
  fprintf(p.script, "set multiplot layout 2,4 title \"What does each head of block 0 look at, before and "
                    "after training?\\nWeights for one digit 7 in %%; each row sums to 100\"\n");
  for (int trained = 0; trained < 2; trained++) {
    fprintf(p.script, "set xtics 8\nset ytics 8\nset xlabel 'P1 P2 above, P3 P4 below'\n"
                      "unset ylabel\nset rmargin 2\n");
    nb_image_panel(&p, 4 * trained, answer[trained], image, SIZE, 16);
    nb_attention_style(&p);
    fprintf(p.script, "set cbrange [0:100]\n");
    for (int h = 0; h < H; h++) {
      char title[60];
      snprintf(title, sizeof title, "Head %d, %s", h, trained ? "trained" : "untrained");
      for (int i = 0; i < T * T; i++) percent[i] = 100 * attention[(trained * H + h) * T * T + i];
      nb_panel(&p, 4 * trained + 1 + h, title, percent, T, T, "%.0f", 55);
    }
  }
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "heads");
}

static void train_and_look(const vit_dataset *train, const float *image) {
  static float attention[2 * H * T * T]; /* before and after */
  vit_config c = vit_config_tutorial();
  vit_fit_config f = vit_fit_defaults();
  vit_history history;
  vit_model m;
  vit_state s;
  char text[2][80];
  const char *answer[2];
  double sure;
  int class;
  nb_cell("What do heads look at? Block 0, one digit 7, before training ...");
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, 1, VIT_KEEP_ATTENTION, 0));
  class = look(&m, &s, image, attention, &sure);
  snprintf(text[0], sizeof text[0], "untrained: says %d, %.0f %% sure", class, sure);
  nb_say("Row: who looks. Column: at whom, in %%. The model says %d, %.0f %% sure.", class, sure);
  print_heads(attention);
  printf("\n");
  f.epochs = 3;
  nb_say("... and after %d passes over %d training images (chapter 08 does it in full)", f.epochs,
         train->count);
  NB_RUN(nb_try(vit_fit(&m, &f, train, NULL, &history)));
  class = look(&m, &s, image, attention + H * T * T, &sure);
  snprintf(text[1], sizeof text[1], "trained: says %d, %.0f %% sure", class, sure);
  print_heads(attention + H * T * T);
  printf("  the model says %d, %.0f %% sure; the class token looks most at", class, sure);
  for (int h = 0; h < H; h++) {
    const float *row = attention + (H + h) * T * T;
    int best = 0;
    for (int j = 1; j < T; j++) best = row[j] > row[best] ? j : best;
    printf("%s %s", h ? "," : "", names[best]);
  }
  printf(".\n");
  nb_say("Compare the rows of a head: before training they are nearly alike, now each token has its "
         "own.");
  answer[0] = text[0], answer[1] = text[1];
  draw(image, attention, answer);
  vit_history_free(&history);
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- [6] ---------------------------------------------------------------- */

/* Where number d of head h of token t's Q (0), K (1) or V (2) lies in qkv. */
static int place(int t, int which, int h, int d, int heads, int dh) {
  return ((t * 3 + which) * heads + h) * dh + d;
}

static void where_it_lies(void) {
  float qkv[2 * 12];
  const float *q = qkv + 1 * 2, *k = q + 4, *v = k + 4; /* of head 1 */
  nb_cell("Where a number lies: 2 tokens, H = 2 heads, Dh = 2, so I = 4 and 3 I = 12");
  printf("  place      0   1   2   3   4   5   6   7   8   9  10  11  = token 0\n"
         "            12  13  14  15  16  17  18  19  20  21  22  23  = token 1\n"
         "  holds      ------Q------   ------K------   ------V------\n"
         "  of head    0   0   1   1   0   0   1   1   0   0   1   1\n"
         "  number     0   1   0   1   0   1   0   1   0   1   0   1\n");
  printf("  token 1, K, head 1, number 0: ((1 * 3 + 1) * 2 + 1) * 2 + 0 = %d\n", place(1, 1, 1, 0, 2, 2));
  for (int i = 0; i < 24; i++) qkv[i] = (float)i;
  nb_code("const float *q = qkv + 1 * Dh, *k = q + I, *v = k + I; // qkv[i] = i");
  for (int t = 0; t < 2; t++)
    printf("  head 1, token %d    q %2.0f %2.0f    k %2.0f %2.0f    v %2.0f %2.0f\n", t, (double)q[12 * t],
           (double)q[12 * t + 1], (double)k[12 * t], (double)k[12 * t + 1], (double)v[12 * t],
           (double)v[12 * t + 1]);
}

/* ---- [7] ---------------------------------------------------------------- */

static double fused_loss(const float *qkv, const float *weights) {
  float o[T * I], p[T * T];
  double loss = 0;
  for (int h = 0; h < H; h++) {
    const float *q = qkv + h * Dh, *k = q + I, *v = k + I;
    vit_naive.attention_scores_forward(p, q, k, NULL, T, T, Dh, 3 * I);
    vit_naive.attention_values_forward(o + h * Dh, p, v, T, T, Dh, 3 * I, I);
  }
  for (int i = 0; i < T * I; i++) loss += (double)o[i] * (double)weights[i];
  return loss;
}

/* d_o [T, I] -> dqkv [T, 3, H, Dh]: each head backward, into its own columns. */
static void fused_backward(float *dqkv, const float *d_o, const float *qkv) {
  float p[T * T], dp[T * T];
  for (int h = 0; h < H; h++) {
    const float *q = qkv + h * Dh, *k = q + I, *v = k + I;
    float *dq = dqkv + h * Dh, *dk = dq + I, *dv = dk + I;
    vit_naive.attention_scores_forward(p, q, k, NULL, T, T, Dh, 3 * I);
    vit_naive.attention_values_backward(dp, dv, d_o + h * Dh, p, v, T, T, Dh, 3 * I, I);
    vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, T, T, Dh, 3 * I);
  }
}

static void backward(const float *x) {
  float w[3 * I * D], qkv[T * 3 * I], weights[T * I], dqkv[T * 3 * I], dx[T * D], sum[T * D] = {0};
  double worst[3] = {0, 0, 0}, top[3] = {0, 0, 0}, top_dx = 0;
  const float h = 1.0f / 64;
  nb_cell("Backward: each head writes into its own columns of dqkv, then one product");
  nb_normal(w, 3 * I * D, 1);
  nb_normal(weights, T * I, 3);
  for (int i = 0; i < 3 * I * D; i++) w[i] *= 0.3f; /* scores of about 1 */
  vit_naive.linear_forward(qkv, x, w, NULL, T, D, 3 * I);
  NB_RUN(fused_backward(dqkv, weights, qkv));
  for (int i = 0; i < T * 3 * I; i++) {
    const float was = qkv[i];
    const int which = i / I % 3;
    double up, down;
    qkv[i] = was + h;
    up = fused_loss(qkv, weights);
    qkv[i] = was - h;
    down = fused_loss(qkv, weights);
    qkv[i] = was;
    worst[which] = fmax(worst[which], fabs((up - down) / (2 * (double)h) - (double)dqkv[i]));
    top[which] = fmax(top[which], fabs((double)dqkv[i]));
  }
  printf("  %s     numbers    largest gradient    largest difference%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 3; i++) printf("  d%c  %8d  %18.4f  %20.0e\n", "QKV"[i], T * I, top[i], worst[i]);
  NB_RUN(vit_naive.linear_backward_input(dx, dqkv, w, T, D, 3 * I));
  for (int j = 0; j < 9; j++) { /* the same from nine small layers, added up */
    float dy[T * Dh], part[T * D];
    for (int t = 0; t < T; t++) memcpy(dy + t * Dh, dqkv + t * 3 * I + j * Dh, Dh * sizeof *dy);
    vit_naive.linear_backward_input(part, dy, w + j * Dh * D, T, D, Dh);
    for (int i = 0; i < T * D; i++) sum[i] += part[i];
  }
  for (int i = 0; i < T * D; i++) top_dx = fmax(top_dx, fabs((double)dx[i]));
  printf("  largest of dx %.3f, largest difference to nine small layers added up %.0e\n",
         top_dx, vit_max_difference(dx, sum, T * D));
}

/* ---- [8] ---------------------------------------------------------------- */

static void wrong_view(const float *x) {
  float w[3 * I * D], qkv[T * 3 * I], right[T * I], mixed[T * I], grouped[T * I], p[T * T], flat[3][T * I];
  nb_cell("Wrong, and no size tells: a view where a transpose belongs");
  nb_normal(w, 3 * I * D, 1);
  run_fused(&vit_naive, right, x, w, NULL);
  vit_naive.linear_forward(qkv, x, w, NULL, T, D, 3 * I);
  for (int i = 0; i < 3; i++) /* Q, K, V apart: [T, I] each, as three layers give them */
    for (int t = 0; t < T; t++) memcpy(flat[i] + t * I, qkv + t * 3 * I + i * I, I * sizeof(float));
  for (int h = 0; h < H; h++) { /* taken for [H, T, Dh] */
    const int at = h * T * Dh;
    vit_naive.attention_scores_forward(p, flat[0] + at, flat[1] + at, NULL, T, T, Dh, Dh);
    vit_naive.attention_values_forward(mixed + h * Dh, p, flat[2] + at, T, T, Dh, Dh, I);
  }
  for (int h = 0; h < H; h++) { /* taken for [T, H, 3, Dh] */
    const float *q = qkv + h * 3 * Dh, *k = q + Dh, *v = k + Dh;
    vit_naive.attention_scores_forward(p, q, k, NULL, T, T, Dh, 3 * I);
    vit_naive.attention_values_forward(grouped + h * Dh, p, v, T, T, Dh, 3 * I, I);
  }
  printf("  Q is [T, H, Dh], read as if it were [H, T, Dh]:\n");
  printf("  %sthe row that should be%s", nb_dim(), nb_plain());
  for (int t = 0; t < T; t++) printf("  %-8s", names[t]);
  for (int h = 0; h < H; h++) {
    printf("\n  of head %d is token, head", h);
    for (int t = 0; t < T; t++) printf("  %-3s of %d", names[(h * T + t) / H], (h * T + t) % H);
  }
  printf("\n  the output is wrong by up to %.2f\n", vit_max_difference(mixed, right, T * I));
  printf("  qkv is [T, 3, H, Dh], read as if it were [T, H, 3, Dh]:\n"
         "  head 0 takes Q of head 1 for its K, and Q of head 2 for its V\n"
         "  the output is wrong by up to %.2f\n", vit_max_difference(grouped, right, T * I));
}

/* ---- [9] ---------------------------------------------------------------- */

static void in_pieces(const float *x) {
  static const int sizes[4][2] = {{32, 16}, {32, 4}, {224, 16}, {384, 16}};
  float w[3 * I * D], qkv[T * 3 * I], p[2][T * T];
  const vit_kernels *k[2] = {&vit_naive, vit_best_kernels()};
  nb_cell("Pieces of queries: the rows of a head are independent of each other");
  nb_normal(w, 3 * I * D, 1);
  vit_naive.linear_forward(qkv, x, w, NULL, T, D, 3 * I);
  for (int i = 0; i < 2; i++) {
    k[i]->attention_scores_forward(p[0], qkv, qkv + I, NULL, T, T, Dh, 3 * I);
    for (int t = 0; t < T; t += 2) {
      const int rows = T - t < 2 ? T - t : 2;
      k[i]->attention_scores_forward(p[1] + t * T, qkv + t * 3 * I, qkv + I, NULL, rows, T, Dh, 3 * I);
    }
    printf("  5 queries at once, or 2 and 2 and 1: largest difference %g (%s)\n",
           vit_max_difference(p[0], p[1], T * T), i ? "SIMD" : "naive");
  }
  printf("  %simage, patch    tokens T    queries Q of a piece    pieces of a head%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 4; i++) {
    vit_config c = vit_config_tutorial();
    vit_model m;
    vit_state s;
    int tokens;
    c.image_height = c.image_width = sizes[i][0];
    c.patch_height = c.patch_width = sizes[i][1];
    nb_try(vit_model_create(&m, &c, 1));
    nb_try(vit_state_create(&s, &m, 1, VIT_FOR_INFERENCE, 0));
    tokens = vit_config_tokens(&c);
    printf("  %5d, %2d %13d %17d %20d\n", sizes[i][0], sizes[i][1], tokens, s.queries,
           (tokens + s.queries - 1) / s.queries);
    vit_state_free(&s);
    vit_model_free(&m);
  }
}

/* ---- [10] --------------------------------------------------------------- */

static void past_the_end(void) {
  enum { MOST = 8, IN = 5, OUT = 7 };
  const int tile = VIT_TILE_ROWS;
  float x[MOST * IN], w[OUT * IN], all[MOST * OUT], some[(MOST + 1) * OUT];
  nb_cell("Rows past the end: the matrix product works on whole tiles of rows");
  nb_normal(x, MOST * IN, 1);
  nb_normal(w, OUT * IN, 2);
  vit_best_kernels()->linear_forward(all, x, w, NULL, MOST, IN, OUT);
  printf("  %sSIMD: a tile has %d rows\n"
         "  rows  tiles  rows worked out  repeats  numbers that differ  written behind%s\n", nb_dim(),
         tile, nb_plain());
  for (int rows = 1; rows <= MOST; rows++) {
    const int tiles = (rows + tile - 1) / tile;
    int differ = 0, behind = 0;
    for (int i = 0; i < (MOST + 1) * OUT; i++) some[i] = 12345;
    vit_best_kernels()->linear_forward(some, x, w, NULL, rows, IN, OUT);
    for (int i = 0; i < rows * OUT; i++) differ += memcmp(some + i, all + i, sizeof(float)) != 0;
    for (int i = rows * OUT; i < (MOST + 1) * OUT; i++) behind += some[i] < 12345 || some[i] > 12345;
    printf("  %4d %6d %16d %8d %20d %15d\n", rows, tiles, tiles * tile, tiles * tile - rows, differ, behind);
  }
}

/* ---- [11] --------------------------------------------------------------- */

enum { BIG = 64, TOKENS = 65, MANY = 3 * BIG };
static void project(const vit_kernels *k, int layers, float *y, const float *x, const float *w) {
  for (int i = 0; i < layers; i++)
    k->linear_forward(y + i * TOKENS * (MANY / layers), x, w + i * (MANY / layers) * BIG, NULL, TOKENS, BIG,
                      MANY / layers);
}

static void one_product(void) {
  float *x = nb_floats(TOKENS * BIG), *w = nb_floats(MANY * BIG), *y = nb_floats(TOKENS * MANY);
  nb_cell("Time: one fused product or many, 65 tokens, D = 64, H = 16 heads of Dh = 4");
  nb_normal(x, TOKENS * BIG, 1);
  nb_normal(w, MANY * BIG, 2);
  printf("  %s                                naive (us)    SIMD (us)%s\n", nb_dim(), nb_plain());
  for (int layers = 48; layers > 0; layers = layers == 48 ? 3 : layers == 3 ? 1 : 0) {
    double best[2] = {1e9, 1e9};
    for (int i = 0; i < 2; i++)
      for (int calls = 0; calls < 20; calls++) {
        const double start = vit_seconds();
        project(i ? vit_best_kernels() : &vit_naive, layers, y, x, w);
        best[i] = fmin(best[i], vit_seconds() - start);
      }
    printf("  %2d product%s of %3d columns %12.1f %12.1f\n", layers, layers > 1 ? "s" : " ", MANY / layers,
           1e6 * best[0], 1e6 * best[1]);
  }
  free(x), free(w), free(y);
}

int main(int argc, char **argv) {
  float x[T * D], image[SIZE * SIZE];
  vit_dataset train, test;
  nb_start("04-heads", "Heads side by side are one fused projection, cut into columns.", argc, argv,
           NULL, 0);
  nb_load_few(&test, 1000, SIZE);
  nb_digit(image, &test, 7);
  nb_load(&train, VIT_TRAIN);
  vit_dataset_limit(&train, 12000);
  nb_try(vit_dataset_resize(&train, SIZE, SIZE));
  nb_normal(x, T * D, 5);
  nb_one_thread();
  separate_is_fused(x);
  biases(x);
  widths();
  train_and_look(&train, image);
  where_it_lies();
  backward(x);
  wrong_view(x);
  in_pieces(x);
  past_the_end();
  one_product();
  vit_dataset_free(&train);
  vit_dataset_free(&test);
  return 0;
}
