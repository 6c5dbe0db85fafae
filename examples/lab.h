/* What the programs that train for a while share (09 and 12): the settings, what
   is said before the start, progress, the live view, Ctrl-C, and the report on
   the test images. Everything here starts with lab_. Include it instead of
   common.h. */
#ifndef LAB_H
#define LAB_H

#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L /* popen */
#endif
#include "common.h"

#include <signal.h>
#ifdef _WIN32
#define popen _popen
#define pclose _pclose
#else
#include <sys/resource.h>
#endif

/* A recipe: everything that a training depends on, but the data. */
typedef struct {
  const char *preset;
  vit_config config;
  vit_fit_config fit;
  int held;                    /* training images held back to judge epochs */
  float warmup;                /* part of the run until the learning rate is reached */
  float rate;                  /* the preset's: --lr changes the floor of the schedule with it */
  int normalize;               /* 1: mean and std of the images become 0 and 1 */
  int limit;                   /* use only so many training images; 0: all */
  int seed, threads, live;
  int int8;                    /* 1: the report tests the model as int8, too */
  const int *stop;             /* not 0: all programs of a cluster stop; NULL: Ctrl-C alone */
  const char *model, *augment; /* lists from the flags, or NULL */
  const char *compare;         /* the first folder of --compare, or NULL */
  const char *init;            /* the file of the model to begin with, or NULL */
  int new_head;                /* 1: but with another head */
  vit_model from;              /* what is in it, */
  vit_dataset about;           /* and its normalisation and names */
  int argc;
  char **argv;
} lab;

/* ---- settings ------------------------------------------------------------ */

/* A recipe to start from. */
static lab lab_begin(const char *preset, int argc, char **argv) {
  lab l;
  memset(&l, 0, sizeof l);
  l.preset = preset;
  l.argc = argc;
  l.argv = argv;
  l.seed = 1;
  l.held = 5000;
  l.fit = vit_fit_defaults();
  return l;
}

/* The value of a flag that must be known before the others are read. */
static const char *lab_argument(int argc, char **argv, const char *flag,
                                const char *otherwise) {
  for (int i = 1; i + 1 < argc; i++)
    if (!strcmp(argv[i], flag)) otherwise = argv[i + 1];
  return otherwise;
}

enum { LAB_FLAGS = 22 };

/* The flags that all training programs have; their defaults are the preset's. */
static void lab_flags(lab *l, nb_flag flags[LAB_FLAGS]) {
  const nb_flag all[LAB_FLAGS] = {
      {"--epochs", "N", "passes over the training images", &l->fit.epochs, NULL, NULL},
      {"--batch", "N", "images per step", &l->fit.batch, NULL, NULL},
      {"--lr", "RATE", "highest learning rate", NULL, &l->fit.schedule.rate, NULL},
      {"--decay", "RATE", "weight decay", NULL, &l->fit.optimizer.weight_decay, NULL},
      {"--ema", "DECAY", "of the averaged weights; 0 = no average", NULL, &l->fit.ema, NULL},
      {"--smoothing", "PART", "label smoothing", NULL, &l->fit.smoothing, NULL},
      {"--held", "N", "training images held back to choose the best epoch", &l->held, NULL, NULL},
      {"--early-stop", "N", "end after N epochs without a better one; 0 = never",
       &l->fit.early_stop, NULL, NULL},
      {"--limit", "N", "use N training images only; 0 = all", &l->limit, NULL, NULL},
      {"--model", "LIST", "change the model, such as depth=4,width=40; a wrong name lists all", NULL, NULL,
       &l->model},
      {"--augment", "LIST", "change the augmentation, such as rotate=15; a wrong name lists all", NULL, NULL,
       &l->augment},
      {"--init", "FILE", "fine-tuning: begin with the model in FILE; a head for other classes is new", NULL,
       NULL, &l->init},
      {"--new-head", "", "with --init: other classes, though as many as FILE has", &l->new_head, NULL, NULL},
      {"--freeze", "N", "with --init: 1 = the patches' layer does not learn, 2 = nor block 0, ...",
       &l->fit.optimizer.freeze, NULL, NULL},
      {"--layer-decay", "RATE", "each block learns at RATE times the rate of the next; 0 = all alike", NULL,
       &l->fit.optimizer.layer_decay, NULL},
      {"--probe", "", "with --init: the head alone learns, from features made once", &l->fit.probe, NULL, NULL},
      {"--seed", "N", "of all random numbers", &l->seed, NULL, NULL},
      {"--threads", "N", "0 = all cores", &l->threads, NULL, NULL},
      {"--resume", "", "go on with the run in --out", &l->fit.resume, NULL, NULL},
      {"--live", "", "show curves and attention while it trains", &l->live, NULL, NULL},
      {"--int8", "", "test the model quantized to int8, too; with --resume a finished run", &l->int8,
       NULL, NULL},
      {"--compare", "DIR...", "no training: finished runs, by their folders, in one figure", NULL, NULL,
       &l->compare}};
  memcpy(flags, all, sizeof all);
  l->rate = l->fit.schedule.rate;
}

/* A field of the augmentation. */
static void lab_set_augment(void *augment, const char *name, const char *value) {
  vit_augment *a = (vit_augment *)augment;
  const char *field, *text;
  char message[1200], *end;
  float *number;
  for (int i = 0; vit_augment_field(a, i, &field, &text, &number); i++) {
    if (strcmp(field, name)) continue;
    *number = strtof(value, &end);
    if (!*end) return;
    snprintf(message, sizeof message, "--augment: %.60s needs a number, not \"%.60s\"", name, value);
    nb_stop(message);
  }
  snprintf(message, sizeof message, "--augment: there is no %.60s; it may hold", name);
  for (int i = 0; vit_augment_field(a, i, &field, &text, &number); i++)
    snprintf(message + strlen(message), sizeof message - strlen(message), "%s %s", i ? "," : "",
             field);
  nb_stop(message);
}

/* After nb_start: the model to begin with decides on everything but its head. */
static void lab_open_init(lab *l) {
  if (!l->init && (l->new_head || l->fit.probe || l->fit.optimizer.freeze))
    nb_stop("--new-head, --freeze and --probe need a model that has learned something: name its file by --init");
  if (!l->init) return;
  nb_try(vit_pretrained_open(&l->from, l->init, NULL, &l->about, NULL));
  if (l->from.quantized)
    nb_stop("the model of --init is quantized, for good, and cannot learn: take the one that it was made from");
  l->config = l->from.config;
  if (l->fit.probe && !l->augment) memset(&l->fit.augment, 0, sizeof l->fit.augment);
}

/* Once there are images: their classes decide on the head, the file on their mean and
   std. */
static void lab_take_over(lab *l, vit_dataset *train) {
  if (!l->init) return;
  l->config.classes = train->classes;
  memcpy(train->mean, l->about.mean, sizeof train->mean);
  memcpy(train->std, l->about.std, sizeof train->std);
}

/* The weights of that model, before the first step. */
static void lab_begin_with(const lab *l, vit_model *m, const vit_dataset *train) {
  const int old = l->from.config.classes, classes = m->config.classes;
  const int new_head = l->new_head || old != classes;
  char text[1000];
  int k = 0;
  if (!l->init) return;
  nb_inherit(m, &l->from, new_head);
  nb_cell("The model to begin with");
  snprintf(text, sizeof text, "%.600s; its head for %d classes is %s", l->init, old,
           !new_head        ? "kept"
           : old != classes ? "replaced by a new one"
                            : "replaced by a new one, as --new-head says");
  nb_row("weights", text);
  nb_row("images", "are normalised as those that it learned from");
  while (!new_head && k < classes && !strcmp(vit_class_name(&l->about, k), vit_class_name(train, k))) k++;
  if (new_head || k == classes) return;
  snprintf(text, sizeof text, "its class %d was called %s, and is now %s: if these are others, use --new-head", k,
           vit_class_name(&l->about, k), vit_class_name(train, k));
  nb_row("note", text);
}

/* After that: the lists, and what can be refused before the data is read. */
static void lab_settle(lab *l) {
  nb_list("--model", l->model, &l->config, nb_set_config);
  nb_list("--augment", l->augment, &l->fit.augment, lab_set_augment);
  nb_try(vit_config_resolve(&l->config));
  if (l->threads < 0 || l->threads > 1024) nb_stop("--threads must be from 0 (all) to 1024");
  if (l->held < 0) nb_stop("--held must be at least 0");
  if (l->limit < 0) nb_stop("--limit must be at least 0");
  if (l->fit.early_stop > 0 && !l->held)
    nb_stop("--early-stop needs held-back images that judge the epochs: --held must be above 0");
  if (l->fit.schedule.rate >= 0) l->fit.schedule.floor *= l->fit.schedule.rate / l->rate;
  l->fit.seed = (uint64_t)(unsigned)l->seed;
  l->fit.dir = nb_out;
  nb_try(vit_fit_check(&l->fit));
}

/* ---- comparing ------------------------------------------------------------ */

/* What is called what: the last part of each folder's name, or the whole, where two
   have the same last part. */
static void lab_name_runs(const char **names, char **folders, int n) {
  int same = 0;
  for (int i = 0; i < n; i++) {
    char *end = folders[i] + strlen(folders[i]);
    while (end > folders[i] + 1 && end[-1] == '/') *--end = '\0';
    names[i] = strrchr(folders[i], '/');
    names[i] = names[i] && names[i][1] ? names[i] + 1 : folders[i];
    for (int j = 0; j < i; j++) same |= !strcmp(names[i], names[j]);
  }
  for (int i = 0; same && i < n; i++) names[i] = folders[i];
}

/* The end of a long name says more than its beginning. */
static void lab_print_run(const char *name, const vit_history *h) {
  const int n = (int)strlen(name), cut = n > 28;
  const vit_epoch *e = h->epoch + (h->best ? h->best : h->epochs) - 1;
  char time[20];
  printf("  %s%-*s %6d ", cut ? ".." : "", cut ? 26 : 28, name + (cut ? n - 26 : 0), h->epochs);
  if (h->best) printf("%5d %15.4f %8.2f %%", h->best, e->val_loss, 100 * e->val_accuracy);
  else printf("%5s %15s %10s", "-", "-", "-");
  printf(" %8s\n", nb_time(time, h->epoch[h->epochs - 1].seconds));
}

/* Several finished runs, by their history.csv, in one figure and a table. */
NB_UNUSED static void lab_compare(const lab *l) {
  enum { MOST = 12 };
  static const char end[] = "/history.csv";
  char **folders;
  const int n = nb_values(l->argc, l->argv, "--compare", &folders);
  const char *names[MOST];
  const vit_history *runs[MOST];
  vit_history h[MOST];
  if (l->int8) nb_stop("--int8 tests a model and --compare tests none: leave one of them out");
  if (n > MOST) nb_stop("--compare takes at most 12 folders: more cannot be told apart in a figure");
  lab_name_runs(names, folders, n);
  nb_cell("Finished runs side by side: which is the best, and after how many epochs?");
  for (int i = 0; i < n; i++) {
    char path[600];
    if (strlen(folders[i]) + sizeof end > sizeof path)
      nb_stop("the name of a folder of --compare has more than 580 characters");
    snprintf(path, sizeof path, "%s%s", folders[i], end);
    nb_try(vit_history_read(h + i, path));
    if (!h[i].epochs) {
      char message[700];
      snprintf(message, sizeof message, "%s holds no finished epoch", path);
      nb_stop(message);
    }
    runs[i] = h + i;
  }
  printf("  %s%-28s %6s %5s %15s %10s %8s%s\n", nb_dim(), "run", "epochs", "best", "held back: loss",
         "accuracy", "took", nb_plain());
  for (int i = 0; i < n; i++) lab_print_run(names[i], h + i);
  nb_figure(vit_plot_histories(nb_out, "compare", runs, names, n, "held-back images"), "compare");
  nb_say("Runs on other held-back images, such as with another --held or --seed, have other "
         "judges: differences of a few tenths of a percent may be the judges'.");
  for (int i = 0; i < n; i++) vit_history_free(h + i);
}

/* Hold some training images back: they judge the epochs, so that the test images
   are looked at once, at the end. At most a fifth. */
static const vit_dataset *lab_hold_back(lab *l, vit_dataset *train, vit_dataset *held) {
  if (l->limit && l->limit < train->count) { /* some of every class */
    vit_dataset part;
    nb_try(vit_dataset_split(train, l->limit, l->fit.seed, &part));
    vit_dataset_free(train);
    *train = part;
  }
  if (l->held > train->count / 5) {
    printf("  note         %d images are held back instead of %d: a fifth of %d\n", train->count / 5,
           l->held, train->count);
    l->held = train->count / 5;
  }
  if (l->config.classes != train->classes) {
    char message[100];
    snprintf(message, sizeof message, "the model has %d classes, the images have %d",
             l->config.classes, train->classes);
    nb_stop(message);
  }
  l->fit.keep_best = l->held > 0;
  if (l->held == 0) return NULL;
  nb_try(vit_dataset_split(train, l->held, l->fit.seed, held));
  return held;
}

/* ---- before the start ---------------------------------------------------- */

static void lab_print_augmentation(const vit_augment *augment) {
  vit_augment a = *augment;
  const char *name, *meaning;
  char text[1000] = "";
  float *value;
  for (int i = 0; vit_augment_field(&a, i, &name, &meaning, &value); i++) {
    size_t n = strlen(text);
    if (*value > 0) snprintf(text + n, sizeof text - n, "%s%s %g", n ? ", " : "", name, (double)*value);
  }
  nb_row("augmentation", *text ? text : "none");
}

static void lab_print_recipe(const lab *l) {
  static const char *const algorithms[] = {"SGD", "Adam", "AdamW"};
  static const char *const schedules[] = {"constant", "falling in a line", "falling as a cosine",
                                          "falling in steps", "lowered on a plateau"};
  const vit_fit_config *f = &l->fit;
  char text[500], warmup[50] = "", lowest[50] = "", clip[50] = "", smoothing[50] = "", ema[60] = "", decay[50] = "";
  if (l->warmup > 0)
    snprintf(warmup, sizeof warmup, " after a warm-up of %g %% of the steps", 100 * (double)l->warmup);
  if (f->schedule.floor > 0) snprintf(lowest, sizeof lowest, " to %g", (double)f->schedule.floor);
  if (f->optimizer.clip_norm > 0)
    snprintf(clip, sizeof clip, ", gradient norm at most %g", (double)f->optimizer.clip_norm);
  if (f->optimizer.layer_decay > 0)
    snprintf(decay, sizeof decay, ", layer decay %g", (double)f->optimizer.layer_decay);
  if (f->smoothing > 0) snprintf(smoothing, sizeof smoothing, ", label smoothing %g", (double)f->smoothing);
  if (f->ema > 0) snprintf(ema, sizeof ema, ", weights averaged with decay %g", (double)f->ema);
  snprintf(text, sizeof text, "%d epoch%s, batch %d, %s, rate %g %s%s%s, weight decay %g%s%s%s%s", f->epochs,
           f->epochs == 1 ? "" : "s", f->batch, algorithms[f->optimizer.algorithm],
           (double)f->schedule.rate, schedules[f->schedule.kind], lowest, warmup,
           (double)f->optimizer.weight_decay, decay, clip, smoothing, ema);
  nb_row("recipe", text);
  if (f->probe) nb_row("it learns", "the head alone: a linear probe, of features that are made once");
  else if (f->optimizer.freeze) {
    snprintf(text, sizeof text, "all but the patches' layer and the first %d block%s", f->optimizer.freeze - 1,
             f->optimizer.freeze == 2 ? "" : "s");
    nb_row("it learns", f->optimizer.freeze > l->config.depth ? "the head alone" : text);
  }
  lab_print_augmentation(&f->augment);
  printf("  seed         %d\n", l->seed);
}

/* Everything that a run will use, before it is used. */
static void lab_print_plan(const lab *l, const vit_model *m, const vit_dataset *train,
                           const vit_dataset *held, const vit_dataset *test) {
  const vit_config *c = &m->config;
  const double MB = 1e6;
  static const char *const sets[] = {"", " twice", " three times"};
  const int copies = (l->fit.ema > 0) + (held != NULL); /* averaged, best */
  char text[1000];
  double data;
  vit_memory need;
  nb_cell("What will run");
  nb_try(vit_memory_plan(c, l->fit.batch, &need));
  snprintf(text, sizeof text, "%d to learn from (%d steps per epoch), %d held back%s, %d for the test",
           train->count, (train->count + l->fit.batch - 1) / l->fit.batch, held ? held->count : 0,
           held ? " to choose the best epoch" : "", test->count);
  nb_row("images", text);
  snprintf(text, sizeof text,
           "%d x %d x %d, patches of %d x %d, width %d, %d blocks of %d heads, MLP %d", c->image_height,
           c->image_width, c->channels, c->patch_height, c->patch_width, c->width, c->depth, c->heads,
           c->mlp_width);
  nb_row("model", text);
  printf("  parameters   %.0f\n", (double)m->params.count);
  lab_print_recipe(l);
  data = ((double)train->count + (held ? held->count : 0) + test->count) * c->channels *
         c->image_height * c->image_width;
  snprintf(text, sizeof text,
           "images %.1f MB as bytes, activations of a batch %.1f MB, parameters%s, gradients and moments "
           "%.1f MB",
           data / MB, (double)need.training / MB, sets[copies],
           ((double)(need.gradients + need.moments) + (1 + copies) * (double)need.parameters) / MB);
  nb_row("memory", text);
  printf("  kernels      %s%s%s\n", m->kernels->name, m->kernels == &vit_naive ? "" : ", ",
         m->kernels == &vit_naive ? "" : vit_simd_name());
  printf("  threads      %d\n", vit_model_threads(m));
  snprintf(text, sizeof text, "after each epoch in %.600s: last.safetensors, history.csv%s", nb_out,
           held ? ", and best.safetensors where a * marks the best so far" : "");
  nb_row("written", text);
}

/* ---- while it trains ----------------------------------------------------- */

static volatile sig_atomic_t lab_interrupted = 0;

/* The first Ctrl-C asks the run to stop; the second one ends the program. */
static void lab_on_signal(int number) {
  (void)number;
  lab_interrupted = 1;
}

static void lab_listen(int number) {
#ifdef _WIN32
  signal(number, lab_on_signal);
#else
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = lab_on_signal;
  action.sa_flags = (int)(SA_RESTART | SA_RESETHAND);
  sigaction(number, &action, NULL);
#endif
}

/* The live view: a few images and what it is drawn with. */
typedef struct {
  enum { LAB_NOT, LAB_WINDOW, LAB_TEXT } where;
  FILE *gnuplot;          /* an open window */
  int order[4], count;
  int lines; /* of the terminal that the last picture fills */
  vit_state s;
  float *images, *pixels, *glow; /* as the model takes them; 0..1; attention */
} lab_view;

/* Everything that the callback needs. */
typedef struct {
  lab_view view;
  double drawn, line; /* seconds: last live picture, last progress line */
  const int *stop;
  int resumed, begun, judged;
  char before[600]; /* where the run went that was in --out, or "" */
} lab_watch;

/* How bright pixel i of planes [C,plane] is (ITU-R BT.601): the glow is seen best on
   a grey picture. */
static float lab_grey(const float *image, int channels, int plane, int i) {
  if (channels == 1) return image[i];
  return 0.299f * image[i] + 0.587f * image[plane + i] + 0.114f * image[2 * plane + i];
}

/* A colour, 0..1, under the glow of a weight: weight 1 lets a quarter of it through. */
static void lab_glow(const double color[3], double weight, int rgb[3]) {
  static const double orange[3] = {255, 170, 0};
  const double w = 0.75 * fmin(fmax(weight, 0), 1);
  for (int c = 0; c < 3; c++) rgb[c] = (int)(0.5 + 255 * color[c] * (1 - w) + w * orange[c]);
}

/* Red, green and blue of a pixel, 0..255: grey with a glow of orange. */
static void lab_pixel(const lab_view *v, const vit_config *c, int image, int y, int x, int rgb[3]) {
  const int plane = c->image_height * c->image_width;
  const double grey = (double)lab_grey(v->pixels + image * c->channels * plane, c->channels, plane,
                                       y * c->image_width + x);
  const double color[3] = {grey, grey, grey};
  const int N = vit_config_patches(c), across = c->image_width / c->patch_width;
  const int patch = y / c->patch_height * across + x / c->patch_width;
  lab_glow(color, (double)v->glow[image * N + patch], rgb);
}

/* Lines of the terminal for the losses; gnuplot begins with a form feed, which
   moves down one of them. */
enum { LAB_LOSSES = 16 };

/* Lines and columns of the terminal. */
static void lab_terminal(int *rows, int *columns) {
  FILE *f = nb_terminal() ? popen("(stty size </dev/tty) 2>/dev/null", "r") : NULL;
  if (!f || fscanf(f, "%d %d", rows, columns) != 2 || *rows < 1 || *columns < 1) {
    *rows = 24;
    *columns = 80;
  }
  if (f) pclose(f);
}

static void lab_view_begin(lab_view *v, const vit_model *m, const vit_dataset *data) {
  const vit_config *c = &m->config;
  const int display = getenv("DISPLAY") || getenv("WAYLAND_DISPLAY");
  int rows, columns;
#ifdef SIGPIPE
  signal(SIGPIPE, SIG_IGN); /* a closed window does not end the training */
#endif
  if (display &&
      !system("gnuplot -d -e 'set terminal' 2>&1 </dev/null | grep -qE '^ *(qt|wxt|x11|aqua) '"))
    v->gnuplot = popen("gnuplot -d -persist >/dev/null 2>&1", "w");
  v->where = v->gnuplot ? LAB_WINDOW : nb_terminal() ? LAB_TEXT : LAB_NOT;
  if (v->where == LAB_NOT)
    printf("  live         no display and no terminal: look at %s/history.csv instead\n", nb_out);
  if (v->where == LAB_NOT) return;
  lab_terminal(&rows, &columns);
  v->count = v->where == LAB_WINDOW ? 4 : (columns - 2) / (c->image_width + 2);
  if (v->count > 4) v->count = 4;
  v->count = nb_one_of_each(v->order, data, v->count);
  if (v->count < 1) {
    printf("  live         the terminal is too narrow for an image: look at %s/history.csv instead\n",
           nb_out);
    v->where = LAB_NOT;
    return;
  }
  if (v->where == LAB_TEXT && rows <= 2 + c->image_height / 2 + LAB_LOSSES)
    printf("  live         the terminal has %d lines; the images want more than %d, with the losses %d\n",
           rows, 2 + c->image_height / 2, 2 + c->image_height / 2 + LAB_LOSSES);
  nb_try(vit_state_create(&v->s, m, v->count, VIT_KEEP_ATTENTION, 0));
  v->images = nb_floats(v->count * c->channels * c->image_height * c->image_width);
  v->glow = nb_floats(v->count * vit_config_patches(c));
  v->pixels = nb_pixels(data, v->order, v->count);
  vit_dataset_batch(data, v->order, v->count, v->images, NULL);
}

static void lab_view_end(lab_view *v) {
  if (v->gnuplot) pclose(v->gnuplot);
  if (v->where == LAB_NOT) return;
  vit_state_free(&v->s);
  free(v->images);
  free(v->pixels);
  free(v->glow);
}

/* The nearest of a terminal's 216 colours, which are not equally spaced. */
static int lab_color(const int rgb[3]) {
  static const int level[] = {0, 95, 135, 175, 215, 255};
  int code = 0;
  for (int k = 0; k < 3; k++) {
    int n = 0;
    while (n < 5 && 2 * rgb[k] > level[n] + level[n + 1]) n++;
    code = 6 * code + n;
  }
  return 16 + code;
}

/* Colour of the character (38) or behind it (48); all colours where the terminal says
   that it has them. */
static void lab_print_color(int where, const int rgb[3]) {
  const char *depth = getenv("COLORTERM");
  if (depth && (!strcmp(depth, "truecolor") || !strcmp(depth, "24bit")))
    printf("\033[%d;2;%d;%d;%dm", where, rgb[0], rgb[1], rgb[2]);
  else
    printf("\033[%d;5;%dm", where, lab_color(rgb));
}

/* The images as half blocks: two pixels in each character. */
static void lab_print_images(const lab_view *v, const vit_config *c) {
  for (int y = 0; y + 1 < c->image_height; y += 2) {
    printf("  ");
    for (int i = 0; i < v->count; i++) {
      for (int x = 0; x < c->image_width; x++) {
        for (int half = 0; half < 2; half++) {
          int rgb[3];
          lab_pixel(v, c, i, y + half, x, rgb);
          lab_print_color(half ? 48 : 38, rgb);
        }
        printf("\xE2\x96\x80");
      }
      printf("\033[0m  ");
    }
    printf("\n");
  }
}

/* Were there held-back images? Else the losses on them are NAN. */
static int lab_judged(const vit_history *h) { return h->epoch[0].val_loss >= 0; }

/* Columns of the history for gnuplot: epoch, training loss, held-back loss,
   accuracy in %. */
static void lab_send_history(FILE *f, const vit_history *h) {
  fprintf(f, "$history << END\n");
  for (int i = 0; i < h->epochs; i++)
    fprintf(f, "%d %g %g %g\n", i + 1, h->epoch[i].train_loss, h->epoch[i].val_loss,
            100 * h->epoch[i].val_accuracy);
  fprintf(f, "END\n");
}

/* The picture in the terminal is wiped away; what stood above it stays. */
static void lab_erase(lab_view *v) {
  if (v->lines) printf("\r\033[%dA\033[J", v->lines);
  v->lines = 0;
}

/* The losses in characters. Returns the lines that they took: none without gnuplot. */
static int lab_draw_losses(const vit_history *h) {
  FILE *f = popen("gnuplot -d 2>/dev/null", "w");
  if (!f) return 0;
  fprintf(f, "set terminal dumb size 78,%d\nset xlabel 'epoch'\nset key outside\n"
             "set title 'loss' offset 0,-1\nset xrange [0.5:%d.5]\nset xtics 1,%d\n"
             "set offsets 0,0,graph 0.1,graph 0.1\n",
          LAB_LOSSES - 1, h->epochs < 2 ? 2 : h->epochs, 1 + h->epochs / 10);
  lab_send_history(f, h);
  fprintf(f, "plot $history using 1:2 with points pt 't' title 'training'");
  if (lab_judged(h)) fprintf(f, ", '' using 1:3 with points pt 'h' title 'held back'");
  fprintf(f, "\n");
  return pclose(f) ? 0 : LAB_LOSSES;
}

/* The picture under the table, as much of it as the terminal has room for: else it
   could not be wiped away again. */
static void lab_draw_text(lab_view *v, const vit_config *c, const vit_history *h) {
  const int images = 2 + c->image_height / 2;
  int rows, columns;
  lab_terminal(&rows, &columns);
  if (images >= rows || columns < 2 + v->count * (c->image_width + 2)) return;
  fflush(stdout);
  if (h->epochs && images + LAB_LOSSES < rows && columns > 78) v->lines = lab_draw_losses(h);
  printf("  What it looks at in the last block (orange)\n\n");
  lab_print_images(v, c);
  v->lines += images;
}

static void lab_draw_window(lab_view *v, const vit_config *c, const vit_history *h) {
  FILE *f = v->gnuplot;
  if (h->epochs) lab_send_history(f, h);
  fprintf(f, "$images << END\n");
  for (int y = 0; y < c->image_height; y++)
    for (int i = 0; i < v->count; i++)
      for (int x = 0; x < c->image_width; x++) {
        int rgb[3];
        lab_pixel(v, c, i, y, x, rgb);
        fprintf(f, "%d %d %d %d %d\n", i * c->image_width + x, y, rgb[0], rgb[1], rgb[2]);
      }
  fprintf(f, "END\nset multiplot\n");
  if (h->epochs)
    fprintf(f, "set xlabel 'epoch'\nset xrange [0.5:%d.5]\nset grid\nset offsets 0,0,graph 0.1,graph 0.1\n"
               "set size 0.5,0.55\nset origin 0,0.45\nset ylabel 'loss'\n"
               "plot $history using 1:2 with linespoints title 'training'%s",
            h->epochs < 2 ? 2 : h->epochs,
            lab_judged(h) ? ", '' using 1:3 with linespoints title 'held back'\n"
                            "set origin 0.5,0.45\nset ylabel 'right answers (%)'\nset key bottom right\n"
                            "plot $history using 1:4 with linespoints title 'held back'\n"
                          : "\n");
  fprintf(f, "unset grid\nset offsets\nset title 'What it looks at in the last block (orange)'\n"
             "unset xlabel\nunset ylabel\nunset tics\nset origin 0,0\nset size ratio -1 1,0.45\n"
             "set xrange [-0.5:%d.5]\nset yrange [%d.5:-0.5]\n"
             "plot $images using 1:2:3:4:5 with rgbimage notitle\nunset multiplot\nreset\n",
          v->count * c->image_width - 1, c->image_height - 1);
  fflush(f);
}

static void lab_draw(lab_view *v, const vit_progress *p) {
  const int N = vit_config_patches(&p->model->config);
  if (v->where == LAB_NOT || vit_forward(p->model, &v->s, v->images, v->count)) return;
  for (int i = 0; i < v->count; i++) { /* the patch that is looked at most is all orange */
    float *glow = v->glow + i * N, most = 0;
    nb_look(glow, p->model, &v->s, i, -1);
    for (int j = 0; j < N; j++) most = glow[j] > most ? glow[j] : most;
    for (int j = 0; j < N; j++) glow[j] /= most > 0 ? most : 1;
  }
  if (v->where == LAB_TEXT)
    lab_draw_text(v, &p->model->config, p->history);
  else
    lab_draw_window(v, &p->model->config, p->history);
}

/* The files of a run; from the last one it goes on, so that one is moved last. */
static const char *const lab_files[] = {"best.safetensors", "model.safetensors", "int8.safetensors",
                                        "history.csv", "last.safetensors"};
enum { LAB_FILES = (int)(sizeof lab_files / sizeof *lab_files) };

static int lab_is_there(const char *name) {
  char path[700];
  struct stat info;
  snprintf(path, sizeof path, "%.500s/%s", nb_out, name);
  return !stat(path, &info);
}

/* A run that begins anew does not destroy the one before: it moves to a folder of
   its own. That is done after the first step: a flag that is refused moves nothing. */
static void lab_put_aside(char folder[600]) {
  char name[20], from[700], to[700];
  int any = 0, n = 1;
  for (int i = 0; i < LAB_FILES; i++) any |= lab_is_there(lab_files[i]);
  if (!any) return;
  do snprintf(name, sizeof name, "before-%d", n++);
  while (lab_is_there(name));
  snprintf(folder, 600, "%.500s/%s", nb_out, name);
  nb_try(vit_make_dir(folder));
  for (int i = 0; i < LAB_FILES; i++) {
    if (!lab_is_there(lab_files[i])) continue;
    snprintf(from, sizeof from, "%.500s/%s", nb_out, lab_files[i]);
    snprintf(to, sizeof to, "%.600s/%s", folder, lab_files[i]);
    if (rename(from, to))
      nb_stop("cannot move the files of the run that is in --out; is one open elsewhere? Name another --out");
  }
}

/* Where a resumed run stands, and whether other kernels computed it so far. */
static void lab_say_start(const vit_progress *p) {
  printf("  it stands at epoch %d, step %d of %d\n", p->epoch, p->step, p->steps);
  if (strchr(p->history->kernels, ','))
    nb_say("Its kernels: %s. So its numbers differ in their last digits from those of a run that was "
           "never stopped.", p->history->kernels);
}

static int lab_callback(const vit_progress *p, void *user) {
  lab_watch *w = (lab_watch *)user;
  const int draw = p->epoch_done || p->seconds - w->drawn > 10 || !w->begun;
  if (!w->begun && !w->resumed) lab_put_aside(w->before);
  if (!w->begun && w->resumed)
    lab_say_start(p);
  if (!w->begun++) nb_epoch_head(w->judged ? "held back: loss" : NULL);
  if (draw) lab_erase(&w->view);
  if (p->epoch_done) nb_epoch(p, p->history->best == p->epoch ? '*' : ' ');
  if (draw) lab_draw(&w->view, p);
  if (draw) w->drawn = p->seconds;
  if (!p->epoch_done) nb_step(p, &w->line);
  return w->stop ? *w->stop : lab_interrupted;
}

/* A word for a shell, in quotes; those inside are made safe. */
static void lab_shell_quote(char *to, size_t size, const char *word) {
  size_t n = 0;
  to[n++] = '\'';
  for (; *word && n + 6 < size; word++) {
    const char *as = *word == '\'' ? "'\\''" : NULL;
    if (as) memcpy(to + n, as, 4), n += 4;
    else to[n++] = *word;
  }
  to[n++] = '\'';
  to[n] = '\0';
}

/* The command that this program was started with, and --resume. */
static void lab_say_resume(const lab *l) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%"
#ifdef _WIN32
      "\\"
#endif
      ;
  char text[1010];
  int there = 0, column = 13;
  printf("  go on with:");
  for (int i = 0; i <= l->argc; i++) {
    const char *word = i < l->argc ? l->argv[i] : "--resume";
    if (!strcmp(word, "--resume") && there++) continue;
    snprintf(text, sizeof text, "%.1000s", word);
    if (word[strspn(word, plain)]) lab_shell_quote(text, sizeof text, word);
#ifndef _WIN32
    if (column + (int)strlen(text) > 76) column = printf(" \\\n             ") - 3; /* for the shell */
#endif
    column += printf(" %s", text);
  }
  printf("\n");
}

/* Without held-back images there is no best epoch: the end of the run is the model. */
static void lab_save_end(const lab *l, const vit_model *m, const vit_dataset *train) {
  char path[600];
  snprintf(path, sizeof path, "%.500s/model.safetensors", nb_out);
  nb_try(vit_model_save(m, train, path));
  printf("  %s of the last epoch are tested now, and kept in %s\n",
         l->fit.ema > 0 ? "the averaged weights" : "the weights", path);
}

static void lab_train(lab *l, vit_model *m, const vit_dataset *train, const vit_dataset *held,
                      vit_history *h) {
  lab_watch watch;
  vit_result r;
  nb_cell("Training");
  memset(&watch, 0, sizeof watch);
  watch.judged = held != NULL;
  watch.stop = l->stop;
  watch.resumed = l->fit.resume && lab_is_there("last.safetensors");
  if (l->fit.resume)
    printf(watch.resumed ? "  going on with the run in %s\n"
                         : "  there is no run in %s to go on with: a new one begins\n", nb_out);
  if (l->live) lab_view_begin(&watch.view, m, held ? held : train);
  lab_listen(SIGINT);
  lab_listen(SIGTERM);
  l->fit.schedule.warmup = (int)fmin((double)l->warmup * l->fit.epochs * train->count / l->fit.batch, 1e9);
  l->fit.callback = lab_callback;
  l->fit.user = &watch;
  r = vit_fit(m, &l->fit, train, held, h);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  lab_view_end(&watch.view);
  if (r && nb_terminal()) printf("\n");
  if (*watch.before) printf("  the run that was in %s is kept in %s\n", nb_out, watch.before);
  if (r == VIT_STOPPED) {
    printf("  %s; everything is saved in %s\n", vit_error(), nb_out);
    lab_say_resume(l);
    exit(130);
  }
  if (r == VIT_ERR_DIVERGED && h->best) {
    char message[1200];
    snprintf(message, sizeof message, "%.500s; %.500s/best.safetensors holds the best epoch before that",
             vit_error(), nb_out);
    nb_stop(message);
  }
  nb_try(r);
  if (!watch.begun) printf("  that run is finished: it is only tested again\n");
  if (h->best) printf("  the best epoch was %d of %d: its weights are tested now\n", h->best, h->epochs);
  if (!held) lab_save_end(l, m, train);
  nb_figure(vit_plot_history(nb_out, "curves", h, "held-back images", &m->config), "curves");
  if (held)
    nb_say("The held-back loss may be lower than the training's: it is measured at the end of an epoch on "
           "images as they are; the training's is a mean over the epoch, with its augmentation if there is any.");
}

/* ---- after the training -------------------------------------------------- */

/* What each class was taken for, and how well each class is known. */
static void lab_show_classes(const vit_dataset *test, const int *guess) {
  const int K = test->classes; /* the model's as well: lab_hold_back saw to that */
  int *counts = (int *)calloc((size_t)(K * K), sizeof *counts), worst = 1;
  double f1 = 0;
  if (!counts) nb_stop("out of memory for the confusion matrix");
  nb_cell("How well is each class known, and which is taken for which?");
  vit_confusion(counts, guess, test->labels, test->count, K);
  printf("  %s%-16s %7s %10s %8s %6s%s\n", nb_dim(), "class", "images", "precision", "recall", "F1",
         nb_plain());
  for (int k = 0; k < K; k++) {
    vit_class_score s = vit_score_class(counts, K, k);
    const char *name = vit_class_name(test, k);
    int column = 16; /* and a byte more for each that continues a letter of UTF-8 */
    for (const char *c = name; *c; c++) column += (*c & 0xC0) == 0x80;
    printf("  %-*s %7d %9.2f%% %7.2f%% %6.3f\n", column, name, s.count, 100 * s.precision,
           100 * s.recall, s.f1);
    f1 += s.f1 / K;
    for (int j = 0; j < K; j++)
      if (j != k && counts[k * K + j] > counts[worst]) worst = k * K + j;
  }
  printf("  %-16s %7d %26.3f\n", "mean", test->count, f1);
  if (counts[worst])
    printf("  most frequent mistake: %s taken for %s, %d times\n", vit_class_name(test, worst / K),
           vit_class_name(test, worst % K), counts[worst]);
  nb_figure(vit_plot_confusion(nb_out, "confusion", counts, K, test), "confusion");
  free(counts);
}

/* Images of the first classes, plain and with what the last block looks at. */
static void lab_show_attention(const vit_model *m, const vit_dataset *test) {
  enum { MOST = 10 };
  static char text[2 * MOST][120];
  const char *titles[2 * MOST];
  const vit_config *c = &m->config;
  int order[2 * MOST], guess[MOST];
  const int N = vit_config_patches(c), n = nb_one_of_each(order, test, MOST);
  const int size = c->channels * c->image_height * c->image_width, plane = size / c->channels;
  float *images, *weights = nb_floats(2 * n * N), *batch = nb_floats(n * size);
  float *p = nb_floats(n * c->classes);
  char title[300], name[VIT_NAME_SIZE + 3], percent[20];
  vit_state s;
  nb_cell("What does it look at? Attention in the last block, mean over the heads");
  vit_dataset_batch(test, order, n, batch, NULL);
  nb_try(vit_state_create(&s, m, n, VIT_KEEP_ATTENTION, 0));
  nb_try(vit_predict(m, &s, batch, n, guess, p));
  for (int k = 0; k < n; k++) {
    order[n + k] = order[k];
    titles[k] = nb_class(text[k], test, test->labels[order[k]], 14);
    snprintf(text[n + k], sizeof text[n + k], "%s\n%s", nb_class(name, test, guess[k], 14),
             nb_percent(percent, p[k * c->classes + guess[k]]));
    titles[n + k] = text[n + k];
    nb_look(weights + (n + k) * N, m, &s, k, -1);
  }
  images = nb_pixels(test, order, 2 * n);
  for (int k = n; k < 2 * n && c->channels == 3; k++)
    for (int i = 0; i < plane; i++) { /* the glow is seen best on grey */
      float *image = images + k * size;
      image[i] = image[plane + i] = image[2 * plane + i] = lab_grey(image, 3, plane, i);
    }
  snprintf(title, sizeof title,
           "Where %s looks in block %d of %d, mean of %d heads.\n"
           "Above: the true class. Below: what the model said",
           nb_query(c), c->depth, c->depth, c->heads);
  nb_figure(vit_plot_tiles(nb_out, "attention", title, images, weights, c->image_height / c->patch_height,
                           c->image_width / c->patch_width, titles, 2, n, c->channels,
                           c->image_height, c->image_width, 0, 1),
            "attention");
  vit_state_free(&s);
  free(images);
  free(weights);
  free(batch);
  free(p);
}

/* Largest memory of this program so far, in MB; 0 where it is not known. */
static double lab_peak_memory(void) {
#if defined(_WIN32)
  return 0;
#else
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
#ifdef __APPLE__
  return (double)u.ru_maxrss / 1e6;
#else
  return (double)u.ru_maxrss * 1024 / 1e6;
#endif
#endif
}

/* The model that was tested, once more as int8. */
static void lab_show_int8(const vit_model *m, const vit_dataset *test) {
  char path[600];
  vit_model q;
  nb_cell("What do whole numbers of one byte cost, and what do they bring?");
  nb_quantized(&q, m);
  nb_both_ways(m, &q, test);
  nb_say("The test images are still looked at once: this measures a model that is finished, and nothing "
         "is chosen by it.");
  snprintf(path, sizeof path, "%.500s/int8.safetensors", nb_out);
  nb_try(vit_model_save(&q, test, path));
  nb_row("written", path);
  vit_model_free(&q);
}

/* The test images are looked at here, and only here. */
static void lab_report(const lab *l, const vit_model *m, const vit_dataset *test,
                       const vit_history *h) {
  int *guess = (int *)malloc((size_t)test->count * sizeof(int));
  float *p = nb_floats(test->count * m->config.classes);
  double loss, accuracy, memory;
  char time[20];
  if (!guess) nb_stop("out of memory for the test results");
  nb_try(vit_evaluate(m, test, &loss, &accuracy, guess, p, NULL));
  lab_show_classes(test, guess);
  nb_show_mistakes(test, guess, p);
  lab_show_attention(m, test);
  memory = lab_peak_memory();
  if (l->int8) lab_show_int8(m, test);
  printf("\n");
  if (m->config.classes > 5)
    printf("  top 5        %.2f %% have their class among the five most probable\n",
           100 * vit_top_accuracy(p, test->labels, test->count, m->config.classes, 5));
  printf("  training     %s, peak memory %.0f MB\n",
         nb_time(time, h->epochs ? h->epoch[h->epochs - 1].seconds : 0), memory);
  nb_next(lab_is_there("best.safetensors") ? "best.safetensors" : "model.safetensors");
  printf("\ntest accuracy %.2f %%\n", 100 * accuracy);
  free(guess);
  free(p);
}

/* Hold images back, say what will run, train, report. `show` draws some training
   images first. Frees the datasets. */
NB_UNUSED static void lab_run(lab *l, vit_dataset *train, vit_dataset *test,
                    void (*show)(const lab *, const vit_model *, const vit_dataset *)) {
  vit_dataset held;
  const vit_dataset *judge;
  vit_model m;
  vit_history h;
  lab_take_over(l, train);
  judge = lab_hold_back(l, train, &held);
  for (int c = 0; c < 3; c++) {
    test->mean[c] = train->mean[c];
    test->std[c] = train->std[c];
  }
  nb_try(vit_model_create(&m, &l->config, l->fit.seed));
  m.threads = l->threads;
  lab_begin_with(l, &m, train);
  show(l, &m, train);
  lab_print_plan(l, &m, train, judge, test);
  lab_train(l, &m, train, judge, &h);
  lab_report(l, &m, test, &h);
  vit_history_free(&h);
  vit_model_free(&m);
  vit_model_free(&l->from);
  vit_dataset_free(&l->about);
  vit_dataset_free(train);
  vit_dataset_free(test);
  if (judge) vit_dataset_free(&held);
}

#endif
