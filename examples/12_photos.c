// Train on photos: CIFAR-10 or any folder of images, one folder per class.
#include "lab.h"

/* Model C as published: 75.5 % in 100 epochs. */
static void recipe_cifar_cls(lab *l) {
  l->config = vit_config_cifar_cls();
  l->fit.epochs = 100;
  l->fit.batch = 256;
  l->fit.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  l->fit.optimizer.weight_decay = 0.01f;
  l->fit.optimizer.decay_all = 1;
  l->fit.schedule = vit_schedule_constant(0.01f);
  l->fit.augment.flip = 0.5f;
  l->fit.augment.crop = 0.8f;
}

/* Model B as published: 53 % in 120 epochs. */
static void recipe_cifar_mean(lab *l) {
  l->config = vit_config_cifar_mean();
  l->held = 10000;
  l->fit.epochs = 120;
  l->fit.optimizer = vit_optimizer_defaults(VIT_ADAM);
  l->fit.schedule = vit_schedule_constant(2e-3f);
  l->fit.schedule.kind = VIT_PLATEAU;
  l->fit.schedule.factor = 0.8f;
  l->fit.schedule.patience = 5;
  l->fit.schedule.floor = 1e-5f;
  l->fit.augment.flip = 0.5f;
  l->fit.augment.rotate = 7.2f; /* Keras: 0.02 of a turn */
  l->fit.augment.scale = 0.2f;
  l->fit.augment.shift = 0.1f;
}

/* Models D and E as published: of the size of B/16, for photos of 224 x 224 (or
   --size). D's source gives this optimiser, for weights that were trained before;
   E's gives none. */
static void recipe_b16(lab *l, vit_config published) {
  l->config = published;
  l->fit.epochs = 10;
  l->fit.batch = 16;
  l->fit.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  l->fit.schedule = vit_schedule_constant(3e-5f);
  l->fit.schedule.kind = VIT_LINEAR;
  l->warmup = 0.05f; /* 500 steps of 10,000 */
  l->fit.augment.crop = 0.8f;
}

/* Our own: a wider and deeper model C with a mean over the patches, which knows
   from the start where they lie (2-D sines and cosines) and lets each see its
   neighbours only; trained for longer, at a low rate that falls to 0. */
static void recipe_best(lab *l) {
  l->config = vit_config_cifar_cls();
  l->config.class_token = 0;
  l->config.pool = VIT_POOL_MEAN;
  l->config.positions = VIT_POSITIONS_SINCOS2D;
  l->config.local_mask = 5;
  l->config.width = 80;
  l->config.depth = 6;
  l->config.heads = 5;
  l->config.mlp_width = 160;
  l->config.final_norm = 1;
  l->config.init = VIT_INIT_TORCH;
  l->fit.epochs = 140;
  l->fit.batch = 128;
  l->fit.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  l->fit.optimizer.weight_decay = 0.05f;
  l->fit.optimizer.clip_norm = 1;
  l->fit.schedule = vit_schedule_constant(2e-3f);
  l->fit.schedule.kind = VIT_COSINE;
  l->warmup = 0.04f;
  l->fit.smoothing = 0.1f;
  l->fit.ema = 0.9995f;
  l->fit.augment.flip = 0.5f;
  l->fit.augment.crop = 0.6f;
  l->fit.augment.rand_ops = 1;
  l->fit.augment.rand_strength = 6;
  l->fit.augment.cutmix = 0.3f;
}

static lab recipe(const char *preset, int argc, char **argv) {
  lab l = lab_begin(preset, argc, argv);
  if (!strcmp(preset, "best")) recipe_best(&l);
  else if (!strcmp(preset, "cifar-cls")) recipe_cifar_cls(&l);
  else if (!strcmp(preset, "cifar-mean")) recipe_cifar_mean(&l);
  else if (!strcmp(preset, "local")) recipe_b16(&l, vit_config_local());
  else if (!strcmp(preset, "post-norm")) recipe_b16(&l, vit_config_post_norm());
  else nb_stop("--preset must be best, cifar-cls, cifar-mean, local or post-norm");
  return l;
}

/* A line for each file that is no image, ten at most. */
static void say_skipped(const char *sentence, void *user) {
  int *said = (int *)user;
  if (++*said <= 10) nb_row("skipped", sentence);
}

/* Is there a folder, or a file, DIR/SUB? */
static int is_there(char path[600], const char *dir, const char *sub, int folder) {
  struct stat info;
  if (strlen(dir) > 500) nb_stop("the name of the folder of --data has more than 500 characters");
  snprintf(path, 600, "%s/%s", dir, sub);
  return !stat(path, &info) && (S_ISDIR(info.st_mode) != 0) == folder;
}

static void load_folder(vit_dataset *d, const char *path, const vit_config *c, const char *filter) {
  vit_folder_config f = vit_folder_defaults();
  int said = 0;
  f.channels = c->channels;
  f.height = c->image_height;
  f.width = c->image_width;
  f.filter = filter && !strcmp(filter, "bicubic") ? VIT_BICUBIC : VIT_BILINEAR;
  f.skipped = say_skipped;
  f.user = &said;
  nb_try(vit_dataset_folder(d, path, &f));
  nb_row("data", d->source);
  if (said > 10) printf("  skipped      and %d more\n", said - 10);
  if (d->enlarged)
    printf("  note         %d images are smaller than %d x %d and were enlarged\n", d->enlarged,
           c->image_height, c->image_width);
}

static void check_classes(const vit_dataset *train, const vit_dataset *test) {
  char message[300];
  int k = 0;
  const int most = train->classes < test->classes ? train->classes : test->classes;
  while (k < most && !strcmp(vit_class_name(train, k), vit_class_name(test, k))) k++;
  if (k == train->classes && k == test->classes) return;
  snprintf(message, sizeof message,
           "class %d is %s in the training images and %s in the test images, which have %d and %d classes",
           k, k < train->classes ? vit_class_name(train, k) : "missing",
           k < test->classes ? vit_class_name(test, k) : "missing", train->classes, test->classes);
  nb_stop(message);
}

/* A folder with the name of a part of the data would be taken for a class. */
static void check_parts(const char *dir) {
  static const char *const parts[] = {"test", "val", "Train", "TRAIN", "training", "Training",
                                      "Test", "TEST", "Val", "valid", "validation", "Validation"};
  char path[600], message[300];
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    if (!is_there(path, dir, parts[i], 1)) continue;
    snprintf(message, sizeof message,
             "the folder %s looks like a part of the data, and there is no folder train beside it; call the "
             "parts train and test (if it is a class, put all classes into train/ and test/)", parts[i]);
    nb_stop(message);
  }
}

/* CIFAR-10's binary files, or DIR/train and DIR/test (or DIR/val), or DIR itself
   with a fifth of its images as the test. */
static void load_data(vit_dataset *train, vit_dataset *test, const lab *l, const char *filter) {
  const char *dir = nb_data ? nb_data : getenv("VIT_DATA");
  char path[600], other[600], message[400];
  nb_cell("Data");
  if (!dir || !*dir) dir = "data";
  if (is_there(path, dir, "train", 1)) {
    if (!is_there(other, dir, "test", 1) && !is_there(other, dir, "val", 1))
      nb_stop("there is a folder train, but neither test nor val beside it");
    load_folder(train, path, &l->config, filter);
    load_folder(test, other, &l->config, filter);
  } else if (is_there(path, dir, "data_batch_1.bin", 0) ||
             is_there(path, dir, "cifar-10-batches-bin/data_batch_1.bin", 0) ||
             is_there(path, dir, "cifar10/data_batch_1.bin", 0)) {
    if (filter && strcmp(filter, "bilinear"))
      nb_stop("--filter bicubic is for folders of images; CIFAR-10's own files are always resized with bilinear");
    nb_try(vit_dataset_cifar10(train, dir, VIT_TRAIN));
    nb_try(vit_dataset_cifar10(test, dir, VIT_TEST));
    nb_try(vit_dataset_resize(train, l->config.image_height, l->config.image_width));
    nb_try(vit_dataset_resize(test, l->config.image_height, l->config.image_width));
    nb_row("data", train->source);
    nb_row("data", test->source);
  } else if (nb_data) {
    check_parts(dir);
    load_folder(train, dir, &l->config, filter);
    nb_try(vit_dataset_split(train, train->count / 5, 1, test));
    printf("  note         there is no folder train: a fifth of the images, %d, is the test\n",
           test->count);
  } else {
    snprintf(message, sizeof message,
             "%.200s has neither train/ and test/ nor the files of CIFAR-10's binary version; --data DIR names a "
             "folder that has, or one with a folder of images for each class", dir);
    nb_stop(message);
  }
  check_classes(train, test);
}

/* The class of an image and, where mixup or cutmix changed it, what it became. */
static const char *mixture(char text[200], const vit_dataset *d, const float *target, int own) {
  char a[VIT_NAME_SIZE + 3], b[VIT_NAME_SIZE + 3];
  int other = -1;
  for (int k = 0; k < d->classes; k++)
    if (k != own && (other < 0 || target[k] > target[other])) other = k;
  if (other < 0 || target[other] < 0.005f)
    snprintf(text, 200, "%s", nb_class(a, d, own, 11));
  else
    snprintf(text, 200, "%s\n\342\206\222 %.0f %% %s,\n%.0f %% %s", nb_class(a, d, own, 11),
             100 * (double)target[own], a, 100 * (double)target[other], nb_class(b, d, other, 11));
  return text;
}

/* Shrink with a filter that does not grow: the pixel at the new one's place alone,
   or a blend of the 2 x 2 around it (of two, in a single row). */
static void shrink_plainly(uint8_t *out, const uint8_t *in, int h, int w, int out_h, int out_w, int blend) {
  for (int y = 0; y < out_h; y++)
    for (int x = 0; x < out_w; x++) {
      const double v = (y + 0.5) * h / out_h, u = (x + 0.5) * w / out_w;
      if (!blend) {
        *out++ = in[(int)v * w + (int)u];
      } else {
        const double down = fmax(v - 0.5, 0), on = fmax(u - 0.5, 0);
        const int t = (int)down, l = (int)on, b = t + 1 < h ? t + 1 : t, r = l + 1 < w ? l + 1 : l;
        const double g = down - t, f = on - l;
        *out++ = (uint8_t)((1 - g) * ((1 - f) * in[t * w + l] + f * in[t * w + r]) +
                           g * ((1 - f) * in[b * w + l] + f * in[b * w + r]) + 0.5);
      }
    }
}

/* Twelve pixels become three, in numbers; then rings that get narrower outwards
   become a quarter as wide, each new pixel drawn as 4 x 4. */
static void show_shrinking(void) {
  enum { SIDE = 192, TIMES = 4, SMALL = SIDE / TIMES, WAYS = 5 };
  static const char *const titles[WAYS] = {"as it is", "every 4th pixel", "a blend of 2 x 2",
                                           "bilinear, grown", "bicubic, grown"};
  static const uint8_t row[12] = {240, 0, 0, 240, 240, 0, 0, 240, 240, 0, 0, 240};
  static uint8_t rings[SIDE * SIDE], small[WAYS][SMALL * SMALL];
  uint8_t three[WAYS][3];
  float *tiles = nb_floats(WAYS * SIDE * SIDE);
  nb_cell("Shrinking: how many old pixels should a new one be made of?");
  shrink_plainly(three[1], row, 1, 12, 1, 3, 0);
  shrink_plainly(three[2], row, 1, 12, 1, 3, 1);
  nb_try(vit_resize(three[3], row, 1, 1, 12, 1, 3, VIT_BILINEAR));
  nb_try(vit_resize(three[4], row, 1, 1, 12, 1, 3, VIT_BICUBIC));
  printf("  twelve pixels    ");
  for (int i = 0; i < 12; i++) printf(" %d", row[i]);
  for (int way = 1; way < WAYS; way++)
    printf("\n  %-18s %d %d %d", titles[way], three[way][0], three[way][1], three[way][2]);
  printf("\n");
  for (int y = 0; y < SIDE; y++)
    for (int x = 0; x < SIDE; x++) {
      const double v = y + 0.5 - SIDE / 2, u = x + 0.5 - SIDE / 2;
      rings[y * SIDE + x] = (uint8_t)(127.5 + 127 * cos(VIT_PI * (v * v + u * u) / SIDE) + 0.5);
    }
  shrink_plainly(small[1], rings, SIDE, SIDE, SMALL, SMALL, 0);
  shrink_plainly(small[2], rings, SIDE, SIDE, SMALL, SMALL, 1);
  nb_try(vit_resize(small[3], rings, 1, SIDE, SIDE, SMALL, SMALL, VIT_BILINEAR));
  nb_try(vit_resize(small[4], rings, 1, SIDE, SIDE, SMALL, SMALL, VIT_BICUBIC));
  for (int way = 0; way < WAYS; way++)
    for (int y = 0; y < SIDE; y++)
      for (int x = 0; x < SIDE; x++)
        tiles[(way * SIDE + y) * SIDE + x] =
            (float)(way ? small[way][y / TIMES * SMALL + x / TIMES] : rings[y * SIDE + x]) / 255;
  nb_figure(vit_plot_tiles(nb_out, "shrinking",
                           "Rings that get narrower outwards, and what four ways of shrinking make of them",
                           tiles, NULL, 0, 0, titles, 1, WAYS, 1, SIDE, SIDE, 0, 1),
            "shrinking");
  free(tiles);
}

/* Pairs of training images: as they are, and below what the recipe makes of them.
   A pair is one picture, so that it stands apart from the next one. */
static void show_images(const lab *l, const vit_model *m, const vit_dataset *train) {
  enum { ROWS = 2, COLS = 8, PAIRS = ROWS * COLS };
  const int C = train->channels, H = train->height, W = train->width, between = 1 + H / 32;
  const int plane = H * W, tall = (2 * H + between) * W;
  const char *titles[PAIRS];
  static char text[PAIRS][200];
  float *pairs;
  vit_loader loader;
  nb_cell("Training images: above as they are, below as the recipe changes them");
  if (l->fit.augment.mixup > 0 || l->fit.augment.cutmix > 0)
    nb_say("mixup and cutmix bring in another image, sometimes of the same class.");
  if (train->count < PAIRS) {
    nb_say("There are too few images for the figure.");
    return;
  }
  nb_try(vit_loader_create(&loader, train, m, &l->fit.augment, PAIRS, 0, l->fit.seed));
  nb_try(vit_loader_batch(&loader, 0, PAIRS));
  pairs = nb_floats(PAIRS * C * tall);
  for (int i = 0; i < PAIRS; i++) {
    const int index = loader.order[i], label = train->labels[index];
    for (int c = 0; c < C; c++) {
      float *above = pairs + (i * C + c) * tall, *below = above + plane + between * W;
      const vit_idx plain = ((vit_idx)index * C + c) * plane, changed = ((vit_idx)i * C + c) * plane;
      for (int j = 0; j < plane; j++) {
        above[j] = (float)train->pixels[plain + j] / 255;
        below[j] = loader.images[changed + j] * train->std[c] + train->mean[c];
      }
      for (int j = plane; j < plane + between * W; j++) above[j] = 1; /* white */
    }
    titles[i] = mixture(text[i], train, loader.targets + i * m->config.classes, label);
  }
  nb_figure(vit_plot_tiles(nb_out, "images",
                           "Pairs of training images. Above: as it is. Below: what the recipe makes of it this time",
                           pairs, NULL, 0, 0, titles, ROWS, COLS, C, 2 * H + between, W, 0, 1),
            "images");
  vit_loader_free(&loader);
  free(pairs);
}

int main(int argc, char **argv) {
  lab l = recipe(lab_argument(argc, argv, "--preset", "best"), argc, argv);
  const char *filter = NULL;
  char name[60];
  int size = 0;
  nb_flag flags[LAB_FLAGS + 3] = {
      {"--preset", "NAME", "best; published: cifar-cls (C), cifar-mean (B), local (D), post-norm (E) (best)", NULL, NULL, &l.preset},
      {"--size", "N", "resize the shorter side to N pixels, cut out N x N (preset's)", &size, NULL, NULL},
      {"--filter", "NAME", "for resizing: bilinear or bicubic (bilinear)", NULL, NULL, &filter}};
  vit_dataset train, test;
  lab_flags(&l, flags + 3);
  snprintf(name, sizeof name, "12-photos/%.20s", l.preset); /* a folder for each recipe */
  nb_start(name, "Train on photos: CIFAR-10, or a folder of images for each class.", argc, argv,
           flags, LAB_FLAGS + 3);
  if (l.compare) {
    lab_compare(&l);
    return 0;
  }
  if (filter && strcmp(filter, "bilinear") && strcmp(filter, "bicubic"))
    nb_stop("--filter must be bilinear or bicubic");
  lab_open_init(&l);
  if (size) l.config.image_height = l.config.image_width = size;
  lab_settle(&l);
  show_shrinking();
  load_data(&train, &test, &l, filter);
  l.config.classes = train.classes;
  for (int c = 0; c < 3; c++) train.mean[c] = train.std[c] = 0.5f;
  lab_run(&l, &train, &test, show_images);
  return 0;
}
