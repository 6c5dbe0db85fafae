// Train the classic tutorial model on MNIST: loss falls, accuracy climbs, and you see what it looks at.
#include "common.h"

/* What the flags set. */
static int epochs = 5, batch = 128, seed = 1, threads = 0;
static float rate = 0.005f;
static const char *kernels = NULL, *head = NULL;

/* ---- the cells --------------------------------------------------------- */

static void load_data(vit_dataset *train, vit_dataset *test) {
  nb_cell("Data: digits of 28 x 28 pixels, made 32 x 32 so that 16 x 16 patches fit");
  nb_load(train, VIT_TRAIN);
  nb_load(test, VIT_TEST);
  nb_try(vit_dataset_resize(train, 32, 32));
  nb_try(vit_dataset_resize(test, 32, 32));
}

static void make_model(vit_model *m) {
  vit_config c = vit_config_tutorial();
  vit_memory need;
  nb_cell("Model: 4 patches and a class token, 3 blocks of 3 heads, 9 numbers per token");
  if (head && !strcmp(head, "logits")) c.softmax_before_loss = 0;
  nb_try(vit_memory_plan(&c, batch, &need));
  nb_try(vit_model_create(m, &c, (uint64_t)(unsigned)seed));
  m->threads = threads;
  if (kernels && !strcmp(kernels, "naive"))
    m->kernels = &vit_naive;
  else if (kernels && vit_best_kernels() == &vit_naive)
    nb_stop("--kernels simd: this processor or this build has no SIMD kernels; use naive");
  printf("  parameters   %.0f\n", (double)m->params.count);
  printf("  memory       %.2f MB for a batch of %d: parameters, gradients and Adam's moments %.2f,\n"
         "               activations %.2f\n",
         (double)(need.parameters + need.gradients + need.moments + need.training) / 1e6, batch,
         (double)(need.parameters + need.gradients + need.moments) / 1e6,
         (double)need.training / 1e6);
  printf("  kernels      %s%s%s\n", m->kernels->name, m->kernels == &vit_naive ? "" : ", ",
         m->kernels == &vit_naive ? "" : vit_simd_name());
  printf("  threads      %d\n", vit_model_threads(m));
}

/* Called after every step. In a terminal one line is written over and over;
   elsewhere there is a line per epoch. */
static int show_progress(const vit_progress *p, void *user) {
  double *last = (double *)user; /* when the line was last drawn */
  if (p->epoch_done) {
    printf("%s  epoch %d/%d   loss %.4f   test loss %.4f   accuracy %.2f %%   %6.0f images/s   %.1f s\n",
           nb_terminal() ? "\r\033[K" : "", p->epoch, p->epochs, p->result->train_loss,
           p->result->val_loss, 100 * p->result->val_accuracy, p->images_per_second, p->seconds);
    fflush(stdout);
  } else if (nb_terminal() && (p->seconds - *last > 0.1 || p->step == 1)) {
    int done = p->step * 24 / p->steps;
    printf("\r\033[K  epoch %d/%d  [%.*s%.*s]  loss %.4f   %6.0f images/s   %.0f s left", p->epoch,
           p->epochs, done, "########################", 24 - done, "........................",
           p->loss, p->images_per_second, p->seconds_left);
    fflush(stdout);
    *last = p->seconds;
  }
  return 0;
}

static void train_model(vit_model *m, const vit_dataset *train, const vit_dataset *test,
                        vit_history *h) {
  vit_fit_config f = vit_fit_defaults();
  double last = 0;
  vit_result r;
  nb_cell("Training: Adam, cross entropy; each epoch sees every training image once");
  f.epochs = epochs;
  f.batch = batch;
  f.seed = (uint64_t)(unsigned)seed;
  f.schedule.rate = rate; /* sinks to its half during the run */
  f.schedule.floor = rate / 2;
  f.callback = show_progress;
  f.user = &last;
  r = vit_fit(m, &f, train, test, h);
  if (r && nb_terminal()) printf("\n");
  nb_try(r);
  nb_figure(vit_plot_history(nb_out, "curves", h, "test images", &m->config), "curves");
}

/* What the test images were taken for. */
static void show_confusion(const vit_dataset *test, const int *guess) {
  enum { K = 10 };
  int counts[K * K] = {0}, worst = 1;
  nb_cell("Which digit is taken for which?");
  vit_confusion(counts, guess, test->labels, test->count, K);
  printf("  %-12s", "true \\ said");
  for (int k = 0; k < K; k++) printf("%6d", k);
  printf("\n");
  for (int t = 0; t < K; t++) {
    printf("  %12d", t);
    for (int k = 0; k < K; k++) {
      if (counts[t * K + k])
        printf("%s%6d%s", t == k ? nb_bold() : "", counts[t * K + k], t == k ? nb_plain() : "");
      else
        printf("%6s", ".");
      if (t != k && counts[t * K + k] > counts[worst]) worst = t * K + k;
    }
    printf("\n");
  }
  printf("  most frequent mistake: a %d that is taken for a %d, %d times\n", worst / K, worst % K,
         counts[worst]);
  for (int k = 0; k < K; k++) {
    int said = 0;
    for (int t = 0; t < K; t++) said += counts[t * K + k];
    if (said == 0)
      printf("  nothing is called a %d: behind a softmax the loss can give a digit up (see 07);\n"
             "  more epochs, or --head logits, bring it back\n", k);
  }
  nb_figure(vit_plot_confusion(nb_out, "confusion", counts, K, test), "confusion");
}

/* Attention of the class token in the last block: one row of pictures per
   head, one column per digit. */
static void show_attention(const vit_model *m, const vit_dataset *test) {
  enum { DIGITS = 10, HEADS = 3, PATCHES = 4 };
  static float glow[HEADS * DIGITS * PATCHES];
  static char text[HEADS * DIGITS][40];
  const char *titles[HEADS * DIGITS];
  int size = test->height * test->width, order[DIGITS];
  const int n = nb_one_of_each(order, test, DIGITS);
  float *images = (float *)malloc((size_t)(HEADS * DIGITS * size) * sizeof(float));
  vit_state s;
  if (!images) nb_stop("out of memory for the attention figure");
  nb_cell("What does the class token look at? Attention in the last block, in % per patch");
  vit_dataset_batch(test, order, n, images, NULL);
  nb_try(vit_state_create(&s, m, n, VIT_KEEP_ATTENTION, 0));
  nb_try(vit_forward(m, &s, images, n));
  printf("  %-7s %-26s %-26s %-26s\n", "digit", "head 0", "head 1", "head 2");
  printf("  %-7s", "");
  for (int h = 0; h < HEADS; h++) printf(" %s%-26s%s", nb_dim(), "self   TL   TR   BL   BR", nb_plain());
  printf("\n");
  for (int k = 0; k < n; k++) {
    printf("  %-7d", test->labels[order[k]]);
    for (int h = 0; h < HEADS; h++) {
      const float *row = vit_attention(m, &s, m->config.depth - 1, k, h);
      int tile = h * n + k;
      for (int j = 0; j <= PATCHES; j++) printf("%5.0f", 100 * (double)row[j]);
      printf("  ");
      memcpy(glow + tile * PATCHES, row + 1, PATCHES * sizeof(float));
      if (h) memcpy(images + tile * size, images + k * size, (size_t)size * sizeof(float));
      snprintf(text[tile], sizeof text[tile], "head %d: %.0f %%", h, 100 * (1 - (double)row[0]));
      titles[tile] = text[tile];
    }
    printf("\n");
  }
  printf("  %sself: on the class token itself; TL, TR, BL, BR: top left ... bottom right patch%s\n",
         nb_dim(), nb_plain());
  nb_figure(vit_plot_tiles(nb_out, "attention",
                           "Where the class token looks in the last block: no orange 0 %, bright orange 100 % of its "
                           "attention. Below: the sum over the patches",
                           images, glow, 2, 2, titles, HEADS, n, 1, test->height, test->width, 0, 0),
            "attention");
  vit_state_free(&s);
  free(images);
}

/* Refuse what cannot work before anything is read or drawn. */
static void check_flags(void) {
  if (epochs < 1 || epochs > 1000000) nb_stop("--epochs must be from 1 to 1000000");
  if (batch < 1 || batch > 1000000) nb_stop("--batch must be from 1 to 1000000");
  if (!(rate >= 0 && rate <= 1000)) nb_stop("--lr must be from 0 to 1000");
  if (threads < 0 || threads > 1024) nb_stop("--threads must be from 0 (all) to 1024");
  if (kernels && strcmp(kernels, "naive") && strcmp(kernels, "simd"))
    nb_stop("--kernels must be naive or simd");
  if (head && strcmp(head, "softmax") && strcmp(head, "logits"))
    nb_stop("--head must be softmax or logits");
}

int main(int argc, char **argv) {
  const nb_flag flags[] = {
      {"--epochs", "N", "passes over the training images (5)", &epochs, NULL, NULL},
      {"--batch", "N", "images per step (128)", &batch, NULL, NULL},
      {"--lr", "RATE", "learning rate of Adam, halved over the run (0.005)", NULL, &rate, NULL},
      {"--seed", "N", "of the initial weights and the shuffling (1)", &seed, NULL, NULL},
      {"--threads", "N", "0 = all cores (0)", &threads, NULL, NULL},
      {"--kernels", "naive|simd", "which kernels run (the best)", NULL, NULL, &kernels},
      {"--head", "softmax|logits", "what the loss sees (softmax, as the tutorial)", NULL, NULL, &head}};
  vit_dataset train, test;
  vit_model m;
  vit_history h;
  double loss, accuracy;
  int *guess;
  float *p;
  nb_start("08-training",
           "The whole tutorial: a Vision Transformer of 5,689 numbers learns to read digits.", argc,
           argv, flags, 7);
  check_flags();
  load_data(&train, &test);
  make_model(&m);
  train_model(&m, &train, &test, &h);
  guess = (int *)malloc((size_t)test.count * sizeof(int));
  p = (float *)malloc((size_t)test.count * 10 * sizeof(float));
  if (!guess || !p) nb_stop("out of memory for the test results");
  nb_try(vit_evaluate(&m, &test, &loss, &accuracy, guess, p, NULL));
  show_confusion(&test, guess);
  nb_show_mistakes(&test, guess, p);
  show_attention(&m, &test);
  printf("\ntest accuracy %.2f %%\n", 100 * accuracy);
  free(guess);
  free(p);
  vit_history_free(&h);
  vit_model_free(&m);
  vit_dataset_free(&train);
  vit_dataset_free(&test);
  return 0;
}
