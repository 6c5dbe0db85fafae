/* check.c - tries the reader's kernels on the sizes of their chapter.

   check.sh compiles it with -DCHAPTER=3, -DOWN_FILE='"my.c"' and own.h, which
   holds `#define OWN(X) X(softmax_forward)`: the kernels that my.c defines as
   my_softmax_forward and so on. Each gets random numbers in arrays that end
   where the memory ends, beside vit_naive's; the first wrong number is named.
   Then the tutorial model runs, or trains, on a copy of the naive table with them
   in it. */
#ifdef WITH_VECTORS /* it uses the words of chapter 00, which the implementation has */
#define VIT_STATIC
#define VIT_IMPLEMENTATION
#endif
#include "vit.h"
#include "tests/test.h"

#include OWN_FILE
#include "own.h"

/* ---- one call of a kernel: its arrays --------------------------------------- */

enum { IN, OUT, ADD, CHANGE, SCRATCH, MOST = 10 };
enum { NAIVE, MINE };

typedef struct {
  const char *name;
  int role, rows, cols, stride; /* row r is at r * stride */
  size_t n;
  float *start, *x[2];
  test_guard guard;
} array;

static array arrays[MOST];
static int count;
static const char *current = "", *sizes = "";
static const int *size;

static void add(const char *name, int role, int rows, int cols, int stride) {
  array *a = &arrays[count++];
  memset(a, 0, sizeof *a);
  a->name = name, a->role = role;
  a->rows = rows, a->cols = cols, a->stride = stride ? stride : cols;
  a->n = (size_t)(rows - 1) * (size_t)a->stride + (size_t)cols;
}

/* Steps of a case: name the arrays; make their numbers fit each other; call. */
typedef struct {
  const vit_kernels *k; /* NULL in the first two */
  int step;
  float *a[MOST];
} call;
enum { DESCRIBE, PREPARE, CALL };

/* CASE(kernel, its arrays, what prepares them, the call); n[] are the sizes. */
#define CASE(kernel, describe, prepare, run)                                    \
  static void case_##kernel(call *c, const int *n) {                            \
    const vit_kernels *k = c->k;                                                \
    float **a = c->a;                                                           \
    (void)n, (void)a, (void)k;                                                  \
    if (c->step == DESCRIBE) { describe; }                                      \
    if (c->step == PREPARE) { prepare; }                                        \
    if (c->step == CALL) { run; }                                               \
  }
#define NOTHING (void)0
#define I(name, rows, cols) add(name, IN, rows, cols, 0)
#define O(name, rows, cols) add(name, OUT, rows, cols, 0)
#define A(name, rows, cols) add(name, ADD, rows, cols, 0)
#define SOFTMAX(x, rows, cols) vit_naive.softmax_forward(x, x, rows, cols)

/* 01: n = rows and columns of patches, C, PH = n[3], PW = n[0] + 1 */
#define IMAGE n[2], n[0] * n[3], n[1] * (n[0] + 1), n[3], n[0] + 1
#define PATCHES n[0] * n[1], n[2] * n[3] * (n[0] + 1)
CASE(patchify_forward, add("patches", OUT, PATCHES, 0); I("image", n[2] * n[0] * n[3], n[1] * (n[0] + 1)),
     NOTHING, k->patchify_forward(a[0], a[1], IMAGE))
CASE(patchify_backward, O("dimage", n[2] * n[0] * n[3], n[1] * (n[0] + 1)); add("dpatches", IN, PATCHES, 0),
     NOTHING, k->patchify_backward(a[0], a[1], IMAGE))
CASE(linear_forward,
     O("y", n[0], n[2]); I("x", n[0], n[1]); I("w", n[2], n[1]); I("b", 1, n[2]), NOTHING,
     k->linear_forward(a[0], a[1], a[2], n[3] % 2 ? a[3] : NULL, n[0], n[1], n[2]))
CASE(linear_backward_input, O("dx", n[0], n[1]); I("dy", n[0], n[2]); I("w", n[2], n[1]), NOTHING,
     k->linear_backward_input(a[0], a[1], a[2], n[0], n[1], n[2]))
CASE(linear_backward_weight, A("dw", n[2], n[1]); A("db", 1, n[2]);
     add("dy", IN, n[0], n[2], n[2] + n[3]); I("x", n[0], n[1]), NOTHING,
     k->linear_backward_weight(a[0], n[3] % 2 ? a[1] : NULL, a[2], a[3], n[0], n[1], n[2], n[2] + n[3]))

/* 02: N, D; with and without a class token, positions */
#define CLS (n[2] % 2)
CASE(tokens_forward,
     O("x", n[0] + CLS, n[1]); I("embed", n[0], n[1]); I("cls", 1, n[1]); I("pos", n[0] + CLS, n[1]), NOTHING,
     k->tokens_forward(a[0], a[1], CLS ? a[2] : NULL, n[3] % 2 ? a[3] : NULL, n[0], n[1]))
CASE(tokens_backward,
     O("dembed", n[0], n[1]); A("dcls", 1, n[1]); A("dpos", n[0] + CLS, n[1]); I("dx", n[0] + CLS, n[1]), NOTHING,
     k->tokens_backward(a[0], CLS ? a[1] : NULL, n[3] % 2 ? a[2] : NULL, a[3], n[0], n[1]))

/* 03: rows and columns; then T, Dh, and a stride above Dh as inside of a model */
CASE(softmax_forward, O("p", n[0], n[1]); I("s", n[0], n[1]), NOTHING,
     k->softmax_forward(a[0], a[1], n[0], n[1]))
CASE(softmax_in_place, add("p (in place)", CHANGE, n[0], n[1], 0), NOTHING,
     k->softmax_forward(a[0], a[0], n[0], n[1]))
CASE(softmax_masked, add("p (two scores masked)", OUT, n[0], n[1], 0); I("s", n[0], n[1]),
     for (int i = 0; i < n[0] * n[1]; i++) if (i % n[1] < 2 && n[1] > 2) a[1][i] = -INFINITY,
     k->softmax_forward(a[0], a[1], n[0], n[1]))
CASE(softmax_backward, O("ds", n[0], n[1]); I("dp", n[0], n[1]); I("p", n[0], n[1]),
     SOFTMAX(a[2], n[0], n[1]), k->softmax_backward(a[0], a[1], a[2], n[0], n[1]))
#define STRIDE (n[1] + n[2])
#define R (n[0] - (n[0] > 1 && n[3] % 2 == 0)) /* all queries, or all but one */
CASE(attention_scores_forward, O("p", R, n[0]); add("q", IN, R, n[1], STRIDE); add("k", IN, n[0], n[1], STRIDE);
     I("mask", R, n[0]),
     for (int i = 0; i < R * n[0]; i++) a[3][i] = i % (n[0] + 1) && a[3][i] < 0 ? -INFINITY : 0,
     k->attention_scores_forward(a[0], a[1], a[2], n[2] % 2 ? a[3] : NULL, R, n[0], n[1], STRIDE))
CASE(attention_scores_backward, add("dq", OUT, R, n[1], STRIDE); add("dk", OUT, n[0], n[1], STRIDE);
     add("dp", SCRATCH, R, n[0], 0); I("p", R, n[0]); add("q", IN, R, n[1], STRIDE);
     add("k", IN, n[0], n[1], STRIDE), SOFTMAX(a[3], R, n[0]),
     k->attention_scores_backward(a[0], a[1], a[2], a[3], a[4], a[5], R, n[0], n[1], STRIDE))
CASE(attention_values_forward, add("o", OUT, R, n[1], n[1] + n[3]); I("p", R, n[0]);
     add("v", IN, n[0], n[1], STRIDE), SOFTMAX(a[1], R, n[0]),
     k->attention_values_forward(a[0], a[1], a[2], R, n[0], n[1], STRIDE, n[1] + n[3]))
CASE(attention_values_backward, O("dp", R, n[0]); add("dv", OUT, n[0], n[1], STRIDE);
     add("d_o", IN, R, n[1], n[1] + n[3]); I("p", R, n[0]); add("v", IN, n[0], n[1], STRIDE),
     SOFTMAX(a[3], R, n[0]),
     k->attention_values_backward(a[0], a[1], a[2], a[3], a[4], R, n[0], n[1], STRIDE, n[1] + n[3]))

/* 05: rows, D; or n numbers */
#define N (n[0] * n[1])
CASE(layernorm_forward, O("y", n[0], n[1]); O("mean", 1, n[0]); O("rstd", 1, n[0]); I("x", n[0], n[1]);
     I("w", 1, n[1]); I("b", 1, n[1]), NOTHING,
     k->layernorm_forward(a[0], a[1], a[2], a[3], a[4], a[5], n[0], n[1], 1e-3f))
CASE(layernorm_backward, A("dx", n[0], n[1]); A("dw", 1, n[1]); A("db", 1, n[1]); I("dy", n[0], n[1]);
     I("x", n[0], n[1]); I("w", 1, n[1]); I("mean", 1, n[0]); I("rstd", 1, n[0]); add("y", SCRATCH, n[0], n[1], 0),
     vit_naive.layernorm_forward(a[8], a[6], a[7], a[4], a[5], a[5], n[0], n[1], 1e-3f),
     k->layernorm_backward(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], n[0], n[1]))
CASE(gelu_forward, O("y", 1, N); I("x", 1, N), NOTHING, k->gelu_forward(a[0], a[1], N))
CASE(gelu_backward, O("dx", 1, N); I("dy", 1, N); I("x", 1, N), NOTHING,
     k->gelu_backward(a[0], a[1], a[2], N))
CASE(gelu_tanh_forward, O("y", 1, N); I("x", 1, N), NOTHING, k->gelu_tanh_forward(a[0], a[1], N))
CASE(gelu_tanh_backward, O("dx", 1, N); I("dy", 1, N); I("x", 1, N), NOTHING,
     k->gelu_tanh_backward(a[0], a[1], a[2], N))
CASE(gelu_quick_forward, O("y", 1, N); I("x", 1, N), NOTHING, k->gelu_quick_forward(a[0], a[1], N))
CASE(gelu_quick_backward, O("dx", 1, N); I("dy", 1, N); I("x", 1, N), NOTHING,
     k->gelu_quick_backward(a[0], a[1], a[2], N))
CASE(uniform, O("x", 1, N), NOTHING, k->uniform(a[0], N, 7, 3, (uint32_t)n[2]))
CASE(dropout, O("y", 1, N); I("x", 1, N), NOTHING,
     k->dropout(a[0], a[1], N, 0.25f, 7, 3, (uint32_t)n[2]))
CASE(residual_forward, O("y", 1, N); I("x", 1, N); I("f", 1, N), NOTHING,
     k->residual_forward(a[0], a[1], a[2], 1.25f, N))
CASE(scale, O("y", 1, N); I("x", 1, N), NOTHING, k->scale(a[0], a[1], 0.75f, N))

/* 06 and 07: N, D; rows, K. Losses are in double. */
CASE(mean_forward, O("y", 1, n[1]); I("x", n[0], n[1]), NOTHING, k->mean_forward(a[0], a[1], n[0], n[1]))
CASE(mean_backward, O("dx", n[0], n[1]); I("dy", 1, n[1]), NOTHING,
     k->mean_backward(a[0], a[1], n[0], n[1]))
CASE(crossentropy_forward, O("losses", 1, n[0]); O("p", n[0], n[1]); I("logits", n[0], n[1]);
     I("targets", n[0], n[1]), SOFTMAX(a[3], n[0], n[1]), double losses[64];
     for (int r = 0; r < n[0]; r++) losses[r] = NAN;
     k->crossentropy_forward(losses, a[1], a[2], a[3], n[0], n[1]);
     for (int r = 0; r < n[0]; r++) a[0][r] = (float)losses[r])
CASE(crossentropy_backward, O("dlogits", n[0], n[1]); I("p", n[0], n[1]); I("targets", n[0], n[1]),
     SOFTMAX(a[1], n[0], n[1]); SOFTMAX(a[2], n[0], n[1]),
     k->crossentropy_backward(a[0], a[1], a[2], 0.5f, n[0], n[1]))
CASE(sum_squares, O("sum", 1, 1); I("x", 1, N), NOTHING, double sum = NAN; k->sum_squares(&sum, a[1], N);
     a[0][0] = (float)sum)

/* 08: n numbers, in place; momentum, weight decay and step by the other sizes. A
   running average of squares is never below 0. */
#define W(name, rows) add(name, CHANGE, 1, rows, 0)
#define ADAM(apart)                                                             \
  vit_adam_constants all = {0.25f, 0.75f, 0.875f, 0.01f, (float)n[2] / 8,       \
      (float)(1 - pow(0.75, n[3])), (float)(1 - pow(0.875, n[3])), apart};      \
  k->adam_step(a[0], a[1], a[2], a[3], N, &all)
#define SQUARES for (int i = 0; i < N; i++) a[2][i] = fabsf(a[2][i])
CASE(sgd_step, W("w", N); W("m", N); I("g", 1, N), NOTHING,
     k->sgd_step(a[0], a[1], a[2], N, 0.25f, (float)n[2] / 4, (float)n[3] / 8))
CASE(adam_step, W("w (Adam)", N); W("m (Adam)", N); W("v (Adam)", N); I("g", 1, N), SQUARES, ADAM(0))
CASE(adamw_step, W("w (AdamW)", N); W("m (AdamW)", N); W("v (AdamW)", N); I("g", 1, N), SQUARES, ADAM(1))

/* 11: in, rows; `out` is in panels, or any, from first = n[3] on. A row of bytes has
   floats in front, and is as many floats as ROW_FLOATS; its numbers are compared one by one. */
#define ROW_FLOATS ((int)(vit_int8_size(1, n[1]) / sizeof(float)))
#define ALL_OUT (n[0] + n[3])
#define OUT_ROWS ((ALL_OUT + vit_panel() - 1) / vit_panel() * vit_panel())
static void numbers_of_rows(float *to, const float *row, int rows, int in, int floats) {
  for (int r = 0; r < rows; r++, row += floats) {
    *to++ = row[0], *to++ = row[1];
    for (int i = 0; i < in; i++) *to++ = ((const uint8_t *)(row + 2))[i];
  }
}
CASE(linear_packed_forward, O("y", n[0], n[2] * vit_panel()); I("x", n[0], n[1]);
     I("packed", n[2] * n[1], vit_panel()); I("b", 1, n[2] * vit_panel());
     add("w", SCRATCH, n[2] * vit_panel(), n[1], 0), vit_pack_linear(a[2], a[4], n[1], n[2] * vit_panel()),
     k->linear_packed_forward(a[0], a[1], a[2], n[3] % 2 ? a[3] : NULL, n[0], n[1], n[2] * vit_panel()))
CASE(quantize_rows, O("s, z and the bytes", n[0], n[1] + 2); I("x", n[0], n[1]); add("q", SCRATCH, n[0], ROW_FLOATS, 0),
     for (int i = 0; n[3] > 1 && i < n[0] * n[1]; i++) a[1][i] = (n[3] == 2 ? 1 : -1) * (0.5f + fabsf(a[1][i])),
     k->quantize_rows(a[2], a[1], n[0], n[1]); numbers_of_rows(a[0], a[2], n[0], n[1], ROW_FLOATS))
CASE(linear_int8_forward, O("y", n[2], n[0]); add("x", IN, n[2], ROW_FLOATS, 0); add("w", IN, OUT_ROWS, ROW_FLOATS, 0);
     I("b", 1, ALL_OUT); add("x in floats", SCRATCH, n[2], n[1], 0); add("w in floats", SCRATCH, ALL_OUT, n[1], 0),
     vit_naive.quantize_rows(a[1], a[4], n[2], n[1]); vit_quantize_linear(a[2], a[5], n[1], ALL_OUT),
     k->linear_int8_forward(a[0], a[1], a[2], n[2] % 2 ? a[3] : NULL, n[2], n[1], n[3], n[0]))

/* Which chapter's check covers what, and what the sizes are called. */
#define GRID "rows of patches", "columns of patches", "C", "PH"
#define ROWS "rows", "columns", NULL, NULL
#define HEAD "T", "Dh", "numbers between two rows", NULL
static const struct {
  int chapter;
  const char *kernel, *size[4];
  void (*run)(call *c, const int *n);
} cases[] = {
    {0, "scale", {ROWS}, case_scale},
    {0, "residual_forward", {ROWS}, case_residual_forward},
    {0, "sum_squares", {ROWS}, case_sum_squares},
    {0, "uniform", {ROWS}, case_uniform},
    {1, "patchify_forward", {GRID}, case_patchify_forward},
    {1, "patchify_backward", {GRID}, case_patchify_backward},
    {1, "linear_forward", {"rows", "in", "out", NULL}, case_linear_forward},
    {1, "linear_backward_input", {"rows", "in", "out", NULL}, case_linear_backward_input},
    {1, "linear_backward_weight", {"rows", "in", "out", "dy_stride - out"}, case_linear_backward_weight},
    {2, "tokens_forward", {"N", "D", NULL, NULL}, case_tokens_forward},
    {2, "tokens_backward", {"N", "D", NULL, NULL}, case_tokens_backward},
    {3, "softmax_forward", {ROWS}, case_softmax_forward},
    {3, "softmax_forward", {ROWS}, case_softmax_in_place},
    {3, "softmax_forward", {ROWS}, case_softmax_masked},
    {3, "softmax_backward", {ROWS}, case_softmax_backward},
    {3, "attention_scores_forward", {HEAD}, case_attention_scores_forward},
    {3, "attention_scores_backward", {HEAD}, case_attention_scores_backward},
    {3, "attention_values_forward", {HEAD}, case_attention_values_forward},
    {3, "attention_values_backward", {HEAD}, case_attention_values_backward},
    {5, "layernorm_forward", {"rows", "D", NULL, NULL}, case_layernorm_forward},
    {5, "layernorm_backward", {"rows", "D", NULL, NULL}, case_layernorm_backward},
    {5, "gelu_forward", {ROWS}, case_gelu_forward},
    {5, "gelu_backward", {ROWS}, case_gelu_backward},
    {5, "gelu_tanh_forward", {ROWS}, case_gelu_tanh_forward},
    {5, "gelu_tanh_backward", {ROWS}, case_gelu_tanh_backward},
    {5, "gelu_quick_forward", {ROWS}, case_gelu_quick_forward},
    {5, "gelu_quick_backward", {ROWS}, case_gelu_quick_backward},
    {5, "dropout", {ROWS}, case_dropout},
    {6, "mean_forward", {"N", "D", NULL, NULL}, case_mean_forward},
    {6, "mean_backward", {"N", "D", NULL, NULL}, case_mean_backward},
    {7, "crossentropy_forward", {"rows", "K", NULL, NULL}, case_crossentropy_forward},
    {7, "crossentropy_backward", {"rows", "K", NULL, NULL}, case_crossentropy_backward},
    {8, "sgd_step", {"rows", "columns", "4 momentum", "8 decay"}, case_sgd_step},
    {8, "adam_step", {"rows", "columns", "8 decay", "step"}, case_adam_step},
    {8, "adam_step", {"rows", "columns", "8 decay", "step"}, case_adamw_step},
    {8, "sum_squares", {ROWS}, case_sum_squares},
    {11, "linear_packed_forward", {"rows", "in", "panels of outputs", NULL}, case_linear_packed_forward},
    {11, "quantize_rows", {"rows", "in", NULL, NULL}, case_quantize_rows},
    {11, "linear_int8_forward", {"out", "in", "rows", "first"}, case_linear_int8_forward},
};
enum { CASES = sizeof cases / sizeof *cases };

/* From one number to more than a vector of any kind, odd sizes among them. */
static const int shapes[][4] = {{1, 1, 1, 1}, {2, 3, 1, 2}, {3, 5, 2, 1}, {5, 3, 3, 2}, {4, 8, 1, 3},
                                {7, 9, 3, 1}, {5, 17, 2, 4}, {17, 16, 1, 1}, {9, 33, 3, 2}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* ---- what goes wrong, in a sentence ------------------------------------------- */

static void with_sizes(char text[200], const char *const names[4], const int *n) {
  *text = '\0';
  for (int i = 0; i < 4 && names[i]; i++)
    snprintf(text + strlen(text), 200 - strlen(text), "%s%s %d", i ? ", " : "", names[i], n[i]);
}

/* The reader's code crashed, or does not end: only async-safe calls here. */
static void crashed(int number) {
  const char *text[6] = {"my_", current,
                         number == SIGALRM ? " does not come to an end" : " reads or writes where it has no array",
                         " (with ", sizes, ")\n"};
  for (int i = 0; i < 6; i++)
    if (write(1, text[i], strlen(text[i])) < 0) break;
  _exit(1);
}

static int wrong(const array *a, size_t i, double got, double want) {
  const int row = (int)(i / (size_t)a->stride), col = (int)(i % (size_t)a->stride);
  if (a->rows > 1) printf("row %d, column %d of %s", row, col, a->name);
  else printf("number %d of %s", col, a->name);
  if (got != got && want == want) printf(" is not a number%s", a->role == OUT ? ", or was never written" : "");
  else printf(" is %.4g", got);
  printf(", should be %.4g (my_%s with %s; counted from 0)\n", want, current, sizes);
  if (a->role == ADD && fabs(got + (double)a->start[i] - want) < 1e-4 * (1 + fabs(want)))
    printf("It was %.4g before the call: this gradient is added, +=.\n", (double)a->start[i]);
  return 0;
}

static int compare(const array *a) {
  double top = 0;
  for (size_t i = 0; i < a->n; i++)
    if (fabs((double)a->x[NAIVE][i]) > top) top = fabs((double)a->x[NAIVE][i]);
  for (size_t i = 0; i < a->n; i++) {
    const double got = (double)a->x[MINE][i], want = (double)a->x[NAIVE][i];
    if (a->role == SCRATCH || !memcmp(&a->x[MINE][i], &a->x[NAIVE][i], sizeof(float))) continue;
    if (a->role == IN) {
      printf("%s is an input, but my_%s wrote into it (with %s)\n", a->name, current, sizes);
      return 0;
    }
    if (i % (size_t)a->stride >= (size_t)a->cols) {
      printf("my_%s wrote between two rows of %s, whose rows are a stride of %d apart (with %s)\n", current, a->name,
             a->stride, sizes);
      return 0;
    }
    if (!(fabs(got - want) <= 1e-4 * fabs(want) + 2e-6 * (top > 1 ? top : 1))) return wrong(a, i, got, want);
  }
  for (size_t i = 0; i < a->guard.before; i++)
    if (a->guard.first[i] != TEST__PATTERN) {
      printf("my_%s wrote in front of %s (with %s)\n", current, a->name, sizes);
      return 0;
    }
  return 1;
}

/* One kernel on one shape; 1 when every number is right. */
static int try_shape(int which, const int *n, const vit_kernels *own) {
  static char text[200];
  call c = {NULL, DESCRIBE, {NULL}};
  int ok = 1;
  count = 0, size = n;
  cases[which].run(&c, n);
  with_sizes(text, cases[which].size, n);
  sizes = text;
  for (int i = 0; i < count; i++) {
    array *a = &arrays[i];
    const uint32_t unwritten = TEST__PATTERN;
    a->start = (float *)malloc(a->n * sizeof(float));
    a->x[NAIVE] = (float *)malloc(a->n * sizeof(float));
    if (!a->start || !a->x[NAIVE]) exit(1);
    test_random(a->start, a->n, 2, (uint64_t)(100 * which + i));
    for (size_t j = 0; a->role == OUT && j < a->n; j++) memcpy(a->start + j, &unwritten, sizeof unwritten);
    c.a[i] = a->start;
  }
  c.step = PREPARE;
  cases[which].run(&c, n);
  for (int table = NAIVE; table <= MINE; table++) {
    for (int i = 0; i < count; i++) {
      if (table == MINE) arrays[i].x[MINE] = test_guarded_copy(arrays[i].start, arrays[i].n, 0, &arrays[i].guard);
      else memcpy(arrays[i].x[NAIVE], arrays[i].start, arrays[i].n * sizeof(float));
      c.a[i] = arrays[i].x[table];
    }
    c.step = CALL;
    c.k = table == MINE ? own : &vit_naive;
    cases[which].run(&c, n);
  }
  for (int i = 0; i < count && ok; i++) ok = compare(&arrays[i]);
  for (int i = 0; i < count; i++) free(arrays[i].start), free(arrays[i].x[NAIVE]);
  return ok;
}

/* ---- chapter 04: where a number lies ------------------------------------------- */

#ifdef OWN_qkv_at
static int try_layout(void) {
  for (int H = 1; H <= 3; H++)
    for (int Dh = 1; Dh <= 4; Dh++)
      for (int t = 0; t < 3; t++)
        for (int which = 0; which < 3; which++)
          for (int h = 0; h < H; h++)
            for (int d = 0; d < Dh; d++) {
              const long got = (long)my_qkv_at(t, which, h, d, H, Dh);
              const long want = ((t * 3L + which) * H + h) * Dh + d;
              if (got == want) continue;
              printf("number %d of head %d of token %d's %c is at %ld, should be at %ld (my_qkv_at with H %d, Dh %d; "
                     "counted from 0)\n", d, h, t, "QKV"[which], got, want, H, Dh);
              return 0;
            }
  printf("  right  my_qkv_at, for 1 to 3 heads of 1 to 4 numbers\n");
  return 1;
}
#endif

/* ---- chapter 08: the kernels train ---------------------------------------------- */

/* The loss of 16 random images after 20 steps of training on them. */
static double trained(const vit_kernels *k, vit_algorithm algorithm) {
  enum { B = 16, STEPS = 20 };
  vit_config config = vit_config_tutorial();
  vit_optimizer_config o = vit_optimizer_defaults(algorithm);
  static float images[B * 32 * 32];
  int labels[B];
  double loss = 0;
  vit_model m;
  vit_state s;
  vit_optimizer optimizer;
  config.softmax_before_loss = 0;
  o.weight_decay = 0.01f, o.clip_norm = 1;
  test_random(images, B * 32 * 32, 1, 1);
  for (int i = 0; i < B; i++) labels[i] = i % 10;
  if (vit_model_create(&m, &config, 1) || vit_state_create(&s, &m, B, VIT_FOR_TRAINING, 1) ||
      vit_optimizer_create(&optimizer, &m, &o)) {
    printf("%s\n", vit_error());
    exit(1);
  }
  m.kernels = k, m.threads = 1;
  for (int step = 0; step <= STEPS; step++) {
    vit_zero_gradients(&s);
    if (vit_forward(&m, &s, images, B) || vit_loss(&m, &s, labels, 0, &loss)) return NAN;
    if (step == STEPS) break;
    if (vit_backward(&m, &s, 1) || vit_optimizer_step(&optimizer, &m, &s, algorithm == VIT_SGD ? 0.1f : 0.01f))
      return NAN;
  }
  vit_optimizer_free(&optimizer);
  vit_state_free(&s);
  vit_model_free(&m);
  return loss;
}

static int try_training(const vit_kernels *own) {
  static const char *const names[] = {"SGD", "Adam", "AdamW"};
  int ok = 1;
  for (int i = 0; i < 3; i++) {
    const double want = trained(&vit_naive, (vit_algorithm)i), got = trained(own, (vit_algorithm)i);
    const int right = fabs(got - want) < 0.01;
    printf("  %s  20 steps of %s on the tutorial model: loss %.4f, should be %.4f\n", right ? "right" : "wrong",
           names[i], got, want);
    ok &= right;
  }
  return ok;
}

/* ---- chapter 11: a packed and a quantized model ---------------------------------- */

/* The gradients need none of its kernels; a model that answers does. */
static int try_inference(const vit_kernels *own) {
  enum { PIXELS = 28 * 28, K = 10 };
  static float image[PIXELS], logits[2][K];
  vit_config c = vit_config_mnist();
  double apart[2], top = 0;
  c.patch_height = c.patch_width = 7;
  test_random(image, PIXELS, 1, 5);
  for (int bytes = 0; bytes < 2; bytes++) {
    for (int table = NAIVE; table <= MINE; table++) {
      vit_model m;
      vit_state s;
      int best;
      if (vit_model_create(&m, &c, 1) || (bytes ? vit_model_quantize(&m) : vit_model_pack(&m)) ||
          vit_state_create(&s, &m, 1, VIT_FOR_INFERENCE, 1))
        return printf("%s\n", vit_error()), 0;
      m.threads = 1;
      m.kernels = table == MINE ? own : &vit_naive;
      if (vit_predict(&m, &s, image, 1, &best, NULL)) return printf("%s\n", vit_error()), 0;
      memcpy(logits[table], s.logits, sizeof logits[table]);
      vit_state_free(&s);
      vit_model_free(&m);
    }
    for (int i = 0; i < K; i++) top = fmax(top, fabs((double)logits[NAIVE][i]));
    apart[bytes] = vit_max_difference(logits[NAIVE], logits[MINE], K);
  }
  const int ok = apart[0] <= 1e-3 * top && apart[1] <= 1e-2 * top;
  printf("  %s  the MNIST model with it: its logits are %.1g apart packed, and %.1g as bytes\n",
         ok ? "right" : "wrong", apart[0], apart[1]);
  return ok;
}

/* ---- chapters 09, 12 and 13: functions that are no kernels ---------------------------- */

#ifdef OWN_average
/* A run of 120 steps, the first of which weigh the new weights more. */
static int try_average(void) {
  enum { IMAGES = 24, SIZE = 32 * 32 };
  static uint8_t pixels[IMAGES * SIZE], labels[IMAGES];
  static float mine[10000], start[10000];
  vit_dataset d;
  vit_config c = vit_config_tutorial();
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  vit_model m;
  vit_trainer t;
  vit_rng rng = vit_rng_create(1, 0);
  int n, step = 0, ok = 1;
  memset(&d, 0, sizeof d);
  d.channels = 1, d.height = d.width = 32, d.classes = 10, d.count = IMAGES;
  d.pixels = pixels, d.labels = labels, d.std[0] = d.std[1] = d.std[2] = 1;
  for (int i = 0; i < IMAGES * SIZE; i++) pixels[i] = (uint8_t)vit_random_below(&rng, 256);
  for (int i = 0; i < IMAGES; i++) labels[i] = (uint8_t)(i % 10);
  f.batch = 8, f.epochs = 40, f.ema = 0.5f;
  if (vit_model_create(&m, &c, 1) || vit_trainer_create(&t, &m, &f, &d, NULL, &h)) return printf("%s\n", vit_error()), 0;
  n = (int)m.params.count;
  while (ok && !t.done) {
    memcpy(start, t.average, (size_t)n * sizeof *start);
    if (vit_trainer_step(&t)) return printf("%s\n", vit_error()), 0;
    if (t.optimizer.step == step) continue;
    step = t.optimizer.step;
    memcpy(mine, start, sizeof mine);
    my_average(mine, m.params.block, n, step, f.ema);
    for (int i = 0; ok && i < n; i++) {
      const double got = (double)mine[i], want = (double)t.average[i];
      ok = fabs(got - want) <= 1e-6 * (1 + fabs(want));
      if (!ok)
        printf("number %d of average is %.6g, should be %.6g (my_average after step %d, decay %g, when it was %.6g and "
               "the weight is %.6g; counted from 0)\n", i, got, want, step, (double)f.ema, (double)start[i],
               (double)m.params.block[i]);
    }
  }
  if (ok) printf("  right  my_average, for %d steps of a training\n", step);
  return ok;
}
#endif

#ifdef OWN_resize_row
static int try_resize(void) {
  static const int sizes_of[][2] = {{1, 1}, {2, 2}, {4, 2}, {6, 3}, {12, 3}, {7, 3}, {10, 4}, {100, 32}, {3, 5}, {8, 1}};
  enum { SIZES = sizeof sizes_of / sizeof *sizes_of };
  static char text[40];
  vit_rng rng = vit_rng_create(1, 0);
  sizes = text;
  for (int k = 0; k < SIZES; k++) {
    const int n = sizes_of[k][0], to = sizes_of[k][1];
    uint8_t in[128], mine[128], want[128];
    snprintf(text, sizeof text, "from %d to %d pixels", n, to);
    memset(mine, 0, sizeof mine);
    for (int i = 0; i < n; i++) in[i] = (uint8_t)vit_random_below(&rng, 256);
    if (vit_resize(want, in, 1, 1, n, 1, to, VIT_BILINEAR)) return printf("%s\n", vit_error()), 0;
    my_resize_row(mine, in, n, to);
    for (int i = 0; i < to; i++)
      if (abs(mine[i] - want[i]) > 1) {
        printf("pixel %d of out is %d, should be %d (my_resize_row %s; counted from 0)\n", i, mine[i], want[i], text);
        return 0;
      }
  }
  printf("  right  my_resize_row, for %d sizes, to one grey level\n", SIZES);
  return 1;
}
#endif

#ifdef OWN_half
/* All numbers of 16 bits, by the definition of binary16. */
static int try_half(void) {
  static char text[40];
  sizes = text;
  for (unsigned h = 0; h < 65536; h++) {
    const int e = h >> 10 & 31, m = h & 1023;
    const double size = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    const double want = (h >> 15 ? -1 : 1) * (e < 31 ? size : m ? (double)NAN : (double)INFINITY);
    double got;
    snprintf(text, sizeof text, "0x%04x", h);
    got = (double)my_half(h);
    if (got == want || (want != want && !(fabs(got) < INFINITY))) continue;
    printf("0x%04x is %.9g, should be %.9g (my_half; its exponent is %d, its mantissa %d)\n", h, got, want, e, m);
    return 0;
  }
  printf("  right  my_half, for all 65536 numbers\n");
  return 1;
}
#endif

#ifdef OWN_positions_row
static int try_positions(void) {
  static const int sizes_of[][2] = {{1, 1}, {2, 2}, {4, 6}, {4, 8}, {3, 5}, {1, 4}, {14, 24}, {14, 7}, {9, 4}, {37, 16}};
  enum { SIZES = sizeof sizes_of / sizeof *sizes_of };
  static char text[50];
  sizes = text;
  for (int k = 0; k < SIZES; k++) {
    const int n = sizes_of[k][0], to = sizes_of[k][1];
    float in[64], mine[64], want[64];
    snprintf(text, sizeof text, "from %d to %d positions", n, to);
    memset(mine, 0, sizeof mine);
    test_random(in, (size_t)n, 1, (uint64_t)k);
    if (vit_resample_positions(want, 1, to, in, 1, n, 1)) return printf("%s\n", vit_error()), 0;
    my_positions_row(mine, in, n, to);
    for (int i = 0; i < to; i++)
      if (!(fabs((double)mine[i] - (double)want[i]) <= 1e-4)) {
        printf("number %d of out is %.5f, should be %.5f (my_positions_row %s; counted from 0)\n", i, (double)mine[i],
               (double)want[i], text);
        return 0;
      }
  }
  printf("  right  my_positions_row, for %d sizes\n", SIZES);
  return 1;
}
#endif

/* ---- chapter 10: methods, on small models with wild weights ------------------------ */

#if CHAPTER == 10
typedef vit_result (*method)(const vit_model *m, const vit_state *s, int image, int token, float *map);

/* Both images, three tokens, of models of 1 to 4 blocks that pool either way. */
static int try_method(const char *name, method mine, method right) {
  enum { B = 2, K = 10, MOST_TOKENS = 5 };
  static float images[B * 32 * 32], ask[B * K];
  static char text[200];
  current = name, sizes = text;
  ask[3] = ask[K + 5] = 1;
  test_random(images, B * 32 * 32, 1, 1);
  for (int depth = 1; depth <= 4; depth++) {
    vit_config c = vit_config_tutorial();
    vit_model m;
    vit_state s;
    c.depth = depth, c.softmax_before_loss = 0;
    c.pool = depth % 2 ? VIT_POOL_CLS : VIT_POOL_MEAN;
    if (vit_model_create(&m, &c, 1) ||
        vit_state_create(&s, &m, B, VIT_FOR_TRAINING | VIT_KEEP_ATTENTION, 1))
      return printf("%s\n", vit_error()), 0;
    test_random(m.params.block, m.params.count, 1, (uint64_t)depth);
    m.kernels = &vit_naive, m.threads = 1, s.dropout = 0;
    if (vit_forward(&m, &s, images, B) || vit_backward_logits(&m, &s, ask, 1)) return printf("%s\n", vit_error()), 0;
    for (int i = 0; i < 3 * B; i++) {
      const int T = vit_config_tokens(&c), token = i / B == 0 ? VIT_POOLED : i / B == 1 ? 0 : T - 1;
      float want[MOST_TOKENS], none[MOST_TOKENS], *got;
      test_guard guard;
      for (int t = 0; t < T; t++) none[t] = NAN;
      got = test_guarded_copy(none, (size_t)T, 0, &guard);
      snprintf(text, sizeof text, "%d block%s, %s pooled, image %d, token %s", depth, depth > 1 ? "s" : "",
               c.pool == VIT_POOL_CLS ? "class token" : "patches", i % B,
               i / B == 0 ? "VIT_POOLED" : i / B == 1 ? "0" : "4, the last");
      if (right(&m, &s, i % B, token, want)) return printf("%s\n", vit_error()), 0;
      if (mine(&m, &s, i % B, token, got)) return printf("my_%s says that it failed (with %s)\n", name, text), 0;
      for (int t = 0; t < T; t++) {
        const double off = fabs((double)got[t] - (double)want[t]);
        if (off <= 1e-5 * fabs((double)want[t]) + 1e-6) continue;
        if (isnan(got[t])) printf("number %d of map was never written, or is not a number", t);
        else printf("number %d of map is %.4g", t, (double)got[t]);
        printf(", should be %.4g (my_%s with %s; counted from 0)\n", (double)want[t], name, text);
        return 0;
      }
    }
    vit_state_free(&s);
    vit_model_free(&m);
  }
  printf("  right  my_%s, for models of 1 to 4 blocks\n", name);
  return 1;
}

/* By another way: the entries of X X^T and Y Y^T, as two long vectors, and the cosine. */
static int try_cka(double (*mine)(const float *x, const float *y, int rows, int a, int b)) {
  static float x[20 * 7], y[20 * 7];
  static char text[60];
  current = "linear_cka", sizes = text;
  for (int b = 1; b <= 7; b++) {
    const int rows = 5 + 2 * b, a = 8 - b;
    double mx[7], my[7], xy = 0, xx = 0, yy = 0, got;
    snprintf(text, sizeof text, "%d rows of %d and of %d numbers", rows, a, b);
    test_random(x, (size_t)(rows * a), 2, (uint64_t)b), test_random(y, (size_t)(rows * b), 2, (uint64_t)(20 + b));
    for (int r = 0; r < rows; r++) /* half of y's first column is x's */
      y[r * b] += x[r * a] + 3;
    for (int j = 0; j < 7; j++) {
      mx[j] = my[j] = 0;
      for (int r = 0; r < rows; r++)
        mx[j] += j < a ? (double)x[r * a + j] / rows : 0, my[j] += j < b ? (double)y[r * b + j] / rows : 0;
    }
    for (int r = 0; r < rows; r++)
      for (int q = 0; q < rows; q++) {
        double u = 0, v = 0;
        for (int j = 0; j < a; j++) u += ((double)x[r * a + j] - mx[j]) * ((double)x[q * a + j] - mx[j]);
        for (int j = 0; j < b; j++) v += ((double)y[r * b + j] - my[j]) * ((double)y[q * b + j] - my[j]);
        xy += u * v, xx += u * u, yy += v * v;
      }
    got = mine(x, y, rows, a, b);
    if (fabs(got - xy / sqrt(xx * yy)) <= 1e-5) continue;
    printf("my_linear_cka is %.4g, should be %.4g (with %s)\n", got, xy / sqrt(xx * yy), text);
    return 0;
  }
  printf("  right  my_linear_cka, for 7 sizes\n");
  return 1;
}

static int try_methods(void) {
  int ok = 1;
#ifdef OWN_attention_rollout
  ok = ok && try_method("attention_rollout", my_attention_rollout, vit_attention_rollout);
#endif
#ifdef OWN_attention_relevance
  ok = ok && try_method("attention_relevance", my_attention_relevance, vit_attention_relevance);
#endif
#ifdef OWN_linear_cka
  ok = ok && try_cka(my_linear_cka);
#endif
  return ok;
}
#endif

/* ---- all of them ---------------------------------------------------------------- */

int main(void) {
  vit_kernels own = vit_naive;
  vit_gradient_report report;
  vit_config c = vit_config_tutorial();
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
  int found = 0;
  own.name = "yours";
#define SET(f) own.f = my_##f;
  OWN(SET)
  for (int i = 0; i < 6; i++) signal(signals[i], crashed);
  alarm(60);
#ifdef OWN_qkv_at
  current = "qkv_at";
  return CHAPTER == 4 && try_layout() ? 0 : 1;
#endif
#ifdef OWN_average
  current = "average", sizes = "the tutorial model";
  return try_average() ? 0 : 1;
#endif
#ifdef OWN_resize_row
  current = "resize_row";
  return try_resize() ? 0 : 1;
#endif
#ifdef OWN_half
  current = "half";
  if (!try_half()) return 1;
#endif
#ifdef OWN_positions_row
  current = "positions_row";
  if (!try_positions()) return 1;
#endif
  if (CHAPTER == 13) return 0;
#if CHAPTER == 10
  return try_methods() ? 0 : 1;
#endif
#define IS_MINE(f) mine |= !strcmp(#f, cases[i].kernel);
  for (int i = 0; i < CASES; i++) {
    const char *way;
    int mine = 0;
    OWN(IS_MINE)
    if (!mine || cases[i].chapter != CHAPTER) continue;
    current = cases[i].kernel;
    for (int j = 0; j < SHAPES; j++)
      if (!try_shape(i, shapes[j], &own)) return 1;
    way = strstr(arrays[0].name, " ("); /* "p (in place)" */
    printf("  right  my_%s%s, for %d sizes\n", current, way ? way : "", SHAPES);
    found++;
  }
  if (!found) return 2;
  sizes = "the MNIST model";
  if (CHAPTER == 11) return try_inference(&own) ? 0 : 1;
  sizes = "the tutorial model";
  if (CHAPTER == 8) return try_training(&own) ? 0 : 1;
  c.softmax_before_loss = 0;
  if (vit_gradient_check(&c, &own, 2, 1, &report)) return printf("%s\n", vit_error()), 1;
  printf("  %s  the gradients of the tutorial model with it: error %.4f, below 0.01 is right\n",
         report.worst < 0.01 ? "right" : "wrong", report.worst);
  return report.worst < 0.01 ? 0 : 1;
}
