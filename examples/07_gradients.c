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

static void which_step(const vit_model *m, vit_state *s) {
  vit_plot p;
  vit_tensor t;
  float *w;
  double analytic;
  nb_cell("How large should h be? Large: the loss bends. Small: floats run out of digits");
  nb_try(vit_tensor_find(&m->config, "head.bias", &t));
  w = m->params.block + t.offset;
  analytic = (double)s->grads.block[t.offset];
  nb_try(vit_plot_begin(&p, nb_out, "step", 760, 420));
  printf("  %s           h        numeric     error%s    (analytic %.8f, head.bias[0])\n", nb_dim(),
         nb_plain(), analytic);
  for (float h = 1; h > 5e-7f; h /= 10) {
    double numeric = numeric_gradient(m, s, w, h), error = fabs(numeric - analytic);
    printf("  %12.0e %14.8f %9.1e  ", (double)h, numeric, error);
    nb_bar((log10(error + 1e-9) + 8) / 8, 32);
    printf("\n");
    fprintf(p.data, "%g %g\n", (double)h, error + 1e-9);
  }
  nb_axes(&p, "How large should the step h be? In the middle: the error is least between two limits",
          "step h (head.bias[0] of the tutorial model)", "|numeric - analytic gradient|");
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

enum { STEPS = 400 };

/* Learn the 32 digits by heart; the loss before each step. Returns how many are right. */
static int overfit(int softmax_before_loss, double *loss) {
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
  for (int b = 0; b < B; b++) right += classes[b] == labels[b];
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_model_free(&m);
  return right;
}

static void learn_one_batch(void) {
  static double loss[2][STEPS];
  const double floor_loss = log(exp(1.0) + 9) - 1;
  int right[2];
  vit_plot p;
  nb_cell("Learn 32 digits by heart: a model with right gradients brings the loss to 0");
  NB_RUN(right[0] = overfit(0, loss[0]));
  NB_RUN(right[1] = overfit(1, loss[1]));
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
  vit_state_free(&s);
  vit_model_free(&m);
  vit_dataset_free(&d);
  free(images);
  return 0;
}
