// Look inside a trained model: where it looks, what each block knows, and which picture of it to believe.
//
// Read beside it: chapter 10 of vit.h. Without --model it trains a small one on digits first.
#include "common.h"
#include <sys/stat.h>

enum { RANDOM, RAW, ROLLOUT, RELEVANCE, OCCLUSION, GRADIENTS, METHODS, DIGITS = 10, STEPS = 32 };
static const char *const names[METHODS] = {"random order",         "attention, last block", "rollout",
                                           "relevance",            "occlusion",             "integrated gradients"};

/* What the flags set. */
static const char *file = NULL, *image_flag = NULL, *keep = NULL;
static int layer = -1, head = -1, asked = -1, judged = 20, epochs = 6;

static vit_model m;
static vit_state s, plain; /* to go back through; for forwards alone */
static vit_dataset test, shown;
static int at; /* the image of `shown` that the cells are about */
static int L, H, T, N, K, C, rows, cols, height, width, size;
static float *black;

/* ---- [1] ---------------------------------------------------------------- */

/* A minute with plain loops, seconds with vectors. */
static void train_model(vit_dataset *about) {
  if (epochs < 1 || epochs > 1000) nb_stop("--epochs must be from 1 to 1000");
  vit_config c = vit_config_mnist();
  vit_fit_config f = vit_fit_defaults();
  vit_dataset train;
  vit_history h;
  c.width = 24, c.depth = 4, c.heads = 3, c.mlp_width = 48, c.init = VIT_INIT_TORCH;
  c.positions = VIT_POSITIONS_SINCOS2D; /* learned ones would take longer */
  f.epochs = epochs, f.batch = 16;
  f.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  f.schedule = vit_schedule_constant(4e-3f);
  f.schedule.kind = VIT_COSINE, f.schedule.warmup = 50;
  nb_load(&train, VIT_TRAIN);
  vit_dataset_limit(&train, 4000);
  nb_try(vit_dataset_normalize(&train, &train));
  memcpy(about->mean, train.mean, sizeof train.mean), memcpy(about->std, train.std, sizeof train.std);
  nb_try(vit_model_create(&m, &c, 1));
  nb_progress("  training on %d images, %d times ...", train.count, f.epochs);
  nb_try(vit_fit(&m, &f, &train, NULL, &h));
  if (nb_terminal()) printf("\r\033[K");
  printf("  trained here on %d images, %d times; --model FILE takes one of yours\n", train.count, f.epochs);
  if (keep) nb_try(vit_model_save(&m, &train, keep));
  if (keep) nb_row("kept", keep);
  vit_history_free(&h);
  vit_dataset_free(&train);
}

/* Test images of the model's kind: digits, CIFAR-10, or a folder with test/ in it. */
static int load_test(const vit_dataset *about) {
  char path[600];
  struct stat info;
  const int image_alone = image_flag && image_flag[strspn(image_flag, "0123456789")];
  vit_folder_config f = vit_folder_defaults();
  vit_result r;
  if (about->channels == 1) r = vit_dataset_mnist(&test, nb_data, VIT_TEST);
  else r = vit_dataset_cifar10(&test, nb_data, VIT_TEST);
  if (r && nb_data) {
    snprintf(path, sizeof path, "%.500s/test", nb_data);
    f.channels = about->channels, f.height = about->height, f.width = about->width;
    r = vit_dataset_folder(&test, stat(path, &info) ? nb_data : path, &f);
  }
  if (r && image_alone) return 0;
  nb_try(r);
  if (test.classes != about->classes) {
    if (image_alone) return vit_dataset_free(&test), 0;
    nb_stop("--data: these images have another number of classes than the model; --image FILE shows it a picture");
  }
  nb_try(vit_dataset_resize(&test, about->height, about->width));
  return 1;
}

/* A picture as a dataset of one; its label is not known. */
static void load_picture(const vit_dataset *about) {
  uint8_t *pixels, *small = (uint8_t *)malloc((size_t)size);
  int tall, wide;
  shown = *about;
  shown.labels = (uint8_t *)calloc(1, 1);
  if (!small || !shown.labels) nb_stop("out of memory for the picture");
  nb_try(vit_image_load(image_flag, C, &pixels, &tall, &wide));
  nb_row("picture", image_flag);
  if (C == 1 && height == 28 && width == 28 && about->classes == 10 && !about->names) {
    nb_try(vit_digit_prepare(small, pixels, tall, wide));
    nb_row("prepared", "as the digits of MNIST were (vit_digit_prepare)");
  } else {
    nb_try(vit_resize(small, pixels, C, tall, wide, height, width, VIT_BILINEAR));
  }
  vit_image_free(pixels);
  shown.count = 1, shown.pixels = small;
}

static void pixels_of(float *to, const vit_dataset *d, int i) { vit_dataset_batch(d, &i, 1, to, NULL); }

static void check_flags(void) {
  char text[200];
  const struct { const char *flag; int value, end; } flags[] = {
      {"--layer", layer, L}, {"--head", head, H}, {"--class", asked, K}};
  for (int i = 0; i < 3; i++) {
    if (flags[i].value >= -1 && flags[i].value < flags[i].end) continue;
    snprintf(text, sizeof text, "%s is %d; of this model it must be from 0 to %d", flags[i].flag,
             flags[i].value, flags[i].end - 1);
    nb_stop(text);
  }
  if (judged < 1 || judged > 10000) nb_stop("--images must be from 1 to 10000");
}

static void begin(void) {
  vit_dataset about;
  const vit_config *c = &m.config;
  const char *wanted = getenv("VIT_KERNELS");
  double loss, accuracy;
  char text[200];
  int many;
  nb_cell("A model, and images that it has not seen");
  memset(&about, 0, sizeof about);
  if (file && keep) nb_stop("--keep is for a model that is trained here, without --model");
  if (file) {
    nb_try(vit_pretrained_open(&m, file, NULL, &about, NULL));
    if (wanted && !strcmp(wanted, "naive")) m.kernels = &vit_naive;
    nb_row("model", file);
  } else {
    train_model(&about);
    about.channels = 1, about.height = about.width = 28, about.classes = 10;
  }
  L = c->depth, H = c->heads, T = vit_config_tokens(c), N = vit_config_patches(c), K = c->classes;
  C = c->channels, height = c->image_height, width = c->image_width, size = C * height * width;
  rows = height / c->patch_height, cols = width / c->patch_width;
  check_flags();
  snprintf(text, sizeof text, "%d x %d pixels in %d x %d patches, %d blocks of %d heads, %.0f parameters",
           height, width, rows, cols, L, H, (double)m.params.count);
  nb_row("it has", text);
  many = load_test(&about);
  if (many) memcpy(test.mean, about.mean, sizeof test.mean), memcpy(test.std, about.std, sizeof test.std);
  if (many) nb_row("data", test.source);
  if (image_flag && image_flag[strspn(image_flag, "0123456789")]) load_picture(&about);
  else {
    shown = test;
    const long wanted_image = image_flag ? strtol(image_flag, NULL, 10) : nb_first(&test, 3) % test.count;
    at = (int)wanted_image;
    if (wanted_image >= test.count) nb_stop("--image: there are not so many test images");
    vit_dataset_free(&about);
  }
  if (!many) test = shown;
  vit_dataset_limit(&test, 2000);
  if (many) nb_try(vit_evaluate(&m, &test, &loss, &accuracy, NULL, NULL, NULL));
  if (many) printf("  accuracy     %.2f %% of %d test images\n", 100 * accuracy, test.count);
  black = nb_floats(size);
  for (int i = 0; i < size; i++) {
    const int channel = i / (height * width);
    black[i] = (0 - test.mean[channel]) / test.std[channel];
  }
  many = 4000000 / (L * H * T * T); /* what fits: every layer's attention and its gradient */
  nb_try(vit_state_create(&s, &m, many < 1 ? 1 : many < 17 ? many : 17,
                          VIT_FOR_TRAINING | VIT_KEEP_ATTENTION | VIT_INPUT_GRADIENT, 1));
  s.dropout = 0;
  nb_try(vit_state_create(&plain, &m, 16, VIT_FOR_INFERENCE, 1));
}

/* ---- [2] ---------------------------------------------------------------- */

/* Forward of an image, and back from the logit of a class; returns the class. */
static int look(const float *image, int k) {
  float *ask = nb_floats(K);
  int said;
  nb_try(vit_predict(&m, &s, image, 1, &said, NULL));
  if (k < 0) k = said;
  ask[k] = 1;
  nb_try(vit_backward_logits(&m, &s, ask, 1));
  vit_zero_gradients(&s); /* those of the parameters are not wanted */
  free(ask);
  return k;
}

/* Of a map over the tokens its patches, as parts of all that patches get. */
static double only_patches(float *to, const float *map) {
  const float *from = map + m.config.class_token;
  double sum = 0;
  for (int n = 0; n < N; n++) sum += (double)from[n];
  for (int n = 0; n < N; n++) to[n] = sum > 0 ? (float)((double)from[n] / sum) : 0;
  return sum;
}

/* Image i of d, `count` times, for a figure; grey where a glow shall be seen. */
static void copy_grey(float *to, const vit_dataset *d, int i) {
  float *image = nb_pixels(d, &i, 1);
  for (int j = 0; j < height * width; j++) {
    float sum = 0;
    for (int c = 0; c < C; c++) sum += image[c * height * width + j];
    to[j] = sum / (float)C;
  }
  free(image);
}

/* The line above a table with a column for each head, as many as fit. */
enum { SHOWN_HEADS = 8 };
static void head_names(const char *first) {
  printf("  %s%-9s", nb_dim(), first);
  for (int h = 0; h < H && h < SHOWN_HEADS; h++) printf("%6s%2d", "head", h);
  printf("%s%s\n", H > SHOWN_HEADS ? " ..." : "", nb_plain());
}

static void all_heads(const float *image) {
  const int most = L * H > 144 ? 144 / H : L, first = L - most, plane = height * width;
  float *images = nb_floats(most * H * plane), *glow = nb_floats(most * H * N), *map = nb_floats(T);
  float *one = nb_floats(N), p[1000];
  const char **titles = (const char **)malloc((size_t)(most * H) * sizeof *titles);
  char(*text)[40] = (char(*)[40])malloc((size_t)(most * H) * sizeof *text), title[300], is[VIT_NAME_SIZE + 3];
  const int l1 = layer < 0 ? L - 1 : layer;
  int said;
  if (!titles || !text || K > 1000) nb_stop("too many heads or classes for a figure");
  nb_cell("One image, every layer, every head: where does the answer come from?");
  nb_try(vit_predict(&m, &s, image, 1, &said, p));
  if (shown.count > 1) printf("  image %d is %s; ", at, nb_class(is, &shown, shown.labels[at], 25));
  else printf("  ");
  printf("the model says %s, %.1f %%\n", nb_class(is, &shown, said, 25), 100 * (double)p[said]);
  nb_code("vit_attention_row(&m, &s, layer, image, head, VIT_POOLED, map)");
  printf("\n  %sattention of %s, %% that goes to patches:%s\n", nb_dim(), nb_query(&m.config), nb_plain());
  head_names("");
  for (int i = 0; i < most * H; i++) {
    const int l = first + i / H, h = i % H;
    double sum, top = 0;
    nb_try(vit_attention_row(&m, &s, l, 0, h, VIT_POOLED, map));
    sum = only_patches(glow + i * N, map);
    for (int n = 0; n < N; n++) top = fmax(top, (double)glow[i * N + n]);
    for (int n = 0; n < N && top > 0; n++) glow[i * N + n] /= (float)top;
    copy_grey(images + i * plane, &shown, at);
    snprintf(text[i], sizeof text[i], H > 6 ? "%d.%d" : "block %d, head %d", l + 1, h); /* room is short */
    titles[i] = text[i];
    if (h == 0) printf("  block %-3d", l + 1);
    if (h < SHOWN_HEADS) printf("%8.1f", 100 * sum);
    if (h == H - 1) printf("\n");
  }
  nb_try(vit_attention_row(&m, &s, l1, 0, head < 0 ? VIT_ALL_HEADS : head, VIT_POOLED, map));
  only_patches(one, map);
  for (int n = 0; n < N; n++) one[n] *= 100;
  if (head < 0) snprintf(title, sizeof title, "block %d, mean of the heads", l1 + 1);
  else snprintf(title, sizeof title, "block %d, head %d", l1 + 1, head);
  printf("\n  %sof what patches get, %% for each: %s%s\n", nb_dim(), title, nb_plain());
  if (cols <= 14) nb_matrix(one, rows, cols, " %4.1f", NULL);
  snprintf(title, sizeof title, "Where %s looks, %s: every head of every block.\nEach picture is scaled to its own largest weight%s",
           nb_query(&m.config), C == 1 && K == 10 ? "one digit" : "one image", H > 6 ? "; below it: block.head" : "");
  nb_figure(vit_plot_tiles(nb_out, "heads", title, images, glow, rows, cols, titles, most, H, 1, height, width, 0, 1),
            "heads");
  free(images), free(glow), free(map), free(one), free(titles), free(text);
}

/* ---- [3] and [4] -------------------------------------------------------- */

/* All maps of an image for class k, maps [METHODS][N]; how far off the sum of
   integrated gradients is. */
static double explain(float *maps, const float *image, int k, vit_rng *rng) {
  float *map = nb_floats(T);
  const vit_question by_forwards = {&m, &plain, image, black, k}, by_gradients = {&m, &s, image, black, k};
  double off = 0;
  look(image, k);
  for (int method = RAW; method <= RELEVANCE; method++) {
    nb_try(method == RAW ? vit_attention_row(&m, &s, L - 1, 0, VIT_ALL_HEADS, VIT_POOLED, map)
           : method == ROLLOUT ? vit_attention_rollout(&m, &s, 0, VIT_POOLED, map)
                               : vit_attention_relevance(&m, &s, 0, VIT_POOLED, map));
    memcpy(maps + method * N, map + m.config.class_token, (size_t)N * sizeof *map);
  }
  for (int n = 0; n < N; n++) maps[RANDOM * N + n] = vit_random_uniform(rng);
  nb_try(vit_occlusion(&by_forwards, maps + OCCLUSION * N));
  nb_try(vit_integrated_gradients(&by_gradients, STEPS, maps + GRADIENTS * N, &off));
  free(map);
  return off;
}

/* A figure of n images, a row for each method of `which`; maps [DIGITS][METHODS][N].
   The row of the random order is the plain image, with the class below. */
static void tiles(const char *name, const char *title, const int *which, int rows_of, const int *order, int n,
                  const float *maps, const int *classes) {
  static char text[METHODS * DIGITS][60];
  const char *titles[METHODS * DIGITS];
  const int plane = height * width;
  float *images = nb_floats(rows_of * n * plane), *glow = nb_floats(rows_of * n * N);
  for (int tile = 0; tile < rows_of * n; tile++) {
    const int method = which[tile / n], i = tile % n;
    const float *map = maps + (i * METHODS + method) * N;
    float *to = glow + tile * N, top = 0;
    char is[VIT_NAME_SIZE + 3];
    copy_grey(images + tile * plane, &test, order[i]);
    for (int j = 0; j < N; j++) top = fmaxf(top, map[j]);
    for (int j = 0; j < N && method && top > 0; j++) to[j] = fmaxf(map[j] / top, 0);
    snprintf(text[tile], sizeof text[tile], "%s%s", method ? names[method] : "why ",
             method ? "" : nb_class(is, &test, classes[i], 12));
    if (method == RAW) snprintf(text[tile], sizeof text[tile], "attention");
    if (method == GRADIENTS) snprintf(text[tile], sizeof text[tile], "gradients");
    titles[tile] = text[tile];
  }
  nb_figure(vit_plot_tiles(nb_out, name, title, images, glow, rows, cols, titles, rows_of, n, 1, height, width, 0, 1),
            name);
  free(images), free(glow);
}

/* How alike two maps are: their correlation, 1 for the same up to scale. */
static double alike(const float *a, const float *b) {
  double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
  for (int n = 0; n < N; n++) ma += (double)a[n] / N, mb += (double)b[n] / N;
  for (int n = 0; n < N; n++) {
    const double x = (double)a[n] - ma, y = (double)b[n] - mb;
    ab += x * y, aa += x * x, bb += y * y;
  }
  return aa * bb > 0 ? ab / sqrt(aa * bb) : 0;
}

static void side_by_side(vit_rng *rng) {
  int order[DIGITS], classes[DIGITS];
  const int n = test.count > 1 ? nb_one_of_each(order, &test, DIGITS) : (order[0] = 0, 1);
  const int few = n < 5 ? n : 5, all[METHODS] = {RANDOM, RAW, ROLLOUT, RELEVANCE, OCCLUSION, GRADIENTS};
  const int rolled[3] = {RANDOM, RAW, ROLLOUT}, apart[3] = {RANDOM, RAW, OCCLUSION};
  float *maps = nb_floats(n * METHODS * N), *image = nb_floats(size);
  double off[DIGITS], same = 0;
  nb_cell("Five answers to one question: why this class?");
  nb_code("vit_attention_row(&m, &s, L - 1, 0, VIT_ALL_HEADS, VIT_POOLED, map)");
  nb_code("vit_attention_rollout(&m, &s, 0, VIT_POOLED, map)");
  nb_code("vit_attention_relevance(&m, &s, 0, VIT_POOLED, map)");
  nb_code("vit_occlusion(&question, map)");
  nb_code("vit_integrated_gradients(&question, 32, map, &off)");
  for (int i = 0; i < n; i++) {
    float *map = maps + i * METHODS * N;
    pixels_of(image, &test, order[i]);
    classes[i] = look(image, asked);
    off[i] = 100 * explain(map, image, classes[i], rng);
    same += alike(map + RAW * N, map + OCCLUSION * N) / n;
  }
  qsort(off, (size_t)n, sizeof *off, nb_by_size);
  printf("  off by       %.2f %% (median), %.2f %% (at worst), with %d steps\n", off[n / 2], off[n - 1], STEPS);
  nb_say("So far is the sum of integrated gradients from the difference of the two logits, which it should be: "
         "most where the slope changes unevenly on the way or the difference is small. More steps bring it nearer.");
  nb_say("Attention and rollout are the same for every class. Relevance, occlusion and integrated gradients "
         "answer for the class that is asked about. They do not agree (attention and occlusion correlate %.2f): "
         "which one is to be believed?", same);
  tiles("methods", "What made the model say so? Five methods; each picture scaled to its own largest weight", all,
        METHODS, order, n, maps, classes);
  tiles("rolled", "Attention of the last block, and the way through all blocks: rollout", rolled, 3, order, few, maps,
        classes);
  tiles("apart", "Where it looks (attention), and what it would miss (occlusion)", apart, 3, order, few, maps, classes);
  free(maps), free(image);
}

/* The area below the curve of a map; curve [N+1] */
static double area_below(const float *image, int k, const float *map, int insert, float *curve) {
  const vit_question q = {&m, &plain, image, black, k};
  double area;
  nb_try(vit_deletion_curve(&q, map, insert, curve, &area));
  return area;
}

static void judge(vit_rng *rng) {
  float *maps = nb_floats(METHODS * N), *image = nb_floats(size), *curve = nb_floats(N + 1);
  double *mean = (double *)calloc((size_t)(2 * METHODS * (N + 1)), sizeof *mean), area[2][METHODS] = {{0}};
  int used = 0;
  vit_plot p;
  if (!mean) nb_stop("out of memory for the curves");
  nb_cell("Which one to believe? Take away the patches that a map calls important");
  nb_code("vit_deletion_curve(&question, map, insert, curve, &area)");
  for (int i = 0; i < test.count && used < judged; i++) {
    int k;
    pixels_of(image, &test, i);
    nb_try(vit_predict(&m, &plain, image, 1, &k, NULL));
    if (test.count > 1 && k != test.labels[i]) continue;
    explain(maps, image, k, rng);
    used++;
    nb_progress("  image %d of %d ...", used, judged);
    for (int j = 0; j < 2 * METHODS; j++) {
      area[j % 2][j / 2] += area_below(image, k, maps + j / 2 * N, j % 2, curve);
      for (int n = 0; n <= N; n++) mean[j * (N + 1) + n] += (double)curve[n];
    }
  }
  if (nb_terminal()) printf("\r\033[K");
  if (!used) nb_stop("the model is right on none of the test images: there is nothing to judge by");
  printf("  %s%-24s %9s   %9s%s\n", nb_dim(), "", "deletion", "insertion", nb_plain());
  for (int method = 0; method < METHODS; method++)
    printf("  %-24s %9.3f   %9.3f\n", names[method], area[0][method] / used, area[1][method] / used);
  nb_say("The area below the probability of the class while patches become black, the most important first "
         "(deletion: small is good), or come into a black image (insertion: large is good). Mean of %d image%s "
         "that it gets right.", used, used == 1 ? "" : "s");
  nb_say("A word of warning: occlusion and integrated gradients were asked with the same black, so this "
         "race is run on their ground: where they win, that does not prove them nearer to the truth. A map "
         "that is no better than a random order is not to be believed, however convincing it looks.");
  nb_try(vit_plot_begin(&p, nb_out, "judged", 960, 430));
  for (int n = 0; n <= N; n++) {
    fprintf(p.data, "%.4f", 100.0 * n / N);
    for (int j = 0; j < 2 * METHODS; j++) fprintf(p.data, " %.5f", mean[j * (N + 1) + n] / used);
    fprintf(p.data, "\n");
  }
  fprintf(p.script, "set multiplot layout 1,2\nset yrange [0:1]\n");
  for (int insert = 0; insert < 2; insert++) {
    nb_axes(&p, insert ? "Insertion: patches come into a black image" : "Deletion: patches become black",
            insert ? "% of the patches that are there" : "% of the patches that are gone",
            "mean probability of the class");
    fprintf(p.script, "set key %s opaque\nplot", insert ? "bottom right" : "top right");
    for (int method = 0; method < METHODS; method++)
      fprintf(p.script, "%s 'judged.dat' using 1:%d with linespoints lt %d pi %d title '%s'",
              method ? ", \\\n    " : "", 2 + 2 * method + insert, method ? method : 7, -8, names[method]);
    fprintf(p.script, "\n");
  }
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "judged");
  free(maps), free(image), free(curve), free(mean);
}

/* ---- [5] ---------------------------------------------------------------- */

static int best_of(const float *z) {
  int best = 0;
  for (int k = 1; k < K; k++)
    if (z[k] > z[best]) best = k;
  return best;
}

static void lens(void) {
  const int most = test.count < 300 ? test.count : 300, shown_k = K < 12 ? K : 12;
  float *image = nb_floats(size), *z = nb_floats(K), *p = nb_floats(K), *panel = nb_floats(L * shown_k);
  int *same = (int *)calloc((size_t)L, sizeof *same);
  int known = 0, *top = (int *)malloc((size_t)K * sizeof *top);
  vit_plot plot;
  if (!same || !top) nb_stop("out of memory for the lens");
  nb_cell("Logit lens: what does the head say after each block?");
  nb_code("vit_logit_lens(&m, &s, layer, logits)");
  for (int i = 0; i < most; i++) {
    int said;
    pixels_of(image, &test, i);
    nb_try(vit_predict(&m, &s, image, 1, &said, NULL));
    if (test.count > 1 && said != test.labels[i]) continue;
    known++;
    for (int l = 0; l < L; l++) {
      nb_try(vit_logit_lens(&m, &s, l, z));
      same[l] += best_of(z) == said;
    }
  }
  printf("  %safter block%s", nb_dim(), nb_plain());
  for (int l = 0; l < L && l < 12; l++) printf("%5d", l + 1);
  printf("\n  it says so  ");
  for (int l = 0; l < L && l < 12; l++) printf("%5.2f", (double)same[l] / (known ? known : 1));
  printf("\n");
  nb_say("Part of the %d images that the model gets right at the end.", known);
  pixels_of(image, &shown, at);
  nb_try(vit_predict(&m, &s, image, 1, NULL, p));
  for (int k = 0; k < K; k++) top[k] = k;
  for (int i = 0; i < shown_k && K > shown_k; i++) /* of many classes the most probable */
    for (int j = i + 1; j < K; j++)
      if (p[top[j]] > p[top[i]]) {
        const int t = top[i];
        top[i] = top[j], top[j] = t;
      }
  for (int l = 0; l < L; l++) {
    nb_try(vit_logit_lens(&m, &s, l, z));
    m.kernels->softmax_forward(z, z, 1, K);
    for (int i = 0; i < shown_k; i++) panel[i * L + l] = z[top[i]];
  }
  nb_try(vit_plot_begin(&plot, nb_out, "lens", 300 + 70 * (L < 12 ? L : 12), 480));
  fprintf(plot.script, NB_BLUES "set cbrange [0:1]\nset tics scale 0\nset cblabel 'probability'\n"
                                "set xlabel 'after block'\nset ylabel 'class'\nset xtics (");
  for (int l = 0; l < L; l++) fprintf(plot.script, "%s'%d' %d", l ? ", " : "", l + 1, l);
  fprintf(plot.script, ")\nset ytics noenhanced (");
  for (int i = 0; i < shown_k; i++) {
    char is[VIT_NAME_SIZE + 3];
    fprintf(plot.script, "%s\"%s\" %d", i ? ", " : "", nb_class(is, &shown, top[i], 14), i);
  }
  fprintf(plot.script, ")\n");
  nb_panel(&plot, 0, "What the head would say after each block, one image", panel, shown_k, L, "%.2f", 0.5);
  nb_figure(vit_plot_end(&plot), "lens");
  free(image), free(z), free(p), free(panel), free(same), free(top);
}

/* ---- [6] to [8] --------------------------------------------------------- */

static void distance(void) {
  const int most = test.count < s.capacity ? test.count : s.capacity;
  float *images = nb_floats(most * size), *far = nb_floats(L * H);
  int order[32];
  double uniform = 0;
  vit_plot p;
  nb_cell("How far do patches look? Attention distance by block and head");
  nb_code("vit_attention_distance(&m, &s, layer, head, &pixels)");
  for (int i = 0; i < most; i++) order[i] = i;
  vit_dataset_batch(&test, order, most, images, NULL);
  nb_try(vit_predict(&m, &s, images, most, NULL, NULL));
  nb_try(vit_plot_begin(&p, nb_out, "distance", 760, 430));
  for (int i = 0; i < L * H; i++) {
    double pixels;
    nb_try(vit_attention_distance(&m, &s, i / H, i % H, &pixels));
    far[i] = (float)pixels;
    fprintf(p.data, "%d %d %.4f\n", i / H + 1, i % H, pixels);
  }
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++)
      uniform += hypot((i / cols - j / cols) * m.config.patch_height, (i % cols - j % cols) * m.config.patch_width) /
                 ((double)N * N);
  head_names("pixels");
  for (int l = 0; l < L; l++) {
    printf("  block %-3d", l + 1);
    for (int h = 0; h < H && h < SHOWN_HEADS; h++) printf("%8.1f", (double)far[l * H + h]);
    printf("\n");
  }
  nb_say("Mean over %d images; who looks at all patches alike has %.1f. Only what goes to patches counts, "
         "made to sum to 1.", most, uniform);
  nb_axes(&p, "How far patches look, head by head", "block", "attention distance (pixels)");
  fprintf(p.script, "set xrange [0.5:%d.5]\nset yrange [0:*]\nset xtics 1\nset key bottom right\n"
                    "plot 'distance.dat' using 1:3:2 with points lt 1 ps 1.6 title 'a head', \\\n"
                    "     %g with lines lt 7 dt 3 lw 1.5 title 'all patches alike'\n", L, uniform);
  nb_figure(vit_plot_end(&p), "distance");
  free(images), free(far);
}

/* What the components of a new model explain: so much is chance. */
static void about_random(int count) {
  vit_config c = m.config;
  vit_model fresh;
  float *filters, *part = nb_floats(count);
  c.depth = 1; /* the rest is not looked at */
  nb_try(vit_model_create(&fresh, &c, 1));
  fresh.kernels = m.kernels;
  filters = nb_floats(count * c.channels * c.patch_height * c.patch_width);
  nb_try(vit_patch_filters(&fresh, filters, part, count));
  printf("  in a new model:   ");
  for (int i = 0; i < count && i < 8; i++) printf(" %.1f", 100 * (double)part[i]);
  printf("%s\n", count > 8 ? " ..." : "");
  vit_model_free(&fresh);
  free(filters), free(part);
}

static void parameters(void) {
  const int PH = m.config.patch_height, PW = m.config.patch_width, P = C * PH * PW;
  const int most = m.config.width < P ? m.config.width : P, count = most < 16 ? most : 16;
  const int tile_cols = count < 8 ? count : 8, tile_rows = count / tile_cols;
  float *filters = nb_floats(count * P), *part = nb_floats(count), *likeness = nb_floats(N * N), sum = 0;
  const char *titles[16];
  static char text[16][20];
  nb_cell("What do the first weights look for? Principal filters of the projection");
  nb_code("vit_patch_filters(&m, filters, parts, 16)");
  nb_try(vit_patch_filters(&m, filters, part, count));
  printf("  %% of the variance:");
  for (int i = 0; i < count; i++) {
    if (i < 8) printf(" %.1f", 100 * (double)part[i]);
    sum += part[i];
    snprintf(text[i], sizeof text[i], "%.1f %%", 100 * (double)part[i]);
    titles[i] = text[i];
  }
  printf("%s\n", count > 8 ? " ..." : "");
  about_random(count);
  printf("  all %d together: %.1f %%\n", count, 100 * (double)sum);
  nb_figure(vit_plot_tiles(nb_out, "filters", "Principal components of the patch projection, and the part of the variance that each explains",
                           filters, NULL, 0, 0, titles, tile_rows, tile_cols, C, PH, PW, 0, 0),
            "filters");
  if (m.config.positions != VIT_POSITIONS_NONE && N <= 256) {
    float near = 0, far = 0, low = 1;
    char title[120];
    nb_cell("What do tokens know of their place? Likeness of the positions");
    nb_code("vit_position_likeness(&m, likeness)");
    nb_try(vit_position_likeness(&m, likeness));
    for (int i = 0; i < N; i++) {
      near += likeness[i * N + (i % cols ? i - 1 : i + 1 < N ? i + 1 : i)] / (float)N;
      far += likeness[i * N + N - 1 - i] / (float)N;
      for (int j = 0; j < N; j++) low = fminf(low, likeness[i * N + j]);
    }
    snprintf(title, sizeof title,
             "Likeness (cosine) of each patch's position, at its place, to all others: black %.2f, white 1", (double)low);
    printf("  mean cosine of a position and its neighbour in the row %.2f, and of one across\n"
           "  the middle of the image %.2f\n", (double)near, (double)far);
    nb_figure(vit_plot_tiles(nb_out, "positions", title, likeness, NULL, 0, 0, NULL, rows, cols, 1, rows, cols, low, 1),
              "positions");
  }
  free(filters), free(part), free(likeness);
}

/* ---- [9] ---------------------------------------------------------------- */

static void print_row(const char *what, const double *r) {
  printf("  %-28s", what);
  for (int j = 0; j < 3; j++) printf("%8.2f", r[j]);
  printf("%8.2f\n", r[0] + r[1] + r[2]);
}

/* next = the row times a layer: path I + part M, M = A or the positive part of G A. */
static void one_layer(double *r, double A[3][3], double G[3][3], double path, double part) {
  double next[3];
  for (int j = 0; j < 3; j++) next[j] = path * r[j];
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) next[j] += part * r[i] * (G ? fmax(G[i][j] * A[i][j], 0) : A[i][j]);
  memcpy(r, next, sizeof next);
}

static void by_pencil(void) {
  double A[2][3][3] = {{{0.6, 0.2, 0.2}, {0, 1, 0}, {0, 0.8, 0.2}}, {{0.2, 0, 0.8}, {0, 1, 0}, {0, 0, 1}}};
  double G[2][3][3] = {{{1, 1, -1}, {0, 0, 0}, {1, 2, -1}}, {{0.5, 1, 1}, {0, 0, 0}, {0, 0, 0}}};
  nb_cell("Two blocks, three tokens, small enough for a pencil: the class token's row");
  printf("  %s%-28s%8s%8s%8s%8s%s\n", nb_dim(), "", "CLS", "P1", "P2", "sum", nb_plain());
  print_row("attention, block 2", A[1][0]);
  for (int kind = 0; kind < 2; kind++) {
    double r[3] = {1, 0, 0};
    for (int l = 1; l >= 0; l--) {
      one_layer(r, A[l], kind ? G[l] : NULL, kind ? 1 : 0.5, kind ? 1 : 0.5);
      print_row(kind ? (l ? "relevance, through block 2" : "and through block 1")
                     : (l ? "rollout, through block 2" : "and through block 1"), r);
    }
  }
}

/* ---- [10] --------------------------------------------------------------- */

enum { ROLLED, NO_PATH, LARGEST, LARGEST_ROWS, LARGEST_COLUMNS, RELEVANT, TURNED, VARIANTS };
static const char *const variants[VARIANTS] = {
    "rollout", "without I, the residual path", "largest head, rows as they are", "largest head, rows made 1",
    "largest head, columns divided", "relevance", "gradients from the wrong end"};

/* The matrix of layer l [T,T], as it is found written in one program or another. */
static void layer_matrix(double *M, int l, int variant) {
  const int by_gradient = variant >= RELEVANT, largest = !by_gradient && variant >= LARGEST;
  double *sum = (double *)calloc((size_t)T, sizeof *sum);
  if (!sum) nb_stop("out of memory for a row");
  for (int i = 0; i < T * T; i++) M[i] = 0;
  for (int h = 0; h < H; h++) {
    const float *p = vit_attention(&m, &s, l, 0, h);
    const float *g = vit_attention_gradient(&m, &s, variant == TURNED ? L - 1 - l : l, 0, h);
    if (!p || !g) nb_stop(vit_error());
    for (int i = 0; i < T * T; i++) {
      const double a = (double)p[i], x = by_gradient ? fmax(a * (double)g[i], 0) : a;
      M[i] = largest ? fmax(M[i], x) : M[i] + x / H;
    }
  }
  for (int i = 0; i < T; i++) {
    if (variant != NO_PATH) M[i * T + i] += 1;
    for (int j = 0; j < T; j++) sum[i] += M[i * T + j];
  }
  for (int i = 0; i < T; i++)
    for (int j = 0; j < T && !by_gradient; j++) /* the half in LARGEST is part of the formula */
      M[i * T + j] /= variant == LARGEST ? 2 : variant == LARGEST_COLUMNS ? sum[j] : sum[i];
  free(sum);
}

/* The row of the head's token through all layers; returns its sum. */
static double by_hand(float *map, int variant) {
  double *r = (double *)calloc((size_t)(2 * T), sizeof *r), *next = r + T, sum = 0;
  double *M = (double *)malloc((size_t)T * (size_t)T * sizeof *M);
  const int cls = m.config.class_token;
  if (!r || !M) nb_stop("out of memory for a matrix");
  for (int t = 0; t < T; t++)
    r[t] = m.config.pool == VIT_POOL_MEAN ? (t >= cls && t < cls + N ? 1.0 / N : 0) : t == 0;
  if (m.config.dist_token) r[0] = r[cls + N] = 0.5;
  for (int l = L - 1; l >= 0; l--) {
    layer_matrix(M, l, variant);
    for (int j = 0; j < T; j++) {
      next[j] = 0;
      for (int i = 0; i < T; i++) next[j] += r[i] * M[i * T + j];
    }
    memcpy(r, next, (size_t)T * sizeof *r);
  }
  for (int t = 0; t < T; t++) sum += r[t];
  for (int n = 0; n < N; n++) map[n] = (float)r[cls + n];
  free(r), free(M);
  return sum;
}

static void in_the_wild(void) {
  float *image = nb_floats(size), *map = nb_floats(N), *right = nb_floats(T), *curve = nb_floats(N + 1);
  double sum[VARIANTS] = {0}, same[VARIANTS] = {0}, area[VARIANTS] = {0}, apart[2] = {0};
  int used = 0;
  nb_cell("Wrong in the wild: rollout and relevance as they are often written");
  for (int i = 0; i < test.count && used < judged; i++) {
    pixels_of(image, &test, i);
    const int k = look(image, -1);
    if (test.count > 1 && k != test.labels[i]) continue;
    used++;
    nb_progress("  image %d of %d ...", used, judged);
    for (int variant = 0; variant < VARIANTS; variant++) {
      const int relevant = variant >= RELEVANT;
      nb_try(relevant ? vit_attention_relevance(&m, &s, 0, VIT_POOLED, right)
                      : vit_attention_rollout(&m, &s, 0, VIT_POOLED, right));
      sum[variant] += by_hand(map, variant);
      same[variant] += alike(map, right + m.config.class_token);
      if (variant == ROLLED || variant == RELEVANT)
        for (int n = 0; n < N; n++)
          apart[relevant] = fmax(apart[relevant], fabs((double)map[n] - (double)right[m.config.class_token + n]));
      area[variant] += area_below(image, k, map, 0, curve);
    }
  }
  if (nb_terminal()) printf("\r\033[K");
  printf("  %s%-32s %10s %12s %10s%s\n", nb_dim(), "", "row sum", "correlation", "deletion", nb_plain());
  for (int i = 0; i < VARIANTS && used; i++)
    printf("  %-32s %10.3g %12.2f %10.3f\n", variants[i], sum[i] / used, same[i] / used, area[i] / used);
  printf("  largest difference to vit.h: rollout %.0e, relevance %.0e\n", apart[0], apart[1]);
  nb_say("The correlation is with the right map of the same kind; mean of %d image%s.", used, used == 1 ? "" : "s");
  free(image), free(map), free(right), free(curve);
}

int main(int argc, char **argv) {
  const nb_flag flags[] = {
      {"--model", "FILE", "of 08, 09, 12, or a published one (else one is trained here)", NULL, NULL, &file},
      {"--image", "N|FILE", "a test image by its number, or a picture (the first 3)", NULL, NULL, &image_flag},
      {"--layer", "N", "of the table in [2], from 0 (the last)", &layer, NULL, NULL},
      {"--head", "N", "of the table in [2], from 0 (mean of all)", &head, NULL, NULL},
      {"--class", "K", "which class is asked about in [3] (the one it says)", &asked, NULL, NULL},
      {"--images", "N", "how many images judge the methods in [4]", &judged, NULL, NULL},
      {"--epochs", "N", "passes over the images, where a model is trained here", &epochs, NULL, NULL},
      {"--keep", "FILE", "keep the model that is trained here", NULL, NULL, &keep}};
  vit_rng rng = vit_rng_create(1, 0);
  float *image;
  nb_start("10-inside", "What a trained model looks at, shown in several ways, and which of them to believe.",
           argc, argv, flags, 8);
  begin();
  image = nb_floats(size);
  pixels_of(image, &shown, at);
  all_heads(image);
  side_by_side(&rng);
  judge(&rng);
  lens();
  distance();
  parameters();
  by_pencil();
  in_the_wild();
  if (shown.pixels != test.pixels) vit_dataset_free(&shown);
  vit_dataset_free(&test);
  vit_state_free(&s);
  vit_state_free(&plain);
  vit_model_free(&m);
  free(image), free(black);
  return 0;
}
