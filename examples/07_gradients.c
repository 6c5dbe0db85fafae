// Every gradient is proved by a numeric one; then one batch is learned by heart with them.
//
// The backward computes how the loss answers to each of 5,689 parameters. A difference quotient
// computes the same for one parameter, slowly and without any mathematics: so it can judge. Read
// beside it: chapter 07 of vit.h.
#include "common.h"

enum { SIZE = 32, PIXELS = SIZE * SIZE, B = 32 };
static float *images; /* the first 32 test digits */
static int labels[B];

static double loss_of(const vit_model *m, vit_state *s) {
  double loss;
  nb_try(vit_forward(m, s, images, B));
  nb_try(vit_loss(m, s, labels, 0, &loss));
  return loss;
}

/* ---- [1] ---------------------------------------------------------------- */

/* How much does the loss change when one parameter goes up and down by h? */
static double numeric_gradient(const vit_model *m, vit_state *s, float *w, float h) {
  const float start = *w, above = start + h, below = start - h;
  double up, down;
  *w = above;
  up = loss_of(m, s);
  *w = below;
  down = loss_of(m, s);
  *w = start;
  return (up - down) / ((double)above - (double)below);
}

static void side_by_side(const vit_model *m, vit_state *s) {
  static const char *const tensors[] = {
      "cls_token",           "patch_embed.proj.weight",  "blocks.0.norm1.weight",
      "blocks.0.attn.qkv.weight", "blocks.1.attn.proj.bias", "blocks.1.mlp.fc1.weight",
      "blocks.2.mlp.fc2.weight",  "head.weight",         "head.bias"};
  nb_cell("Analytic against numeric: the steepest parameter of nine tensors, 32 digits");
  NB_RUN(loss_of(m, s); vit_zero_gradients(s); nb_try(vit_backward(m, s, 1)));
  nb_code("numeric = (loss(w + h) - loss(w - h)) / 2h, h = 0.01");
  printf("  %s%-26s %6s %12s %12s %12s%s\n", nb_dim(), "parameter", "index", "analytic", "numeric",
         "difference", nb_plain());
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
    vit_tensor t;
    const float *g;
    size_t at = 0;
    double numeric;
    nb_try(vit_tensor_find(&m->config, tensors[i], &t));
    g = s->grads.block + t.offset;
    for (size_t j = 1; j < t.count; j++) at = fabsf(g[j]) > fabsf(g[at]) ? j : at;
    numeric = numeric_gradient(m, s, m->params.block + t.offset + at, 0.01f);
    printf("  %-26s %6d %12.6f %12.6f %12.1e\n", t.name, (int)at, (double)g[at], numeric,
           (double)g[at] - numeric);
  }
}

/* ---- [2] ---------------------------------------------------------------- */

/* One parameter at the far end of the backward: its place in a block of tensors. */
static size_t deep_parameter(const vit_model *m) {
  vit_tensor t;
  nb_try(vit_tensor_find(&m->config, "cls_token", &t));
  return t.offset + 5;
}

static void which_step(const vit_model *m, vit_state *s) {
  vit_plot p;
  float *w;
  double analytic;
  nb_cell("How large should h be? Large: the loss bends. Small: floats run out of digits");
  w = m->params.block + deep_parameter(m);
  analytic = (double)s->grads.block[deep_parameter(m)];
  nb_try(vit_plot_begin(&p, nb_out, "step", 760, 420));
  printf("  %s           h        numeric     error%s    (analytic %.8f, cls_token[5])\n", nb_dim(),
         nb_plain(), analytic);
  for (float h = 1; h > 5e-7f; h /= 10) {
    double numeric = numeric_gradient(m, s, w, h), error = fabs(numeric - analytic);
    printf("  %12.0e %14.8f %9.1e  ", (double)h, numeric, error);
    nb_bar((log10(error + 1e-9) + 8) / 8, 32);
    printf("\n");
    fprintf(p.data, "%g %g\n", (double)h, error + 1e-9);
  }
  nb_axes(&p, "How large should the step h be? In the middle: the error is least between two limits",
          "step h, for number 5 of the class token", "|numeric - analytic gradient|");
  fprintf(p.script, "set logscale xy\nset format xy '10^{%%T}'\nunset key\n"
                    "set label \"too small:\\nfloats have 7 digits\" at 1e-5,graph 0.93 center\n"
                    "set label \"too large:\\nthe loss bends\" at 0.03,graph 0.93 center\n"
                    "set offsets 0,0,graph 0.25,0\n"
                    "plot 'step.dat' using 1:2 with linespoints title 'error'\n");
  nb_figure(vit_plot_end(&p), "step");
}

/* ---- [3] and [4] -------------------------------------------------------- */

static void report(vit_plot *p, const char *name, const vit_kernels *k) {
  vit_config c = vit_config_tutorial();
  vit_gradient_report r;
  c.softmax_before_loss = 0;
  nb_try(vit_gradient_check(&c, k, 2, 1, &r));
  printf("  %-18s %8.1e  %-24s %8.4f %8.4f  %s\n", name, r.worst, r.name, r.analytic, r.numeric,
         r.worst < 0.01 ? "right" : "WRONG");
  fprintf(p->data, "\"%s\" %g\n", name, r.worst);
}

static void report_head(const char *what) {
  printf("  %s%-18s %8s  %-24s %8s %8s%s\n", nb_dim(), what, "worst", "where", "analytic", "numeric",
         nb_plain());
}

/* Three mistakes that are easily made. */
static void gelu_without_bell(float *dx, const float *dy, const float *x, int n) {
  for (int i = 0; i < n; i++) /* forgets x phi(x) */
    dx[i] = dy[i] * 0.5f * (1 + erff(x[i] / sqrtf(2)));
}
static void norm_of_constants(float *dx, float *dw, float *db, const float *dy, const float *x,
                              const float *w, const float *mean, const float *rstd, int rows,
                              int D) {
  for (int i = 0; i < rows * D; i++) { /* takes mean and deviation for constants */
    dx[i] += rstd[i / D] * dy[i] * w[i % D];
    dw[i % D] += dy[i] * (x[i] - mean[i / D]) * rstd[i / D];
    db[i % D] += dy[i];
  }
}
static void keys_with_wrong_sign(float *dq, float *dk, float *dp, const float *p, const float *q,
                                 const float *k, int rows, int T, int Dh, int stride) {
  vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, rows, T, Dh, stride);
  for (int i = 0; i < T * Dh; i++) dk[i / Dh * stride + i % Dh] *= -1;
}

static void check_all(void) {
  vit_kernels gelu = vit_naive, norm = vit_naive, keys = vit_naive;
  vit_plot p;
  nb_cell("The same for all tensors: vit_gradient_check walks the tensor table");
  nb_say("Up to 24 numbers per tensor. Error: difference / (largest gradient of the tensor + 0.001); "
         "right is below 0.01.");
  nb_code("vit_gradient_check(&config, &vit_naive, 2, 1, &report);");
  report_head("kernels");
  nb_try(vit_plot_begin(&p, nb_out, "check", 760, 420));
  report(&p, "naive", &vit_naive);
  report(&p, "SIMD", vit_best_kernels());

  nb_cell("Would it notice a mistake? One backward is replaced by a wrong one");
  report_head("the mistake");
  NB_RUN(gelu.gelu_backward = gelu_without_bell);
  report(&p, "GELU: half of it", &gelu);
  NB_RUN(norm.layernorm_backward = norm_of_constants);
  report(&p, "norm: constants", &norm);
  NB_RUN(keys.attention_scores_backward = keys_with_wrong_sign);
  report(&p, "keys: wrong sign", &keys);
  nb_axes(&p, "Does the gradient check notice a mistake? The right kernels stay far below the limit",
          "kernels; three of them have a mistake in one backward",
          "worst error (difference / largest gradient)");
  fprintf(p.script, "set logscale y\nset format y '10^{%%T}'\nset yrange [1e-6:10]\nset key top left\n"
                    "set xrange [-0.6:4.6]\nset boxwidth 0.6\nset style fill solid\n"
                    "set xtics scale 0\nunset grid\nset grid ytics lt 1 lc rgb '#cccccc' lw 1\n"
                    "plot 'check.dat' using 0:($2 < 0.01 ? $2 : NaN):xtic(1) with boxes lt 6 title 'right', \\\n"
                    "     '' using 0:($2 < 0.01 ? NaN : $2):xtic(1) with boxes lt 2 title 'wrong', \\\n"
                    "     0.01 with lines lt 7 lw 1 dt 2 title 'limit: 0.01', \\\n"
                    "     '' using 0:2:(sprintf('%%.1g', $2)) with labels offset 0,0.7 notitle\n");
  nb_figure(vit_plot_end(&p), "check");
}

/* ---- [5] ---------------------------------------------------------------- */

enum { STEPS = 400, EPOCHS = 4 };

/* Learn the 32 digits by heart; the loss before each step. Returns how many are right; *most is
   the largest probability that a true class has where it is not the answer. */
static int overfit(int softmax_before_loss, double *loss, double *most) {
  vit_config c = vit_config_tutorial();
  vit_optimizer_config adam = vit_optimizer_defaults(VIT_ADAM);
  vit_model m;
  vit_state s;
  vit_optimizer o;
  int classes[B], right = 0;
  c.softmax_before_loss = softmax_before_loss;
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, B, VIT_FOR_TRAINING, 1));
  nb_try(vit_optimizer_create(&o, &m, &adam));
  for (int step = 0; step < STEPS; step++) {
    loss[step] = loss_of(&m, &s);
    vit_zero_gradients(&s);
    nb_try(vit_backward(&m, &s, 1));
    nb_try(vit_optimizer_step(&o, &m, &s, 0.005f));
  }
  nb_try(vit_predict(&m, &s, images, B, classes, NULL));
  *most = 0;
  for (int b = 0; b < B; b++) {
    if (classes[b] == labels[b]) right++;
    else *most = fmax(*most, (double)s.probs[b * c.classes + labels[b]]);
  }
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_model_free(&m);
  return right;
}

static void learn_one_batch(void) {
  static double loss[2][STEPS];
  const double floor_loss = log(exp(1.0) + 9) - 1;
  double most[2];
  int right[2];
  vit_plot p;
  nb_cell("Learn 32 digits by heart: a model with right gradients brings the loss to 0");
  NB_RUN(right[0] = overfit(0, loss[0], &most[0]));
  NB_RUN(right[1] = overfit(1, loss[1], &most[1]));
  nb_try(vit_plot_begin(&p, nb_out, "overfit", 760, 430));
  printf("  %s step   loss of the logits                 loss with a softmax before it%s\n", nb_dim(),
         nb_plain());
  for (int i = 0; i < STEPS; i++) {
    fprintf(p.data, "%d %.6f %.6f\n", i, loss[0][i], loss[1][i]);
    if (i % 50 && i != 10 && i != 25 && i != STEPS - 1) continue;
    printf("  %5d  %8.4f  ", i, loss[0][i]);
    nb_bar(loss[0][i] / 2.6, 22);
    printf("  %8.4f  ", loss[1][i]);
    nb_bar(loss[1][i] / 2.6, 22);
    printf("\n");
  }
  printf("  right of 32    %d %33d\n", right[0], right[1]);
  if (right[1] < B) printf("  the %d that are wrong give their true class at most %.0e\n", B - right[1], most[1]);
  nb_say("With a softmax before the loss, which takes a softmax itself, even a perfect answer costs "
         "ln(e + 9) - 1 = %.3f, and the gradient is small where the model is sure and wrong. The "
         "tutorial model has it because its source has it; c.softmax_before_loss = 0 is better.",
         floor_loss);
  nb_axes(&p, "Can 32 digits be learned by heart? Yes: the loss goes to 0, if there is no softmax before it",
          "step of Adam", "loss (cross entropy, nats)");
  fprintf(p.script,
                    "set logscale y\nset format y '10^{%%T}'\nset xrange [0:%d]\nset key center right\n"
                    "plot 'overfit.dat' using 1:2 with lines title 'logits to the loss', \\\n"
                    "     '' using 1:3 with lines dt 2 title 'softmax before the loss', \\\n"
                    "     %.6f with lines lt 7 lw 1 dt 3 title 'least possible with that softmax: %.3f'\n",
          STEPS, floor_loss, floor_loss);
  nb_figure(vit_plot_end(&p), "overfit");
}

/* ---- [6] ---------------------------------------------------------------- */

static double entropy_of(const float *z, const float *q, int K) {
  float p[16];
  double loss;
  vit_naive.crossentropy_forward(&loss, p, z, q, 1, K);
  return loss;
}

static void print_row(const char *name, const float *x, int K) {
  printf("  %-28s", name);
  for (int k = 0; k < K; k++) printf(" %8.3f", (double)x[k]);
  printf("\n");
}

static void three_logits(void) {
  float z[3] = {2, 1, 0}, q[2][3] = {{0, 0, 1}, {0.1f / 3, 0.1f / 3, 0.9f + 0.1f / 3}}, p[3], d[3];
  double loss;
  nb_cell("Three logits, small enough for a pencil: the image is of class 2");
  print_row("logits z", z, 3);
  for (int smooth = 0; smooth < 2; smooth++) {
    if (smooth) printf("  with a label smoothing of 0.1\n");
    print_row("targets q", q[smooth], 3);
    NB_RUN(vit_naive.crossentropy_forward(&loss, p, z, q[smooth], 1, 3));
    print_row("p = softmax(z)", p, 3);
    printf("  %-28s %8.3f\n", "loss", loss);
    NB_RUN(vit_naive.crossentropy_backward(d, p, q[smooth], 1, 1, 3));
    print_row("p - q", d, 3);
    for (int k = 0; k < 3; k++) {
      const float start = z[k], h = 0.0078125f; /* a power of 2: z + h has no rounding */
      double up, down;
      z[k] = start + h;
      up = entropy_of(z, q[smooth], 3);
      z[k] = start - h;
      down = entropy_of(z, q[smooth], 3);
      z[k] = start;
      d[k] = (float)((up - down) / (2 * (double)h));
    }
    print_row("numeric, logit by logit", d, 3);
  }
}

/* ---- [7] ---------------------------------------------------------------- */

static void sure_and_wrong(void) {
  nb_cell("Sure and wrong: ten classes, label 0; logit 1 is t, the others are 0");
  printf("  %s          p of the  the loss of the logits     a softmax before the loss\n"
         "     t       label       loss   gradient of z0        loss   gradient of z0%s\n", nb_dim(), nb_plain());
  for (int t = 0; t <= 16; t += t ? t : 2) {
    float z[10] = {0, (float)t}, q[10] = {1}, p[10], twice[10], d[10], once;
    double loss[2];
    vit_naive.crossentropy_forward(&loss[0], p, z, q, 1, 10);
    vit_naive.crossentropy_backward(d, p, q, 1, 1, 10);
    once = d[0];
    vit_naive.crossentropy_forward(&loss[1], twice, p, q, 1, 10); /* takes p for logits */
    vit_naive.crossentropy_backward(d, twice, q, 1, 1, 10);
    vit_naive.softmax_backward(d, d, p, 1, 10);
    printf("  %4d  %10.7f %10.4f %16.7f %11.4f %16.7f\n", t, (double)p[0], loss[0], (double)once, loss[1],
           (double)d[0]);
  }
}

/* ---- [8] ---------------------------------------------------------------- */

/* The loss when the parameter is moved by `step`; *moved is the step that floats really make. */
static double loss_at(const vit_model *m, vit_state *s, float *w, float step, double *moved) {
  const float start = *w, there = start + step;
  double loss;
  *w = there;
  loss = loss_of(m, s);
  *w = start;
  *moved = (double)there - (double)start;
  return loss;
}

static void finer_quotients(const vit_model *m, vit_state *s) {
  enum { WAYS = 4 };
  static const char *const names[WAYS] = {"rounded losses", "over 2h", "over the step", "four losses"};
  vit_plot p;
  float *w = m->params.block + deep_parameter(m);
  double analytic;
  nb_cell("The error of four quotients, for cls_token[5]");
  loss_of(m, s);
  vit_zero_gradients(s);
  nb_try(vit_backward(m, s, 1));
  analytic = (double)s->grads.block[deep_parameter(m)];
  nb_try(vit_plot_begin(&p, nb_out, "quotients", 760, 420));
  printf("  %s         h", nb_dim());
  for (int i = 0; i < WAYS; i++) printf(" %15s", names[i]);
  printf("%s\n", nb_plain());
  for (float h = 1; h > 5e-7f; h /= 10) {
    double a, b, unused;
    const double up = loss_at(m, s, w, h, &a), down = loss_at(m, s, w, -h, &b);
    const double up2 = loss_at(m, s, w, 2 * h, &unused), down2 = loss_at(m, s, w, -2 * h, &unused);
    const double by[WAYS] = {((double)(float)up - (double)(float)down) / (a - b), (up - down) / (2 * (double)h),
                             (up - down) / (a - b), (8 * (up - down) - (up2 - down2)) / (6 * (a - b))};
    printf("  %10.0e", (double)h);
    fprintf(p.data, "%g", (double)h);
    for (int i = 0; i < WAYS; i++) {
      printf(" %15.1e", fabs(by[i] - analytic));
      fprintf(p.data, " %g", fabs(by[i] - analytic) + 1e-9);
    }
    printf("\n");
    fprintf(p.data, "\n");
  }
  nb_axes(&p, "How large should the step h be? Two limits meet in the middle",
          "step h, for number 5 of the class token", "|numeric - analytic gradient|");
  fprintf(p.script, "set logscale xy\nset format xy '10^{%%T}'\nset key bottom left\n"
                    "set label \"too small:\\nfloats have 7 digits\" at 1e-5,graph 0.93 center\n"
                    "set label \"too large:\\nthe loss bends\" at 0.03,graph 0.93 center\n"
                    "set offsets 0,0,graph 0.25,0\n"
                    "plot 'quotients.dat' using 1:2 with linespoints lt 2 pt 4 dt 3 title 'losses rounded to float', \\\n"
                    "     '' using 1:4 with linespoints lt 1 pt 7 title 'two losses in double', \\\n"
                    "     '' using 1:5 with linespoints lt 3 pt 9 dt 2 title 'four losses in double'\n");
  nb_figure(vit_plot_end(&p), "quotients");
}

/* ---- [9] ---------------------------------------------------------------- */

static int differ(const float *a, const float *b, size_t n) {
  int count = 0;
  for (size_t i = 0; i < n; i++) count += memcmp(a + i, b + i, sizeof *a) != 0;
  return count;
}

static void orders_of_adding(vit_model *m, vit_state *s) {
  const size_t n = s->grads.count;
  float *kept = nb_floats((int)n), *forwards = nb_floats((int)n), *backwards = nb_floats((int)n);
  const int before = m->threads;
  nb_cell("The order of adding decides the last bits; the number of threads must not");
  printf("  %sgradient of 32 digits                  numbers that differ  largest difference%s\n", nb_dim(),
         nb_plain());
  for (int threads = 1; threads <= 4; threads++) {
    m->threads = threads;
    loss_of(m, s);
    vit_zero_gradients(s);
    nb_try(vit_backward(m, s, 1));
    if (threads == 1) memcpy(kept, s->grads.block, n * sizeof *kept);
    else
      printf("  work cut for %d threads, not for 1 %11d of %d %19.0e\n", threads, differ(kept, s->grads.block, n),
             (int)n, vit_max_difference(kept, s->grads.block, n));
  }
  m->threads = before;
  for (int image = 0; image < 2 * B; image++) { /* one image at a time, from first to last and back */
    float *to = image < B ? forwards : backwards;
    const int b = image < B ? image : 2 * B - 1 - image;
    double loss;
    nb_try(vit_forward(m, s, images + b * PIXELS, 1));
    nb_try(vit_loss(m, s, labels + b, 0, &loss));
    vit_zero_gradients(s);
    nb_try(vit_backward(m, s, 1.0f / B));
    for (size_t i = 0; i < n; i++) to[i] += s->grads.block[i];
  }
  printf("  image by image, from last to first %11d of %d %19.0e\n", differ(forwards, backwards, n), (int)n,
         vit_max_difference(forwards, backwards, n));
  free(kept), free(forwards), free(backwards);
}

/* ---- [10] --------------------------------------------------------------- */

/* Three more mistakes. */
static void scale_forgotten(float *dq, float *dk, float *dp, const float *p, const float *q, const float *k,
                            int rows, int T, int Dh, int stride) {
  vit_naive.attention_scores_backward(dq, dk, dp, p, q, k, rows, T, Dh, stride);
  for (int i = 0; i < rows * Dh; i++) dq[i / Dh * stride + i % Dh] *= sqrtf((float)Dh);
  for (int i = 0; i < T * Dh; i++) dk[i / Dh * stride + i % Dh] *= sqrtf((float)Dh);
}
static void norm_that_overwrites(float *dx, float *dw, float *db, const float *dy, const float *x, const float *w,
                                 const float *mean, const float *rstd, int rows, int D) {
  memset(dx, 0, (size_t)(rows * D) * sizeof *dx); /* = where += is meant */
  vit_naive.layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, rows, D);
}

/* Train on the first digits, test on others; the part that is right, in %. */
static double train_with(const vit_kernels *k, const vit_dataset *train, const vit_dataset *test) {
  vit_config c = vit_config_tutorial();
  const vit_optimizer_config adam = vit_optimizer_defaults(VIT_ADAM);
  static float batch[B * PIXELS];
  int order[B], of[B];
  double loss, accuracy;
  vit_model m;
  vit_state s;
  vit_optimizer o;
  c.softmax_before_loss = 0;
  nb_try(vit_model_create(&m, &c, 1));
  m.kernels = k;
  nb_try(vit_state_create(&s, &m, B, VIT_FOR_TRAINING, 1));
  nb_try(vit_optimizer_create(&o, &m, &adam));
  for (int first = 0; first + B <= EPOCHS * train->count; first += B) {
    for (int b = 0; b < B; b++) order[b] = (first + b) % train->count;
    vit_dataset_batch(train, order, B, batch, of);
    nb_try(vit_forward(&m, &s, batch, B));
    nb_try(vit_loss(&m, &s, of, 0, &loss));
    vit_zero_gradients(&s);
    nb_try(vit_backward(&m, &s, 1));
    nb_try(vit_optimizer_step(&o, &m, &s, 0.005f));
  }
  nb_try(vit_evaluate(&m, test, &loss, &accuracy, NULL, NULL, NULL));
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_model_free(&m);
  return 100 * accuracy;
}

static void training_as_a_test(const vit_kernels *right) {
  enum { KINDS = 6 };
  static const char *const names[KINDS] = {"none", "scale forgotten", "GELU: half of it", "norm: constants",
                                           "keys: wrong sign", "norm: = for +="};
  vit_dataset train, test;
  vit_kernels k[KINDS];
  nb_cell("Would the training notice? The same mistakes, and two more, learn digits");
  for (int i = 0; i < KINDS; i++) k[i] = *right;
  k[1].attention_scores_backward = scale_forgotten;
  k[2].gelu_backward = gelu_without_bell;
  k[3].layernorm_backward = norm_of_constants;
  k[4].attention_scores_backward = keys_with_wrong_sign;
  k[5].layernorm_backward = norm_that_overwrites;
  nb_try(vit_dataset_mnist(&train, nb_data, VIT_TRAIN));
  nb_try(vit_dataset_mnist(&test, nb_data, VIT_TEST));
  vit_dataset_limit(&train, 3000);
  vit_dataset_limit(&test, 1000);
  nb_try(vit_dataset_resize(&train, SIZE, SIZE));
  nb_try(vit_dataset_resize(&test, SIZE, SIZE));
  printf("  %d passes over %d digits, tested on %d others\n", EPOCHS, train.count, test.count);
  printf("  %sthe mistake            test accuracy    the check says%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < KINDS; i++) {
    vit_config c = vit_config_tutorial();
    vit_gradient_report r;
    c.softmax_before_loss = 0;
    nb_try(vit_gradient_check(&c, &k[i], 2, 1, &r));
    printf("  %-22s %11.1f %%    %8.1e  %s\n", names[i], train_with(&k[i], &train, &test), r.worst,
           r.worst < 0.01 ? "right" : "WRONG");
  }
  vit_dataset_free(&train);
  vit_dataset_free(&test);
}

/* ---- [11] --------------------------------------------------------------- */

static double best_time(const vit_kernels *k, int backward, double *losses, float *p, float *d, const float *z,
                        const float *q, int rows, int K) {
  double best = 1e9, before = vit_seconds();
  for (int i = 0; i < 50; i++) {
    double after;
    if (backward) k->crossentropy_backward(d, p, q, 1.0f / (float)rows, rows, K);
    else k->crossentropy_forward(losses, p, z, q, rows, K);
    after = vit_seconds();
    if (after - before < best) best = after - before;
    before = after;
  }
  return best > 1e-8 ? best * 1e6 : 0.01;
}

static void by_vectors(void) {
  enum { ROWS = 128, MOST = ROWS * 1000 };
  const volatile float none = 0, infinite = -INFINITY;
  float *z = nb_floats(MOST), *q = nb_floats(MOST), *p[2], *d[2];
  double losses[2][ROWS];
  nb_cell("Vectors: the cross entropy of 128 images, on one thread");
  printf("  0 times -infinity is %s\n", isnan(none * infinite) ? "not a number" : "a number");
  nb_normal(z, MOST, 1);
  for (int i = 0; i < 2; i++) p[i] = nb_floats(MOST), d[i] = nb_floats(MOST);
  printf("  %s                       naive (us)    SIMD (us)     ratio    difference%s\n", nb_dim(), nb_plain());
  for (int K = 10; K <= 1000; K *= 100) {
    double difference = 0, us[2][2];
    for (int i = 0; i < ROWS * K; i++) q[i] = i % K == i / K % K; /* row r has label r */
    for (int i = 0; i < 4; i++)
      us[i / 2][i % 2] =
          best_time(i % 2 ? vit_best_kernels() : &vit_naive, i / 2, losses[i % 2], p[i % 2], d[i % 2], z, q, ROWS, K);
    for (int r = 0; r < ROWS; r++) difference = fmax(difference, fabs(losses[0][r] - losses[1][r]));
    printf("  forward,  %4d classes %10.1f %12.1f %8.1fx %13.0e\n", K, us[0][0], us[0][1], us[0][0] / us[0][1],
           difference);
    printf("  backward, %4d classes %10.1f %12.1f %8.1fx %13.0e\n", K, us[1][0], us[1][1], us[1][0] / us[1][1],
           vit_max_difference(d[0], d[1], (size_t)(ROWS * K)));
  }
  for (int i = 0; i < 2; i++) free(p[i]), free(d[i]);
  free(z), free(q);
}

int main(int argc, char **argv) {
  vit_config c = vit_config_tutorial();
  vit_dataset d;
  vit_model m;
  vit_state s;
  int order[B];
  nb_start("07-gradients", "The backward is right: a numeric check proves it, and the loss goes to 0.",
           argc, argv, NULL, 0);
  nb_one_thread();
  images = nb_floats(B * PIXELS);
  nb_load_few(&d, B, SIZE);
  for (int i = 0; i < B; i++) order[i] = i;
  vit_dataset_batch(&d, order, B, images, labels);
  c.softmax_before_loss = 0;
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, B, VIT_FOR_TRAINING, 1));
  side_by_side(&m, &s);
  which_step(&m, &s);
  check_all();
  learn_one_batch();
  three_logits();
  sure_and_wrong();
  finer_quotients(&m, &s);
  orders_of_adding(&m, &s);
  training_as_a_test(m.kernels);
  by_vectors();
  vit_state_free(&s);
  vit_model_free(&m);
  vit_dataset_free(&d);
  free(images);
  return 0;
}
