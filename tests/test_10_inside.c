/* What a model looks at: every method against PyTorch (fixtures/inside_*), what
   must hold of all options, and the sentences. Then figures: a script beside its
   data, drawn by gnuplot; what they show, and what happens where there is no
   gnuplot, no folder or nothing to draw. */
#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L /* setenv */
#endif
#include "files.h"

static void test_plot_errors(void) {
  const char *file = write_file("a file", "x", 1);
  const float values[4] = {0, 1, 2, 3};
  const int counts[4] = {1, 2, 3, 4};
  vit_epoch e;
  vit_history h;
  char inside[400], sentence[600];
  vit_plot p;
  memset(&e, 0, sizeof e);
  h.epochs = 1;
  h.best = 0;
  h.epoch = &e;
  snprintf(inside, sizeof inside, "%s/out", file);
  snprintf(sentence, sizeof sentence, "cannot make the folder %s: Not a directory",
           inside);
  fails(vit_plot_begin(&p, inside, "name", 100, 100), VIT_ERR_FILE, sentence, "");
  fails(vit_plot_end(&p), VIT_ERR_STATE, "there is no figure: vit_plot_begin failed or was not called", "");
  fails(vit_plot_history(inside, "name", &h, "test images", NULL), VIT_ERR_FILE, sentence, "");
  fails(vit_plot_confusion(inside, "name", counts, 2, NULL), VIT_ERR_FILE, sentence, "");
  fails(vit_plot_tiles(inside, "name", "", values, NULL, 0, 0, NULL, 1, 1, 1, 2, 2, 0, 0),
        VIT_ERR_FILE, sentence, "");
  /* the folder is there, but NAME.gp or NAME.dat is something else */
  folder_of("taken");
  folder_of("taken/one.gp");
  folder_of("taken/two.dat");
  CHECK(vit_plot_begin(&p, path_of("taken"), "one", 9, 9) == VIT_ERR_FILE &&
            strstr(vit_error(), "cannot write ") && strstr(vit_error(), "taken/one.gp: "),
        "%s", vit_error());
  path_of("taken/two.gp");
  CHECK(vit_plot_begin(&p, path_of("taken"), "two", 9, 9) == VIT_ERR_FILE &&
            strstr(vit_error(), "cannot write ") && strstr(vit_error(), "taken/two.dat: "),
        "%s", vit_error());
  CHECK(!p.script && !p.data, "files are left open");
  CHECK(vit_plot_begin(&p, folder,
                       "a-name-of-more-than-sixty-three-letters-does-not-fit-into-a-figure",
                       9, 9) == VIT_ERR_FILE && strstr(vit_error(), "is too long"),
        "%s", vit_error());
}

/* All three plots; each leaves its script and its data. */
static void check_plots(const char *dir, vit_result want, const char *sentence) {
  static const char *const names[] = {"history", "confusion", "tiles", "unjudged"};
  const float values[8] = {0, 1, 2, 3, 3, 2, 1, 0}, glow[2] = {0.5f, 1};
  const char *const titles[2] = {"a", "it's\n\"two\" lines"};
  const int counts[4] = {1, 2, 0, 0};
  vit_epoch e[2] = {{2, 2, 0.1, 0.5, 0.1, 1}, {1, 1, 0.9, 1, 0.1, 2}};
  char class_names[1][VIT_NAME_SIZE] = {"a cat_2"}; /* fewer than the model has */
  vit_dataset one_class;
  vit_history h;
  memset(&one_class, 0, sizeof one_class);
  one_class.classes = 1;
  one_class.names = class_names;
  h.epochs = 2;
  h.best = 2;
  h.epoch = e;
  for (int i = 0; i < 4; i++) {
    char path[400], full[700];
    if (i == 3) { /* no images judged the epochs */
      for (int k = 0; k < 2; k++) e[k].val_loss = e[k].val_accuracy = NAN;
      h.best = 0;
    }
    vit_result r =
        i % 3 == 0 ? vit_plot_history(dir, names[i], &h, i ? NULL : "the teacher's \"test_images\"", NULL)
        : i == 1 ? vit_plot_confusion(dir, names[i], counts, 2, &one_class)
                 : vit_plot_tiles(dir, names[i], "two 'tiles'", values, glow, 1, 1,
                                  titles, 1, 2, 1, 2, 2, 0, 0);
    snprintf(full, sizeof full, sentence, names[i], dir);
    if (want)
      fails(r, want, full, "");
    else
      CHECK(!r, "%s in %s: %s", names[i], dir, vit_error());
    for (int ending = 0; ending < 3; ending++) {
      static const char *const endings[] = {"gp", "dat", "png"};
      snprintf(path, sizeof path, "%s/%s.%s", dir, names[i], endings[ending]);
      CHECK(exists(path) == (ending < 2 || !want), "%s is %s", path,
            exists(path) ? "there" : "not there");
      remove(path);
    }
  }
}

static void test_plots(void) {
  if (system("gnuplot --version >/dev/null 2>&1") != 0) SKIP("gnuplot is missing");
  check_plots(folder_of("plots"), VIT_OK, "%s%s");
  check_plots(folder_of("it's a \"folder\" $HOME"), VIT_OK, "%s%s");
}

/* The shell's cd looks through CDPATH first, where another folder has this name. */
static void test_plots_with_cdpath(void) {
  char decoy[400], *slash;
  if (system("gnuplot --version >/dev/null 2>&1") != 0) SKIP("gnuplot is missing");
  folder_of("decoy");
  snprintf(decoy, sizeof decoy, "decoy/%s/plots", folder);
  for (slash = decoy; (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
    *slash = '\0';
    folder_of(decoy);
  }
  folder_of(decoy);
  setenv("CDPATH", path_of("decoy"), 1);
  check_plots(folder_of("plots"), VIT_OK, "%s%s");
  unsetenv("CDPATH");
}

static void test_plot_of_many_classes(void) {
  enum { K = 600 }; /* 55 pixels for each would be more than cairo draws */
  int *counts;
  path_of("plots/many.gp");
  path_of("plots/many.dat");
  path_of("plots/many.png");
  if (system("gnuplot --version >/dev/null 2>&1") != 0) SKIP("gnuplot is missing");
  counts = (int *)calloc(K * K, sizeof *counts);
  if (!CHECK(counts != NULL, "no memory")) return;
  for (int k = 0; k < K; k++) counts[k * K + k] = 5;
  CHECK(!vit_plot_confusion(folder_of("plots"), "many", counts, K, NULL), "%s", vit_error());
  free(counts);
}

static void test_plots_without_gnuplot(void) {
  char path[4000];
  const char *was = getenv("PATH");
  snprintf(path, sizeof path, "%s", was ? was : "");
  setenv("PATH", "/nonexistent", 1);
  check_plots(folder_of("plots"), VIT_ERR_GNUPLOT,
              "no picture: gnuplot is missing; install it, then run "
              "`gnuplot -d %s.gp` in %s");
  setenv("PATH", path, 1);
}

/* A gnuplot that Ctrl-C ends is no failure: the program should end too. */
static void test_plots_stopped(void) {
  char path[4000], here[2000], with[7000];
  const char *was = getenv("PATH"), *bin = folder_of("bin");
  const char *fake = write_file("bin/gnuplot", "#!/bin/sh\nexit 130\n", 19);
  snprintf(path, sizeof path, "%s", was ? was : "");
  if (!CHECK(getcwd(here, sizeof here) && !chmod(fake, 0700), "%s", fake)) return;
  snprintf(with, sizeof with, "%s/%s:%s", here, bin, path);
  setenv("PATH", with, 1);
  check_plots(folder_of("plots"), VIT_STOPPED, "stopped while gnuplot drew %s%.0s");
  setenv("PATH", path, 1);
}

/* A run that was stopped in its first epoch has nothing to draw. */
static void test_plot_of_nothing(void) {
  vit_history h;
  h.epochs = h.best = 0;
  h.epoch = NULL;
  path_of("plots/history.gp");
  path_of("plots/history.dat");
  if (system("gnuplot --version >/dev/null 2>&1") != 0) SKIP("gnuplot is missing");
  CHECK(vit_plot_history(folder_of("plots"), "history", &h, "test images", NULL) != VIT_ERR_GNUPLOT,
        "an empty history: %s", vit_error());
  remove(path_of("plots/history.png"));
}

/* ---- what the figures show ----------------------------------------------- */

static char text[400000]; /* of a file */
static size_t read_text(const char *path) {
  FILE *f = fopen(path, "rb");
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f) fclose(f);
  text[n] = '\0';
  return n;
}

/* A figure of its own, with its files; they are removed at the end. */
static const char *figure(const char *name, const char *ending) {
  char path[200];
  snprintf(path, sizeof path, "plots/%s.%s", name, ending);
  return path_of(path);
}
static const char *folder_of_figure(const char *name) {
  const char *dir = folder_of("plots");
  figure(name, "gp");
  figure(name, "dat");
  figure(name, "png");
  return dir;
}

/* Epochs whose loss sinks towards `least`. */
static vit_history history_of(vit_epoch *e, int epochs, int best, double least) {
  vit_history h;
  memset(e, 0, (size_t)epochs * sizeof *e);
  for (int i = 0; i < epochs; i++) {
    e[i].train_loss = least + 1.0 / (i + 1);
    e[i].val_loss = best ? least + 1.1 / (i + 1) : NAN;
    e[i].val_accuracy = best ? 0.9 - 0.5 / (i + 1) : NAN;
    e[i].rate = 0.005 / (i + 1);
  }
  h.epochs = epochs;
  h.best = best;
  h.epoch = e;
  return h;
}

/* A user's start-up file does not change a figure: it is the same to the byte. */
static void test_plots_without_start_up_file(void) {
  static const char mine[] = "set datafile separator ','\nset logscale y\nset terminal dumb\n";
  char home[2000], here[1000], *before = NULL;
  const char *was = getenv("HOME"), *dir = folder_of_figure("plain");
  const int counts[4] = {9, 1, 2, 8};
  size_t n;
  if (system("gnuplot --version >/dev/null 2>&1") != 0) SKIP("gnuplot is missing");
  if (!CHECK(!vit_plot_confusion(dir, "plain", counts, 2, NULL), "%s", vit_error())) return;
  n = read_text(figure("plain", "png"));
  before = (char *)malloc(n + 1);
  if (!CHECK(before && n > 1000, "a picture of %d bytes", (int)n)) {
    free(before);
    return;
  }
  memcpy(before, text, n);
  folder_of("home");
  write_file("home/.gnuplot", mine, sizeof mine - 1);
  CHECK(getcwd(here, sizeof here) != NULL, "no folder");
  snprintf(home, sizeof home, "%s/%s", here, path_of("home"));
  snprintf(here, sizeof here, "%s", was ? was : "");
  setenv("HOME", home, 1);
  CHECK(!vit_plot_confusion(dir, "plain", counts, 2, NULL), "%s", vit_error());
  setenv("HOME", here, 1);
  CHECK(read_text(figure("plain", "png")) == n && !memcmp(text, before, n),
        "~/.gnuplot changes the picture");
  free(before);
  read_text(figure("plain", "gp"));
  CHECK(strstr(text, "# Draw again with: gnuplot -d plain.gp\n"), "%s", text);
}

/* The best epoch, the rate, and the least loss that a softmax before it allows. */
static void test_plot_history_shows(void) {
  vit_epoch e[12];
  const vit_history h = history_of(e, 12, 9, 1.4612);
  vit_config c = vit_config_tutorial();
  const char *dir = folder_of_figure("shows");
  vit_result r = vit_plot_history(dir, "shows", &h, "test images", &c);
  CHECK(!r || r == VIT_ERR_GNUPLOT, "%s", vit_error());
  read_text(figure("shows", "gp"));
  CHECK(strstr(text, "least = 1.461150\n") && strstr(text, "best[1] = 9\n") &&
            strstr(text, "top[1] = 84.444\n") && strstr(text, "'Learning rate, last step'"),
        "%s", text);
  c.softmax_before_loss = 0; /* then the loss can come near 0 */
  r = vit_plot_history(dir, "shows", &h, "test images", &c);
  CHECK(!r || r == VIT_ERR_GNUPLOT, "%s", vit_error());
  read_text(figure("shows", "gp"));
  CHECK(strstr(text, "least = 0.000000\n"), "%s", text);
  read_text(figure("shows", "dat"));
  CHECK(strstr(text, "\n12 1.544533 1.552867 85.833 0.000416667 0.00\n"), "%s", text);
}

/* Runs of any length, one that nothing judged, names with quotes. */
static void test_plot_histories(void) {
  vit_epoch e[3][12];
  const vit_history a = history_of(e[0], 12, 12, 0), b = history_of(e[1], 1, 1, 0),
                    u = history_of(e[2], 5, 0, 0);
  vit_history none = u;
  const vit_history *runs[3], *empty[2];
  static const char *const names[] = {"the teacher's \"own\"", "depth=6_`ls`", "unjudged"};
  const char *dir = folder_of_figure("runs");
  vit_result r;
  runs[0] = &a, runs[1] = &b, runs[2] = &u;
  for (int count = 1; count <= 3; count++) {
    r = vit_plot_histories(dir, "runs", runs, names, count, "held-back images");
    CHECK(!r || (r == VIT_ERR_GNUPLOT && strstr(vit_error(), "is missing")), "%d runs: %s", count,
          vit_error());
  }
  read_text(figure("runs", "gp"));
  CHECK(strstr(text, "runs = 3\n") && strstr(text, "name[1] = \"the teacher's 'own'\"\n") &&
            strstr(text, "name[2] = \"depth=6_'ls'\"\n") && strstr(text, "best[3] = 0\n"),
        "%s", text);
  r = vit_plot_histories(dir, "runs", runs + 2, names + 2, 1, NULL);
  CHECK(!r || (r == VIT_ERR_GNUPLOT && strstr(vit_error(), "is missing")), "%s", vit_error());
  none.epochs = 0;
  empty[0] = &a, empty[1] = &none;
  fails(vit_plot_histories(dir, "runs", empty, names, 2, "test images"), VIT_ERR_CONFIG,
        "there is no finished epoch to draw", "");
  fails(vit_plot_histories(dir, "runs", runs, names, 0, "test images"), VIT_ERR_CONFIG,
        "there are 0 runs to draw", "");
}

/* The scale is that of the mistakes, however many answers are right. */
static void test_plot_confusion_scale(void) {
  const int counts[9] = {990, 10, 0, 0, 500, 0, 5, 0, 95}, right[4] = {3, 0, 0, 4};
  const char *dir = folder_of_figure("scale");
  vit_result r = vit_plot_confusion(dir, "scale", counts, 3, NULL);
  CHECK(!r || r == VIT_ERR_GNUPLOT, "%s", vit_error());
  read_text(figure("scale", "gp"));
  CHECK(strstr(text, "set cbrange [0:5]\n") && strstr(text, " 15 of 1600 images are wrong'\n"),
        "%s", text);
  read_text(figure("scale", "dat"));
  CHECK(strstr(text, "\n1 0 10 1.00\n") && strstr(text, "\n0 2 5 5.00\n"), "%s", text);
  r = vit_plot_confusion(dir, "scale", right, 2, NULL);
  CHECK(!r || (r == VIT_ERR_GNUPLOT && strstr(vit_error(), "is missing")), "%s", vit_error());
}

/* One scale of the glow in all pictures: the largest weight is the strongest. */
static void test_plot_tiles_scale(void) {
  const float values[4] = {0, 0, 0, 0}, glow[4] = {0.1f, 0, 0, 0.05f};
  const float dark[4] = {0, 0, 0, 0};
  const char *dir = folder_of_figure("glow");
  vit_result r = vit_plot_tiles(dir, "glow", "t", values, glow, 1, 2, NULL, 1, 2, 1, 1, 2, 0, 1);
  CHECK(!r || r == VIT_ERR_GNUPLOT, "%s", vit_error());
  read_text(figure("glow", "dat"));
  CHECK(!strcmp(text, "# x y red green blue\n"
                      "0 0 191 128 0\n1 0 0 0 0\n2 0 255 255 255\n"
                      "3 0 0 0 0\n4 0 96 64 0\n5 0 255 255 255\n"
                      "0 1 255 255 255\n1 1 255 255 255\n2 1 255 255 255\n"
                      "3 1 255 255 255\n4 1 255 255 255\n5 1 255 255 255\n"),
        "%s", text);
  read_text(figure("glow", "gp"));
  CHECK(strstr(text, "set cbrange [0:0.1]\n") && strstr(text, "lc palette"), "%s", text);
  r = vit_plot_tiles(dir, "glow", "t", values, dark, 1, 2, NULL, 1, 2, 1, 1, 2, 0, 1);
  CHECK(!r || (r == VIT_ERR_GNUPLOT && strstr(vit_error(), "is missing")), "%s", vit_error());
  read_text(figure("glow", "gp"));
  CHECK(!strstr(text, "lc palette"), "a bar without a glow: %s", text);
}

/* ---- methods: what PyTorch gives ----------------------------------------- */

enum { MOST_KEYS = 200 };
static struct {
  vit_safetensors f;
  const char *name;
  unsigned char seen[MOST_KEYS];
  vit_model m;
  vit_config c;
  int B, T, N, K, L, H, pixels, k[8]; /* the class that is asked about */
  float *images, *baseline;
} in;

/* A copy of n numbers of the fixture, marked as seen. */
static float *in_take(const char *key, int n) {
  vit_safetensor t;
  float *copy;
  int i = 0;
  memset(&t, 0, sizeof t);
  while (vit_safetensors_at(&in.f, i, &t) && strcmp(t.name, key)) i++;
  if (!CHECK(i < in.f.count && t.count == (size_t)n, "%s: %s has not %d numbers", in.name, key, n))
    exit(1);
  in.seen[i] = 1;
  copy = (float *)malloc((size_t)n * sizeof *copy);
  if (!copy) exit(1);
  memcpy(copy, t.data, (size_t)n * sizeof *copy);
  return copy;
}

/* 1e-5 of the largest number of all. */
static void in_compare(const char *key, const float *have, int n) {
  float *want = in_take(key, n);
  char label[100];
  double most = 0;
  for (int i = 0; i < n; i++) most = fmax(most, fabs((double)want[i]));
  snprintf(label, sizeof label, "%s %s %s", in.name, in.m.kernels->name, key);
  CHECK_CLOSE(label, have, want, n, 1e-5, 1e-5 * most);
  free(want);
}

/* The wrong answer of public code, which must not come out. */
static void in_differs(const char *key, const float *have, int n) {
  float *wrong = in_take(key, n);
  double most = 0;
  for (int i = 0; i < n; i++) most = fmax(most, fabs((double)wrong[i]));
  CHECK(vit_max_difference(have, wrong, (size_t)n) > 1e-4 * most, "%s: the same as %s", in.name, key);
  free(wrong);
}

static void in_open(const char *name, const vit_kernels *kernels) {
  char path[100], pairs[2000], *value;
  const char *text_of;
  vit_tensor t;
  memset(&in, 0, sizeof in);
  in.name = name;
  snprintf(path, sizeof path, "tests/fixtures/%s.safetensors", name);
  if (!CHECK(!vit_safetensors_open(&in.f, path), "%s", vit_error())) exit(1);
  in.c = vit_config_l16();
  text_of = vit_safetensors_metadata(&in.f, "config");
  snprintf(pairs, sizeof pairs, "%s", text_of ? text_of : "");
  for (char *pair = strtok(pairs, " "); pair; pair = strtok(NULL, " ")) {
    if ((value = strchr(pair, '=')) == NULL) continue;
    *value++ = '\0';
    CHECK(!vit_config_set(&in.c, pair, value), "%s", vit_error());
  }
  if (!CHECK(!vit_model_create(&in.m, &in.c, 1), "%s", vit_error())) exit(1);
  in.m.kernels = kernels;
  in.c = in.m.config;
  for (int i = 0; vit_tensor_at(&in.c, i, &t); i++) {
    char key[120];
    float *w;
    snprintf(key, sizeof key, "param/%s", t.name);
    w = in_take(key, (int)t.count);
    memcpy(in.m.params.block + t.offset, w, t.count * sizeof *w);
    free(w);
  }
  in.B = atoi(vit_safetensors_metadata(&in.f, "batch"));
  text_of = vit_safetensors_metadata(&in.f, "classes");
  for (int b = 0; b < in.B; b++) in.k[b] = (int)strtol(text_of, (char **)&text_of, 10);
  in.T = vit_config_tokens(&in.c), in.N = vit_config_patches(&in.c), in.K = in.c.classes;
  in.L = in.c.depth, in.H = in.c.heads;
  in.pixels = in.c.channels * in.c.image_height * in.c.image_width;
  in.images = in_take("images", in.B * in.pixels);
  in.baseline = in_take("baseline", in.pixels);
}

static void in_close(void) {
  vit_safetensor t;
  for (int i = 0; vit_safetensors_at(&in.f, i, &t); i++)
    CHECK(in.seen[i], "%s: %s was not compared", in.name, t.name);
  free(in.images);
  free(in.baseline);
  vit_model_free(&in.m);
  vit_safetensors_close(&in.f);
}

static float *numbers(int n) {
  float *x = (float *)calloc((size_t)n, sizeof *x);
  if (!x) exit(1);
  return x;
}

/* Forward, and backward from the class that is asked about. */
static void in_run(vit_state *s) {
  float *ask = numbers(in.B * in.K);
  for (int b = 0; b < in.B; b++) ask[b * in.K + in.k[b]] = 1;
  s->dropout = 0;
  vit_zero_gradients(s);
  CHECK(!vit_forward(&in.m, s, in.images, in.B), "%s", vit_error());
  CHECK(!vit_backward_logits(&in.m, s, ask, 1), "%s", vit_error());
  free(ask);
}

/* Logits, attention, all gradients. */
static void in_gradients(const vit_state *s) {
  const int each = in.B * in.H * in.T * in.T;
  float *a = numbers(in.L * each), *g = numbers(in.L * each);
  vit_tensor t;
  in_compare("logits", s->logits, in.B * in.K);
  for (int i = 0; i < in.L * in.B * in.H; i++) {
    const int l = i / (in.B * in.H), b = i / in.H % in.B, h = i % in.H, TT = in.T * in.T;
    const float *p = vit_attention(&in.m, s, l, b, h);
    const float *d = vit_attention_gradient(&in.m, s, l, b, h);
    if (!CHECK(p && d, "%s", vit_error())) break;
    memcpy(a + i * TT, p, (size_t)TT * sizeof *a);
    memcpy(g + i * TT, d, (size_t)TT * sizeof *g);
  }
  in_compare("attn", a, in.L * each);
  in_compare("dattn", g, in.L * each);
  in_compare("saliency", s->dimages, in.B * in.pixels);
  for (int i = 0; vit_tensor_at(&in.c, i, &t); i++) {
    char key[120];
    snprintf(key, sizeof key, "grad/%s", t.name);
    if (!strcmp(t.name + strlen(t.name) - 8, "qkv.bias")) { /* a key's bias has none but rounding */
      float *want = in_take(key, (int)t.count);
      CHECK_CLOSE(key, s->grads.block + t.offset, want, t.count, 1e-5, 1e-5);
      free(want);
    } else
      in_compare(key, s->grads.block + t.offset, (int)t.count);
  }
  free(a);
  free(g);
}

static double sum_of(const float *x, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += (double)x[i];
  return sum;
}

/* Rows of products of attention, distance and lens. */
static void in_rows(const vit_state *s) {
  float *row = numbers(4 * in.B * in.T), *roll = row, *roll_t = roll + in.B * in.T;
  float *relevance = roll_t + in.B * in.T, *relevance_t = relevance + in.B * in.T;
  float *far = numbers(in.L * in.H), *lens = numbers(in.L * in.B * in.K), *one = numbers(in.T);
  for (int b = 0; b < in.B; b++) {
    const int at = b * in.T;
    CHECK(!vit_attention_rollout(&in.m, s, b, VIT_POOLED, roll + at) &&
              !vit_attention_rollout(&in.m, s, b, in.T - 2, roll_t + at) &&
              !vit_attention_relevance(&in.m, s, b, VIT_POOLED, relevance + at) &&
              !vit_attention_relevance(&in.m, s, b, in.T - 2, relevance_t + at),
          "%s", vit_error());
    CHECK(fabs(sum_of(roll + at, in.T) - 1) < 1e-5 && fabs(sum_of(roll_t + at, in.T) - 1) < 1e-5,
          "rows of the rollout sum to %g and %g", sum_of(roll + at, in.T), sum_of(roll_t + at, in.T));
    for (int l = 0; l < in.L; l++) { /* a row of a layer, and that of a head, which is the matrix's own */
      const float *p = vit_attention(&in.m, s, l, b, 1);
      CHECK(!vit_attention_row(&in.m, s, l, b, VIT_ALL_HEADS, VIT_POOLED, one) &&
                fabs(sum_of(one, in.T) - 1) < 1e-5, "a row sums to %g", sum_of(one, in.T));
      CHECK(!vit_attention_row(&in.m, s, l, b, 1, in.T - 2, one), "%s", vit_error());
      CHECK_SAME_BITS("a row", one, p + (in.T - 2) * in.T, in.T);
    }
  }
  in_compare("rollout", roll, in.B * in.T);
  in_compare("rollout/t", roll_t, in.B * in.T);
  in_compare("relevance", relevance, in.B * in.T);
  in_compare("relevance/t", relevance_t, in.B * in.T);
  in_differs("wrong/order", relevance, in.B * in.T);
  in_differs("wrong/rows", roll, in.B * in.T);
  for (int i = 0; i < in.L * in.H; i++) {
    double pixels = 0;
    CHECK(!vit_attention_distance(&in.m, s, i / in.H, i % in.H, &pixels), "%s", vit_error());
    far[i] = (float)pixels;
  }
  in_compare("distance", far, in.L * in.H);
  in_differs("wrong/distance", far, in.L * in.H);
  for (int l = 0; l < in.L; l++)
    CHECK(!vit_logit_lens(&in.m, s, l, lens + l * in.B * in.K), "%s", vit_error());
  in_compare("lens", lens, in.L * in.B * in.K);
  CHECK_SAME_BITS("the lens of the last block", lens + (in.L - 1) * in.B * in.K, s->logits, in.B * in.K);
  free(row);
  free(far);
  free(lens);
  free(one);
}

/* What is asked by changed images, in batches that do not divide the number of patches. */
static void in_questions(vit_state *s) {
  const int N = in.N, B = in.B;
  float *occluded = numbers(B * N), *ig = numbers(B * N);
  float *curve[2] = {numbers(B * (N + 1)), numbers(B * (N + 1))}, area[2][8];
  for (int b = 0; b < B; b++) {
    const vit_question q = {&in.m, s, in.images + b * in.pixels, in.baseline, in.k[b]};
    double error = 1, a = 0;
    CHECK(!vit_occlusion(&q, occluded + b * N), "%s", vit_error());
    CHECK(!vit_integrated_gradients(&q, 32, ig + b * N, &error), "%s", vit_error());
    CHECK(error < 0.01, "integrated gradients are %.3f %% off", 100 * error);
    CHECK(sum_of(s->grads.block, (int)s->grads.count) == 0, "gradients are left");
    for (int insert = 0; insert < 2; insert++) {
      CHECK(!vit_deletion_curve(&q, occluded + b * N, insert, curve[insert] + b * (N + 1), &a),
            "%s", vit_error());
      area[insert][b] = (float)a;
    }
  }
  in_compare("occlusion", occluded, B * N);
  in_compare("ig", ig, B * N);
  in_compare("deletion", curve[0], B * (N + 1));
  in_compare("insertion", curve[1], B * (N + 1));
  in_compare("del_area", area[0], B);
  in_compare("ins_area", area[1], B);
  free(occluded);
  free(ig);
  free(curve[0]);
  free(curve[1]);
}

static void in_parameters(void) {
  enum { FILTERS = 3 };
  const int P = in.pixels / in.N;
  float *filters = numbers(FILTERS * P), parts[FILTERS], *likeness = numbers(in.N * in.N);
  CHECK(!vit_patch_filters(&in.m, filters, parts, FILTERS), "%s", vit_error());
  in_compare("filters", filters, FILTERS * P);
  in_compare("parts", parts, FILTERS);
  CHECK(!vit_position_likeness(&in.m, likeness), "%s", vit_error());
  in_compare("likeness", likeness, in.N * in.N);
  free(filters);
  free(likeness);
}

static void check_fixture(const char *name) {
  const vit_kernels *const kernels[] = {&vit_naive, vit_best_kernels()};
  const int all = VIT_FOR_TRAINING | VIT_KEEP_ATTENTION | VIT_INPUT_GRADIENT;
  for (int k = 0; k < 2; k++) {
    vit_state s;
    in_open(name, kernels[k]);
    for (int threads = 1; threads <= 3; threads += 2) { /* images, or rows and heads, are shared out */
      in.m.threads = threads;
      if (!CHECK(!vit_state_create(&s, &in.m, 5, all, 1), "%s", vit_error())) return;
      if (threads > 1) s.part_grads = NULL; /* as a larger model: no sixteen parts */
      in_run(&s);
      in_gradients(&s);
      in_rows(&s);
      in_questions(&s);
      vit_state_free(&s);
    }
    in_parameters();
    in_close();
  }
}

static void test_class_token_is_pooled(void) { check_fixture("inside_class"); }
static void test_patches_are_pooled(void) { check_fixture("inside_mean"); }
static void test_registers(void) { check_fixture("inside_registers"); }

/* Options that PyTorch's fixtures leave out: what must hold of them all. */
static void check_laws(const char *changes) {
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s, infer;
  char list[200], *value;
  float *images, *ask, *map, *logits;
  int T, N, K, L;
  c.image_height = 12, c.image_width = 8, c.patch_height = 4, c.patch_width = 2;
  c.width = 12, c.depth = 2, c.mlp_width = 20, c.softmax_before_loss = 0;
  snprintf(list, sizeof list, "%s", changes);
  for (char *pair = strtok(list, " "); pair; pair = strtok(NULL, " ")) {
    if ((value = strchr(pair, '=')) == NULL) continue;
    *value++ = '\0';
    CHECK(!vit_config_set(&c, pair, value), "%s", vit_error());
  }
  if (!CHECK(!vit_model_create(&m, &c, 1), "%s: %s", changes, vit_error())) return;
  T = vit_config_tokens(&c), N = vit_config_patches(&c), K = c.classes, L = c.depth;
  images = numbers(2 * 96), ask = numbers(2 * K), map = numbers(T + N + 1), logits = numbers(2 * K);
  test_random(images, 2 * 96, 1, 5);
  CHECK(!vit_state_create(&s, &m, 2, VIT_FOR_TRAINING | VIT_KEEP_ATTENTION | VIT_INPUT_GRADIENT, 1) &&
            !vit_state_create(&infer, &m, 3, 0, 1), "%s", vit_error());
  CHECK(!vit_predict(&m, &s, images, 2, NULL, NULL), "%s", vit_error());
  CHECK(!vit_logit_lens(&m, &s, L - 1, logits), "%s", vit_error());
  CHECK_SAME_BITS(changes, logits, s.logits, 2 * K);
  CHECK(!vit_logit_lens(&m, &s, 0, logits), "%s", vit_error());
  CHECK(vit_max_difference(logits, s.logits, (size_t)(2 * K)) > 1e-4, "%s: block 0 says all", changes);
  CHECK(!vit_attention_rollout(&m, &s, 1, VIT_POOLED, map) && fabs(sum_of(map, T) - 1) < 1e-5,
        "%s: rollout sums to %g", changes, sum_of(map, T));
  ask[K + 3] = 1;
  CHECK(!vit_backward_logits(&m, &s, ask, 1) && !vit_attention_relevance(&m, &s, 1, VIT_POOLED, map),
        "%s", vit_error());
  CHECK(sum_of(map, T) > 1.0001, "%s: relevance sums to %g", changes, sum_of(map, T));
  CHECK(!vit_attention_relevance(&m, &s, 0, VIT_POOLED, map) && fabs(sum_of(map, T) - 1) < 1e-6,
        "%s: image 0 was not asked about", changes);
  for (int i = 0; i < 2; i++) {
    vit_question q = {&m, i ? &infer : &s, images, images + 96, 3};
    double error = 1, area = 0, rise;
    CHECK(!vit_occlusion(&q, map), "%s", vit_error());
    CHECK(!vit_deletion_curve(&q, map, i, map + N, &area) && area > 0 && area < 1, "%s: area %g",
          vit_error(), area);
    CHECK(!vit_predict(&m, q.s, i ? images + 96 : images, 1, NULL, NULL) &&
              fabsf(q.s->probs[3] - map[N]) < 1e-6f, "%s: the curve begins at %g", changes, (double)map[N]);
    if (i) break;
    rise = (double)s.logits[3];
    CHECK(!vit_integrated_gradients(&q, 32, map, &error) && error < 0.01, "%s: %g off", changes, error);
    CHECK(!vit_predict(&m, &s, images + 96, 1, NULL, NULL), "%s", vit_error());
    rise -= (double)s.logits[3];
    CHECK(fabs(sum_of(map, N) - rise) < 0.01 * fabs(rise), "%s: they sum to %g, not %g", changes,
          sum_of(map, N), rise);
    q.baseline = images; /* nothing is taken away */
    CHECK(!vit_occlusion(&q, map) && sum_of(map, N) == 0, "%s: nothing is taken away", changes);
  }
  vit_state_free(&s);
  vit_state_free(&infer);
  vit_model_free(&m);
  free(images);
  free(ask);
  free(map);
  free(logits);
}

static void test_laws_of_all_options(void) {
  check_laws("");
  check_laws("norm=1 positions=2");
  check_laws("class_token=0 pool=1 final_norm=1");
  check_laws("pool=1 fc_norm=1 reg_tokens=3 pre_norm=1");
  check_laws("dist_token=1 reg_tokens=1 final_norm=1 gelu=2");
  check_laws("local_mask=3 attn_drop=0.2 proj_drop=0.1 drop_path=0.1"); /* dropout stays off */
  check_laws("softmax_before_loss=1 channels=1 head_dim=5");
}

/* A backward from the loss is one from the logits with the loss's gradient. */
static void test_backward_from_loss_and_logits(void) {
  const int labels[2] = {3, 1};
  float *g, *z;
  double loss;
  vit_state s;
  in_open("inside_class", vit_best_kernels());
  CHECK(!vit_state_create(&s, &in.m, 2, VIT_FOR_TRAINING, 1), "%s", vit_error());
  g = numbers((int)s.grads.count), z = numbers(2 * in.K);
  s.dropout = 0;
  CHECK(!vit_forward(&in.m, &s, in.images, 2) && !vit_loss(&in.m, &s, labels, 0, &loss), "%s", vit_error());
  vit_zero_gradients(&s);
  CHECK(!vit_backward(&in.m, &s, 2), "%s", vit_error());
  memcpy(g, s.grads.block, s.grads.count * sizeof *g);
  for (int i = 0; i < 2 * in.K; i++) z[i] = (s.probs[i] - (float)(i % in.K == labels[i / in.K])) / 2;
  vit_zero_gradients(&s);
  CHECK(!vit_backward_logits(&in.m, &s, z, 1) && !vit_backward_logits(&in.m, &s, z, 1), "%s", vit_error());
  CHECK_CLOSE("gradients", s.grads.block, g, s.grads.count, 1e-4, 1e-6);
  vit_state_free(&s);
  free(g);
  free(z);
  memset(in.seen, 1, sizeof in.seen);
  in_close();
}

static void test_method_errors(void) {
  float map[40], image[720], parts[12], *filters = numbers(12 * 60);
  double x = 0;
  vit_state s, infer, plain;
  vit_model none;
  vit_config c;
  vit_question q;
  in_open("inside_class", &vit_naive);
  CHECK(!vit_state_create(&s, &in.m, 2, VIT_FOR_TRAINING | VIT_KEEP_ATTENTION, 1) &&
            !vit_state_create(&infer, &in.m, 2, VIT_FOR_INFERENCE, 1) &&
            !vit_state_create(&plain, &in.m, 2, VIT_FOR_TRAINING, 1), "%s", vit_error());
#define SAYS(call, code, sentence) fails(call, code, sentence, "")
  SAYS(vit_backward_logits(&in.m, &s, map, 1), VIT_ERR_STATE,
       "there are no logits to go back from; call vit_forward first");
  SAYS(vit_logit_lens(&in.m, &s, 0, map), VIT_ERR_CONFIG,
       "there is no attention of layer 0, image 0, head 0: the last forward had 3 layers, 0 images and 3 heads");
  in_run(&s);
  CHECK(!vit_forward(&in.m, &s, in.images, 2) && !vit_forward(&in.m, &infer, in.images, 2) &&
            !vit_forward(&in.m, &plain, in.images, 2), "%s", vit_error());
  SAYS(vit_attention_relevance(&in.m, &s, 0, 0, map), VIT_ERR_STATE, /* of the forward before the last */
       "there was no backward as far as this layer after the last forward; call vit_backward or vit_backward_logits first, with freeze 0");
  in_run(&s);
  SAYS(vit_attention_rollout(&in.m, &s, 2, 0, map), VIT_ERR_CONFIG,
       "there is no attention of layer 0, image 2, head 0: the last forward had 3 layers, 2 images and 3 heads");
  SAYS(vit_attention_row(&in.m, &s, 3, 0, 0, 0, map), VIT_ERR_CONFIG,
       "there is no attention of layer 3, image 0, head 0: the last forward had 3 layers, 2 images and 3 heads");
  SAYS(vit_attention_row(&in.m, &s, 0, 0, -2, 0, map), VIT_ERR_CONFIG,
       "there is no attention of layer 0, image 0, head -2: the last forward had 3 layers, 2 images and 3 heads");
  SAYS(vit_attention_row(&in.m, &s, 0, 0, 0, 13, map), VIT_ERR_CONFIG,
       "there is no token 13: this model has tokens 0 to 12, and VIT_POOLED");
  SAYS(vit_attention_distance(&in.m, &s, 0, 3, &x), VIT_ERR_STATE,
       "there is no attention of layer 0, image 0, head 3: the last forward had 3 layers, 2 images and 3 heads");
  { /* a model that was freed */
    vit_model freed;
    memset(&freed, 0, sizeof freed);
    CHECK(vit_attention_distance(&freed, &s, 0, 0, &x) && vit_attention_rollout(&freed, &s, 0, 0, map) &&
              vit_patch_filters(&freed, filters, parts, 1) && vit_position_likeness(&freed, map) &&
              vit_logit_lens(&freed, &s, 0, map), "a model that is not there");
  }
  SAYS(vit_attention_rollout(&in.m, &infer, 0, 0, map), VIT_ERR_STATE,
       "this state keeps no attention; create it with VIT_FOR_TRAINING or VIT_KEEP_ATTENTION");
  SAYS(vit_attention_rollout(&in.m, &plain, 0, 0, map), VIT_ERR_STATE,
       "of the last block, layer 2, only the class token's attention was needed: see vit_class_attention, or "
       "create the state with VIT_KEEP_ATTENTION");
  SAYS(vit_logit_lens(&in.m, &infer, 0, map), VIT_ERR_STATE,
       "this state keeps no outputs of blocks; create it with VIT_FOR_TRAINING");
  SAYS(vit_backward_logits(&in.m, &infer, map, 1), VIT_ERR_STATE,
       "this state was created for inference; backward needs VIT_FOR_TRAINING");
  CHECK(!vit_attention_gradient(&in.m, &plain, 0, 0, 0), "a gradient that was not kept");
  SAYS(VIT_ERR_STATE, VIT_ERR_STATE, "this state keeps no gradient of the attention; create it with "
                                     "VIT_FOR_TRAINING and VIT_KEEP_ATTENTION");
  SAYS(vit_patch_filters(&in.m, filters, parts, 13), VIT_ERR_CONFIG,
       "13 filters were asked for; a projection of 60 pixels to 12 numbers has 1 to 12");
  CHECK(!vit_patch_filters(&in.m, filters, parts, 12) && fabs(sum_of(parts, 12) - 1) < 1e-4,
        "all parts are %g", sum_of(parts, 12));
  q.m = &in.m, q.s = &plain, q.image = in.images, q.baseline = in.baseline, q.k = 5;
  SAYS(vit_occlusion(&q, map), VIT_ERR_CONFIG, "there is no class 5: this model has classes 0 to 4");
  q.k = 0;
  SAYS(vit_integrated_gradients(&q, 32, map, &x), VIT_ERR_STATE,
       "this state has no gradient by the pixels; create it with VIT_FOR_TRAINING and VIT_INPUT_GRADIENT");
  SAYS(vit_integrated_gradients(&q, 0, map, &x), VIT_ERR_CONFIG,
       "integrated gradients in 0 steps; they must be from 1 to 1048576");
  for (int n = 0; n < in.N; n++) map[n] = n == 7 ? NAN : 0;
  SAYS(vit_deletion_curve(&q, map, 0, map + in.N, &x), VIT_ERR_DIVERGED,
       "the map to be judged is not a finite number at patch 7");
  memcpy(image, in.images, (size_t)in.pixels * sizeof *image);
  image[5] = NAN;
  q.image = image;
  CHECK(vit_occlusion(&q, map) == VIT_ERR_DIVERGED && strstr(vit_error(), "is not a finite number"), "%s",
        vit_error());
  c = in.c;
  c.positions = VIT_POSITIONS_NONE;
  CHECK(!vit_model_create(&none, &c, 1), "%s", vit_error());
  SAYS(vit_position_likeness(&none, map), VIT_ERR_STATE, "this model has no positions to compare");
  SAYS(vit_attention_rollout(&none, &s, 0, 0, map), VIT_ERR_STATE,
       "this state was made for another model; make one with vit_state_create");
  vit_model_free(&none);
  vit_state_free(&s);
  vit_state_free(&infer);
  vit_state_free(&plain);
  free(filters);
  memset(in.seen, 1, sizeof in.seen);
  in_close();
}

int main(void) {
  snprintf(folder, sizeof folder, "build/test_inside_%d", (int)getpid());
  if (vit_make_dir(path_of(""))) {
    printf("%s\n", vit_error());
    return 1;
  }
  RUN(test_class_token_is_pooled);
  RUN(test_patches_are_pooled);
  RUN(test_registers);
  RUN(test_laws_of_all_options);
  RUN(test_backward_from_loss_and_logits);
  RUN(test_method_errors);
  RUN(test_plot_errors);
  RUN(test_plots);
  RUN(test_plots_with_cdpath);
  RUN(test_plots_without_start_up_file);
  RUN(test_plot_history_shows);
  RUN(test_plot_histories);
  RUN(test_plot_confusion_scale);
  RUN(test_plot_tiles_scale);
  RUN(test_plot_of_many_classes);
  RUN(test_plots_without_gnuplot);
  RUN(test_plots_stopped);
  RUN(test_plot_of_nothing);
  remove_all();
  return test_end("inside");
}
