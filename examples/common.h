/* What the notebooks share: cells, flags, matrices, small pictures in the
   terminal. A notebook is read from top to bottom; so is its output.
   Everything here starts with nb_ and is of no interest for vit.h itself. */
#ifndef NB_COMMON_H
#define NB_COMMON_H

#ifdef VIT_HAVE_STB /* set by the Makefile when it finds stb_image.h */
#define STB_IMAGE_IMPLEMENTATION
#include "stb_image.h"
#endif

#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"

/* With VIT_KERNELS=naive in the environment, models run on the plain loops: the
   numbers in the book are made so, since they are the same on every machine. */
static inline vit_result nb_model_create(vit_model *m, const vit_config *c, uint64_t seed) {
  const char *wanted = getenv("VIT_KERNELS");
  const vit_result r = vit_model_create(m, c, seed);
  if (!r && wanted && !strcmp(wanted, "naive")) m->kernels = &vit_naive;
  return r;
}
#define vit_model_create nb_model_create

#ifdef _WIN32
#include <io.h>
#define isatty _isatty
#else
#include <unistd.h>
#endif

#if defined(__GNUC__)
#define NB_UNUSED __attribute__((unused))
#else
#define NB_UNUSED
#endif

/* A flag of a program: exactly one of the three pointers is set. */
typedef struct {
  const char *name, *value, *help; /* "--epochs", "N", "passes over the data"; a
                                      value "" makes it a switch, that sets 1;
                                      "DIR..." takes what follows until a flag:
                                      the text is the first, see nb_values */
  int *number;
  float *real;
  const char **text;
} nb_flag;

static const char *nb_data = NULL; /* --data; NULL: VIT_DATA or ./data */
static const char *nb_out = NULL;  /* --out; out/NN-name unless given */
static int nb_cells = 0;

/* Colours and progress lines only where somebody looks. */
static int nb_terminal(void) { return isatty(1) && !getenv("NO_COLOR"); }

NB_UNUSED static const char *nb_bold(void) { return nb_terminal() ? "\033[1m" : ""; }
NB_UNUSED static const char *nb_dim(void) { return nb_terminal() ? "\033[2m" : ""; }
NB_UNUSED static const char *nb_plain(void) { return nb_terminal() ? "\033[0m" : ""; }

/* Text in lines of at most 80 columns; `first` and `next` start the lines. */
static void nb_wrap(FILE *f, const char *text, const char *first, const char *next) {
  size_t room = 80 - strlen(next);
  fprintf(f, "%s", first);
  while (strlen(text) > room) {
    size_t n = room;
    while (n > 0 && text[n] != ' ') n--;
    if (n == 0) n = strcspn(text, " "); /* a longer word, such as a path, stays whole */
    if (!text[n]) break;
    fprintf(f, "%.*s\n%s", (int)n, text, next);
    text += n + 1;
  }
  fprintf(f, "%s\n", text);
}

/* One sentence to stderr, and the exit status that says "failed". */
NB_UNUSED static void nb_stop(const char *sentence) {
  fflush(stdout);
  if (isatty(2)) nb_wrap(stderr, sentence, "", "");
  else fprintf(stderr, "%s\n", sentence);
  exit(1);
}

/* Every call of vit.h that may fail stands inside this. */
NB_UNUSED static void nb_try(vit_result r) {
  if (r) nb_stop(vit_error());
}

/* One line of --help; the value in front of the flags is the one without it. */
static void nb_help_line(const nb_flag *f, int wide, int values) {
  char first[80], next[80], text[300];
  const int n = snprintf(first, sizeof first, "  %-*s %-*s ", wide, f->name, values, f->value);
  snprintf(next, sizeof next, "%*s", n, "");
  if (f->help[strlen(f->help) - 1] == ')' || !*f->value || (!f->number && !f->real))
    snprintf(text, sizeof text, "%s", f->help);
  else
    snprintf(text, sizeof text, "%s (%g)", f->help,
             f->number ? (double)*f->number : (double)*f->real);
  nb_wrap(stdout, text, first, next);
}

static void nb_help(const char *title, const char *teaches,
                    const nb_flag *flags, int n) {
  const nb_flag common[3] = {
      {"--data", "DIR", "where the data is (else VIT_DATA, else ./data)", NULL, NULL, NULL},
      {"--out", "DIR", "where figures and checkpoints go", NULL, NULL, NULL},
      {"--help", "", "this list", NULL, NULL, NULL}};
  int wide = 6, values = 3;
  for (int i = 0; i < n; i++) {
    if ((int)strlen(flags[i].name) > wide) wide = (int)strlen(flags[i].name);
    if ((int)strlen(flags[i].value) > values) values = (int)strlen(flags[i].value);
  }
  printf("%s\n", title);
  nb_wrap(stdout, teaches, "", "");
  printf("\n");
  for (int i = 0; i < n; i++) nb_help_line(flags + i, wide, values);
  for (int i = 0; i < 3; i++) nb_help_line(common + i, wide, values);
  exit(0);
}

static void nb_set_flag(const nb_flag *f, const char *value) {
  char message[300], *end;
  double v = strtod(value, &end);
  const int small = v > -2e9 && v < 2e9, bad = end == value || *end || !small;
  if (f->text) {
    if (!*value) {
      snprintf(message, sizeof message, "%s needs a value; see --help", f->name);
      nb_stop(message);
    }
    *f->text = value;
    return;
  }
  if (bad || (f->number && v != (double)(int)v)) {
    snprintf(message, sizeof message, "%s needs a %snumber%s, not \"%.100s\"; see --help", f->name,
             f->number ? "whole " : "", small ? "" : " between -2000000000 and 2000000000", value);
    nb_stop(message);
  }
  if (f->number) *f->number = (int)v;
  if (f->real) *f->real = (float)v;
}

/* Title, flags, folder of the figures. Call it first. */
NB_UNUSED static void nb_start(const char *name, const char *teaches, int argc,
                               char **argv, const nb_flag *flags, int n) {
  static char out[80];
  const nb_flag common[2] = {{"--data", "DIR", "", NULL, NULL, &nb_data},
                             {"--out", "DIR", "", NULL, NULL, &nb_out}};
  snprintf(out, sizeof out, "out/%s", name);
  nb_out = out;
  for (int i = 1; i < argc; i++) {
    const nb_flag *found = NULL;
    char message[300];
    if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
      nb_help(name, teaches, flags, n);
    for (int j = 0; j < n; j++)
      if (!strcmp(argv[i], flags[j].name)) found = flags + j;
    for (int j = 0; j < 2; j++)
      if (!strcmp(argv[i], common[j].name)) found = common + j;
    if (found && !*found->value) {
      *found->number = 1;
      continue;
    }
    if (!found || i + 1 == argc) {
      snprintf(message, sizeof message, found ? "%.100s needs a value; see --help"
                                              : "unknown flag %.100s; see --help",
               argv[i]);
      nb_stop(message);
    }
    nb_set_flag(found, argv[++i]);
    while (strstr(found->value, "...") && i + 1 < argc && strncmp(argv[i + 1], "--", 2)) i++;
  }
  nb_try(vit_make_dir(nb_out)); /* better said now than after the work */
  printf("%s%s%s\n", nb_bold(), name, nb_plain());
  nb_wrap(stdout, teaches, "", "");
}

/* The arguments after `flag`, until the next flag; returns how many. */
NB_UNUSED static int nb_values(int argc, char **argv, const char *flag, char ***values) {
  int first = 1, n = 0;
  while (first < argc && strcmp(argv[first], flag)) first++;
  *values = argv + first + 1;
  while (first + 1 + n < argc && strncmp(argv[first + 1 + n], "--", 2)) n++;
  return n;
}

/* "name=value,name=value", the value of `flag`: calls set(to, name, value) for
   each pair. NULL is an empty list. */
NB_UNUSED static void nb_list(const char *flag, const char *list, void *to,
                              void (*set)(void *, const char *, const char *)) {
  char text[500], message[700], *at = text;
  if (!list) return;
  if (strlen(list) >= sizeof text) nb_stop("a list in a flag has more than 499 characters");
  strcpy(text, list);
  while (*at) {
    char *end, *value;
    while (*at == ' ') at++;
    end = at + strcspn(at, ",");
    value = strchr(at, '=');
    int last = !*end;
    *end = '\0';
    if (!value || value > end || value[1] == '\0') {
      snprintf(message, sizeof message, "%s wants name=value,name=value, not \"%.400s\"", flag, list);
      nb_stop(message);
    }
    *value = '\0';
    set(to, at, value + 1);
    at = last ? end : end + 1;
  }
}

/* For nb_list: a field of a vit_config. */
NB_UNUSED static void nb_set_config(void *config, const char *name, const char *value) {
  nb_try(vit_config_set((vit_config *)config, name, value));
}

/* [3] What happens in this cell */
NB_UNUSED static void nb_cell(const char *heading) {
  char number[20], below[20];
  const int n = snprintf(number, sizeof number, "[%d] ", ++nb_cells);
  snprintf(below, sizeof below, "%*s", n, "");
  printf("\n%s", nb_bold());
  nb_wrap(stdout, heading, number, below);
  printf("%s", nb_plain());
}

/* name [2, 3, 4]  what it is */
NB_UNUSED static void nb_shape(const char *name, const int *shape, int dims,
                               const char *what) {
  char text[80] = "[";
  for (int i = 0; i < dims; i++)
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", i ? ", " : "", shape[i]);
  printf("  %-9s %-12s %s%s%s\n", name, strcat(text, "]"), nb_dim(), what, nb_plain());
}

/* A matrix of numbers with the names of its rows and columns (each may be NULL).
   `format` is for one number, such as " %6.2f". With `shade`, a terminal paints
   numbers from 0 to 1 on white to deep blue, in all tables alike: a heat map that
   can be read off, and compared. */
NB_UNUSED static void nb_table(const float *m, int rows, int cols, const char *format,
                               const char *const *row_names, const char *const *col_names,
                               int shade) {
  static const int blues[] = {255, 195, 153, 117, 75, 33};
  if (col_names) {
    printf("  %s%-6s", nb_dim(), "");
    for (int c = 0; c < cols; c++) printf("%*s", snprintf(NULL, 0, format, 0.0), col_names[c]);
    printf("%s\n", nb_plain());
  }
  for (int r = 0; r < rows; r++) {
    printf("  %s%-6s%s", nb_dim(), row_names ? row_names[r] : "", nb_plain());
    for (int c = 0; c < cols; c++) {
      float part = m[r * cols + c] > 0 ? m[r * cols + c] < 1 ? m[r * cols + c] : 1 : 0;
      if (shade && nb_terminal()) printf("\033[30;48;5;%dm", blues[(int)(part * 5 + 0.5f)]);
      printf(format, (double)m[r * cols + c]);
      if (shade) printf("%s", nb_plain());
    }
    printf("\n");
  }
}

/* A plain matrix; the names of the rows may be NULL. */
NB_UNUSED static void nb_matrix(const float *m, int rows, int cols,
                                const char *format, const char *const *labels) {
  nb_table(m, rows, cols, format, labels, NULL, 0);
}

/* One pixel, 0 dark to 1 light: a grey block in a terminal, characters elsewhere. */
static void nb_pixel(float g) {
  static const char ramp[] = " .:-=+*#%@";
  g = g > 0 ? g < 1 ? g : 1 : 0; /* NaN is dark */
  if (nb_terminal())
    printf("\033[48;5;%dm  \033[0m", 232 + (int)(g * 23 + 0.5f));
  else
    printf("%c%c", ramp[(int)(g * 9 + 0.5f)], ramp[(int)(g * 9 + 0.5f)]);
}

/* A picture of rows x cols values from `low` to `high`. A line is drawn after
   every `patch_h` rows and `patch_w` columns (0: none). */
NB_UNUSED static void nb_picture(const float *v, int rows, int cols, float low,
                                 float high, int patch_h, int patch_w) {
  for (int y = 0; y < rows; y++) {
    if (patch_h && y && y % patch_h == 0) {
      printf("  %s", nb_dim());
      for (int x = 0; x < cols; x++)
        printf("%s--", patch_w && x && x % patch_w == 0 ? "-+-" : "");
      printf("%s\n", nb_plain());
    }
    printf("  ");
    for (int x = 0; x < cols; x++) {
      if (patch_w && x && x % patch_w == 0) printf("%s | %s", nb_dim(), nb_plain());
      nb_pixel((v[y * cols + x] - low) / (high - low));
    }
    printf("\n");
  }
}

/* Pictures of size x size values from 0 to 1 side by side, at half their size. */
NB_UNUSED static void nb_pictures(const float *v, int count, int size) {
  for (int y = 0; y + 1 < size; y += 2) {
    for (int i = 0; i < count; i++) {
      const float *p = v + (i * size + y) * size;
      printf(i ? "   " : "  ");
      for (int x = 0; x + 1 < size; x += 2)
        nb_pixel((p[x] + p[x + 1] + p[size + x] + p[size + x + 1]) / 4);
    }
    printf("\n");
  }
}

/* A line that is written over and over while something runs; elsewhere than in a
   terminal it is not shown. A narrow terminal cuts it: broken in two, it could
   not be written over. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
NB_UNUSED static void nb_progress(const char *format, ...) {
  char text[200];
  va_list args;
  if (!nb_terminal()) return;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  printf("\033[?7l\r\033[K%.80s\033[?7h", text);
  fflush(stdout);
}

/* 42 s, 12 min, 3.5 h */
NB_UNUSED static const char *nb_time(char text[20], double seconds) {
  if (seconds < 100) snprintf(text, 20, "%.0f s", seconds);
  else if (seconds < 6000) snprintf(text, 20, "%.0f min", seconds / 60);
  else snprintf(text, 20, "%.1f h", fmin(seconds / 3600, 1e9));
  return text;
}

/* The epochs of a training as a table: its head, a line for each, and a line that
   comes and goes while one runs. `judge` names the loss on the images that judge
   them, such as "test: loss", or is NULL. */
NB_UNUSED static void nb_epoch_head(const char *judge) {
  printf("  %s  epoch   training loss", nb_dim());
  if (judge) printf("   %15s   accuracy  ", judge);
  printf("   images/s   so far%s\n", nb_plain());
}

/* `mark`, a * or a blank, says which are the best so far. */
NB_UNUSED static void nb_epoch(const vit_progress *p, char mark) {
  const vit_epoch *e = p->result;
  char time[20];
  printf("%s  %3d/%-4d  %13.4f", nb_terminal() ? "\r\033[K" : "", p->epoch, p->epochs, e->train_loss);
  if (e->val_loss == e->val_loss)
    printf("   %15.4f   %6.2f %% %c", e->val_loss, 100 * e->val_accuracy, mark);
  printf("   %8.0f   %s\n", p->images_per_second, nb_time(time, p->seconds));
  fflush(stdout);
}

/* Five times a second at most; *last is when. */
NB_UNUSED static void nb_step(const vit_progress *p, double *last) {
  const int done = p->step * 10 / p->steps;
  char time[20];
  if (p->seconds - *last <= 0.2 && p->step > 1) return;
  nb_progress("  %3d/%-4d  %13.4f   [%.*s%.*s]   %.0f images/s   %s left", p->epoch, p->epochs, p->loss,
              done, "##########", 10 - done, "..........", p->images_per_second,
              nb_time(time, p->seconds_left));
  *last = p->seconds;
}

/* A bar of `width` characters, filled by `part` (0..1). */
NB_UNUSED static void nb_bar(double part, int width) {
  int full = part > 0 ? (int)((part < 1 ? part : 1) * width + 0.5) : 0;
  for (int i = 0; i < width; i++) {
    if (nb_terminal())
      printf("%s \033[0m", i < full ? "\033[48;5;33m" : "\033[48;5;236m");
    else
      printf("%c", i < full ? '#' : '.');
  }
}

/* A line with a name in front; text that is too long goes on below itself. */
NB_UNUSED static void nb_row(const char *name, const char *text) {
  char first[20];
  snprintf(first, sizeof first, "  %-12s ", name);
  nb_wrap(stdout, text, first, "               ");
}

/* A sentence or two about what is seen. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
NB_UNUSED static void nb_say(const char *format, ...) {
  char text[1000];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  nb_wrap(stdout, text, "  ", "  ");
}

/* Show a line of code, then run it: the reader sees which call made the numbers
   that follow, and what he sees is what ran. */
#define NB_RUN(...)                                                            \
  do {                                                                         \
    nb_code(#__VA_ARGS__);                                                     \
    __VA_ARGS__;                                                               \
  } while (0)
NB_UNUSED static void nb_code(const char *code) {
  printf("%s", nb_terminal() ? "\033[36m" : "");
  nb_wrap(stdout, code, "  > ", "      ");
  printf("%s", nb_plain());
}

/* For models so small that threads would only wait for each other. */
NB_UNUSED static void nb_one_thread(void) {
#ifdef _OPENMP
  omp_set_num_threads(1);
#endif
}

/* Zeroed floats; free() them. */
NB_UNUSED static float *nb_floats(int n) {
  float *p = (float *)calloc((size_t)n, sizeof *p);
  if (!p) nb_stop("out of memory");
  return p;
}

NB_UNUSED static double nb_mean(const float *x, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += (double)x[i];
  return sum / n;
}

/* Standard deviation. */
NB_UNUSED static double nb_std(const float *x, int n) {
  double sum = 0, mean = nb_mean(x, n);
  for (int i = 0; i < n; i++) sum += ((double)x[i] - mean) * ((double)x[i] - mean);
  return sqrt(sum / n);
}

/* Standard normal numbers. */
NB_UNUSED static void nb_normal(float *x, int n, uint32_t seed) {
  vit_rng rng = vit_rng_create(seed, 0);
  for (int i = 0; i < n; i++) x[i] = vit_random_normal(&rng);
}

/* Say where a figure is, or why there is no picture. Other failures stop. */
NB_UNUSED static void nb_figure(vit_result r, const char *name) {
  if (r == VIT_STOPPED) exit(130); /* Ctrl-C */
  if (r == VIT_ERR_GNUPLOT)
    printf("  %s\n", vit_error());
  else if (r)
    nb_try(r);
  else
    printf("  figure       %s/%s.png\n", nb_out, name);
}

/* The test images, as 28x28 bytes; says which data it is. */
NB_UNUSED static void nb_load(vit_dataset *d, vit_split split) {
  nb_try(vit_dataset_mnist(d, nb_data, split));
  nb_row("data", d->source);
}

/* Begin with the weights of another model of the same shape; with `new_head` its
   head stays as it was created. */
NB_UNUSED static void nb_inherit(vit_model *m, const vit_model *from, int new_head) {
  vit_tensor to, t;
  for (int i = 0; vit_tensor_at(&m->config, i, &to); i++) {
    char message[300];
    if (new_head && !strncmp(to.name, "head", 4)) continue;
    if (vit_tensor_find(&from->config, to.name, &t) || t.dims != to.dims ||
        memcmp(t.shape, to.shape, sizeof t.shape)) {
      snprintf(message, sizeof message, "the model to begin with has no tensor %s of the shape that this model wants: take it as it is, "
               "without changes of its sizes", to.name);
      nb_stop(message);
    }
    memcpy(m->params.block + to.offset, from->params.block + t.offset, t.count * sizeof(float));
  }
}

/* A few test images, resized to size x size pixels. */
NB_UNUSED static void nb_load_few(vit_dataset *d, int count, int size) {
  nb_load(d, VIT_TEST);
  vit_dataset_limit(d, count);
  nb_try(vit_dataset_resize(d, size, size));
}

/* The first image of class k; d->count where there is none. */
NB_UNUSED static int nb_first(const vit_dataset *d, int k) {
  int i = 0;
  while (i < d->count && d->labels[i] != k) i++;
  return i;
}

/* order: the first image of each class that has one, `most` at most. Returns how many. */
NB_UNUSED static int nb_one_of_each(int *order, const vit_dataset *d, int most) {
  int n = 0;
  for (int k = 0; k < d->classes && n < most; k++) {
    order[n] = nb_first(d, k);
    if (order[n] < d->count) n++;
  }
  return n;
}

/* The first image of a digit, as floats from 0 to 1. */
NB_UNUSED static void nb_digit(float *image, const vit_dataset *d, int digit) {
  const int i = nb_first(d, digit);
  if (i == d->count) nb_stop("a digit is missing among the test images that were loaded");
  vit_dataset_batch(d, &i, 1, image, NULL);
}

/* The pixels of images order[0..n-1] as they are, 0..1: [n,C,height,width]. */
NB_UNUSED static float *nb_pixels(const vit_dataset *d, const int *order, int n) {
  const int size = d->channels * d->height * d->width;
  float *images = nb_floats(n * size);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < size; j++)
      images[i * size + j] = (float)d->pixels[(vit_idx)order[i] * size + j] / 255;
  return images;
}

/* The name of class k for a small place: cut after `most` characters (a byte that
   continues one of UTF-8 is 10xxxxxx). */
NB_UNUSED static const char *nb_class(char text[VIT_NAME_SIZE + 3], const vit_dataset *d, int k,
                                      int most) {
  const char *name = vit_class_name(d, k);
  int n = 0, seen = 0;
  while (name[n] && ((name[n] & 0xC0) == 0x80 || seen++ < most)) n++;
  snprintf(text, VIT_NAME_SIZE + 3, "%.*s%s", n, name, name[n] ? ".." : "");
  return text;
}

/* A probability in %; after a softmax none is quite 0 or 1. */
NB_UNUSED static const char *nb_percent(char text[20], float p) {
  if (p < 0.0005f) return strcpy(text, "< 0.1 %");
  if (p >= 0.9995f) return strcpy(text, "> 99.9 %");
  snprintf(text, 20, "%.1f %%", 100 * (double)p);
  return text;
}

/* Which token becomes the answer: its row of the attention matrix is looked at. */
NB_UNUSED static const char *nb_query(const vit_config *c) {
  return c->pool == VIT_POOL_CLS ? "the class token" : "the mean over the patches";
}

/* How much that token looks at each patch in the last block, 0..1: one head, or
   with head -1 the mean over all. weights [N] */
NB_UNUSED static void nb_look(float *weights, const vit_model *m, const vit_state *s, int image,
                              int head) {
  const vit_config *c = &m->config;
  const int N = vit_config_patches(c), T = vit_config_tokens(c), cls = c->pool == VIT_POOL_CLS;
  const int patches = c->class_token, heads = head < 0 ? c->heads : 1; /* patches come behind the class token */
  const int first = cls ? 0 : patches, last = cls ? 1 : patches + N;
  memset(weights, 0, (size_t)N * sizeof *weights);
  for (int h = 0; h < heads; h++) {
    const float *p = cls ? vit_class_attention(m, s, image, head < 0 ? h : head)
                         : vit_attention(m, s, c->depth - 1, image, head < 0 ? h : head);
    if (!p) nb_stop(vit_error());
    for (int r = first; r < last; r++)
      for (int i = 0; i < N; i++) weights[i] += p[r * T + patches + i] / (float)(heads * (last - first));
  }
}

/* The last cell of a training: what to do with the model now. */
NB_UNUSED static void nb_next(const char *file) {
  char command[700];
  nb_cell("Now with a picture of your own");
  snprintf(command, sizeof command, "make build/13_pretrained && build/13_pretrained %.500s/%s PICTURE...", nb_out, file);
  nb_code(command);
}

/* The images whose true class got the smallest probability. */
NB_UNUSED static void nb_show_mistakes(const vit_dataset *test, const int *guess, const float *p) {
  enum { ROWS = 4, COLS = 5, MANY = ROWS * COLS };
  static char text[MANY][160];
  const char *titles[MANY];
  const int K = test->classes;
  int worst[MANY + 1], found = 0, wrong = 0, rows;
  float *images;
  nb_cell("The worst mistakes: the true class got the smallest probability");
  for (int i = 0; i < test->count; i++) { /* keep the worst, in order */
    int at = found;
    if (guess[i] == test->labels[i]) continue;
    wrong++;
    while (at > 0 && p[i * (vit_idx)K + test->labels[i]] <
                         p[worst[at - 1] * (vit_idx)K + test->labels[worst[at - 1]]])
      at--;
    if (at == MANY) continue;
    if (found < MANY) found++;
    for (int j = found - 1; j > at; j--) worst[j] = worst[j - 1];
    worst[at] = i;
  }
  printf("  %d of %d images are wrong%s\n", wrong, test->count,
         found > 1 ? "; the figure shows both probabilities" : "");
  if (!found) return;
  for (int i = 0; i < found; i++) {
    const float *of = p + worst[i] * (vit_idx)K;
    char is[VIT_NAME_SIZE + 3], said[VIT_NAME_SIZE + 3], p_is[20], p_said[20];
    snprintf(text[i], sizeof text[i], "is %s: %s\nsaid %s: %s",
             nb_class(is, test, test->labels[worst[i]], 10), nb_percent(p_is, of[test->labels[worst[i]]]),
             nb_class(said, test, guess[worst[i]], 10), nb_percent(p_said, of[guess[worst[i]]]));
    titles[i] = text[i];
  }
  rows = (found + COLS - 1) / COLS;
  for (int i = found; i < rows * COLS; i++) titles[i] = NULL, worst[i] = worst[0];
  images = nb_pixels(test, worst, rows * COLS);
  for (int i = found * test->channels * test->height * test->width;
       i < rows * COLS * test->channels * test->height * test->width; i++)
    images[i] = 1;
  nb_figure(vit_plot_tiles(nb_out, "mistakes",
                           "The worst mistakes: probabilities of the true class and of the one that was said",
                           images, NULL, 0, 0, titles, rows, COLS, test->channels, test->height,
                           test->width, 0, 1),
            "mistakes");
  free(images);
}

/* ---- int8 ------------------------------------------------------------------ */

/* The same weights as whole numbers of a byte; m stays as it is. */
NB_UNUSED static void nb_quantized(vit_model *q, const vit_model *m) {
  nb_try(vit_model_create(q, &m->config, 1));
  memcpy(q->params.block, m->params.block, m->params.count * sizeof(float));
  q->kernels = m->kernels;
  q->threads = m->threads;
  nb_try(vit_model_quantize(q));
}

static int nb_by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Microseconds of the fastest of several calls: what disturbs only makes slower. A
   hundredth stands for what is finer than the clock. */
#define NB_FASTEST(best, call)                                                     \
  do {                                                                             \
    const double nb_start = vit_seconds();                                         \
    double nb_before = nb_start, nb_after;                                         \
    (best) = 1e9;                                                                  \
    for (int nb_calls = 0; nb_calls < 5 || nb_before - nb_start < 0.05; nb_calls++) { \
      call;                                                                        \
      nb_after = vit_seconds();                                                    \
      (best) = fmin((best), 1e6 * (nb_after - nb_before));                         \
      nb_before = nb_after;                                                        \
    }                                                                              \
    (best) = fmax((best), 0.01);                                                   \
  } while (0)

/* Images per second of two models on one batch, by one thread: medians, in turn; the
   first round only warms up. Returns how many images the batch had. */
enum { NB_ROUNDS = 15 };
static int nb_race(double rate[2], const vit_model *const both[2], const vit_dataset *test) {
  const int n = test->count < 128 ? test->count : 128;
  const vit_config *c = &both[0]->config;
  double all[2][NB_ROUNDS];
  int order[128];
  float *images = nb_floats(n * c->channels * c->image_height * c->image_width);
  vit_model one[2] = {*both[0], *both[1]};
  vit_state s[2];
  for (int i = 0; i < n; i++) order[i] = i;
  vit_dataset_batch(test, order, n, images, NULL);
  for (int i = 0; i < 2; i++) {
    one[i].threads = 1;
    nb_try(vit_state_create(s + i, one + i, n, VIT_FOR_INFERENCE, 1));
  }
  for (int round = -1; round < NB_ROUNDS; round++)
    for (int i = 0; i < 2; i++) {
      const double start = vit_seconds();
      nb_try(vit_forward(one + i, s + i, images, n));
      if (round >= 0) all[i][round] = vit_seconds() - start;
    }
  for (int i = 0; i < 2; i++) {
    qsort(all[i], NB_ROUNDS, sizeof(double), nb_by_size);
    rate[i] = n / fmax(all[i][NB_ROUNDS / 2], 1e-9);
    vit_state_free(s + i);
  }
  free(images);
  return n;
}

/* A trained model as it is and quantized, on the same images: how right, how large,
   how fast; and which images are now taken for another class. */
NB_UNUSED static void nb_both_ways(const vit_model *m, const vit_model *q, const vit_dataset *test) {
  static const char *const names[2] = {"float", "int8"};
  const vit_model *const both[2] = {m, q};
  double loss, accuracy, rate[2];
  int *guess[2], right = 0, wrong = 0, other = 0, batch;
  vit_memory need;
  nb_try(vit_memory_plan(&m->config, 1, &need));
  batch = nb_race(rate, both, test);
  printf("  %s%-6s %10s %9s %18s %10s%s\n", nb_dim(), "model", "accuracy", "loss", "parameters, bytes",
         "images/s", nb_plain());
  for (int i = 0; i < 2; i++) {
    guess[i] = (int *)malloc((size_t)test->count * sizeof(int));
    if (!guess[i]) nb_stop("out of memory for the test results");
    nb_try(vit_evaluate(both[i], test, &loss, &accuracy, guess[i], NULL, NULL));
    printf("  %-6s %8.2f %% %9.4f %18.0f %10.0f\n", names[i], 100 * accuracy, loss,
           (double)(i ? need.quantized : need.parameters), rate[i]);
  }
  for (int i = 0; i < test->count; i++) {
    const int is = test->labels[i], before = guess[0][i], now = guess[1][i];
    if (before == now) continue;
    if (now == is) right++;
    else if (before == is) wrong++;
    else other++;
  }
  printf("  int8 takes %.2f of the bytes and is %.2f times as fast.\n"
         "  %d of %d images get another class. Right only with int8: %d, right only in\n"
         "  float: %d, wrong both times: %d.\n",
         (double)need.quantized / (double)need.parameters, rate[1] / rate[0], right + wrong + other,
         test->count, right, wrong, other);
  printf("  images/s: one thread, batches of %d, medians of %d in turn\n", batch, NB_ROUNDS);
  free(guess[0]);
  free(guess[1]);
}

/* Palettes: white to blue for weights from 0 up; blue, white, orange for numbers
   below, at and above 0; dark to light for images. */
#define NB_BLUES "set palette defined (0 '#ffffff', 1 '#9ccbe8', 2 '#0072b2', 3 '#003a5c')\n"
#define NB_SIGNS "set palette defined (-1 '#0072b2', 0 '#ffffff', 1 '#d55e00')\n"
#define NB_GREYS "set palette defined (0 '#000000', 1 '#ffffff')\n"

/* One panel of a figure: a matrix as coloured squares, row 0 on top. `number`
   is the format of the numbers on them, or NULL; above `dark` they are white.
   `index` counts the panels. */
NB_UNUSED static void nb_panel(vit_plot *p, int index, const char *title, const float *m,
                               int rows, int cols, const char *number, double dark) {
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < cols; c++)
      fprintf(p->data, "%d %d %.6g\n", c, r, (double)m[r * cols + c]);
  fprintf(p->data, "\n\n"); /* gnuplot: the next index */
  fprintf(p->script,
          "set title \"%s\" noenhanced\n"
          "set xrange [-0.5:%d.5]\nset yrange [%d.5:-0.5]\n"
          "plot '%s.dat' index %d using 1:2:3 with image notitle",
          title, cols - 1, rows - 1, p->name, index);
  if (number)
    fprintf(p->script,
            ", \\\n     '' index %d using 1:2:(sprintf('%s', $3)):($3 > %g ? 0xffffff : 0) "
            "with labels tc rgb variable notitle",
            index, number, dark);
  fprintf(p->script, "\n");
}

/* A panel with an image of size x size pixels and the lines of its patches. */
NB_UNUSED static void nb_image_panel(vit_plot *p, int index, const char *title,
                                     const float *image, int size, int patch) {
  const char *line = "nohead front lc rgb '#e69f00' lw 1.5";
  fprintf(p->script, NB_GREYS "set cbrange [0:1]\nunset colorbox\nset size ratio -1\n"
                              "set tics scale 0\n");
  for (int at = patch; at < size; at += patch)
    fprintf(p->script, "set arrow from %g,-0.5 to %g,%g %s\nset arrow from -0.5,%g to %g,%g %s\n",
            at - 0.5, at - 0.5, size - 0.5, line, at - 0.5, size - 0.5, at - 0.5, line);
  nb_panel(p, index, title, image, size, size, NULL, 0);
  fprintf(p->script, "unset arrow\nunset label\n");
}

/* The style of attention matrices of the tutorial model, before nb_panel: one scale
   of colours, 0 to 1, in all figures. */
NB_UNUSED static void nb_attention_style(vit_plot *p) {
  const char *names = "('CLS' 0, 'P1' 1, 'P2' 2, 'P3' 3, 'P4' 4)";
  fprintf(p->script, NB_BLUES "set cbrange [0:1]\nset size ratio -1\nset tics scale 0\n"
                              "set cblabel 'attention weight' offset -1\nset cbtics 0.25\n"
                              "set xtics %s\nset ytics %s\nset xlabel '... looks at this token'\n"
                              "set ylabel 'This token ...'\n", names, names);
}

/* A frame of orange round columns x0 to x1 and rows y0 to y1 of the next panels. */
NB_UNUSED static void nb_mark(vit_plot *p, double x0, double y0, double x1, double y1) {
  const double x[5] = {x0 - 0.5, x1 + 0.5, x1 + 0.5, x0 - 0.5, x0 - 0.5};
  const double y[5] = {y0 - 0.5, y0 - 0.5, y1 + 0.5, y1 + 0.5, y0 - 0.5};
  for (int i = 0; i < 4; i++)
    fprintf(p->script, "set arrow from %g,%g to %g,%g nohead front lc rgb '#d55e00' lw 4\n", x[i],
            y[i], x[i + 1], y[i + 1]);
}

/* Title, axes and grid of a plot of curves. */
NB_UNUSED static void nb_axes(vit_plot *p, const char *title, const char *x, const char *y) {
  fprintf(p->script, "set title \"%s\" noenhanced\nset xlabel \"%s\"\nset ylabel \"%s\"\n"
                     "set grid lt 1 lc rgb '#cccccc' lw 1\n", title, x, y);
}

#endif
