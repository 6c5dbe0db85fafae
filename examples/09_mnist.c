// The full MNIST training: augmentation, a held-back set, checkpoints, resume; five recipes.
#include "mnist.h"

/* The first image of a class; 0 if there is none. */
static int first_of(const vit_dataset *d, int label) {
  for (int i = 0; i < d->count; i++)
    if (d->labels[i] == label) return i;
  return 0;
}

/* The same digit, changed five times by each kind of change. A loader makes the
   batch as it does in training; mixup and cutmix pair image i with number
   9 - i, so another digit stands there. */
static void show_augmentation(const lab *unused, const vit_model *m, const vit_dataset *train) {
  static const struct { const char *name; float strength; const char *says; } kind[] = {
      {"shift", 0.15f, "shift=0.15"},   {"rotate", 20, "rotate=20"},
      {"scale", 0.3f, "scale=0.3"},     {"shear", 20, "shear=20"},
      {"elastic", 1.5f, "elastic=1.5"}, {"crop", 0.5f, "crop=0.5"},
      {"flip", 0.5f, "flip=0.5"},       {"flip_vertical", 0.5f, "flip_vertical=0.5"},
      {"brightness", 0.8f, "brightness=0.8"}, {"contrast", 0.8f, "contrast=0.8"},
      {"erase", 1, "erase=1"},          {"rand_ops", 2, "rand_ops=2"},
      {"mixup", 1, "mixup=1"},          {"cutmix", 1, "cutmix=1"}};
  enum { KINDS = sizeof kind / sizeof *kind, TIMES = 5, ROWS = KINDS / 2, COLS = 2 * TIMES + 1 };
  const int size = train->height * train->width;
  const int shown = first_of(train, 4), other = first_of(train, 0);
  const char *titles[ROWS * COLS], *field, *text;
  float *tiles = nb_floats(ROWS * COLS * size), *value;
  (void)unused;
  nb_cell("The kinds of augmentation there are, exaggerated; the recipe below says which it uses");
  if (train->count < 2 * TIMES) {
    nb_say("There are too few images for the figure.");
    free(tiles);
    return;
  }
  for (int i = 0; i < ROWS * COLS; i++) titles[i] = NULL;
  for (int i = 0; i < ROWS * COLS * size; i++) tiles[i] = 1; /* white between the two halves */
  for (int j = 0; j < size; j++) tiles[TIMES * size + j] = (float)train->pixels[shown * size + j] / 255;
  titles[TIMES] = "as it is";
  for (int k = 0; k < KINDS; k++) {
    const int at = k % ROWS * COLS + k / ROWS * (TIMES + 1);
    vit_loader l;
    vit_augment a;
    memset(&a, 0, sizeof a);
    for (int f = 0; vit_augment_field(&a, f, &field, &text, &value); f++)
      if (!strcmp(field, kind[k].name)) *value = kind[k].strength;
    if (a.rand_ops > 0) a.rand_strength = 9;
    nb_try(vit_loader_create(&l, train, m, &a, 2 * TIMES, 0, 1));
    for (int i = 0; i < TIMES; i++) {
      l.order[i] = shown;
      l.order[2 * TIMES - 1 - i] = other;
    }
    vit_loader_batch(&l, 0, 2 * TIMES);
    for (int i = 0; i < TIMES; i++) {
      for (int j = 0; j < size; j++) /* as grey levels, 0..1 */
        tiles[(at + i) * size + j] = l.images[i * size + j] * train->std[0] + train->mean[0];
    }
    titles[at + TIMES / 2] = kind[k].says;
    vit_loader_free(&l);
  }
  nb_figure(vit_plot_tiles(nb_out, "augmentation",
                           "One digit, changed five times by each kind of augmentation, more than a recipe would",
                           tiles, NULL, 0, 0, titles, ROWS, COLS, 1, train->height, train->width, 0, 1),
            "augmentation");
  free(tiles);
}

int main(int argc, char **argv) {
  lab l = recipe(lab_argument(argc, argv, "--preset", "quick"), argc, argv);
  const char *test_from = NULL;
  char name[60];
  nb_flag flags[LAB_FLAGS + 2] = {
      {"--preset", "NAME", "tutorial, quick, best; small local, post-norm (quick)", NULL, NULL, &l.preset},
      {"--test", "DIR", "take the test images from another folder", NULL, NULL, &test_from}};
  vit_dataset train, test;
  lab_flags(&l, flags + 2);
  snprintf(name, sizeof name, "09-mnist/%.20s", l.preset); /* a folder for each recipe */
  nb_start(name, "The full MNIST training: a Vision Transformer that reads digits well.", argc,
           argv, flags, LAB_FLAGS + 2);
  if (l.compare) {
    lab_compare(&l);
    return 0;
  }
  lab_open_init(&l);
  lab_settle(&l);
  nb_cell("Data");
  nb_load(&train, VIT_TRAIN);
  if (test_from) nb_data = test_from;
  nb_load(&test, VIT_TEST);
  nb_try(vit_dataset_resize(&train, l.config.image_height, l.config.image_width));
  nb_try(vit_dataset_resize(&test, l.config.image_height, l.config.image_width));
  if (l.normalize) nb_try(vit_dataset_normalize(&train, &train));
  lab_run(&l, &train, &test, show_augmentation);
  return 0;
}
