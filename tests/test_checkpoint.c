/* What a training run writes: safetensors files, models, checkpoints; that they
   are replaced as a whole, also when the disk is full or the program is killed;
   and that a run which was stopped goes on as if it had not been. */
#if !defined(_XOPEN_SOURCE) && !defined(_GNU_SOURCE)
#define _XOPEN_SOURCE 700 /* popen, setrlimit, nanosleep */
#endif
#include <errno.h>
#ifndef _WIN32
#include <sys/resource.h>
#include <sys/wait.h>
#endif

#ifdef __cplusplus
extern "C"
#endif
int test_fsync(int file);
#define fsync test_fsync
#include <locale.h>
static char comma_point[2] = ".";
static struct lconv *test_localeconv(void) { /* a comma, also where no such locale is installed */
  static struct lconv l;
  l.decimal_point = comma_point;
  return &l;
}
#define localeconv test_localeconv
#include "files.h"
#include "changed.h"
#include "fixtures/old_run.h"

/* A kill needs no disk, and a disk is slow: flushing is counted, or fails. */
static struct { int calls, fail_at; } flush;

int test_fsync(int file) {
  (void)file;
  if (++flush.calls != flush.fail_at) return 0;
  errno = EIO;
  return -1;
}

/* ---- files --------------------------------------------------------------- */

typedef struct { unsigned char *at; size_t size; } bytes;

static bytes read_bytes(const char *path) {
  bytes b = {NULL, 0};
  FILE *f = fopen(path, "rb");
  long size;
  if (!f) return b;
  fseek(f, 0, SEEK_END);
  size = ftell(f);
  rewind(f);
  b.at = (unsigned char *)malloc((size_t)size + 1);
  if (!b.at) exit(1);
  b.size = fread(b.at, 1, (size_t)size, f);
  b.at[b.size] = 0;
  fclose(f);
  return b;
}
static void write_bytes(const char *path, const void *at, size_t size) {
  FILE *f;
  remove(path); /* a new file is not flushed when it is closed, a cut one may be */
  f = fopen(path, "wb");
  if (!f || fwrite(at, 1, size, f) != size) exit(1);
  fclose(f);
}
static int equal(const bytes *a, const bytes *b) {
  return a->at && b->at && a->size == b->size && !memcmp(a->at, b->at, a->size);
}
static int same_file(const char *a, const char *b) {
  bytes x = read_bytes(a), y = read_bytes(b);
  int same = equal(&x, &y);
  free(x.at);
  free(y.at);
  return same;
}
static const char *const run_files[] = {"last.safetensors", "best.safetensors",
                                        "history.csv", "lock"};
static void in_folder(char path[300], const char *dir, const char *name) {
  snprintf(path, 300, "%s/%s", dir, name);
}
/* Remove what a run wrote into DIR, and DIR. */
static void clear(const char *dir) {
  char path[300];
  for (int i = 0; i < 4; i++) {
    in_folder(path, dir, run_files[i]);
    remove(path);
    rests(path, 1);
  }
  remove(dir);
}
static void same_run_files(const char *what, const char *a, const char *b, int best) {
  char x[300], y[300];
  for (int i = 0; i < 1 + best; i++) {
    in_folder(x, a, run_files[i]);
    in_folder(y, b, run_files[i]);
    CHECK(same_file(x, y), "%s: %s differs", what, run_files[i]);
  }
  for (int i = 0; i < 3; i++) {
    in_folder(x, a, run_files[i]);
    CHECK(!rests(x, 0), "%s: %s.*.tmp is left", what, run_files[i]);
  }
}

/* ---- a small model, its pictures, and its runs --------------------------- */

static vit_config small_config(void) {
  return changed(vit_config_tutorial(),
                 "image_height=6 image_width=8 patch_height=3 patch_width=4 classes=4 "
                 "width=8 depth=2 heads=2 mlp_width=8 positions=2 head=0 final_norm=1 "
                 "pos_drop=0.1 attn_drop=0.1 mlp_drop=0.1 drop_path=0.2");
}
static void make_model(vit_model *m, uint64_t seed, int threads) {
  vit_config c = small_config();
  CHECK(!vit_model_create(m, &c, seed), "%s", vit_error());
  m->threads = threads;
}

/* Four classes: a bright quarter each, and noise. */
static struct { uint8_t pixels[64 * 48], labels[64]; } store;
static vit_dataset pictures(int count, int from) {
  vit_dataset d;
  vit_rng rng = vit_rng_create(77, (uint32_t)from);
  memset(&d, 0, sizeof d);
  d.count = count;
  d.channels = 1;
  d.height = 6;
  d.width = 8;
  d.classes = 4;
  d.pixels = store.pixels + from * 48;
  d.labels = store.labels + from;
  for (int c = 0; c < 3; c++) d.mean[c] = 0.125f * (float)c, d.std[c] = 0.3f;
  for (int i = 0; i < count; i++) {
    int label = (int)vit_random_below(&rng, 4);
    d.labels[i] = (uint8_t)label;
    for (int y = 0; y < 6; y++)
      for (int x = 0; x < 8; x++) {
        int bright = y / 3 == label / 2 && x / 4 == label % 2;
        d.pixels[(i * 6 + y) * 8 + x] =
            (uint8_t)(vit_random_below(&rng, 150) + (bright ? 80 : 0));
      }
  }
  return d;
}
enum { IMAGES = 26, BATCH = 4, STEPS = 7, HELD_BACK = 12, EPOCHS = 4 };

static vit_augment every_change(void) {
  vit_augment a;
  const char *name, *text;
  float *value;
  memset(&a, 0, sizeof a);
  for (int i = 0; vit_augment_field(&a, i, &name, &text, &value); i++) {
    *value = 0.25f;
    if (!strcmp(name, "rotate") || !strcmp(name, "shear")) *value = 10;
    if (!strcmp(name, "elastic_width") || !strncmp(name, "rand", 4)) *value = 2;
    if (!strcmp(name, "crop")) *value = 0.8f;
  }
  return a;
}

/* Four kinds of run: everything on with AdamW; SGD and a plateau; Adam without
   images that judge; and as little as there can be. */
enum { KINDS = 4 };
static int judged(int kind) { return kind != 2; }
static vit_fit_config recipe(int kind, const char *dir) {
  vit_fit_config f = vit_fit_defaults();
  f.epochs = EPOCHS;
  f.batch = BATCH;
  f.seed = ((uint64_t)3 << 40) + 7;
  f.dir = dir;
  f.resume = 1;
  f.schedule = vit_schedule_constant(0.02f);
  if (kind == 0) {
    f.accumulate = 3;
    f.smoothing = 0.1f;
    f.ema = 0.8f;
    f.keep_best = 1;
    f.early_stop = 3;
    f.augment = every_change();
    f.optimizer = vit_optimizer_defaults(VIT_ADAMW);
    f.optimizer.clip_norm = 1;
    f.schedule.kind = VIT_COSINE;
    f.schedule.warmup = 3;
  } else if (kind == 1) {
    f.accumulate = 2;
    f.early_stop = 5;
    f.augment.mixup = 0.3f;
    f.optimizer = vit_optimizer_defaults(VIT_SGD);
    f.optimizer.momentum = 0.9f;
    f.schedule.rate = 0.3f;
    f.schedule.kind = VIT_PLATEAU;
    f.schedule.factor = 0.5f;
    f.schedule.patience = 2;
    f.epochs = 2 * EPOCHS;
  } else if (kind == 2) {
    f.ema = 0.5f;
    f.optimizer = vit_optimizer_defaults(VIT_ADAM);
    f.schedule.kind = VIT_LINEAR;
    f.schedule.floor = 0.001f;
  } else {
    f.keep_best = 1;
  }
  return f;
}

/* Stops in its call number `stop_at`. */
typedef struct { int calls, stop_at; } stopper;
static int stop(const vit_progress *p, void *user) {
  stopper *s = (stopper *)user;
  (void)p;
  return ++s->calls == s->stop_at;
}

typedef struct { vit_model m; vit_history h; vit_result result; } outcome;
static void outcome_free(outcome *o) {
  vit_history_free(&o->h);
  vit_model_free(&o->m);
}

/* One start of a run. If there is a checkpoint, the model begins with other
   weights: all of them must come from the file. */
static void start(outcome *o, const vit_fit_config *f, int kind, uint64_t seed,
                  int threads) {
  vit_dataset d = pictures(IMAGES, 0), t = pictures(HELD_BACK, IMAGES);
  char last[300] = "";
  if (f->dir && f->resume) in_folder(last, f->dir, "last.safetensors");
  make_model(&o->m, exists(last) ? seed : 1, threads);
  o->result = vit_fit(&o->m, f, &d, judged(kind) ? &t : NULL, &o->h);
}
static void run(outcome *o, int kind, const char *dir) {
  vit_fit_config f = recipe(kind, dir);
  start(o, &f, kind, 1, 1);
  CHECK(!o->result, "%s", vit_error());
}

/* The numbers of two histories, to the bit, but for the clock. */
static void same_history(const char *what, const vit_history *a, const vit_history *b) {
  CHECK(a->epochs == b->epochs && a->best == b->best, "%s: %d epochs, best %d, not %d, %d",
        what, a->epochs, a->best, b->epochs, b->best);
  for (int e = 0; e < a->epochs && e < b->epochs; e++) {
    vit_epoch x = a->epoch[e], y = b->epoch[e];
    x.seconds = y.seconds = 0;
    CHECK(!memcmp(&x, &y, sizeof x), "%s: epoch %d: loss %.17g, rate %.9g; not %.17g, %.9g",
          what, e + 1, x.train_loss, x.rate, y.train_loss, y.rate);
  }
}

/* The clock of history.csv, which must go forward; returns the lines after the
   first. */
static int read_history(const char *dir, const vit_history *h) {
  static const char first[] = "epoch,train_loss,val_loss,val_accuracy,val_top5,rate,"
                              "seconds\n";
  char path[300], line[400];
  double before = 0;
  int lines = 0;
  FILE *f;
  in_folder(path, dir, "history.csv");
  f = fopen(path, "r");
  if (!CHECK(f != NULL, "no %s", path)) return 0;
  CHECK(fgets(line, sizeof line, f) && !strcmp(line, first), "first line: %s", line);
  while (fgets(line, sizeof line, f)) {
    double value[6] = {0, 0, 0, 0, 0, 0};
    char *at = line;
    int epoch = (int)strtol(at, &at, 10);
    lines++;
    CHECK(epoch == lines, "line %d says epoch %d", lines, epoch);
    for (int i = 0; i < 6; i++) {
      CHECK(*at == ',', "line %d: %s", lines, line);
      value[i] = strtod(at + 1, &at);
    }
    CHECK(*at == '\n', "line %d has more: %s", lines, line);
    CHECK(value[5] >= before, "the clock goes from %g to %g", before, value[5]);
    before = value[5];
    if (h && epoch <= h->epochs) {
      const vit_epoch *e = h->epoch + epoch - 1;
      const double want[6] = {e->train_loss, e->val_loss, e->val_accuracy,
                              e->val_top5,  e->rate,      e->seconds};
      for (int i = 0; i < 6; i++)
        CHECK(isnan(want[i]) ? isnan(value[i]) : fabs(value[i] - want[i]) <= 1e-8 * want[i],
              "line %d, number %d: %.9g, not %.9g", lines, i, value[i], want[i]);
    }
  }
  fclose(f);
  return lines;
}

/* ---- killed at any moment ------------------------------------------------ */

#ifndef _WIN32
static void sleep_for(uint32_t microseconds) {
  struct timespec t;
  t.tv_sec = (time_t)(microseconds / 1000000);
  t.tv_nsec = (long)(microseconds % 1000000) * 1000;
  nanosleep(&t, NULL);
}

/* Fork a child that does `work`; kill it after a while. 1: it ended by itself. */
static int killed_after(uint32_t microseconds, void (*work)(const char *),
                        const char *path) {
  int status = 0;
  pid_t child;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    work(path);
    _exit(0);
  }
  if (!CHECK(child > 0, "no fork")) return 1;
  sleep_for(microseconds);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0,
        "the child failed: %d", status);
  return !WIFSIGNALED(status);
}

static float many[2][20000];
static vit_result save_many(const char *path, int which) {
  vit_safetensor t;
  memset(&t, 0, sizeof t);
  t.name = "many";
  t.dims = 1;
  t.count = which ? 20000 : 15000;
  t.shape[0] = (int)t.count;
  t.data = many[which];
  memcpy(t.type, "F32", 4);
  return vit_safetensors_write(path, &t, 1, NULL);
}
static void save_for_ever(const char *path) {
  for (int i = 1;; i++)
    if (save_many(path, i % 2)) _exit(1);
}

static void test_killed_while_saving(void) {
  const int kills = test_quick() ? 10 : 60;
  const char *path = path_of("killed.safetensors");
  vit_rng rng = vit_rng_create(2, 0);
  bytes content[2];
  int found[2] = {0, 0}, left;
  test_random(many[0], 20000, 1, 1);
  test_random(many[1], 20000, 1, 2);
  for (int i = 1; i >= 0; i--) {
    CHECK(!save_many(path, i), "%s", vit_error());
    content[i] = read_bytes(path);
  }
  /* longer and longer, if the child is too slow to write at all */
  for (int k = 0; k < kills || (k < 20 * kills && !(found[0] && found[1])); k++) {
    const uint32_t longest = 6000 * (1 + (uint32_t)(k / kills));
    vit_safetensors f;
    bytes now;
    killed_after(500 + vit_random_below(&rng, longest), save_for_ever, path);
    now = read_bytes(path);
    CHECK(equal(&now, &content[0]) || equal(&now, &content[1]),
          "after a kill the file is neither the old nor the new one: %d bytes",
          (int)now.size);
    found[0] += equal(&now, &content[0]);
    found[1] += equal(&now, &content[1]);
    free(now.at);
    CHECK(!vit_safetensors_open(&f, path), "%s", vit_error());
    vit_safetensors_close(&f);
  }
  CHECK(found[0] && found[1], "%d times the one, %d times the other", found[0], found[1]);
  left = rests(path, 0);
  CHECK(!save_many(path, 0), "a rest of the killed one is in the way: %s", vit_error());
  CHECK(rests(path, 1) == left, "the next writer leaves a file, too");
  free(content[0].at);
  free(content[1].at);
  remove(path);
  no_leak("killed while saving");
}

enum { KILLED_EPOCHS = 25 };
static vit_fit_config killed_recipe(const char *dir) {
  vit_fit_config f = recipe(0, dir);
  f.epochs = KILLED_EPOCHS;
  f.early_stop = 0;
  return f;
}
static void fit_in_child(const char *dir) {
  vit_fit_config f = killed_recipe(dir);
  outcome o;
  start(&o, &f, 0, 5, 1);
  if (o.result) _exit(1);
}

static void test_killed_while_training(void) {
  const int rounds = test_quick() ? 2 : 6;
  const char *quiet = path_of("quiet"), *dir = path_of("killed");
  vit_rng rng = vit_rng_create(3, 0);
  vit_fit_config f = killed_recipe(quiet);
  uint32_t whole;
  double begin = vit_seconds();
  int kills = 0;
  outcome o, last;
  start(&o, &f, 0, 1, 1);
  CHECK(!o.result, "%s", vit_error());
  whole = (uint32_t)(1e6 * (vit_seconds() - begin)) + 2000;
  for (int r = 0; r < rounds; r++) {
    /* the time given grows, so that the end is reached on any machine */
    for (uint32_t k = 1; k < 200; k++) {
      if (killed_after(whole / 20 + vit_random_below(&rng, whole / 40 * (k + 5)),
                       fit_in_child, dir))
        break;
      kills++;
    }
    for (int i = 0; i < 3; i++) { /* a kill leaves what it was writing, and no more */
      char path[300];
      in_folder(path, dir, run_files[i]);
      CHECK(rests(path, 1) <= kills, "more rests than kills");
    }
    same_run_files("killed", dir, quiet, 1);
    CHECK(read_history(dir, NULL) == KILLED_EPOCHS, "the history is too short");
    f.dir = dir;
    start(&last, &f, 0, 9, 1); /* it has ended: comes back with its result */
    CHECK(!last.result, "%s", vit_error());
    same_history("killed", &last.h, &o.h);
    CHECK_SAME_BITS("killed", last.m.params.block, o.m.params.block, o.m.params.count);
    outcome_free(&last);
    clear(dir);
  }
  CHECK(kills >= rounds, "only %d kills", kills);
  if (getenv("VIT_TEST_VERBOSE")) printf(" %d kills", kills);
  outcome_free(&o);
  clear(quiet);
  no_leak("killed while training");
}
#else
static void test_killed_while_saving(void) { SKIP("kills are not tested here"); }
static void test_killed_while_training(void) { SKIP("kills are not tested here"); }
#endif

/* ---- safetensors: written and read again --------------------------------- */

static vit_safetensor tensor(const char *name, const char *type, const void *data,
                             int dims, int a, int b, int c) {
  vit_safetensor t;
  memset(&t, 0, sizeof t);
  t.name = name;
  snprintf(t.type, sizeof t.type, "%s", type);
  t.data = data;
  t.dims = dims;
  t.shape[0] = a, t.shape[1] = b, t.shape[2] = c;
  t.count = (size_t)((dims > 0 ? a : 1) * (dims > 1 ? b : 1) * (dims > 2 ? c : 1));
  return t;
}

static void test_write_and_read(void) {
  static const float floats[6] = {1, -2, 0.1f, 1e-30f, 3e30f, -0.0f};
  static const double doubles[3] = {0.1, -1e300, 5e-324};
  static const unsigned char octets[7] = {0, 1, 127, 128, 255, 34, 92};
  static char longest[2001];
  const char *const names[] = {"w", "a \"b\"\\c", "line\nend\ttab\001", "\xc3\xa9\xe2\x82\xac", "",
                               "{\"dtype\":1}", "nothing"};
  const char *notes[] = {"format", "pt", "a \"key\"", "back\\slash", "new\nline", "\r\n\t\b\f\033",
                         "\xc3\xa4\xf0\x9f\x99\x82", "\xe2\x82\xac", "", "", "comma,colon:", "{}[]",
                         "long", longest, NULL};
  const char *path = path_of("written.safetensors");
  for (int i = 0; i < 2000; i++) longest[i] = (char)('a' + i % 26);
  for (int with = 0; with < 2; with++) {
    const vit_safetensor list[7] = {
        tensor(names[0], "F32", floats, 2, 3, 2, 0),  tensor(names[1], "U8", octets, 1, 7, 0, 0),
        tensor(names[2], "F64", doubles, 3, 1, 3, 1), tensor(names[3], "F32", floats + 1, 0, 0, 0, 0),
        tensor(names[4], "U8", octets, 2, 5, 1, 0),   tensor(names[5], "BF16", octets, 1, 3, 0, 0),
        tensor(names[6], "F64", NULL, 3, 4, 0, 2)};
    static const size_t widths[7] = {4, 1, 8, 4, 1, 2, 8};
    vit_safetensors f;
    vit_safetensor t;
    uint64_t header = 0;
    bytes b;
    for (int count = 7; count >= 0; count--) {
      CHECK(!vit_safetensors_write(path, list, count, with ? notes : NULL), "%s", vit_error());
      b = read_bytes(path);
      for (int i = 7; i >= 0; i--) header = header << 8 | b.at[i];
      CHECK(header % 8 == 0 && b.at[8] == '{', "a header of %d bytes", (int)header);
      free(b.at);
      if (!CHECK(!vit_safetensors_open(&f, path), "%s", vit_error())) return;
      CHECK(!vit_safetensors_at(&f, count, &t), "more than %d tensors", count);
      for (int i = 0; i < count; i++) {
        CHECK(!vit_safetensors_find(&f, names[i], &t), "%s", vit_error());
        CHECK(vit_safetensors_at(&f, i, &t) && !strcmp(t.name, names[i]), "name %d: %s", i,
              t.name);
        CHECK(t.dims == list[i].dims && !memcmp(t.shape, list[i].shape, sizeof t.shape) &&
                  t.count == list[i].count && !strcmp(t.type, list[i].type),
              "tensor %s", names[i]);
        CHECK(!t.count || !memcmp(t.data, list[i].data, t.count * widths[i]), "data of %s",
              names[i]);
      }
      for (int i = 0; notes[i]; i += 2) {
        const char *value = vit_safetensors_metadata(&f, notes[i]);
        CHECK(with ? value && !strcmp(value, notes[i + 1]) : !value, "\"%s\" is \"%s\"",
              notes[i], value ? value : "not there");
      }
      vit_safetensors_close(&f);
    }
  }
  remove(path);
  no_leak("written and read");
}

static void test_write_refuses(void) {
  static const float x[4] = {1, 2, 3, 4};
  const char *path = path_of("refused.safetensors");
  vit_safetensor t = tensor("w", "F31", x, 1, 4, 0, 0);
  fails(vit_safetensors_write(path, &t, 1, NULL), VIT_ERR_CONFIG,
        "cannot write %s: tensor w holds 4 elements of type F31, its shape says 4", path);
  t = tensor("w", "F32", x, 2, 2, 2, 0);
  t.count = 3;
  fails(vit_safetensors_write(path, &t, 1, NULL), VIT_ERR_CONFIG,
        "cannot write %s: tensor w holds 3 elements of type F32, its shape says 4", path);
  t = tensor("w", "F32", x, 2, -2, -2, 0);
  CHECK(vit_safetensors_write(path, &t, 1, NULL) == VIT_ERR_CONFIG, "a negative shape");
  t.dims = 9;
  CHECK(vit_safetensors_write(path, &t, 1, NULL) == VIT_ERR_CONFIG, "nine dimensions");
  t.dims = -1;
  t.count = 1;
  CHECK(vit_safetensors_write(path, &t, 1, NULL) == VIT_ERR_CONFIG, "-1 dimensions");
  fails(vit_safetensors_write(path, &t, -1, NULL), VIT_ERR_CONFIG, "cannot write %s: it would hold -1 tensors", path);
  {
    const vit_safetensor twice[2] = {tensor("w", "F32", x, 1, 1, 0, 0), tensor("w", "F32", x, 1, 1, 0, 0)};
    const char *const same[] = {"a", "1", "a", "2", NULL};
    const vit_safetensor half = tensor("w", "F4", x, 1, 3, 0, 0), reserved = tensor("__metadata__", "F32", x, 1, 1, 0, 0);
    fails(vit_safetensors_write(path, twice, 2, NULL), VIT_ERR_FORMAT, "%s: \"w\" is there twice", path);
    fails(vit_safetensors_write(path, twice, 1, same), VIT_ERR_FORMAT, "%s: \"a\" is there twice", path);
    fails(vit_safetensors_write(path, &half, 1, NULL), VIT_ERR_CONFIG,
          "cannot write %s: tensor w holds 3 elements of type F4, its shape says 3", path);
    CHECK(vit_safetensors_write(path, &reserved, 1, NULL) == VIT_ERR_FORMAT, "a tensor with the name of the metadata");
  }
  CHECK(!exists(path), "a refused file is there");
  no_leak("refused");
}

#define BAD "\xEF\xBF\xBD" /* the sign for a byte that is no letter */
static void test_model_file(void) {
  char names[4][VIT_NAME_SIZE] = {"\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                  "\xF0\x9F\x90\xB1 \xE4\xB8\xAD"};
  const char *path = path_of("model.safetensors");
  vit_dataset d = pictures(5, 0);
  vit_config c = changed(small_config(), "norm_eps=1e-6 gelu=1 head=1 block_drop=0.123456789");
  vit_model m, again;
  vit_state s, t;
  vit_safetensors f;
  vit_dataset about;
  float images[5 * 48];
  const int order[5] = {4, 3, 2, 1, 0};
  const float x = 1;
  vit_safetensor alone = tensor("w", "F32", &x, 0, 0, 0, 0);
  CHECK(!vit_model_create(&m, &c, 8), "%s", vit_error());
  CHECK(!vit_model_save(&m, &d, path), "%s", vit_error());
  CHECK(!vit_model_open(&again, path, &about), "%s", vit_error());
  CHECK(!memcmp(&again.config, &m.config, sizeof m.config), "another config");
  CHECK_SAME_BITS("weights", again.params.block, m.params.block, m.params.count);
  CHECK_SAME_BITS("mean", about.mean, d.mean, 3);
  CHECK_SAME_BITS("std", about.std, d.std, 3);
  CHECK(about.channels == 1 && about.height == 6 && about.width == 8 && about.classes == 4 && !about.names &&
            !about.count && !about.pixels && !strcmp(about.source, path),
        "another dataset");
  CHECK(!vit_state_create(&s, &m, 5, VIT_FOR_INFERENCE, 0) &&
            !vit_state_create(&t, &again, 5, VIT_FOR_INFERENCE, 0),
        "%s", vit_error());
  vit_dataset_batch(&d, order, 5, images, NULL);
  vit_forward(&m, &s, images, 5);
  vit_forward(&again, &t, images, 5);
  CHECK_SAME_BITS("predictions", t.probs, s.probs, 20);
  vit_state_free(&s);
  vit_state_free(&t);
  vit_model_free(&again);
  /* without a dataset */
  CHECK(!vit_model_save(&m, NULL, path) && !vit_model_open(&again, path, &about), "%s",
        vit_error());
  for (int i = 0; i < 3; i++) CHECK(about.mean[i] == 0 && about.std[i] == 1, "mean, std of nothing");
  vit_model_free(&again);
  CHECK(!vit_model_open(&again, path, NULL), "%s", vit_error());
  vit_model_free(&again);
  CHECK(!vit_safetensors_open(&f, path), "%s", vit_error());
  CHECK(!strcmp(vit_safetensors_metadata(&f, "format"), "pt"), "format");
  /* no model: the file stays as it is, and nothing is read */
  for (int i = 0; i < 2; i++)
    fails(i ? vit_model_load(&again, &f, "") : vit_model_save(&again, NULL, path), VIT_ERR_STATE,
          "there is no model: vit_model_create failed or was not called", "");
  vit_safetensors_close(&f);
  CHECK(!vit_model_open(&again, path, NULL), "%s", vit_error());
  vit_model_free(&again);
  /* a mean that is no number; names that are no UTF-8: overlong, half a pair, too high */
  d.mean[1] = (float)NAN;
  d.names = names;
  CHECK(!vit_model_save(&m, &d, path), "%s", vit_error());
  fails(vit_model_open(&again, path, &about), VIT_ERR_FORMAT, "%s: its mean of channel 1 is nan", path);
  CHECK(!again.params.block && !about.classes, "a model is left");
  CHECK(!vit_model_open(&again, path, NULL), "nobody asked for the mean: %s", vit_error());
  vit_model_free(&again);
  CHECK(!vit_safetensors_open(&f, path), "%s", vit_error());
  for (int i = 0; i < 3; i++) {
    char key[20];
    snprintf(key, sizeof key, "class.%d", i);
    CHECK(!strcmp(vit_safetensors_metadata(&f, key), i < 2 ? BAD BAD BAD : BAD BAD BAD BAD), "class %d is %s",
          i, vit_safetensors_metadata(&f, key));
  }
  CHECK(!strcmp(vit_safetensors_metadata(&f, "class.3"), names[3]), "a good name has changed");
  vit_safetensors_close(&f);
  /* what is not such a file */
  CHECK(!vit_safetensors_write(path, &alone, 1, NULL), "%s", vit_error());
  fails(vit_model_open(&again, path, &about), VIT_ERR_FORMAT,
        "%s does not say its config.image_height: it was not written by vit.h; "
        "vit_pretrained_open reads such a model, or create it and use vit_model_load",
        path);
  CHECK(!again.params.block, "a model is left");
  remove(path);
  fails(vit_model_open(&again, path, &about), VIT_ERR_FILE,
        "cannot open %s: No such file or directory", path);
  vit_model_pack(&m);
  fails(vit_model_save(&m, NULL, path), VIT_ERR_STATE,
        "this model is packed for inference; call vit_model_unpack first", "");
  CHECK(!exists(path), "a file is left");
  vit_model_free(&m);
  no_leak("model file");
}

/* ---- models in files: what may be missing, what is refused ---------------- */

/* The tensors of one file with other metadata; `skip` is a key to leave out of
   the old ones, `key` and `value` are put in. */
static void with_metadata(const char *from, const char *to, int keep, const char *skip, const char *key,
                          const char *value) {
  vit_safetensors f;
  vit_safetensor list[64];
  const char *notes[200];
  int tensors = 0, n = 0;
  CHECK(!vit_safetensors_open(&f, from), "%s", vit_error());
  while (tensors < 64 && vit_safetensors_at(&f, tensors, &list[tensors])) tensors++;
  for (int i = 0; keep && i < f.notes; i++) {
    if (skip && !strcmp(f.names[i].name, skip)) continue;
    if (key && !strcmp(f.names[i].name, key)) continue;
    notes[n++] = f.names[i].name;
    notes[n++] = f.names[i].text;
  }
  for (int i = 0; !keep && i < 3; i++) {
    static const char *const musts[] = {"config.image_height", "config.image_width", "config.heads"};
    notes[n++] = musts[i];
    notes[n++] = vit_safetensors_metadata(&f, musts[i]);
  }
  if (key) notes[n++] = key, notes[n++] = value;
  notes[n] = NULL;
  CHECK(!vit_safetensors_write(to, list, tensors, notes), "%s", vit_error());
  vit_safetensors_close(&f);
}

static void logits_of(const vit_model *m, float logits[8]) {
  float image[256];
  vit_state s;
  for (int i = 0; i < 256; i++) image[i] = (float)(i % 24) / 24 - 0.5f;
  CHECK(!vit_state_create(&s, m, 1, VIT_FOR_INFERENCE, 0) && !vit_forward(m, &s, image, 1), "%s",
        vit_error());
  memcpy(logits, s.logits, (size_t)m->config.classes * sizeof(float));
  vit_state_free(&s);
}

/* A file of before fields were renamed; what its tensors tell need not be said. */
static void test_old_model(void) {
  static const float want[3] = {-1.00042641f, -0.735654831f, 0.12200737f};
  const char *old = "tests/fixtures/old_model.safetensors", *path = path_of("model.safetensors");
  float logits[8];
  vit_model m, again;
  vit_dataset about;
  if (!CHECK(!vit_model_open(&m, old, &about), "%s", vit_error())) return;
  CHECK(m.config.softmax_before_loss == 0 && m.config.block_drop == 0.25f && m.config.gelu == VIT_GELU_TANH &&
            m.config.mlp_width == 5 && m.config.depth == 2,
        "another config");
  CHECK(about.channels == 1 && about.height == 4 && about.width == 6 && about.classes == 3 && about.names &&
            !strcmp(about.names[0], "cat") && !strcmp(about.names[2], "\xC3\xA4rger") && about.mean[2] == 0.5f &&
            about.std[0] == 0.25f && !strcmp(vit_class_name(&about, 1), "dog"),
        "another dataset");
  logits_of(&m, logits);
  CHECK_CLOSE("logits", logits, want, 3, 1e-5, 1e-6);
  vit_dataset_free(&about);
  with_metadata(old, path, 0, NULL, "config.gelu", "1"); /* no more than it must say */
  CHECK(!vit_model_open(&again, path, &about), "%s", vit_error());
  CHECK(again.config.softmax_before_loss == 1 && again.config.block_drop == 0 && about.mean[0] == 0 && about.std[2] == 1 &&
            !about.names && about.width == 6 && about.classes == 3,
        "other defaults");
  again.config.softmax_before_loss = 0;
  logits_of(&again, logits);
  CHECK_CLOSE("logits without keys", logits, want, 3, 1e-5, 1e-6);
  vit_model_free(&again);
  for (int i = 0; i < 3; i++) {
    static const char *const musts[] = {"config.image_height", "config.image_width", "config.heads"};
    char text[300];
    with_metadata(old, path, 1, musts[i], NULL, NULL);
    snprintf(text, sizeof text,
             "%%s does not say its %s: it was not written by vit.h; vit_pretrained_open reads such a "
             "model, or create it and use vit_model_load", musts[i]);
    fails(vit_model_open(&again, path, NULL), VIT_ERR_FORMAT, text, path);
  }
  vit_model_free(&m);
  remove(path);
  no_leak("old model");
}

/* Each kind of model comes back from the three keys that no tensor tells, if the
   others are as in the table. */
static void test_model_shapes(void) {
  static const char *const kinds[] = {
      "", "class_token=0 pool=1", "positions=2", "qkv_bias=0", "final_norm=1", "head_dim=5", "mlp_width=3",
      "channels=3", "reg_tokens=5 pre_norm=1 positions=2", "dist_token=1", "fc_norm=1 final_norm=1",
      "class_token=0 pool=1 positions=2 qkv_bias=0 final_norm=1 head_dim=2 depth=3"};
  const char *whole = path_of("whole.safetensors"), *path = path_of("model.safetensors");
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    vit_config c = changed(vit_config_tutorial(), "image_height=4 image_width=6 patch_height=2 patch_width=3 "
                                                  "classes=3 width=4 depth=1 heads=2");
    vit_model m, again;
    c = changed(c, kinds[i]);
    CHECK(!vit_model_create(&m, &c, 5) && !vit_model_save(&m, NULL, whole), "%s", vit_error());
    with_metadata(whole, path, 0, NULL, NULL, NULL);
    if (CHECK(!vit_model_open(&again, path, NULL), "%s: %s", kinds[i], vit_error())) {
      CHECK(!memcmp(&again.config, &m.config, sizeof m.config), "%s: another config", kinds[i]);
      CHECK_SAME_BITS(kinds[i], again.params.block, m.params.block, m.params.count);
      vit_model_free(&again);
    }
    vit_model_free(&m);
  }
  remove(path);
  remove(whole);
  no_leak("shapes");
}

static void test_model_notes(void) {
  static const struct { const char *key, *value, *sentence; float first, last; } notes[] = {
      {"mean", "0.25", NULL, 0.25f, 0.25f},
      {"mean", "0.1 0.2 0.3", NULL, 0.1f, 0.3f},
      {"mean", "0.1 0.2", "%s: its mean is \"0.1 0.2\"; it must be three numbers, or one for a grey model", 0, 0},
      {"mean", "", "%s: its mean is \"\"; it must be three numbers, or one for a grey model", 0, 0},
      {"std", "x", "%s: its std is \"x\"; it must be three numbers, or one for a grey model", 0, 0},
      {"std", "1 1 1 1", "%s: its std is \"1 1 1 1\"; it must be three numbers, or one for a grey model", 0, 0},
      {"std", "0.5 and", "%s: its std is \"0.5 and\"; it must be three numbers, or one for a grey model", 0, 0},
      {"std", "0", "%s: its std of channel 0 is 0", 0, 0},
      {"std", "1 1 -1", "%s: its std of channel 2 is -1", 0, 0},
      {"mean", "1 1 inf", "%s: its mean of channel 2 is inf", 0, 0},
      {"config.heads", "two", "config field heads needs a number, not \"two\"", 0, 0},
      {"config.novelty", "1", NULL, -1, 0}};
  const char *old = "tests/fixtures/old_model.safetensors", *path = path_of("model.safetensors");
  vit_model m;
  vit_dataset about;
  vit_config c = changed(vit_config_tutorial(), "channels=3 image_height=4 image_width=4 patch_height=4 "
                                                "patch_width=4 width=2 heads=1 depth=1 mlp_width=1");
  for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
    vit_result r;
    with_metadata(old, path, 1, NULL, notes[i].key, notes[i].value);
    r = vit_model_open(&m, path, &about);
    if (notes[i].sentence) {
      fails(r, i == 10 ? VIT_ERR_CONFIG : VIT_ERR_FORMAT, notes[i].sentence, path);
    } else if (notes[i].first < 0) {
      CHECK(r == VIT_ERR_CONFIG && strstr(vit_error(), "the config has no field \"novelty\""), "%s", vit_error());
    } else if (CHECK(!r, "%s", vit_error())) {
      CHECK(about.mean[0] == notes[i].first && about.mean[2] == notes[i].last && about.std[1] == 0.25f, "%s",
            notes[i].value);
      vit_model_free(&m);
      vit_dataset_free(&about);
    }
    no_leak("notes");
  }
  /* names that are missing, or too long, and a model of three colours */
  with_metadata(old, path, 1, "class.1", "class.2", "1234567890123456789012345678901234567890123456789012345678901234");
  CHECK(!vit_model_open(&m, path, &about), "%s", vit_error());
  CHECK(!strcmp(about.names[1], "1") && strlen(about.names[2]) == 63, "names: %s, %s", about.names[1],
        about.names[2]);
  vit_model_free(&m);
  vit_dataset_free(&about);
  CHECK(!vit_model_create(&m, &c, 5) && !vit_model_save(&m, NULL, path), "%s", vit_error());
  vit_model_free(&m);
  with_metadata(path, path_of("colours.safetensors"), 1, NULL, "mean", "0.5");
  fails(vit_model_open(&m, path_of("colours.safetensors"), &about), VIT_ERR_FORMAT,
        "%s: its mean is \"0.5\"; it must be three numbers, or one for a grey model", path_of("colours.safetensors"));
  remove(path_of("colours.safetensors"));
  remove(path);
  no_leak("notes");
}

/* NaN and infinity are neither saved nor loaded, and nothing is lost by trying. */
static void test_not_finite(void) {
  static const char *const sentence = "tensor head.bias: number 2 of 4 is %s; a model is saved, loaded and quantized with "
                                      "finite numbers alone";
  const char *path = path_of("model.safetensors");
  vit_model m, again, broken;
  vit_safetensors f;
  bytes was, now;
  make_model(&m, 1, 1);
  make_model(&again, 2, 1);
  CHECK(!vit_model_save(&m, NULL, path), "%s", vit_error());
  was = read_bytes(path);
  for (int kind = 0; kind < 2; kind++) {
    float *at = m.params.block + m.params.count - 2, before = *at, x = kind ? -HUGE_VALF : (float)NAN;
    float *block = (float *)malloc(again.params.count * sizeof(float));
    char text[200];
    if (!block) return;
    memcpy(block, again.params.block, again.params.count * sizeof(float));
    *at = x;
    snprintf(text, sizeof text, sentence, kind ? "-inf" : "nan");
    fails(vit_model_save(&m, NULL, path), VIT_ERR_DIVERGED, text, "");
    now = read_bytes(path);
    CHECK(equal(&now, &was), "the file has changed");
    memcpy(now.at + now.size - 8, &x, sizeof x);
    write_bytes(path, now.at, now.size);
    free(now.at);
    fails(vit_model_open(&broken, path, NULL), VIT_ERR_FORMAT, text, "");
    CHECK(!vit_safetensors_open(&f, path), "%s", vit_error());
    fails(vit_model_load(&again, &f, ""), VIT_ERR_FORMAT, text, "");
    CHECK_SAME_BITS("the model", again.params.block, block, again.params.count);
    vit_safetensors_close(&f);
    write_bytes(path, was.at, was.size);
    free(block);
    *at = before;
  }
  free(was.at);
  vit_model_free(&m);
  vit_model_free(&again);
  remove(path);
  no_leak("not finite");
}

/* Every allocation fails once: a sentence, no leak, and the old file stays. */
static void test_save_without_memory(void) {
  const char *path = path_of("model.safetensors");
  vit_model m, again;
  bytes was, now;
  int n = 1;
  vit_result r = VIT_ERR_NO_MEMORY;
  make_model(&m, 1, 1);
  CHECK(!vit_model_save(&m, NULL, path), "%s", vit_error());
  was = read_bytes(path);
  m.params.block[0] = 5;
  for (; n < 200 && r == VIT_ERR_NO_MEMORY; n++) {
    heap.calls = 0;
    heap.fail_at = n;
    r = vit_model_save(&m, NULL, path);
    heap.fail_at = 0;
    if (r != VIT_ERR_NO_MEMORY) break;
    CHECK(heap.live == 1, "allocation %d: %d blocks are left", n, heap.live - 1);
    now = read_bytes(path);
    CHECK(equal(&now, &was), "allocation %d changed the file", n);
    free(now.at);
  }
  CHECK(!r && n > 5, "result %d after %d", (int)r, n);
  r = VIT_ERR_NO_MEMORY;
  for (n = 1; n < 200 && r == VIT_ERR_NO_MEMORY; n++) {
    heap.calls = 0;
    heap.fail_at = n;
    r = vit_model_open(&again, path, NULL);
    heap.fail_at = 0;
    if (r) CHECK(heap.live == 1 && !again.params.block, "allocation %d leaks", n);
  }
  CHECK(!r && again.params.block[0] == 5, "result %d", (int)r);
  if (!r) vit_model_free(&again);
  vit_model_free(&m);
  free(was.at);
  remove(path);
  no_leak("without memory");
}

/* ---- what the safetensors package says ----------------------------------- */

#ifndef _WIN32
static const char script[] =
    "import sys\n"
    "from safetensors import safe_open\n"
    "with safe_open(sys.argv[1], 'np') as f:\n"
    "    print('note', f.metadata()['config.width'], f.metadata()['mean'].replace(' ', ','))\n"
    "    for name in sorted(f.keys()):\n"
    "        t = f.get_tensor(name)\n"
    "        print(name, str(t.dtype), 'x'.join(map(str, t.shape)),\n"
    "              '%.17g %.17g' % (t.ravel()[0], t.ravel()[-1]))\n";

static void python_agrees(const char *python, const char *path, int at_least) {
  char command[900], name[100], type[20], shape[60];
  double first, last;
  vit_safetensors f;
  FILE *pipe;
  int n = 0;
  if (!CHECK(!vit_safetensors_open(&f, path), "%s", vit_error())) return;
  snprintf(command, sizeof command, "'%s' '%s' '%s'", python, path_of("read.py"), path);
  pipe = popen(command, "r");
  if (!CHECK(pipe != NULL, "no pipe")) return;
  CHECK(fscanf(pipe, "note %19s %59s\n", type, shape) == 2 && !strcmp(type, "8") &&
            !strcmp(shape, "0,0.125,0.25"),
        "metadata: %s, %s", type, shape);
  while (fscanf(pipe, "%99s %19s %59s %lf %lf\n", name, type, shape, &first, &last) == 5) {
    char want[60] = "";
    double ends[2] = {0, 0};
    vit_safetensor t;
    if (!CHECK(!vit_safetensors_find(&f, name, &t), "%s", vit_error())) break;
    for (int d = 0; d < t.dims; d++)
      snprintf(want + strlen(want), 12, "%s%d", d ? "x" : "", t.shape[d]);
    for (int end = 0; end < 2; end++) {
      size_t i = end ? t.count - 1 : 0;
      float single;
      memcpy(&single, (const char *)t.data + 4 * (t.type[1] == '3' ? i : 0), 4);
      ends[end] = (double)single;
      if (t.type[1] == '6') memcpy(&ends[end], (const char *)t.data + 8 * i, 8);
    }
    CHECK(!strcmp(type, t.type[1] == '6' ? "float64" : "float32") && !strcmp(shape, want),
          "%s is %s %s there, %s %s here", name, type, shape, t.type, want);
    CHECK(first == ends[0] && last == ends[1], "%s: %g, %g there, %g, %g here", name, first,
          last, ends[0], ends[1]);
    n++;
  }
  CHECK(pclose(pipe) == 0 && n == at_least, "%d tensors, expected %d", n, at_least);
  vit_safetensors_close(&f);
}

static void test_python(void) {
  const char *python = getenv("PYTHON"), *dir = path_of("python");
  char command[400], path[300];
  vit_dataset d = pictures(2, 0);
  vit_tensor t;
  outcome o;
  int tensors = 0;
  if (!python || !*python) python = "python3";
  snprintf(command, sizeof command, "'%s' -c 'import numpy, safetensors' >/dev/null 2>&1",
           python);
  if (system(command) != 0) SKIP("python has no safetensors");
  write_bytes(path_of("read.py"), script, sizeof script - 1);
  run(&o, 0, dir);
  while (vit_tensor_at(&o.m.config, tensors, &t)) tensors++;
  in_folder(path, dir, "last.safetensors");
  python_agrees(python, path, tensors + 5); /* moments, average, best, history */
  in_folder(path, dir, "best.safetensors");
  python_agrees(python, path, tensors);
  in_folder(path, dir, "history.csv");
  CHECK(!vit_model_save(&o.m, &d, path), "%s", vit_error());
  python_agrees(python, path, tensors);
  remove(path_of("read.py"));
  clear(dir);
  outcome_free(&o);
  no_leak("python");
}
#else
static void test_python(void) { SKIP("not tested here"); }
#endif

/* ---- a file that cannot be written --------------------------------------- */

static void check_kept(const char *what, const char *path, const bytes *was) {
  bytes now = read_bytes(path);
  CHECK(equal(&now, was), "%s: the old file changed", what);
  free(now.at);
  CHECK(!rests(path, 0), "%s: %s.*.tmp is left", what, path);
}

static void test_full_disk(void) {
#ifdef _WIN32
  SKIP("there is no limit on the size of files");
#else
  const char *path = path_of("model.safetensors");
  vit_model m;
  bytes was;
  struct rlimit limit, small;
  char text[400];
  make_model(&m, 1, 1);
  CHECK(!vit_model_save(&m, NULL, path), "%s", vit_error());
  was = read_bytes(path);
  m.params.block[0] = 5;
  if (getrlimit(RLIMIT_FSIZE, &limit)) SKIP("no RLIMIT_FSIZE");
  signal(SIGXFSZ, SIG_IGN);
  fflush(stdout);
  for (int k = 0; k < 9; k++) {
    static const size_t most[] = {0, 1, 8, 9, 100, 4096, 0, 0, 0};
    size_t size = k < 6 ? most[k] : k == 6 ? was.size / 2 : was.size - (size_t)(k - 6);
    vit_result r;
    int set;
    small = limit;
    small.rlim_cur = (rlim_t)size;
    set = !setrlimit(RLIMIT_FSIZE, &small);
    r = vit_model_save(&m, NULL, path);
    setrlimit(RLIMIT_FSIZE, &limit);
    if (!set) SKIP("RLIMIT_FSIZE cannot be set");
    snprintf(text, sizeof text, "cannot write %s: %s; what was there before is still there",
             path, strerror(EFBIG));
    fails(r, VIT_ERR_FILE, text, "");
    check_kept("a full disk", path, &was);
  }
  signal(SIGXFSZ, SIG_DFL);
  CHECK(!vit_model_save(&m, NULL, path), "%s", vit_error());
  vit_model_free(&m);
  free(was.at);
  remove(path);
  no_leak("a full disk");
#endif
}

/* The file is flushed before it gets its name, its folder after that. */
static void test_flush(void) {
#ifdef _WIN32
  SKIP("another function flushes there");
#else
  const char *path = path_of("model.safetensors");
  char text[400];
  vit_model m;
  bytes was;
  make_model(&m, 1, 1);
  flush.calls = 0;
  CHECK(!vit_model_save(&m, NULL, path) && flush.calls == 2, "flushed %d times", flush.calls);
  was = read_bytes(path);
  m.params.block[0] = 5;
  flush.calls = 0;
  flush.fail_at = 1;
  snprintf(text, sizeof text, "cannot write %s: %s; what was there before is still there",
           path, strerror(EIO));
  fails(vit_model_save(&m, NULL, path), VIT_ERR_FILE, text, "");
  check_kept("a disk that fails", path, &was);
  flush.fail_at = 0;
  vit_model_free(&m);
  free(was.at);
  remove(path);
  no_leak("flush");
#endif
}

/* A full disk in the middle of a run: the run ends with a sentence; when there is
   room again it goes on. */
static void test_full_disk_in_a_run(void) {
#ifdef _WIN32
  SKIP("there is no limit on the size of files");
#else
  const char *dir = path_of("full"), *quiet = path_of("quiet");
  vit_fit_config f = recipe(0, dir);
  struct rlimit limit, small;
  char path[300];
  stopper s = {0, 12};
  bytes was;
  outcome o, whole;
  run(&whole, 0, quiet);
  f.callback = stop;
  f.user = &s;
  start(&o, &f, 0, 1, 1);
  CHECK(o.result == VIT_STOPPED, "%s", vit_error());
  outcome_free(&o);
  f.callback = NULL;
  in_folder(path, dir, "last.safetensors");
  was = read_bytes(path);
  if (getrlimit(RLIMIT_FSIZE, &limit)) SKIP("no RLIMIT_FSIZE");
  signal(SIGXFSZ, SIG_IGN);
  fflush(stdout);
  small = limit;
  small.rlim_cur = (rlim_t)(was.size / 2);
  setrlimit(RLIMIT_FSIZE, &small);
  start(&o, &f, 0, 2, 1);
  setrlimit(RLIMIT_FSIZE, &limit);
  signal(SIGXFSZ, SIG_DFL);
  CHECK(o.result == VIT_ERR_FILE && strstr(vit_error(), "is still there"), "result %d, %s",
        (int)o.result, vit_error());
  check_kept("a full disk", path, &was);
  outcome_free(&o);
  start(&o, &f, 0, 3, 1);
  CHECK(!o.result, "%s", vit_error());
  same_history("after a full disk", &o.h, &whole.h);
  same_run_files("after a full disk", dir, quiet, 1);
  outcome_free(&o);
  outcome_free(&whole);
  free(was.at);
  clear(dir);
  clear(quiet);
  no_leak("a full disk in a run");
#endif
}

static void test_in_the_way(void) {
  const char *path = path_of("in-the-way"), *inside = path_of("in-the-way/x");
  char longest[600], want[300];
  vit_fit_config f;
  outcome o;
  vit_model m;
  make_model(&m, 1, 1);
  CHECK(!vit_make_dir(inside), "%s", vit_error());
#ifndef _WIN32
  fails(vit_model_save(&m, NULL, path), VIT_ERR_FILE,
        "cannot write %s: Is a directory; what was there before is still there", path);
#endif
  CHECK(vit_model_save(&m, NULL, path) == VIT_ERR_FILE, "a folder was replaced");
  CHECK(exists(inside) && !rests(path, 0), "the folder, or a rest");
  remove(inside);
  remove(path);
  fails(vit_model_save(&m, NULL, path_of("no/such/folder")), VIT_ERR_FILE,
        "cannot write %s: No such file or directory; what was there before is still there",
        path_of("no/such/folder"));
  memset(longest, 'x', sizeof longest);
  longest[501] = '\0';
  snprintf(want, sizeof want, "the file name %.100s... is longer than 500 characters", longest);
  fails(vit_model_save(&m, NULL, longest), VIT_ERR_FILE, want, "");
  /* a run's folder: a file of that name, too long a name */
  write_bytes(path, "x", 1);
  f = recipe(3, path);
  start(&o, &f, 3, 1, 1);
  CHECK(o.result == VIT_ERR_FILE && strstr(vit_error(), "cannot make the folder"), "%s",
        vit_error());
  outcome_free(&o);
  remove(path);
  for (size_t length = 430; length < 560; length += 10) {
    memset(longest, '/', sizeof longest); /* nothing but more slashes */
    memcpy(longest, folder, strlen(folder));
    longest[length] = '\0';
    f.dir = longest;
    f.epochs = 1;
    start(&o, &f, 3, 1, 1);
    if (length <= 440)
      CHECK(!o.result, "%s", vit_error());
    else
      CHECK(o.result && strstr(vit_error(), "characters"), "%d letters: result %d, %s",
            (int)length, (int)o.result, vit_error());
    outcome_free(&o);
    for (int i = 0; i < 3; i++) {
      CHECK(exists(path_of(run_files[i])) == (length <= 440), "%d letters: %s", (int)length,
            run_files[i]);
      remove(path_of(run_files[i]));
    }
  }
  vit_model_free(&m);
  no_leak("in the way");
}

static void test_no_permission(void) {
#ifdef _WIN32
  SKIP("there are no permissions");
#else
  const char *dir = path_of("closed"), *path = path_of("closed/model.safetensors");
  vit_model m;
  bytes was;
  if (getuid() == 0) SKIP("root may write everywhere");
  make_model(&m, 1, 1);
  CHECK(!vit_make_dir(dir) && !vit_model_save(&m, NULL, path), "%s", vit_error());
  was = read_bytes(path);
  m.params.block[0] = 5;
  chmod(dir, 0555);
  fails(vit_model_save(&m, NULL, path), VIT_ERR_FILE,
        "cannot write %s: Permission denied; what was there before is still there", path);
  check_kept("no permission", path, &was);
  chmod(dir, 0777);
  remove(path);
  remove(dir);
  free(was.at);
  vit_model_free(&m);
  no_leak("no permission");
#endif
}

/* ---- resume -------------------------------------------------------------- */

static void check_resumed(int kind, int stop_at, const outcome *whole, const char *quiet) {
  const char *dir = path_of("stopped");
  vit_fit_config f = recipe(kind, dir);
  char what[80];
  int starts = 0;
  outcome o;
  f.callback = stop;
  for (;;) {
    stopper s = {0, 0};
    s.stop_at = stop_at;
    f.user = &s;
    start(&o, &f, kind, (uint64_t)(10 + starts), starts % 4 == 1 ? 2 : 1);
    starts++;
    if (o.result != VIT_STOPPED || starts > 100) break;
    outcome_free(&o);
  }
  snprintf(what, sizeof what, "run %d, stopped every %d calls", kind, stop_at);
  CHECK(!o.result, "%s: %s", what, vit_error());
  CHECK(starts > 1, "%s: never stopped", what);
  same_history(what, &o.h, &whole->h);
  CHECK_SAME_BITS(what, o.m.params.block, whole->m.params.block, o.m.params.count);
  same_run_files(what, dir, quiet, judged(kind));
  CHECK(read_history(dir, &o.h) == o.h.epochs, "%s: lines of the history", what);
  outcome_free(&o);
  clear(dir);
}

static void test_resume(void) {
  static const int stops[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 16, 17, 23};
  for (int kind = 0; kind < KINDS; kind++) {
    const char *quiet = path_of("quiet");
    char best[300];
    outcome whole;
    run(&whole, kind, quiet);
    CHECK(whole.h.epochs > 2, "only %d epochs", whole.h.epochs);
    CHECK(read_history(quiet, &whole.h) == whole.h.epochs, "lines of the history");
    CHECK(whole.h.epoch[0].seconds > 0, "the clock stands still");
    in_folder(best, quiet, "best.safetensors");
    CHECK(exists(best) == judged(kind), "best.safetensors");
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i += test_quick() ? 3 : 1)
      check_resumed(kind, stops[i], &whole, quiet);
    outcome_free(&whole);
    clear(quiet);
  }
  no_leak("resume");
}

/* A finished run comes back at once; more epochs can be asked for. */
static void test_finished(void) {
  for (int kind = 0; kind < KINDS; kind++) {
    const char *dir = path_of("finished"), *more = path_of("more");
    vit_fit_config f = recipe(kind, dir);
    stopper s = {0, 0};
    char path[300];
    outcome whole, again;
    bytes was, now;
    run(&whole, kind, dir);
    in_folder(path, dir, "last.safetensors");
    was = read_bytes(path);
    f.callback = stop;
    f.user = &s;
    start(&again, &f, kind, 6, 2);
    CHECK(!again.result && s.calls == 0, "%s, %d calls", vit_error(), s.calls);
    same_history("finished", &again.h, &whole.h);
    for (int e = 0; e < whole.h.epochs; e++)
      CHECK(fabs(again.h.epoch[e].seconds - whole.h.epoch[e].seconds) < 1e-6,
            "seconds of epoch %d", e + 1);
    CHECK_SAME_BITS("finished", again.m.params.block, whole.m.params.block,
                    whole.m.params.count);
    now = read_bytes(path);
    CHECK(equal(&now, &was), "the checkpoint changed");
    outcome_free(&again);
    outcome_free(&whole);
    free(now.at);
    free(was.at);
    if (kind == 3) { /* with a constant rate, more epochs are the same run */
      f.callback = NULL;
      f.epochs = EPOCHS + 2;
      start(&again, &f, kind, 6, 1);
      CHECK(!again.result && again.h.epochs == EPOCHS + 2, "%s", vit_error());
      f.dir = more;
      start(&whole, &f, kind, 1, 1);
      same_history("more epochs", &again.h, &whole.h);
      same_run_files("more epochs", dir, more, 1);
      outcome_free(&again);
      outcome_free(&whole);
      clear(more);
      f.dir = dir;
      f.epochs = 2; /* fewer cannot be */
      in_folder(path, dir, "last.safetensors");
      start(&again, &f, kind, 6, 1);
      fails(again.result, VIT_ERR_FORMAT,
            "cannot resume from %s: it stands at epoch 6, batch 0; this run has 2 epochs of "
            "7 batches",
            path);
      outcome_free(&again);
      f.resume = 0; /* begins anew */
      f.callback = stop;
      s.calls = 0;
      start(&again, &f, kind, 6, 1);
      CHECK(!again.result && s.calls == 2 * (STEPS + 1), "%s, %d calls", vit_error(), s.calls);
      outcome_free(&again);
    }
    clear(dir);
  }
  no_leak("finished");
}

/* ---- resume: refused ----------------------------------------------------- */

typedef struct {
  const char *key, *was, *is, *config; /* config: of another model */
} change;
static const change changes[] = {{"recipe.batch", "4", "5", NULL},
                                 {"recipe.accumulate", "3", "2", NULL},
                                 {"recipe.smoothing", "0.1", "0.2", NULL},
                                 {"recipe.ema", "0.8", "0.9", NULL},
                                 {"recipe.seed", "7", "8", NULL},
                                 {"recipe.seed_middle", "196608", "262144", NULL},
                                 {"recipe.keep_best", "1", "0", NULL},
                                 {"recipe.optimizer", "2", "1", NULL},
                                 {"recipe.beta2", "0.999", "0.95", NULL},
                                 {"recipe.weight_decay", "0.01", "0.1", NULL},
                                 {"recipe.clip_norm", "1", "2", NULL},
                                 {"recipe.schedule", "2", "1", NULL},
                                 {"recipe.rate", "0.02", "0.03", NULL},
                                 {"recipe.warmup_steps", "3", "2", NULL},
                                 {"recipe.epochs", "4", "5", NULL},
                                 {"recipe.images", "26", "25", NULL},
                                 {"recipe.val_images", "12", "11", NULL},
                                 {"config.width", "8", "16", "width=16"},
                                 {"config.depth", "2", "1", "depth=1"},
                                 {"config.drop_path", "0.2", "0.3", "drop_path=0.3"},
                                 {"config.gelu", "0", "1", "gelu=1"}};
enum { CHANGES = (int)(sizeof changes / sizeof *changes) };

static void apply(int i, vit_fit_config *f, vit_dataset *d, vit_dataset *t) {
  if (i == 0) f->batch = 5;
  if (i == 1) f->accumulate = 2;
  if (i == 2) f->smoothing = 0.2f;
  if (i == 3) f->ema = 0.9f;
  if (i == 4) f->seed++;
  if (i == 5) f->seed += (uint64_t)1 << 40;
  if (i == 6) f->keep_best = 0;
  if (i == 7) f->optimizer.algorithm = VIT_ADAM;
  if (i == 8) f->optimizer.beta2 = 0.95f;
  if (i == 9) f->optimizer.weight_decay = 0.1f;
  if (i == 10) f->optimizer.clip_norm = 2;
  if (i == 11) f->schedule.kind = VIT_LINEAR;
  if (i == 12) f->schedule.rate = 0.03f;
  if (i == 13) f->schedule.warmup = 2;
  if (i == 14) f->epochs++; /* the cosine would be another one */
  if (i == 15) d->count--;
  if (i == 16) t->count--;
}

static void test_another_recipe(void) {
  const char *dir = path_of("refused");
  char path[300], key[80], want[500], value[40];
  vit_augment a = every_change();
  const char *name, *text;
  float *number;
  stopper s = {0, 10};
  vit_fit_config f = recipe(0, dir);
  bytes was;
  outcome o;
  f.callback = stop;
  f.user = &s;
  start(&o, &f, 0, 1, 1);
  CHECK(o.result == VIT_STOPPED, "%s", vit_error());
  outcome_free(&o);
  in_folder(path, dir, "last.safetensors");
  was = read_bytes(path);
  for (int i = 0; i < CHANGES + 16; i++) {
    vit_dataset d = pictures(IMAGES, 0), t = pictures(HELD_BACK, IMAGES);
    vit_config c = small_config();
    const change *k = i < CHANGES ? changes + i : NULL;
    float *before;
    f = recipe(0, dir);
    if (k) {
      apply(i, &f, &d, &t);
      if (k->config) c = changed(c, k->config);
      snprintf(key, sizeof key, "%s is %s, here it is %s", k->key, k->was, k->is);
    } else { /* a field of the augmentation */
      CHECK(vit_augment_field(&a, i - CHANGES, &name, &text, &number), "fields");
      snprintf(value, sizeof value, "%g", (double)*number);
      CHECK(vit_augment_field(&f.augment, i - CHANGES, &name, &text, &number), "fields");
      *number += strcmp(name, "rand_ops") ? 0.125f : 1;
      snprintf(key, sizeof key, "augment.%s is %s, here it is %g", name, value,
               (double)*number);
    }
    snprintf(want, sizeof want,
             "cannot resume from %s: its %s; use the settings and images that it was made "
             "with, or another folder",
             path, key);
    CHECK(!vit_model_create(&o.m, &c, 3), "%s", vit_error());
    before = (float *)malloc(o.m.params.count * sizeof *before);
    if (!before) return;
    memcpy(before, o.m.params.block, o.m.params.count * sizeof *before);
    o.m.threads = 1;
    o.result = vit_fit(&o.m, &f, &d, &t, &o.h);
    fails(o.result, VIT_ERR_CONFIG, want, "");
    CHECK(o.h.epochs == 0 && o.h.best == 0, "%d epochs", o.h.epochs);
    CHECK_SAME_BITS("the model", o.m.params.block, before, o.m.params.count);
    check_kept(key, path, &was);
    free(before);
    outcome_free(&o);
  }
  free(was.at);
  clear(dir);
  no_leak("another recipe");
}

/* An augmentation of one's own is compared by its name. */
static void own_image(float *out, const vit_dataset *d, int index, const vit_augment *a, vit_rng *rng,
                      float *scratch) {
  vit_augment_image(out, d, index, a, rng, scratch);
  out[0] = *(const float *)a->user;
}

static void test_own_augmentation(void) {
  static const char *const names[] = {"", "own 1", "own 2"};
  static const char *const shown[] = {"not there", "own 1", "own 2"};
  const char *dir = path_of("own");
  float grey[2] = {0.25f, 0.5f};
  char want[500], path[300];
  in_folder(path, dir, "last.safetensors");
  for (int first = 0; first < 3; first++)
    for (int then = 0; then < 3; then++)
      for (int i = 0; i < 2; i++) {
        const int k = i ? then : first;
        vit_fit_config f = recipe(3, dir);
        stopper s = {0, 2};
        outcome o;
        f.resume = i;
        f.callback = stop;
        f.user = &s;
        f.augment.image = k ? own_image : NULL;
        f.augment.user = grey;
        f.augment.name = names[k];
        start(&o, &f, 3, 1, 1);
        snprintf(want, sizeof want,
                 "cannot resume from %s: its augment.image is %s, here it is %s; use the settings and "
                 "images that it was made with, or another folder",
                 path, shown[first], shown[then]);
        if (i && first != then)
          fails(o.result, VIT_ERR_CONFIG, want, "");
        else
          CHECK(o.result == VIT_STOPPED, "%s", vit_error());
        outcome_free(&o);
      }
  clear(dir);
  no_leak("own augmentation");
}

/* As many images as before, in colour, but others. */
static void test_other_images(void) {
  static const struct { const char *key; int of_val, pixel, label, mean, std; } other[] = {
      {"", 0, 0, 0, 0, 0},                    {"recipe.checksum", 0, 1, 0, 0, 0},
      {"recipe.checksum", 0, 0, 1, 0, 0},     {"recipe.checksum", 0, 0, 0, 1, 0},
      {"recipe.checksum", 0, 0, 0, 0, 2},     {"recipe.val_checksum", 1, 1, 0, 0, 0},
      {"recipe.val_checksum", 1, 0, 1, 0, 0}, {"recipe.val_checksum", 1, 0, 0, 2, 0}};
  const char *dir = path_of("other");
  vit_config c = changed(small_config(), "channels=3");
  stopper s = {0, 3};
  char want[80];
  for (size_t i = 0; i < sizeof other / sizeof *other; i++) { /* the first one begins */
    vit_dataset d = pictures(IMAGES, 0), t = pictures(HELD_BACK, IMAGES);
    vit_dataset *of = other[i].of_val ? &t : &d;
    vit_fit_config f = recipe(0, dir);
    vit_result r;
    outcome o;
    d.channels = t.channels = 3;
    d.count /= 3;
    t.count /= 3;
    of->pixels[97 * 3] ^= (uint8_t)other[i].pixel;
    of->labels[3] ^= (uint8_t)other[i].label;
    if (other[i].mean) of->mean[other[i].mean] += 0.5f;
    if (other[i].std) of->std[other[i].std] += 0.5f;
    f.callback = stop;
    f.user = &s;
    CHECK(!vit_model_create(&o.m, &c, 3), "%s", vit_error());
    o.m.threads = 1;
    r = vit_fit(&o.m, &f, &d, &t, &o.h);
    snprintf(want, sizeof want, "its %s is ", other[i].key);
    CHECK(i ? r == VIT_ERR_CONFIG && strstr(vit_error(), want) : r == VIT_STOPPED,
          "result %d: %s, wanted %s", r, vit_error(), want);
    outcome_free(&o);
  }
  clear(dir);
  no_leak("other images");
}

/* A program may have chosen a language that writes numbers with a comma. */
static void test_comma(void) {
  static const char *const sentence =
      "this program's locale writes numbers with \",\" instead of a point; call "
      "setlocale(LC_NUMERIC, \"C\") first";
  const char *path = path_of("comma");
  vit_config c = small_config();
  vit_fit_config f = recipe(0, path);
  vit_model m, again;
  vit_history h;
  vit_plot p;
  memset(&h, 0, sizeof h);
  make_model(&m, 3, 1);
  comma_point[0] = ',';
  fails(vit_model_save(&m, NULL, path), VIT_ERR_CONFIG, sentence, "");
  CHECK(!exists(path), "a file is left");
  fails(vit_config_set(&c, "norm_eps", "0.1"), VIT_ERR_CONFIG, sentence, "");
  fails(vit_history_write(&h, path), VIT_ERR_CONFIG, sentence, "");
  fails(vit_history_read(&h, path), VIT_ERR_CONFIG, sentence, "");
  fails(vit_plot_begin(&p, folder, "comma", 9, 9), VIT_ERR_CONFIG, sentence, "");
  fails(vit_fit_check(&f), VIT_ERR_CONFIG, sentence, "");
  comma_point[0] = '.';
  CHECK(!vit_model_save(&m, NULL, path), "%s", vit_error());
  comma_point[0] = ',';
  fails(vit_model_open(&again, path, NULL), VIT_ERR_CONFIG, sentence, "");
  comma_point[0] = '.';
  vit_model_free(&m);
  remove(path);
  no_leak("comma");
}

/* Resume from these bytes. */
static vit_result resume_from(const char *dir, const void *at, size_t size) {
  vit_fit_config f = recipe(0, dir);
  char path[300];
  outcome o;
  bytes b, now;
  in_folder(path, dir, "last.safetensors");
  b.at = (unsigned char *)malloc(size + 1);
  b.size = size;
  if (!b.at) exit(1);
  if (size) memcpy(b.at, at, size);
  write_bytes(path, at, size);
  start(&o, &f, 0, 4, 1);
  now = read_bytes(path);
  CHECK(equal(&now, &b), "reading it changed the file");
  if (o.result)
    CHECK(o.h.epochs == 0 && o.h.best == 0 && *vit_error(), "a refused file has %d epochs",
          o.h.epochs);
  outcome_free(&o);
  free(now.at);
  free(b.at);
  return o.result;
}

static void test_broken_checkpoints(void) {
  const char *dir = path_of("broken");
  const int flips = test_quick() ? 300 : 2000;
  vit_rng rng = vit_rng_create(12, 0);
  char path[300], text[500];
  bytes whole, best;
  uint64_t header = 0;
  int good = 0;
  outcome o;
  run(&o, 0, dir);
  in_folder(path, dir, "last.safetensors");
  whole = read_bytes(path);
  for (int i = 7; i >= 0; i--) header = header << 8 | whole.at[i];
  CHECK(!resume_from(dir, whole.at, whole.size), "%s", vit_error());
  for (size_t size = 0; size < whole.size; size += test_quick() ? 97 : 13)
    CHECK(resume_from(dir, whole.at, size) == VIT_ERR_FORMAT, "%d of %d bytes: %s", (int)size,
          (int)whole.size, vit_error());
  CHECK(resume_from(dir, whole.at, whole.size - 1) == VIT_ERR_FORMAT, "one byte missing");
  for (int i = 0; i < flips; i++) {
    uint32_t at = vit_random_below(&rng, (uint32_t)header + 8);
    const unsigned char was = whole.at[at];
    unsigned now = vit_random_below(&rng, 256);
    if (i % 2) now = was ^ 1u << now % 8;
    whole.at[at] = (unsigned char)now;
    good += !resume_from(dir, whole.at, whole.size);
    whole.at[at] = was;
  }
  CHECK(good < flips / 2, "%d of %d broken headers are taken", good, flips);
  /* a model alone */
  in_folder(path, dir, "best.safetensors");
  best = read_bytes(path);
  CHECK(resume_from(dir, best.at, best.size) == VIT_ERR_CONFIG, "%s", vit_error());
  in_folder(path, dir, "last.safetensors");
  snprintf(text, sizeof text,
           "cannot resume from %s: its recipe.images is not there, here it is 26; use the "
           "settings and images that it was made with, or another folder",
           path);
  CHECK(!strcmp(vit_error(), text), "%s", vit_error());
  /* without the best model, or with another's: last.safetensors knows it too */
  in_folder(path, dir, "best.safetensors");
  for (int cut = 0; cut < 2; cut++) {
    bytes now;
    remove(path);
    if (cut) write_bytes(path, best.at, best.size - 4);
    CHECK(!resume_from(dir, whole.at, whole.size), "%s", vit_error());
    now = read_bytes(path);
    CHECK(equal(&now, &best), "the best model was not written again");
    free(now.at);
  }
  outcome_free(&o);
  free(whole.at);
  free(best.at);
  clear(dir);
  no_leak("broken checkpoints");
}

/* Numbers in a checkpoint that cannot be. */
static void test_wrong_numbers(void) {
  static const struct { const char *key, *to; vit_result want; } bad[] = {
      {"\"training.epoch\":\"4\"", "\"training.epoch\":\"9\"", VIT_ERR_FORMAT},
      {"\"training.epoch\":\"4\"", "\"training.epoch\":\"3\"", VIT_ERR_FORMAT},
      {"\"training.epoch\":\"4\"", "\"training.epoch\":\"x\"", VIT_ERR_FORMAT},
      {"\"training.epoch\"", "\"training.epocH\"", VIT_ERR_FORMAT},
      {"\"training.batch\":\"0\"", "\"training.batch\":\"8\"", VIT_ERR_FORMAT},
      {"\"training.step\":\"12\"", "\"training.step\":\"-2\"", VIT_ERR_FORMAT},
      {"\"training.average\"", "\"training.averagE\"", VIT_ERR_FORMAT},
      {"\"training.history\":{\"dtype\":\"F64\"", "\"training.history\":{\"dtype\":\"I64\"",
       VIT_ERR_FORMAT},
      {"\"training.second_moment\":{\"dtype\":\"F32\"",
       "\"training.second_moment\":{\"dtype\":\"I32\"", VIT_ERR_FORMAT}};
  const char *dir = path_of("numbers");
  char path[300];
  bytes whole;
  outcome o;
  run(&o, 0, dir);
  CHECK(o.h.epochs == 4, "%d epochs", o.h.epochs);
  in_folder(path, dir, "last.safetensors");
  whole = read_bytes(path);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const size_t n = strlen(bad[i].key);
    size_t at = 8;
    while (at + n < whole.size && memcmp(whole.at + at, bad[i].key, n)) at++;
    if (!CHECK(at + n < whole.size && strlen(bad[i].to) == n, "no %s", bad[i].key)) continue;
    memcpy(whole.at + at, bad[i].to, n);
    CHECK(resume_from(dir, whole.at, whole.size) == bad[i].want, "%s: %s", bad[i].to,
          vit_error());
    memcpy(whole.at + at, bad[i].key, n);
  }
  CHECK(!resume_from(dir, whole.at, whole.size), "%s", vit_error());
  for (int i = 0; i < 4; i++) { /* and what is no number at all */
    static const char *const names[] = {"training.average", "training.best", "training.second_moment",
                                        "head.bias"};
    const float none = i % 2 ? (float)INFINITY : (float)NAN;
    char was[4];
    vit_safetensors f;
    vit_safetensor t;
    size_t at;
    CHECK(!vit_safetensors_open(&f, path) && !vit_safetensors_find(&f, names[i], &t), "%s", vit_error());
    at = (size_t)((const unsigned char *)t.data - f.bytes) + 4;
    vit_safetensors_close(&f);
    memcpy(was, whole.at + at, 4);
    memcpy(whole.at + at, &none, 4);
    CHECK(resume_from(dir, whole.at, whole.size) == VIT_ERR_FORMAT && strstr(vit_error(), names[i]), "%s: %s",
          names[i], vit_error());
    memcpy(whole.at + at, was, 4);
  }
  outcome_free(&o);
  free(whole.at);
  clear(dir);
  no_leak("wrong numbers");
}

/* Every allocation of a resumed run fails once. */
static void test_resume_without_memory(void) {
  const char *dir = path_of("memory");
  vit_fit_config f = recipe(0, dir);
  stopper s = {0, 20};
  char path[300];
  bytes was, now;
  int n;
  outcome o;
  f.callback = stop;
  f.user = &s;
  start(&o, &f, 0, 1, 1);
  CHECK(o.result == VIT_STOPPED, "%s", vit_error());
  outcome_free(&o);
  in_folder(path, dir, "last.safetensors");
  was = read_bytes(path);
  for (n = 1; n < 100; n++) {
    vit_dataset d = pictures(IMAGES, 0), t = pictures(HELD_BACK, IMAGES);
    make_model(&o.m, 1, 1);
    s.calls = s.stop_at - 1; /* stop after the first step */
    heap.calls = 0;
    heap.fail_at = n;
    o.result = vit_fit(&o.m, &f, &d, &t, &o.h);
    heap.fail_at = 0;
    if (o.result == VIT_ERR_NO_MEMORY) {
      CHECK(heap.live == 1 + (o.h.epoch != NULL), "allocation %d: %d blocks", n, heap.live);
      now = read_bytes(path);
      if (n < 12) CHECK(equal(&now, &was), "allocation %d changed the file", n);
      free(now.at);
      write_bytes(path, was.at, was.size);
    }
    outcome_free(&o);
    if (o.result != VIT_ERR_NO_MEMORY) break;
  }
  CHECK(o.result == VIT_STOPPED && n > 15, "result %d after %d allocations", (int)o.result, n);
  free(was.at);
  clear(dir);
  no_leak("resume without memory");
}

/* ---- one run at a time --------------------------------------------------- */

#ifndef _WIN32
/* A run in another program, which says so and then never ends. */
static int hold_for_ever(const vit_progress *p, void *user) {
  (void)p;
  fclose(fopen((const char *)user, "w"));
  for (;;) sleep_for(1000000);
  return 0;
}
static void hold_in_child(const char *dir) {
  vit_fit_config f = recipe(3, dir);
  outcome o;
  f.resume = 0;
  f.callback = hold_for_ever;
  f.user = (void *)(uintptr_t)path_of("holds");
  start(&o, &f, 3, 5, 1);
  _exit(1);
}
#endif

static void test_one_run_at_a_time(void) {
  static const char *const sentence =
      "another training run is at work in %s; wait until it has ended, or choose another folder";
  const char *dir = path_of("held"), *more = path_of("more");
  vit_dataset d = pictures(IMAGES, 0);
  vit_fit_config f = recipe(2, dir);
  vit_history h, g;
  vit_trainer t, u;
  vit_model m;
  outcome o;
  make_model(&m, 1, 1);
  CHECK(!vit_trainer_create(&t, &m, &f, &d, NULL, &h), "%s", vit_error());
  for (int resume = 0; resume < 2; resume++) { /* in the same program */
    f.resume = resume;
    fails(vit_trainer_create(&u, &m, &f, &d, NULL, &g), VIT_ERR_FILE, sentence, dir);
    vit_history_free(&g);
    start(&o, &f, 2, 1, 1);
    fails(o.result, VIT_ERR_FILE, sentence, dir);
    outcome_free(&o);
  }
  f.dir = more; /* elsewhere it may */
  CHECK(!vit_trainer_create(&u, &m, &f, &d, NULL, &g), "%s", vit_error());
  vit_trainer_free(&u);
  vit_history_free(&g);
  CHECK(!vit_trainer_step(&t), "the first one is disturbed: %s", vit_error());
  vit_trainer_free(&t);
  vit_history_free(&h);
  f.dir = dir;
  start(&o, &f, 2, 1, 1);
  CHECK(!o.result, "it has ended: %s", vit_error());
  outcome_free(&o);
  vit_model_free(&m);
  clear(more);
#ifndef _WIN32
  { /* in another program, which is then killed */
    const char *holds = path_of("holds");
    int status;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) hold_in_child(dir);
    for (int i = 0; i < 5000 && !exists(holds); i++) sleep_for(2000);
    CHECK(exists(holds), "the other program does not train");
    start(&o, &f, 2, 1, 1);
    fails(o.result, VIT_ERR_FILE, sentence, dir);
    outcome_free(&o);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    f.resume = 0;
    start(&o, &f, 2, 1, 1);
    CHECK(!o.result, "a killed run blocks: %s", vit_error());
    outcome_free(&o);
    remove(holds);
  }
#endif
  clear(dir);
  no_leak("one run at a time");
}

/* ---- histories ----------------------------------------------------------- */

#define TITLE "epoch,train_loss,val_loss,val_accuracy,val_top5,rate,seconds\n"

static void test_history_read(void) {
  static const struct { const char *text; int line; } bad[] = {
      {"", 1}, {"\n", 1}, {"epoch,train_loss\n", 1}, {"epoch,train_loss,val_loss,val_accuracy,val_top5,rate,seconds", 1},
      {TITLE "1,2,3,0.5,1,0.1,9", 1}, {TITLE "\n", 2}, {TITLE "2,2,3,0.5,1,0.1,9\n", 2},
      {TITLE "1,2,3,0.5,1,0.1\n", 2}, {TITLE "1,2,3,0.5,1,0.1,9,9\n", 2}, {TITLE "1,2,3,,1,0.1,9\n", 2},
      {TITLE "1,2,3,x,1,0.1,9\n", 2}, {TITLE "1,2,3,0.5,1,0.1, 9\n", 2}, {TITLE "1,2,3,0.5,1,0.1,\n9\n", 2},
      {TITLE "1,2,3,0.5,1,0.1,9\n1,2,3,0.5,1,0.1,9\n", 3}, {TITLE "1,2,3,0.5,1,0.1,9\n2,\n", 3},
      {TITLE "1,2,3,0.5,1,0.1,9\n\n", 3}, {TITLE "1,inf,3,0.5,1,0.1,9\n", 2}, {TITLE "1,1e999,3,0.5,1,0.1,9\n", 2},
      {TITLE "99999999999999999999,2,3,0.5,1,0.1,9\n", 2}, {TITLE "-1,2,3,0.5,1,0.1,9\n", 2},
      {TITLE "1,2,3,0.5,1,0.1,9\n2,2,3,0.5,1,0.1,9\n3", 1}, {TITLE ",2,3,0.5,1,0.1,9\n", 2}};
  const char *path = path_of("history.csv");
  const int flips = test_quick() ? 2000 : 20000;
  vit_epoch e[5];
  vit_history h, g;
  vit_rng rng = vit_rng_create(6, 0);
  bytes whole;
  char want[300];
  memset(&h, 0, sizeof h);
  h.epoch = e;
  for (int epochs = 0; epochs <= 5; epochs++) {
    h.epochs = epochs;
    for (int i = 0; i < epochs; i++) {
      e[i].train_loss = 0.1 * i + 1e-9;
      e[i].val_loss = i == 2 ? 0.5 : 2.25;
      e[i].val_accuracy = i < 2 ? 0.25 : 0.75;
      e[i].val_top5 = 1;
      e[i].rate = 1e-30;
      e[i].seconds = 12345.5 * i;
      if (epochs == 1) e[i].val_loss = e[i].val_accuracy = e[i].val_top5 = (double)NAN;
    }
    CHECK(!vit_history_write(&h, path) && !vit_history_read(&g, path), "%s", vit_error());
    CHECK(g.epochs == epochs && g.best == (epochs == 1 ? 0 : epochs < 3 ? epochs > 0 : 3),
          "%d epochs, best %d", g.epochs, g.best);
    for (int i = 0; i < epochs * VIT__EPOCH_NUMBERS; i++) {
      const double was = ((const double *)e)[i], is = ((const double *)g.epoch)[i];
      CHECK(was != was ? is != is : fabs(is - was) <= 1e-8 * was, "number %d: %g, not %g", i, is, was);
    }
    vit_history_free(&g);
  }
  whole = read_bytes(path);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_bytes(path, bad[i].text, strlen(bad[i].text));
    snprintf(want, sizeof want, "%s is not what vit_history_write writes: look at line %d", path, bad[i].line);
    fails(vit_history_read(&g, path), VIT_ERR_FORMAT, want, "");
    CHECK(!g.epoch && g.epochs == 0, "case %d leaves a history", (int)i);
  }
  for (size_t size = 0; size < whole.size; size++) { /* cut anywhere */
    vit_result r;
    write_bytes(path, whole.at, size);
    r = vit_history_read(&g, path);
    CHECK(size >= sizeof TITLE - 1 && whole.at[size - 1] == '\n' ? !r : r == VIT_ERR_FORMAT, "%d bytes: %s",
          (int)size, vit_error());
    vit_history_free(&g);
  }
  for (int i = 0; i < flips; i++) {
    const uint32_t at = vit_random_below(&rng, (uint32_t)whole.size);
    const unsigned char was = whole.at[at];
    vit_result r;
    whole.at[at] = (unsigned char)vit_random_below(&rng, 256);
    write_bytes(path, whole.at, whole.size);
    r = vit_history_read(&g, path);
    CHECK(!r || r == VIT_ERR_FORMAT, "a changed byte: %s", vit_error());
    vit_history_free(&g);
    whole.at[at] = was;
  }
  for (heap.calls = 0, heap.fail_at = 1; heap.fail_at < 9; heap.fail_at++) {
    write_bytes(path, whole.at, whole.size);
    heap.calls = 0;
    if (!vit_history_read(&g, path)) break;
    CHECK(!strncmp(vit_error(), "out of memory", 13) && !g.epoch, "%s", vit_error());
  }
  CHECK(heap.fail_at == 3 && g.epochs == 5, "%d allocations", heap.fail_at - 1);
  heap.fail_at = 0;
  vit_history_free(&g);
  free(whole.at);
  remove(path);
  fails(vit_history_read(&g, path), VIT_ERR_FILE, "cannot open %s: No such file or directory", path);
  no_leak("histories");
}

/* ---- a run that an older vit.h began ------------------------------------- */

static void old_start(outcome *o, const char *dir, int stop_at, uint64_t seed) {
  static unsigned char pixels[OLD_IMAGES * 16], labels[OLD_IMAGES];
  vit_dataset d = old_pictures(pixels, labels), held = d;
  vit_config c = old_config();
  vit_fit_config f = old_recipe(dir);
  stopper s = {0, 0};
  d.count = OLD_TRAIN;
  held.count = OLD_IMAGES - OLD_TRAIN;
  held.pixels += OLD_TRAIN * 16;
  held.labels += OLD_TRAIN;
  f.callback = stop;
  f.user = &s;
  s.stop_at = stop_at;
  CHECK(!vit_model_create(&o->m, &c, seed), "%s", vit_error());
  o->m.kernels = &vit_naive;
  o->m.threads = 1;
  o->result = vit_fit(&o->m, &f, &d, &held, &o->h);
}

/* It opens, under its fields' old names, and goes on. What has been computed is
   there to the bit; what is still to come has the bits of a run that never stopped
   where this vit.h, compiler and library gave the old one its bits, too; elsewhere
   they differ in rounding. (Since then the last block leaves out what is not read.) */
static void test_old_run(void) {
  enum { STOP = 4 * (OLD_TRAIN + 1) + 7 };
  const char *old = "tests/fixtures/old_run.safetensors", *dir = path_of("old"), *quiet = path_of("quiet");
  char path[300], want[100];
  outcome whole, part, o;
  vit_model m, stopped;
  bytes file = read_bytes(old);
  int same;
  if (!CHECK(file.at != NULL, "no %s", old)) return;
  CHECK(!vit_model_open(&m, old, NULL), "%s", vit_error());
  CHECK(m.config.softmax_before_loss == 1 && m.config.block_drop == 0.125f, "its old names are lost");
  CHECK(!vit_make_dir(dir), "%s", vit_error());
  in_folder(path, dir, "last.safetensors");
  write_bytes(path, file.at, file.size);
  old_start(&part, quiet, STOP, 1);
  CHECK(part.result == VIT_STOPPED, "%s", vit_error());
  in_folder(path, quiet, "last.safetensors");
  CHECK(!vit_model_open(&stopped, path, NULL), "%s", vit_error());
  same = !memcmp(stopped.params.block, m.params.block, m.params.count * sizeof(float));
  vit_model_free(&stopped);
  outcome_free(&part);
  clear(quiet);
  old_start(&whole, quiet, 0, 1);
  old_start(&o, dir, 0, 77);
  CHECK(!o.result && !whole.result, "%s", vit_error());
  CHECK(o.h.epochs == OLD_EPOCHS && whole.h.epochs == OLD_EPOCHS, "%d epochs", o.h.epochs);
  if (same) {
    same_history("an old run", &o.h, &whole.h);
    CHECK_SAME_BITS("an old run", o.m.params.block, whole.m.params.block, o.m.params.count);
  } else {
    CHECK_CLOSE("an old run", o.m.params.block, whole.m.params.block, o.m.params.count, 0.05, 0.05); /* Adam divides by tiny gradients */
  }
  CHECK(o.h.epoch[3].rate > 0.029 && o.h.epoch[4].rate < 0.022, "the plateau forgot that it lowered the rate");
  snprintf(want, sizeof want, "unknown, naive");
  CHECK(!strcmp(o.h.kernels, want) && !strcmp(whole.h.kernels, want + 9), "kernels: %s", o.h.kernels);
  if (getenv("VIT_TEST_VERBOSE")) printf(" %s bits", same ? "the same" : "other");
  vit_model_free(&m);
  outcome_free(&o);
  outcome_free(&whole);
  free(file.at);
  clear(dir);
  clear(quiet);
  no_leak("an old run");
}

/* A run that goes on with other kernels says so, for good. */
static void test_other_kernels(void) {
  const char *dir = path_of("kernels");
  const vit_kernels *const tables[] = {&vit_naive, &vit_naive, vit_best_kernels(), vit_best_kernels(), &vit_naive};
  char want[200] = "", path[300];
  vit_safetensors f;
  if (vit_best_kernels() == &vit_naive) SKIP("there is one table");
  for (int i = 0; i < 5; i++) {
    vit_dataset d = pictures(IMAGES, 0);
    vit_fit_config c = recipe(2, dir);
    stopper s = {0, 3};
    outcome o;
    c.callback = stop;
    c.user = &s;
    make_model(&o.m, 1, 1);
    o.m.kernels = tables[i];
    CHECK(vit_fit(&o.m, &c, &d, NULL, &o.h) == VIT_STOPPED, "%s", vit_error());
    if (i != 1 && i != 3)
      snprintf(want + strlen(want), 80, "%s%s%s%s", i ? ", " : "", tables[i]->name,
               tables[i] == &vit_naive ? "" : " ", tables[i] == &vit_naive ? "" : vit_simd_name());
    CHECK(!strcmp(o.h.kernels, want), "kernels: %s, not %s", o.h.kernels, want);
    in_folder(path, dir, "last.safetensors");
    CHECK(!vit_safetensors_open(&f, path) && !strcmp(vit_safetensors_metadata(&f, "training.kernels"), want),
          "the file does not say so");
    vit_safetensors_close(&f);
    outcome_free(&o);
  }
  clear(dir);
  no_leak("other kernels");
}

/* ---- diverged ------------------------------------------------------------ */

/* Keeps what the files were at the end of each epoch. */
static struct { bytes last, best; int epochs; } kept;
static int keep_files(const vit_progress *p, void *user) {
  char path[300];
  if (!p->epoch_done) return 0;
  free(kept.last.at);
  free(kept.best.at);
  in_folder(path, (const char *)user, "last.safetensors");
  kept.last = read_bytes(path);
  in_folder(path, (const char *)user, "best.safetensors");
  kept.best = read_bytes(path);
  kept.epochs = p->epoch;
  return 0;
}

static void test_diverged(void) {
  const char *dir = path_of("diverged");
  vit_fit_config f = recipe(3, dir);
  char last[300], best[300];
  outcome o;
  vit_model m;
  f.epochs = 300;
  f.callback = keep_files;
  f.user = (void *)(uintptr_t)dir;
  f.optimizer = vit_optimizer_defaults(VIT_SGD);
  f.schedule = vit_schedule_constant(1e6f);
  f.schedule.kind = VIT_LINEAR; /* gentle at first */
  f.schedule.warmup = 10000000;
  f.schedule.total = 2000000000;
  start(&o, &f, 3, 1, 1);
  CHECK(o.result == VIT_ERR_DIVERGED && strstr(vit_error(), "training diverged"),
        "result %d, %s", (int)o.result, vit_error());
  CHECK(o.h.epochs > 0 && o.h.epochs == kept.epochs, "%d epochs, %d were kept", o.h.epochs,
        kept.epochs);
  in_folder(last, dir, "last.safetensors");
  in_folder(best, dir, "best.safetensors");
  check_kept("diverged", last, &kept.last);
  check_kept("diverged", best, &kept.best);
  CHECK(!vit_model_open(&m, best, NULL), "%s", vit_error());
  CHECK_SAME_BITS("the best weights", o.m.params.block, m.params.block, m.params.count);
  for (size_t i = 0; i < m.params.count; i++)
    CHECK(fabs((double)m.params.block[i]) < 1e30, "weight %d is %g", (int)i,
          (double)m.params.block[i]);
  vit_model_free(&m);
  CHECK(!vit_model_open(&m, last, NULL), "%s", vit_error());
  vit_model_free(&m);
  CHECK(read_history(dir, &o.h) == o.h.epochs, "lines of the history");
  free(kept.last.at);
  free(kept.best.at);
  memset(&kept, 0, sizeof kept);
  outcome_free(&o);
  clear(dir);
  no_leak("diverged");
}

int main(void) {
  snprintf(folder, sizeof folder, "build/test_checkpoint_%ld",
#ifdef _WIN32
           0L);
#else
           (long)getpid());
#endif
  if (vit_make_dir(folder)) return 1;
  RUN(test_killed_while_saving); /* first: OpenMP does not survive a fork */
  RUN(test_killed_while_training);
  RUN(test_one_run_at_a_time);
  RUN(test_write_and_read);
  RUN(test_write_refuses);
  RUN(test_model_file);
  RUN(test_old_model);
  RUN(test_model_shapes);
  RUN(test_model_notes);
  RUN(test_not_finite);
  RUN(test_save_without_memory);
  RUN(test_python);
  RUN(test_full_disk);
  RUN(test_flush);
  RUN(test_full_disk_in_a_run);
  RUN(test_in_the_way);
  RUN(test_no_permission);
  RUN(test_resume);
  RUN(test_finished);
  RUN(test_another_recipe);
  RUN(test_own_augmentation);
  RUN(test_other_images);
  RUN(test_comma);
  RUN(test_history_read);
  RUN(test_old_run);
  RUN(test_other_kernels);
  RUN(test_broken_checkpoints);
  RUN(test_wrong_numbers);
  RUN(test_resume_without_memory);
  RUN(test_diverged);
  remove(folder);
  return test_end("checkpoint");
}
