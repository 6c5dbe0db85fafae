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
      CHECK(at > 10, "only %d allocations", at);
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
      CHECK(n < 3 || vit__scan_jpeg(end - n, n, &turn) == (n == whole.size), "%d bytes",
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
  fails(vit_image_load("a.png", 2, &pixels, &h, &w), VIT_ERR_CONFIG,
        "channels is 2; a picture has 1 (grey) or 3 (RGB)", "");
  image_fails(write_file("bad.png", "", 0), VIT_ERR_FORMAT,
              "cannot read %s as a picture (unknown image type); remove it, or get it "
              "as a PNG or JPEG");
  image_fails(write_file("bad.png", "hello, this is no picture", 25), VIT_ERR_FORMAT,
              "cannot read %s as a picture (unknown image type); remove it, or get it "
              "as a PNG or JPEG");
  for (size_t n = 0; n + 12 < png.count; n++) { /* the end marker is not needed */
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

/* Any bytes at all: they may be read or not, but nothing may crash or leak. JPEG is
   not among them: stb_image 2.27 writes outside its Huffman table for some. */
static void test_picture_fuzz(void) {
  static const char *const files[] = {"file/rgb.png", "file/palette.gif", "file/rgb.bmp",
                                      "file/one_bit.png"};
  vit_rng rng = vit_rng_create(4, 1);
  for (int i = 0; i < (test_quick() ? 500 : 3000); i++) {
    vit_safetensor t = tensor(files[i % 4]);
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
