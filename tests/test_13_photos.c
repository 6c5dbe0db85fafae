/* Pictures for published models and for models of digits: each preparation by its
   name against the library's own bytes (fixtures/preprocess.txt), a photo of a
   digit as MNIST was made, and what is refused. */
#include "files.h"

/* What draws digits: here for its pen and paper, which are finer than 28 x 28. It
   is a program: three of its names are other things here. */
#define main digits_main
#define path pen_path
#define folder digits_folder
#define made digits_made
#include "../data/digits.c"
#undef main
#undef path
#undef folder
#undef made

/* ---- by name ------------------------------------------------------------- */

/* The pictures of make_preprocess.py. */
static const int sizes[][2] = {{224, 224}, {225, 300}, {480, 640}, {640, 480}, {301, 227}, {230, 500}, {100, 150},
                               {33, 47}, {248, 248}, {256, 341}, {400, 225}, {519, 700}, {7, 300}, {64, 64},
                               {333, 333}, {1, 1}, {250, 251}, {700, 512}, {225, 224}, {97, 631}};
enum { PICTURES = sizeof sizes / sizeof *sizes };

static uint8_t *picture(int i) {
  const uint32_t h = (uint32_t)sizes[i][0], w = (uint32_t)sizes[i][1], n = (uint32_t)i;
  uint8_t *p = (uint8_t *)malloc((size_t)3 * h * w), *to = p;
  if (!p) exit(1);
  for (uint32_t c = 0; c < 3; c++)
    for (uint32_t y = 0; y < h; y++)
      for (uint32_t x = 0; x < w; x++) {
        uint32_t k = x * 374761393u + y * 668265263u + c * 2246822519u + n * 3266489917u;
        uint32_t t = (x * (n + 3) / 4 + y * (5 + c)) % 256;
        k ^= k >> 13;
        k *= 1274126177u;
        k ^= k >> 16;
        *to++ = (uint8_t)((t < 128 ? t : 255 - t) + (x / 17 + y / 11 + c) % 2 * 64 + k % 64);
      }
  return p;
}

static void test_by_name(void) {
  FILE *f = fopen("tests/fixtures/preprocess.txt", "r");
  char name[40];
  int size, i, lines = 0, seen[20] = {0};
  unsigned crc;
  float want[3];
  if (!CHECK(f != NULL, "no fixture")) return;
  while (fscanf(f, "%39s %d %d %x %f %f %f", name, &size, &i, &crc, want, want + 1, want + 2) == 7) {
    const vit_preprocess *p = vit_preprocess_find(name);
    if (!CHECK(p && i < PICTURES && size < 600, "line %d: %s", lines, name)) break;
    for (int j = 0; vit_preprocess_at(j); j++) seen[j] += vit_preprocess_at(j) == p;
    lines++;
    if (test_quick() && i % 5 != 2) continue;
    const int n = 3 * size * size;
    uint8_t *in = picture(i), *bytes = (uint8_t *)malloc((size_t)n);
    float *out = (float *)malloc((size_t)n * sizeof(float));
    if (!bytes || !out) exit(1);
    CHECK(!vit_preprocess_image(out, in, 3, sizes[i][0], sizes[i][1], p, size, size), "%s", vit_error());
    const float got[3] = {out[0], out[n / 2], out[n - 1]};
    CHECK_CLOSE(name, got, want, 3, 2e-6, 1e-6);
    for (int j = 0; j < n; j++) { /* back to the bytes of the library */
      const int c = j / (size * size);
      bytes[j] = (uint8_t)(255 * (out[j] * p->std[c] + p->mean[c]) + 0.5f);
    }
    CHECK(vit__crc32(bytes, (size_t)n) == crc, "%s at %d: picture %d of %d x %d has other bytes", name, size, i,
          sizes[i][0], sizes[i][1]);
    free(in), free(bytes), free(out);
  }
  fclose(f);
  for (int j = 0; vit_preprocess_at(j); j++)
    CHECK(seen[j] >= PICTURES, "%s is not in the fixture", vit_preprocess_at(j)->name);
  CHECK(lines == 10 * PICTURES, "%d lines", lines);
  no_leak("preparing pictures");
}

static void test_by_name_sizes(void) {
  static float out[3 * 8 * 6];
  static uint8_t in[3 * 40 * 10];
  vit_preprocess p = *vit_preprocess_find("hf");
  for (int i = 0; i < 1200; i++) in[i] = (uint8_t)(i * 7);
  /* any sides of the image, a part of the picture, one channel */
  for (int k = 0; vit_preprocess_at(k); k++)
    CHECK(!vit_preprocess_image(out, in, 1, 40, 10, vit_preprocess_at(k), 8, 6) &&
              !vit_preprocess_image(out, in, 3, 1, 1, vit_preprocess_at(k), 8, 6), "%s", vit_error());
  CHECK(vit_preprocess_at(-1) == NULL && vit_preprocess_at(1000) == NULL, "there is no such number");
  CHECK(!vit_preprocess_find("resnet"), "there is no such name");
  fails(VIT_ERR_CONFIG, VIT_ERR_CONFIG,
        "no way to prepare pictures is called resnet; there are timm, deit, dino, dinov2, clip, siglip, "
        "torchvision, hf, plain", "");
  fails(vit_preprocess_image(out, in, 4, 40, 10, &p, 8, 6), VIT_ERR_CONFIG,
        "4 channels and part 0: a picture has 1 to 3 channels, and 0 to 1 of its shorter side is kept", "");
  p.part = 1.5;
  fails(vit_preprocess_image(out, in, 3, 40, 10, &p, 8, 6), VIT_ERR_CONFIG,
        "3 channels and part 1.5: a picture has 1 to 3 channels, and 0 to 1 of its shorter side is kept", "");
  p.part = 0;
  fails(vit_preprocess_image(out, in, 3, 0, 10, &p, 8, 6), VIT_ERR_CONFIG,
        "cannot resize 0 x 10 pixels to 8 x 6; sizes must be from 1 to 32768", "");
  for (int at = 1; at <= 4; at++) {
    heap.fail_at = heap.calls + at;
    CHECK(vit_preprocess_image(out, in, 3, 40, 10, &p, 8, 6) == VIT_ERR_NO_MEMORY, "allocation %d", at);
    heap.fail_at = 0;
    no_leak("preparing a picture without memory");
  }
}

/* ---- transparent pictures ------------------------------------------------ */

static void test_alpha(void) {
#ifdef VIT_HAVE_STB
  static const unsigned char tga[18 + 8] = {0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 32, 0x28, /* 1 x 2, BGRA */
                                            10, 20, 30, 40, 50, 60, 70, 255};
  static const uint8_t want[8] = {30, 70, 20, 60, 10, 50, 40, 255};
  const char *path = write_file("alpha.tga", tga, sizeof tga);
  uint8_t *p, *q = NULL;
  int h, w;
  if (!CHECK(!vit_image_load(path, 4, &p, &h, &w), "%s", vit_error())) return;
  CHECK(h == 1 && w == 2 && !memcmp(p, want, 8), "%d %d %d %d %d %d %d %d", p[0], p[1], p[2], p[3], p[4], p[5],
        p[6], p[7]);
  vit_image_free(p);
  CHECK(!vit_image_load(path, 2, &p, &h, &w) && !vit_image_load(path, 1, &q, &h, &w), "%s", vit_error());
  CHECK(!memcmp(p, q, 2) && p[2] == 40 && p[3] == 255, "grey %d %d, alpha %d %d", p[0], p[1], p[2], p[3]);
  vit_image_free(p), vit_image_free(q);
  path = write_file("grey.pgm", "P5\n2 1\n255\nab", 13);
  CHECK(!vit_image_load(path, 4, &p, &h, &w) && !memcmp(p, "ababab\377\377", 8), "a grey picture is not seen through");
  vit_image_free(p);
  fails(vit_image_load(path, 5, &p, &h, &w), VIT_ERR_CONFIG,
        "channels is 5; a picture has 1 (grey) or 3 (RGB), 2 or 4 with alpha", "");
  no_leak("alpha");
#else
  SKIP("stb_image.h is missing");
#endif
}

/* ---- a photo of a digit -------------------------------------------------- */

enum { HIGH = 600, WIDE = 800 };
static uint8_t photo[HIGH * WIDE];

/* A photo as a phone takes it: a pen on paper somewhere in the picture, the light
   falls off, the camera adds noise; `turned`: white chalk on a board. */
static void take_photo(int digit, uint64_t seed, int turned) {
  static pen_path pen;
  static sheet ink;
  static uint8_t large[HIGH * HIGH];
  pcg32 g = pcg32_start(seed, 77);
  vit_rng rng = vit_rng_create(seed, 0);
  int style = below(&g, (int)COUNT(styles));
  while (styles[style].digit != digit || styles[style].weight < 3) style = (style + 1) % (int)COUNT(styles);
  path_from_style(&pen, styles[style].pen_path, 2 * ONE, &g);
  path_handwrite(&pen, digit, &g);
  memset(ink, 0, sizeof ink);
  ink_path(ink, &pen, 55 + below(&g, 40), &g);
  for (int i = 0; i < PAPER * PAPER; i++) ink[i / PAPER][i % PAPER] = ink[i / PAPER][i % PAPER] ? 255 : 0;
  const int size = 180 + below(&g, 220);
  const int top = 10 + below(&g, HIGH - 20 - size), left = 10 + below(&g, WIDE - 20 - size);
  const double down = below(&g, 81) - 40, across = below(&g, 81) - 40;
  CHECK(!vit_resize(large, &ink[0][0], 1, PAPER, PAPER, size, size, VIT_BILINEAR), "%s", vit_error());
  for (int i = 0; i < HIGH * WIDE; i++) {
    const int y = i / WIDE - top, x = i % WIDE - left, on = y >= 0 && y < size && x >= 0 && x < size;
    double v = 180 + down * (i / WIDE) / HIGH + across * (i % WIDE) / WIDE;
    if (on) v *= 1 - 0.7 * large[y * size + x] / 255;
    v += 28 * ((double)vit_random_uniform(&rng) - 0.5); /* a deviation of 8 */
    v = fmax(0, fmin(v, 255));
    photo[i] = (uint8_t)(turned ? 255 - v : v);
  }
}

/* Box and centre of mass as MNIST has them. */
static void as_mnist(const uint8_t *p, const char *what) {
  int top = 28, left = 28, bottom = -1, right = -1;
  double mass = 0, my = 0, mx = 0;
  for (int i = 0; i < 784; i++) {
    const int y = i / 28, x = i % 28;
    mass += p[i], my += p[i] * y, mx += p[i] * x;
    if (!p[i]) continue;
    top = y < top ? y : top, bottom = y > bottom ? y : bottom;
    left = x < left ? x : left, right = x > right ? x : right;
  }
  const int h = bottom - top + 1, w = right - left + 1;
  CHECK((h > w ? h : w) <= 20 && (h > w ? h : w) >= 19, "%s: box of %d x %d", what, h, w);
  CHECK(fabs(my / mass - 14) <= 0.51 && fabs(mx / mass - 14) <= 0.51, "%s: centre %g, %g", what, my / mass, mx / mass);
}

static void test_digit_as_mnist(void) {
  uint8_t out[784], other[784];
  for (int k = 0; k < 10; k++) {
    int far = 0;
    take_photo(k, (uint64_t)k + 1, 0);
    CHECK(!vit_digit_prepare(out, photo, HIGH, WIDE), "digit %d: %s", k, vit_error());
    as_mnist(out, "dark on light");
    take_photo(k, (uint64_t)k + 1, 1);
    CHECK(!vit_digit_prepare(other, photo, HIGH, WIDE), "digit %d: %s", k, vit_error());
    for (int i = 0; i < 784; i++) far += abs(out[i] - other[i]);
    CHECK(far < 784 * 4, "digit %d, light on dark: %d grey levels in all", k, far);
  }
  /* a bar and dirt */
  memset(photo, 200, sizeof photo);
  for (int i = 0; i < 300 * 40; i++) photo[(200 + i / 40) * WIDE + 700 + i % 40] = 20;
  photo[5 * WIDE + 5] = photo[590 * WIDE + 400] = 0;
  CHECK(!vit_digit_prepare(out, photo, HIGH, WIDE), "%s", vit_error());
  as_mnist(out, "a bar");
  no_leak("a photo of a digit");
}

static void test_digit_refused(void) {
  static const char *const nothing =
      "found no digit in a picture of %d x %d pixels: its grey levels are not those of ink and paper; take a photo "
      "of one dark digit on light paper, or a light one on dark, with nothing else on it";
  uint8_t out[784];
  char text[400];
  const int wide[][2] = {{1, 1}, {1, 2}, {HIGH, WIDE}, {1, 32768}};
  for (int kind = 0; kind < 4; kind++) /* all the same, noise, a slope, a bright middle */
    for (size_t s = 0; s < sizeof wide / sizeof *wide; s++) {
      const int h = wide[s][0], w = wide[s][1];
      vit_rng rng = vit_rng_create(5, 0);
      for (int i = 0; i < h * w; i++) {
        const double y = (i / w - h / 2.0) / h, x = (i % w - w / 2.0) / w;
        const double v = kind == 0 ? 130 : kind == 1 ? 130 + 20 * (double)vit_random_normal(&rng)
                                       : kind == 2 ? 130 + 200 * x + 50 * y : 240 - 300 * (x * x + y * y);
        photo[i] = (uint8_t)fmax(0, fmin(v, 255));
      }
      if (h * w < 3 && kind) continue; /* two pixels may be ink and paper */
      snprintf(text, sizeof text, nothing, h, w);
      fails(vit_digit_prepare(out, photo, h, w), VIT_ERR_FORMAT, text, "");
    }
  fails(vit_digit_prepare(out, photo, 0, 5), VIT_ERR_CONFIG,
        "cannot resize 0 x 5 pixels to 1 x 1; sizes must be from 1 to 32768", "");
  take_photo(3, 1, 0);
  for (int at = 1; at < 50; at++) {
    heap.fail_at = heap.calls + at;
    vit_result r = vit_digit_prepare(out, photo, HIGH, WIDE);
    heap.fail_at = 0;
    no_leak("a photo without memory");
    if (!r) {
      CHECK(at == 11, "%d allocations", at - 1);
      break;
    }
    CHECK(r == VIT_ERR_NO_MEMORY, "allocation %d: %s", at, vit_error());
  }
}

static void test_digit_large(void) {
  const int side = test_quick() ? 2000 : 8000;
  uint8_t out[784], *p = (uint8_t *)malloc((size_t)side * (size_t)side);
  if (!p) exit(1);
  memset(p, 220, (size_t)side * (size_t)side);
  for (int y = side / 2; y < side / 4 * 3; y++) memset(p + (size_t)y * (size_t)side + side / 8, 30, (size_t)side / 40);
  CHECK(!vit_digit_prepare(out, p, side, side), "%s", vit_error());
  as_mnist(out, "a large photo");
  free(p);
  no_leak("a large photo");
}

/* A model that has seen drawn digits for seconds reads photos of digits, and
   without the preparation it guesses. */
static void test_digit_helps(void) {
  enum { TRAIN = 2000, PHOTOS = 60 };
  vit_dataset d, with, without;
  vit_model m;
  vit_config c = vit_config_tutorial();
  vit_fit_config f = vit_fit_defaults();
  vit_history h;
  double loss, prepared, shrunk;
  pcg32 g = pcg32_start(1, 1);
  memset(&d, 0, sizeof d);
  d.channels = 1, d.height = d.width = 28, d.classes = 10, d.std[0] = 1;
  with = d;
  CHECK(!vit__allocate_images(&d, TRAIN) && !vit__allocate_images(&with, PHOTOS), "%s", vit_error());
  without = with;
  without.pixels = (uint8_t *)malloc(PHOTOS * 784);
  if (!without.pixels) exit(1);
  for (int i = 0; i < TRAIN; i++) digit_draw(d.pixels + i * 784, d.labels[i] = (uint8_t)(i % 10), &g);
  d.count = TRAIN, with.count = without.count = PHOTOS;
  for (int i = 0; i < PHOTOS; i++) {
    take_photo(with.labels[i] = (uint8_t)(i % 10), 100 + (uint64_t)i, 0);
    CHECK(!vit_digit_prepare(with.pixels + i * 784, photo, HIGH, WIDE), "%s", vit_error());
    CHECK(!vit_resize(without.pixels + i * 784, photo, 1, HIGH, WIDE, 28, 28, VIT_BILINEAR), "%s", vit_error());
  }
  c.image_height = c.image_width = 28, c.patch_height = c.patch_width = 7;
  c.width = 24, c.mlp_width = 48, c.softmax_before_loss = 0;
  f.epochs = 5, f.batch = 32;
  CHECK(!vit_model_create(&m, &c, 1) && !vit_fit(&m, &f, &d, NULL, &h), "%s", vit_error());
  CHECK(!vit_evaluate(&m, &with, &loss, &prepared, NULL, NULL, NULL), "%s", vit_error());
  CHECK(!vit_evaluate(&m, &without, &loss, &shrunk, NULL, NULL, NULL), "%s", vit_error());
  printf("  photos of digits read: %.0f %% prepared, %.0f %% shrunk alone\n", 100 * prepared, 100 * shrunk);
  CHECK(prepared > 0.6 && prepared > 2 * shrunk, "%.2f prepared, %.2f shrunk alone", prepared, shrunk);
  vit_history_free(&h);
  vit_model_free(&m);
  free(without.pixels);
  vit_dataset_free(&d), vit_dataset_free(&with);
  no_leak("photos of digits");
}

int main(void) {
  snprintf(folder, sizeof folder, "build/test_13_photos_%ld", (long)getpid());
  folder_of("");
  RUN(test_by_name);
  RUN(test_by_name_sizes);
  RUN(test_alpha);
  RUN(test_digit_as_mnist);
  RUN(test_digit_refused);
  RUN(test_digit_large);
  RUN(test_digit_helps);
  remove_all();
  return test_end("13_photos");
}
