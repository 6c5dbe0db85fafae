/* What the notebooks share: cells, flags, matrices, small pictures in the
   terminal. A notebook is read from top to bottom; so is its output.
   Everything here starts with nb_ and is of no interest for vit.h itself. */
#ifndef NB_COMMON_H
#define NB_COMMON_H

#ifdef VIT_HAVE_STB /* set by the Makefile when it finds stb_image.h */
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include "stb_image.h"
#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif
#endif

#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"

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
  const char *name, *value, *help; /* "--epochs", "N", "passes over the data" */
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

/* One sentence to stderr, and the exit status that says "failed". */
NB_UNUSED static void nb_stop(const char *sentence) {
  fflush(stdout);
  fprintf(stderr, "%s\n", sentence);
  exit(1);
}

/* Every call of vit.h that may fail stands inside this. */
NB_UNUSED static void nb_try(vit_result r) {
  if (r) nb_stop(vit_error());
}

static void nb_help(const char *title, const char *teaches,
                    const nb_flag *flags, int n) {
  printf("%s: %s\n\n", title, teaches);
  for (int i = 0; i < n; i++)
    printf("  %-10s %-12s %s\n", flags[i].name, flags[i].value, flags[i].help);
  printf("  %-10s %-12s %s\n", "--data", "DIR", "where mnist/ is (else VIT_DATA, else ./data)");
  printf("  %-10s %-12s %s\n", "--out", "DIR", "where the figures go");
  printf("  %-10s %-12s %s\n", "--help", "", "this list");
  exit(0);
}

static void nb_set_flag(const nb_flag *f, const char *value) {
  char message[300], *end;
  double v = strtod(value, &end);
  int bad = end == value || *end || !(v > -2e9 && v < 2e9);
  if (f->text) {
    *f->text = value;
    return;
  }
  if (bad || (f->number && v != (double)(int)v)) {
    snprintf(message, sizeof message, "%s needs a %snumber, not \"%.100s\"; see --help",
             f->name, f->number ? "whole " : "", value);
    nb_stop(message);
  }
  if (f->number) *f->number = (int)v;
  if (f->real) *f->real = (float)v;
}

/* Title, flags, out/NN-name. Call it first. */
NB_UNUSED static void nb_start(const char *name, const char *teaches, int argc,
                               char **argv, const nb_flag *flags, int n) {
  static char out[80];
  const nb_flag common[2] = {{"--data", "", "", NULL, NULL, &nb_data},
                             {"--out", "", "", NULL, NULL, &nb_out}};
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
    if (!found || i + 1 == argc) {
      snprintf(message, sizeof message, found ? "%.100s needs a value; see --help"
                                              : "unknown flag %.100s; see --help",
               argv[i]);
      nb_stop(message);
    }
    nb_set_flag(found, argv[++i]);
  }
  printf("%s%s%s\n%s\n", nb_bold(), name, nb_plain(), teaches);
}

/* [3] What happens in this cell */
NB_UNUSED static void nb_cell(const char *heading) {
  printf("\n%s[%d] %s%s\n", nb_bold(), ++nb_cells, heading, nb_plain());
}

/* name [2, 3, 4]  what it is */
NB_UNUSED static void nb_shape(const char *name, const int *shape, int dims,
                               const char *what) {
  char text[80] = "[";
  for (int i = 0; i < dims; i++)
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", i ? ", " : "", shape[i]);
  printf("  %-12s %-18s %s%s%s\n", name, strcat(text, "]"), nb_dim(), what, nb_plain());
}

/* A matrix, aligned; format is for one number, such as " %6.2f". Row labels may
   be NULL. */
NB_UNUSED static void nb_matrix(const float *m, int rows, int cols,
                                const char *format, const char *const *labels) {
  for (int r = 0; r < rows; r++) {
    printf("  %s%-8s%s", nb_dim(), labels ? labels[r] : "", nb_plain());
    for (int c = 0; c < cols; c++) printf(format, (double)m[r * cols + c]);
    printf("\n");
  }
}

/* A picture of rows x cols values, `low` dark to `high` light: grey blocks in a
   terminal, letters elsewhere. A gap is left after every `patch_h` rows and
   `patch_w` columns (0: none). */
NB_UNUSED static void nb_picture(const float *v, int rows, int cols, float low,
                                 float high, int patch_h, int patch_w) {
  static const char ramp[] = " .:-=+*#%@";
  for (int y = 0; y < rows; y++) {
    if (patch_h && y && y % patch_h == 0) printf("\n");
    printf("  ");
    for (int x = 0; x < cols; x++) {
      float g = high > low ? (v[y * cols + x] - low) / (high - low) : 0;
      g = g < 0 ? 0 : g > 1 ? 1 : g;
      if (patch_w && x && x % patch_w == 0) printf("  ");
      if (nb_terminal())
        printf("\033[48;5;%dm  \033[0m", 232 + (int)(g * 23 + 0.5f));
      else
        printf("%c%c", ramp[(int)(g * 9 + 0.5f)], ramp[(int)(g * 9 + 0.5f)]);
    }
    printf("\n");
  }
}

/* Say where a figure is, or why there is no picture. Other failures stop. */
NB_UNUSED static void nb_figure(vit_result r, const char *name) {
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
  printf("  data         %s\n", d->source);
}

#endif
