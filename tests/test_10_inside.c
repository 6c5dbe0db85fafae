/* Figures: a script beside its data, drawn by gnuplot; what they show, and what
   happens where there is no gnuplot, no folder or nothing to draw. */
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
            strstr(text, "top[1] = 84.444\n") && strstr(text, "'Learning rate'"),
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

int main(void) {
  snprintf(folder, sizeof folder, "build/test_inside_%d", (int)getpid());
  if (vit_make_dir(path_of(""))) {
    printf("%s\n", vit_error());
    return 1;
  }
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
