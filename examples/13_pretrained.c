// A model from a file classifies pictures: of this project, of timm, Hugging Face or torchvision.
//
//     13_pretrained MODEL PICTURE...     what is on these pictures
//     13_pretrained                      how such files and pictures become numbers
//     13_pretrained --finetune           what a model that has learned something is worth with few labels
//
// Read beside it: chapter 13 of vit.h, and in 12 "a photo of a digit, as MNIST was made".
#include "common.h"
#include "finetune.h"

/* What the flags set. */
static int as_digit = 0, all_logits = 0, finetune = 0, heads = 0, size = 0;
static const char *preprocess = NULL;

/* ---- a picture becomes what a model sees ---------------------------------- */

enum { DIGIT = 28 };

/* What is transparent becomes white: below it there is no colour that anybody has
   seen. Returns the part of the picture that it concerns. */
static double lay_over_white(uint8_t *planes, int colours, int pixels) {
  const uint8_t *alpha = planes + (vit_idx)colours * pixels;
  int seen_through = 0;
  for (int i = 0; i < pixels; i++) {
    seen_through += alpha[i] < 255;
    for (int c = 0; c < colours; c++) {
      uint8_t *p = planes + (vit_idx)c * pixels + i;
      *p = (uint8_t)((*p * alpha[i] + 255 * (255 - alpha[i]) + 127) / 255);
    }
  }
  return (double)seen_through / pixels;
}

static void say_preparation(const vit_preprocess *p, const vit_config *c) {
  const char *filter = p->filter == VIT_BICUBIC ? "bicubic" : "bilinear";
  const int H = c->image_height, W = c->image_width, least = H < W ? H : W;
  char text[300];
  if (p->part > 0 && H == W)
    snprintf(text, sizeof text, "%s: shorter side to %d (%s), the middle %d x %d", p->name,
             (int)(least / p->part), filter, H, W);
  else
    snprintf(text, sizeof text, "%s: %s to %d x %d (%s)", p->name, p->part > 0 ? "cut, and resized" : "squashed",
             H, W, filter);
  nb_row("pictures", text);
  snprintf(text, sizeof text, "mean %.3g %.3g %.3g, std %.3g %.3g %.3g", (double)p->mean[0], (double)p->mean[1],
           (double)p->mean[2], (double)p->std[0], (double)p->std[1], (double)p->std[2]);
  if (c->channels == 1)
    snprintf(text, sizeof text, "mean %.3g, std %.3g", (double)p->mean[0], (double)p->std[0]);
  nb_row("", text);
}

/* How this model's pictures are prepared: as the flag says, else as those do whose
   names are in the file, with the mean and std that it tells. */
static vit_preprocess choose(const vit_model *m, const vit_dataset *about, const vit_pretrained_report *r) {
  static const char *const usual[][2] = {{"vit.h", "plain"}, {"Hugging Face ViT", "hf"}, {"Hugging Face DINOv2", "dino"},
                                         {"Hugging Face CLIP", "clip"}, {"torchvision", "torchvision"}};
  const char *name = preprocess ? preprocess : "timm";
  const vit_preprocess *p;
  vit_preprocess own;
  for (int i = 0; !preprocess && i < 5; i++)
    if (!strcmp(r->dialect, usual[i][0])) name = usual[i][1];
  if (!preprocess && !strcmp(name, "clip") && !m->config.class_token) name = "siglip";
  p = vit_preprocess_find(name);
  if (!p) nb_stop(vit_error());
  own = *p;
  for (int c = 0; !preprocess && (r->normalized || !strcmp(name, "plain")) && c < about->channels; c++)
    own.mean[c] = about->mean[c], own.std[c] = about->std[c];
  return own;
}

/* A small grey model of ten classes without names: it was trained on digits. */
static int reads_digits(const vit_config *c, const vit_dataset *about) {
  char number[20];
  if (c->channels != 1 || c->classes != 10 || c->image_height > 64 || c->image_width > 64) return 0;
  for (int k = 0; k < 10; k++) {
    snprintf(number, sizeof number, "%d", k);
    if (strcmp(vit_class_name(about, k), number)) return 0;
  }
  return 1;
}

/* image [C,H,W] of a picture, as the model wants it. */
static void prepare(float *image, const char *path, const vit_config *c, const vit_preprocess *p, int digit) {
  const int C = c->channels, H = c->image_height, W = c->image_width;
  uint8_t *pixels, square[DIGIT * DIGIT];
  char text[200];
  int h, w;
  double clear;
  nb_try(vit_image_load(path, C + 1, &pixels, &h, &w));
  clear = lay_over_white(pixels, C, h * w);
  if (clear > 0) {
    snprintf(text, sizeof text, "%.0f %% of it is transparent and lies over white", 100 * clear);
    nb_row("note", text);
  }
  if (digit) { /* then as the images of MNIST that the model has seen */
    const vit_preprocess squash = {"", "", VIT_BILINEAR, 0, {p->mean[0], 0, 0}, {p->std[0], 1, 1}};
    nb_try(vit_digit_prepare(square, pixels, h, w));
    nb_try(vit_preprocess_image(image, square, 1, DIGIT, DIGIT, &squash, H, W));
  } else {
    nb_try(vit_preprocess_image(image, pixels, C, h, w, p, H, W));
  }
  vit_image_free(pixels);
}

/* Open a model; with VIT_KERNELS=naive it runs on the plain loops, as common.h has it
   for models that are created. */
static vit_result open_file(vit_model *m, const char *path, const vit_pretrained_config *c, vit_dataset *about,
                            vit_pretrained_report *r) {
  const char *wanted = getenv("VIT_KERNELS");
  const vit_result bad = vit_pretrained_open(m, path, c, about, r);
  if (!bad && wanted && !strcmp(wanted, "naive")) m->kernels = &vit_naive;
  return bad;
}

/* ---- MODEL PICTURE... ------------------------------------------------------ */

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash && slash[1] ? slash + 1 : path;
}

/* The five largest logits as probabilities, largest first. */
static void best_five(const float *logits, const vit_config *c, const vit_dataset *about, char said[160]) {
  const int K = c->classes, few = K < 5 ? K : 5;
  int best[5];
  double sum = 0;
  for (int i = 0; i < few; i++) {
    int top = -1;
    for (int k = 0; k < K; k++) {
      int taken = 0;
      for (int j = 0; j < i; j++) taken |= best[j] == k;
      if (!taken && (top < 0 || logits[k] > logits[top])) top = k;
    }
    best[i] = top;
  }
  for (int k = 0; k < K; k++) sum += exp((double)logits[k] - (double)logits[best[0]]);
  for (int i = 0; i < few; i++) {
    const double p = exp((double)logits[best[i]] - (double)logits[best[0]]) / sum;
    char percent[20], label[VIT_NAME_SIZE + 3];
    printf("  %9s  ", nb_percent(percent, (float)p));
    nb_bar(p, 30);
    printf("  %s\n", nb_class(label, about, best[i], 32));
    if (i == 0) snprintf(said, 160, "%.40s: %s", nb_class(label, about, best[0], 20), percent);
  }
}

static void open_model(vit_model *m, vit_dataset *about, vit_pretrained_report *r, const char *path) {
  vit_pretrained_config c = vit_pretrained_defaults();
  char text[200];
  c.heads = heads;
  c.image_height = c.image_width = size;
  nb_cell("The model");
  nb_row("file", path);
  nb_try(open_file(m, path, &c, about, r));
  nb_row("read", r->text);
  snprintf(text, sizeof text, "%d x %d x %d pixels, patches of %d x %d, %d tokens of %d numbers, %d blocks of %d heads",
           m->config.image_height, m->config.image_width, m->config.channels, m->config.patch_height,
           m->config.patch_width, vit_config_tokens(&m->config), m->config.width, m->config.depth, m->config.heads);
  nb_row("model", text);
}

/* What it saw, and where it looked in its last block. */
static void draw_answers(const vit_model *m, const vit_state *s, const float *images, const vit_preprocess *p,
                         char **paths, char said[][160], int n) {
  const vit_config *c = &m->config;
  const int N = vit_config_patches(c), plane = c->image_height * c->image_width, C = c->channels;
  float *tiles = nb_floats(2 * n * C * plane), *glow = nb_floats(2 * n * N);
  const char **titles = (const char **)calloc((size_t)(2 * n), sizeof *titles);
  char title[200];
  if (!titles) nb_stop("out of memory");
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < C * plane; j++) { /* back to 0..1 */
      const float v = images[i * C * plane + j] * p->std[j / plane] + p->mean[j / plane];
      tiles[i * C * plane + j] = tiles[(n + i) * C * plane + j] = v;
    }
    nb_look(glow + (n + i) * N, m, s, i, -1);
    titles[i] = base_name(paths[i]), titles[n + i] = said[i];
  }
  snprintf(title, sizeof title, "What the model saw, and where\n%s looks in the last block", nb_query(c));
  nb_figure(vit_plot_tiles(nb_out, "answers", title, tiles, glow, c->image_height / c->patch_height,
                           c->image_width / c->patch_width, titles, n > 1 ? 2 : 1, n > 1 ? n : 2, C, c->image_height, c->image_width, 0, 1),
            "answers");
  free(tiles), free(glow), free((void *)titles);
}

static void classify(const char *model, char **paths, int n) {
  enum { MOST = 8 }; /* in the figure */
  static char said[MOST][160];
  vit_model m;
  vit_dataset about;
  vit_pretrained_report r;
  vit_preprocess p;
  vit_state s;
  float *images;
  int digit, drawn = n < MOST ? n : MOST, count;
  open_model(&m, &about, &r, model);
  p = choose(&m, &about, &r);
  digit = as_digit || (!preprocess && reads_digits(&m.config, &about));
  count = m.config.channels * m.config.image_height * m.config.image_width;
  if (digit && m.config.channels != 1) nb_stop("--digit is for models of grey images; this one wants colours");
  if (digit)
    nb_row("pictures", "each is prepared as MNIST was: ink from paper by a threshold, white on black, its box 20 x 20, "
                       "its centre of mass in the middle of 28 x 28 (vit_digit_prepare; --preprocess plain to leave it out)");
  else
    say_preparation(&p, &m.config);
  if (!preprocess && !digit && !r.normalized && strcmp(r.dialect, "vit.h"))
    nb_say("The file does not say how its pictures were prepared; this is what is usual there. --preprocess NAME "
           "chooses another way; --help lists them.");
  images = nb_floats(drawn * count);
  nb_try(vit_state_create(&s, &m, drawn, VIT_KEEP_ATTENTION, 0));
  for (int first = 0; first < n; first += drawn) { /* the figure shows the first ones */
    const int some = n - first < drawn ? n - first : drawn;
    for (int i = 0; i < some; i++) {
      char heading[300];
      snprintf(heading, sizeof heading, "%.250s", paths[first + i]);
      nb_cell(heading);
      prepare(images + i * count, paths[first + i], &m.config, &p, digit);
      nb_try(vit_forward(&m, &s, images + i * count, 1));
      if (r.head == VIT_HEAD_NONE) {
        snprintf(said[i], sizeof said[i], "no head");
        if (!all_logits)
          nb_say("The file has no head: the model gives %d features, and no class (--logits prints them).",
                 m.config.classes);
      } else if (!all_logits) {
        best_five(s.logits, &m.config, &about, said[i]);
      }
      for (int k = 0; all_logits && k < m.config.classes; k++) printf("  logit %d %.9g\n", k, (double)s.logits[k]);
    }
    if (first || all_logits) continue;
    nb_cell("What it looked at");
    nb_try(vit_forward(&m, &s, images, some));
    draw_answers(&m, &s, images, &p, paths, said, some);
  }
  free(images);
  vit_state_free(&s), vit_model_free(&m), vit_dataset_free(&about);
}

/* ---- without arguments: the story ------------------------------------------ */

/* [1] */
static void small_model(vit_model *m, vit_dataset *train, vit_dataset *test) {
  vit_config c = vit_config_tutorial();
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  double loss, accuracy;
  nb_cell("A model to be written: it learns digits for some seconds");
  nb_load(train, VIT_TRAIN);
  nb_load(test, VIT_TEST);
  vit_dataset_limit(train, 6000);
  vit_dataset_limit(test, 500);
  c.image_height = c.image_width = DIGIT, c.patch_height = c.patch_width = 7;
  c.width = 24, c.depth = 2, c.mlp_width = 48, c.softmax_before_loss = 0, c.positions = VIT_POSITIONS_LEARNED;
  c.final_norm = 1, c.norm_eps = 1e-6f;
  f.epochs = 6, f.batch = 32;
  nb_try(vit_model_create(m, &c, 1));
  nb_try(vit_fit(m, &f, train, NULL, &h));
  nb_try(vit_evaluate(m, test, &loss, &accuracy, NULL, NULL, NULL));
  printf("  %d images, %d epochs: %.1f %% of %d test images are right\n", train->count, h.epochs, 100 * accuracy,
         test->count);
  vit_history_free(&h);
}

/* The file as a ribbon: what lies where. */
static void draw_file(const vit_safetensors *f, int length) {
  static const char *const kinds[] = {"length", "header", "stem", "block 0", "block 1", "tail"};
  static const char *const colours[] = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00"};
  double from[6] = {0, 8, 8 + (double)length}, to[6] = {8, 8 + (double)length};
  vit_safetensor t;
  vit_plot p;
  nb_try(vit_plot_begin(&p, nb_out, "bytes", 800, 430));
  fprintf(p.script, "set title \"The bytes of a safetensors file of %.0f bytes\" noenhanced\nset xlabel 'byte'\n"
                    "unset ytics\nset yrange [-2.6:2]\nset xrange [0:%.0f]\nset xtics 10000\nunset key\n"
                    "set style fill solid 0.85 border lc rgb 'white'\n", (double)f->size, (double)f->size);
  fprintf(p.data, "0 8 0\n8 %d 1\n", 8 + length);
  for (int i = 0; vit_safetensors_at(f, i, &t); i++) {
    const double at = (double)((const unsigned char *)t.data - f->bytes);
    const int kind = strstr(t.name, "blocks.0.") ? 3 : strstr(t.name, "blocks.1.") ? 4
                     : !strncmp(t.name, "norm", 4) || !strncmp(t.name, "head", 4) ? 5 : 2;
    if (to[kind] <= 0) from[kind] = at;
    to[kind] = at + 4 * (double)t.count;
    fprintf(p.data, "%.0f %.0f %d\n", at, to[kind], kind);
    if (4 * (double)t.count > 0.06 * (double)f->size)
      fprintf(p.script, "set label \"%s\" at %.0f,-0.6 rotate by 50 right noenhanced\n", t.name, at + 2 * (double)t.count);
  }
  fprintf(p.script, "set label \"8 bytes: the header's length, %d\" at character 3,graph 0.94\n"
                    "set label \"header: each tensor's name, type, shape, first and last byte\" at character 3,graph 0.87\n", length);
  for (int k = 1; k < 6; k++)
    fprintf(p.script, "set label \"%s\" at %.0f,0.72 %s\n", kinds[k], k < 5 ? (from[k] + to[k]) / 2 : to[k] - 300, k < 5 ? "center" : "right");
  fprintf(p.script, "plot ");
  for (int k = 0; k < 6; k++)
    fprintf(p.script, "'bytes.dat' using (($1 + $2) / 2):($3 == %d ? 0 : 1/0):1:2:(-0.5):(0.5) with boxxyerrorbars lc rgb '%s'%s", k,
            colours[k], k < 5 ? ", \\\n     " : "\n");
  nb_figure(vit_plot_end(&p), "bytes");
}

/* [2] */
static void bytes_of_a_file(const vit_model *m, const vit_dataset *d, const char *path) {
  vit_safetensors f;
  vit_safetensor t;
  int length = 0;
  char row[200];
  nb_cell("What is in a safetensors file");
  nb_code("vit_model_save(&m, &train, \"model.safetensors\")");
  nb_try(vit_model_save(m, d, path));
  nb_try(vit_safetensors_open(&f, path));
  for (int i = 3; i >= 0; i--) length = 256 * length + f.bytes[i];
  printf("  the first 8 bytes  ");
  for (int i = 0; i < 8; i++) printf(" %02x", f.bytes[i]);
  printf("\n                      low byte first: a header of %d bytes follows\n", length);
  snprintf(row, sizeof row, "%.62s...", (const char *)f.bytes + 8);
  nb_row("header", row);
  for (int i = 8; i < length && i < 2000; i++) /* its first tensor */
    if (!strncmp((const char *)f.bytes + i, "\"cls_token", 10)) {
      snprintf(row, sizeof row, "... %.60s ...", (const char *)f.bytes + i);
      nb_row("", row);
      break;
    }
  printf("\n  %s%-26s %-5s %-16s %10s %9s%s\n", nb_dim(), "tensor", "type", "shape", "from byte", "bytes", nb_plain());
  for (int i = 0; vit_safetensors_at(&f, i, &t); i++) {
    char shape[60] = "";
    if (strstr(t.name, "blocks.1.")) continue; /* as block 0 */
    for (int k = 0; k < t.dims; k++)
      snprintf(shape + strlen(shape), sizeof shape - strlen(shape), k ? ", %d" : "[%d", t.shape[k]);
    printf("  %-26s %-5s %-16s %10.0f %9.0f\n", t.name, t.type, strcat(shape, "]"),
           (double)((const unsigned char *)t.data - f.bytes), 4 * (double)t.count);
  }
  nb_say("and block 1 as block 0. Names and shapes are those of timm: Python opens it with "
         "safetensors.torch.load_file. There is no code in such a file, as there may be in a pickle (.pth, .bin): "
         "it can be read without trusting who made it.");
  draw_file(&f, length);
  vit_safetensors_close(&f);
}

/* The largest difference of the logits of two models on the test images. */
static double farthest(const vit_model *a, const vit_model *b, const vit_dataset *d) {
  const int n = d->count * 10;
  float *x = nb_floats(n), *y = nb_floats(n);
  double far = 0, loss, right;
  nb_try(vit_evaluate(a, d, &loss, &right, NULL, NULL, x));
  nb_try(vit_evaluate(b, d, &loss, &right, NULL, NULL, y));
  for (int i = 0; i < n; i++) far = fmax(far, fabs((double)x[i] - (double)y[i]));
  free(x), free(y);
  return far;
}

/* [3] */
static void written_and_opened(const vit_model *m, const vit_dataset *train, const vit_dataset *test, const char *path) {
  static const char *const names[3] = {"vit.h's own", "timm's names", "Hugging Face's names"};
  char other[600];
  nb_cell("Written, and opened again: the same answers");
  printf("  %s%-21s %-45s %s%s\n", nb_dim(), "names", "the projection of the patches", "difference", nb_plain());
  for (int i = 0; i < 3; i++) {
    vit_model again;
    vit_pretrained_config c = vit_pretrained_defaults();
    vit_safetensors f;
    vit_safetensor t;
    t.name = "";
    c.heads = m->config.heads;
    snprintf(other, sizeof other, "%.500s/%s", nb_out, i == 1 ? "timm.safetensors" : "hf");
    if (i == 2) {
      nb_try(vit_make_dir(other));
      strcat(other, "/model.safetensors");
    }
    if (i) nb_try(vit_pretrained_save(m, train, other, i == 1 ? VIT_NAMES_TIMM : VIT_NAMES_HF));
    nb_try(open_file(&again, i ? other : path, &c, NULL, NULL));
    nb_try(vit_safetensors_open(&f, i ? other : path));
    for (int k = 0; vit_safetensors_at(&f, k, &t) && t.dims != 4; k++) {}
    printf("  %-21s %-45.45s %g\n", names[i], t.name, farthest(m, &again, test));
    vit_safetensors_close(&f);
    vit_model_free(&again);
  }
  nb_say("Difference: the largest of 5000 logits. The projection's name tells whose names these are; a table in "
         "chapter 13 has a row for each tensor and a column for each library. A tensor that is missing, or that nobody asked for, "
         "is an error: half a model would answer, too, but wrongly.");
}

/* The file or the folder of one of the small models that the tests have. */
static int small_published(vit_model *m, vit_pretrained_report *r, const char *name) {
  vit_pretrained_config c = vit_pretrained_defaults();
  char path[300];
  snprintf(path, sizeof path, "tests/fixtures/pretrained/%.200s", name);
  if (!open_file(m, path, &c, NULL, r)) return 1;
  strcat(path, ".safetensors");
  c.heads = 2; /* which a file of weights alone does not say */
  return !open_file(m, path, &c, NULL, r);
}

/* [4] */
static void logits_of_others(void) {
  enum { MOST = 8 };
  struct { const char *dialect; int models, logits; double largest, far; } rows[MOST] = {{"", 0, 0, 0, 0}};
  int count = 0;
  vit_safetensors f;
  vit_safetensor t;
  vit_plot p;
  nb_cell("The same logits as in the library that a model comes from");
  if (vit_safetensors_open(&f, "tests/fixtures/pretrained/expected.safetensors")) {
    nb_say("The small models of the tests are not here: start the program in the folder of vit.h to see this cell.");
    return;
  }
  nb_try(vit_plot_begin(&p, nb_out, "logits", 700, 620));
  for (int i = 0; vit_safetensors_at(&f, i, &t); i++) {
    const float *want = (const float *)(const void *)t.data;
    vit_model m;
    vit_pretrained_report r;
    vit_state s;
    int n, k = 0;
    float *images;
    if (strncmp(t.name, "logits/", 7) || strchr(t.name, '@') || !small_published(&m, &r, t.name + 7)) continue;
    n = 2 * m.config.channels * m.config.image_height * m.config.image_width;
    images = nb_floats(n);
    for (uint64_t j = 0; j < (uint64_t)n; j++) /* as make_pretrained.py makes them */
      images[j] = (float)((uint32_t)(j * 2654435761u) >> 8) / 8388608.0f - 1.0f;
    nb_try(vit_state_create(&s, &m, 2, VIT_FOR_INFERENCE, 0));
    nb_try(vit_forward(&m, &s, images, 2));
    while (k < count && strcmp(rows[k].dialect, r.dialect)) k++;
    if (k == count && count < MOST) rows[count++].dialect = r.dialect;
    if (k < MOST && t.count == (size_t)(2 * m.config.classes)) {
      rows[k].models++, rows[k].logits += (int)t.count;
      for (size_t j = 0; j < t.count; j++) {
        float logit;
        memcpy(&logit, want + j, sizeof logit); /* not aligned */
        fprintf(p.data, "%.9g %.9g %d\n", (double)logit, (double)s.logits[j], k);
        rows[k].largest = fmax(rows[k].largest, fabs((double)logit));
        rows[k].far = fmax(rows[k].far, fabs((double)logit - (double)s.logits[j]));
      }
    }
    free(images);
    vit_state_free(&s), vit_model_free(&m);
  }
  printf("  %s%-22s %8s %8s %12s %20s%s\n", nb_dim(), "names of", "models", "logits", "largest", "largest difference",
         nb_plain());
  for (int k = 0; k < count; k++)
    printf("  %-22s %8d %8d %12.3f %20.1e\n", rows[k].dialect, rows[k].models, rows[k].logits, rows[k].largest, rows[k].far);
  nb_say("Tiny models with random weights, made with these libraries; their logits were computed there, in double. "
         "The published files have the same names and shapes, but could not be had here.");
  nb_axes(&p, "Logits of small models: here, and in the library that they come from", "computed by the library, in double",
          "computed by vit.h");
  fprintf(p.script, "set key top left\nset size ratio -1\nplot x with lines lc rgb '#999999' notitle");
  for (int k = 0; k < count; k++)
    fprintf(p.script, ", \\\n     'logits.dat' using ($3 == %d ? $1 : 1/0):2 with points pt %d ps 0.8 title \"%s\"", k, 4 + 2 * k,
            rows[k].dialect);
  fprintf(p.script, "\n");
  nb_figure(vit_plot_end(&p), "logits");
  vit_safetensors_close(&f);
}

/* [5] */
static void larger_images(const vit_dataset *test, const char *path) {
  nb_cell("Larger images: the positions are resampled");
  printf("  %s%-12s %-10s %-12s %s%s\n", nb_dim(), "image", "patches", "positions", "right, without any training", nb_plain());
  for (int side = DIGIT; side <= 2 * DIGIT; side += 14) {
    vit_pretrained_config c = vit_pretrained_defaults();
    vit_pretrained_report r;
    vit_dataset large = *test;
    vit_model m;
    double loss, accuracy;
    c.image_height = c.image_width = side;
    nb_try(open_file(&m, path, &c, NULL, &r));
    large.pixels = (uint8_t *)malloc((size_t)test->count * (size_t)(side * side));
    if (!large.pixels) nb_stop("out of memory for larger images");
    large.height = large.width = side;
    nb_try(vit_resize(large.pixels, test->pixels, test->count, DIGIT, DIGIT, side, side, VIT_BILINEAR));
    nb_try(vit_evaluate(&m, &large, &loss, &accuracy, NULL, NULL, NULL));
    printf("  %2d x %-7d %d x %-6d %-12s %.1f %%\n", side, side, side / 7, side / 7, r.resampled ? "resampled" : "as they are",
           100 * accuracy);
    free(large.pixels);
    vit_model_free(&m);
  }
  nb_say("A model that has learnt a table of positions for 4 x 4 patches meets 6 x 6 or 8 x 8: the table is resized as a "
         "picture would be, bicubic, by timm's rule. But a patch now holds a smaller part of a digit, which this model has "
         "never seen: published models are trained some epochs more at the new size, and so should yours be.");
}

/* A picture by formula: rings, a corner that is red, lines that run along. */
static void ring_picture(uint8_t *p, int h, int w) {
  for (int i = 0; i < h * w; i++) {
    const double y = i / w - h / 2.0, x = i % w - w / 2.0, r = sqrt(x * x + y * y);
    const double ring = 0.5 + 0.5 * cos(r / 7), line = i % w % 40 < 3 || i / w % 40 < 3 ? 0.5 : 1;
    p[i] = (uint8_t)(255 * line * (0.3 + 0.7 * ring));
    p[h * w + i] = (uint8_t)(255 * line * (1 - r / (h + w)));
    p[2 * h * w + i] = (uint8_t)(255 * line * (i % w) / w);
  }
}

/* [6] */
static void preparations(void) {
  enum { H = 300, W = 460, SIDE = 224, MOST = 9 };
  uint8_t *picture = (uint8_t *)malloc(3 * H * W);
  float *tiles = nb_floats(MOST * 3 * SIDE * SIDE);
  static char text[MOST][100];
  const char *titles[MOST];
  const vit_preprocess *p;
  int n = 0;
  if (!picture) nb_stop("out of memory");
  nb_cell("Preparations: one picture of 300 x 460 pixels, as published models want it");
  ring_picture(picture, H, W);
  printf("  %s%-12s %-9s %6s  %-5s %-5s %s%s\n", nb_dim(), "name", "filter", "part", "mean", "std", "who prepares so",
         nb_plain());
  for (; n < MOST && (p = vit_preprocess_at(n)) != NULL; n++) {
    float *to = tiles + n * 3 * SIDE * SIDE;
    nb_try(vit_preprocess_image(to, picture, 3, H, W, p, SIDE, SIDE));
    for (int j = 0; j < 3 * SIDE * SIDE; j++) to[j] = to[j] * p->std[j / SIDE / SIDE] + p->mean[j / SIDE / SIDE];
    printf("  %-12s %-9s %6g  %.2f  %.2f  %.36s\n", p->name, p->filter == VIT_BICUBIC ? "bicubic" : "bilinear", p->part,
           (double)p->mean[0], (double)p->std[0], p->from);
    snprintf(text[n], sizeof text[n], p->part > 0 ? "%s: %g of the\nshorter side" : "%s: squashed", p->name, p->part);
    titles[n] = text[n];
  }
  nb_say("Part: how much of the shorter side is kept; 0: the picture is squashed. Mean and std are those of red. A model "
         "answers best to what it has seen in training. The wrong name does no visible harm, and costs some "
         "accuracy: that is why the name stands in front of the answers.");
  nb_figure(vit_plot_tiles(nb_out, "preprocess", "One picture of 300 x 460 pixels, prepared for models of 224 x 224", tiles,
                           NULL, 0, 0, titles, (n + 2) / 3, 3, 3, SIDE, SIDE, 0, 1),
            "preprocess");
  free(picture), free(tiles);
}

/* A photo of a digit as a phone takes it: dark ink somewhere on light paper, the
   light falls off, the camera adds noise. */
enum { HIGH = 600, WIDE = 800 };
static void take_photo(uint8_t *photo, const uint8_t *digit, vit_rng *rng) {
  static uint8_t large[400 * 400];
  const int side = 200 + (int)vit_random_below(rng, 200);
  const int top = (int)vit_random_below(rng, (uint32_t)(HIGH - side)), left = (int)vit_random_below(rng, (uint32_t)(WIDE - side));
  const double down = 80 * (double)vit_random_uniform(rng) - 40, across = 80 * (double)vit_random_uniform(rng) - 40;
  nb_try(vit_resize(large, digit, 1, DIGIT, DIGIT, side, side, VIT_BICUBIC));
  for (int i = 0; i < HIGH * WIDE; i++) {
    const int y = i / WIDE - top, x = i % WIDE - left, on = y >= 0 && y < side && x >= 0 && x < side;
    const double ink = on ? fmax(0, fmin((large[y * side + x] - 127) / 64.0 + 0.5, 1)) : 0;
    double v = (185 + down * (i / WIDE - HIGH / 2) / HIGH + across * (i % WIDE - WIDE / 2) / WIDE) * (1 - 0.75 * ink);
    v += 28 * ((double)vit_random_uniform(rng) - 0.5);
    photo[i] = (uint8_t)fmax(0, fmin(v, 255));
  }
}

/* [7] */
static void photos_of_digits(const vit_model *m, const vit_dataset *test) {
  enum { PHOTOS = 50, SHOWN = 5, TALL = 84, BROAD = 112, TILE = TALL * BROAD };
  uint8_t *photo = (uint8_t *)malloc(HIGH * WIDE), small[TILE];
  float *tiles = nb_floats(3 * SHOWN * TILE);
  static char text[3 * SHOWN][40];
  const char *titles[3 * SHOWN];
  vit_dataset both[2] = {*test, *test};
  vit_rng rng = vit_rng_create(1, 0);
  int guess[2][PHOTOS];
  double loss, right[2];
  if (!photo || test->count < PHOTOS) nb_stop("there is no memory, or fewer than 50 test images");
  nb_cell("A photo of a digit, before and after its preparation");
  for (int k = 0; k < 2; k++) {
    both[k].count = PHOTOS;
    both[k].pixels = (uint8_t *)malloc(PHOTOS * DIGIT * DIGIT);
    if (!both[k].pixels) nb_stop("out of memory");
  }
  for (int i = 0; i < PHOTOS; i++) {
    uint8_t *to[2] = {both[0].pixels + i * DIGIT * DIGIT, both[1].pixels + i * DIGIT * DIGIT};
    take_photo(photo, test->pixels + i * DIGIT * DIGIT, &rng);
    nb_try(vit_resize(to[0], photo, 1, HIGH, WIDE, DIGIT, DIGIT, VIT_BILINEAR));
    nb_try(vit_digit_prepare(to[1], photo, HIGH, WIDE));
    if (i >= SHOWN) continue;
    nb_try(vit_resize(small, photo, 1, HIGH, WIDE, TALL, BROAD, VIT_BILINEAR));
    for (int j = 0; j < TILE; j++) {
      const int y = j / BROAD / 3, x = (j % BROAD - 14) / 3, on = j % BROAD >= 14 && x < DIGIT;
      tiles[i * TILE + j] = (float)small[j] / 255;
      for (int k = 0; k < 2; k++)
        tiles[((k + 1) * SHOWN + i) * TILE + j] = on ? (float)to[k][y * DIGIT + x] / 255 : 1;
    }
  }
  nb_code("vit_resize(image, photo, 1, 600, 800, 28, 28, VIT_BILINEAR)");
  nb_code("vit_digit_prepare(image, photo, 600, 800)");
  for (int k = 0; k < 2; k++) {
    nb_try(vit_evaluate(m, both + k, &loss, right + k, guess[k], NULL, NULL));
    printf("  %-24s %2.0f of %d photos are read\n", k ? "prepared as MNIST was" : "shrunk to 28 x 28",
           right[k] * PHOTOS, PHOTOS);
  }
  nb_say("The model has seen white ink on black, 20 pixels high, its centre of mass in the middle. A photo is nothing of "
         "this. Otsu's threshold divides ink from paper: of all thresholds the one for which the two groups of grey levels "
         "differ most. What is seldom at the rim is ink; its box becomes 20 x 20, and moves to the middle.");
  for (int i = 0; i < SHOWN; i++) {
    snprintf(text[i], sizeof text[i], "a photo of %d", test->labels[i]);
    for (int k = 0; k < 2; k++)
      snprintf(text[(k + 1) * SHOWN + i], sizeof text[i], "%s:\nread as %d", k ? "prepared" : "shrunk", guess[k][i]);
  }
  for (int i = 0; i < 3 * SHOWN; i++) titles[i] = text[i];
  nb_figure(vit_plot_tiles(nb_out, "photos", "Photos of digits: as they are, shrunk, and prepared as MNIST was", tiles, NULL,
                           0, 0, titles, 3, SHOWN, 1, TALL, BROAD, 0, 1),
            "photos");
  for (int k = 0; k < 2; k++) free(both[k].pixels);
  free(photo), free(tiles);
}

/* The bits of x in 16: F16, rounded to the nearest, or the upper half of an F32. */
static unsigned to_half(float x, int bf16) {
  uint32_t bits;
  const float far = fabsf(x);
  memcpy(&bits, &x, sizeof bits);
  if (bf16) return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  if (far < 1 / 16384.0f) return (bits >> 16 & 0x8000u) | (unsigned)(far * 16777216.0f + 0.5f);
  bits = (bits & 0x7FFFFFFFu) - (112u << 23); /* its exponent begins 112 later */
  return (x < 0 ? 0x8000u : 0) | (bits + 0xFFF + (bits >> 13 & 1)) >> 13;
}

/* The tensors of a file without what is said of them, one left out and one more,
   each by its name (NULL: none). type F32, F16 or BF16. */
static void write_tensors(const char *to, const char *from, const char *type, const char *without, const char *more) {
  vit_safetensors f;
  vit_safetensor list[64];
  uint16_t *half, *at;
  int n = 0;
  nb_try(vit_safetensors_open(&f, from));
  half = at = (uint16_t *)malloc(f.size);
  if (!half) nb_stop("out of memory");
  for (int i = 0; n < 63 && vit_safetensors_at(&f, i, list + n); i++) {
    vit_safetensor *t = list + n;
    const uint16_t *start = at;
    if (without && !strcmp(t->name, without)) continue;
    n++;
    if (!strcmp(type, "F32")) continue;
    strcpy(t->type, type);
    for (size_t j = 0; j < t->count; j++) {
      float x;
      memcpy(&x, (const char *)t->data + j * sizeof x, sizeof x);
      *at++ = (uint16_t)to_half(x, *type == 'B');
    }
    t->data = start;
  }
  if (more) list[n] = list[0], list[n++].name = more;
  nb_try(vit_safetensors_write(to, list, n, NULL));
  vit_safetensors_close(&f);
  free(half);
}

static double right_of(const vit_model *m, const vit_dataset *d) {
  double loss, accuracy;
  nb_try(vit_evaluate(m, d, &loss, &accuracy, NULL, NULL, NULL));
  return 100 * accuracy;
}

/* [8] */
static void half_precision(const vit_model *m, const vit_dataset *test, const char *path) {
  static const char *const types[] = {"F32", "F16", "BF16"};
  enum { SHOWN = 4 };
  float read[3][SHOWN];
  nb_cell("Half precision: 16 bits for a number");
  printf("  %s%-6s %8s %8s %22s%s\n", nb_dim(), "type", "bytes", "right", "largest difference", nb_plain());
  for (int i = 0; i < 3; i++) {
    char file[600];
    vit_pretrained_config c = vit_pretrained_defaults();
    vit_safetensors f;
    vit_model half;
    snprintf(file, sizeof file, "%.500s/%s.safetensors", nb_out, types[i]);
    write_tensors(file, path, types[i], NULL, NULL);
    c.heads = m->config.heads; /* it is not in the tensors */
    nb_try(open_file(&half, file, &c, NULL, NULL));
    nb_try(vit_safetensors_open(&f, file));
    printf("  %-6s %8.0f %6.1f %% %22.2g\n", types[i], (double)f.size, right_of(&half, test), farthest(m, &half, test));
    memcpy(read[i], half.params.head_w, sizeof read[i]);
    vit_safetensors_close(&f);
    vit_model_free(&half);
  }
  printf("\n  %s%-14s %12s   %-4s %12s   %-4s %12s%s\n", nb_dim(), "head.weight", "F32", "F16", "is read as", "BF16",
         "is read as", nb_plain());
  for (int j = 0; j < SHOWN; j++)
    printf("  number %-7d %12.9f   %04x %12.9f   %04x %12.9f\n", j, (double)read[0][j], to_half(read[0][j], 0),
           (double)read[1][j], to_half(read[0][j], 1), (double)read[2][j]);
}

/* Positions [n*n,D] to [side*side,D] with the corners on each other, as
   align_corners=True of PyTorch: its cubic has a = -0.75, edges are repeated. */
static void aligned(float *to, int rows, int cols, const float *from, int n_rows, int n_cols, int D) {
  for (int r = 0; r < rows * cols * D; r++) {
    const double at[2] = {rows > 1 ? r / D / cols * (n_rows - 1.0) / (rows - 1) : 0,
                          r / D % cols * (n_cols - 1.0) / (cols - 1)};
    double sum = 0, w[2][4];
    for (int axis = 0; axis < 2; axis++)
      for (int i = 0; i < 4; i++) {
        const double x = fabs(at[axis] - floor(at[axis]) + 1 - i), a = -0.75;
        w[axis][i] = x < 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : x < 2 ? ((x - 5) * x + 8) * a * x - 4 * a : 0;
      }
    for (int i = 0; i < 16; i++) {
      const int y = (int)fmax(0, fmin(floor(at[0]) - 1 + i / 4, n_rows - 1));
      const int x = (int)fmax(0, fmin(floor(at[1]) - 1 + i % 4, n_cols - 1));
      sum += w[0][i / 4] * w[1][i % 4] * (double)from[(y * n_cols + x) * D + r % D];
    }
    to[r] = (float)sum;
  }
}

/* [9] */
static void positions_by_two_rules(const vit_model *m, const vit_dataset *test, const char *path) {
  const float ramp[4] = {0, 1, 2, 3};
  const int D = m->config.width;
  float row[2][6];
  nb_cell("Positions by two rules");
  nb_try(vit_resample_positions(row[0], 1, 6, ramp, 1, 4, 1));
  aligned(row[1], 1, 6, ramp, 1, 4, 1);
  printf("  four positions 0 1 2 3 become six\n  %-26s", "middle of the new patch");
  for (int i = 0; i < 6; i++) printf(" %7.3f", (i + 0.5) * 4 / 6 - 0.5);
  printf("\n  %-26s", "timm's rule");
  for (int i = 0; i < 6; i++) printf(" %7.3f", (double)row[0][i]);
  printf("\n  %-26s", "corners on corners");
  for (int i = 0; i < 6; i++) printf(" %7.3f", (double)row[1][i]);
  printf("\n\n  %s%-10s %-9s %14s %20s %14s%s\n", nb_dim(), "image", "patches", "timm's rule", "corners on corners",
         "apart", nb_plain());
  for (int side = 35; side <= 2 * DIGIT; side += 7) {
    vit_pretrained_config c = vit_pretrained_defaults();
    vit_dataset large = *test;
    vit_model other;
    double right, apart = 0, all = 0;
    const int n = side / 7;
    float *pos, *table = nb_floats(n * n * D);
    c.image_height = c.image_width = side;
    nb_try(open_file(&other, path, &c, NULL, NULL));
    large.pixels = (uint8_t *)malloc((size_t)test->count * (size_t)(side * side));
    if (!large.pixels) nb_stop("out of memory for larger images");
    large.height = large.width = side;
    nb_try(vit_resize(large.pixels, test->pixels, test->count, DIGIT, DIGIT, side, side, VIT_BILINEAR));
    right = right_of(&other, &large);
    pos = other.params.pos_embed + D; /* behind that of the class token */
    aligned(table, n, n, m->params.pos_embed + D, 4, 4, D);
    for (int i = 0; i < n * n * D; i++) {
      const double far = (double)table[i] - (double)pos[i];
      apart += far * far, all += (double)pos[i] * (double)pos[i];
      pos[i] = table[i];
    }
    printf("  %2d x %-5d %d x %-5d %12.1f %% %18.1f %% %12.1f %%\n", side, side, n, n, right, right_of(&other, &large),
           100 * sqrt(apart / all));
    free(large.pixels), free(table);
    vit_model_free(&other);
  }
  nb_say("Apart: root of the mean squared difference of the two tables, as a part of the numbers themselves.");
}

/* [10] */
static void same_shapes(const vit_model *m, const vit_dataset *test) {
  static const char *const what[] = {"nothing", "2 heads for 3", "6 heads for 3", "1 head for 3", "Q and K exchanged",
                                     "tanh GELU", "quick GELU", "norm_eps 0.01", "pictures: mean and std 0.5",
                                     "pictures: values 0 to 255"};
  char file[600];
  nb_cell("The same shapes, other numbers");
  snprintf(file, sizeof file, "%.500s/F32.safetensors", nb_out);
  printf("  %s%-28s %10s %22s%s\n", nb_dim(), "what is wrong", "right", "largest difference", nb_plain());
  for (int i = 0; i < 10; i++) {
    static const int own[] = {3, 2, 6, 1};
    vit_pretrained_config c = vit_pretrained_defaults();
    vit_dataset d = *test;
    vit_model other;
    c.heads = i < 4 ? own[i] : 3;
    nb_try(open_file(&other, file, &c, NULL, NULL));
    for (int l = 0; i == 4 && l < other.config.depth; l++) {
      const vit_tensors w = vit_layer(&other.params, l);
      const int n = m->config.width * m->config.width;
      for (int j = 0; j < n; j++) {
        const float q = w.qkv_w[j];
        w.qkv_w[j] = w.qkv_w[n + j], w.qkv_w[n + j] = q;
      }
    }
    if (i == 5) other.config.gelu = VIT_GELU_TANH;
    if (i == 6) other.config.gelu = VIT_GELU_QUICK;
    if (i == 7) other.config.norm_eps = 0.01f;
    if (i == 8) d.mean[0] = d.std[0] = 0.5f;
    if (i == 9) d.mean[0] = 0, d.std[0] = 1 / 255.0f;
    printf("  %-28s %8.1f %%", what[i], right_of(&other, &d));
    if (i < 8) printf(" %22.2g", farthest(m, &other, test));
    printf("\n");
    vit_model_free(&other);
  }
}

static void write_bytes(const char *path, const char *text, size_t n) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(text, 1, n, file) != n) nb_stop("cannot write a file for this cell");
  fclose(file);
}

/* [11] */
static void reports_and_refusals(const char *path) {
  static const char *const good[] = {"timm_dinov2_reg", "hf_deit", "hf_clip_head", "torchvision"};
  static const struct { const char *name, *bytes; } bad[] = {
      {"new.pth", "PK\3\4"}, {"old.pth", "\x80\2"}, {"model.gguf", "GGUF"},
      {"pointer.safetensors", "version https://git-lfs.github.com/spec/v1"}, {"page.safetensors", "<!doctype html>"},
      {"cut.safetensors", "\x98\x0d\0\0\0\0\0\0{"}};
  static const struct { const char *name, *without, *more; int heads; } other[] = {
      {"missing", "blocks.1.attn.proj.weight", NULL, 3}, {"left", NULL, "blocks.0.attn.gate.weight", 3},
      {"beit", NULL, "blocks.0.attn.relative_position_bias_table", 3}, {"heads", NULL, NULL, 0}, {"five", NULL, NULL, 5}};
  vit_model m;
  vit_pretrained_report r;
  char file[600];
  nb_cell("What a report says, and what is refused");
  for (int i = 0; i < 4; i++)
    if (small_published(&m, &r, good[i])) nb_row(good[i], r.text), vit_model_free(&m);
  printf("\n");
  for (int i = 0; i < 6; i++) {
    snprintf(file, sizeof file, "%.500s/%s", nb_out, bad[i].name);
    write_bytes(file, bad[i].bytes, i == 5 ? 9 : strlen(bad[i].bytes));
    if (open_file(&m, file, NULL, NULL, NULL)) nb_say("%s", vit_error());
    else nb_stop("what must be refused was opened");
  }
  for (int i = 0; i < 5; i++) {
    vit_pretrained_config c = vit_pretrained_defaults();
    snprintf(file, sizeof file, "%.500s/%s.safetensors", nb_out, other[i].name);
    write_tensors(file, path, "F32", other[i].without, other[i].more);
    c.heads = other[i].heads;
    if (open_file(&m, file, &c, NULL, NULL)) nb_say("%s", vit_error());
    else nb_stop("what must be refused was opened");
  }
}

static void story(void) {
  vit_model m;
  vit_dataset train, test;
  char path[600];
  snprintf(path, sizeof path, "%.500s/model.safetensors", nb_out);
  small_model(&m, &train, &test);
  bytes_of_a_file(&m, &train, path);
  written_and_opened(&m, &train, &test, path);
  logits_of_others();
  larger_images(&test, path);
  preparations();
  photos_of_digits(&m, &test);
  half_precision(&m, &test, path);
  positions_by_two_rules(&m, &test, path);
  same_shapes(&m, &test);
  reports_and_refusals(path);
  nb_next("model.safetensors");
  nb_say("Draw a digit on paper, take a photo, and give it to this command.");
  vit_model_free(&m), vit_dataset_free(&train), vit_dataset_free(&test);
}

int main(int argc, char **argv) {
  static const char *const switches[] = {"--digit", "--logits", "--finetune", "--help", "-h"};
  const nb_flag flags[] = {
      {"--preprocess", "NAME", "how pictures are prepared: timm, deit, dino, dinov2, clip, siglip, torchvision, hf or plain "
       "(as the file says, or as is usual there)", NULL, NULL, &preprocess},
      {"--digit", "", "prepare each picture as a photo of a digit", &as_digit, NULL, NULL},
      {"--logits", "", "print all logits instead of the five best", &all_logits, NULL, NULL},
      {"--finetune", "", "what it is worth to know other digits; four minutes", &finetune, NULL, NULL},
      {"--heads", "N", "heads of the model, where its file does not tell (0)", &heads, NULL, NULL},
      {"--size", "N", "use it at N x N pixels: positions are resampled (0: its own)", &size, NULL, NULL}};
  char **rest = (char **)calloc((size_t)argc + 1, sizeof *rest), **given = (char **)calloc((size_t)argc + 1, sizeof *given);
  int flagged = 1, n = 0;
  if (!rest || !given) nb_stop("out of memory");
  rest[0] = argv[0];
  for (int i = 1; i < argc; i++) { /* what is no flag and no value of one */
    int alone = strncmp(argv[i], "--", 2) && strcmp(argv[i], "-h");
    if (alone) {
      given[n++] = argv[i];
      continue;
    }
    for (size_t k = 0; k < sizeof switches / sizeof *switches; k++) alone |= !strcmp(argv[i], switches[k]);
    rest[flagged++] = argv[i];
    if (!alone && i + 1 < argc) rest[flagged++] = argv[++i];
  }
  nb_start("13-pretrained", "MODEL PICTURE...: what a model from a file sees on pictures. Alone: how such files and "
           "pictures become numbers.", flagged, rest, flags, 6);
  if (preprocess && !vit_preprocess_find(preprocess)) nb_stop(vit_error());
  if (size < 0 || size > 4096) nb_stop("--size must be from 1 to 4096, or 0 for the model's own");
  if (n == 1) nb_stop("13_pretrained wants MODEL PICTURE..., or nothing at all; see --help");
  if (n > 1) classify(given[0], given + 1, n - 1);
  else if (finetune) finetune_demo("out/digits");
  else story();
  free(rest), free(given);
  return 0;
}
