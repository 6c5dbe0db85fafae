// Train the classic tutorial model on MNIST: loss falls, accuracy climbs, and you see what it looks at.
//
// Before it: what resizing does, what an optimiser does on a narrow valley, and how the learning rate
// may change over a run. After it: steps by hand, rates that are too small and too large, and when to
// stop. Read beside it: chapter 08 of vit.h.
#include "common.h"

/* What the flags set. */
static int epochs = 5, batch = 128, seed = 1, threads = 0;
static float rate = 0.005f;
static const char *kernels = NULL, *changes = NULL;

/* ---- [1] ---------------------------------------------------------------- */

static void load_data(vit_dataset *train, vit_dataset *test) {
  nb_cell("Data: digits of 28 x 28 pixels");
  nb_load(train, VIT_TRAIN);
  nb_load(test, VIT_TEST);
}

/* ---- [2] ---------------------------------------------------------------- */

/* A small picture of a 7, and what Pillow 13 (the library that most of Python's
   models see their images through) makes of it: Image.resize((8, 8), ...). */
static const uint8_t small[7][7] = {
    {20, 20, 20, 20, 20, 20, 20},  {20, 80, 200, 200, 200, 120, 20}, {20, 20, 20, 20, 40, 220, 20},
    {20, 20, 20, 20, 160, 100, 20}, {20, 20, 20, 40, 220, 20, 20},   {20, 20, 20, 160, 100, 20, 20},
    {20, 20, 20, 20, 20, 20, 20}};
static const uint8_t pillow[2][8][8] = {
    {{20, 20, 20, 20, 20, 20, 20, 20},
     {20, 60, 136, 166, 166, 146, 86, 20},
     {20, 35, 65, 76, 82, 121, 157, 20},
     {20, 20, 20, 20, 58, 121, 128, 20},
     {20, 20, 20, 25, 98, 148, 57, 20},
     {20, 20, 20, 52, 124, 132, 20, 20},
     {20, 20, 20, 84, 113, 65, 20, 20},
     {20, 20, 20, 20, 20, 20, 20, 20}},
    {{20, 19, 16, 15, 15, 15, 18, 20},
     {18, 60, 155, 189, 187, 163, 82, 18},
     {19, 33, 66, 77, 71, 121, 185, 14},
     {20, 18, 12, 3, 42, 126, 144, 16},
     {20, 20, 20, 9, 105, 176, 43, 19},
     {20, 20, 16, 46, 141, 154, 4, 20},
     {20, 20, 11, 97, 131, 59, 16, 20},
     {20, 20, 20, 18, 16, 18, 20, 20}}};

/* The digit as it is, larger by both filters, smaller with and without a filter. */
static void draw_resized(const vit_dataset *d) {
  enum { FROM = 28, TO = 32, LOW = 10 };
  const uint8_t *digit = d->pixels + (vit_idx)nb_first(d, 8) % d->count * FROM * FROM;
  uint8_t large[TO * TO], few[LOW * LOW], picked[LOW * LOW];
  float panel[TO * TO];
  const struct { const char *title; const uint8_t *bytes; int size; } panels[] = {
      {"28 x 28:\\nas it is", digit, FROM}, {"32 x 32:\\nbilinear", large, TO},
      {"32 x 32:\\nbicubic", large, TO},    {"10 x 10: bilinear,\\nall pixels are mixed", few, LOW},
      {"10 x 10: no filter,\\nevery third is picked", picked, LOW}};
  vit_plot p;
  for (int i = 0; i < LOW * LOW; i++) picked[i] = digit[i / LOW * FROM / LOW * FROM + i % LOW * FROM / LOW];
  nb_try(vit_resize(few, digit, 1, FROM, FROM, LOW, LOW, VIT_BILINEAR));
  nb_try(vit_plot_begin(&p, nb_out, "resize", 960, 300));
  fprintf(p.script, "set multiplot layout 1,5\nset xlabel 'column'\n");
  for (int i = 0; i < 5; i++) {
    const int size = panels[i].size;
    if (size == TO) nb_try(vit_resize(large, digit, 1, FROM, FROM, TO, TO, i == 1 ? VIT_BILINEAR : VIT_BICUBIC));
    for (int j = 0; j < size * size; j++) panel[j] = (float)panels[i].bytes[j] / 255;
    fprintf(p.script, "set xtics %d\nset ytics %d\n", size > LOW ? 8 : 2, size > LOW ? 8 : 2);
    nb_image_panel(&p, i, panels[i].title, panel, size, size);
  }
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "resize");
}

static void resize_images(vit_dataset *train, vit_dataset *test, const vit_config *c) {
  static const char *const names[] = {"bilinear", "bicubic"};
  uint8_t got[8][8];
  char heading[200];
  snprintf(heading, sizeof heading, "Resizing: the digits of %d x %d become %d x %d, whole patches of %d x %d",
           train->height, train->width, c->image_height, c->image_width, c->patch_height, c->patch_width);
  nb_cell(heading);
  nb_say("A new pixel lies between old ones and mixes them: bilinear the 2 x 2 nearest, bicubic the "
         "4 x 4. A small picture, made 8 x 8 from 7 x 7 in the same proportion:");
  nb_try(vit_resize(got[0], small[0], 1, 7, 7, 8, 8, VIT_BILINEAR));
  printf("\n  %s%-35s%s%s\n", nb_dim(), "before", "after, bilinear", nb_plain());
  for (int y = 0; y < 8; y++) {
    printf("  ");
    for (int x = 0; x < 7; x++)
      if (y < 7) printf("%4d", small[y][x]);
      else printf("    ");
    printf("   ");
    for (int x = 0; x < 8; x++) printf("%4d", got[y][x]);
    printf("\n");
  }
  printf("\n");
  for (int filter = VIT_BILINEAR; filter <= VIT_BICUBIC; filter++) {
    int same = 0;
    nb_try(vit_resize(got[0], small[0], 1, 7, 7, 8, 8, (vit_filter)filter));
    for (int i = 0; i < 64; i++) same += got[i / 8][i % 8] == pillow[filter][i / 8][i % 8];
    printf("  %-10s   %d of 64 numbers are those of Pillow 13\n", names[filter], same);
  }
  nb_say("So a model sees here what it would see in Python. When an image shrinks the filter grows: "
         "each new pixel mixes all old ones that it covers, and no stroke gets lost.");
  if (train->height == 28 && train->width == 28) draw_resized(train);
  nb_try(vit_dataset_resize(train, c->image_height, c->image_width));
  nb_try(vit_dataset_resize(test, c->image_height, c->image_width));
}

/* ---- [3] ---------------------------------------------------------------- */

/* A narrow valley: f(x, y) = (x^2 + 100 y^2) / 2, lowest at (0, 0). */
static double valley(const float w[2]) {
  return ((double)w[0] * (double)w[0] + 100 * (double)w[1] * (double)w[1]) / 2;
}

static void optimisers(void) {
  enum { STEPS = 100 };
  static const char *const names[] = {"SGD", "SGD, momentum 0.9", "Adam"};
  static const float rates[] = {0.018f, 0.01f, 0.5f};
  static const int shown[] = {0, 5, 10, 20, 50, 100};
  double f[3][STEPS + 1];
  vit_plot p;
  nb_cell("Optimisers on a narrow valley: f(x, y) = (x^2 + 100 y^2) / 2");
  nb_say("Across, the valley is 100 times as steep as along; so the gradient points at the other wall, "
         "not at the end, (0, 0). A step of each, by the kernels that train the model:");
  nb_code("sgd_step(w, m, g, 2, rate, 0, 0)");
  nb_code("sgd_step(w, m, g, 2, rate, 0.9, 0)");
  nb_code("adam_step(w, m, v, g, 2, &constants)");
  nb_try(vit_plot_begin(&p, nb_out, "optimisers", 960, 380));
  for (int k = 0; k < 3; k++) {
    float w[2] = {-9, 0.9f}, m[2] = {0, 0}, v[2] = {0, 0};
    for (int step = 0; step <= STEPS; step++) {
      const float g[2] = {w[0], 100 * w[1]}; /* the slope of f */
      const vit_adam_constants a = {rates[k], 0.9f, 0.999f, 1e-8f, 0, (float)(1 - pow(0.9, step + 1)),
                                    (float)(1 - pow(0.999, step + 1)), 0};
      f[k][step] = valley(w);
      fprintf(p.data, "%d %.5f %.5f %.6g\n", step, (double)w[0], (double)w[1], f[k][step]);
      if (k < 2) vit_naive.sgd_step(w, m, g, 2, rates[k], k ? 0.9f : 0, 0);
      else vit_naive.adam_step(w, m, v, g, 2, &a);
    }
    fprintf(p.data, "\n\n");
  }
  printf("\n  %s%-22s", nb_dim(), "f after so many steps");
  for (int i = 0; i < 6; i++) printf("%9d", shown[i]);
  printf("%s\n", nb_plain());
  for (int k = 0; k < 3; k++) {
    printf("  %-18s%4g", names[k], (double)rates[k]);
    for (int i = 0; i < 6; i++) printf("%9.4f", f[k][shown[i]]);
    printf("\n");
  }
  nb_say("SGD jumps from wall to wall and creeps along: a rate above 2 / 100 would throw it out. "
         "Momentum adds up the steps that agree, and overshoots before it settles. Adam divides each "
         "number's step by the size of its own gradients, so that both directions start at the same "
         "pace: that is why one rate suits all tensors of a transformer.");
  fprintf(p.script,
          "set multiplot layout 1,3\nset xtics 5\nset xrange [-10.5:3.5]\nset yrange [-1.6:1.6]\nset trange [0:2*pi]\n"
          "set parametric\nset samples 200\nset xlabel 'x'\nset ylabel 'y'\n");
  for (int k = 0; k < 3; k++)
    fprintf(p.script,
            "set title \"%s\\nrate %g\\nf = %.2g after %d steps\"\n"
            "plot for [i=0:6] sqrt(2 * 0.8 * 2.1**i) * cos(t), sqrt(2 * 0.8 * 2.1**i / 100) * sin(t) \\\n"
            "       with lines lc rgb '#bbbbbb' lw 1 notitle, \\\n"
            "     'optimisers.dat' index %d using 2:3 with linespoints lt %d lw 1.5 ps 0.6 notitle, \\\n"
            "     '' index %d every ::0::0 using 2:3:('start') with labels offset 0,1.2 notitle, \\\n"
            "     '+' using (0):(0) every ::0::0 with points pt 3 ps 2 lw 2 lc 'black' notitle\n",
            names[k], (double)rates[k], f[k][STEPS], STEPS, k, k + 1, k);
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "optimisers");
}

/* ---- [4] ---------------------------------------------------------------- */

static vit_schedule own_schedule(void) {
  vit_schedule s = vit_fit_defaults().schedule;
  s.rate = rate; /* sinks to its half during the run */
  s.floor = rate / 2;
  return s;
}

static void schedules(void) {
  enum { KINDS = 6, STEPS = 100, EPOCH = 10 };
  static const char *const names[KINDS] = {"constant", "line after warm-up", "cosine after warm-up",
                                           "step: half every 25", "plateau: half after 2", "this run"};
  vit_schedule s[KINDS];
  vit_plateau plateau;
  vit_plot p;
  memset(&plateau, 0, sizeof plateau);
  nb_cell("Schedules: how the learning rate may change over a run of 100 steps");
  for (int k = 0; k < KINDS; k++) s[k] = vit_schedule_constant(rate);
  s[1].kind = VIT_LINEAR, s[2].kind = VIT_COSINE, s[3].kind = VIT_STEP, s[4].kind = VIT_PLATEAU;
  s[1].warmup = s[2].warmup = 10;
  s[3].every = 25;
  s[4].patience = 2;
  s[3].factor = s[4].factor = 0.5f;
  s[5] = own_schedule();
  s[1].total = s[2].total = s[5].total = STEPS;
  nb_try(vit_plot_begin(&p, nb_out, "schedules", 900, 420));
  printf("  %s%-22s", nb_dim(), "rate at step");
  for (int step = 0; step <= STEPS; step++) {
    /* The plateau hears a loss after each epoch: here it sinks in the first four. */
    if (step && step % EPOCH == 0) vit_plateau_observe(&plateau, s + 4, 1.0 / fmin(step / EPOCH, 4));
    fprintf(p.data, "%d", step);
    for (int k = 0; k < KINDS; k++) fprintf(p.data, " %g", (double)vit_schedule_rate(s + k, &plateau, step));
    fprintf(p.data, "\n");
    if (step % 20 == 0 || step == 10) printf("%8d", step);
  }
  printf("%s\n", nb_plain());
  for (int k = 0; k < KINDS; k++) {
    memset(&plateau, 0, sizeof plateau);
    printf("  %-22s", names[k]);
    for (int step = 0; step <= STEPS; step++) {
      if (step && step % EPOCH == 0) vit_plateau_observe(&plateau, s + 4, 1.0 / fmin(step / EPOCH, 4));
      if (step % 20 == 0 || step == 10) printf("%8.4f", (double)vit_schedule_rate(s + k, &plateau, step));
    }
    printf("\n");
  }
  nb_say("A warm-up spares the random weights large steps while Adam's averages are still empty; a "
         "small rate at the end lets the weights settle. The plateau halves the rate when the loss of "
         "2 epochs (of 10 steps) has not sunk; the made-up loss here sinks until epoch 4.");
  fprintf(p.script, "set key outside right\nset yrange [0:*]\nset offsets 0,0,graph 0.08,0\n");
  nb_axes(&p, "The learning rate over a run", "step", "learning rate");
  fprintf(p.script, "plot");
  for (int k = 0; k < KINDS; k++)
    fprintf(p.script, "%s '%s.dat' using 1:%d with linespoints lt %d pi %d title '%s'", k ? ", \\\n    " : "",
            p.name, k + 2, k + 1, -10 - k, names[k]);
  fprintf(p.script, "\n");
  nb_figure(vit_plot_end(&p), "schedules");
}

/* ---- [5] and [6] -------------------------------------------------------- */

static void make_model(vit_model *m, const vit_config *c) {
  vit_memory need;
  char text[300];
  snprintf(text, sizeof text, "Model: %d patches%s, %d block%s of %d head%s, %d numbers per token",
           vit_config_patches(c), c->class_token ? " and a class token" : "", c->depth,
           c->depth == 1 ? "" : "s", c->heads, c->heads == 1 ? "" : "s", c->width);
  nb_cell(text);
  nb_try(vit_memory_plan(c, batch, &need));
  nb_try(vit_model_create(m, c, (uint64_t)(unsigned)seed));
  m->threads = threads;
  if (kernels && !strcmp(kernels, "naive"))
    m->kernels = &vit_naive;
  else if (kernels && vit_best_kernels() == &vit_naive)
    nb_stop("--kernels simd: this processor or this build has no SIMD kernels; use naive");
  printf("  parameters   %.0f\n", (double)m->params.count);
  snprintf(text, sizeof text,
           "%.2f MB for a batch of %d: parameters, gradients and Adam's moments %.2f, activations %.2f",
           (double)(need.parameters + need.gradients + need.moments + need.training) / 1e6, batch,
           (double)(need.parameters + need.gradients + need.moments) / 1e6, (double)need.training / 1e6);
  nb_row("memory", text);
  printf("  kernels      %s%s%s\n", m->kernels->name, m->kernels == &vit_naive ? "" : ", ",
         m->kernels == &vit_naive ? "" : vit_simd_name());
  printf("  threads      %d\n", vit_model_threads(m));
}

/* Called after every step. In a terminal one line is written over and over;
   elsewhere there is a line per epoch. */
static int show_progress(const vit_progress *p, void *user) {
  if (p->epoch_done) nb_epoch(p, ' ');
  else nb_step(p, (double *)user); /* when the line was last drawn */
  return 0;
}

static void train_model(vit_model *m, const vit_dataset *train, const vit_dataset *test,
                        vit_history *h) {
  vit_fit_config f = vit_fit_defaults();
  const vit_config *c = &m->config;
  char path[600];
  double last = 0;
  vit_result r;
  nb_cell("Training: Adam, cross entropy; each epoch sees every training image once");
  f.epochs = epochs;
  f.batch = batch;
  f.seed = (uint64_t)(unsigned)seed;
  f.schedule = own_schedule();
  f.callback = show_progress;
  f.user = &last;
  nb_epoch_head("test: loss");
  r = vit_fit(m, &f, train, test, h);
  if (r && nb_terminal()) printf("\n");
  nb_try(r);
  snprintf(path, sizeof path, "%.500s/model.safetensors", nb_out);
  nb_try(vit_model_save(m, train, path));
  nb_row("saved", path);
  if (c->softmax_before_loss)
    nb_say("The loss cannot fall below %.3f: the tutorial's softmax leaves it probabilities, 0 to 1, where "
           "it takes logits, any number. With --model softmax_before_loss=0 it could fall to 0.",
           log(exp(1.0) + c->classes - 1) - 1);
  nb_figure(vit_plot_history(nb_out, "curves", h, "test images", c), "curves");
}

/* ---- [7], after it the mistakes and [9] ----------------------------------- */

/* What the test images were taken for. */
static void show_confusion(const vit_dataset *test, const int *guess) {
  enum { K = 10 };
  int counts[K * K] = {0}, worst = 1;
  nb_cell("Which digit is taken for which?");
  vit_confusion(counts, guess, test->labels, test->count, K);
  printf("  %-12s", "true \\ said");
  for (int k = 0; k < K; k++) printf("%6d", k);
  printf("\n");
  for (int t = 0; t < K; t++) {
    printf("  %12d", t);
    for (int k = 0; k < K; k++) {
      if (counts[t * K + k])
        printf("%s%6d%s", t == k ? nb_bold() : "", counts[t * K + k], t == k ? nb_plain() : "");
      else
        printf("%6s", ".");
      if (t != k && counts[t * K + k] > counts[worst]) worst = t * K + k;
    }
    printf("\n");
  }
  printf("  most frequent mistake: a %d that is taken for a %d, %d times\n", worst / K, worst % K,
         counts[worst]);
  for (int k = 0; k < K; k++) {
    int said = 0;
    for (int t = 0; t < K; t++) said += counts[t * K + k];
    if (said == 0)
      nb_say("Nothing is called a %d: behind a softmax the loss can give a digit up (see 07); more "
             "epochs, or --model softmax_before_loss=0, bring it back.", k);
  }
  nb_figure(vit_plot_confusion(nb_out, "confusion", counts, K, test), "confusion");
}

/* The weights of [9] as a table, where it fits into the line: 4 patches, 3 heads. */
static void print_attention(const float *weights, const vit_dataset *test, const int *order,
                            const int *guess, int n, int heads) {
  printf("  %s%-10s", nb_dim(), "");
  for (int h = 0; h < heads; h++) printf("  head %-15d", h);
  printf("\n  digit said");
  for (int h = 0; h < heads; h++) printf("  self  TL  TR  BL  BR");
  printf("%s\n", nb_plain());
  for (int k = 0; k < n; k++) {
    printf("  %5d%5d", test->labels[order[k]], guess[k]);
    for (int h = 0; h < heads; h++) {
      const float *w = weights + ((h + 1) * n + k) * 4;
      printf("  %4.0f", 100 * (1 - (double)(w[0] + w[1] + w[2] + w[3])));
      for (int j = 0; j < 4; j++) printf("%4.0f", 100 * (double)w[j]);
    }
    printf("\n");
  }
  nb_say("%sself: on the class token itself; TL, TR, BL, BR: top left to bottom right patch.%s",
         nb_dim(), nb_plain());
}

/* Attention of the token that becomes the answer, in the last block: a column for
   each digit, under it a row for each head. */
static void show_attention(const vit_model *m, const vit_dataset *test) {
  enum { DIGITS = 10, HEADS = 4 };
  static char text[(HEADS + 1) * DIGITS][60];
  const char *titles[(HEADS + 1) * DIGITS];
  const vit_config *c = &m->config;
  const int heads = c->heads < HEADS ? c->heads : HEADS, N = vit_config_patches(c);
  int size = test->height * test->width, order[(HEADS + 1) * DIGITS], guess[DIGITS];
  const int n = nb_one_of_each(order, test, DIGITS), tiles = (heads + 1) * n;
  float *images, *weights = nb_floats(tiles * N), *batch_images = nb_floats(n * size);
  float p[DIGITS * 10];
  char title[300], percent[20];
  vit_state s;
  snprintf(title, sizeof title, "What does it look at? %s in the last block, in %% per patch",
           c->pool == VIT_POOL_CLS ? "Row of the class token" : "Mean row of the patches");
  nb_cell(title);
  vit_dataset_batch(test, order, n, batch_images, NULL);
  nb_try(vit_state_create(&s, m, n, VIT_KEEP_ATTENTION, 0));
  nb_try(vit_predict(m, &s, batch_images, n, guess, p));
  for (int i = 0; i < tiles; i++) {
    const int k = i % n, h = i / n - 1; /* the row above those of the heads is plain */
    double sum = 0;
    order[i] = order[k];
    titles[i] = text[i];
    if (h >= 0) nb_look(weights + i * N, m, &s, k, h);
    for (int j = 0; j < N; j++) sum += (double)weights[i * N + j];
    if (h >= 0 && k) snprintf(text[i], sizeof text[i], "%.0f %%", 100 * sum);
    else if (h >= 0) snprintf(text[i], sizeof text[i], "head %d: %.0f %%", h, 100 * sum);
    else snprintf(text[i], sizeof text[i], "is %d, said %d:\n%s", test->labels[order[k]], guess[k],
                  nb_percent(percent, p[k * 10 + guess[k]]));
  }
  if (N == 4 && heads <= 3) print_attention(weights, test, order, guess, n, heads);
  snprintf(title, sizeof title,
           "Where %s looks in block %d of %d, head by head.\n"
           "Below each head: how much of it goes to all patches together",
           nb_query(c), c->depth, c->depth);
  images = nb_pixels(test, order, tiles);
  nb_figure(vit_plot_tiles(nb_out, "attention", title, images, weights, c->image_height / c->patch_height,
                           c->image_width / c->patch_width, titles, heads + 1, n, 1, test->height,
                           test->width, 0, 1),
            "attention");
  vit_state_free(&s);
  free(images);
  free(weights);
  free(batch_images);
}

/* ---- [10] to [12]: steps by hand ------------------------------------------ */

static vit_adam_constants adam_at(int step, float adam_rate, float decay, int decoupled) {
  const vit_adam_constants a = {adam_rate, 0.9f, 0.999f, 1e-8f, decay, (float)(1 - pow((double)0.9f, step)),
                                (float)(1 - pow((double)0.999f, step)), decoupled};
  return a;
}

static void three_steps(void) {
  static const float slopes[3] = {2, 2, -1};
  const float long_one[3] = {3, 4, 12};
  float w[4] = {1, 1, 1, 1}, m[4] = {0}, v[4] = {0}, cut[3];
  double sum;
  nb_cell("Three steps of one weight, small enough for a pencil: it starts at 1");
  nb_code("sgd_step(w, m, g, 1, 0.1, 0, 0), then with a momentum of 0.5");
  nb_code("adam_step(w, m, v, g, 1, &constants), then with a decay of 0.5, apart");
  printf("  %s%-7s%5s  %7s  %15s  %26s  %7s%s\n", nb_dim(), "", "", "SGD", "momentum", "Adam", "AdamW", nb_plain());
  printf("  %s%-7s%5s  %7s  %7s%8s  %9s%9s%8s  %7s%s\n", nb_dim(), "step", "g", "w", "m", "w", "m", "v", "w", "w",
         nb_plain());
  for (int step = 1; step <= 3; step++) {
    const float *g = slopes + step - 1;
    const vit_adam_constants adam = adam_at(step, 0.1f, 0, 0), adamw = adam_at(step, 0.1f, 0.5f, 1);
    vit_naive.sgd_step(w, m, g, 1, 0.1f, 0, 0);
    vit_naive.sgd_step(w + 1, m + 1, g, 1, 0.1f, 0.5f, 0);
    vit_naive.adam_step(w + 2, m + 2, v + 2, g, 1, &adam);
    vit_naive.adam_step(w + 3, m + 3, v + 3, g, 1, &adamw);
    printf("  %-7d%5g  %7.3f  %7.3f%8.3f  %9.3f%9.6f%8.4f  %7.4f\n", step, (double)*g, (double)w[0], (double)m[1],
           (double)w[1], (double)m[2], (double)v[2], (double)w[2], (double)w[3]);
  }
  nb_say("Clipping: three gradients, together longer than the limit of 6.5.");
  nb_code("sum_squares(&sum, g, 3); scale(g, g, 6.5 / sqrt(sum), 3)");
  vit_naive.sum_squares(&sum, long_one, 3);
  vit_naive.scale(cut, long_one, (float)(6.5 / sqrt(sum)), 3);
  printf("  g = %g %g %g   length %g   clipped: %g %g %g\n", (double)long_one[0], (double)long_one[1],
         (double)long_one[2], sqrt(sum), (double)cut[0], (double)cut[1], (double)cut[2]);
}

static void without_correction(void) {
  static const int shown[] = {1, 2, 5, 10, 20, 100, 1000};
  double moved[2][1001];
  nb_cell("Adam without its two corrections: how far does it go, in learning rates?");
  for (int k = 0; k < 2; k++) {
    float w = 0, m = 0, v = 0;
    const float g = 1; /* always the same gradient */
    for (int step = 1; step <= 1000; step++) {
      vit_adam_constants a = adam_at(step, 1, 0, 0);
      if (k) a.correction1 = a.correction2 = 1;
      w = 0;
      vit_naive.adam_step(&w, &m, &v, &g, 1, &a);
      moved[k][step] = -(double)w;
    }
  }
  printf("  %s%-20s", nb_dim(), "step");
  for (int i = 0; i < 7; i++) printf("%8d", shown[i]);
  printf("%s\n", nb_plain());
  for (int k = 0; k < 2; k++) {
    printf("  %-20s", k ? "left out" : "with them");
    for (int i = 0; i < 7; i++) printf("%8.3f", moved[k][shown[i]]);
    printf("\n");
  }
}

static void two_decays(void) {
  static const char *const names[] = {"SGD", "Adam: decay in the gradient", "AdamW: decay apart"};
  enum { STEPS = 200 };
  nb_cell("Weight decay: two weights of 1; the gradient of one is 100 times as large");
  nb_say("Both gradients only change their sign, step by step: no way is down, and what moves the "
         "weights is the decay of 0.01. Learning rate 0.01.");
  printf("  %s%-30s%18s%22s%s\n", nb_dim(), "the weights after 200 steps", "g = 1, -1, ..",
         "g = 0.01, -0.01, ..", nb_plain());
  for (int k = 0; k < 3; k++) {
    float w[2] = {1, 1}, m[2] = {0, 0}, v[2] = {0, 0};
    for (int step = 1; step <= STEPS; step++) {
      const float sign = step % 2 ? 1 : -1, g[2] = {sign, 0.01f * sign};
      const vit_adam_constants a = adam_at(step, 0.01f, 0.01f, k == 2);
      if (k) vit_naive.adam_step(w, m, v, g, 2, &a);
      else vit_naive.sgd_step(w, m, g, 2, 0.01f, 0, 0.01f);
    }
    printf("  %-30s%18.3f%22.3f\n", names[k], (double)w[0], (double)w[1]);
  }
}

/* ---- [13] ----------------------------------------------------------------- */

static void rates(const vit_dataset *train, const vit_config *c) {
  enum { KINDS = 5, EPOCHS = 5, IMAGES = 1500 };
  static const float tried[KINDS] = {0.00005f, 0.0005f, 0.005f, 0.05f, 0.5f};
  vit_dataset few = *train;
  vit_dataset_limit(&few, IMAGES);
  nb_cell("Five learning rates: the training loss after each epoch");
  printf("  %d images, batches of 32, Adam with a constant rate, loss of the logits\n", few.count);
  printf("  %s%-9s", nb_dim(), "rate");
  for (int e = 1; e <= EPOCHS; e++) printf("    epoch %d", e);
  printf("%s\n", nb_plain());
  for (int k = 0; k < KINDS; k++) {
    vit_fit_config f = vit_fit_defaults();
    vit_config own = *c;
    vit_model m;
    vit_history h;
    vit_result r;
    own.softmax_before_loss = 0;
    f.batch = 32;
    f.epochs = EPOCHS;
    f.schedule = vit_schedule_constant(tried[k]);
    nb_try(vit_model_create(&m, &own, 1));
    m.threads = 1; /* batches are small */
    r = vit_fit(&m, &f, &few, NULL, &h);
    printf("  %-9g", (double)tried[k]);
    for (int e = 0; e < h.epochs; e++) printf("%11.4f", h.epoch[e].train_loss);
    if (r == VIT_ERR_DIVERGED) printf("  diverged");
    else nb_try(r);
    printf("\n");
    vit_history_free(&h);
    vit_model_free(&m);
  }
  printf("  Ten classes by chance: %.4f\n", log(10.0));
}

/* ---- [14] ----------------------------------------------------------------- */

/* The usual size of the gradient of each tensor, and what plain descent makes of it. */
static void one_rate_for_all(const vit_dataset *train, const vit_config *c) {
  enum { KINDS = 6, EPOCHS = 5, B = 32, IMAGES = 1500 };
  static const struct { const char *name; vit_algorithm algorithm; float momentum, rate; } tried[KINDS] = {
      {"SGD", VIT_SGD, 0, 0.03f}, {"SGD", VIT_SGD, 0, 0.3f}, {"SGD, momentum 0.9", VIT_SGD, 0.9f, 0.003f},
      {"SGD, momentum 0.9", VIT_SGD, 0.9f, 0.03f}, {"SGD, momentum 0.9", VIT_SGD, 0.9f, 0.3f},
      {"Adam", VIT_ADAM, 0, 0.005f}};
  vit_config own = *c;
  vit_model m;
  vit_state s;
  vit_tensor t, least_of, most_of;
  int order[B], labels[B];
  const int n = train->count < B ? train->count : B;
  float *images = nb_floats(n * train->height * train->width);
  vit_dataset few = *train;
  double loss, least = INFINITY, most = 0;
  nb_cell("One rate for all tensors? The gradients of a new model, and plain descent");
  vit_dataset_limit(&few, IMAGES);
  own.softmax_before_loss = 0;
  for (int i = 0; i < n; i++) order[i] = i;
  vit_dataset_batch(train, order, n, images, labels);
  nb_try(vit_model_create(&m, &own, 1));
  nb_try(vit_state_create(&s, &m, n, VIT_FOR_TRAINING, 1));
  vit_zero_gradients(&s);
  nb_try(vit_forward(&m, &s, images, n));
  nb_try(vit_loss(&m, &s, labels, 0, &loss));
  nb_try(vit_backward(&m, &s, 1));
  memset(&least_of, 0, sizeof least_of);
  memset(&most_of, 0, sizeof most_of);
  for (int i = 0; vit_tensor_at(&own, i, &t); i++) {
    double sum, size;
    vit_naive.sum_squares(&sum, s.grads.block + t.offset, (int)t.count);
    size = sqrt(sum / (double)t.count); /* root of the mean square */
    if (size < least) least = size, least_of = t;
    if (size > most) most = size, most_of = t;
  }
  printf("  usual size of a gradient: %.1e in %s,\n  %.1e in %s: 1 to %.0f\n", least, least_of.name, most, most_of.name,
         most / least);
  vit_state_free(&s);
  vit_model_free(&m);
  free(images);
  printf("  %s%-22s%8s   loss of training in epoch 1, 2, ..%s\n", nb_dim(), "optimiser", "rate", nb_plain());
  for (int k = 0; k < KINDS; k++) {
    vit_fit_config f = vit_fit_defaults();
    vit_history h;
    vit_result r;
    f.batch = B;
    f.epochs = EPOCHS;
    f.optimizer.algorithm = tried[k].algorithm;
    f.optimizer.momentum = tried[k].momentum;
    f.schedule = vit_schedule_constant(tried[k].rate);
    nb_try(vit_model_create(&m, &own, 1));
    m.threads = 1; /* batches are small */
    r = vit_fit(&m, &f, &few, NULL, &h);
    printf("  %-22s%8g  ", tried[k].name, (double)tried[k].rate);
    for (int e = 0; e < h.epochs; e++) printf("%8.4f", h.epoch[e].train_loss);
    if (r == VIT_ERR_DIVERGED) printf("  diverged");
    else nb_try(r);
    printf("\n");
    vit_history_free(&h);
    vit_model_free(&m);
  }
}

/* ---- [15] ----------------------------------------------------------------- */

enum { SMALL = 600, HELD = 200 };

/* The held-back images choose an epoch; the test images only tell what became of it. */
enum { LOWEST, BEST, LAST, CHOICES };
typedef struct {
  const vit_dataset *test;
  double lowest, loss[CHOICES], accuracy[CHOICES];
  vit_epoch epoch[CHOICES];
  int at[CHOICES];
} choices;

static int judge_epoch(const vit_progress *p, void *user) {
  choices *j = (choices *)user;
  const vit_epoch *e = p->result;
  int chosen[CHOICES];
  double loss = 0, accuracy = 0;
  if (!p->epoch_done) return 0;
  if (p->epoch == 2 || p->epoch == 5 || p->epoch % 10 == 0)
    printf("  %5d %16.4f %16.4f %16.2f %%\n", p->epoch, e->train_loss, e->val_loss, 100 * e->val_accuracy);
  chosen[LOWEST] = p->epoch == 1 || e->val_loss < j->lowest;
  chosen[BEST] = p->history->best == p->epoch;
  chosen[LAST] = p->epoch == p->epochs;
  if (chosen[LOWEST]) j->lowest = e->val_loss;
  if (chosen[LOWEST] || chosen[BEST] || chosen[LAST])
    nb_try(vit_evaluate(p->model, j->test, &loss, &accuracy, NULL, NULL, NULL));
  for (int i = 0; i < CHOICES; i++)
    if (chosen[i]) j->at[i] = p->epoch, j->epoch[i] = *e, j->loss[i] = loss, j->accuracy[i] = accuracy;
  return 0;
}

static void by_heart(vit_dataset *train, const vit_dataset *test, const vit_config *c) {
  static const char *const names[CHOICES] = {"lowest held-back loss", "most of them right", "the last one"};
  vit_fit_config f = vit_fit_defaults();
  vit_config own = *c;
  vit_dataset held;
  vit_history h;
  vit_model m;
  choices j;
  char heading[100];
  memset(&j, 0, sizeof j);
  j.test = test;
  vit_dataset_limit(train, SMALL);
  nb_try(vit_dataset_split(train, HELD * train->count / SMALL, 1, &held));
  snprintf(heading, sizeof heading, "When to stop: %d images are learned, %d held back to judge", train->count,
           held.count);
  nb_cell(heading);
  own.softmax_before_loss = 0;
  f.epochs = 100;
  f.batch = 32;
  f.callback = judge_epoch;
  f.user = &j;
  nb_try(vit_model_create(&m, &own, 1));
  m.threads = 1; /* batches are small */
  printf("  %s%5s %16s %16s %18s%s\n", nb_dim(), "epoch", "training loss", "held-back loss", "right of them",
         nb_plain());
  nb_try(vit_fit(&m, &f, train, &held, &h));
  printf("\n  %s%-24s%7s%20s%23s%s\n  %s%-24s%7s%10s%12s%11s%12s%s\n", nb_dim(), "", "", "held back", "test images",
         nb_plain(), nb_dim(), "which epoch?", "", "loss", "right", "loss", "right", nb_plain());
  for (int i = 0; i < CHOICES; i++)
    printf("  %-24s%7d%10.4f%10.2f %%%11.4f%10.2f %%\n", names[i], j.at[i], j.epoch[i].val_loss,
           100 * j.epoch[i].val_accuracy, j.loss[i], 100 * j.accuracy[i]);
  nb_figure(vit_plot_history(nb_out, "held", &h, "held-back images", &own), "held");
  vit_history_free(&h);
  vit_model_free(&m);
  vit_dataset_free(&held);
}

/* ---- [16] ----------------------------------------------------------------- */

/* Models that know nothing: each answers by chance. The best of them is chosen. */
static void choose_by_luck(void) {
  enum { IMAGES = 200, MOST = 1000 };
  static const int tries[] = {1, 10, 100, 1000};
  vit_rng rng = vit_rng_create(1, 0);
  int best = -1, again = 0, t = 0;
  nb_cell("The best of many is lucky: models that guess among ten classes");
  printf("  %s%-22s%24s%18s%s\n", nb_dim(), "the best of so many", "right of the 200 images", "right of 200", nb_plain());
  printf("  %s%-22s%24s%18s%s\n", nb_dim(), "models", "that it was chosen by", "others", nb_plain());
  for (int n = 1; n <= MOST; n++) {
    int right[2] = {0, 0};
    for (int i = 0; i < 2 * IMAGES; i++) right[i / IMAGES] += vit_random_below(&rng, 10) == 0;
    if (right[0] > best) best = right[0], again = right[1];
    if (n == tries[t]) printf("  %-22d%22.1f %%%16.1f %%\n", tries[t++], 100.0 * best / IMAGES, 100.0 * again / IMAGES);
  }
}

/* ---- [17] ----------------------------------------------------------------- */

static void by_vectors(void) {
  enum { N = 5689 };
  static const char *const names[] = {"sgd_step", "adam_step", "sum_squares"};
  const vit_adam_constants a = adam_at(10, 1e-3f, 0.01f, 1);
  float *g = nb_floats(N), *x[2][3];
  double us[2], sum[2] = {0, 0}, difference[3];
  nb_cell("Vectors: a step of 5,689 parameters, on one thread");
  nb_normal(g, N, 1);
  for (int i = 0; i < 6; i++) {
    x[i % 2][i / 2] = nb_floats(N);
    nb_normal(x[i % 2][i / 2], N, 2);
    for (int k = 0; i >= 4 && k < N; k++) x[i % 2][2][k] *= x[i % 2][2][k]; /* v is a square */
  }
  for (int which = 0; which < 2; which++) { /* one step from the same place */
    const vit_kernels *k = which ? vit_best_kernels() : &vit_naive;
    k->sgd_step(x[which][0], x[which][1], g, N, 1e-3f, 0.9f, 0.01f);
    k->sum_squares(sum + which, g, N);
  }
  difference[0] = vit_max_difference(x[0][0], x[1][0], N);
  for (int which = 0; which < 2; which++)
    (which ? vit_best_kernels() : &vit_naive)->adam_step(x[which][0], x[which][1], x[which][2], g, N, &a);
  difference[1] = vit_max_difference(x[0][0], x[1][0], N);
  difference[2] = fabs(sum[0] - sum[1]);
  printf("  %s                  naive (us)    SIMD (us)     ratio    difference%s\n", nb_dim(), nb_plain());
  for (int i = 0; i < 3; i++) {
    for (int which = 0; which < 2; which++) {
      const vit_kernels *k = which ? vit_best_kernels() : &vit_naive;
      float **y = x[which];
      if (i == 0) NB_FASTEST(us[which], k->sgd_step(y[0], y[1], g, N, 1e-6f, 0.9f, 0.01f));
      if (i == 1) NB_FASTEST(us[which], k->adam_step(y[0], y[1], y[2], g, N, &a));
      if (i == 2) NB_FASTEST(us[which], k->sum_squares(sum + which, g, N));
    }
    printf("  %-15s %12.1f %12.1f %8.1fx %13.0e\n", names[i], us[0], us[1], us[0] / us[1], difference[i]);
  }
  for (int i = 0; i < 6; i++) free(x[i % 2][i / 2]);
  free(g);
}

/* Refuse what cannot work before anything is read or drawn. */
static void check_flags(vit_config *c) {
  if (epochs < 1 || epochs > 1000000) nb_stop("--epochs must be from 1 to 1000000");
  if (batch < 1 || batch > 1000000) nb_stop("--batch must be from 1 to 1000000");
  if (!(rate >= 0 && rate <= 1000)) nb_stop("--lr must be from 0 to 1000");
  if (threads < 0 || threads > 1024) nb_stop("--threads must be from 0 (all) to 1024");
  if (kernels && strcmp(kernels, "naive") && strcmp(kernels, "simd"))
    nb_stop("--kernels must be naive or simd");
  nb_list("--model", changes, c, nb_set_config);
  nb_try(vit_config_resolve(c));
  if (c->classes != 10 || c->channels != 1)
    nb_stop("--model: the digits have 10 classes and 1 channel; the model must have as many");
}

int main(int argc, char **argv) {
  const nb_flag flags[] = {
      {"--epochs", "N", "passes over the training images (5)", &epochs, NULL, NULL},
      {"--batch", "N", "images per step (128)", &batch, NULL, NULL},
      {"--lr", "RATE", "learning rate of Adam, halved over the run (0.005)", NULL, &rate, NULL},
      {"--seed", "N", "of the initial weights and the shuffling (1)", &seed, NULL, NULL},
      {"--threads", "N", "0 = all cores (0)", &threads, NULL, NULL},
      {"--kernels", "naive|simd", "which kernels run (the best)", NULL, NULL, &kernels},
      {"--model", "LIST", "change the model, such as depth=4,width=36; a wrong name lists all", NULL, NULL,
       &changes}};
  vit_config c = vit_config_tutorial();
  vit_dataset train, test;
  vit_model m;
  vit_history h;
  double loss, accuracy;
  int *guess;
  float *p;
  nb_start("08-training",
           "The whole tutorial: a Vision Transformer of 5,689 numbers learns to read digits.", argc,
           argv, flags, 7);
  check_flags(&c);
  load_data(&train, &test);
  resize_images(&train, &test, &c);
  optimisers();
  schedules();
  make_model(&m, &c);
  train_model(&m, &train, &test, &h);
  guess = (int *)malloc((size_t)test.count * sizeof(int));
  p = (float *)malloc((size_t)test.count * 10 * sizeof(float));
  if (!guess || !p) nb_stop("out of memory for the test results");
  nb_try(vit_evaluate(&m, &test, &loss, &accuracy, guess, p, NULL));
  show_confusion(&test, guess);
  nb_show_mistakes(&test, guess, p);
  show_attention(&m, &test);
  three_steps();
  without_correction();
  two_decays();
  rates(&train, &c);
  one_rate_for_all(&train, &c);
  by_heart(&train, &test, &c);
  choose_by_luck();
  by_vectors();
  nb_next("model.safetensors");
  printf("\ntest accuracy %.2f %%\n", 100 * accuracy);
  free(guess);
  free(p);
  vit_history_free(&h);
  vit_model_free(&m);
  vit_dataset_free(&train);
  vit_dataset_free(&test);
  return 0;
}
