/* The long run: augmentation, batches that can be made again, soft targets, the
   averaged weights, the choice of an epoch, memory, and the metrics. What is
   written to files is in test_checkpoint.c. */
#include "test.h"

static void *test_malloc(size_t n);
static void test_free(void *p);
#define VIT_MALLOC(n) test_malloc(n)
#define VIT_FREE(p) test_free(p)
#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"
#include "changed.h"

/* ---- an allocator that counts -------------------------------------------- */

static struct { int calls, live; } heap;

static void *test_malloc(size_t n) {
  void *p = malloc(n);
  heap.calls++;
  heap.live += p != NULL;
  return p;
}
static void test_free(void *p) {
  heap.live -= p != NULL;
  free(p);
}

static int fails(vit_result have, vit_result want, const char *sentence) {
  return CHECK(have == want && !strcmp(vit_error(), sentence),
               "result %d \"%s\",\n    expected %d \"%s\"", (int)have, vit_error(),
               (int)want, sentence);
}

/* ---- pictures ------------------------------------------------------------ */

enum { MOST_PIXELS = 200000, MOST_LABELS = 2000 };
static struct { uint8_t pixels[MOST_PIXELS], labels[MOST_LABELS]; } store;

static vit_dataset empty_dataset(int count, int C, int h, int w, int classes) {
  vit_dataset d;
  memset(&d, 0, sizeof d);
  d.count = count;
  d.channels = C;
  d.height = h;
  d.width = w;
  d.classes = classes;
  d.pixels = store.pixels;
  d.labels = store.labels;
  for (int c = 0; c < 3; c++) {
    d.mean[c] = 0.4321f - 0.05f * (float)c; /* no grey level becomes 0 */
    d.std[c] = 0.25f + 0.01f * (float)c;
  }
  if (count > MOST_LABELS || count * C * h * w > MOST_PIXELS) exit(1);
  return d;
}

/* Random pixels and labels. */
static vit_dataset noise(int count, int C, int h, int w, int classes) {
  vit_dataset d = empty_dataset(count, C, h, w, classes);
  vit_rng rng = vit_rng_create(5, 0);
  for (int i = 0; i < count * C * h * w; i++)
    d.pixels[i] = (uint8_t)vit_random_below(&rng, 256);
  for (int i = 0; i < count; i++)
    d.labels[i] = (uint8_t)vit_random_below(&rng, (uint32_t)classes);
  return d;
}

/* Four classes: a bright quarter each, and noise. */
static vit_dataset quarters(int count, int from) {
  vit_dataset d = empty_dataset(count, 1, 6, 8, 4);
  vit_rng rng = vit_rng_create(77, (uint32_t)from);
  d.pixels += from * 48;
  d.labels += from;
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

static size_t pixels_of(const vit_dataset *d) {
  return (size_t)d->channels * (size_t)d->height * (size_t)d->width;
}

/* Image i as it is, and changed with random numbers of this stream. */
static void plain(float *out, const vit_dataset *d, int i) {
  vit_dataset_batch(d, &i, 1, out, NULL);
}
static void change(float *out, const vit_dataset *d, int i, const vit_augment *a,
                   int stream) {
  vit_rng rng = vit_rng_create(99, (uint32_t)stream);
  test_guard g;
  float *scratch = test_guarded_alloc(vit_augment_scratch(d), &g);
  vit_augment_image(out, d, i, a, &rng, scratch);
  test_guarded_free(&g);
}

static vit_augment no_change(void) {
  vit_augment a;
  memset(&a, 0, sizeof a);
  return a;
}

/* Every change at once, each as strong as it goes. */
static vit_augment every_change(int strongest) {
  vit_augment a = no_change();
  const char *name, *text;
  float *value;
  for (int i = 0; vit_augment_field(&a, i, &name, &text, &value); i++) {
    *value = 0.5f;
    if (!strcmp(name, "rotate")) *value = strongest ? 180 : 10;
    if (!strcmp(name, "shear")) *value = strongest ? 60 : 10;
    if (!strcmp(name, "elastic")) *value = strongest ? 16 : 1;
    if (!strcmp(name, "elastic_width")) *value = strongest ? 16 : 2;
    if (!strncmp(name, "rand", 4)) *value = strongest ? 10 : 2;
    if (!strcmp(name, "crop")) *value = strongest ? 0.001f : 0.8f;
    if (!strcmp(name, "shift")) *value = strongest ? 1 : 0.1f;
  }
  return a;
}

static const struct { int C, h, w; } sizes[] = {{1, 28, 28}, {3, 6, 8}, {3, 9, 4}, {1, 1, 1},
                                                {3, 1, 1},   {1, 1, 7}, {3, 5, 1}, {4, 3, 2}};
enum { SIZES = (int)(sizeof sizes / sizeof *sizes) };

/* ---- augmentation: off, refused, mirrored -------------------------------- */

static void test_all_off(void) {
  for (int k = 0; k < SIZES; k++) {
    vit_dataset d = noise(5, sizes[k].C, sizes[k].h, sizes[k].w, 3);
    vit_augment a = no_change();
    size_t n = pixels_of(&d);
    test_guard g, gw;
    float *have = test_guarded_alloc(n, &g), *want = test_guarded_alloc(n, &gw);
    for (int i = 0; i < 5; i++) {
      change(have, &d, i, &a, i);
      plain(want, &d, i);
      CHECK_SAME_BITS("all off", have, want, n);
    }
    test_guarded_free(&g);
    test_guarded_free(&gw);
  }
}

static void test_refused_fields(void) {
  static const struct { const char *name; float most; } limits[] = {
      {"shift", 1},         {"rotate", 180},    {"scale", 2},      {"shear", 60},
      {"elastic", 16},      {"elastic_width", 16}, {"crop", 1},    {"flip", 1},
      {"flip_vertical", 1}, {"brightness", 1},  {"contrast", 1},   {"erase", 1},
      {"rand_ops", 10},     {"rand_strength", 10}, {"mixup", 2},   {"cutmix", 2}};
  const int fields = (int)(sizeof limits / sizeof *limits);
  vit_augment a = no_change();
  const char *name, *text;
  float *value;
  CHECK(!vit_augment_check(&a), "all off: %s", vit_error());
  for (int i = 0; i < fields; i++) {
    const float bad[] = {-0.001f, limits[i].most * 1.001f, (float)NAN,
                         (float)INFINITY, (float)-INFINITY};
    char want[120];
    a = no_change();
    if (!CHECK(vit_augment_field(&a, i, &name, &text, &value) &&
                   !strcmp(name, limits[i].name) && *text && *value == 0,
               "field %d", i))
      return;
    *value = limits[i].most;
    if (!strcmp(name, "rand_ops")) a.rand_strength = 1;
    CHECK(!vit_augment_check(&a), "%s", vit_error());
    for (int j = 0; j < 5; j++) {
      *value = bad[j];
      snprintf(want, sizeof want, "augmentation: %s is %g; it must be from 0 to %g",
               name, (double)bad[j], (double)limits[i].most);
      fails(vit_augment_check(&a), VIT_ERR_CONFIG, want);
    }
  }
  CHECK(!vit_augment_field(&a, fields, &name, &text, &value), "more fields");
  a = no_change();
  a.rand_ops = 2;
  fails(vit_augment_check(&a), VIT_ERR_CONFIG,
        "augmentation: rand_ops is 2, but rand_strength is 0 and changes nothing; "
        "set it to 1 to 10");
  a.rand_strength = 3;
  a.rand_ops = 1.5f;
  fails(vit_augment_check(&a), VIT_ERR_CONFIG,
        "augmentation: rand_ops is 1.5; it must be a whole number");
}

/* A function of one's own and its name come together. */
static void test_refused_function(void) {
  vit_augment a = no_change();
  a.image = vit_augment_image;
  for (int i = 0; i < 2; i++) {
    a.name = i ? "" : NULL;
    fails(vit_augment_check(&a), VIT_ERR_CONFIG,
          "augmentation: there is a function without a name; set image, a function of your "
          "own, and name, by which a resume knows it, both or neither");
  }
  a.name = "the built-in one";
  CHECK(!vit_augment_check(&a), "%s", vit_error());
  a.image = NULL;
  fails(vit_augment_check(&a), VIT_ERR_CONFIG,
        "augmentation: there is a name without a function; set image, a function of your "
        "own, and name, by which a resume knows it, both or neither");
}

static void test_mirrors(void) {
  for (int k = 0; k < SIZES; k++)
    for (int kind = 1; kind < 4; kind++) { /* 1 flip, 2 flip_vertical, 3 both */
      vit_dataset d = noise(1, sizes[k].C, sizes[k].h, sizes[k].w, 3);
      vit_augment a = no_change();
      float have[784], image[784], want[784];
      const int h = d.height, w = d.width;
      a.flip = kind & 1 ? 1.0f : 0;
      a.flip_vertical = kind & 2 ? 1.0f : 0;
      change(have, &d, 0, &a, k);
      plain(image, &d, 0);
      for (int c = 0; c < d.channels; c++)
        for (int y = 0; y < h; y++)
          for (int x = 0; x < w; x++)
            want[(c * h + y) * w + x] =
                image[(c * h + (kind & 2 ? h - 1 - y : y)) * w +
                      (kind & 1 ? w - 1 - x : x)];
      CHECK_CLOSE("mirror", have, want, pixels_of(&d), 0, 1e-6);
    }
}

/* n draws of probability p: within five standard deviations. */
static void share_is(const char *what, int hits, int n, double p) {
  CHECK(fabs(hits - n * p) <= 5 * sqrt(n * p * (1 - p)) + 1e-9,
        "%s: %d of %d, expected %g of them", what, hits, n, p);
}

static void test_probabilities(void) {
  static const float p[] = {0, 0.2f, 0.5f, 1};
  const int n = test_quick() ? 500 : 2000;
  vit_dataset d = empty_dataset(1, 1, 2, 2, 2);
  for (int i = 0; i < 4; i++) d.pixels[i] = (uint8_t)(50 * i);
  for (int k = 0; k < 4; k++) {
    vit_augment a = no_change();
    int across = 0, down = 0, both = 0, erased = 0;
    a.flip = a.flip_vertical = a.erase = p[k];
    for (int i = 0; i < n; i++) {
      float out[4];
      int x, y;
      a.erase = 0;
      change(out, &d, 0, &a, i);
      x = out[0] > out[1];
      y = out[0] > out[2];
      across += x;
      down += y;
      both += x && y;
    }
    d = noise(1, 1, 8, 8, 2);
    a = no_change();
    a.erase = p[k];
    for (int i = 0; i < n; i++) {
      float out[64];
      int zero = 0;
      change(out, &d, 0, &a, i);
      for (int j = 0; j < 64; j++) zero |= out[j] == 0;
      erased += zero;
    }
    d = empty_dataset(1, 1, 2, 2, 2);
    for (int i = 0; i < 4; i++) d.pixels[i] = (uint8_t)(50 * i);
    share_is("flip", across, n, (double)p[k]);
    share_is("flip_vertical", down, n, (double)p[k]);
    share_is("both", both, n, (double)p[k] * (double)p[k]);
    share_is("erase", erased, n, (double)p[k]);
  }
}

/* ---- augmentation: where pixels come from -------------------------------- */

/* A picture whose first two channels say where a pixel is: 5 x and 6 y. Between
   pixels this stays true, so that every pixel of the changed picture tells where
   it came from. */
enum { RAMP_W = 50, RAMP_H = 40, RAMP_N = 3 * RAMP_W * RAMP_H };
static const double half_w = (double)RAMP_W / 2, half_h = (double)RAMP_H / 2;

static vit_dataset ramp(void) {
  vit_dataset d = empty_dataset(1, 3, RAMP_H, RAMP_W, 2);
  for (int y = 0; y < RAMP_H; y++)
    for (int x = 0; x < RAMP_W; x++) {
      d.pixels[y * RAMP_W + x] = (uint8_t)(5 * x);
      d.pixels[(RAMP_H + y) * RAMP_W + x] = (uint8_t)(6 * y);
      d.pixels[(2 * RAMP_H + y) * RAMP_W + x] = 128;
    }
  return d;
}

static double level(const vit_dataset *d, const float *out, int c, int y, int x) {
  return 255 * ((double)out[(c * d->height + y) * d->width + x] * (double)d->std[c] +
                (double)d->mean[c]);
}
static double from_x(const vit_dataset *d, const float *out, int y, int x) {
  return level(d, out, 0, y, x) / 5;
}
static double from_y(const vit_dataset *d, const float *out, int y, int x) {
  return level(d, out, 1, y, x) / 6;
}

/* About the middle: source = matrix * place + (x, y), from the centre. */
typedef struct { double xx, xy, yx, yy, x, y; } place_map;
static place_map measure(const vit_dataset *d, const float *out) {
  const double step = 18; /* two differences of 9 pixels are added */
  double x[2][2], y[2][2];
  place_map m;
  for (int j = 0; j < 2; j++)
    for (int i = 0; i < 2; i++) {
      x[j][i] = from_x(d, out, 15 + 9 * j, 20 + 9 * i);
      y[j][i] = from_y(d, out, 15 + 9 * j, 20 + 9 * i);
    }
  m.xx = (x[0][1] + x[1][1] - x[0][0] - x[1][0]) / step;
  m.xy = (x[1][0] + x[1][1] - x[0][0] - x[0][1]) / step;
  m.yx = (y[0][1] + y[1][1] - y[0][0] - y[1][0]) / step;
  m.yy = (y[1][0] + y[1][1] - y[0][0] - y[0][1]) / step;
  m.x = (x[0][0] + x[0][1] + x[1][0] + x[1][1]) / 4 - half_w + 0.5;
  m.y = (y[0][0] + y[0][1] + y[1][0] + y[1][1]) / 4 - half_h + 0.5;
  return m;
}

static int near_to(double a, double b) { return fabs(a - b) < 2e-3; }

static place_map drawn(const vit_augment *a, int stream) {
  static float out[RAMP_N];
  vit_dataset d = ramp();
  change(out, &d, 0, a, stream);
  return measure(&d, out);
}

typedef struct { int n; double least, most, sum, squares; } spread;
static void add(spread *s, double x) {
  if (!s->n || x < s->least) s->least = x;
  if (!s->n || x > s->most) s->most = x;
  s->n++;
  s->sum += x;
  s->squares += x * x;
}
/* Uniform between a and b. */
static void uniform(const char *what, const spread *s, double a, double b) {
  double mean = s->sum / s->n, width = b - a;
  double deviation = sqrt(s->squares / s->n - mean * mean);
  CHECK(s->least >= a - 2e-3 && s->most <= b + 2e-3, "%s: from %g to %g, not %g to %g",
        what, s->least, s->most, a, b);
  CHECK(s->least < a + 0.06 * width && s->most > b - 0.06 * width,
        "%s: only from %g to %g", what, s->least, s->most);
  CHECK(fabs(mean - (a + b) / 2) < 5 * width / sqrt(12.0 * s->n), "%s: mean %g", what,
        mean);
  CHECK(fabs(deviation * sqrt(12.0) / width - 1) < 0.12, "%s: deviation %g", what,
        deviation);
}

static void test_moves(void) {
  const int n = test_quick() ? 150 : 400;
  spread x, y, angle, size, slant, left, top, area, ratio;
  vit_augment a = no_change();
  memset(&x, 0, sizeof x);
  y = angle = size = slant = left = top = area = ratio = x;
  a.shift = 0.1f;
  for (int i = 0; i < n; i++) {
    place_map m = drawn(&a, i);
    CHECK(near_to(m.xx, 1) && near_to(m.yy, 1) && near_to(m.xy, 0) && near_to(m.yx, 0),
          "shift also turns");
    add(&x, m.x);
    add(&y, m.y);
  }
  uniform("shift in x", &x, -5, 5);
  uniform("shift in y", &y, -4, 4);
  a = no_change();
  a.rotate = 30;
  for (int i = 0; i < n; i++) {
    place_map m = drawn(&a, i);
    double turn = atan2(m.yx, m.xx);
    CHECK(near_to(m.xx, cos(turn)) && near_to(m.yy, cos(turn)) &&
              near_to(m.xy, -sin(turn)) && near_to(m.yx, sin(turn)) &&
              near_to(m.x, 0) && near_to(m.y, 0),
          "not a rotation about the centre: %g %g %g %g", m.xx, m.xy, m.yx, m.yy);
    add(&angle, turn * 180 / VIT_PI);
  }
  uniform("rotate", &angle, -30, 30);
  a = no_change();
  a.scale = 0.5f;
  for (int i = 0; i < n; i++) {
    place_map m = drawn(&a, i);
    CHECK(near_to(m.xx, m.yy) && near_to(m.xy, 0) && near_to(m.yx, 0) &&
              near_to(m.x, 0) && near_to(m.y, 0),
          "scale is not the same in both directions");
    add(&size, log(m.xx));
  }
  uniform("scale", &size, -log(1.5), log(1.5));
  a = no_change();
  a.shear = 20;
  for (int i = 0; i < n; i++) {
    place_map m = drawn(&a, i);
    CHECK(near_to(m.xx, 1) && near_to(m.yy, 1) && near_to(m.yx, 0), "shear");
    add(&slant, atan(m.xy) * 180 / VIT_PI);
  }
  uniform("shear", &slant, -20, 20);
  a = no_change();
  a.crop = 0.25f;
  for (int i = 0; i < n; i++) {
    place_map m = drawn(&a, i);
    double r = m.xx / m.yy; /* the box, from the centre, in halves of the picture */
    double right = fabs(m.x) / half_w + m.xx, low = fabs(m.y) / half_h + m.yy;
    CHECK(near_to(m.xy, 0) && near_to(m.yx, 0) && right < 1.001 && low < 1.001,
          "the crop reaches out of the picture: %g, %g", right, low);
    CHECK(r > 0.749 && r < 1.335, "the crop's sides are %g : 1", r);
    add(&area, m.xx * m.yy);
    if (m.xx < 0.9) add(&left, m.x / half_w / (1 - m.xx));
    if (m.yy < 0.9) add(&top, m.y / half_h / (1 - m.yy));
  }
  uniform("crop: area", &area, 0.25, 1);
  CHECK(left.least < -0.8 && left.most > 0.8 && top.least < -0.8 && top.most > 0.8,
        "the crop is not anywhere");
  a.crop = 1; /* all of the area */
  for (int i = 0; i < n; i++) {
    place_map m = drawn(&a, i);
    CHECK(near_to(m.xx, 1) && near_to(m.yy, 1), "crop 1 keeps %g x %g", m.xx, m.yy);
  }
}

/* Displacements of the middle, where the Gaussian is not cut off. */
static void test_elastic(void) {
  static const struct { float strength, width; double smooth; } settings[] = {
      {1.5f, 0, 4}, {2, 2, 2}, {0.5f, 3, 3}};
  static float out[RAMP_N];
  const int draws = test_quick() ? 60 : 150, edge = 11;
  for (int k = 0; k < 3; k++) {
    const double want = (double)settings[k].strength, s = settings[k].smooth;
    /* white noise after a Gaussian: correlation exp(-distance^2 / (4 s^2)) */
    const double apart = want * sqrt(2 * (1 - exp(-1 / (4 * s * s))));
    double squares = 0, sum = 0, product = 0, steps = 0;
    int n = 0, corners = 0;
    vit_augment a = no_change();
    a.elastic = settings[k].strength;
    a.elastic_width = settings[k].width;
    for (int i = 0; i < draws; i++) {
      vit_dataset d = ramp();
      change(out, &d, 0, &a, i);
      for (int y = edge; y < RAMP_H - edge; y++)
        for (int x = edge; x < RAMP_W - edge; x++, n++) {
          double dx = from_x(&d, out, y, x) - x, dy = from_y(&d, out, y, x) - y;
          double next = from_x(&d, out, y, x + 1) - x - 1;
          double below = from_x(&d, out, y + 1, x) - x;
          sum += dx + dy;
          squares += dx * dx + dy * dy;
          product += dx * dy;
          steps += (next - dx) * (next - dx) + (below - dx) * (below - dx);
        }
      corners += fabs(from_x(&d, out, 1, 1) - 1) > 0.01;
    }
    CHECK(fabs(sqrt(squares / (2 * n)) / want - 1) < 0.1, "elastic %g: deviation %g",
          want, sqrt(squares / (2 * n)));
    CHECK(fabs(sum / (2 * n)) < 0.2 * want && fabs(product / n) < 0.2 * want * want,
          "elastic %g: mean %g, x and y go together: %g", want, sum / (2 * n),
          product / n);
    CHECK(fabs(sqrt(steps / (2 * n)) / apart - 1) < 0.15,
          "elastic %g, width %g: neighbours differ by %g, not %g", want, s,
          sqrt(steps / (2 * n)), apart);
    CHECK(corners > draws / 2, "nothing moves in the corner");
  }
}

/* Whatever is asked for, the values are those that a picture can have. */
static void test_range(void) {
  const int draws = test_quick() ? 20 : 60;
  for (int k = 0; k < SIZES; k++)
    for (int kind = 0; kind < 18; kind++) {
      vit_dataset d = noise(1, sizes[k].C, sizes[k].h, sizes[k].w, 3);
      vit_augment all = every_change(1), a = no_change();
      const char *name = "all", *text;
      float *from, *to;
      const size_t n = pixels_of(&d);
      test_guard g;
      float *out = test_guarded_alloc(n, &g);
      if (kind < 16) {
        vit_augment_field(&all, kind, &name, &text, &from);
        vit_augment_field(&a, kind, &name, &text, &to);
        *to = *from;
        if (!strcmp(name, "rand_ops")) a.rand_strength = 10;
      } else {
        a = every_change(kind == 17);
      }
      CHECK(!vit_augment_check(&a), "%s", vit_error());
      for (int i = 0; i < draws; i++) {
        size_t wrong = 0;
        change(out, &d, 0, &a, i);
        for (size_t j = 0; j < n; j++) {
          size_t c = j / (n / (size_t)d.channels) % 3;
          double value = 255 * ((double)out[j] * (double)d.std[c] + (double)d.mean[c]);
          wrong += !(value > -1e-3 && value < 255.001);
        }
        CHECK(!wrong, "%s, %d x %d x %d: %d values no picture has", name, d.channels,
              d.height, d.width, (int)wrong);
      }
      test_guarded_free(&g);
    }
}

/* ---- augmentation: grey levels, rectangles, RandAugment ------------------ */

static void test_grey_levels(void) {
  const int n = test_quick() ? 150 : 400;
  vit_dataset d = empty_dataset(1, 3, 4, 5, 2);
  spread bright, stretch;
  vit_augment a = no_change();
  float out[60];
  memset(&bright, 0, sizeof bright);
  stretch = bright;
  for (int i = 0; i < 60; i++) d.pixels[i] = i % 2 ? 60 : 140;
  a.brightness = 0.3f;
  for (int i = 0; i < n; i++) {
    double factor;
    change(out, &d, 0, &a, i);
    factor = level(&d, out, 0, 0, 0) / 140;
    for (int c = 0; c < 3; c++)
      CHECK(fabs(level(&d, out, c, 1, 1) - factor * (c * 20 + 6) / (c * 20 + 6) *
                                               d.pixels[c * 20 + 6]) < 0.01,
            "brightness is not one factor");
    add(&bright, factor);
  }
  uniform("brightness", &bright, 0.7, 1.3);
  a = no_change();
  a.contrast = 0.4f;
  for (int i = 0; i < n; i++) {
    double light, dark;
    change(out, &d, 0, &a, i);
    light = level(&d, out, 2, 0, 0);
    dark = level(&d, out, 2, 0, 1);
    CHECK(fabs((light + dark) / 2 - 100) < 0.01, "contrast moves the mean to %g",
          (light + dark) / 2);
    add(&stretch, (light - dark) / 80);
  }
  uniform("contrast", &stretch, 0.6, 1.4);
  for (int i = 0; i < 60; i++) d.pixels[i] = i % 2 ? 20 : 250; /* is cut off */
  a.brightness = 0.5f;
  a.contrast = 1;
  bright.n = 0;
  for (int i = 0; i < n; i++) {
    change(out, &d, 0, &a, i);
    for (int j = 0; j < 20; j++) add(&bright, level(&d, out, 0, j / 5, j % 5));
  }
  CHECK(fabs(bright.least) < 1e-3 && fabs(bright.most - 255) < 1e-3, "from %g to %g",
        bright.least, bright.most);
}

static void test_erase(void) {
  enum { SIDE = 30, TALL = 40 };
  static float out[3 * SIDE * TALL], image[3 * SIDE * TALL];
  const int n = test_quick() ? 200 : 600;
  vit_dataset d = noise(1, 3, TALL, SIDE, 2);
  vit_augment a = no_change();
  double sum = 0, least_ratio = 1, most_ratio = 1;
  int everywhere = 1, column[SIDE] = {0}, row[TALL] = {0};
  a.erase = 1;
  plain(image, &d, 0);
  for (int i = 0; i < n; i++) {
    int x0 = SIDE, x1 = -1, y0 = TALL, y1 = -1, erased = 0;
    double part, sides;
    change(out, &d, 0, &a, i);
    for (int j = 0; j < SIDE * TALL; j++) {
      int zero = out[j] == 0;
      for (int c = 1; c < 3; c++)
        CHECK((out[c * SIDE * TALL + j] == 0) == zero, "not in all channels");
      if (zero) {
        int x = j % SIDE, y = j / SIDE;
        x0 = x < x0 ? x : x0, x1 = x > x1 ? x : x1;
        y0 = y < y0 ? y : y0, y1 = y > y1 ? y : y1;
        erased++;
        column[x] = row[y] = 1;
      } else {
        CHECK(out[j] == image[j], "pixel %d changed", j);
      }
    }
    if (!CHECK(erased > 0, "nothing was erased")) continue;
    CHECK(erased == (x1 - x0 + 1) * (y1 - y0 + 1), "not a rectangle");
    part = (double)erased / (SIDE * TALL);
    CHECK(part > 0.015 && part < 0.36, "%g of the area", part);
    sides = (double)((y1 - y0 + 1) * SIDE) / ((x1 - x0 + 1) * TALL);
    CHECK(sides > 0.25 && sides < 4, "sides of %g", sides);
    least_ratio = sides < least_ratio ? sides : least_ratio;
    most_ratio = sides > most_ratio ? sides : most_ratio;
    sum += part;
  }
  CHECK(fabs(sum / n - 0.175) < 5 * 0.31 / sqrt(12.0 * n) + 0.002, "mean area %g",
        sum / n);
  CHECK(least_ratio < 0.45 && most_ratio > 2.2, "sides from %g to %g", least_ratio,
        most_ratio);
  for (int j = 0; j < SIDE; j++) everywhere &= column[j];
  for (int j = 0; j < TALL; j++) everywhere &= row[j];
  CHECK(everywhere, "some row or column is never erased");
}

/* What one change of RandAugment did to the ramp, at strength 5. */
enum { KIND_NONE, KIND_TURN, KIND_SLANT_X, KIND_SLANT_Y, KIND_X, KIND_Y, KIND_SIZE,
       KIND_BRIGHT, KIND_CONTRAST, KIND_ERASE, KINDS };
static int kind_of(const vit_dataset *d, const float *out) {
  const double slant = 0.15, grey = level(d, out, 2, 0, 0);
  place_map m;
  for (int i = 0; i < RAMP_N; i++)
    if (out[i] == 0) return KIND_ERASE;
  if (fabs(grey - 128 * 1.45) < 0.01 || fabs(grey - 128 * 0.55) < 0.01)
    return KIND_BRIGHT;
  if (fabs(grey - 128) > 0.01) return KIND_CONTRAST;
  m = measure(d, out);
  if (near_to(fabs(m.x), 0.45 * half_w)) return KIND_X;
  if (near_to(fabs(m.y), 0.45 * half_h)) return KIND_Y;
  if (near_to(m.xx, cos(15 * VIT_PI / 180)) && near_to(fabs(m.yx), sin(15 * VIT_PI / 180)))
    return KIND_TURN;
  if (near_to(fabs(m.xy), slant) && near_to(m.yx, 0)) return KIND_SLANT_X;
  if (near_to(fabs(m.yx), slant) && near_to(m.xy, 0)) return KIND_SLANT_Y;
  if (near_to(m.xx, m.yy) && (near_to(m.xx, 1.25) || near_to(m.xx, 0.8))) return KIND_SIZE;
  if (near_to(m.xx, 1) && near_to(m.yy, 1) && near_to(m.xy, 0)) return KIND_NONE;
  return -1;
}

static void test_rand_augment(void) {
  static float out[RAMP_N], image[RAMP_N];
  const int n = test_quick() ? 500 : 2000;
  vit_dataset d = ramp();
  vit_augment a = no_change();
  int count[KINDS], unknown = 0;
  memset(count, 0, sizeof count);
  a.rand_ops = 1;
  a.rand_strength = 5;
  for (int i = 0; i < n; i++) {
    int kind;
    change(out, &d, 0, &a, i);
    kind = kind_of(&d, out);
    if (kind >= 0) count[kind]++;
    unknown += kind < 0;
  }
  CHECK(!unknown, "%d unknown changes", unknown);
  for (int k = 0; k < KINDS; k++) {
    char name[40];
    snprintf(name, sizeof name, "RandAugment, change %d", k);
    share_is(name, count[k], n, 0.1);
  }
  a.rand_ops = 3; /* as it was, in 1 of 1000 */
  count[0] = 0;
  plain(image, &d, 0);
  for (int i = 0; i < n; i++) {
    double most = 0;
    change(out, &d, 0, &a, i);
    for (int j = 0; j < RAMP_N; j++) {
      const double far = fabs((double)(out[j] - image[j]));
      if (far > most) most = far;
    }
    count[0] += most < 1e-4;
  }
  CHECK(count[0] < n / 50, "three changes left %d of %d as they were", count[0], n);
  a.rand_strength = 0;
  for (int i = 0; i < n / 4; i++) {
    change(out, &d, 0, &a, i);
    CHECK_CLOSE("strength 0", out, image, RAMP_N, 0, 1e-4);
  }
}

/* ---- pairs and batches --------------------------------------------------- */

static vit_model sized_model(const vit_dataset *d, int threads) {
  char text[300];
  vit_config c;
  vit_model m;
  snprintf(text, sizeof text,
           "image_height=%d image_width=%d patch_height=%d patch_width=%d channels=%d "
           "classes=%d width=12 depth=1 heads=2 mlp_width=16 positions=2 head=0 "
           "final_norm=1",
           d->height, d->width, d->height, d->width, d->channels, d->classes);
  c = changed(vit_config_tutorial(), text);
  CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error());
  m.threads = threads;
  return m;
}

/* Image i is all of grey level 20 i, and of class i. */
static vit_dataset plain_greys(int count) {
  vit_dataset d = empty_dataset(count, 3, 10, 12, count);
  for (int i = 0; i < count; i++) {
    memset(d.pixels + 360 * i, 20 * i, 360);
    d.labels[i] = (uint8_t)i;
  }
  return d;
}

static float value_of(const vit_dataset *d, int c, int grey) {
  return ((float)grey / 255.0f - d->mean[c]) / d->std[c];
}

/* The share of image `mine` in image i of the batch, as its pixels tell it. For
   cutmix the pixels of the other must be a box, the same in all channels. */
static double share_seen(const vit_loader *l, int i, int mine, int other, int *cut) {
  const float *image = l->images + 360 * i;
  const double a = (double)value_of(l->data, 0, 20 * mine);
  const double b = (double)value_of(l->data, 0, 20 * other);
  int x0 = 12, x1 = -1, y0 = 10, y1 = -1, n = 0;
  *cut = 0;
  for (int j = 1; j < 120; j++) *cut |= image[j] != image[0];
  *cut |= fabs((double)image[0] - b) < 1e-6 || fabs((double)image[0] - a) < 1e-6;
  if (!*cut) return ((double)image[0] - b) / (a - b);
  for (int j = 0; j < 120; j++) {
    int theirs = fabs((double)image[j] - b) < 1e-5;
    CHECK(theirs || fabs((double)image[j] - a) < 1e-5, "a value of neither image");
    for (int c = 1; c < 3; c++)
      CHECK(fabsf(image[c * 120 + j] -
                  value_of(l->data, c, 20 * (theirs ? other : mine))) < 1e-5f,
            "channels differ");
    if (!theirs) continue;
    x0 = j % 12 < x0 ? j % 12 : x0, x1 = j % 12 > x1 ? j % 12 : x1;
    y0 = j / 12 < y0 ? j / 12 : y0, y1 = j / 12 > y1 ? j / 12 : y1;
    n++;
  }
  CHECK(!n || n == (x1 - x0 + 1) * (y1 - y0 + 1), "not a box");
  return 1 - n / 120.0;
}

static void test_pairs(void) {
  static const struct { float mixup, cutmix; } kinds[] = {
      {1, 0}, {0.2f, 0}, {2, 0}, {0, 1}, {0, 0.5f}, {0.5f, 0.5f}, {1e-9f, 0}, {0, 1e-30f}};
  enum { N = 7 };
  const int epochs = test_quick() ? 100 : 400;
  for (int k = 0; k < 8; k++) {
    vit_dataset d = plain_greys(N);
    vit_model m = sized_model(&d, 1);
    vit_augment a = no_change();
    vit_loader l;
    spread shares;
    double alpha = (double)(kinds[k].mixup > 0 ? kinds[k].mixup : kinds[k].cutmix), mean;
    int cuts = 0;
    memset(&shares, 0, sizeof shares);
    a.mixup = kinds[k].mixup;
    a.cutmix = kinds[k].cutmix;
    CHECK(!vit_loader_create(&l, &d, &m, &a, N, 0, 3), "%s", vit_error());
    for (int e = 0; e < epochs; e++) {
      vit_loader_epoch(&l, e);
      vit_loader_batch(&l, 0, N);
      for (int i = 0; i < N; i++) {
        const int mine = l.order[i], other = l.order[N - 1 - i];
        const float *q = l.targets + i * N;
        double sum = 0, seen = 1;
        int cut = 0;
        for (int j = 0; j < N; j++) sum += (double)q[j];
        CHECK(fabs(sum - 1) < 1e-6, "the targets sum up to %g", sum);
        if (mine == other) { /* the middle one */
          static float image[360];
          plain(image, &d, mine);
          CHECK_SAME_BITS("the middle image", l.images + 360 * i, image, 360);
          CHECK(q[mine] == 1, "the middle target %g", (double)q[mine]);
          continue;
        }
        seen = share_seen(&l, i, mine, other, &cut);
        CHECK(fabs(seen - (double)q[mine]) < 1e-4 && fabs(1 - seen - (double)q[other]) < 1e-4,
              "the pixels say %g, the targets %g and %g", seen, (double)q[mine],
              (double)q[other]);
        if (i < N / 2) add(&shares, seen), cuts += cut;
      }
    }
    mean = shares.sum / shares.n;
    if (alpha > 0.01) {
      double want = 1 / (4 * (2 * alpha + 1)), have = shares.squares / shares.n - mean * mean;
      CHECK(fabs(mean - 0.5) < 5 * sqrt(want / shares.n) + 0.02 &&
                fabs(have / want - 1) < (test_quick() ? 0.25 : 0.15),
            "alpha %g: mean %g, variance %g, expected 0.5 and %g", alpha, mean, have, want);
    } else { /* all of one or of the other */
      CHECK(mean > 0.3 && mean < 0.7, "alpha %g: mean %g", alpha, mean);
    }
    if (kinds[k].mixup > 0 && kinds[k].cutmix > 0)
      CHECK(cuts > shares.n * 0.4 && cuts < shares.n * 0.7, "%d of %d are cut", cuts,
            shares.n);
    vit_loader_free(&l);
    vit_model_free(&m);
  }
}

/* Images and targets of a whole epoch, in batches of 5, made in this order. */
enum { LOADED = 23 };
typedef struct { float images[LOADED * 3 * 48], targets[LOADED * 4]; } loaded;
static void load(loaded *to, const vit_dataset *d, const vit_augment *a, int threads,
                 uint64_t seed, int epoch, int backwards) {
  vit_model m = sized_model(d, threads);
  vit_loader l;
  int calls;
  CHECK(!vit_loader_create(&l, d, &m, a, 5, 0.1f, seed), "%s", vit_error());
  calls = heap.calls;
  for (int e = backwards ? 6 : 0; e != epoch; e += backwards ? -1 : 1) {
    vit_loader_epoch(&l, e);
    vit_loader_batch(&l, 0, 5);
  }
  vit_loader_epoch(&l, epoch);
  for (int i = 0; i < 5; i++) {
    const int first = 5 * (backwards ? 4 - i : i), n = first + 5 > LOADED ? LOADED - first : 5;
    vit_loader_batch(&l, first, n);
    memcpy(to->images + first * 144, l.images, (size_t)n * 144 * sizeof(float));
    memcpy(to->targets + first * 4, l.targets, (size_t)n * 4 * sizeof(float));
  }
  CHECK(heap.calls == calls, "a batch allocates");
  vit_loader_free(&l);
  vit_model_free(&m);
}

static void test_batches_again(void) {
  static const int threads[] = {1, 2, 3, 7};
  static loaded first, again, other;
  vit_dataset d = noise(LOADED, 3, 6, 8, 4);
  vit_augment a = every_change(0);
  load(&first, &d, &a, 1, 8, 2, 0);
  for (int t = 0; t < 8; t++) {
    load(&again, &d, &a, threads[t / 2], 8, 2, t % 2);
    CHECK_SAME_BITS("images again", again.images, first.images, LOADED * 144);
    CHECK_SAME_BITS("targets again", again.targets, first.targets, LOADED * 4);
  }
  for (int k = 0; k < 3; k++) {
    load(&other, &d, &a, 1, k == 1 ? 9 : k == 2 ? 8 + ((uint64_t)1 << 40) : 8, k ? 2 : 3, 0);
    CHECK(memcmp(other.images, first.images, sizeof first.images) &&
              memcmp(other.targets, first.targets, sizeof first.targets),
          "another %s gives the same", k ? "seed" : "epoch");
  }
  { /* enough work for two threads to meet, if they shared anything */
    static float one[60 * 784];
    vit_dataset large = noise(60, 1, 28, 28, 4);
    for (int t = 1; t < 3; t++) {
      vit_model m = sized_model(&large, t);
      vit_loader l;
      CHECK(!vit_loader_create(&l, &large, &m, &a, 60, 0, 8), "%s", vit_error());
      vit_loader_batch(&l, 0, 60);
      if (t == 1) memcpy(one, l.images, sizeof one);
      CHECK_SAME_BITS("two threads", l.images, one, 60 * 784);
      vit_loader_free(&l);
      vit_model_free(&m);
    }
  }
  /* pictures that are all the same: each place changes its own in another way */
  d = noise(LOADED, 3, 6, 8, 4);
  for (int i = 1; i < LOADED; i++) memcpy(d.pixels + 144 * i, d.pixels, 144);
  a.mixup = a.cutmix = 0;
  load(&first, &d, &a, 1, 8, 0, 0);
  for (int i = 0; i < LOADED; i++)
    for (int j = 0; j < i; j++)
      CHECK(memcmp(first.images + 144 * i, first.images + 144 * j, 144 * sizeof(float)),
            "places %d and %d are changed in the same way", i, j);
  /* the same picture is changed in another way in each epoch */
  d.count = 1;
  {
    vit_model m = sized_model(&d, 1);
    vit_loader l;
    float was[144];
    CHECK(!vit_loader_create(&l, &d, &m, &a, 1, 0, 8), "%s", vit_error());
    vit_loader_batch(&l, 0, 1);
    memcpy(was, l.images, sizeof was);
    vit_loader_epoch(&l, 1);
    vit_loader_batch(&l, 0, 1);
    CHECK(memcmp(was, l.images, sizeof was), "epoch 1 is epoch 0");
    vit_loader_free(&l);
    vit_model_free(&m);
  }
}

/* An augmentation of one's own: the built-in changes, then a factor from the random
   numbers, the image's number and what the user gave; the scratch is its own. */
typedef struct { float most; int calls[LOADED]; } darkener;
static void darken(float *out, const vit_dataset *d, int i, const vit_augment *a, vit_rng *rng,
                   float *scratch) {
  darkener *to = (darkener *)a->user;
  const size_t n = vit_augment_scratch(d);
  float factor;
  vit_augment_image(out, d, i, a, rng, scratch);
  factor = 1 - to->most * vit_random_uniform(rng) - 0.001f * (float)i;
  for (size_t j = 0; j < n; j++) scratch[j] = factor;
  for (size_t j = 0; j < pixels_of(d); j++) out[j] *= scratch[j % n];
  __sync_add_and_fetch(&to->calls[i], 1);
}

static void test_own_augmentation(void) {
  static loaded first, again, other, plain_one;
  darkener user;
  vit_dataset d = noise(LOADED, 3, 6, 8, 4);
  vit_augment a = no_change();
  memset(&user, 0, sizeof user);
  load(&plain_one, &d, &a, 1, 8, 2, 0);
  a.image = vit_augment_image; /* the default, by its name */
  a.name = "built-in";
  load(&first, &d, &a, 2, 8, 2, 0);
  CHECK_SAME_BITS("the default", first.images, plain_one.images, LOADED * 144);
  user.most = 0.5f;
  a.image = darken;
  a.user = &user;
  a.name = "darken 0.5";
  load(&first, &d, &a, 1, 8, 2, 0);
  for (int i = 0; i < LOADED; i++) { /* one factor for each image, and none twice */
    const float *have = first.images + 144 * i, *was = plain_one.images + 144 * i;
    const double factor = (double)have[0] / (double)was[0];
    CHECK(factor > 0.45 && factor <= 1, "image %d: factor %g", i, factor);
    for (int j = 0; j < 144; j++)
      CHECK(fabs((double)have[j] - factor * (double)was[j]) < 1e-5, "pixel %d of image %d", j, i);
  }
  CHECK_SAME_BITS("targets", first.targets, plain_one.targets, LOADED * 4);
  for (int mixed = 0; mixed < 2; mixed++) { /* it comes before mixup and cutmix */
    if (mixed) a = every_change(0), a.image = darken, a.user = &user, a.name = "darken 0.5";
    load(&first, &d, &a, 1, 8, 2, 0);
    for (int threads = 2; threads < 6; threads++) {
      load(&again, &d, &a, threads, 8, 2, threads % 2);
      CHECK_SAME_BITS("own, images again", again.images, first.images, LOADED * 144);
      CHECK_SAME_BITS("own, targets again", again.targets, first.targets, LOADED * 4);
    }
  }
  user.most = 0.25f;
  load(&other, &d, &a, 2, 8, 2, 0);
  CHECK(memcmp(other.images, first.images, sizeof first.images), "the user's data does not matter");
  for (int i = 0; i < LOADED; i++) CHECK(user.calls[i] > 0, "image %d was never changed", i);
  a = no_change();
  a.mixup = 1; /* pixels and targets show the same parts of the darkened images */
  a.image = darken, a.user = &user, a.name = "darken 0.25";
  user.most = 0;
  load(&first, &d, &a, 2, 8, 2, 0);
  a.mixup = 0;
  load(&other, &d, &a, 2, 8, 2, 0);
  for (int i = 0; i < 2; i++) { /* the first batch, of 5: 0 with 4, 1 with 3 */
    const float *x = other.images + 144 * i, *y = other.images + 144 * (4 - i);
    const float *have = first.images + 144 * i;
    const double lambda = ((double)have[0] - (double)y[0]) / ((double)x[0] - (double)y[0]);
    for (int j = 0; j < 144; j++)
      CHECK(fabs(lambda * (double)x[j] + (1 - lambda) * (double)y[j] - (double)have[j]) < 1e-4,
            "pixel %d of image %d is not mixed of the darkened ones", j, i);
  }
}

/* A dataset that was normalised by nonsense is refused. */
static void test_refused_normalisation(void) {
  static const struct { float mean, std; const char *text; } bad[] = {
      {0, 0, "0 and 0"},          {0, -1, "0 and -1"},
      {0, INFINITY, "0 and inf"}, {INFINITY, 1, "inf and 1"},
      {-INFINITY, 1, "-inf and 1"}};
  vit_dataset d = noise(4, 3, 6, 8, 4);
  vit_model m = sized_model(&d, 1);
  vit_augment a = no_change();
  vit_loader l;
  double loss, accuracy;
  for (int c = 0; c < 3; c++)
    for (int i = 0; i < 7; i++) {
      const float mean = d.mean[c], std = d.std[c];
      char want[200];
      d.mean[c] = i < 5 ? bad[i].mean : i == 5 ? (float)NAN : 0.5f;
      d.std[c] = i < 5 ? bad[i].std : i == 5 ? 1 : (float)NAN;
      CHECK(vit_loader_create(&l, &d, &m, &a, 2, 0, 1) == VIT_ERR_CONFIG, "mean %g, std %g",
            (double)d.mean[c], (double)d.std[c]);
      snprintf(want, sizeof want, "mean and std of channel %d of the training set are %s; mean must "
               "be finite, std finite and above 0 (0 and 1 for none)", c, i < 5 ? bad[i].text : "");
      CHECK(i >= 5 || !strcmp(vit_error(), want), "%s", vit_error());
      CHECK(vit_evaluate(&m, &d, &loss, &accuracy, NULL, NULL, NULL) == VIT_ERR_CONFIG &&
            strstr(vit_error(), "of the test set are "), "%s", vit_error());
      d.mean[c] = mean;
      d.std[c] = std;
    }
  CHECK(!vit_loader_create(&l, &d, &m, &a, 2, 0, 1), "%s", vit_error());
  vit_loader_free(&l);
  vit_model_free(&m);
}

static void test_order(void) {
  vit_dataset d = noise(LOADED, 3, 6, 8, 4);
  vit_model m = sized_model(&d, 2);
  vit_augment a = no_change();
  vit_loader l;
  int changed_order = 0;
  CHECK(!vit_loader_create(&l, &d, &m, &a, LOADED, 0.2f, 8), "%s", vit_error());
  for (int e = 0; e < 5; e++) {
    int seen[LOADED] = {0}, was[LOADED];
    float want[144];
    memcpy(was, l.order, sizeof was);
    vit_loader_epoch(&l, e + 1);
    changed_order += memcmp(was, l.order, sizeof was) != 0;
    vit_loader_batch(&l, 0, LOADED);
    for (int i = 0; i < LOADED; i++) {
      seen[l.order[i]]++;
      plain(want, &d, l.order[i]);
      CHECK_SAME_BITS("image", l.images + 144 * i, want, 144);
      for (int k = 0; k < 4; k++)
        CHECK(fabsf(l.targets[4 * i + k] - (k == d.labels[l.order[i]] ? 0.85f : 0.05f)) < 1e-6f,
              "target %d of image %d is %g", k, i, (double)l.targets[4 * i + k]);
    }
    for (int i = 0; i < LOADED; i++) CHECK(seen[i] == 1, "image %d: %d times", i, seen[i]);
  }
  CHECK(changed_order == 5, "the order changed %d times in 5", changed_order);
  {
    static const int wrong[][2] = {{-1, 1}, {0, 0}, {1, LOADED}, {LOADED, 1}, {INT_MAX, INT_MAX}};
    for (int i = 0; i < 5; i++)
      CHECK(vit_loader_batch(&l, wrong[i][0], wrong[i][1]) == VIT_ERR_CONFIG, "%d from %d", wrong[i][1], wrong[i][0]);
    l.batch--;
    fails(vit_loader_batch(&l, 0, LOADED), VIT_ERR_CONFIG,
          "images 0 to 22 are no batch: there are 23, and room for 1 to 22 at a time");
    l.batch++;
  }
  vit_loader_free(&l);
  vit_loader_free(&l);
  fails(vit_loader_create(&l, &d, &m, &a, 0, 0, 8), VIT_ERR_CONFIG,
        "batch is 0; it must be from 1 to 1048576");
  fails(vit_loader_batch(&l, 0, 1), VIT_ERR_STATE, "there is no loader: vit_loader_create failed or was not called");
  fails(vit_loader_create(&l, &d, &m, &a, 5, 2, 8), VIT_ERR_CONFIG,
        "label smoothing is 2; it must be from 0 to 1");
  a.flip = 3;
  fails(vit_loader_create(&l, &d, &m, &a, 5, 0, 8), VIT_ERR_CONFIG,
        "augmentation: flip is 3; it must be from 0 to 1");
  d.count = 0;
  fails(vit_loader_create(&l, &d, &m, &a, 5, 0, 8), VIT_ERR_CONFIG,
        "the training set is empty");
  vit_model_free(&m);
  CHECK(heap.live == 0, "%d blocks are left", heap.live);
}

/* ---- soft targets -------------------------------------------------------- */

static const vit_kernels *table(int i) { return i ? vit_best_kernels() : &vit_naive; }

static void test_soft_targets(void) {
  enum { B = 3, K = 4 };
  for (int run = 0; run < 4; run++) {
    static const int one[B] = {0, 1, 3}, two[B] = {2, 1, 0};
    const float share = 0.3f;
    vit_dataset d = noise(B, 1, 6, 8, K);
    vit_model m = sized_model(&d, 1);
    vit_state s;
    float images[B * 48], targets[B * K], *want;
    double loss, first, second, both = 0;
    int order[B] = {0, 1, 2};
    size_t n = m.params.count;
    m.kernels = table(run % 2);
    m.config.softmax_before_loss = run / 2 ? 1 : 0;
    CHECK(!vit_state_create(&s, &m, B, VIT_FOR_TRAINING, 1), "%s", vit_error());
    test_random(m.params.block, n, 0.5f, 3);
    memset(targets, 0, sizeof targets);
    for (int b = 0; b < B; b++) {
      targets[b * K + one[b]] += share;
      targets[b * K + two[b]] += 1 - share;
    }
    fails(vit_loss_targets(&m, &s, targets, &loss), VIT_ERR_STATE,
          "there is no forward pass to take the loss of; call vit_forward first");
    vit_dataset_batch(&d, order, B, images, NULL);
    vit_forward(&m, &s, images, B);
    want = (float *)malloc(n * sizeof *want);
    if (!want) return;
    /* the loss and its gradient are those of two labels, in these shares */
    vit_zero_gradients(&s);
    vit_loss(&m, &s, one, 0, &first);
    vit_backward(&m, &s, share);
    vit_loss(&m, &s, two, 0, &second);
    vit_backward(&m, &s, 1 - share);
    memcpy(want, s.grads.block, n * sizeof *want);
    vit_zero_gradients(&s);
    CHECK(!vit_loss_targets(&m, &s, targets, &loss), "%s", vit_error());
    both = 0.3 * first + 0.7 * second;
    CHECK(fabs(loss - both) < 1e-6 && s.loss == loss && s.loss_known,
          "loss %g, expected %g", loss, both);
    vit_backward(&m, &s, 1);
    CHECK_CLOSE("gradient", s.grads.block, want, n, 1e-4, 1e-5);
    /* and the numeric one */
    for (size_t i = 0; i < n; i += n / 40) {
      const float was = m.params.block[i], step = 0.01f;
      double up, down, numeric;
      m.params.block[i] = was + step;
      vit_forward(&m, &s, images, B);
      vit_loss_targets(&m, &s, targets, &up);
      m.params.block[i] = was - step;
      vit_forward(&m, &s, images, B);
      vit_loss_targets(&m, &s, targets, &down);
      m.params.block[i] = was;
      numeric = (up - down) / (2 * 0.01);
      CHECK(fabs(numeric - (double)want[i]) < 2e-3, "d loss / d w[%d] is %g, numeric %g",
            (int)i, (double)want[i], numeric);
    }
    vit_forward(&m, &s, images, B);
    targets[K] += 0.5f;
    fails(vit_loss_targets(&m, &s, targets, &loss), VIT_ERR_CONFIG,
          "the targets of image 1 sum up to 1.5; they are probabilities and must give 1");
    targets[K] = (float)NAN;
    CHECK(vit_loss_targets(&m, &s, targets, &loss) == VIT_ERR_CONFIG &&
              !strncmp(vit_error(), "the targets of image 1 sum up to ", 33),
          "%s", vit_error());
    CHECK(!s.loss_known && vit_backward(&m, &s, 1) == VIT_ERR_STATE,
          "backward after a refused loss");
    free(want);
    vit_state_free(&s);
    vit_model_free(&m);
  }
}

/* ---- the loop ------------------------------------------------------------ */

static vit_fit_config short_run(int epochs, float rate) {
  vit_fit_config f = vit_fit_defaults();
  f.epochs = epochs;
  f.batch = 4;
  f.seed = 6;
  f.schedule = vit_schedule_constant(rate);
  return f;
}

/* What the callback saw: the weights of each epoch, and the heap. */
enum { MOST_EPOCHS = 40 };
static struct {
  float *weights[MOST_EPOCHS];
  int epochs, live[MOST_EPOCHS], calls, wrong;
} seen;

static int watch(const vit_progress *p, void *user) {
  const size_t size = p->model->params.count * sizeof(float);
  (void)user;
  if (!p->epoch_done) { /* since the step before: nothing */
    seen.wrong += p->step > 1 && heap.calls != seen.calls;
    seen.calls = heap.calls;
    return 0;
  }
  seen.live[seen.epochs] = heap.live;
  seen.weights[seen.epochs] = (float *)malloc(size);
  if (seen.weights[seen.epochs])
    memcpy(seen.weights[seen.epochs], p->model->params.block, size);
  seen.epochs++;
  return 0;
}
static void forget_seen(void) {
  for (int e = 0; e < seen.epochs; e++) free(seen.weights[e]);
  memset(&seen, 0, sizeof seen);
}

/* A fit with averaged weights, by hand. */
static void test_average_by_hand(void) {
  enum { N = 14, B = 4 };
  vit_dataset d = quarters(N, 0), t = quarters(10, 40);
  vit_fit_config f = short_run(3, 0.01f);
  vit_model m = sized_model(&d, 1), hand = sized_model(&d, 1);
  const size_t n = m.params.count;
  float *average = (float *)malloc(n * sizeof *average);
  vit_history h;
  vit_state s;
  vit_optimizer o;
  vit_loader l;
  if (!average) return;
  f.ema = 0.6f; /* is reached by (1 + step) / (10 + step) in step 13 */
  f.accumulate = 1;
  f.epochs = 5;
  f.augment = every_change(0);
  f.smoothing = 0.1f;
  f.callback = watch;
  CHECK(!vit_fit(&m, &f, &d, &t, &h), "%s", vit_error());
  CHECK(!vit_state_create(&s, &hand, B, VIT_FOR_TRAINING, f.seed) &&
            !vit_optimizer_create(&o, &hand, &f.optimizer) &&
            !vit_loader_create(&l, &d, &hand, &f.augment, B, 0.1f, f.seed),
        "%s", vit_error());
  memcpy(average, hand.params.block, n * sizeof *average);
  for (int e = 0; e < 5 && e < h.epochs; e++) {
    double total = 0, loss, accuracy;
    vit_loader_epoch(&l, e);
    for (int i = 0; i < N; i += B) {
      const int now = i + B > N ? N - i : B;
      double keep;
      vit_loader_batch(&l, i, now);
      vit_zero_gradients(&s);
      vit_forward(&hand, &s, l.images, now);
      vit_loss_targets(&hand, &s, l.targets, &loss);
      vit_backward(&hand, &s, 1);
      vit_optimizer_step(&o, &hand, &s, 0.01f);
      total += loss * now;
      keep = fmin(0.6, (1.0 + o.step) / (10.0 + o.step));
      for (size_t j = 0; j < n; j++)
        average[j] = (float)(keep * (double)average[j] +
                             (1 - keep) * (double)hand.params.block[j]);
    }
    CHECK(h.epoch[e].train_loss == total / (int)N, "epoch %d: loss %.9g, by hand %.9g", e,
          h.epoch[e].train_loss, total / (int)N);
    CHECK_CLOSE("the average of the epoch", seen.weights[e], average, n, 1e-5, 1e-6);
    { /* it is the average that is judged */
      vit_model judged = sized_model(&d, 1);
      memcpy(judged.params.block, seen.weights[e], n * sizeof(float));
      vit_evaluate(&judged, &t, &loss, &accuracy, NULL, NULL, NULL);
      CHECK(fabs(loss - h.epoch[e].val_loss) < 1e-9 && accuracy == h.epoch[e].val_accuracy,
            "epoch %d: judged by %g, %g, not %g, %g", e, h.epoch[e].val_loss,
            h.epoch[e].val_accuracy, loss, accuracy);
      CHECK(h.epoch[e].val_top5 == 1, "four classes are all among five");
      vit_model_free(&judged);
    }
  }
  CHECK_SAME_BITS("ends with the average", m.params.block, seen.weights[4], n);
  CHECK(memcmp(m.params.block, hand.params.block, n * sizeof(float)), "no average");
  forget_seen();
  free(average);
  vit_loader_free(&l);
  vit_optimizer_free(&o);
  vit_state_free(&s);
  vit_history_free(&h);
  vit_model_free(&hand);
  vit_model_free(&m);
}

static void test_keep_best(void) {
  int not_last = 0;
  for (int run = 0; run < 8; run++) {
    vit_dataset d = quarters(24, 0), t = quarters(20, 40);
    vit_fit_config f = short_run(6, 0.05f);
    vit_model m = sized_model(&d, 1);
    vit_history h;
    int best = 0;
    f.seed = (uint64_t)run;
    f.keep_best = run < 6;
    f.ema = run % 2 ? 0.3f : 0;
    f.callback = watch;
    CHECK(!vit_fit(&m, &f, &d, &t, &h), "%s", vit_error());
    for (int e = 1; e < h.epochs; e++)
      if (h.epoch[e].val_accuracy > h.epoch[best].val_accuracy ||
          (h.epoch[e].val_accuracy == h.epoch[best].val_accuracy &&
           h.epoch[e].val_loss < h.epoch[best].val_loss))
        best = e;
    CHECK(h.best == best + 1, "best epoch %d, not %d", h.best, best + 1);
    not_last += f.keep_best && best < h.epochs - 1;
    CHECK_SAME_BITS("weights at the end", m.params.block,
                    seen.weights[f.keep_best ? best : h.epochs - 1], m.params.count);
    forget_seen();
    vit_history_free(&h);
    vit_model_free(&m);
  }
  CHECK(not_last > 0, "the last epoch is always the best: nothing was tested");
}

static void test_early_stop(void) {
  static const int patience[] = {1, 2, 3, 9, 0};
  for (int k = 0; k < 5; k++) {
    vit_dataset d = quarters(8, 0), t = quarters(8, 40);
    vit_fit_config f = short_run(6, 1e-20f); /* nothing gets better */
    vit_model m = sized_model(&d, 1);
    vit_history h;
    int want = patience[k] && patience[k] < 5 ? 1 + patience[k] : 6;
    f.early_stop = patience[k];
    f.optimizer = vit_optimizer_defaults(VIT_SGD);
    CHECK(!vit_fit(&m, &f, &d, &t, &h), "%s", vit_error());
    CHECK(h.epochs == want && h.best == 1, "patience %d: %d epochs, best %d", patience[k],
          h.epochs, h.best);
    vit_history_free(&h);
    vit_model_free(&m);
  }
}

static void test_fit_refuses(void) {
  static const float decay[] = {1, -0.25f, 2, (float)NAN};
  static const char *const sentence[] = {
      "the decay of the averaged weights is 1; it must be from 0 to below 1",
      "the decay of the averaged weights is -0.25; it must be from 0 to below 1",
      "the decay of the averaged weights is 2; it must be from 0 to below 1"};
  vit_dataset d = quarters(8, 0);
  vit_model m = sized_model(&d, 1);
  vit_history h;
  vit_fit_config f = short_run(2, 0.01f);
  for (int i = 0; i < 4; i++) {
    f.ema = decay[i];
    if (i < 3) fails(vit_fit(&m, &f, &d, &d, &h), VIT_ERR_CONFIG, sentence[i]);
    CHECK(vit_fit(&m, &f, &d, &d, &h) == VIT_ERR_CONFIG && !h.epoch, "ema NaN");
  }
  f = short_run(2, 0.01f);
  f.keep_best = 1;
  fails(vit_fit(&m, &f, &d, NULL, &h), VIT_ERR_CONFIG,
        "early_stop is 0 and keep_best 1, but there are no images that judge an epoch; hold "
        "some back");
  f.keep_best = 0;
  f.early_stop = 3;
  fails(vit_fit(&m, &f, &d, NULL, &h), VIT_ERR_CONFIG,
        "early_stop is 3 and keep_best 0, but there are no images that judge an epoch; hold "
        "some back");
  f.early_stop = -1;
  fails(vit_fit(&m, &f, &d, &d, &h), VIT_ERR_CONFIG,
        "early_stop is -1; it must be 0, never, or the epochs to wait for a better one");
  f.early_stop = 0;
  f.augment.rotate = 181;
  fails(vit_fit(&m, &f, &d, &d, &h), VIT_ERR_CONFIG,
        "augmentation: rotate is 181; it must be from 0 to 180");
  vit_history_free(&h);
  vit_model_free(&m);
  CHECK(heap.live == 0, "%d blocks are left", heap.live);
}

/* As many blocks after each epoch, and none taken between two steps. */
static void test_memory_is_flat(void) {
  vit_dataset d = quarters(22, 0), t = quarters(9, 40);
  vit_fit_config f = short_run(12, 0.01f);
  vit_model m = sized_model(&d, 2);
  vit_history h;
  f.ema = 0.9f;
  f.keep_best = 1;
  f.accumulate = 2;
  f.augment = every_change(0);
  f.callback = watch;
  CHECK(!vit_fit(&m, &f, &d, &t, &h), "%s", vit_error());
  CHECK(seen.epochs == 12 && seen.wrong == 0, "%d epochs; %d steps allocate", seen.epochs,
        seen.wrong);
  for (int e = 1; e < seen.epochs; e++)
    CHECK(seen.live[e] == seen.live[0], "%d blocks after epoch %d, %d after the first",
          seen.live[e], e + 1, seen.live[0]);
  forget_seen();
  CHECK(heap.live == 2, "%d blocks: the model and the history are two", heap.live);
  vit_history_free(&h);
  vit_model_free(&m);
  CHECK(heap.live == 0, "%d blocks are left", heap.live);
}

/* ---- metrics ------------------------------------------------------------- */

static void test_scores(void) {
  /* class 2 is never called, class 3 does not occur, class 4 neither */
  static const int called[10] = {0, 0, 1, 1, 1, 0, 0, 3, 0, 1};
  static const uint8_t labels[10] = {0, 0, 0, 1, 1, 1, 2, 2, 0, 0};
  static const struct { int count; double precision, recall; } want[5] = {
      {5, 3.0 / 5, 3.0 / 5}, {3, 2.0 / 4, 2.0 / 3}, {2, 0, 0}, {0, 0, 0}, {0, 0, 0}};
  int counts[25], total = 0;
  memset(counts, 0, sizeof counts);
  vit_confusion(counts, called, labels, 6, 5);
  vit_confusion(counts, called + 6, labels + 6, 4, 5); /* is added */
  CHECK(counts[0] == 3 && counts[1] == 2 && counts[5] == 1 && counts[6] == 2 &&
            counts[10] == 1 && counts[13] == 1,
        "the counts are wrong");
  for (int i = 0; i < 25; i++) total += counts[i];
  CHECK(total == 10, "%d counts", total);
  for (int k = 0; k < 5; k++) {
    vit_class_score s = vit_score_class(counts, 5, k);
    double sum = want[k].precision + want[k].recall;
    double f1 = sum > 0 ? 2 * want[k].precision * want[k].recall / sum : 0;
    CHECK(s.count == want[k].count && fabs(s.precision - want[k].precision) < 1e-12 &&
              fabs(s.recall - want[k].recall) < 1e-12 && fabs(s.f1 - f1) < 1e-12,
          "class %d: %d, %g, %g, %g", k, s.count, s.precision, s.recall, s.f1);
  }
}

static void test_top_accuracy(void) {
  static const float p[] = {0.1f, 0.4f, 0.2f, 0.3f,     /* 1 3 2 0 */
                            0.25f, 0.25f, 0.25f, 0.25f, /* 0 1 2 3: ties */
                            0.5f, 0, 0.5f, 0};          /* 0 2 1 3 */
  static const struct { uint8_t labels[3]; int right[4]; } want[] = {
      {{1, 0, 0}, {3, 3, 3, 3}},
      {{3, 1, 2}, {0, 3, 3, 3}},
      {{0, 3, 3}, {0, 0, 0, 3}},
      {{2, 2, 1}, {0, 0, 3, 3}}};
  for (int i = 0; i < 4; i++)
    for (int best = 1; best <= 5; best++) {
      double have = vit_top_accuracy(p, want[i].labels, 3, 4, best);
      double right = want[i].right[best < 4 ? best - 1 : 3] / 3.0;
      CHECK(fabs(have - right) < 1e-12, "labels %d, best %d: %g, not %g", i, best, have, right);
    }
  CHECK(vit_top_accuracy(p, want[0].labels, 0, 4, 1) == 0, "of no images");
  {
    static const float none[4] = {(float)NAN, (float)NAN, (float)NAN, (float)NAN};
    CHECK(vit_top_accuracy(none, want[0].labels, 1, 4, 5) == 0, "what is not a number is right");
  }
}

/* ---- a recipe with a known result ---------------------------------------- */

/* Ten random signs of 3 x 5 cells, each cell 2 x 2 pixels, somewhere in 12 x 14 pixels,
   brighter or darker, in noise. */
static vit_dataset signs(int count, int from) {
  vit_dataset d = empty_dataset(count, 1, 14, 12, 10);
  vit_rng rng = vit_rng_create(31, (uint32_t)from);
  d.pixels += from * 168;
  d.labels += from;
  for (int i = 0; i < count; i++) {
    const int label = i % 10, ink = 120 + (int)vit_random_below(&rng, 100);
    const int left = 3 + (int)vit_random_below(&rng, 2), top = 2 + (int)vit_random_below(&rng, 2);
    d.labels[i] = (uint8_t)label;
    for (int y = 0; y < 14; y++)
      for (int x = 0; x < 12; x++) {
        int cx = x - left, cy = y - top, set = 0;
        if (cx >= 0 && cx < 6 && cy >= 0 && cy < 10)
          set = (int)(vit_philox(7, (uint32_t)label, 0) >> (cy / 2 * 3 + cx / 2) & 1);
        d.pixels[(i * 14 + y) * 12 + x] =
            (uint8_t)((set ? ink : 0) + (int)vit_random_below(&rng, 36));
      }
  }
  return d;
}

static void test_recipe(void) {
  const int train_count = test_quick() ? 300 : 600;
  vit_dataset d = signs(train_count, 0), t = signs(200, 800);
  vit_config c = changed(vit_config_tutorial(),
                         "image_height=14 image_width=12 patch_height=7 patch_width=4 "
                         "classes=10 width=24 depth=2 heads=3 mlp_width=48 positions=2 "
                         "head=0 final_norm=1 drop_path=0.05");
  vit_fit_config f = vit_fit_defaults();
  const double goal = test_quick() ? 0.8 : 0.95;
  double loss, accuracy;
  vit_history h;
  vit_model m;
  CHECK(!vit_model_create(&m, &c, 4), "%s", vit_error());
  f.epochs = test_quick() ? 6 : 8;
  f.batch = 20;
  f.ema = 0.95f;
  f.smoothing = 0.05f;
  f.augment.shift = 0.08f;
  f.augment.rotate = 5;
  f.augment.elastic = 0.3f;
  f.augment.brightness = 0.2f;
  f.optimizer = vit_optimizer_defaults(VIT_ADAMW);
  f.schedule = vit_schedule_constant(0.008f);
  f.schedule.kind = VIT_COSINE;
  f.schedule.warmup = 10;
  CHECK(!vit_fit(&m, &f, &d, &t, &h), "%s", vit_error());
  CHECK(!vit_evaluate(&m, &t, &loss, &accuracy, NULL, NULL, NULL), "%s", vit_error());
  CHECK(accuracy > goal, "accuracy %g, not above %g", accuracy, goal);
  if (getenv("VIT_TEST_VERBOSE")) printf(" accuracy %.3f loss %.3f", accuracy, loss);
  vit_history_free(&h);
  vit_model_free(&m);
}

int main(void) {
  RUN(test_all_off);
  RUN(test_refused_fields);
  RUN(test_refused_function);
  RUN(test_mirrors);
  RUN(test_probabilities);
  RUN(test_moves);
  RUN(test_elastic);
  RUN(test_range);
  RUN(test_grey_levels);
  RUN(test_erase);
  RUN(test_rand_augment);
  RUN(test_pairs);
  RUN(test_batches_again);
  RUN(test_own_augmentation);
  RUN(test_refused_normalisation);
  RUN(test_order);
  RUN(test_soft_targets);
  RUN(test_average_by_hand);
  RUN(test_keep_best);
  RUN(test_early_stop);
  RUN(test_fit_refuses);
  RUN(test_memory_is_flat);
  RUN(test_scores);
  RUN(test_top_accuracy);
  RUN(test_recipe);
  return test_end("09_mnist");
}
