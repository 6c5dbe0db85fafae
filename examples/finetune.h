/* What a model that has learned something else is worth when there are few labels:
   the cells of 13 --finetune. Include it after common.h. Everything here starts
   with finetune_. */
#ifndef FINETUNE_H
#define FINETUNE_H

enum { FINETUNE_SEEDS = 3 };
typedef enum { FINETUNE_SCRATCH, FINETUNE_PROBE, FINETUNE_ALL, FINETUNE_LAYER_DECAY } finetune_way;
enum { FINETUNE_WAYS = 4 };

/* Only the classes low .. high - 1, which become 0, 1, ... */
static void finetune_keep(vit_dataset *d, int low, int high) {
  const int size = d->height * d->width;
  int n = 0;
  for (int i = 0; i < d->count; i++) {
    if (d->labels[i] < low || d->labels[i] >= high) continue;
    memmove(d->pixels + n * size, d->pixels + i * size, (size_t)size);
    d->labels[n++] = (uint8_t)(d->labels[i] - low);
  }
  d->count = n;
  d->classes = high - low;
}

static vit_config finetune_config(int classes) {
  vit_config c = vit_config_mnist();
  c.patch_height = c.patch_width = 7; /* as in 09's recipes */
  c.init = VIT_INIT_TORCH;
  c.classes = classes;
  return c;
}

/* So many steps, whatever the number of images. */
static vit_fit_config finetune_recipe(int images, int batch, int steps, float rate, int seed) {
  vit_fit_config f = vit_fit_defaults();
  f.batch = batch;
  f.epochs = steps / ((images + batch - 1) / batch);
  f.seed = (uint64_t)seed;
  f.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  f.optimizer.weight_decay = 0.05f;
  f.optimizer.clip_norm = 1;
  f.schedule = vit_schedule_constant(rate);
  f.schedule.kind = VIT_COSINE;
  f.schedule.warmup = steps / 20; /* the rate starts at 0 */
  f.augment.rotate = f.augment.shear = 7;
  f.augment.shift = f.augment.scale = 0.07f;
  return f;
}

/* Part of the test images, in %, that a model gets right. */
static double finetune_test(const vit_model *m, const vit_dataset *test) {
  double loss, accuracy;
  nb_try(vit_evaluate(m, test, &loss, &accuracy, NULL, NULL, NULL));
  return 100 * accuracy;
}

/* A model of what `train` holds, which has seen all of it `epochs` times. */
static void finetune_teach(vit_model *m, const vit_dataset *train, int epochs) {
  const vit_config c = finetune_config(train->classes);
  vit_fit_config f =
      finetune_recipe(train->count, 64, epochs * ((train->count + 63) / 64), 3e-3f, 1);
  vit_history h;
  nb_try(vit_model_create(m, &c, 1));
  nb_try(vit_fit(m, &f, train, NULL, &h));
  vit_history_free(&h);
}

/* Learn `few` in one of the ways; `new_head`: the classes are others. */
static double finetune_learn(const vit_model *from, finetune_way way, int new_head, const vit_dataset *few,
                             const vit_dataset *test, int seed) {
  const float rate = way == FINETUNE_PROBE ? 1e-2f : 1e-3f;
  const int steps = 200 + few->count / 4, batch = few->count < 500 ? 25 : 50;
  const vit_config c = finetune_config(few->classes);
  vit_fit_config f = finetune_recipe(few->count, batch, steps, rate, seed);
  vit_history h;
  vit_model m;
  double right;
  if (way == FINETUNE_PROBE) { /* features are made once: of images as they are */
    f.probe = 1;
    memset(&f.augment, 0, sizeof f.augment);
  }
  if (way == FINETUNE_LAYER_DECAY) f.optimizer.layer_decay = 0.75f;
  nb_try(vit_model_create(&m, &c, (uint64_t)seed));
  if (way != FINETUNE_SCRATCH) nb_inherit(&m, from, new_head);
  nb_try(vit_fit(&m, &f, few, NULL, &h));
  right = finetune_test(&m, test);
  vit_history_free(&h);
  vit_model_free(&m);
  return right;
}

static double finetune_median(double x[FINETUNE_SEEDS]) {
  for (int i = 0; i < FINETUNE_SEEDS; i++)
    for (int j = i + 1; j < FINETUNE_SEEDS; j++)
      if (x[j] < x[i]) {
        const double smaller = x[j];
        x[j] = x[i];
        x[i] = smaller;
      }
  return x[FINETUNE_SEEDS / 2];
}

/* Several of the training images, as many of each class; the normalisation is that
   of what the model was trained on. */
static vit_dataset finetune_few(const vit_dataset *all, int count, int seed) {
  vit_dataset copy = *all, few;
  const size_t size = (size_t)all->height * (size_t)all->width;
  copy.pixels = (uint8_t *)malloc((size_t)all->count * size);
  copy.labels = (uint8_t *)malloc((size_t)all->count);
  if (!copy.pixels || !copy.labels) nb_stop("out of memory for a copy of the images");
  memcpy(copy.pixels, all->pixels, (size_t)all->count * size);
  memcpy(copy.labels, all->labels, (size_t)all->count);
  nb_try(vit_dataset_split(&copy, count, (uint64_t)seed, &few));
  free(copy.pixels);
  free(copy.labels);
  return few;
}

/* A model of the digits 0 to 4 learns 5 to 9. */
static void finetune_other_digits(void) {
  static const int labels[] = {50, 250, 1000};
  vit_dataset old, train, old_test, test;
  vit_model m;
  char text[200];
  nb_cell("A model that knows the digits 0 to 4");
  nb_load(&train, VIT_TRAIN);
  nb_load(&test, VIT_TEST);
  nb_try(vit_dataset_mnist(&old, nb_data, VIT_TRAIN));
  nb_try(vit_dataset_mnist(&old_test, nb_data, VIT_TEST));
  finetune_keep(&old, 0, 5);
  finetune_keep(&old_test, 0, 5);
  finetune_keep(&train, 5, 10);
  finetune_keep(&test, 5, 10);
  nb_try(vit_dataset_normalize(&old, &old));
  nb_try(vit_dataset_normalize(&old_test, &old));
  nb_try(vit_dataset_normalize(&train, &old));
  nb_try(vit_dataset_normalize(&test, &old));
  finetune_teach(&m, &old, 3);
  snprintf(text, sizeof text, "%.2f %% of the test images of 0 to 4, from %d images", finetune_test(&m, &old_test),
           old.count);
  nb_row("it knows", text);
  nb_cell("It learns 5 to 9 from few labels: right answers on the test images");
  nb_say("Its head is new in all of them. Probe: the head alone learns, from features made once. Layer decay: each "
         "block learns at 0.75 times the rate of the next. Median of %d seeds, each with other labels.", FINETUNE_SEEDS);
  printf("  %s%8s %14s %14s %14s %14s%s\n", nb_dim(), "labels", "from scratch", "probe", "all layers", "layer decay",
         nb_plain());
  for (int i = 0; i < 3; i++) {
    printf("  %8d", labels[i]);
    for (int way = 0; way < FINETUNE_WAYS; way++) {
      double right[FINETUNE_SEEDS];
      for (int seed = 1; seed <= FINETUNE_SEEDS; seed++) {
        vit_dataset few = finetune_few(&train, labels[i], seed);
        right[seed - 1] = finetune_learn(&m, (finetune_way)way, 1, &few, &test, seed);
        vit_dataset_free(&few);
      }
      printf(" %12.1f %%", finetune_median(right));
      fflush(stdout);
    }
    printf("\n");
  }
  vit_model_free(&m);
  vit_dataset_free(&old);
  vit_dataset_free(&old_test);
  vit_dataset_free(&train);
  vit_dataset_free(&test);
}

/* Fine-tuning is no gain where the model knows the task already, from many more
   images than there are labels: drawn digits to real ones. */
static void finetune_drawn_digits(const char *drawn) {
  vit_dataset old, old_test, train, test;
  double after[2][FINETUNE_SEEDS];
  vit_model m;
  char text[200];
  nb_cell("A counter-example: a model of drawn digits, and 100 labels of MNIST");
  if (vit_dataset_mnist(&old, drawn, VIT_TRAIN)) {
    nb_row("left out", vit_error());
    nb_say("build/digits %s draws them.", drawn);
    return;
  }
  nb_row("data", old.source);
  nb_try(vit_dataset_mnist(&old_test, drawn, VIT_TEST));
  nb_load(&train, VIT_TRAIN);
  nb_load(&test, VIT_TEST);
  nb_try(vit_dataset_normalize(&old, &old));
  nb_try(vit_dataset_normalize(&old_test, &old));
  nb_try(vit_dataset_normalize(&train, &old));
  nb_try(vit_dataset_normalize(&test, &old));
  finetune_teach(&m, &old, 3);
  snprintf(text, sizeof text, "%.2f %% of drawn test images, from %d", finetune_test(&m, &old_test), old.count);
  nb_row("it knows", text);
  for (int seed = 1; seed <= FINETUNE_SEEDS; seed++) {
    vit_dataset few = finetune_few(&train, 100, seed);
    after[0][seed - 1] = finetune_learn(&m, FINETUNE_ALL, 0, &few, &test, seed);
    after[1][seed - 1] = finetune_learn(&m, FINETUNE_ALL, 1, &few, &test, seed);
    vit_dataset_free(&few);
  }
  printf("  MNIST's test images as it is:                        %6.1f %%\n", finetune_test(&m, &test));
  printf("  after 100 labels of MNIST, all layers, median of %d:   %6.1f %%\n", FINETUNE_SEEDS,
         finetune_median(after[0]));
  printf("  the same with a new head:                            %6.1f %%\n", finetune_median(after[1]));
  vit_model_free(&m);
  vit_dataset_free(&old);
  vit_dataset_free(&old_test);
  vit_dataset_free(&train);
  vit_dataset_free(&test);
}

/* All of it; `drawn` is a folder of drawn digits. */
static int finetune_demo(const char *drawn) {
  finetune_other_digits();
  finetune_drawn_digits(drawn);
  return 0;
}

#endif
