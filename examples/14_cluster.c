// The recipes of 09 on several machines, by MPI: the same bits as on one.
#include "mnist.h"

#include <mpi.h>

/* Started by mpirun, this program runs on each machine (or core) as rank 0, 1, ...
   All have the same images, settings and weights. Of each batch a rank computes its
   part; the gradients are added over all ranks, and each takes the same step. */
static struct {
  int rank, ranks, running;
  int tree;                      /* 1: sums by the tree that one program climbs */
  int stop;                      /* what all ranks agree on: see add_losses */
  float *theirs;                 /* gradients from another rank */
  double begun, exchange, bytes; /* seconds: first step, all of MPI; a step's bytes */
  int steps, patience, err;      /* err: where a rank speaks */
  FILE *kept;                    /* what a silent rank has to say */
} mpi;

/* ---- one voice ------------------------------------------------------------ */

static void say(int to, const char *text) {
  if (write(to, text, strlen(text)) < 0) _exit(1);
}

/* A program that ends before its time ends all others. Rank 0 speaks first: most of
   what it says, all would say. */
static void leave(void) {
  char line[1000];
  if (!mpi.running) return;
  if (mpi.stop) { /* all of them end */
    MPI_Finalize();
    return;
  }
  if (mpi.rank) {
    sleep(1);
    if (mpi.kept) rewind(mpi.kept);
    while (mpi.kept && fgets(line, sizeof line, mpi.kept)) say(mpi.err, line);
  }
  MPI_Abort(MPI_COMM_WORLD, 1);
}

static void begin(int *argc, char ***argv) {
  MPI_Init(argc, argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &mpi.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &mpi.ranks);
  mpi.running = 1;
  mpi.err = dup(2);
  atexit(leave);
  if (!mpi.rank) return;
  mpi.kept = tmpfile(); /* ranks above 0 are silent */
  if (!mpi.kept || !freopen("/dev/null", "w", stdout)) exit(1);
  dup2(fileno(mpi.kept), 2);
}

static void end(int status) {
  fflush(stdout);
  MPI_Finalize();
  mpi.running = 0;
  exit(status);
}

/* mpirun ends all ranks when one is lost, and on Ctrl-C. The others may wait for one
   that is gone, so this is said before anything else is tried. */
static void on_end(int number) {
  (void)number;
  lab_interrupted = 1;
  if (!mpi.rank)
    say(mpi.err, "\nAsked to end: by you, or because a rank was lost. The last checkpoint is whole;\n"
                 "the same command with --resume goes on from it.\n");
}

/* A machine that is cut off ends nothing by itself: the others would wait for ever. */
static void on_silence(int number) {
  (void)number;
  say(mpi.err, mpi.rank ? "" : "\nNo answer from another rank for longer than --patience: it was lost, or cut off.\n"
                               "The last checkpoint is whole; the same command with --resume goes on from it.\n");
  _exit(1);
}

/* The time of everything between the two is MPI's. */
static double exchange_begin(void) {
  alarm((unsigned)mpi.patience);
  return MPI_Wtime();
}
static void exchange_end(double start) {
  alarm(0);
  mpi.exchange += MPI_Wtime() - start;
}

/* ---- the sums --------------------------------------------------------------- */

/* Number i of `to` becomes the sum of all ranks' number i, as a binary tree: rank r
   adds what rank r ^ 1 has, then the pair r ^ 2, and so on: ((0 + 1) + (2 + 3)) + ...
   a + b and b + a have the same bits, so both sides of a pair get the same sum. */
static void add_as_tree(float *to, size_t count) {
  for (int step = 1; step < mpi.ranks; step *= 2) {
    MPI_Sendrecv(to, (int)count, MPI_FLOAT, mpi.rank ^ step, 0, mpi.theirs, (int)count, MPI_FLOAT,
                 mpi.rank ^ step, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (size_t i = 0; i < count; i++) to[i] += mpi.theirs[i];
  }
}

/* The hook of vit_fit between gradients and optimiser. */
static vit_result add_gradients(float *g, size_t count, void *user) {
  const double start = exchange_begin();
  (void)user;
  if (mpi.tree) add_as_tree(g, count);
  else MPI_Allreduce(MPI_IN_PLACE, g, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  exchange_end(start);
  mpi.steps++;
  return VIT_OK;
}

/* Each loss is known to one rank and 0 elsewhere, so their sum is exact. All have to
   stop after the same step: whether one was asked to goes the same way. */
static vit_result add_losses(double *losses, int count, void *user) {
  const double start = exchange_begin();
  int asked = lab_interrupted != 0;
  (void)user;
  if (mpi.begun == 0) {
    mpi.begun = start;
    signal(SIGINT, on_end);
    signal(SIGTERM, on_end);
    signal(SIGALRM, on_silence);
  }
  MPI_Allreduce(MPI_IN_PLACE, losses, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(&asked, &mpi.stop, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  exchange_end(start);
  return VIT_OK;
}

/* How the ranks share a run of this model. */
static void share(lab *l, const vit_model *m) {
  const size_t bytes = m->params.count * sizeof(float);
  char text[300];
  const int branch = 16 % mpi.ranks ? 0 : 16 / mpi.ranks; /* parts of a batch that a rank has */
  const int images = branch ? (l->fit.batch + 15) / 16 * branch : (l->fit.batch + mpi.ranks - 1) / mpi.ranks;
  const int pairs = mpi.ranks > 1 && (l->fit.augment.mixup > 0 || l->fit.augment.cutmix > 0);
  mpi.tree = m->params.count <= 1 << 20 && branch && l->fit.accumulate == 1 && !pairs;
  mpi.theirs = nb_floats((int)m->params.count);
  l->fit.parts = mpi.ranks;
  l->fit.part = mpi.rank;
  l->fit.gradients = add_gradients;
  l->fit.losses = add_losses;
  l->stop = &mpi.stop;
  for (int step = 1; step < mpi.ranks; step *= 2) mpi.bytes += (double)bytes;
  if (!mpi.tree) mpi.bytes = 2 * (double)bytes * (mpi.ranks - 1) / mpi.ranks;
  nb_cell("How the work is shared");
  snprintf(text, sizeof text, "%d, each with %d thread%s; of a batch of %d images %d at most", mpi.ranks,
           vit_model_threads(m), vit_model_threads(m) == 1 ? "" : "s", l->fit.batch,
           images < l->fit.batch ? images : l->fit.batch);
  nb_row("ranks", text);
  snprintf(text, sizeof text, "each rank sends %.2f MB a step", mpi.bytes / 1e6);
  nb_row("exchange", text);
  nb_row("bits", mpi.tree ? "those of one program: gradients are added as the same binary tree"
                  : pairs ? "not those of one program: mixup and cutmix make pairs within a rank's images"
                          : "not those of one program: MPI adds in an order of its own (the same bits want at "
                            "most 2^20 parameters, 1, 2, 4, 8 or 16 ranks)");
}

/* ---- a run ------------------------------------------------------------------- */

/* What rank 0 has at `path` is copied to the other ranks' files. */
static void hand_out(const char *path) {
  double size = -1;
  unsigned char *bytes = NULL;
  FILE *f = mpi.rank ? NULL : fopen(path, "rb");
  if (f && !fseek(f, 0, SEEK_END)) size = (double)ftell(f);
  MPI_Bcast(&size, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  if (size > 0) bytes = (unsigned char *)malloc((size_t)size);
  if (size > 0 && (!bytes || size > INT_MAX)) nb_stop("no memory for the checkpoint that is handed out");
  if (f) rewind(f);
  if (f && size > 0 && fread(bytes, 1, (size_t)size, f) != (size_t)size) nb_stop("cannot read the checkpoint");
  if (size > 0) MPI_Bcast(bytes, (int)size, MPI_BYTE, 0, MPI_COMM_WORLD);
  if (f) fclose(f);
  if (mpi.rank && size > 0) {
    f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, (size_t)size, f) != (size_t)size || fclose(f)) nb_stop("cannot write the checkpoint");
  } else if (mpi.rank) remove(path);
  free(bytes);
}

/* Rank 0 has read its flags and data without an error: the others follow. A run that
   goes on begins with rank 0's files everywhere. */
static void follow(const lab *l) {
  static const char *const names[] = {"last.safetensors", "history.csv"};
  char path[600];
  MPI_Barrier(MPI_COMM_WORLD);
  for (int i = 0; l->fit.resume && i < 2; i++) {
    if (!i) nb_try(vit_make_dir(nb_out));
    snprintf(path, sizeof path, "%.500s/%s", nb_out, names[i]);
    hand_out(path);
  }
}

static void report_time(const lab *l) {
  const double all = MPI_Wtime() - mpi.begun;
  char text[300];
  if (!mpi.steps) return;
  nb_cell("What the machines did with their time");
  snprintf(text, sizeof text, "%.2f ms, %.2f of them (%.1f %%) in MPI, waiting included (judging the epochs too)",
           1e3 * all / mpi.steps, 1e3 * mpi.exchange / mpi.steps, 100 * mpi.exchange / all);
  nb_row("a step", text);
  snprintf(text, sizeof text, "%.0f images a second", (double)l->fit.batch * mpi.steps / all);
  nb_row("speed", text);
}

/* ---- on paper ------------------------------------------------------------------ */

/* Seconds of a training step of `images` images of this model, on one thread. */
static double step_time(const vit_config *c, int images) {
  vit_model m;
  vit_state s;
  double best = 1e9, loss;
  int *labels = (int *)calloc((size_t)images, sizeof(int));
  float *x;
  nb_try(vit_model_create(&m, c, 1));
  m.threads = 1;
  x = nb_floats(images * m.config.channels * m.config.image_height * m.config.image_width);
  if (!labels) nb_stop("out of memory");
  nb_try(vit_state_create(&s, &m, images, VIT_FOR_TRAINING, 1));
  for (int i = 0; i < 3; i++) {
    const double start = vit_seconds();
    nb_try(vit_forward(&m, &s, x, images));
    nb_try(vit_loss(&m, &s, labels, 0, &loss));
    nb_try(vit_backward(&m, &s, 1));
    best = fmin(best, vit_seconds() - start);
  }
  vit_state_free(&s);
  vit_model_free(&m);
  free(labels);
  free(x);
  return best;
}

/* Seconds of an all-reduce by a ring: each of R machines sends 2 (R - 1) pieces of 1 / R
   of the bytes (Patarasuk and Yuan 2009). `wait`: how long a message takes to arrive. */
static double ring(double bytes, double R, double gigabits, double wait) {
  return R < 2 ? 0 : 2 * (R - 1) * (wait + bytes / R / (gigabits * 1e9 / 8));
}

/* time = work / ranks + all-reduce, for machines that nobody here has. */
static void on_paper(void) {
  static const double nets[] = {1, 10, 100}, wait = 50e-6;
  static const struct { const char *name; int images; vit_config (*make)(void); } models[] = {
      {"MNIST model, batch 64 a machine", 64, vit_config_mnist}, {"B/16, batch 8 a machine", 8, vit_config_b16}};
  vit_plot p;
  nb_cell("More machines, on paper: time = work / machines + exchange");
  nb_try(vit_plot_begin(&p, nb_out, "paper", 900, 420));
  fprintf(p.script, "set multiplot layout 1,2 title 'Machines on paper: how much of their speed is left'\n"
                    "set logscale x 2\nset xrange [1:1024]\nset yrange [0:105]\nset grid\nset key bottom left\n"
                    "set xlabel 'machines'\nset ylabel 'efficiency, %%'\n");
  for (int k = 0; k < 2; k++) {
    vit_config c = models[k].make();
    double work, bytes;
    if (!k) c.patch_height = c.patch_width = 7; /* as 09 trains it */
    work = step_time(&c, models[k].images);
    bytes = (double)vit_parameter_count(&c) * sizeof(float);
    printf("\n  %s: %.3g ms of work and %.3g MB a step\n", models[k].name, 1e3 * work, bytes / 1e6);
    printf("  %s  Gbit/s %12s %14s %14s   images a second%s\n", nb_dim(), "8 machines", "64", "1024", nb_plain());
    for (int n = 0; n < 3; n++) {
      printf("  %8g", nets[n]);
      for (double R = 8; R <= 1024; R *= R < 64 ? 8 : 16) {
        const double time = work + ring(bytes, R, nets[n], wait), speed = R * models[k].images / time;
        printf("%*.*f (%3.0f %%)", R < 64 ? 12 : 8, speed < 100, speed, 100 * work / time);
      }
      printf("\n");
      for (double R = 1; R <= 1024; R *= 2)
        fprintf(p.data, "%g %g\n", R, 100 * work / (work + ring(bytes, R, nets[n], wait)));
      fprintf(p.data, "\n\n");
    }
    fprintf(p.script, "set title '%s'\nplot for [n=0:2] 'paper.dat' index %d+n using 1:2 with linespoints lw 2 "
                      "title word('1 10 100', n+1).' Gbit/s'\n", models[k].name, 3 * k);
  }
  fprintf(p.script, "unset multiplot\n");
  nb_figure(vit_plot_end(&p), "paper");
  nb_say("Every machine keeps its batch, so the batch of all grows with them: 1024 machines make steps of 65,536 "
         "digits, which no recipe here was made for. A message is taken to need 50 microseconds, and a machine one "
         "core.");
}

int main(int argc, char **argv) {
  const char *preset = lab_argument(argc, argv, "--preset", "quick");
  lab l;
  char name[60], own[700];
  int paper = 0;
  nb_flag flags[LAB_FLAGS + 3];
  vit_dataset train, test, held;
  const vit_dataset *judge;
  vit_history h;
  vit_model m;
  begin(&argc, &argv);
  if (mpi.rank) MPI_Barrier(MPI_COMM_WORLD); /* rank 0 goes first */
  l = recipe(preset, argc, argv);
  l.threads = 1;
  mpi.patience = 60;
  {
    const nb_flag first[3] = {{"--preset", "NAME", "a recipe of 09 (quick)", NULL, NULL, &l.preset},
                              {"--patience", "N", "seconds to wait for another rank", &mpi.patience, NULL, NULL},
                              {"--paper", "", "no training: what more machines would bring, on paper", &paper, NULL, NULL}};
    memcpy(flags, first, sizeof first);
  }
  lab_flags(&l, flags + 3);
  snprintf(name, sizeof name, "14-cluster/%.20s", l.preset);
  nb_start(name, "Train on several machines by MPI, with the bits of one: mpirun -n 4 build/14_cluster", argc, argv,
           flags, LAB_FLAGS + 3);
  if (paper) {
    if (!mpi.rank) on_paper();
    end(0);
  }
  if (mpi.rank) {
    snprintf(own, sizeof own, "%.600s/rank-%d", nb_out, mpi.rank);
    nb_out = own;
  }
  if (mpi.patience < 1) nb_stop("--patience must be at least 1 second");
  if (l.compare || l.live) nb_stop("--compare and --live are 09's: this program only trains");
  lab_open_init(&l);
  lab_settle(&l);
  nb_cell("Data");
  nb_load(&train, VIT_TRAIN);
  nb_load(&test, VIT_TEST);
  nb_try(vit_dataset_resize(&train, l.config.image_height, l.config.image_width));
  nb_try(vit_dataset_resize(&test, l.config.image_height, l.config.image_width));
  if (l.normalize) nb_try(vit_dataset_normalize(&train, &train));
  lab_take_over(&l, &train);
  memcpy(test.mean, train.mean, sizeof test.mean);
  memcpy(test.std, train.std, sizeof test.std);
  judge = lab_hold_back(&l, &train, &held);
  nb_try(vit_model_create(&m, &l.config, l.fit.seed));
  m.threads = l.threads;
  lab_begin_with(&l, &m, &train);
  if (!mpi.rank) MPI_Barrier(MPI_COMM_WORLD);
  follow(&l);
  share(&l, &m);
  lab_print_plan(&l, &m, &train, judge, &test);
  lab_train(&l, &m, &train, judge, &h);
  report_time(&l);
  if (!mpi.rank) lab_report(&l, &m, &test, &h);
  end(0);
}
