// A whole model: 5,689 numbers in a table of tensors, and one forward pass that knows nothing yet.
//
// A config says how large everything is. From it follow the tensors, their number, the memory of
// training, and what a forward pass computes. Read beside it: chapter 06 of vit.h.
#include "common.h"

enum { SIZE = 32, PIXELS = SIZE * SIZE };

/* ---- [1] ---------------------------------------------------------------- */

static void count_parameters(void) {
  vit_config c = vit_config_tutorial();
  vit_tensor t;
  int sum = 0, block = 0;
  nb_cell("Every parameter of the tutorial model, tensor by tensor");
  NB_RUN(nb_try(vit_config_resolve(&c)));
  nb_code("for (int i = 0; vit_tensor_at(&c, i, &t); i++) ...");
  printf("  %s%-30s %-16s %10s   %s%s\n", nb_dim(), "tensor", "shape", "parameters",
         "decayed by AdamW", nb_plain());
  for (int i = 0; vit_tensor_at(&c, i, &t); i++) {
    char shape[48] = "";
    sum += (int)t.count;
    block += t.layer == 0 ? (int)t.count : 0;
    if (t.layer > 0) continue; /* like block 0 */
    for (int d = 0; d < t.dims; d++)
      snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%d", d ? " x " : "",
               t.shape[d]);
    if (!strcmp(t.name, "head.weight"))
      printf("  %-30s %-16s %10d\n", "blocks.1.*, blocks.2.*", "the same again", 2 * block);
    printf("  %-30s %-16s %10d%s\n", t.name, shape, (int)t.count,
           t.decay ? "   yes" : "");
  }
  printf("  %-30s %-16s %s%10d%s\n", "sum", "", nb_bold(), sum, nb_plain());
  printf("  vit_parameter_count(&c) says   %26d\n", (int)vit_parameter_count(&c));
}

/* ---- [2] ---------------------------------------------------------------- */

/* Megabytes of one step of training: weights, gradients, moments, activations. */
enum { KINDS = 4 };
static const char *const kinds[KINDS] = {"weights", "gradients", "Adam's moments", "activations"};

static void training_memory(const vit_config *c, int B, double mb[KINDS]) {
  vit_memory m;
  nb_try(vit_memory_plan(c, B, &m));
  mb[0] = (double)(m.parameters + m.constants) / 1e6;
  mb[1] = (double)m.gradients / 1e6;
  mb[2] = (double)m.moments / 1e6;
  mb[3] = (double)m.training / 1e6;
}

static void compare_presets(void) {
  vit_plot p;
  nb_cell("The presets: how large, and how much memory, before anything is allocated");
  nb_try(vit_plot_begin(&p, nb_out, "memory", 760, 480));
  nb_say("In MB: the weights; training with batches of B images; one image, beside the weights.");
  printf("  %s%-11s%-10s%-6s%3s%5s%3s%3s%10s%8s%4s%8s%6s%s\n", nb_dim(), "preset", "image", "patch",
         "T", "D", "L", "H", "numbers", "weights", "B", "train", "one", nb_plain());
  for (int i = 0; vit_preset_at(i); i++) {
    vit_config c = vit_preset_at(i)->make();
    vit_memory one;
    char image[16], patch[16];
    double mb[KINDS], sum = 0;
    int B = c.image_height > 32 ? 8 : 128;
    training_memory(&c, B, mb);
    for (int k = 0; k < KINDS; k++) sum += mb[k];
    nb_try(vit_memory_plan(&c, 1, &one));
    snprintf(image, sizeof image, "%dx%dx%d", c.channels, c.image_height, c.image_width);
    snprintf(patch, sizeof patch, "%dx%d", c.patch_height, c.patch_width);
    nb_try(vit_config_resolve(&c));
    printf("  %-11s%-10s%-5s%4d%5d%3d%3d%10.0f%8.1f%4d%8.1f%6.2f\n", vit_preset_at(i)->name, image,
           patch, vit_config_tokens(&c), c.width, c.depth, c.heads, (double)vit_parameter_count(&c),
           (double)one.parameters / 1e6, B, sum, (double)(one.constants + one.inference) / 1e6);
    fprintf(p.data, "\"%s\\nbatch %d\\n%.*f MB\"", vit_preset_at(i)->name, B, sum < 10, sum);
    for (int k = 0; k < KINDS; k++) fprintf(p.data, " %.3f", 100 * mb[k] / sum);
    fprintf(p.data, "\n");
  }
  fprintf(p.script,
          "set title \"What fills the memory of a training step? In small models the activations,\\n"
          "in large ones also the weights and what is kept for each\"\n"
          "set ylabel 'part of the memory (%%)'\nset yrange [0:100]\nset xtics noenhanced scale 0\n"
          "set style data histograms\nset style histogram rowstacked\nset bmargin 8\n"
          "set style fill solid border lc rgb '#ffffff'\nset boxwidth 0.7\n"
          "set key outside bottom center horizontal reverse Left width 1\nset xtics font ',10'\n"
          "plot 'memory.dat' using 2:xtic(1) lt 1 title '%s', '' using 3 lt 6 fs pattern 4 title '%s', \\\n"
          "     '' using 4 lt 3 fs pattern 5 title \"%s\", '' using 5 lt 5 title '%s'\n",
          kinds[0], kinds[1], kinds[2], kinds[3]);
  nb_say("Training holds the weights, as many gradients, Adam's two moments, and the activations of "
         "a batch of B; a forward pass alone needs the weights and the last column. Fixed positions "
         "and a local mask are in both.");
  nb_figure(vit_plot_end(&p), "memory");
}

/* ---- [3] ---------------------------------------------------------------- */

static void change_a_field(void) {
  static const char *const changes[][2] = {
      {"depth", "6"},     {"width", "18"},    {"patch_height", "8"}, {"patch_width", "8"},
      {"positions", "2"}, {"qkv_bias", "0"},  {"final_norm", "1"},   {"mlp_width", "18"}};
  vit_config start = vit_config_tutorial();
  nb_cell("Change one field of the config: what does it cost?");
  nb_try(vit_config_resolve(&start));
  printf("  %sfield           numbers  change  what it is%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 8; i++) {
    vit_config c = vit_config_tutorial();
    const char *name, *about = "";
    double value;
    nb_try(vit_config_set(&c, changes[i][0], changes[i][1]));
    nb_try(vit_config_resolve(&c));
    for (int f = 0; vit_config_field(&c, f, &name, &about, &value); f++)
      if (!strcmp(name, changes[i][0])) break;
    printf("  %-12s = %-2s %6d %+7d  %s%s%s\n", changes[i][0], changes[i][1],
           (int)vit_parameter_count(&c),
           (int)vit_parameter_count(&c) - (int)vit_parameter_count(&start), nb_dim(), about,
           nb_plain());
  }
}

/* ---- [4] ---------------------------------------------------------------- */

static void forward(const vit_dataset *d) {
  static const char *const digits[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  float *images = nb_floats(10 * PIXELS);
  int classes[10];
  double loss, accuracy;
  nb_cell("One forward pass: ten digits in, ten numbers for each of them out");
  for (int k = 0; k < 10; k++) nb_digit(images + k * PIXELS, d, k);
  NB_RUN(nb_try(vit_model_create(&m, &c, 1)));
  NB_RUN(nb_try(vit_state_create(&s, &m, 10, VIT_FOR_INFERENCE, 0)));
  NB_RUN(nb_try(vit_predict(&m, &s, images, 10, classes, NULL)));
  printf("  the digit 3:   logit   probability = softmax of the logits\n");
  for (int k = 0; k < 10; k++) {
    printf("  %sclass %d%s      %7.3f   %5.3f  ", nb_dim(), k, nb_plain(), (double)s.logits[30 + k],
           (double)s.probs[30 + k]);
    nb_bar((double)s.probs[30 + k], 32);
    printf("%s\n", classes[3] == k ? "  <- the answer" : "");
  }
  printf("\n  all ten digits: one row for each, its probabilities for class 0 to 9\n");
  nb_table(s.probs, 10, 10, " %5.2f", digits, digits, 1);
  nb_say("The rows are nearly alike: before training the model answers without looking.");

  nb_cell("Untrained means chance");
  NB_RUN(nb_try(vit_evaluate(&m, d, &loss, &accuracy, NULL, NULL, NULL)));
  printf("  accuracy on %d images  %5.1f %%   (guessing: 10 %%)\n", d->count, 100 * accuracy);
  printf("  loss                      %6.3f    (guessing: ln 10 = %.3f)\n", loss, log(10.0));
  nb_say("This preset's loss takes a softmax of these probabilities once more (see 07), which "
         "keeps it near ln 10.");
  vit_state_free(&s);
  vit_model_free(&m);
  free(images);
}

/* ---- [6] ---------------------------------------------------------------- */

/* Which part of the model does a tensor belong to? */
static int part_of(const char *name) {
  if (strstr(name, "norm")) return 3;
  if (strstr(name, "attn")) return 1;
  if (strstr(name, "mlp")) return 2;
  if (strstr(name, "head")) return 4;
  return 0;
}

static void draw(void) {
  static const char *const looks[] = {"5", "1", "6 fs pattern 4", "7", "3 fs pattern 5"}; /* all differ in grey, too */
  static const char *const parts[] = {"patches, tokens", "attention", "MLP", "norms", "head"};
  vit_plot p;
  nb_cell("Where do the parameters sit?");
  nb_try(vit_plot_begin(&p, nb_out, "parameters", 760, 460));
  printf("  %s%-12s", nb_dim(), "");
  for (int k = 0; k < 5; k++) printf(" %*s", k ? 11 : 17, parts[k]);
  printf("%s\n", nb_plain());
  for (int i = 0; vit_preset_at(i); i++) {
    vit_config c = vit_preset_at(i)->make();
    double part[5] = {0, 0, 0, 0, 0};
    vit_tensor t;
    nb_try(vit_config_resolve(&c));
    for (int n = 0; vit_tensor_at(&c, n, &t); n++)
      part[part_of(t.name)] += 100 * (double)t.count / (double)vit_parameter_count(&c);
    printf("  %-12s", vit_preset_at(i)->name);
    fprintf(p.data, "%s", vit_preset_at(i)->name);
    for (int k = 0; k < 5; k++) {
      printf(" %*.1f %%", k ? 9 : 15, part[k]);
      fprintf(p.data, " %.2f", part[k]);
    }
    printf("\n");
    fprintf(p.data, "\n");
  }
  fprintf(p.script,
          "set title 'Where do the parameters sit? In ti16 to l16 one third is attention, two thirds MLP'\n"
          "set ylabel 'part of all parameters (%%)'\nset yrange [0:100]\n"
          "set style data histograms\nset style histogram rowstacked\nset style fill solid border lc rgb '#ffffff'\n"
          "set boxwidth 0.7\nset key outside bottom center horizontal reverse Left\n"
          "set xtics noenhanced scale 0 rotate by 25 right\n"
          "plot 'parameters.dat' using 2:xtic(1) lt %s title '%s'", looks[0], parts[0]);
  for (int k = 1; k < 5; k++)
    fprintf(p.script, ", '' using %d lt %s title '%s'", k + 2, looks[k], parts[k]);
  fprintf(p.script, "\n");
  nb_figure(vit_plot_end(&p), "parameters");
}

/* ---- [7] ---------------------------------------------------------------- */

/* A table in C: a macro that applies another macro, X, to every row. */
#define SIZES(X)                                                                                   \
  X(rows, 3)                                                                                       \
  X(columns, 4)                                                                                    \
  X(colours, 2)

/* Reading 1: a struct with a field for each row. */
#define FIELD(name, value) int name;
struct sizes {
  SIZES(FIELD)
};

static void small_table(void) {
  /* Reading 2: values. Reading 3: how many rows. Reading 4: a product. */
#define VALUE(name, value) value,
  struct sizes s = {SIZES(VALUE)};
#define ONE(name, value) +1
  const int count = 0 SIZES(ONE);
#define TIMES(name, value) *s.name
  const int product = 1 SIZES(TIMES);
  nb_cell("An X macro: one table, read in five ways");
  /* Reading 5: text. #name is the name in quotes. */
#define LINE(name, value) printf("  s.%-8s = %d\n", #name, s.name);
  SIZES(LINE)
  printf("  %d fields, product %d\n", count, product);
}

/* ---- [8] ---------------------------------------------------------------- */

/* An activation: what there is one of it for, how many of them, floats of one. */
typedef struct {
  const char *name, *where, *unit;
  int units, floats, copies;
} activation;

/* The header's table of activations for one image, by its own rows. */
static int read_activations(activation *list, const vit_config *c, const vit_state *s) {
  const int B = 1, N = vit_config_patches(c), T = vit_config_tokens(c), D = c->width, H = c->heads,
            I = H * c->head_dim, M = c->mlp_width, K = c->classes, grad = s->trains, Q = s->queries,
            P = c->channels * c->patch_height * c->patch_width;
  int n = 0;
#define ACTIVATION(field, place, what, exists, size)                                               \
  if (exists) {                                                                                    \
    activation a = {#field, #place, #what, B, (int)(size), 1};                                     \
    if (!strcmp(#what, "PATCH")) a.units = N;                                                      \
    if (!strcmp(#what, "TOKEN")) a.units = T;                                                      \
    if (!strcmp(#what, "HEAD")) a.units = H;                                                       \
    if (!strcmp(#place, "BLOCK") && grad) a.copies = c->depth;                                     \
    list[n++] = a;                                                                                 \
  }
  VIT_ACTIVATIONS(ACTIVATION)
#undef ACTIVATION
  return n;
}

static void list_activations(void) {
  vit_config c = vit_config_tutorial();
  activation list[2][80];
  double sum[2] = {0, 0}, rest[2] = {0, 0};
  int n[2];
  vit_state s;
  vit_memory m;
  nb_cell("What a state keeps of one image, in numbers: to answer, and to learn");
  nb_try(vit_config_resolve(&c));
  nb_try(vit_memory_plan(&c, 1, &m));
  memset(&s, 0, sizeof s);
  s.queries = vit_config_tokens(&c);
  for (s.trains = 0; s.trains < 2; s.trains++) n[s.trains] = read_activations(list[s.trains], &c, &s);
  printf("  %s%-12s %-6s %-6s %-10s %9s %9s%s\n", nb_dim(), "field", "one a", "where", "shape", "answer",
         "learn", nb_plain());
  for (int k = 0, j = 0; k < n[1]; k++) {
    const activation *a = &list[1][k], *b = &list[0][j];
    const int both = j < n[0] && !strcmp(a->name, b->name);
    const int size = a->units * a->floats * a->copies, small = both ? b->units * b->floats : 0;
    char shape[24];
    j += both;
    sum[0] += small, sum[1] += size;
    if (strstr(a->name, "_mean") || strstr(a->name, "_rstd") || strstr(a->name, "class_") ||
        a->name[0] == 'd' || strstr(a->name, "loss") || strstr(a->name, "norm_")) {
      rest[0] += small, rest[1] += size;
      continue;
    }
    snprintf(shape, sizeof shape, "[%d, %d]", a->units, a->floats);
    printf("  %-12s %-6s %-6s %-10s %9d %9d\n", a->name, a->unit, a->where, shape, small, size);
  }
  printf("  %-37s %9.0f %9.0f\n", "means, class token's, gradients (d..)", rest[0], rest[1]);
  printf("  %-37s %9.0f %9.0f\n", "sum", sum[0], sum[1]);
  printf("  %-37s %9.0f %9.0f\n", "4 bytes each", 4 * sum[0], 4 * sum[1]);
  printf("  %-37s %9.0f %9.0f\n", "vit_memory_plan, in bytes", (double)m.inference, (double)m.training);
  nb_say("The plan has more: each field ends on a multiple of 64 bytes, the losses are there, and a "
         "small model keeps sixteen partial gradients.");
}

static void draw_ladder(void) {
  static const char *const shown[] = {"patches", "patch_embed", "tokens", "norm1",    "qkv",
                                      "attn",    "atty",        "residual2", "norm2", "fch",
                                      "fch_gelu", "out",        "pooled", "logits"};
  enum { SHOWN = sizeof shown / sizeof *shown };
  vit_config c[2] = {vit_config_tutorial(), vit_config_b16()};
  double top[2] = {0, 0};
  vit_plot p;
  nb_try(vit_plot_begin(&p, nb_out, "ladder", 760, 470));
  for (int k = 0; k < SHOWN; k++) {
    fprintf(p.data, "%s", shown[k]);
    for (int i = 0; i < 2; i++) {
      activation list[80];
      vit_state s;
      int n;
      memset(&s, 0, sizeof s);
      s.trains = 1;
      nb_try(vit_config_resolve(&c[i]));
      n = read_activations(list, &c[i], &s);
      for (int j = 0; j < n; j++) {
        const activation *a = &list[j];
        const double size = (double)a->units * a->floats;
        const int T = a->floats / vit_config_tokens(&c[i]);
        if (strcmp(a->name, shown[k])) continue;
        top[i] = fmax(top[i], size);
        fprintf(p.data, " %.0f ", size);
        if (!strcmp(a->name, "attn")) fprintf(p.data, "\"[%d, %d, %d]\"", a->units, T, T);
        else if (!strcmp(a->unit, "IMAGE")) fprintf(p.data, "\"[%d]\"", a->floats);
        else fprintf(p.data, "\"[%d, %d]\"", a->units, a->floats);
      }
    }
    fprintf(p.data, "\n");
  }
  fprintf(p.script,
          "set multiplot layout 1,2 title \"One image on its way up: how many numbers each step holds,\\n"
          "from the pixels (below) to the logits\"\n"
          "set style fill solid\nunset key\nset yrange [-0.8:%d.8]\nset border 1\n"
          "set xtics nomirror rotate by 30 right\nset ytics noenhanced scale 0\n",
          SHOWN - 1);
  for (int i = 0; i < 2; i++)
    fprintf(p.script,
            "set title '%s'\nset xrange [0:%g]\nset xtics %g\n"
            "plot 'ladder.dat' using ($%d/2):0:($%d/2):(0.36):ytic(1) with boxxyerror lt %d, \\\n"
            "     '' using %d:0:%d with labels left offset 0.6,0 noenhanced\n",
            i ? "B/16, a block of 12" : "tutorial model, a block of 3", 1.6 * top[i], i ? 2e5 : 500.0, 2 + 2 * i,
            2 + 2 * i, i ? 6 : 1, 2 + 2 * i, 3 + 2 * i);
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "ladder");
}

/* ---- [9] ---------------------------------------------------------------- */

static void pool_two_ways(void) {
  enum { ROWS = 3, COLS = 2 };
  const float x[ROWS * COLS] = {1, 5, 2, 0, 6, 1}, dy[COLS] = {3, -1.5f};
  float y[COLS], dx[ROWS * COLS];
  nb_cell("Mean pooling, small enough for a pencil, forward and backward");
  printf("  x      1 5     mean = (1+2+6)/3  (5+0+1)/3  = 3 2     dy = 3 -1.5\n"
         "         2 0     dx: each row is dy / 3 = 1 -0.5\n         6 1\n");
  NB_RUN(vit_naive.mean_forward(y, x, 3, 2));
  nb_matrix(y, 1, COLS, " %6.3f", NULL);
  NB_RUN(vit_naive.mean_backward(dx, dy, 3, 2));
  nb_matrix(dx, ROWS, COLS, " %6.3f", NULL);
}

/* ---- [10] --------------------------------------------------------------- */

/* Millions of products in one block where `asked` tokens ask and go on, for one image. */
static double products(const vit_config *c, double asked) {
  const double T = vit_config_tokens(c), D = c->width, I = (double)c->heads * c->head_dim, M = c->mlp_width;
  return (T * D * 2 * I + asked * D * I   /* K, V of all; Q */
          + asked * T * I * 2             /* scores and values */
          + asked * (I * D + 2 * D * M)) / 1e6; /* joining the heads, MLP */
}

static void last_block(const vit_dataset *d) {
  static const char *const names[] = {"tutorial", "mnist", "ti16", "b16"};
  vit_config c = vit_config_tutorial();
  float image[PIXELS], logits[10];
  vit_model m;
  vit_state s;
  double row = 0;
  nb_cell("What the last block leaves out where the class token is pooled");
  printf("  %smillions of products    every block    the last    of the whole model%s\n", nb_dim(), nb_plain());
  for (int i = 0; vit_preset_at(i); i++)
    for (int k = 0; k < 4; k++) {
      vit_config p = vit_preset_at(i)->make();
      if (strcmp(vit_preset_at(i)->name, names[k])) continue;
      nb_try(vit_config_resolve(&p));
      const double T = vit_config_tokens(&p), all = products(&p, T), last = products(&p, 1);
      const double pixels = (double)p.channels * p.image_height * p.image_width;
      printf("  %-20s %14.4f %11.4f %12.1f %% less\n", names[k], all, last,
             100 * (all - last) / (all * p.depth + pixels * p.width / 1e6));
    }
  nb_digit(image, d, 3);
  nb_try(vit_model_create(&m, &c, 1));
  NB_RUN(nb_try(vit_state_create(&s, &m, 1, VIT_FOR_INFERENCE, 0)));
  nb_try(vit_forward(&m, &s, image, 1));
  memcpy(logits, s.logits, sizeof logits);
  NB_RUN(if (!vit_attention(&m, &s, 2, 0, 0)) nb_say("%s", vit_error()));
  NB_RUN(nb_matrix(vit_class_attention(&m, &s, 0, 0), 1, 5, " %6.3f", NULL));
  vit_state_free(&s);
  NB_RUN(nb_try(vit_state_create(&s, &m, 1, VIT_KEEP_ATTENTION, 0)));
  nb_try(vit_forward(&m, &s, image, 1));
  NB_RUN(nb_matrix(vit_attention(&m, &s, 2, 0, 0), 5, 5, " %6.3f", NULL));
  for (int h = 0; h < 3; h++)
    row = fmax(row, vit_max_difference(vit_class_attention(&m, &s, 0, h), vit_attention(&m, &s, 2, 0, h), 5));
  printf("  row 0 and the class token's attention differ by %.0e, the logits by %.0e\n", row,
         vit_max_difference(logits, s.logits, 10));
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- [11] --------------------------------------------------------------- */

static void three_ways_to_begin(void) {
  static const char *const tensors[] = {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight",
                                        "blocks.0.attn.proj.weight", "blocks.0.mlp.fc1.weight",
                                        "blocks.0.mlp.fc2.weight", "head.weight"};
  static const int widths[] = {9, 64, 768};
  vit_config c = vit_config_mnist();
  vit_model m[3];
  nb_cell("Three ways to begin: the spread of the weights, by formula and in the mnist model");
  for (int k = 0; k < 3; k++) {
    c.init = (vit_init)k;
    nb_try(vit_model_create(&m[k], &c, 1));
  }
  printf("  %s%-25s  in  out      ViT           PyTorch         Glorot%s\n", nb_dim(), "", nb_plain());
  for (int i = 0; i < 6; i++) {
    vit_tensor t;
    double in = 1, out, want[3];
    nb_try(vit_tensor_find(&m[0].config, tensors[i], &t));
    for (int k = 1; k < t.dims; k++) in *= t.shape[k];
    out = t.shape[0] * (t.dims == 4 ? t.shape[2] * t.shape[3] : 1) / (strstr(t.name, "qkv") ? 3.0 : 1.0);
    want[0] = 0.02, want[1] = 1 / sqrt(3 * in), want[2] = sqrt(2 / (in + out));
    printf("  %-25s %3.0f %4.0f", t.name, in, out);
    for (int k = 0; k < 3; k++)
      printf("   %.3f %.3f", want[k], nb_std(m[k].params.block + t.offset, (int)t.count));
    printf("\n");
  }
  for (int k = 0; k < 3; k++) vit_model_free(&m[k]);
  printf("  a layer from D to D makes of numbers with spread 1 numbers with spread\n");
  for (int i = 0; i < 3; i++) {
    const double D = widths[i];
    printf("  D = %-21d %19.3f %15.3f %14.3f\n", widths[i], 0.02 * sqrt(D), sqrt(D) / sqrt(3 * D),
           sqrt(D) * sqrt(2 / (2 * D)));
  }
}

/* ---- [12] --------------------------------------------------------------- */

static void grow(const vit_dataset *d) {
  static const struct {
    const char *name;
    int init;
    float factor;
  } ways[] = {{"std 0.002", VIT_INIT_VIT, 0.1f}, {"std 0.02", VIT_INIT_VIT, 1}, {"PyTorch", VIT_INIT_TORCH, 1},
              {"Glorot", VIT_INIT_GLOROT, 1},    {"std 0.2", VIT_INIT_VIT, 10}, {"std 1", VIT_INIT_VIT, 50}};
  enum { WAYS = 6, IMAGES = 8, BLOCKS = 12 };
  double size[WAYS][BLOCKS + 1];
  float *images = nb_floats(IMAGES * PIXELS);
  vit_config c = vit_config_mnist();
  vit_plot p;
  nb_cell("Break it: too small, too large. The stream in 12 blocks, 64 numbers a token");
  for (int k = 0; k < IMAGES; k++) nb_digit(images + k * PIXELS, d, k);
  c.image_height = c.image_width = SIZE, c.patch_height = c.patch_width = 8, c.depth = BLOCKS;
  printf("  %sblock       0       1       2       4       8      12    spread of the logits%s\n", nb_dim(), nb_plain());
  for (int w = 0; w < WAYS; w++) {
    vit_model m;
    vit_state s;
    vit_tensor t;
    c.init = (vit_init)ways[w].init;
    nb_try(vit_model_create(&m, &c, 1));
    for (int i = 0; vit_tensor_at(&m.config, i, &t); i++)
      for (size_t j = 0; t.is_matrix && j < t.count; j++) m.params.block[t.offset + j] *= ways[w].factor;
    m.config.pool = VIT_POOL_MEAN; /* every row of every block is made */
    nb_try(vit_state_create(&s, &m, IMAGES, VIT_FOR_TRAINING, 0));
    nb_try(vit_forward(&m, &s, images, IMAGES));
    printf("  %-9s", ways[w].name);
    for (int l = 0; l <= BLOCKS; l++) {
      const float *x = l ? s.out + (size_t)(l - 1) * s.out_stride : s.tokens;
      size[w][l] = nb_std(x, IMAGES * vit_config_tokens(&m.config) * c.width);
      if (l < 3 || l % 4 == 0) printf("%8.3f", size[w][l]);
    }
    printf("%16.3f\n", nb_std(s.logits, IMAGES * 10));
    vit_state_free(&s);
    vit_model_free(&m);
  }
  nb_try(vit_plot_begin(&p, nb_out, "init", 760, 430));
  for (int l = 0; l <= BLOCKS; l++) {
    fprintf(p.data, "%d", l);
    for (int w = 0; w < WAYS; w++) fprintf(p.data, " %.4f", size[w][l]);
    fprintf(p.data, "\n");
  }
  fprintf(p.script, "set title 'How large the first weights are decides how large the stream gets'\n"
                    "set xlabel 'after block'\nset ylabel 'spread of its numbers'\nset logscale y\n"
                    "set xrange [0:12]\nset key outside right\nset style data linespoints\nplot ");
  for (int w = WAYS - 1; w >= 0; w--)
    fprintf(p.script, "%s 'init.dat' using 1:%d lt %d pt %d ps 1.2 lw 2 title '%s'", w < WAYS - 1 ? ", " : "", w + 2, w + 1,
            w + 4, ways[w].name);
  fprintf(p.script, "\n");
  nb_figure(vit_plot_end(&p), "init");
  free(images);
}

/* ---- [13] --------------------------------------------------------------- */

static void learn_from(vit_dataset *d) {
  static const char *const ways[] = {"std 0.02", "PyTorch", "Glorot", "all weights 0", "all weights 0.02", "std 1"};
  vit_fit_config f = vit_fit_defaults();
  nb_cell("Break it: can it learn from there? The tutorial model, 1,000 digits, 10 epochs");
  vit_dataset_limit(d, 1000);
  f.epochs = 10;
  f.batch = 50;
  printf("  %s                    first loss    last loss    accuracy    classes it says%s\n", nb_dim(), nb_plain());
  for (int w = 0; w < 6; w++) {
    vit_config c = vit_config_tutorial();
    vit_model m;
    vit_tensor t;
    vit_history h;
    double loss, accuracy;
    int answers[1000], said = 0;
    c.softmax_before_loss = 0;
    c.init = w < 3 ? (vit_init)w : VIT_INIT_VIT;
    nb_try(vit_model_create(&m, &c, 1));
    for (int i = 0; w > 2 && vit_tensor_at(&m.config, i, &t); i++)
      for (size_t j = 0; t.is_matrix && j < t.count; j++) {
        float *x = &m.params.block[t.offset + j];
        *x = w == 3 ? 0 : w == 4 ? 0.02f : 50 * *x;
      }
    nb_try(vit_evaluate(&m, d, &loss, &accuracy, NULL, NULL, NULL));
    printf("  %-17s %12.3f", ways[w], loss);
    nb_try(vit_fit(&m, &f, d, NULL, &h));
    nb_try(vit_evaluate(&m, d, &loss, &accuracy, answers, NULL, NULL));
    for (int k = 0; k < 10; k++) {
      int i = 0;
      while (i < d->count && answers[i] != k) i++;
      said += i < d->count;
    }
    printf(" %12.3f %9.1f %% %18d\n", loss, 100 * accuracy, said);
    vit_history_free(&h);
    vit_model_free(&m);
  }
  nb_say("Judged by the digits that were learned. From zeros the model never sees its input: it "
         "answers the same whatever comes.");
}

/* ---- [14] --------------------------------------------------------------- */

static void refuse_nan(const vit_dataset *d) {
  vit_config c = vit_config_tutorial();
  float images[2 * PIXELS];
  int classes[2] = {7, 7};
  vit_model m;
  vit_state s;
  vit_result r;
  nb_cell("A pixel that is not a number");
  for (int k = 0; k < 2; k++) nb_digit(images + k * PIXELS, d, k);
  nb_try(vit_model_create(&m, &c, 1));
  nb_try(vit_state_create(&s, &m, 2, VIT_FOR_INFERENCE, 0));
  NB_RUN(images[PIXELS + 100] = NAN);
  NB_RUN(r = vit_predict(&m, &s, images, 2, classes, NULL));
  printf("  %s, classes %d and %d\n", vit_result_text(r), classes[0], classes[1]);
  nb_say("%s", vit_error());
  vit_state_free(&s);
  vit_model_free(&m);
}

/* ---- [15] --------------------------------------------------------------- */

/* Variance of scores q.k / sqrt(Dh) of random rows x with spread 1, when the weights of q and k
   are uniform between -limit and limit. */
static double score_variance(int D, double limit) {
  enum { TOKENS = 40 };
  const int Dh = 64;
  float *x = nb_floats(TOKENS * D), *w = nb_floats(2 * Dh * D);
  float *q = nb_floats(TOKENS * Dh), *k = nb_floats(TOKENS * Dh);
  double sum = 0;
  vit_rng rng = vit_rng_create(7, 1);
  nb_normal(x, TOKENS * D, 3);
  for (int i = 0; i < 2 * Dh * D; i++) w[i] = (float)(limit * (2 * (double)vit_random_uniform(&rng) - 1));
  vit_naive.linear_forward(q, x, w, NULL, TOKENS, D, Dh);
  vit_naive.linear_forward(k, x, w + Dh * D, NULL, TOKENS, D, Dh);
  for (int i = 0; i < TOKENS; i++)
    for (int j = 0; j < TOKENS; j++) {
      double dot = 0;
      for (int e = 0; e < Dh; e++) dot += (double)q[i * Dh + e] * (double)k[j * Dh + e];
      sum += dot * dot / Dh / (TOKENS * TOKENS);
    }
  free(x), free(w), free(q), free(k);
  return sum;
}

static void fused_glorot(void) {
  static const int widths[] = {64, 192, 384};
  nb_cell("Glorot over Q, K and V in one matrix: out is three times too large");
  printf("  %s         one of three, out = D          all at once, out = 3 D%s\n", nb_dim(), nb_plain());
  printf("  %s   D     limit   variance of scores     limit   variance of scores%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 3; i++) {
    const int D = widths[i];
    const double right = sqrt(6.0 / (2 * D)), wrong = sqrt(6.0 / (4 * D));
    printf("  %4d   %7.4f   %18.3f   %7.4f   %18.3f\n", D, right, score_variance(D, right), wrong,
           score_variance(D, wrong));
  }
}

/* ---- [16] --------------------------------------------------------------- */

static double best_time(const vit_kernels *k, int backward, float *a, const float *b, int N, int D) {
  double best;
  NB_FASTEST(best, backward ? k->mean_backward(a, b, N, D) : k->mean_forward(a, b, N, D));
  return best;
}

static void by_vectors(void) {
  enum { ROWS = 196, COLS = 192 };
  float *x = nb_floats(ROWS * COLS), *y[2];
  nb_cell("Vectors: the mean of 196 rows of 192 numbers, as in ti16, on one thread");
  nb_normal(x, ROWS * COLS, 5);
  printf("  %s                       naive (us)    SIMD (us)     ratio    difference%s\n", nb_dim(), nb_plain());
  for (int backward = 0; backward < 2; backward++) {
    double time[2];
    for (int k = 0; k < 2; k++) {
      y[k] = nb_floats(ROWS * COLS);
      time[k] = best_time(k ? vit_best_kernels() : &vit_naive, backward, y[k], x, ROWS, COLS);
    }
    printf("  %-20s %12.1f %12.1f %8.1fx %13.0e\n", backward ? "mean_backward" : "mean_forward", time[0], time[1],
           time[0] / time[1], vit_max_difference(y[0], y[1], backward ? ROWS * COLS : COLS));
    free(y[0]), free(y[1]);
  }
  free(x);
}

/* ---- [17] --------------------------------------------------------------- */

/* Parameters of all tensors that begin like this, in thousands. */
static void thousands(const vit_config *c, const char *begin, const char *what) {
  vit_tensor t;
  double count = 0;
  for (int i = 0; vit_tensor_at(c, i, &t); i++)
    if (!strncmp(t.name, begin, strlen(begin))) count += (double)t.count / 1000;
  printf("  %-30s %8.1f thousand\n", what, count);
}

static void b16_at_a_glance(void) {
  vit_config c = vit_config_b16();
  nb_cell("B/16 at a glance: the same parts, with larger numbers");
  nb_try(vit_config_resolve(&c));
  printf("  image    %d x %d x %d\n", c.channels, c.image_height, c.image_width);
  printf("  patches  %d x %d\n", vit_config_patches(&c), c.channels * c.patch_height * c.patch_width);
  printf("  embed    %d x %d\n", vit_config_patches(&c), c.width);
  printf("  tokens   %d x %d\n", vit_config_tokens(&c), c.width);
  printf("  blocks   %d, heads %d, MLP %d, classes %d\n", c.depth, c.heads, c.mlp_width, c.classes);
  thousands(&c, "patch_embed", "projection of a patch");
  thousands(&c, "cls_token", "class token");
  thousands(&c, "pos_embed", "positions");
  thousands(&c, "blocks.0.norm1", "norm 1");
  thousands(&c, "blocks.0.attn.qkv", "Q K V");
  thousands(&c, "blocks.0.attn.proj", "join");
  thousands(&c, "blocks.0.norm2", "norm 2");
  thousands(&c, "blocks.0.mlp", "MLP");
  thousands(&c, "blocks.0.", "a block in all");
  thousands(&c, "head", "head");
  thousands(&c, "", "all");
}

int main(int argc, char **argv) {
  vit_dataset d;
  nb_start("06-model", "A config decides everything: tensors, memory, and the path from image to class.",
           argc, argv, NULL, 0);
  nb_load_few(&d, 10000, SIZE);
  count_parameters();
  compare_presets();
  change_a_field();
  forward(&d);
  draw();
  small_table();
  list_activations();
  draw_ladder();
  pool_two_ways();
  last_block(&d);
  three_ways_to_begin();
  grow(&d);
  learn_from(&d);
  refuse_nan(&d);
  fused_glorot();
  by_vectors();
  b16_at_a_glance();
  vit_dataset_free(&d);
  return 0;
}
