/* Photos: CIFAR-10, pictures as Pillow reads, turns, resizes and crops them, a
   folder per class, held-back images, mean and std; and every way of being
   broken. What Pillow does is in fixtures/photos.safetensors. */
#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L /* setenv, symlink, mkfifo */
#endif
#include "files.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* ---- the fixture --------------------------------------------------------- */

static vit_safetensors fixture;

/* Bytes of a tensor; an empty one, and a failure, where there is none. */
static vit_safetensor tensor(const char *name) {
  vit_safetensor t;
  memset(&t, 0, sizeof t);
  CHECK(!vit_safetensors_find(&fixture, name, &t), "%s", vit_error());
  CHECK(!strcmp(t.type, "U8"), "%s is %s", name, t.type);
  return t;
}

/* ---- names of classes ---------------------------------------------------- */

static void test_class_names(void) {
  char names[2][VIT_NAME_SIZE] = {"cat", "dog"};
  vit_dataset d;
  memset(&d, 0, sizeof d);
  d.classes = 256;
  for (int k = 0; k < 256; k++)
    CHECK(atoi(vit_class_name(&d, k)) == k && strlen(vit_class_name(&d, k)) ==
              (size_t)(k < 10 ? 1 : k < 100 ? 2 : 3),
          "class %d is called %s", k, vit_class_name(&d, k));
  d.classes = 1000; /* more than the labels of a dataset can tell: a model of ImageNet */
  CHECK(!strcmp(vit_class_name(&d, 999), "999") && !strcmp(vit_class_name(&d, 256), "256") &&
            !strcmp(vit_class_name(&d, 1000), "?"),
        "class 999 is called %s", vit_class_name(&d, 999));
  d.classes = 256;
  CHECK(!strcmp(vit_class_name(&d, -1), "?") && !strcmp(vit_class_name(&d, 256), "?"),
        "there is no such class");
  d.classes = 2;
  d.names = names;
  CHECK(!strcmp(vit_class_name(&d, 0), "cat") && !strcmp(vit_class_name(&d, 1), "dog") &&
            !strcmp(vit_class_name(&d, 2), "?"),
        "%s, %s, %s", vit_class_name(&d, 0), vit_class_name(&d, 1),
        vit_class_name(&d, 2));
}

/* ---- CIFAR-10 ------------------------------------------------------------ */

enum { RECORD = 3073 };

/* A file of n records; its first label is `first`. */
static const char *cifar_file(const char *name, int n, int first) {
  static unsigned char bytes[4 * RECORD];
  for (int i = 0; i < n * RECORD; i++)
    bytes[i] = (unsigned char)(i % RECORD ? i * 7 + first : (first + i / RECORD) % 10);
  return write_file(name, bytes, (size_t)n * RECORD);
}

static void test_cifar(void) {
  const char *const names[] = {"airplane", "automobile", "bird", "cat", "deer",
                               "dog", "frog", "horse", "ship", "truck"};
  const char *dir = folder_of("cifar");
  char name[100], want[400];
  vit_dataset d;
  folder_of("cifar/cifar-10-batches-bin");
  folder_of("cifar/cifar10");
  for (int i = 1; i <= 5; i++) {
    snprintf(name, sizeof name, "cifar/cifar-10-batches-bin/data_batch_%d.bin", i);
    cifar_file(name, i % 3 + 1, i);
  }
  cifar_file("cifar/cifar10/test_batch.bin", 2, 8);
  if (!CHECK(!vit_dataset_cifar10(&d, dir, VIT_TRAIN), "%s", vit_error())) return;
  CHECK(d.count == 2 + 3 + 1 + 2 + 3 && d.channels == 3 && d.height == 32 &&
            d.width == 32 && d.classes == 10 && d.std[0] == 1 && d.mean[2] == 0,
        "%d images of %d x %d x %d", d.count, d.height, d.width, d.channels);
  for (int k = 0; k < 10; k++)
    CHECK(!strcmp(vit_class_name(&d, k), names[k]), "%s", vit_class_name(&d, k));
  for (int f = 1, i = 0; f <= 5; f++)
    for (int j = 0; j < f % 3 + 1; j++, i++) {
      int wrong = 0;
      CHECK(d.labels[i] == f + j, "label %d is %d", i, d.labels[i]);
      for (int p = 0; p < 3072; p++)
        wrong += d.pixels[i * 3072 + p] != (unsigned char)((j * RECORD + 1 + p) * 7 + f);
      CHECK(wrong == 0, "%d pixels of image %d are wrong", wrong, i);
    }
  snprintf(want, sizeof want, "CIFAR-10, 11 training images of 32 x 32 x 3, "
                              "%s/cifar-10-batches-bin", dir);
  CHECK(!strcmp(d.source, want), "%s", d.source);
  vit_dataset_free(&d);
  CHECK(!vit_dataset_cifar10(&d, dir, VIT_TEST) && d.count == 2 && d.labels[1] == 9,
        "%s", vit_error());
  vit_dataset_free(&d);
  setenv("VIT_DATA", path_of("cifar/cifar10"), 1);
  CHECK(!vit_dataset_cifar10(&d, NULL, VIT_TEST) && d.count == 2, "%s", vit_error());
  vit_dataset_free(&d);
  unsetenv("VIT_DATA");
  no_leak("CIFAR-10");

  for (int at = 1; at < 100; at++) { /* no memory at each allocation */
    vit_result r;
    heap.fail_at = at;
    r = vit_dataset_cifar10(&d, dir, VIT_TRAIN);
    heap.fail_at = 0;
    if (!r) {
      CHECK(at > 8, "only %d allocations", at);
      vit_dataset_free(&d);
      break;
    }
    CHECK(r == VIT_ERR_NO_MEMORY && !d.pixels && !d.names, "%s", vit_error());
    no_leak("CIFAR-10 without memory");
  }
  no_leak("CIFAR-10");
}

static void test_cifar_errors(void) {
  const char *dir = folder_of("broken"), *path;
  char text[600];
  vit_dataset d;
  snprintf(text, sizeof text,
           "found no test_batch.bin in %s, %s/cifar-10-batches-bin or %s/cifar10; unpack "
           "cifar-10-binary.tar.gz there, or set VIT_DATA to where it is", dir, dir, dir);
  fails(vit_dataset_cifar10(&d, dir, VIT_TEST), VIT_ERR_FILE, text, "");
  path = write_file("broken/test_batch.bin", "abc", 3);
  fails(vit_dataset_cifar10(&d, dir, VIT_TEST), VIT_ERR_FORMAT,
        "%s has 3 bytes; CIFAR-10 has 3073 for each image, and 10000 images in a file: "
        "get it again", path);
  write_file("broken/test_batch.bin", "", 0);
  fails(vit_dataset_cifar10(&d, dir, VIT_TEST), VIT_ERR_FORMAT,
        "%s has 0 bytes; CIFAR-10 has 3073 for each image, and 10000 images in a file: "
        "get it again", path);
  {
    static unsigned char bytes[2 * RECORD];
    bytes[RECORD] = 10;
    write_file("broken/test_batch.bin", bytes, sizeof bytes);
  }
  fails(vit_dataset_cifar10(&d, dir, VIT_TEST), VIT_ERR_FORMAT,
        "label 10 of image 1 in %s is not a class from 0 to 9; is it the binary version "
        "of CIFAR-10?", path);
  cifar_file("broken/data_batch_1.bin", 2, 0);
  cifar_file("broken/data_batch_3.bin", 2, 0);
  fails(vit_dataset_cifar10(&d, dir, VIT_TRAIN), VIT_ERR_FILE,
        "found data_batch_1.bin, but not data_batch_2.bin, in %s; unpack all of "
        "cifar-10-binary.tar.gz there", dir);
  CHECK(!d.pixels && !d.names && !d.count, "a dataset is left");
  no_leak("broken CIFAR-10");
}

/* ---- resize -------------------------------------------------------------- */

static void test_resize(void) {
  static const char *const filters[] = {"bilinear", "bicubic"};
  vit_safetensor t;
  int cases = 0;
  for (int i = 0; vit_safetensors_at(&fixture, i, &t); i++) {
    int h, w, oh, ow, wrong = 0;
    char name[60], kind[20];
    uint8_t *out;
    vit_safetensor from;
    if (sscanf(t.name, "resize/%dx%d_to_%dx%d/%19s", &h, &w, &oh, &ow, kind) != 5)
      continue;
    snprintf(name, sizeof name, "resize/%dx%d", h, w);
    from = tensor(name);
    if (!from.data) return;
    out = (uint8_t *)malloc(2 * t.count);
    { /* two planes, the second upside down as it were: other numbers */
      uint8_t *two = (uint8_t *)malloc(2 * from.count);
      memcpy(two, from.data, from.count);
      for (size_t p = 0; p < from.count; p++)
        two[from.count + p] = ((const uint8_t *)from.data)[from.count - 1 - p];
      CHECK(!vit_resize(out, two, 2, h, w, oh, ow,
                        strcmp(kind, filters[1]) ? VIT_BILINEAR : VIT_BICUBIC),
            "%s", vit_error());
      free(two);
    }
    for (size_t p = 0; p < t.count; p++) {
      wrong += out[p] != ((const uint8_t *)t.data)[p];
      /* the filters are symmetric; a rounded half may fall to either side */
      wrong += abs(out[t.count + p] - out[t.count - 1 - p]) > 2;
    }
    CHECK(wrong == 0, "%s: %d pixels differ from Pillow's", t.name, wrong);
    free(out);
    cases++;
  }
  CHECK(cases == 36, "%d cases", cases);
  no_leak("resize");
}

/* A filter that does not exist. */
static vit_filter filter_of(int code) {
  vit_filter f;
  memcpy(&f, &code, sizeof f);
  return f;
}

static void test_resize_errors(void) {
  const uint8_t in[4] = {1, 2, 3, 4};
  uint8_t out[4];
  fails(vit_resize(out, in, 1, 2, 2, 0, 2, VIT_BICUBIC), VIT_ERR_CONFIG,
        "cannot resize 2 x 2 pixels to 0 x 2; sizes must be from 1 to 32768", "");
  fails(vit_resize(out, in, 1, 32769, 2, 1, 2, VIT_BICUBIC), VIT_ERR_CONFIG,
        "cannot resize 32769 x 2 pixels to 1 x 2; sizes must be from 1 to 32768", "");
  fails(vit_resize(out, in, 1, 2, 2, 1, 1, filter_of(2)), VIT_ERR_CONFIG,
        "filter 2 is not known; there are VIT_BILINEAR and VIT_BICUBIC", "");
  heap.calls = 0;
  heap.fail_at = 1;
  CHECK(vit_resize(out, in, 1, 2, 2, 1, 1, VIT_BICUBIC) == VIT_ERR_NO_MEMORY, "memory");
  no_leak("resize");
}

/* ---- pictures ------------------------------------------------------------ */

#ifndef VIT_HAVE_STB
static void test_no_stb(void) {
  vit_dataset d;
  vit_folder_config c = vit_folder_defaults();
  uint8_t *pixels;
  int h, w;
  fails(vit_image_load("a.png", 3, &pixels, &h, &w), VIT_ERR_FORMAT,
        "cannot read a.png: pictures need stb_image; define STB_IMAGE_IMPLEMENTATION "
        "and include stb_image.h before vit.h", "");
  fails(vit_dataset_folder(&d, "photos", &c), VIT_ERR_FORMAT,
        "cannot read the pictures in photos without stb_image; define "
        "STB_IMAGE_IMPLEMENTATION and include stb_image.h before vit.h", "");
}
#else

/* The picture file of the fixture, written below the test's folder. */
static const char *picture(const char *name, const char *as) {
  char file[100];
  vit_safetensor t;
  snprintf(file, sizeof file, "file/%s", name);
  t = tensor(file);
  return write_file(as, t.data, t.count);
}

/* Is it the tensor's picture, each pixel within `far`? */
static int same_picture(const char *path, int channels, const char *want, int far) {
  vit_safetensor t = tensor(want);
  uint8_t *pixels;
  int h, w, ok, worst = 0;
  if (!CHECK(!vit_image_load(path, channels, &pixels, &h, &w), "%s", vit_error())) return 0;
  ok = CHECK(channels == t.shape[0] && h == t.shape[1] && w == t.shape[2],
             "%s: %d x %d x %d", want, channels, h, w);
  for (size_t i = 0; ok && i < t.count; i++) {
    int error = abs(pixels[i] - ((const uint8_t *)t.data)[i]);
    worst = error > worst ? error : worst;
  }
  vit_image_free(pixels);
  return CHECK(ok && worst <= far, "%s: %s differs by %d", path, want, worst);
}

static void test_pictures(void) {
  vit_safetensor t;
  int cases = 0;
  for (int i = 0; vit_safetensors_at(&fixture, i, &t); i++) {
    const char *name = t.name + 5;
    char want[60];
    if (strncmp(t.name, "file/", 5) || !strncmp(name, "crop", 4)) continue;
    snprintf(want, sizeof want, "grey/%s", name);
    same_picture(picture(name, name), 1, want, strstr(name, ".jpg") ? 3 : 0);
    if (strstr(name, ".jpg")) continue; /* in colour: test_orientation */
    snprintf(want, sizeof want, "rgb/%s", name);
    same_picture(path_of(name), 3, want, 0);
    cases++;
  }
  CHECK(cases == 10, "%d cases", cases);
  vit_image_free(NULL);
  no_leak("pictures");
}

typedef struct { unsigned char at[2000]; size_t size; } bytes;

static void put(bytes *b, int big, int count, uint32_t v) {
  for (int i = 0; i < count; i++)
    b->at[b->size++] = (unsigned char)(v >> 8 * (big ? count - 1 - i : i));
}

/* The fixture's JPEG with an Exif block put in front: two entries, of which the
   second is the orientation. */
static bytes with_exif(int big, int type, uint32_t orientation) {
  const vit_safetensor t = tensor("file/smooth.jpg");
  const int value = type == 3 ? 2 : 4;
  bytes b;
  b.size = 0;
  put(&b, 1, 4, 0xFFD8FFE1u);
  put(&b, 1, 2, 2 + 6 + 8 + 2 + 2 * 12 + 4);
  memcpy(b.at + b.size, "Exif\0", 6);
  b.size += 6;
  put(&b, 1, 2, big ? 0x4D4D : 0x4949);
  put(&b, big, 2, 42);
  put(&b, big, 4, 8); /* where the table is */
  put(&b, big, 2, 2); /* its entries */
  put(&b, big, 2, 0x010F), put(&b, big, 2, 2), put(&b, big, 4, 1), put(&b, big, 4, 65);
  put(&b, big, 2, 0x0112), put(&b, big, 2, (uint32_t)type), put(&b, big, 4, 1);
  put(&b, big, value, orientation), put(&b, big, 4 - value, 0);
  put(&b, big, 4, 0); /* no other table */
  memcpy(b.at + b.size, (const unsigned char *)t.data + 2, t.count - 2);
  b.size += t.count - 2;
  return b;
}

static void test_orientation(void) {
  char want[20];
  for (int turn = 1; turn <= 8; turn++)
    for (int big = 0; big < 2; big++) {
      bytes b = with_exif(big, big ? 4 : 3, (uint32_t)turn);
      snprintf(want, sizeof want, "turn/%d", turn);
      same_picture(write_file("turned.jpg", b.at, b.size), 3, want, 3);
    }
  no_leak("orientation");
}

/* Whatever an Exif block says, the picture is read: upright if it is nonsense. */
static void test_hostile_exif(void) {
  static const uint32_t offsets[] = {0, 7, 34, 35, 36, 100, 0x7FFFFFFF, 0xFFFFFFFEu,
                                     0xFFFFFFFFu};
  enum { TIFF = 12, END = 50 }; /* of the block in the file */
  uint8_t *pixels;
  int h, w;
  vit_rng rng = vit_rng_create(3, 1);
  for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
    for (int big = 0; big < 2; big++) {
      bytes b = with_exif(big, 3, 6);
      b.size = TIFF + 4;
      put(&b, big, 4, offsets[i]);
      b.size = with_exif(big, 3, 6).size;
      same_picture(write_file("turned.jpg", b.at, b.size), 3, "turn/1", 3);
    }
  for (uint32_t value = 0; value < 300; value += 9) /* 0, 9, 18, ... */
    if (value) {
      bytes b = with_exif(0, 3, value);
      same_picture(write_file("turned.jpg", b.at, b.size), 3, "turn/1", 3);
    }
  for (int i = 0; i < (test_quick() ? 300 : 2000); i++) { /* any block */
    bytes b = with_exif(i % 2, 3, 6);
    for (int flips = 1 + (int)vit_random_below(&rng, 5); flips > 0; flips--)
      b.at[TIFF + vit_random_below(&rng, END - TIFF)] = (unsigned char)vit_random_u32(&rng);
    CHECK(!vit_image_load(write_file("turned.jpg", b.at, b.size), 1, &pixels, &h, &w) &&
              h + w == 16,
          "%s", vit_error());
    vit_image_free(pixels);
  }
  { /* a table that ends with the block: its last entry is not there */
    bytes cut = with_exif(0, 3, 6);
    cut.at[5] = (unsigned char)(cut.at[5] - 10);
    memmove(cut.at + END - 10, cut.at + END, cut.size - END);
    cut.size -= 10;
    same_picture(write_file("turned.jpg", cut.at, cut.size), 3, "turn/1", 3);
  }
  no_leak("hostile Exif");
}

/* The same where the memory ends: each length, and offsets near the end. */
static void test_exif_bounds(void) {
  enum { TIFF = 12, SIZE = 38, ENTRY_ENDS = 34 };
  for (int big = 0; big < 2; big++) {
    const bytes whole = with_exif(big, 3, 6);
    for (size_t n = 0; n <= whole.size; n++) {
      test_guard g;
      unsigned char *end = (unsigned char *)(test_guarded_alloc(n / 4 + 1, &g) + n / 4 + 1);
      int turn = 1;
      memcpy(end - n, whole.at, n);
      CHECK(n < 3 || !vit__scan_jpeg(end - n, n, &turn) == (n == whole.size), "%d bytes",
            (int)n);
      CHECK(turn == (n >= TIFF + SIZE ? 6 : 1), "%d bytes: %d", (int)n, turn);
      test_guarded_free(&g);
    }
    for (size_t n = 0; n <= SIZE; n++)
      for (uint32_t offset = 8; offset < SIZE + 4; offset += offset == 8 ? 1 + SIZE / 2 : 1) {
        test_guard g;
        unsigned char *end = (unsigned char *)(test_guarded_alloc(n / 4 + 1, &g) + n / 4 + 1);
        bytes b = whole;
        int turn;
        b.size = TIFF + 4;
        put(&b, big, 4, offset);
        memcpy(end - n, b.at + TIFF, n);
        turn = vit__exif_orientation(end - n, n);
        CHECK(turn == (offset == 8 && n >= ENTRY_ENDS ? 6 : 1), "%d bytes, offset %u: %d",
              (int)n, (unsigned)offset, turn);
        test_guarded_free(&g);
      }
  }
}

static void image_fails(const char *path, vit_result want, const char *sentence) {
  uint8_t *pixels;
  int h, w;
  fails(vit_image_load(path, 3, &pixels, &h, &w), want, sentence, path);
  CHECK(!pixels && !h && !w, "a picture is left");
  no_leak(sentence);
}

static void test_picture_errors(void) {
  const vit_safetensor png = tensor("file/rgb.png");
  uint8_t *pixels;
  int h, w;
  bytes b = with_exif(0, 3, 1);
  image_fails(path_of("nothing.png"), VIT_ERR_FILE,
              "cannot open %s: No such file or directory");
  fails(vit_image_load("a.png", 5, &pixels, &h, &w), VIT_ERR_CONFIG,
        "channels is 5; a picture has 1 (grey) or 3 (RGB), 2 or 4 with alpha", "");
  image_fails(write_file("bad.png", "", 0), VIT_ERR_FORMAT,
              "cannot read %s as a picture (unknown image type); remove it, or get it "
              "as a PNG or JPEG");
  image_fails(write_file("bad.png", "hello, this is no picture", 25), VIT_ERR_FORMAT,
              "cannot read %s as a picture (unknown image type); remove it, or get it "
              "as a PNG or JPEG");
  for (size_t n = 0; n < png.count; n++) {
    CHECK(vit_image_load(write_file("bad.png", png.data, n), 3, &pixels, &h, &w) ==
              VIT_ERR_FORMAT && !pixels,
          "the first %d bytes of a PNG: %s", (int)n, vit_error());
    no_leak("a PNG that is cut off");
  }
  for (size_t n = 0; n < b.size; n++) {
    CHECK(vit_image_load(write_file("bad.jpg", b.at, n), 3, &pixels, &h, &w) ==
              VIT_ERR_FORMAT && !pixels,
          "the first %d bytes of a JPEG: %s", (int)n, vit_error());
    no_leak("a JPEG that is cut off");
  }
  {
    char sentence[200];
    snprintf(sentence, sizeof sentence, "%%s is cut off: its %d bytes have no end marker; "
                                        "get it again", (int)b.size - 1);
    image_fails(write_file("bad.jpg", b.at, b.size - 1), VIT_ERR_FORMAT, sentence);
  }
  { /* the sizes of a PNG are at 16 and 20 */
    unsigned char big[64];
    memcpy(big, png.data, sizeof big);
    memcpy(big + 16, "\0\0\x80\x01\0\0\0\x02", 8);
    image_fails(write_file("bad.png", big, sizeof big), VIT_ERR_FORMAT,
                "%s is too large: 2 x 32769 pixels; at most 32768 on a side and "
                "134217728 in all can be read");
    memcpy(big + 16, "\0\0\x27\x10\0\0\x3E\x80", 8);
    image_fails(write_file("bad.png", big, sizeof big), VIT_ERR_FORMAT,
                "%s is too large: 16000 x 10000 pixels; at most 32768 on a side and "
                "134217728 in all can be read");
  }
  { /* a BMP whose height is negative: its first row is the top one */
    unsigned char big[54] = "BM";
    memcpy(big + 10, "\x36\0\0\0\x28\0\0\0", 8);
    memcpy(big + 18, "\0\x7D\0\0\xF8\xAD\xFF\xFF\1\0\x18\0", 12); /* 32000 x -21000 */
    heap.largest = 0;
    image_fails(write_file("bad.bmp", big, sizeof big), VIT_ERR_FORMAT,
                "%s is too large: 21000 x 32000 pixels; at most 32768 on a side and "
                "134217728 in all can be read");
    CHECK(heap.largest < 1 << 20, "it was unpacked: %.0f bytes", (double)heap.largest);
  }
}

/* Any bytes at all: they may be read or not, but nothing may crash or leak. */
static void test_picture_fuzz(void) {
  static const char *const files[] = {"file/rgb.png", "file/palette.gif", "file/rgb.bmp",
                                      "file/one_bit.png", "file/smooth.jpg"};
  vit_rng rng = vit_rng_create(4, 1);
  for (int i = 0; i < (test_quick() ? 500 : 3000); i++) {
    vit_safetensor t = tensor(files[i % 5]);
    bytes b;
    uint8_t *pixels;
    int h, w;
    b.size = t.count;
    memcpy(b.at, t.data, t.count);
    for (int flips = 1 + (int)vit_random_below(&rng, 4); flips > 0; flips--)
      b.at[vit_random_below(&rng, (uint32_t)b.size)] = (unsigned char)vit_random_u32(&rng);
    if (!vit_image_load(write_file("fuzz", b.at, b.size), 1 + i % 2 * 2, &pixels, &h, &w)) {
      int sum = 0;
      for (size_t p = 0; p < (size_t)h * (size_t)w; p++) sum += pixels[p];
      CHECK(sum >= 0 && h > 0 && w > 0, "%d x %d", h, w);
      vit_image_free(pixels);
    }
    no_leak("any bytes");
  }
}

/* ---- pictures that the tests make: each format, whole, cut off, damaged ------ */

static bytes file; /* the picture that is being made */

static void put_text(const char *text) {
  memcpy(file.at + file.size, text, strlen(text));
  file.size += strlen(text);
}
static void put8(int v) { put(&file, 0, 1, (uint32_t)v); }
static void put16(int v) { put(&file, 0, 2, (uint32_t)v); }
static void put32(uint32_t v) { put(&file, 0, 4, v); }

/* What the pictures below show: red, green, blue of pixel x of row y. Grey pixels
   are the red of these; pictures of few colours take the colour number x + 2 y. */
enum { PIC_H = 3, PIC_W = 5 };
static int shown(int c, int y, int x) { return (40 * x + 70 * y + 90 * c + 3) % 256; }
static int colour(int c, int i) { return (57 * i + 101 * c + 9) % 256; }

/* Is `file` read, whatever its name, as the pixels that want(c, y, x) tells? */
static void reads(const char *what, int (*want)(int, int, int)) {
  uint8_t *pixels;
  int h, w, wrong = 0;
  if (!CHECK(!vit_image_load(write_file("made.txt", file.at, file.size), 3, &pixels, &h,
                             &w),
             "%s: %s", what, vit_error()))
    return;
  if (CHECK(h == PIC_H && w == PIC_W, "%s: %d x %d", what, h, w))
    for (int i = 0; i < 3 * h * w; i++)
      wrong += pixels[i] != want(i / (h * w), i / w % h, i % w);
  CHECK(!wrong, "%s: %d values are wrong, the first pixel is %d %d %d", what, wrong,
        pixels[0], pixels[h * w], pixels[2 * h * w]);
  vit_image_free(pixels);
  no_leak(what);
}

/* Is the beginning of it, however long, refused with a whole sentence? */
static void cuts_are_refused(const char *what) {
  const size_t whole = file.size;
  for (file.size = 0; file.size < whole; file.size++) {
    uint8_t *pixels;
    int h, w;
    const vit_result r = vit_image_load(write_file("cut.txt", file.at, file.size), 3,
                                        &pixels, &h, &w);
    CHECK(r == VIT_ERR_FORMAT && !pixels && !strstr(vit_error(), "()"),
          "%s, %d of %d bytes: %d, %s", what, (int)file.size, (int)whole, (int)r,
          vit_error());
    if (!r) vit_image_free(pixels);
  }
  no_leak(what);
}

/* Is it refused because of `reason`? */
static void refused(const char *reason) {
  char sentence[300];
  snprintf(sentence, sizeof sentence, "cannot read %%s as a picture (%s); remove it, or get "
                                      "it as a PNG or JPEG", reason);
  image_fails(write_file("refused.txt", file.at, file.size), VIT_ERR_FORMAT, sentence);
}

static int of_palette(int c, int y, int x) { return colour(c, x + 2 * y); }
static int of_palette2(int c, int y, int x) { return colour(c, (x + 2 * y) % 2); }
static int of_grey(int c, int y, int x) { return shown(0 * c, y, x); }

/* CRC-32 from its definition, bit by bit. */
static uint32_t crc_of(const unsigned char *p, size_t n) {
  uint32_t crc = 0xFFFFFFFFu;
  for (size_t i = 0; i < n; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

static void png_chunk(const char *name, const unsigned char *data, size_t n) {
  put(&file, 1, 4, (uint32_t)n);
  put_text(name);
  memcpy(file.at + file.size, data, n);
  file.size += n;
  put(&file, 1, 4, crc_of(file.at + file.size - n - 4, n + 4));
}

static void make_png(void) {
  unsigned char rows[PIC_H * (1 + 3 * PIC_W)], *p = rows;
  bytes part;
  uint32_t a = 1, b = 0;
  for (int y = 0; y < PIC_H; y++) {
    *p++ = 0; /* no filter */
    for (int i = 0; i < 3 * PIC_W; i++) *p++ = (unsigned char)shown(i % 3, y, i / 3);
  }
  file.size = part.size = 0;
  put_text("\x89PNG\r\n\x1A\n");
  put(&part, 1, 4, PIC_W), put(&part, 1, 4, PIC_H), put(&part, 1, 4, 0x08020000u);
  put(&part, 1, 1, 0);
  png_chunk("IHDR", part.at, part.size);
  png_chunk("tEXt", (const unsigned char *)"Title\0made", 10);
  part.size = 0;
  put(&part, 1, 3, 0x780101), put(&part, 0, 2, sizeof rows); /* stored */
  put(&part, 0, 2, 0xFFFF - sizeof rows);
  memcpy(part.at + part.size, rows, sizeof rows);
  part.size += sizeof rows;
  for (size_t i = 0; i < sizeof rows; i++) a = (a + rows[i]) % 65521, b = (b + a) % 65521;
  put(&part, 1, 2, b), put(&part, 1, 2, a);
  png_chunk("IDAT", part.at, part.size / 2);
  png_chunk("IDAT", part.at + part.size / 2, part.size - part.size / 2);
  png_chunk("IEND", part.at, 0);
}

/* A single bit that is wrong, wherever it is: pixels, lengths, names, checksums. */
static void test_png(void) {
  make_png();
  reads("PNG", shown);
  cuts_are_refused("PNG");
  for (size_t bit = 0; bit < 8 * file.size; bit++) {
    uint8_t *pixels;
    int h, w;
    file.at[bit / 8] ^= (unsigned char)(1 << bit % 8);
    CHECK(vit_image_load(write_file("bit.png", file.at, file.size), 3, &pixels, &h, &w) ==
              VIT_ERR_FORMAT,
          "bit %d of byte %d may be wrong", (int)(bit % 8), (int)(bit / 8));
    vit_image_free(pixels);
    file.at[bit / 8] ^= (unsigned char)(1 << bit % 8);
  }
  file.at[60] ^= 1; /* in the text */
  refused("a checksum in it is wrong");
  make_png();
  put_text("what follows the end is not looked at");
  reads("PNG", shown);
  no_leak("PNG");
}

/* os2: the old header, palettes of 3 bytes a colour. */
static void make_bmp(int bits, int os2, int top_first, int colours) {
  const int head = 14 + (os2 ? 12 : 40), start = head + colours * (os2 ? 3 : 4);
  file.size = 0;
  put_text("BM");
  put32(0), put32(0), put32((uint32_t)start), put32(os2 ? 12 : 40);
  if (os2)
    put16(PIC_W), put16(PIC_H);
  else
    put32(PIC_W), put32(top_first ? 0u - PIC_H : PIC_H);
  put16(1), put16(bits);
  for (int i = 0; !os2 && i < 6; i++) put32(i == 4 ? (uint32_t)colours : 0);
  for (int i = 0; i < colours; i++) {
    for (int c = 2; c >= 0; c--) put8(colour(c, i));
    if (!os2) put8(0);
  }
  for (int row = 0; row < PIC_H; row++) {
    const int y = top_first ? row : PIC_H - 1 - row;
    int byte = 0, used = 0;
    for (int x = 0; x < PIC_W; x++) {
      if (bits >= 24) {
        for (int c = 2; c >= 0; c--) put8(shown(c, y, x));
        if (bits == 32) put8(255);
      } else { /* the number of a colour, the first pixel in the upper bits */
        byte = byte << bits | ((x + 2 * y) & ((1 << bits) - 1));
        used += bits;
        if (used == 8) put8(byte), byte = used = 0;
      }
    }
    if (used) put8(byte << (8 - used));
    while ((file.size - (size_t)start) % 4) put8(0);
  }
}

static void test_bmp(void) {
  for (int top_first = 0; top_first < 2; top_first++) {
    static const struct { int bits, colours; } kinds[] = {
        {1, 2}, {4, 16}, {4, 9}, {8, 256}, {8, 9}, {24, 0}, {32, 0}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
      char what[40];
      const int bits = kinds[i].bits;
      snprintf(what, sizeof what, "BMP of %d bits", bits);
      make_bmp(bits, 0, top_first, kinds[i].colours);
      reads(what, bits >= 24 ? shown : bits == 1 ? of_palette2 : of_palette);
      cuts_are_refused(what);
    }
  }
  make_bmp(24, 1, 0, 0);
  reads("BMP of OS/2", shown);
  cuts_are_refused("BMP of OS/2");
  for (int bits = 1; bits <= 8; bits += bits == 1 ? 3 : 4) {
    make_bmp(bits, 1, 0, 1 << bits);
    refused("a palette of OS/2 in it");
  }
  make_bmp(8, 0, 0, 0);
  refused("its palette is missing");
  make_bmp(24, 0, 0, 0);
  file.at[18] = 0; /* the width */
  refused("it has no pixels");
}

static void test_pnm(void) {
  static const int largest[] = {0, 1, 15, 127, 254, 256, 1023, 65535, 255 + 65536};
  for (int colours = 0; colours < 2; colours++)
    for (int notes = 0; notes < 2; notes++) {
      file.size = 0;
      put_text(colours ? "P6" : "P5");
      put_text(notes ? "# 7 7 #\r\n\t 5 # wide\n#\n#\n3\v255" : " 5 3\n0255");
      put8('\n');
      for (int i = 0; i < PIC_H * PIC_W; i++)
        for (int c = 0; c < (colours ? 3 : 1); c++)
          put8(shown(c, i / PIC_W, i % PIC_W));
      reads("PNM", colours ? shown : of_grey);
      cuts_are_refused("PNM");
    }
  for (size_t i = 0; i < sizeof largest / sizeof *largest; i++) {
    char head[40];
    snprintf(head, sizeof head, "P5\n2 1\n%d\n", largest[i]);
    file.size = 0;
    put_text(head);
    put32(0x01020304);
    refused("its largest value is not 255");
  }
  file.size = 0; /* more than stb_image reads at a time */
  put_text("P6\n20 20\n255\n");
  for (int i = 0; i < 1200; i++) put8(i % 251);
  cuts_are_refused("a larger PNM");
  file.size = 0;
  put_text("P6\n0 3\n255\nabc");
  refused("it has no pixels");
}

/* kind as in the header: 1 palette, 2 colours, 3 grey; 8 more: in packets. */
static void make_tga(int kind, int bits, int how, int palette_bits) {
  const int packed = kind > 8, start = how & 1 ? 7 : 0;
  int pixels = 0;
  file.size = 0;
  put8(4), put8(kind % 8 == 1), put8(kind);
  put16(start), put16(kind % 8 == 1 ? 9 : 0), put8(palette_bits);
  put16(0), put16(0), put16(PIC_W), put16(PIC_H);
  put8(bits), put8(how & ~1);
  put_text("text");
  for (int i = 0; i < (kind % 8 == 1 ? 9 : 0); i++) {
    for (int c = 2; c >= 0; c--) put8(colour(c, i));
    if (palette_bits == 32) put8(255);
  }
  for (int row = 0; row < PIC_H; row++)
    for (int x = 0; x < PIC_W; x++, pixels++) {
      const int y = how & 0x20 ? row : PIC_H - 1 - row;
      if (packed && pixels % 6 == 0) put8(0x80); /* one pixel, once */
      if (packed && pixels % 6 == 1) put8(4);    /* five as they are, or fewer */
      if (kind % 8 == 1)
        put(&file, 0, bits / 8, (uint32_t)(x + 2 * y));
      else if (kind % 8 == 3)
        put8(shown(0, y, x));
      else
        for (int c = 2; c >= 0; c--) put8(shown(c, y, x));
      if (bits == 32) put8(255);
    }
  if (packed) /* the last packet is full */
    for (; pixels % 6 != 0; pixels++) put(&file, 0, bits / 8, 0);
}

static int tga_repeated(int c, int y, int x) { return shown(c, 0 * y, 0 * x); }

static void test_tga(void) {
  static const struct { int kind, bits, palette_bits; } kinds[] = {
      {1, 8, 24}, {1, 16, 24}, {1, 8, 32}, {2, 24, 0}, {2, 32, 0}, {3, 8, 0}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    for (int packed = 0; packed < 2; packed++)
      for (int how = 0; how < 4; how++) {
        const int kind = kinds[i].kind + 8 * packed;
        char what[60];
        snprintf(what, sizeof what, "TGA of kind %d, %d bits", kind, kinds[i].bits);
        make_tga(kind, kinds[i].bits, 0x20 * (how & 1) | 0x10 * (how >> 1),
                 kinds[i].palette_bits);
        if (how >> 1) {
          refused("its rows run from right to left");
          continue;
        }
        reads(what, kinds[i].kind == 1 ? of_palette : kinds[i].kind == 2 ? shown : of_grey);
        if (packed) file.size -= 3 * (size_t)(kinds[i].bits / 8); /* the last packet's rest */
        cuts_are_refused(what);
      }
  make_tga(1, 8, 0x21, 24);
  refused("a gap in its palette");
  make_tga(2, 24, 0x20, 0); /* one packet for all */
  file.at[2] = 10;
  file.size = 22;
  put8(0x80 + PIC_H * PIC_W - 1);
  for (int c = 2; c >= 0; c--) put8(shown(c, 0, 0));
  reads("TGA of one packet", tga_repeated);
  cuts_are_refused("TGA of one packet");
}

/* Codes of 5 bits, for 16 colours, with a clear code in front of each. */
static void gif_image(int local, int shift) {
  uint32_t bits = 0;
  int used = 0, count = 0;
  bytes data;
  data.size = 0;
  put8(0x2C), put16(0), put16(0), put16(PIC_W), put16(PIC_H), put8(local ? 0x83 : 0);
  for (int i = 0; local && i < 16; i++)
    for (int c = 0; c < 3; c++) put8(colour(c, i));
  put8(4);
  for (int i = 0; i <= 2 * PIC_H * PIC_W; i++) {
    const int pixel = i / 2 % PIC_W + 2 * (i / 2 / PIC_W) + shift;
    const int code = i == 2 * PIC_H * PIC_W ? 17 : i % 2 ? pixel : 16;
    bits |= (uint32_t)code << used;
    for (used += 5; used >= 8; used -= 8, bits >>= 8) put(&data, 0, 1, bits & 255);
  }
  if (used) put(&data, 0, 1, bits & 255);
  for (size_t at = 0; at < data.size; at += (size_t)count) { /* in two blocks */
    count = at ? (int)(data.size - at) : 7;
    put8(count);
    memcpy(file.at + file.size, data.at + at, (size_t)count);
    file.size += (size_t)count;
  }
  put8(0);
}

static void gif_start(int colours) {
  file.size = 0;
  put_text("GIF89a");
  put16(PIC_W), put16(PIC_H), put8(colours ? 0x83 : 0), put8(0), put8(0);
  for (int i = 0; i < (colours ? 16 : 0); i++)
    for (int c = 0; c < 3; c++) put8(colour(c, i));
}

static void test_gif(void) {
  for (int kind = 0; kind < 4; kind++) {
    const int local = kind % 2, frames = 1 + kind / 2;
    gif_start(!local);
    put8(0x21), put8(0xFE), put8(3), put_text(";,!"), put8(1), put_text("!"), put8(0);
    for (int f = 0; f < frames; f++) {
      put8(0x21), put8(0xF9), put8(4), put32(0), put8(0);
      gif_image(local, f);
    }
    put8(0x3B);
    reads("GIF", of_palette);
    cuts_are_refused("GIF");
  }
  { /* whatever its name, among others of a folder */
    vit_folder_config c = vit_folder_defaults();
    vit_dataset d;
    c.height = c.width = 3;
    folder_of("names");
    folder_of("names/a");
    folder_of("names/b");
    write_file("names/a/x.jpg", file.at, file.size);
    write_file("names/b/x", file.at, file.size);
    if (CHECK(!vit_dataset_folder(&d, path_of("names"), &c), "%s", vit_error()))
      vit_dataset_free(&d);
  }
  gif_start(1);
  put8(0x3B); /* no image at all */
  refused("damaged");
  gif_start(1);
  put8('?'), put8(0x3B);
  refused("an unknown block in it");
}

/* A JPEG of one colour whose components all have 8 x 8 pixels: DC codes of 4 bits,
   of AC the end of a block alone. dc is what the pixels are more than 128. */
enum { HAS_DQT = 1, HAS_DC = 2, HAS_AC = 4, HAS_ALL = 7 };
static void make_jpeg(const int *dc, int parts, int scanned, int adobe, int has) {
  uint32_t bits = 0;
  int used = 0;
  file.size = 0;
  put(&file, 1, 2, 0xFFD8);
  if (adobe >= 0) {
    put(&file, 1, 4, 0xFFEE000E);
    put_text("Adobe");
    put(&file, 1, 3, 100), put(&file, 1, 3, 0), put8(adobe);
  }
  if (has & HAS_DQT) {
    put(&file, 1, 4, 0xFFDB0043), put8(0);
    for (int i = 0; i < 64; i++) put8(8);
  }
  put(&file, 1, 4, 0xFFC00000u + 8u + 3u * (unsigned)parts);
  put8(8), put(&file, 1, 2, 8), put(&file, 1, 2, 8), put8(parts);
  for (int i = 0; i < parts; i++) put8(1 + i), put8(0x11), put8(0);
  if (has & HAS_DC) {
    put(&file, 1, 4, 0xFFC4001F), put8(0);
    for (int i = 1; i <= 16; i++) put8(i == 4 ? 12 : 0);
    for (int i = 0; i < 12; i++) put8(i);
  }
  if (has & HAS_AC) {
    put(&file, 1, 4, 0xFFC40014), put8(0x10);
    for (int i = 1; i <= 16; i++) put8(i == 1);
    put8(0);
  }
  put(&file, 1, 4, 0xFFDA0000u + 6u + 2u * (unsigned)scanned), put8(scanned);
  for (int i = 0; i < scanned; i++) put8(1 + i), put8(0);
  put8(0), put8(63), put8(0);
  for (int i = 0; i < scanned; i++) { /* category, value, end of block */
    int size = 0;
    while (abs(dc[i]) >> size) size++;
    bits = bits << (5 + size) | (uint32_t)size << (1 + size) |
           ((uint32_t)(dc[i] < 0 ? dc[i] + (1 << size) - 1 : dc[i]) << 1);
    for (used += 5 + size; used >= 8; used -= 8) put8((int)(bits >> (used - 8) & 255));
  }
  if (used) put8((int)(bits << (8 - used) & 255) | ((1 << (8 - used)) - 1));
  put(&file, 1, 2, 0xFFD9);
}

/* The file's AC table becomes one with counts[16] codes; all stand for "end". */
static void other_codes(const int *counts) {
  static const int dc[1] = {50};
  bytes whole;
  size_t at = 2 + 69 + 13 + 33;
  int codes = 0;
  for (int i = 0; i < 16; i++) codes += counts[i];
  make_jpeg(dc, 1, 1, -1, HAS_ALL);
  whole = file;
  file.size = at;
  put(&file, 1, 4, 0xFFC40000u + 19u + (unsigned)codes), put8(0x10);
  for (int i = 0; i < 16; i++) put8(counts[i]);
  for (int i = 0; i < codes; i++) put8(0);
  at += 22;
  memcpy(file.at + file.size, whole.at + at, whole.size - at);
  file.size += whole.size - at;
}

static void jpeg_is(const char *what, int r, int g, int b) {
  uint8_t *pixels;
  int h, w;
  if (!CHECK(!vit_image_load(write_file("made.jpg", file.at, file.size), 3, &pixels, &h,
                             &w),
             "%s: %s", what, vit_error()))
    return;
  for (int i = 0; i < 64; i++)
    CHECK(abs(pixels[i] - r) < 2 && abs(pixels[64 + i] - g) < 2 &&
              abs(pixels[128 + i] - b) < 2,
          "%s: %d %d %d", what, pixels[i], pixels[64 + i], pixels[128 + i]);
  vit_image_free(pixels);
  no_leak(what);
}

static void test_jpeg(void) {
  const int dc[4] = {-100, 30, 100, 90}, grey = 50; /* 28, 158, 228, 218; 178 */
  make_jpeg(dc, 1, 1, -1, HAS_ALL);
  jpeg_is("grey JPEG", 28, 28, 28);
  cuts_are_refused("JPEG");
  make_jpeg(dc, 3, 3, 0, HAS_ALL);
  jpeg_is("RGB JPEG", 28, 158, 228);
  make_jpeg(dc, 4, 4, 0, HAS_ALL); /* Adobe counts the white: C * K / 255 */
  jpeg_is("CMYK JPEG", 28 * 218 / 255, 158 * 218 / 255, 228 * 218 / 255);
  for (int adobe = -1; adobe <= 3; adobe += adobe < 0 ? 2 : 2) {
    make_jpeg(dc, 4, 4, adobe, HAS_ALL);
    refused("four inks, but no marker of Adobe's that says how they count");
  }
  make_jpeg(dc, 3, 2, -1, HAS_ALL);
  refused("one of its colours is missing");
  make_jpeg(&grey, 1, 1, -1, HAS_ALL);
  file.at[72] = 0xC2; /* progressive, the DC of all */
  file.at[147] = 0;
  jpeg_is("progressive JPEG", 178, 178, 178);
  file.at[148] = 0x10; /* only the last bit of it */
  refused("one of its colours is missing");
  for (int missing = 1; missing < HAS_ALL; missing *= 2) {
    make_jpeg(dc, 3, 3, -1, HAS_ALL - missing);
    refused("a table in it is missing");
  }
}

static void test_jpeg_codes(void) {
  { /* as many as there is room for */
    const int counts[16] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255};
    other_codes(counts);
    jpeg_is("256 codes", 178, 178, 178);
  }
  { /* one more */
    const int counts[16] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 255};
    other_codes(counts);
    refused("a table in it is damaged");
  }
  { /* far more */
    const int counts[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255};
    other_codes(counts);
    refused("a table in it is damaged");
  }
  { /* more than their length has */
    const int counts[16] = {1, 1, 3};
    other_codes(counts);
    refused("a table in it is damaged");
  }
  { /* 256 short ones: stb_image takes the last for none */
    const int counts[16] = {0, 0, 0, 0, 0, 0, 0, 255, 1};
    other_codes(counts);
    refused("a table in it is damaged");
  }
  { /* a table that is longer than its segment */
    const int counts[16] = {1, 1, 1};
    other_codes(counts);
    file.at[2 + 69 + 13 + 33 + 3]--;
    refused("a table in it is damaged");
  }
}

/* stb_image does not always say that it had no memory: it may look as if the file
   were broken. But nothing may be left behind. */
static void test_picture_no_memory(void) {
  static const char *const files[] = {"rgb.png", "palette.gif", "smooth.jpg"};
  for (int f = 0; f < 3; f++) {
    const char *path = picture(files[f], files[f]);
    int at = 0, said = 0;
    vit_result r = VIT_ERR_NO_MEMORY;
    while (r && ++at < 100) {
      uint8_t *pixels;
      int h, w;
      heap.fail_at = at;
      r = vit_image_load(path, 3, &pixels, &h, &w);
      CHECK(!r || (!pixels && (r == VIT_ERR_NO_MEMORY || r == VIT_ERR_FORMAT)),
            "allocation %d: %s", at, vit_error());
      said += r == VIT_ERR_NO_MEMORY;
      vit_image_free(pixels);
      if (!r && heap.calls >= at) r = VIT_ERR_NO_MEMORY; /* it could do without */
      no_leak("no memory");
    }
    CHECK(at > 3 && at < 100 && said >= 3, "%d allocations, %d said so", at, said);
  }
}

/* ---- a folder per class -------------------------------------------------- */

static struct { int count; char sentence[20][512]; } told;

static void tell(const char *sentence, void *user) {
  CHECK(user == &told, "user");
  if (told.count < 20)
    snprintf(told.sentence[told.count++], sizeof *told.sentence, "%s", sentence);
}

static vit_folder_config small_config(int channels, int height, int width) {
  vit_folder_config c = vit_folder_defaults();
  CHECK(c.channels == 3 && c.height == 224 && c.width == 224 && !c.resize &&
            c.filter == VIT_BILINEAR && !c.skipped,
        "defaults");
  c.channels = channels;
  c.height = height;
  c.width = width;
  c.skipped = tell;
  c.user = &told;
  told.count = 0;
  return c;
}

static void test_crop(void) {
  vit_safetensor t;
  int cases = 0;
  folder_of("crop");
  folder_of("crop/a");
  folder_of("crop/b");
  for (int i = 0; vit_safetensors_at(&fixture, i, &t); i++) {
    char name[40], kind[20];
    int h, w, resize, larger = 0;
    vit_folder_config c;
    vit_dataset d;
    if (sscanf(t.name, "crop/%39[^/]/%19[^_]_%dx%d_%d", name, kind, &h, &w, &resize) != 5)
      continue;
    c = small_config(3, h, w);
    c.resize = resize;
    c.filter = strcmp(kind, "bicubic") ? VIT_BILINEAR : VIT_BICUBIC;
    picture(name, "crop/a/1.png");
    picture(name, "crop/b/1.png");
    if (!CHECK(!vit_dataset_folder(&d, path_of("crop"), &c), "%s", vit_error())) continue;
    for (int copy = 0; copy < 2; copy++)
      CHECK(!memcmp(d.pixels + (size_t)copy * t.count, t.data, t.count),
            "%s differs from torchvision's", t.name);
    if (strstr(name, "6x5") || resize == 14) larger = 1; /* 14 of 20: not larger */
    if (strstr(name, "20x33")) larger = 0;
    CHECK(d.enlarged == 2 * larger && d.skipped == 0, "%s: %d enlarged", t.name,
          d.enlarged);
    vit_dataset_free(&d);
    cases++;
  }
  CHECK(cases == 20, "%d cases", cases);
  no_leak("crop");
}

static void test_folder(void) {
  const char *dir = folder_of("photos");
  char want[500];
  vit_folder_config c = small_config(1, 5, 4);
  vit_dataset d;
  folder_of("photos/cat");
  folder_of("photos/a dog");
  folder_of("photos/a dog/more");
  folder_of("photos/Zebra");
  folder_of("photos/.hidden");
  write_file("photos/readme.txt", "not in a class", 14);
  picture("grey.png", "photos/.hidden/1.png");
  picture("one_bit.png", "photos/cat/b.png");
  picture("grey.png", "photos/cat/B.png");
  write_file("photos/cat/a.png", "broken", 6);
  write_file("photos/cat/.a.png", "broken, too, but hidden", 23);
  write_file("photos/cat/z.jpg", "\xFF\xD8\xFF", 3);
  picture("grey.png", "photos/a dog/x.png");
  picture("one_bit.png", "photos/a dog/more/a");
  picture("crop_6x5.png", "photos/Zebra/0.png");
  (void)mkfifo(path_of("photos/Zebra/a pipe"), 0600); /* to open it would block */
  (void)!symlink("nowhere", path_of("photos/Zebra/lost.png"));
  if (!CHECK(!vit_dataset_folder(&d, dir, &c), "%s", vit_error())) return;
  CHECK(d.count == 5 && d.classes == 3 && d.channels == 1 && d.height == 5 &&
            d.width == 4 && d.skipped == 3 && d.enlarged == 0 && d.std[0] == 1,
        "%d images in %d classes, %d skipped, %d enlarged", d.count, d.classes, d.skipped,
        d.enlarged);
  CHECK(!strcmp(vit_class_name(&d, 0), "Zebra") && !strcmp(vit_class_name(&d, 1), "a dog") &&
            !strcmp(vit_class_name(&d, 2), "cat"),
        "%s, %s, %s", vit_class_name(&d, 0), vit_class_name(&d, 1), vit_class_name(&d, 2));
  CHECK(!memcmp(d.labels, "\0\1\1\2\2", 5), "labels");
  for (int i = 1; i < 5; i++) { /* more/a, x.png; B.png, b.png */
    vit_safetensor t = tensor(i == 1 || i == 4 ? "grey/one_bit.png" : "grey/grey.png");
    CHECK(!memcmp(d.pixels + i * 20, t.data, 20), "image %d is another", i);
  }
  CHECK(told.count == 3, "%d files were skipped", told.count);
  snprintf(want, sizeof want, "cannot open %s/Zebra/lost.png: No such file or directory", dir);
  CHECK(!strcmp(told.sentence[0], want), "%s", told.sentence[0]);
  snprintf(want, sizeof want, "cannot read %s/cat/a.png as a picture (unknown image type); "
                              "remove it, or get it as a PNG or JPEG", dir);
  CHECK(!strcmp(told.sentence[1], want), "%s", told.sentence[1]);
  snprintf(want, sizeof want, "%s/cat/z.jpg is cut off: its 3 bytes have no end marker; "
                              "get it again", dir);
  CHECK(!strcmp(told.sentence[2], want), "%s", told.sentence[2]);
  snprintf(want, sizeof want, "photos, 5 images of 5 x 4 x 1 in 3 classes, %s", dir);
  CHECK(!strcmp(d.source, want), "%s", d.source);
  vit_dataset_free(&d);

  folder_of("photos/a"); /* before "a dog", though '/' comes after ' ' */
  picture("grey.png", "photos/a/1");
  CHECK(!vit_dataset_folder(&d, dir, &c) && d.count == 6 && !strcmp(vit_class_name(&d, 1), "a") &&
            !strcmp(vit_class_name(&d, 2), "a dog") && !memcmp(d.labels, "\0\1\2\2\3\3", 6),
        "%d images, class 1 is %s", d.count, vit_class_name(&d, 1));
  vit_dataset_free(&d);
  remove(path_of("photos/a/1"));
  remove(path_of("photos/a"));

  c.skipped = NULL;
  c.height = c.width = 6; /* larger than some */
  CHECK(!vit_dataset_folder(&d, dir, &c) && d.skipped == 3 && d.enlarged == 5, "%s",
        vit_error());
  vit_dataset_free(&d);
  no_leak("a folder");
}

/* More files than are decoded at a time, with gaps; any number of threads. */
static void test_folder_threads(void) {
  enum { FILES = 300 };
  const char *dir = folder_of("many");
  vit_folder_config c = small_config(3, 7, 9);
  vit_dataset d[2];
  folder_of("many/a");
  folder_of("many/b");
  for (int i = 0; i < FILES; i++) {
    static const char *const files[] = {"rgb.png", "smooth.jpg", "crop_20x33.png"};
    char name[40];
    snprintf(name, sizeof name, "many/%c/%03d", i % 3 ? 'a' : 'b', i);
    if (i % 7 == 5)
      write_file(name, "broken", 6);
    else
      picture(files[i % 5 % 3], name);
  }
  c.skipped = NULL;
  for (int run = 0; run < 2; run++) {
#ifdef _OPENMP
    omp_set_num_threads(run ? 3 : 1);
#endif
    if (!CHECK(!vit_dataset_folder(&d[run], dir, &c), "%s", vit_error())) return;
  }
  CHECK(d[0].count == 257 && d[0].skipped == 43 && d[0].enlarged == d[1].enlarged,
        "%d images, %d skipped", d[0].count, d[0].skipped);
  CHECK(d[0].count == d[1].count &&
            !memcmp(d[0].labels, d[1].labels, (size_t)d[0].count) &&
            !memcmp(d[0].pixels, d[1].pixels, (size_t)d[0].count * 7 * 9 * 3),
        "threads change the result");
  for (int run = 0; run < 2; run++) vit_dataset_free(&d[run]);
  no_leak("threads");
}

static void folder_fails(const char *dir, const vit_folder_config *c, vit_result want,
                         const char *sentence) {
  vit_dataset d;
  fails(vit_dataset_folder(&d, dir, c), want, sentence, dir);
  CHECK(!d.pixels && !d.labels && !d.names && !d.count, "a dataset is left");
  no_leak(sentence);
}

static void test_folder_errors(void) {
  vit_folder_config c = small_config(3, 8, 8), bad;
  const char *dir = folder_of("wrong");
  char name[100], text[900];
  folder_fails(path_of("no such folder"), &c, VIT_ERR_FILE,
               "cannot open the folder %s: No such file or directory");
  folder_fails(dir, &c, VIT_ERR_CONFIG,
               "%s holds 0 folders; it needs one for each class, at least 2");
  picture("rgb.png", "wrong/1.png");
  folder_of("wrong/Cat");
  folder_fails(dir, &c, VIT_ERR_CONFIG,
               "%s holds 1 folders; it needs one for each class, at least 2");
  folder_of("wrong/bat");
  folder_fails(dir, &c, VIT_ERR_CONFIG,
               "class Cat in %s has no files; put pictures into it, or move it elsewhere");
  write_file("wrong/Cat/1", "x", 1);
  write_file("wrong/Cat/2", "x", 1);
  picture("rgb.png", "wrong/bat/1.png");
  folder_fails(dir, &c, VIT_ERR_FORMAT,
               "none of the 2 files of class Cat in %s can be read as a picture; is this "
               "a folder of photos? Put others into it, or move it elsewhere");
  CHECK(told.count == 2, "told of %d", told.count);
  folder_of("wrong/cat");
  folder_fails(dir, &c, VIT_ERR_CONFIG,
               "the classes Cat and cat in %s differ only in upper and lower case; "
               "rename one, or put them together");
  remove(path_of("wrong/cat"));

  memset(name, 'n', sizeof name);
  memcpy(name, "wrong/", 6);
  name[6 + 64] = '\0';
  folder_of(name);
  snprintf(text, sizeof text, "the name of class %s in %%s has 64 characters; rename the folder "
                              "to at most 63", name + 6);
  folder_fails(dir, &c, VIT_ERR_CONFIG, text);
  remove(path_of(name));
  name[6 + 63] = '\0';
  folder_of(name);
  picture("rgb.png", strcat(strcpy(text, name), "/1"));
  picture("rgb.png", "wrong/Cat/1");
  {
    vit_dataset d;
    CHECK(!vit_dataset_folder(&d, dir, &c) && !strcmp(vit_class_name(&d, 2), name + 6),
          "%s", vit_error());
    vit_dataset_free(&d);
  }
  (void)!symlink("..", path_of("wrong/Cat/up"));
  {
    vit_dataset d;
    CHECK(vit_dataset_folder(&d, dir, &c) == VIT_ERR_FILE && !d.names &&
              strstr(vit_error(), "more than 8 folders inside its class"),
          "%s", vit_error());
  }

  folder_of("classes");
  for (int i = 0; i < 257; i++) {
    snprintf(name, sizeof name, "classes/%d", i);
    folder_of(name);
  }
  folder_fails(path_of("classes"), &c, VIT_ERR_CONFIG,
               "%s holds 257 folders, one for each class; there may be at most 256");

  bad = c, bad.channels = 4;
  folder_fails(dir, &bad, VIT_ERR_CONFIG,
               "cannot make images of 8 x 8 x 4 (height, width, channels); there are 1 or "
               "3 channels, and sides from 1 to 4096");
  bad = c, bad.width = 5000;
  folder_fails(dir, &bad, VIT_ERR_CONFIG,
               "cannot make images of 8 x 5000 x 3 (height, width, channels); there are 1 "
               "or 3 channels, and sides from 1 to 4096");
  bad = c, bad.width = 9, bad.resize = 8;
  folder_fails(dir, &bad, VIT_ERR_CONFIG,
               "resize is 8, but 8 x 9 pixels are cut out; it must be from 9 to 4096, or 0 "
               "for the smallest that will do");
  bad = c, bad.filter = filter_of(7);
  folder_fails(dir, &bad, VIT_ERR_CONFIG,
               "filter 7 is not known; there are VIT_BILINEAR and VIT_BICUBIC");
}

static void test_folder_no_memory(void) {
  const char *dir = folder_of("few");
  vit_folder_config c = small_config(3, 4, 4);
  vit_dataset d;
  vit_result r = VIT_ERR_NO_MEMORY;
  int at = 0, said = 0;
  folder_of("few/a");
  folder_of("few/b");
  picture("rgb.png", "few/a/1");
  picture("smooth.jpg", "few/a/2");
  picture("grey.png", "few/b/1");
#ifdef _OPENMP
  omp_set_num_threads(1); /* allocations in one order */
#endif
  while (r && ++at < 500) {
    heap.fail_at = at;
    r = vit_dataset_folder(&d, dir, &c);
    CHECK(!r || (!d.pixels && !d.names && (r == VIT_ERR_NO_MEMORY ||
                                           strstr(vit_error(), "none of the 1 files"))),
          "allocation %d: %s", at, vit_error());
    said += r == VIT_ERR_NO_MEMORY;
    if (!r) {
      CHECK(d.count + d.skipped == 3, "allocation %d: %d images", at, d.count);
      vit_dataset_free(&d);
      if (heap.calls >= at) r = VIT_ERR_NO_MEMORY; /* it could do without */
    }
    no_leak("no memory");
  }
  CHECK(at > 20 && at < 500 && said > 20, "%d allocations, %d said so", at, said);
}
#endif

/* ---- a held-back part, mean and std -------------------------------------- */

static uint8_t *own(size_t n) {
  uint8_t *p = (uint8_t *)test_malloc(n);
  if (!p) exit(1);
  memset(p, 0, n);
  return p;
}

/* 3 classes of 50, 30 and 21 images, mixed; the pixels tell which image it is. */
static vit_dataset mixed(void) {
  vit_dataset d;
  memset(&d, 0, sizeof d);
  d.count = 101;
  d.channels = 3;
  d.height = 1;
  d.width = 2;
  d.classes = 3;
  for (int c = 0; c < 3; c++) d.std[c] = 0.25f, d.mean[c] = 0.5f;
  d.pixels = own(101 * 6);
  d.labels = own(101);
  d.names = (char(*)[VIT_NAME_SIZE])own(3 * VIT_NAME_SIZE);
  for (int k = 0; k < 3; k++) d.names[k][0] = (char)('a' + k);
  for (int i = 0; i < 101 * 6; i++) d.pixels[i] = (uint8_t)(i / 6 + i % 6);
  for (int i = 0; i < 101; i++)
    d.labels[i] = (uint8_t)(i % 2 == 0 && i < 100 ? 0 : i < 60 ? 1 : 2);
  strcpy(d.source, "101 pictures");
  return d;
}

static void check_part(const vit_dataset *d, int *seen, const vit_dataset *all) {
  int last = -1;
  for (int i = 0; i < d->count; i++) {
    const int from = d->pixels[i * 6];
    CHECK(from > last, "image %d after %d", from, last);
    CHECK(from < 101 && d->labels[i] == all->labels[from] &&
              !memcmp(d->pixels + i * 6, all->pixels + from * 6, 6),
          "image %d is damaged", from);
    seen[from]++;
    last = from;
  }
  CHECK(d->channels == 3 && d->height == 1 && d->width == 2 && d->classes == 3 &&
            d->mean[1] == 0.5f && d->std[2] == 0.25f && !strcmp(vit_class_name(d, 2), "c"),
        "the part is not like the whole");
}

static void test_split(void) {
  const vit_dataset all = mixed();
  int often[101] = {0};
  for (int seed = 0; seed < 200; seed++) {
    /* 10 of 101: 4.95, 2.97 and 2.08, so 5, 3 and 2 */
    int seen[101] = {0}, counts[3] = {0};
    vit_dataset d = mixed(), held;
    CHECK(!vit_dataset_split(&d, 10, (uint64_t)seed, &held), "%s", vit_error());
    CHECK(d.count == 91 && held.count == 10, "%d and %d", d.count, held.count);
    check_part(&d, seen, &all);
    check_part(&held, seen, &all);
    for (int i = 0; i < 101; i++) CHECK(seen[i] == 1, "image %d: %d times", i, seen[i]);
    for (int i = 0; i < 10; i++) counts[held.labels[i]]++, often[held.pixels[i * 6]]++;
    CHECK(counts[0] == 5 && counts[1] == 3 && counts[2] == 2, "%d, %d, %d", counts[0],
          counts[1], counts[2]);
    CHECK(!strcmp(held.source, "10 of 101 held back from 101 pictures") &&
              !strcmp(d.source, "91 of 101 left of 101 pictures"),
          "%s; %s", held.source, d.source);
    if (seed == 7) { /* the same seed again */
      vit_dataset e = mixed(), same;
      CHECK(!vit_dataset_split(&e, 10, 7, &same) && !memcmp(same.pixels, held.pixels, 60),
            "the same seed gives others");
      vit_dataset_free(&e);
      vit_dataset_free(&same);
    }
    vit_dataset_free(&d);
    vit_dataset_free(&held);
  }
  for (int i = 0; i < 101; i++) /* 20 times, give or take 4.2 */
    CHECK(often[i] >= 3 && often[i] <= 40, "image %d: %d of 200 times", i, often[i]);
  for (int n = 1; n < 101; n++) { /* the sum is always exact */
    vit_dataset d = mixed(), held;
    CHECK(!vit_dataset_split(&d, n, 1, &held) && held.count == n && d.count == 101 - n,
          "%d: %s", n, vit_error());
    vit_dataset_free(&d);
    vit_dataset_free(&held);
  }
  test_free(all.pixels);
  test_free(all.labels);
  test_free(all.names);
  no_leak("split");
}

static void test_split_errors(void) {
  static const int wrong[] = {0, -1, 101, 1000};
  char text[200];
  vit_dataset d = mixed(), held;
  for (int i = 0; i < 4; i++) {
    snprintf(text, sizeof text, "cannot hold back %d of 101 images; it must be at least 1, "
                                "and at least 1 must stay", wrong[i]);
    fails(vit_dataset_split(&d, wrong[i], 1, &held), VIT_ERR_CONFIG, text, "");
    CHECK(!held.pixels && d.count == 101, "it changed");
  }
  for (int at = 1; at <= 3; at++) {
    heap.calls = 0;
    heap.fail_at = at;
    CHECK(vit_dataset_split(&d, 5, 1, &held) == VIT_ERR_NO_MEMORY && !held.pixels &&
              d.count == 101 && !strcmp(d.source, "101 pictures"),
          "%s", vit_error());
  }
  heap.fail_at = 0;
  vit_dataset_free(&d);
  no_leak("split");
}

static void test_normalize(void) {
  uint8_t pixels[] = {0, 255, 10, 10, 100, 100, 255, 0, 20, 30, 100, 100};
  vit_dataset from, d;
  memset(&from, 0, sizeof from);
  from.count = from.width = 2;
  from.channels = 3;
  from.height = 1;
  from.pixels = pixels;
  memset(&d, 0, sizeof d);
  d.channels = 3;
  CHECK(!vit_dataset_normalize(&d, &from), "%s", vit_error());
  CHECK(fabs((double)d.mean[0] - 0.5) < 1e-7 && fabs((double)d.std[0] - 0.5) < 1e-7,
        "%g, %g", (double)d.mean[0], (double)d.std[0]);
  CHECK(fabs((double)d.mean[1] - 17.5 / 255) < 1e-7 &&
            fabs((double)d.std[1] - sqrt(68.75) / 255) < 1e-7,
        "%g, %g", (double)d.mean[1], (double)d.std[1]);
  CHECK(fabs((double)d.mean[2] - 100.0 / 255) < 1e-7 && d.std[2] == 1, "%g, %g",
        (double)d.mean[2], (double)d.std[2]);
  CHECK(from.std[0] == 0 && !vit_dataset_normalize(&from, &from) && from.std[2] == 1,
        "by itself");
  d.channels = 1;
  fails(vit_dataset_normalize(&d, &from), VIT_ERR_CONFIG,
        "cannot normalise images of 1 channels by 2 images of 3; the channels must agree, 1 "
        "to 3 of them", "");
}

int main(void) {
  snprintf(folder, sizeof folder, "build/test_12_photos_%ld", (long)getpid());
  if (vit_make_dir(path_of("")) ||
      vit_safetensors_open(&fixture, "tests/fixtures/photos.safetensors")) {
    printf("%s\n", vit_error());
    return 1;
  }
  heap.live = 0; /* the fixture stays open */
  RUN(test_class_names);
  RUN(test_cifar);
  RUN(test_cifar_errors);
  RUN(test_resize);
  RUN(test_resize_errors);
#ifdef VIT_HAVE_STB
  RUN(test_pictures);
  RUN(test_orientation);
  RUN(test_hostile_exif);
  RUN(test_exif_bounds);
  RUN(test_picture_errors);
  RUN(test_picture_fuzz);
  RUN(test_png);
  RUN(test_bmp);
  RUN(test_pnm);
  RUN(test_tga);
  RUN(test_gif);
  RUN(test_jpeg);
  RUN(test_jpeg_codes);
  RUN(test_picture_no_memory);
  RUN(test_crop);
  RUN(test_folder);
  RUN(test_folder_threads);
  RUN(test_folder_errors);
  RUN(test_folder_no_memory);
#else
  RUN(test_no_stb);
#endif
  RUN(test_split);
  RUN(test_split_errors);
  RUN(test_normalize);
  vit_safetensors_close(&fixture);
  remove_all();
  return test_end("12_photos");
}
