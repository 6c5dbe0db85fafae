/* Files: IDX plain and gzip, Pillow's resize, safetensors; good ones, and
   every way of being broken. A broken file gets a sentence, never a crash. */
#if !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE)
#define _POSIX_C_SOURCE 200809L /* setenv */
#endif
#include "files.h"
#ifndef _WIN32
#include <sys/wait.h>
#endif

/* ---- several writers of one file ----------------------------------------- */

enum { WRITTEN = 30000 };
/* A file whose numbers are all the same, a different one each time. */
static vit_result write_number(const char *path, int number) {
  float *values = (float *)malloc(WRITTEN * sizeof(float));
  vit_safetensor t;
  vit_result r;
  memset(&t, 0, sizeof t);
  t.name = "numbers";
  t.dims = 1;
  t.count = WRITTEN - (size_t)(number % 7) * 1000;
  t.shape[0] = (int)t.count;
  memcpy(t.type, "F32", 4);
  t.data = values;
  if (!values) return VIT_ERR_NO_MEMORY;
  for (size_t i = 0; i < t.count; i++) values[i] = (float)number;
  r = vit_safetensors_write(path, &t, 1, NULL);
  free(values);
  return r;
}

/* 1: a whole file, and one writer's alone. */
static int read_number(const char *path) {
  vit_safetensors f;
  vit_safetensor t;
  int ok = !vit_safetensors_open(&f, path) && !vit_safetensors_find(&f, "numbers", &t);
  for (size_t i = 1; ok && i < t.count; i++)
    ok = !memcmp((const char *)t.data, (const char *)t.data + 4 * i, 4);
  vit_safetensors_close(&f);
  return ok;
}

static void test_two_processes_write(void) {
#ifdef _WIN32
  SKIP("no fork");
#else
  const int reads = test_quick() ? 150 : 600;
  const char *path = path_of("written.safetensors");
  int refused = 0, status;
  pid_t child[2];
  CHECK(!write_number(path, 1), "%s", vit_error());
  for (int c = 0; c < 2; c++) {
    child[c] = fork();
    if (!CHECK(child[c] >= 0, "no fork")) return;
    if (child[c]) continue;
    for (int i = 0; i < 100000 && getppid() != 1; i++)
      if (write_number(path, 2 * i + c)) _exit(1);
    _exit(0);
  }
  for (int i = 0; i < reads; i++) refused += !read_number(path);
  CHECK(!refused, "%d of %d reads were refused, or torn: %s", refused, reads, vit_error());
  for (int c = 0; c < 2; c++) {
    kill(child[c], SIGTERM);
    waitpid(child[c], &status, 0);
    CHECK(WIFSIGNALED(status), "writer %d failed", c);
  }
  CHECK(rests(path, 1) <= 2, "more than what the two were writing is left");
  remove(path);
  no_leak("two processes");
#endif
}

static void test_two_threads_write(void) {
#ifndef _OPENMP
  SKIP("no OpenMP");
#else
  const int rounds = test_quick() ? 50 : 200;
  const char *path = path_of("written.safetensors");
  int refused = 0, failed = 0, done = 0;
  CHECK(!write_number(path, 1), "%s", vit_error());
#pragma omp parallel for num_threads(3) schedule(static) reduction(+ : refused, failed)
  for (int t = 0; t < 3; t++) {
    if (t == 2)
      while (__sync_add_and_fetch(&done, 0) < 2) refused += !read_number(path);
    else
      for (int i = 0; i < rounds; i++) failed += write_number(path, 2 * i + t) != VIT_OK;
    __sync_add_and_fetch(&done, 1);
  }
  CHECK(!refused && !failed, "%d reads and %d writes were refused", refused, failed);
  CHECK(!rests(path, 1), "a temporary file is left");
  remove(path);
  no_leak("two threads");
#endif
}

/* What a crash left behind is in nobody's way, and stays what it is. */
static void test_rests(void) {
#ifdef _WIN32
  SKIP("other numbers of processes");
#else
  const char *path = path_of("written.safetensors");
  char old[300], name[100];
  for (int i = 0; i < 3; i++) {
    snprintf(name, sizeof name, "written.safetensors.%ld-%d.tmp", (long)getpid(), i);
    if (i == 1)
      folder_of(name);
    else
      write_file(name, "a rest", 6);
  }
  CHECK(!write_number(path, 5) && read_number(path), "%s", vit_error());
  CHECK(rests(path, 0) == 3, "%d rests", rests(path, 0));
  snprintf(old, sizeof old, "%s.tmp", path); /* the name of older versions */
  folder_of("written.safetensors.tmp");
  CHECK(!write_number(path, 6) && read_number(path), "%s", vit_error());
  CHECK(rests(path, 1) == 4 && !rests(path, 0), "the rests");
  remove(path);
  no_leak("rests");
#endif
}

/* ---- bytes of a file ----------------------------------------------------- */

enum { MOST_BYTES = 4096 };
typedef struct { unsigned char at[MOST_BYTES]; size_t size; } bytes;

static void put8(bytes *b, int v) { b->at[b->size++] = (unsigned char)v; }
static void put_big32(bytes *b, uint32_t v) {
  for (int i = 24; i >= 0; i -= 8) put8(b, (int)(v >> i & 255));
}
static void put_little32(bytes *b, uint32_t v) {
  for (int i = 0; i <= 24; i += 8) put8(b, (int)(v >> i & 255));
}

/* IDX files of `count` images, 3 x 4, and their labels. */
static bytes idx_images(int count) {
  bytes b;
  b.size = 0;
  put_big32(&b, 2051);
  put_big32(&b, (uint32_t)count);
  put_big32(&b, 3);
  put_big32(&b, 4);
  for (int i = 0; i < count * 12; i++) put8(&b, i * 7 % 256);
  return b;
}

static bytes idx_labels(int count) {
  bytes b;
  b.size = 0;
  put_big32(&b, 2049);
  put_big32(&b, (uint32_t)count);
  for (int i = 0; i < count; i++) put8(&b, (i * 3 + 1) % 10);
  return b;
}

/* A gzip file that stores its bytes as they are: RFC 1952, RFC 1951 3.2.4. */
static bytes gzip(const bytes *b, int flags) {
  bytes z;
  uint32_t crc = 0xFFFFFFFFu;
  z.size = 0;
  put8(&z, 0x1F);
  put8(&z, 0x8B);
  put8(&z, 8); /* deflate */
  put8(&z, flags);
  put_little32(&z, 0); /* time */
  put8(&z, 0);
  put8(&z, 255); /* unknown system */
  if (flags & 4) { /* an extra field of three bytes */
    put8(&z, 3);
    put8(&z, 0);
    for (int i = 0; i < 3; i++) put8(&z, 0);
  }
  for (int bit = 8; bit <= 16; bit *= 2) /* name, comment */
    for (int i = 0; (flags & bit) && i < 7; i++) put8(&z, "a name"[i]);
  if (flags & 2) { /* checksum of the header */
    put8(&z, 1);
    put8(&z, 2);
  }
  put8(&z, 1); /* the last block, stored */
  put8(&z, (int)(b->size & 255));
  put8(&z, (int)(b->size >> 8));
  put8(&z, (int)(~b->size & 255));
  put8(&z, (int)(~b->size >> 8 & 255));
  for (size_t i = 0; i < b->size; i++) {
    put8(&z, b->at[i]);
    crc ^= b->at[i];
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  }
  put_little32(&z, ~crc);
  put_little32(&z, (uint32_t)b->size);
  return z;
}

static int check_small_dataset(const vit_dataset *d, int count) {
  int ok = CHECK(d->count == count && d->channels == 1 && d->height == 3 &&
                     d->width == 4 && d->classes == 10,
                 "%d images of %d x %d x %d", d->count, d->channels, d->height,
                 d->width);
  for (int i = 0; ok && i < count * 12; i++)
    ok = CHECK(d->pixels[i] == i * 7 % 256, "pixel %d is %d", i, d->pixels[i]);
  for (int i = 0; ok && i < count; i++)
    ok = CHECK(d->labels[i] == (i * 3 + 1) % 10, "label %d is %d", i, d->labels[i]);
  return ok;
}

/* ---- IDX ----------------------------------------------------------------- */

static void test_idx(void) {
  bytes x = idx_images(5), y = idx_labels(5);
  const char *images = write_file("images", x.at, x.size);
  const char *labels = write_file("labels", y.at, y.size);
  vit_dataset d;
  CHECK(!vit_dataset_idx(&d, images, labels, 10), "%s", vit_error());
  check_small_dataset(&d, 5);
  CHECK(d.mean[0] == 0 && d.std[0] == 1 && d.std[2] == 1, "mean and std");
  vit_dataset_limit(&d, 9);
  vit_dataset_limit(&d, 0);
  CHECK(d.count == 5, "limited to %d", d.count);
  vit_dataset_limit(&d, 2);
  CHECK(d.count == 2, "limited to %d", d.count);
  vit_dataset_free(&d);
  CHECK(!d.pixels && !d.count, "the dataset is not empty");
  vit_dataset_free(&d);
  no_leak("a dataset");
}

static void idx_fails(const bytes *x, const bytes *y, int classes, vit_result want,
                      const char *sentence, int in_labels) {
  vit_dataset d;
  const char *images = write_file("images", x->at, x->size);
  const char *labels = write_file("labels", y->at, y->size);
  vit_result r = vit_dataset_idx(&d, images, labels, classes);
  fails(r, want, sentence, in_labels ? labels : images);
  CHECK(!d.pixels && !d.labels && !d.count, "a dataset is left");
  no_leak(sentence);
}

static void test_idx_errors(void) {
  const bytes x = idx_images(5), y = idx_labels(5), none = {{0}, 0};
  const vit_result bad = VIT_ERR_FORMAT;
  bytes b, c;
  vit_dataset d;
  char text[500];
  const char *missing = path_of("no-such-file"), *images;

  fails(vit_dataset_idx(&d, missing, missing, 10), VIT_ERR_FILE,
        "cannot open %s: No such file or directory", missing);
  images = write_file("images", x.at, x.size);
  fails(vit_dataset_idx(&d, images, missing, 10), VIT_ERR_FILE,
        "cannot open %s: No such file or directory", missing);
  CHECK(vit_dataset_idx(&d, folder, folder, 10) == VIT_ERR_FILE &&
            strstr(vit_error(), folder),
        "a folder: %s", vit_error());
  fails(vit_dataset_idx(&d, images, images, 0), VIT_ERR_CONFIG,
        "classes is 0; it must be from 1 to 256", "");
  fails(vit_dataset_idx(&d, images, images, 257), VIT_ERR_CONFIG,
        "classes is 257; it must be from 1 to 256", "");
  no_leak("missing files");

  idx_fails(&none, &y, 10, bad,
            "%s is not an IDX file of images: it starts with 0 instead of 2051", 0);
  idx_fails(&x, &none, 10, bad,
            "%s is not an IDX file of labels: it starts with 0 instead of 2049", 1);
  idx_fails(&y, &x, 10, bad,
            "%s is cut off: it has 13 bytes, its header alone needs 16", 0);
  idx_fails(&x, &x, 10, bad,
            "%s is not an IDX file of labels: it starts with 2051 instead of 2049", 1);
  for (b = x; b.size > 0; b.size--) { /* cut off at each length */
    bytes cut = b;
    cut.size--;
    if (cut.size < 4)
      snprintf(text, sizeof text, "%%s is not an IDX file of images: it starts with "
                                  "0 instead of 2051");
    else if (cut.size < 16)
      snprintf(text, sizeof text, "%%s is cut off: it has %d bytes, its header "
                                  "alone needs 16",
               (int)cut.size);
    else
      snprintf(text, sizeof text, "%%s should hold 60 bytes after its header, but "
                                  "holds %d; get it again",
               (int)cut.size - 16);
    idx_fails(&cut, &y, 10, bad, text, 0);
  }
  b = x;
  put8(&b, 0); /* one byte too many */
  idx_fails(&b, &y, 10, bad,
            "%s should hold 60 bytes after its header, but holds 61; get it again", 0);
  c = y;
  c.size--;
  idx_fails(&x, &c, 10, bad,
            "%s should hold 5 bytes after its header, but holds 4; get it again", 1);
  b = x;
  b.at[7] = 0;
  idx_fails(&b, &y, 10, bad, "%s says its dimension 0 is 0; it must be from 1 to 100000000", 0);
  b = x;
  memset(b.at + 4, 255, 12);
  idx_fails(&b, &y, 10, bad, "%s says its dimension 0 is 4294967295; it must be from 1 to 100000000", 0);
  b = x;
  b.at[10] = 0x20; /* 8195 rows */
  idx_fails(&b, &y, 10, bad, "%s says its dimension 1 is 8195; it must be from 1 to 4096", 0);
  b = x;
  b.at[4] = 5; /* 83886085 images of 4096 x 4096 */
  b.at[10] = b.at[14] = 16;
  b.at[11] = b.at[15] = 0;
  idx_fails(&b, &y, 10, bad,
            "%s should hold 1407374967439360 bytes after its header, but holds 60; "
            "get it again", 0);
  c = idx_labels(4);
  snprintf(text, sizeof text, "%s holds 5 images, but %s holds 4 labels",
           path_of("images"), path_of("labels"));
  idx_fails(&x, &c, 10, bad, text, 0);
  c = y; /* its labels: 1 4 7 0 3 */
  idx_fails(&x, &c, 7, bad,
            "label 7 of image 2 in %s is not a class from 0 to 6", 1);
  c.at[8 + 4] = 255;
  idx_fails(&x, &c, 10, bad,
            "label 255 of image 4 in %s is not a class from 0 to 9", 1);
}

/* Any bytes at all: it may fail, but it may not crash or leak. */
static void test_idx_fuzz(void) {
  const int rounds = test_quick() ? 200 : 1000;
  vit_rng rng = vit_rng_create(5, 1);
  for (int i = 0; i < rounds; i++) {
    bytes x = idx_images(3), y = idx_labels(3);
    int flips = 1 + (int)vit_random_below(&rng, 4);
    vit_dataset d;
    while (flips--) {
      bytes *b = vit_random_below(&rng, 3) ? &x : &y;
      b->at[vit_random_below(&rng, (uint32_t)b->size)] =
          (unsigned char)vit_random_u32(&rng);
    }
    if (vit_random_below(&rng, 4) == 0)
      x.size = vit_random_below(&rng, (uint32_t)x.size + 1);
    if (!vit_dataset_idx(&d, write_file("images", x.at, x.size),
                         write_file("labels", y.at, y.size), 10)) {
      int sum = 0;
      for (int p = 0; p < d.count * d.height * d.width; p++) sum += d.pixels[p];
      for (int p = 0; p < d.count; p++) CHECK(d.labels[p] < 10, "sum %d", sum);
    }
    vit_dataset_free(&d);
    no_leak("random bytes");
  }
}

/* ---- gzip ---------------------------------------------------------------- */

static void test_gzip(void) {
#ifndef VIT_HAVE_STB
  bytes x = idx_images(5), z = gzip(&x, 0);
  vit_dataset d;
  const char *path = write_file("images.gz", z.at, z.size);
  fails(vit_dataset_idx(&d, path, path, 10), VIT_ERR_FORMAT,
        "%s is compressed; unpack it with gunzip, or define "
        "STB_IMAGE_IMPLEMENTATION and include stb_image.h before vit.h", path);
  no_leak("gzip without stb_image");
#else
  /* 2 images of 3 x 4: zeros, then 255, 254, 3, then zeros; by gzip -9 */
  static const unsigned char packed[] = {
      31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 99, 96, 224, 96, 102, 96, 96,
      96, 2, 98, 16, 205, 194, 0, 7, 255, 255, 49, 35, 56, 12, 0, 180,
      151, 210, 159, 40, 0, 0, 0};
  bytes x = idx_images(5), y = idx_labels(5);
  const char *images, *labels;
  vit_dataset d;
  for (int flags = 0; flags < 32; flags++) {
    bytes zx = gzip(&x, flags & 30), zy = gzip(&y, 0);
    images = write_file("images.gz", zx.at, zx.size);
    labels = write_file("labels.gz", zy.at, zy.size);
    if (CHECK(!vit_dataset_idx(&d, images, labels, 10), "flags %d: %s", flags,
              vit_error()))
      check_small_dataset(&d, 5);
    vit_dataset_free(&d);
  }
  y = idx_labels(2);
  images = write_file("images.gz", packed, sizeof packed);
  labels = write_file("labels", y.at, y.size);
  if (CHECK(!vit_dataset_idx(&d, images, labels, 10), "%s", vit_error()))
    for (int i = 0; i < 24; i++)
      CHECK(d.pixels[i] == (i == 10 ? 255 : i == 11 ? 254 : i == 12 ? 3 : 0),
            "pixel %d is %d", i, d.pixels[i]);
  vit_dataset_free(&d);
  no_leak("gzip");
#endif
}

#ifdef VIT_HAVE_STB
/* b, cut into members of at most `each` bytes; then an empty one, as bgzip does,
   if that is asked for, and zeros. */
static bytes gzip_members(const bytes *b, size_t each, int flags, int empty, int zeros) {
  bytes z, part;
  z.size = part.size = 0;
  for (size_t at = 0; at < b->size || empty >= 0; at += each) {
    bytes member;
    part.size = 0;
    while (part.size < each && at + part.size < b->size) put8(&part, b->at[at + part.size]);
    if (at >= b->size && !empty--) break;
    member = gzip(&part, flags);
    memcpy(z.at + z.size, member.at, member.size);
    z.size += member.size;
  }
  while (zeros-- > 0) put8(&z, 0);
  return z;
}

static vit_result open_gzip(vit_dataset *d, const bytes *z, const bytes *y) {
  const char *images = write_file("images.gz", z->at, z->size);
  return vit_dataset_idx(d, images, write_file("labels", y->at, y->size), 10);
}
#endif

/* Several members, one after another, and zeros behind: what bgzip, pigz, tar and
   `cat` write. */
static void test_gzip_members(void) {
#ifndef VIT_HAVE_STB
  SKIP("stb_image.h was not found");
#else
  static const int each[] = {1, 7, 16, 60, 75, 76, 100};
  const bytes x = idx_images(5), y = idx_labels(5);
  vit_dataset d;
  for (int e = 0; e < 7; e++)
    for (int empty = 0; empty < 3; empty++)
      for (int zeros = 0; zeros < 12; zeros += zeros < 9 ? 1 : 300) {
        const bytes z = gzip_members(&x, (size_t)each[e], e % 2 ? 4 : 8, empty, zeros);
        if (CHECK(!open_gzip(&d, &z, &y), "members of %d bytes, %d empty ones, %d zeros: %s",
                  each[e], empty, zeros, vit_error()))
          check_small_dataset(&d, 5);
        vit_dataset_free(&d);
        no_leak("members");
      }
#endif
}

/* A member or two of 200 000 bytes: more than is guessed at first. */
static void test_gzip_large_members(void) {
#ifndef VIT_HAVE_STB
  SKIP("stb_image.h was not found");
#else
  enum { SIDE = 448, ALL = 16 + 2 * SIDE * SIDE };
  unsigned char *idx = (unsigned char *)malloc(ALL), *z = (unsigned char *)malloc(2 * ALL);
  const bytes y = idx_labels(2);
  if (!idx || !z) exit(1);
  for (int i = 0; i < ALL; i++) idx[i] = (unsigned char)(i / 64 * 7);
  memcpy(idx, "\0\0\10\3\0\0\0\2\0\0\1\300\0\0\1\300", 16);
  for (int members = 1; members < 4; members++) {
    size_t n = 0;
    vit_dataset d;
    for (int m = 0; m < members; m++) {
      const int from = m * (ALL / members), to = m + 1 < members ? from + ALL / members : ALL;
      bytes tail;
      memcpy(z + n, "\x1F\x8B\10\0\0\0\0\0\0\377", 10);
      n += 10;
      for (int at = from; at < to; at += 60000) { /* stored blocks */
        const int size = to - at < 60000 ? to - at : 60000;
        z[n++] = at + size == to;
        z[n++] = (unsigned char)(size & 255), z[n++] = (unsigned char)(size >> 8);
        z[n++] = (unsigned char)(~size & 255), z[n++] = (unsigned char)(~size >> 8 & 255);
        memcpy(z + n, idx + at, (size_t)size);
        n += (size_t)size;
      }
      tail.size = 0;
      put_little32(&tail, vit__crc32(idx + from, (size_t)(to - from)));
      put_little32(&tail, (uint32_t)(to - from));
      memcpy(z + n, tail.at, 8);
      n += 8;
    }
    CHECK(!vit_dataset_idx(&d, write_file("images.gz", z, n), write_file("labels", y.at, y.size), 10) &&
              d.count == 2 && !memcmp(d.pixels, idx + 16, 2 * SIDE * SIDE),
          "%d members: %s", members, vit_error());
    vit_dataset_free(&d);
    z[n / 2] ^= 4;
    CHECK(vit_dataset_idx(&d, write_file("images.gz", z, n), path_of("labels"), 10) == VIT_ERR_FORMAT,
          "%d members, a flipped bit", members);
  }
  free(idx);
  free(z);
  no_leak("large members");
#endif
}

/* Of several members, too, every cut and every flipped bit is noticed. */
static void test_gzip_broken_members(void) {
#ifndef VIT_HAVE_STB
  SKIP("stb_image.h was not found");
#else
  const bytes x = idx_images(2), y = idx_labels(2), good = gzip_members(&x, 20, 4, 1, 3);
  const size_t header = 15, member = header + 5 + 20 + 8; /* the two whole ones */
  vit_dataset d;
  bytes z = good;
  for (z.size = 0; z.size < good.size - 3 - 28; z.size++) {
    CHECK(open_gzip(&d, &z, &y), "cut off after %d bytes", (int)z.size);
    vit_dataset_free(&d);
  }
  for (size_t i = 0; i < 8 * (good.size - 3); i++) {
    const size_t in_member = i / 8 % member;
    z = good;
    z.at[i / 8] ^= (unsigned char)(1 << i % 8);
    if (!open_gzip(&d, &z, &y)) {
      CHECK(i / 8 >= 2 * member || (in_member >= 3 && in_member <= header), "bit %d was not noticed", (int)i);
      check_small_dataset(&d, 2);
    }
    vit_dataset_free(&d);
  }
  z = good;
  z.at[member - 1] ^= 1; /* the first one says that it is longer */
  CHECK(open_gzip(&d, &z, &y) == VIT_ERR_FORMAT, "%s", vit_error());
  z = good;
  put8(&z, 'x'); /* what follows is neither zeros nor a member */
  CHECK(open_gzip(&d, &z, &y) == VIT_ERR_FORMAT, "%s", vit_error());
  z = gzip(&x, 0);
  put8(&z, 'x');
  CHECK(open_gzip(&d, &z, &y) == VIT_ERR_FORMAT, "%s", vit_error());
  z = gzip_members(&x, 20, 0, 0, 0);
  z.at[10 + 5 + 20 + 8 + 15] ^= 64; /* in the second member */
  fails(open_gzip(&d, &z, &y), VIT_ERR_FORMAT,
        "%s is damaged: its bytes do not give the 20 bytes or the checksum that it promises; get it again",
        path_of("images.gz"));
  no_leak("broken members");
#endif
}

#ifdef VIT_HAVE_STB
static void gzip_fails(const bytes *z, const char *sentence) {
  vit_dataset d;
  const char *path = write_file("images.gz", z->at, z->size);
  fails(vit_dataset_idx(&d, path, path, 10), VIT_ERR_FORMAT, sentence, path);
  CHECK(!d.pixels && !d.count, "a dataset is left");
  no_leak(sentence);
}
#endif

static void test_gzip_errors(void) {
#ifndef VIT_HAVE_STB
  SKIP("stb_image.h was not found");
#else
  const char *differs = "%s is damaged: its bytes do not give the 76 bytes or "
                        "the checksum that it promises; get it again";
  const bytes x = idx_images(5), good = gzip(&x, 0);
  bytes y = idx_labels(5), z;
  unsigned char *long_file;
  vit_dataset d;
  z = good;
  z.at[40] ^= 1; /* a pixel */
  gzip_fails(&z, differs);
  z = good;
  z.at[z.size - 8] ^= 1; /* the checksum */
  gzip_fails(&z, differs);
  z = good;
  z.at[z.size - 1] ^= 1; /* the length: 16 MB more than deflate can give */
  gzip_fails(&z, "%s is a damaged gzip file");
  z = good;
  z.at[z.size - 4] ^= 1; /* one byte more */
  gzip_fails(&z, "%s is damaged: its bytes do not give the 77 bytes or the "
                 "checksum that it promises; get it again");
  for (z = good; z.size > 2; z.size--) { /* cut off at each length */
    bytes cut = z;
    cut.size--;
    CHECK(vit_dataset_idx(&d, write_file("images.gz", cut.at, cut.size),
                          folder, 10) == VIT_ERR_FORMAT,
          "%d bytes of a gzip file", (int)cut.size);
  }
  long_file = (unsigned char *)calloc(1, 4 << 20);
  if (long_file) {
    memcpy(long_file, good.at, 10); /* says that it has 2 GB, and is long enough for them */
    memcpy(long_file + (4 << 20) - 4, "\xFF\xFF\xFF\x7F", 4);
    fails(vit_dataset_idx(&d, write_file("images.gz", long_file, 4 << 20), folder, 10), VIT_ERR_FORMAT,
          "%s is too large to be unpacked here; unpack it with gunzip", path_of("images.gz"));
    free(long_file);
  }
  z = good;
  z.at[2] = 7; /* another method of compression */
  gzip_fails(&z, "%s is a damaged gzip file");
  z = good;
  z.at[3] = 0x80; /* unknown flags */
  gzip_fails(&z, "%s is a damaged gzip file");
  z = good;
  z.at[3] = 4; /* an extra field longer than the file */
  z.at[10] = z.at[11] = 255;
  gzip_fails(&z, "%s is a damaged gzip file");
  z = good;
  z.at[3] = 8; /* a name that does not end */
  memset(z.at + 10, 'a', z.size - 10);
  gzip_fails(&z, "%s is a damaged gzip file");
  z = good;
  z.at[1] = 0; /* not gzip at all */
  gzip_fails(&z, "%s is not an IDX file of images: it starts with 520095744 "
                 "instead of 2051");
  z = good;
  put8(&z, 1); /* something after the end */
  CHECK(vit_dataset_idx(&d, write_file("images.gz", z.at, z.size), folder, 10) ==
            VIT_ERR_FORMAT,
        "%s", vit_error());
  y.size = 0; /* the gzip file of an empty file */
  z = gzip(&y, 0);
  CHECK(vit_dataset_idx(&d, write_file("images.gz", z.at, z.size), folder, 10) ==
            VIT_ERR_FORMAT,
        "%s", vit_error());
  no_leak("the end of a gzip file");
  y = idx_labels(5);
  for (z = good; z.size-- > 0;) { /* cut off at each length */
    vit_result r = vit_dataset_idx(&d, write_file("images.gz", z.at, z.size),
                                   write_file("labels", y.at, y.size), 10);
    CHECK(r == VIT_ERR_FORMAT, "cut off after %d bytes: result %d", (int)z.size,
          (int)r);
    vit_dataset_free(&d);
    no_leak("a gzip file that was cut off");
  }
#endif
}

/* Each bit flipped: an error, or it did not matter. */
static void test_gzip_bits(void) {
#ifndef VIT_HAVE_STB
  SKIP("stb_image.h was not found");
#else
  const bytes x = idx_images(2), good = gzip(&x, 8);
  bytes y = idx_labels(2);
  int harmless = 0;
  for (size_t i = 0; i < good.size * 8; i++) {
    bytes z = good;
    vit_dataset d;
    z.at[i / 8] ^= (unsigned char)(1 << i % 8);
    if (!vit_dataset_idx(&d, write_file("images.gz", z.at, z.size),
                         write_file("labels", y.at, y.size), 10)) {
      harmless++;
      CHECK(i / 8 >= 3 && i / 8 < 18, "bit %d was not noticed", (int)i);
      check_small_dataset(&d, 2);
    }
    vit_dataset_free(&d);
    no_leak("a flipped bit");
  }
  CHECK(harmless > 48 && harmless < 120, "%d bits do not matter", harmless);
#endif
}

/* No memory for one of the blocks, stb_image's own among them. */
static void test_gzip_no_memory(void) {
#ifndef VIT_HAVE_STB
  SKIP("stb_image.h was not found");
#else
  const bytes x = idx_images(5), y = idx_labels(5), zx = gzip(&x, 0), zy = gzip(&y, 0);
  int n = 1;
  for (; n < 50; n++) {
    vit_dataset d;
    vit_result r;
    const char *images = write_file("images.gz", zx.at, zx.size);
    const char *labels = write_file("labels.gz", zy.at, zy.size);
    heap.calls = 0;
    heap.fail_at = n;
    r = vit_dataset_idx(&d, images, labels, 10);
    if (!r) CHECK(heap.calls < n, "allocation %d failed, and nobody saw it", n);
    if (!r) vit_dataset_free(&d);
    if (!r) break;
    CHECK(r == VIT_ERR_NO_MEMORY, "allocation %d: result %d, %s", n, (int)r,
          vit_error());
    no_leak("no memory");
  }
  CHECK(n > 4 && n < 50, "%d allocations", n - 1);
  no_leak("no memory");
#endif
}

/* ---- the folders of a dataset -------------------------------------------- */

static void test_mnist_folders(void) {
  const bytes x = idx_images(5), y = idx_labels(5);
  const char *top = folder_of("data"), *images;
  char text[700];
  vit_dataset d;
  snprintf(text, sizeof text,
           "found no train-images-idx3-ubyte (or .gz) in %s/mnist, %s or "
           "%s/digits; run `make data` in vit.h's folder and set VIT_DATA to its "
           "data/", top, top, top);
  fails(vit_dataset_mnist(&d, top, VIT_TRAIN), VIT_ERR_FILE, text, "");
  CHECK(!d.pixels && !d.count, "a dataset is left");
  snprintf(text, sizeof text,
           "found no t10k-images-idx3-ubyte (or .gz) in %s/mnist, %s or "
           "%s/digits; run `make data` in vit.h's folder and set VIT_DATA to its "
           "data/", top, top, top);
  fails(vit_dataset_mnist(&d, top, VIT_TEST), VIT_ERR_FILE, text, "");

  memset(text, 'd', 201);
  text[201] = '\0';
  fails(vit_dataset_mnist(&d, text, VIT_TEST), VIT_ERR_FILE,
        "the name of the folder of the data has 201 characters; it must have at most 200", "");

  folder_of("data/mnist");
  images = write_file("data/mnist/train-images-idx3-ubyte", x.at, x.size);
  fails(vit_dataset_mnist(&d, top, VIT_TRAIN), VIT_ERR_FILE,
        "found %s, but not its labels train-labels-idx1-ubyte (or .gz)", images);

  /* labels of other images do not count */
  folder_of("data/digits");
  write_file("data/digits/train-labels-idx1-ubyte", y.at, y.size);
  CHECK(vit_dataset_mnist(&d, top, VIT_TRAIN) == VIT_ERR_FILE,
        "images in mnist/ went with labels in digits/");
  vit_dataset_free(&d);

  write_file("data/mnist/train-labels-idx1-ubyte", y.at, y.size);
  CHECK(!vit_dataset_mnist(&d, top, VIT_TRAIN), "%s", vit_error());
  check_small_dataset(&d, 5);
  CHECK(!strncmp(d.source, "images in MNIST's files (not MNIST), 5 training images of 3 x 4, ", 65), "%s",
        d.source);
  vit_dataset_free(&d);
  no_leak("folders");
}

/* Data is called by its right name, whatever the folder: there is more than MNIST
   under MNIST's names of files. */
static void test_names_of_data(void) {
  static const char *const folders[] = {"/mnist", "", "/digits"};
  static const char *const mnist = "50419213143536172869", *const tests = "72104149590690159734";
  static const struct { const char *labels, *name; } sets[] = {
      {"90030275507991053379", "images in MNIST's files (not MNIST)"}, /* Fashion-MNIST */
      {"01234567890123456789", "images in MNIST's files (not MNIST)"},
      {"01234567891032547698", "drawn digits (not MNIST)"},
      {"01234567891032547699", "images in MNIST's files (not MNIST)"},
      {"5", "images in MNIST's files (not MNIST)"},
      {"5041921", "images in MNIST's files (not MNIST)"}};
  const char *top = folder_of("names");
  folder_of("names/mnist");
  folder_of("names/digits");
  for (int f = 0; f < 3; f++)
    for (int test = 0; test < 2; test++)
      for (int i = 0; i < 7; i++) {
        const char *text = i < 6 ? sets[i].labels : test ? tests : mnist;
        const char *want = i < 6 ? sets[i].name : "MNIST", *stem = test ? "t10k" : "train";
        const int n = (int)strlen(text);
        bytes x = idx_images(n), y = idx_labels(n);
        char images[100], labels[100];
        vit_dataset d;
        for (int k = 0; k < n; k++) y.at[8 + k] = (unsigned char)(text[k] - '0');
        snprintf(images, sizeof images, "names%s/%s-images-idx3-ubyte", folders[f], stem);
        snprintf(labels, sizeof labels, "names%s/%s-labels-idx1-ubyte", folders[f], stem);
        write_file(images, x.at, x.size);
        write_file(labels, y.at, y.size);
        CHECK(!vit_dataset_mnist(&d, top, test ? VIT_TEST : VIT_TRAIN), "%s", vit_error());
        CHECK(!strncmp(d.source, want, strlen(want)) && d.source[strlen(want)] == ',', "%s in %s: %s", text,
              folders[f], d.source);
        vit_dataset_free(&d);
        remove(path_of(images));
        remove(path_of(labels));
      }
  no_leak("names of data");
}

static void test_real_mnist(void) {
  static const int train_counts[10] = {5923, 6742, 5958, 6131, 5842,
                                       5421, 5918, 6265, 5851, 5949};
  static const int test_counts[10] = {980, 1135, 1032, 1010, 982,
                                      892, 958,  1028, 974,  1009};
  static const uint8_t first[2][10] = {{5, 0, 4, 1, 9, 2, 1, 3, 1, 4},
                                       {7, 2, 1, 0, 4, 1, 4, 9, 5, 9}};
  vit_dataset d;
  vit_result r = vit_dataset_mnist(&d, NULL, VIT_TEST);
  if (r == VIT_ERR_FILE || (r && strstr(vit_error(), "is compressed")))
    SKIP("MNIST is not in VIT_DATA, or compressed and there is no stb_image");
  if (!r && strncmp(d.source, "MNIST,", 6)) {
    vit_dataset_free(&d);
    SKIP("the data is not MNIST");
  }
  CHECK(!r, "%s", vit_error());
  for (int split = 0; split < 2; split++) {
    const int *want = split ? train_counts : test_counts;
    int counts[10] = {0}, total = split ? 60000 : 10000;
    double sum = 0, mean;
    if (split) {
      if (!CHECK(!vit_dataset_mnist(&d, NULL, VIT_TRAIN), "%s", vit_error())) return;
    }
    CHECK(d.count == total && d.height == 28 && d.width == 28 && d.channels == 1,
          "%d images of %d x %d", d.count, d.height, d.width);
    CHECK(!memcmp(d.labels, first[!split], 10), "the first labels");
    for (int i = 0; i < d.count; i++) counts[d.labels[i]]++;
    for (int k = 0; k < 10; k++)
      CHECK(counts[k] == want[k], "%d digits %d, expected %d", counts[k], k, want[k]);
    for (int i = 0; i < d.count * 784; i++) sum += d.pixels[i];
    mean = sum / 255 / 784 / total;
    CHECK(fabs(mean - (split ? 0.130660 : 0.132515)) < 2e-6, "mean %.6f", mean);
    if (!split) { /* the ends of the image stay where they are */
      CHECK(!vit_dataset_resize(&d, 32, 32) && d.height == 32 && d.width == 32, "%s",
            vit_error());
      sum = 0;
      for (int i = 0; i < d.count * 1024; i++) sum += d.pixels[i];
      CHECK(fabs(sum / 255 / 1024 / total - mean) < 1e-3, "resized mean %g",
            sum / 255 / 1024 / total);
    }
    vit_dataset_free(&d);
  }
  no_leak("MNIST");
}

/* ---- resize and batches -------------------------------------------------- */

/* Bytes that the fixture holds as floats. */
static uint8_t *fixture_bytes(const vit_safetensors *f, const char *name,
                              size_t *count) {
  vit_safetensor t;
  uint8_t *out;
  *count = 0;
  if (!CHECK(!vit_safetensors_find(f, name, &t), "%s", vit_error())) return NULL;
  out = (uint8_t *)malloc(t.count + 1);
  for (size_t i = 0; out && i < t.count; i++) {
    float v;
    memcpy(&v, (const unsigned char *)t.data + 4 * i, 4);
    out[i] = (uint8_t)v;
  }
  *count = t.count;
  return out;
}

/* Pillow's result, to the bit. More sizes are in test_12_photos.c. */
static void test_resize(void) {
  static const struct {
    const char *from, *to;
    int h, w, out_h, out_w;
  } cases[] = {{"resize/in_28", "resize/to_32", 28, 28, 32, 32},
               {"resize/in_28", "resize/to_20", 28, 28, 20, 20},
               {"resize/in_13x17", "resize/to_9x31", 13, 17, 9, 31}};
  vit_safetensors f;
  if (!CHECK(!vit_safetensors_open(&f, "tests/fixtures/kernels.safetensors"), "%s",
             vit_error()))
    return;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    size_t count, want_count, wrong = 0;
    uint8_t *from = fixture_bytes(&f, cases[i].from, &count);
    uint8_t *want = fixture_bytes(&f, cases[i].to, &want_count);
    vit_dataset d;
    if (!from || !want) return;
    memset(&d, 0, sizeof d);
    d.count = (int)count / (cases[i].h * cases[i].w);
    d.channels = 1;
    d.height = cases[i].h;
    d.width = cases[i].w;
    d.pixels = (uint8_t *)test_malloc(count);
    memcpy(d.pixels, from, count);
    CHECK(!vit_dataset_resize(&d, cases[i].out_h, cases[i].out_w), "%s", vit_error());
    CHECK(d.height == cases[i].out_h && d.width == cases[i].out_w && d.count == 4,
          "size %d x %d", d.height, d.width);
    CHECK(want_count == 4 * (size_t)(cases[i].out_h * cases[i].out_w), "sizes");
    for (size_t p = 0; p < want_count; p++) wrong += d.pixels[p] != want[p];
    CHECK(wrong == 0, "%s: %lu pixels differ from Pillow's", cases[i].to,
          (unsigned long)wrong);
    fails(vit_dataset_resize(&d, 0, 5), VIT_ERR_CONFIG,
          "cannot resize images to 0 x 5; sizes must be from 1 to 4096", "");
    fails(vit_dataset_resize(&d, 5, 5000), VIT_ERR_CONFIG,
          "cannot resize images to 5 x 5000; sizes must be from 1 to 4096", "");
    CHECK(d.height == cases[i].out_h && d.pixels != NULL, "it changed");
    vit_dataset_free(&d);
    free(from);
    free(want);
  }
  vit_safetensors_close(&f);
  no_leak("resize");
}

static void test_resize_edges(void) {
  const uint8_t one[1] = {200}, line[5] = {0, 50, 100, 150, 200};
  uint8_t out[64];
  CHECK(!vit_resize(out, one, 1, 1, 1, 8, 8, VIT_BILINEAR), "%s", vit_error());
  for (int i = 0; i < 64; i++) CHECK(out[i] == 200, "pixel %d is %d", i, out[i]);
  CHECK(!vit_resize(out, line, 1, 1, 5, 1, 1, VIT_BILINEAR) && out[0] == 100, "mean %d", out[0]);
  CHECK(!vit_resize(out, line, 1, 5, 1, 1, 1, VIT_BILINEAR) && out[0] == 100, "mean %d", out[0]);
  CHECK(!vit_resize(out, line, 1, 1, 5, 1, 5, VIT_BILINEAR) && !memcmp(out, line, 5), "same size");
  CHECK(vit_resize(out, line, 1, 1, 5, 1, 0, VIT_BILINEAR) == VIT_ERR_CONFIG &&
            strstr(vit_error(), "cannot resize 1 x 5 pixels to 1 x 0; sizes must be "
                                "from 1 to "),
        "%s", vit_error());
  CHECK(vit_resize(out, line, 1, -1, 5, 1, 3, VIT_BILINEAR) == VIT_ERR_CONFIG, "size -1");
  no_leak("resize");
}

static void test_batch(void) {
  uint8_t pixels[3 * 3 * 2], labels[3] = {7, 8, 9};
  const int order[2] = {2, 0};
  int names[2] = {0, 0};
  float images[2 * 3 * 2];
  vit_dataset d;
  memset(&d, 0, sizeof d);
  d.count = 3;
  d.channels = 3;
  d.height = 1;
  d.width = 2;
  d.pixels = pixels;
  d.labels = labels;
  for (int i = 0; i < 18; i++) pixels[i] = (uint8_t)(i * 14);
  for (int c = 0; c < 3; c++) {
    d.mean[c] = 0.25f * (float)c;
    d.std[c] = 0.5f + (float)c;
  }
  vit_dataset_batch(&d, order, 2, images, names);
  CHECK(names[0] == 9 && names[1] == 7, "labels %d, %d", names[0], names[1]);
  for (int i = 0; i < 12; i++) {
    int c = i % 6 / 2, from = order[i / 6] * 6 + i % 6;
    double want = (pixels[from] / 255.0 - 0.25 * c) / (0.5 + c);
    CHECK(fabs((double)images[i] - want) < 1e-6, "value %d is %g, not %g", i,
          (double)images[i], want);
  }
  names[0] = 1;
  vit_dataset_batch(&d, order, 1, images, NULL);
}

/* ---- folders and plots --------------------------------------------------- */

static void test_make_dir(void) {
  const char *file = write_file("a file", "x", 1);
  char long_name[600], inside[400];
  struct stat info;
  path_of("deep");
  path_of("deep/er");
  CHECK(!vit_make_dir(path_of("deep/er/still")), "%s", vit_error());
  CHECK(!stat(path_of("deep/er/still"), &info) && S_ISDIR(info.st_mode), "no folder");
  CHECK(!vit_make_dir(path_of("deep/er/still")), "again: %s", vit_error());
  snprintf(inside, sizeof inside, "%s/inside", file);
  fails(vit_make_dir(inside), VIT_ERR_FILE,
        "cannot make the folder %s: Not a directory", inside);
  CHECK(vit_make_dir(file) == VIT_ERR_FILE && strstr(vit_error(), "cannot make the "
                                                                  "folder "),
        "a file as a folder: %s", vit_error());
  memset(long_name, 'a', sizeof long_name - 1);
  long_name[sizeof long_name - 1] = '\0';
  fails(vit_make_dir(long_name), VIT_ERR_FILE,
        "a folder's name has 599 characters; it must have 1 to 511", "");
  fails(vit_make_dir(""), VIT_ERR_FILE,
        "a folder's name has 0 characters; it must have 1 to 511", "");
#ifdef __linux__ /* the kernel lets nobody make a folder there: its reason is told */
  if (!stat("/sys", &info) && !mkdir("/sys/vit-test", 0777)) {
    rmdir("/sys/vit-test");
  } else if (errno != EEXIST) {
    char sentence[200];
    snprintf(sentence, sizeof sentence, "cannot make the folder /sys/vit-test/x: %s", strerror(errno));
    fails(vit_make_dir("/sys/vit-test/x"), VIT_ERR_FILE, sentence, "");
  }
#endif
}

/* ---- safetensors --------------------------------------------------------- */

/* A file of a JSON header and `data` bytes. */
static bytes safetensors(const char *header, int data) {
  bytes b;
  size_t n = strlen(header);
  b.size = 0;
  put_little32(&b, (uint32_t)n);
  put_little32(&b, 0);
  memcpy(b.at + b.size, header, n);
  b.size += n;
  for (int i = 0; i < data; i++) put8(&b, i);
  return b;
}

static const char small_file[] =
    "{\"__metadata__\":{\"note\":\"a \\\"quoted\\\" \\u00e9\\n{[:,]}\",\"x\":\"1\"},"
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    " \"empty\" : {\"shape\": [0, 7],\n \"dtype\": \"I64\",\t\"data_offsets\":[24, 24] },"
    "\"one\":{\"data_offsets\":[24,26],\"dtype\":\"F16\",\"shape\":[]}}  ";

static vit_result open_bytes(vit_safetensors *f, const bytes *b) {
  return vit_safetensors_open(f, write_file("file.safetensors", b->at, b->size));
}

/* Everything that a reader may do with an open file; all inside its bytes. */
static void read_everything(const vit_safetensors *f) {
  vit_safetensor t, same;
  int sum = 0;
  for (int i = 0; vit_safetensors_at(f, i, &t); i++) {
    const unsigned char *p = (const unsigned char *)t.data;
    size_t bits = vit__type_bits(t.type), size = t.count * bits / 8;
    CHECK(bits > 0 && t.dims >= -1 && t.dims <= 8, "type %s", t.type);
    if (!CHECK(p >= f->bytes && p + size <= f->bytes + f->size &&
                   size <= f->size,
               "tensor %d is outside the file", i))
      return;
    for (size_t n = 0; n < size; n++) sum += p[n];
    CHECK(!vit_safetensors_find(f, t.name, &same), "%s", vit_error());
  }
  CHECK(sum >= 0, "%d", sum);
  vit_safetensors_metadata(f, "note");
}

static void test_safetensors(void) {
  const bytes b = safetensors(small_file, 26);
  vit_safetensors f;
  vit_safetensor t;
  const char *note;
  if (!CHECK(!open_bytes(&f, &b), "%s", vit_error())) return;
  note = vit_safetensors_metadata(&f, "note");
  CHECK(note && !strcmp(note, "a \"quoted\" \xc3\xa9\n{[:,]}"), "note: %s",
        note ? note : "none");
  note = vit_safetensors_metadata(&f, "x");
  CHECK(note && !strcmp(note, "1"), "x: %s", note ? note : "none");
  CHECK(!vit_safetensors_metadata(&f, "w"), "a tensor as metadata");
  CHECK(!vit_safetensors_find(&f, "w", &t) && t.dims == 2 && t.shape[0] == 2 &&
            t.shape[1] == 3 && t.count == 6 && !strcmp(t.type, "F32") &&
            ((const unsigned char *)t.data)[23] == 23,
        "w");
  CHECK(!vit_safetensors_find(&f, "empty", &t) && t.count == 0 && t.dims == 2, "empty");
  CHECK(!vit_safetensors_find(&f, "one", &t) && t.count == 1 && t.dims == 0 &&
            ((const unsigned char *)t.data)[1] == 25,
        "one");
  CHECK(vit_safetensors_at(&f, 2, &t) && !vit_safetensors_at(&f, 3, &t), "count");
  fails(vit_safetensors_find(&f, "x", &t), VIT_ERR_FORMAT,
        "the file has no tensor \"x\"", "");
  read_everything(&f);
  vit_safetensors_close(&f);
  vit_safetensors_close(&f);
  no_leak("safetensors");
}

/* A tensor of four bytes with this shape; one with another field. */
#define LONG "123456789 123456789 123456789 123456789 123456789 123456789 "
#define SHAPE(text) "{\"w\":{\"dtype\":\"F32\",\"shape\":" text ",\"data_offsets\":[0,4]}}"
#define MORE(text) SHAPE("[1],\"more\":" text)
#define TENSOR(name, type, shape, from, to) \
  "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

/* Valid, if unusual: what the reference implementation 0.8.0 opens. */
static void test_safetensors_valid(void) {
  static const struct { const char *header, *name, *type; int bytes, dims, count; } good[] = {
      {"{\"__metadata__\":null," TENSOR("w", "F32", "[1]", 0, 4) "}", "w", "F32", 4, 1, 1},
      {MORE("1"), "w", "F32", 4, 1, 1}, {MORE("-0.5e-3,\"more\":0e999"), "w", "F32", 4, 1, 1},
      {MORE("[null,true,false,\"\\ud83d\\ude42\",{\"a\":{}},[[]]] "), "w", "F32", 4, 1, 1},
      {SHAPE("[1,1,1,1,1,1,1,1]"), "w", "F32", 4, 8, 1},
      {SHAPE("[1,1,1,1,1,1,1,1,1]"), "w", "F32", 4, -1, 1},
      {"{" TENSOR("w", "I8", "[0,18446744073709551615]", 0, 0) "}", "w", "I8", 0, -1, 0},
      {"{" TENSOR("w", "I8", "[4294967296,0]", 0, 0) "}", "w", "I8", 0, -1, 0},
      {"{" TENSOR("w", "C64", "[2]", 0, 16) "}", "w", "C64", 16, 1, 2},
      {"{" TENSOR("w", "F8_E4M3FNUZ", "[2]", 0, 2) "}", "w", "F8_E4M3FNUZ", 2, 1, 2},
      {"{" TENSOR("w", "F8_E5M2", "[2]", 0, 2) "," TENSOR("v", "F32", "[]", 2, 6) "}", "v", "F32", 6, 0, 1},
      {"{" TENSOR("w", "F6_E3M2", "[4]", 0, 3) "}", "w", "F6_E3M2", 3, 1, 4},
      {"{" TENSOR("w", "F4", "[3,2]", 0, 3) "}", "w", "F4", 3, 2, 6},
      {"{" TENSOR("\\ud83d\\uDE42", "U8", "[1]", 0, 1) "}", "\xf0\x9f\x99\x82", "U8", 1, 1, 1},
      {"{" TENSOR("a\\u0000b", "U8", "[1]", 0, 1) "," TENSOR("a", "U8", "[1]", 1, 2) "}", "a\xc0\x80"
       "b", "U8", 2, 1, 1},
      {"{" TENSOR("b", "U8", "[2]", 2, 4) "," TENSOR("z", "U8", "[0]", 2, 2) "," TENSOR("a", "U8", "[2]", 0, 2) "}",
       "z", "U8", 4, 1, 0},
      {" {\"\\u0077\":{\"dt\\u0079pe\":\"BOOL\",\"shape\":[ 1 ],\"data_offsets\":[ 0 , 1 ]}}\r\n", "w", "BOOL", 1, 1, 1}};
  char deep[400], header[500];
  vit_safetensors f;
  vit_safetensor t;
  bytes b;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    b = safetensors(good[i].header, good[i].bytes);
    if (!CHECK(!open_bytes(&f, &b), "%s: %s", good[i].header, vit_error())) continue;
    CHECK(!vit_safetensors_find(&f, good[i].name, &t) && !strcmp(t.name, good[i].name) &&
              !strcmp(t.type, good[i].type) && t.dims == good[i].dims && t.count == (size_t)good[i].count,
          "%s: %d dimensions, %d elements", good[i].header, t.dims, (int)t.count);
    read_everything(&f);
    vit_safetensors_close(&f);
  }
  /* at() keeps the header's order, whatever the order of the data */
  b = safetensors(good[15].header, 4);
  CHECK(!open_bytes(&f, &b), "%s", vit_error());
  for (int i = 0; i < 3; i++)
    CHECK(vit_safetensors_at(&f, i, &t) && *t.name == "bza"[i], "tensor %d is %s", i, t.name);
  CHECK(!vit_safetensors_at(&f, -1, &t) && !vit_safetensors_at(&f, 3, &t), "a tensor too many");
  vit_safetensors_close(&f);
  /* arrays in arrays: 127 deep in all */
  for (int depth = 124; depth < 128; depth++) {
    memset(deep, '[', 400);
    memset(deep + depth, ']', (size_t)depth);
    deep[2 * depth] = '\0';
    snprintf(header, sizeof header, MORE("%s"), deep);
    b = safetensors(header, 4);
    CHECK(!open_bytes(&f, &b) == (depth <= 125), "%d arrays", depth);
    vit_safetensors_close(&f);
  }
  no_leak("valid");
}

/* A file of n tensors with long names in common: opened, and each one found. */
static double seconds_for(int n) {
  const double room = 110.0 * n + 100;
  char *at = (char *)malloc((size_t)room), *c = at + 8, name[40];
  clock_t start = clock();
  vit_safetensors f;
  vit_safetensor t;
  int found = 0;
  size_t header;
  if (!at) exit(1);
  for (int i = 0; i < n; i++)
    c += sprintf(c, "%s\"some.long.name.%d\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}",
                 i ? "," : "{", (int)((i * 7919LL) % n));
  *c++ = '}';
  header = (size_t)(c - at - 8);
  for (int i = 0; i < 8; i++) at[i] = (char)((uint64_t)header >> 8 * i);
  write_file("many.safetensors", at, header + 8);
  free(at);
  CHECK(!vit_safetensors_open(&f, path_of("many.safetensors")) && f.count == n, "%s", vit_error());
  for (int i = 0; i < n; i++) {
    snprintf(name, sizeof name, "some.long.name.%d", i);
    found += !vit_safetensors_find(&f, name, &t) && !strcmp(t.name, name) && vit_safetensors_at(&f, i, &t);
  }
  CHECK(found == n, "%d of %d", found, n);
  vit_safetensors_close(&f);
  return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* Eight times the tensors take about eight times as long, not 64 times. */
static void test_safetensors_many(void) {
  const double few = seconds_for(4001), many = seconds_for(32003);
  CHECK(many < 25 * few + 0.05, "4,001 tensors take %g s, 32,003 take %g s", few, many);
  no_leak("many");
}

static void test_safetensors_errors(void) {
  static const char *const bad[] = {
      "", " ", "[]", "{", "{\"w\"", "{\"w\":", "{\"w\":{}}", "{\"w\":[]}", "{w:1}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}",   /* no end */
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},}", /* comma */
      "{\"w:{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",    /* quote */
      "{\"w\":{\"dtype\":F32,\"shape\":[1],\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1e1],\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1,],\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}",
      "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}",
      "{\"w\":{\"shape\":[1],\"data_offsets\":[0,4]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}",
      "{\"__metadata__\":{\"a\":1}}", "{\"__metadata__\":{\"a\"}}",
      "{\"__metadata__\":[]}", "{\"__metadata__\":{\"a\":\"\\x\"}}",
      "{\"__metadata__\":{\"a\":\"\\u12g4\"}}", "{\"__metadata__\":{\"a\":\"\\",
      "{\"__metadata__\":{},\"__metadata__\":{}}", "{\"__metadata__\":null,\"__metadata__\":{}}",
      "{\"__metadata__\":{\"a\":null}}", "{\"__metadata__\":nul}", "{\"__metadata__\":{\"a\":\"\\ud83d\"}}",
      "{\"__metadata__\":{\"a\":\"\\ud83d\\u0041\"}}", "{\"__metadata__\":{\"a\":\"\\ude42\\ud83d\"}}",
      "{\"__metadata__\":{\"a\":\"\\ud83d\\n\"}}", "{\"__metadata__\":{\"a\":\"\\ud83d",
      "{\"__metadata__\":{\"a\":\"\x01\"}}", "{\"__metadata__\":{\"a\":\"\n\"}}",
      "{\"__metadata__\":{\"a\":\"\xff\"}}", "{\"__metadata__\":{\"a\":\"\xc0\x80\"}}",
      "{\"__metadata__\":{\"a\":\"\xe0\x9f\xbf\"}}", "{\"__metadata__\":{\"a\":\"\xed\xa0\x80\"}}",
      "{\"__metadata__\":{\"a\":\"\xf4\x90\x80\x80\"}}", "{\"__metadata__\":{\"a\":\"\xf9\x80\x80\x80\"}}",
      "{\"__metadata__\":{\"a\":\"\xe2\x82", "\xef\xbb\xbf{}", "{}{}", "null", "{\"w\":null}", "{,}",
      SHAPE("[01]"), SHAPE("[-0]"), SHAPE("[+1]"), SHAPE("[1 1]"), SHAPE("[,1]"), SHAPE("[0x1]"), SHAPE("[1]]"),
      SHAPE("[18446744073709551616]"), SHAPE("null"), SHAPE("[1],\"shape\":[1]"), MORE("01"), MORE("1."),
      MORE(".5"), MORE("-"), MORE("1e"), MORE("1e+"), MORE("1e999"), MORE("+1"), MORE("NaN"), MORE("nul"),
      MORE("[1,]"), MORE("{\"a\":1,}"), MORE("{1:1}"), MORE("[1}"), MORE("\"\\ud800\""), MORE("")};
  static const struct { const char *header, *sentence; } wrong[] = {
      {"{\"w\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}",
       "%s: tensor w has type F99, which is not known"},
      {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}}",
       "%s: tensor w needs 4 bytes, but is said to be at 0 to 5 of 16"},
      {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}",
       "%s: tensor w needs 4 bytes, but is said to be at 4 to 0 of 16"},
      {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[13,17]}}",
       "%s: tensor w needs 4 bytes, but is said to be at 13 to 17 of 16"},
      {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2147483647,2147483647,2147483647],"
       "\"data_offsets\":[0,16]}}",
       NULL},
      {"{\"w\":{\"dtype\":\"F64\",\"shape\":[2147483647,2147483647,2,2,2,2,2,2],"
       "\"data_offsets\":[0,16]}}", NULL},
      {SHAPE("[99999999999]"), "%s: tensor w needs 399999999996 bytes, but is said to be at 0 to 4 of 16"},
      {"{" TENSOR("w", "F32", "[]", 0, 999999999999999) "}",
       "%s: tensor w needs 4 bytes, but is said to be at 0 to 999999999999999 of 16"},
      {"{" TENSOR("w", "I8", "[4294967296,4294967296,0]", 0, 0) "}", NULL},
      {"{" TENSOR("w", "F4", "[3]", 0, 1) "}", "%s: tensor w needs 1.5 bytes, but is said to be at 0 to 1 of 16"},
      {"{" TENSOR("w", "F8_E4M3FNUZX", "[1]", 0, 1) "}", "%s: tensor w has type F8_E4M3FNUZX, which is not known"},
      {"{" TENSOR("w", "F32", "[1]", 0, 4) "}", "%s: bytes 4 to 16 of its data belong to no tensor"},
      {"{}", "%s: bytes 0 to 16 of its data belong to no tensor"},
      {"{" TENSOR("w", "F32", "[2]", 0, 8) "," TENSOR("v", "F32", "[1]", 12, 16) "}",
       "%s: bytes 8 to 12 of its data belong to no tensor"},
      {"{" TENSOR("w", "F32", "[3]", 4, 16) "," TENSOR("v", "F32", "[2]", 0, 8) "}",
       "%s: bytes 4 to 8 of its data belong to two tensors"},
      {"{" TENSOR("w", "F64", "[2]", 0, 16) "," TENSOR("v", "F64", "[2]", 0, 16) "}",
       "%s: bytes 0 to 16 of its data belong to two tensors"},
      {"{" TENSOR("w", "F64", "[1]", 0, 8) "," TENSOR("\\u0077", "F64", "[1]", 8, 16) "}",
       "%s: \"w\" is there twice"},
      {"{\"__metadata__\":{\"a\":\"\",\"\\u0061\":\"\"}," TENSOR("w", "F64", "[2]", 0, 16) "}",
       "%s: \"a\" is there twice"},
      {"{" TENSOR(LONG "x", "F99", "[1]", 0, 8) "}", "%s: tensor " LONG "... has type F99, which is not known"}};
  vit_safetensors f;
  bytes b;
  char *deep;
  const char *path = path_of("file.safetensors");
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[200];
    snprintf(text, sizeof text, "%s: its header is not the JSON of safetensors near "
                                "byte ", path);
    b = safetensors(bad[i], 16);
    CHECK(open_bytes(&f, &b) == VIT_ERR_FORMAT &&
              !strncmp(vit_error(), text, strlen(text)),
          "%s: \"%s\"", bad[i], vit_error());
    CHECK(!f.bytes && !f.entries && !f.count, "%s: a file is left", bad[i]);
    no_leak(bad[i]);
  }
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    vit_result r;
    b = safetensors(wrong[i].header, 16);
    r = open_bytes(&f, &b);
    if (wrong[i].sentence) fails(r, VIT_ERR_FORMAT, wrong[i].sentence, path);
    CHECK(r == VIT_ERR_FORMAT && !f.bytes, "%s", wrong[i].header);
    no_leak(wrong[i].header);
  }
  fails(vit_safetensors_open(&f, path_of("no-such-file")), VIT_ERR_FILE,
        "cannot open %s: No such file or directory", path_of("no-such-file"));
  CHECK(vit_safetensors_open(&f, folder) == VIT_ERR_FILE, "a folder: %s", vit_error());

  /* the length of the header: cut off, absurd */
  b = safetensors("{}", 0);
  b.size = 7;
  CHECK(open_bytes(&f, &b) == VIT_ERR_FORMAT, "7 bytes");
  b = safetensors("{}", 0);
  b.at[0] = 3;
  fails(open_bytes(&f, &b), VIT_ERR_FORMAT,
        "%s is not a safetensors file, or is cut off: its header should have 3 bytes "
        "(at most 1e8), the file has 10", path);
  memset(b.at, 255, 8);
  fails(open_bytes(&f, &b), VIT_ERR_FORMAT,
        "%s is not a safetensors file, or is cut off: its header should have "
        "18446744073709551616 bytes (at most 1e8), the file has 10", path);
  b = safetensors("{}", 0);
  CHECK(!open_bytes(&f, &b) && f.count == 0, "an empty header: %s", vit_error());
  vit_safetensors_close(&f);

  /* nested too deep for any recursion */
  deep = (char *)malloc(1000001);
  if (deep) {
    const unsigned char length[8] = {0x40, 0x42, 0x0F, 0, 0, 0, 0, 0}; /* a million */
    for (int kind = 0; kind < 2; kind++) {
      for (int i = 0; i < 1000000; i++) deep[i] = kind ? "{\"a\":"[i % 5] : '[';
      memcpy(deep, length, 8);
      memcpy(deep + 8, "{\"w\":", 5);
      CHECK(vit_safetensors_open(&f, write_file("file.safetensors", deep, 1000000)) ==
                VIT_ERR_FORMAT,
            "deep nesting");
      deep[0] = 0x38; /* a million minus 8: the header fills the file */
      CHECK(vit_safetensors_open(&f, write_file("file.safetensors", deep, 1000000)) ==
                VIT_ERR_FORMAT,
            "deep nesting");
    }
    memset(deep + 8, ':', 1000000 - 8); /* not an entry for each of them */
    heap.largest = 0;
    CHECK(vit_safetensors_open(&f, write_file("file.safetensors", deep, 1000000)) == VIT_ERR_FORMAT &&
              heap.largest < 20 << 20,
          "a header of colons takes %.0f bytes", (double)heap.largest);
    free(deep);
  }
  no_leak("safetensors");
}

/* Cut off at each length; each is noticed, as the last tensor ends the file. */
static void test_safetensors_cut_off(void) {
  const bytes whole = safetensors(small_file, 26);
  for (size_t size = 0; size < whole.size; size++) {
    bytes b = whole;
    vit_safetensors f;
    b.size = size;
    CHECK(open_bytes(&f, &b) == VIT_ERR_FORMAT && *vit_error() && !f.bytes,
          "%d of %d bytes are enough", (int)size, (int)whole.size);
    no_leak("a file that was cut off");
  }
}

/* A header that ends inside an escape, at the last byte of a page behind which
   nothing may be touched: as UTF-8 the escape would be longer than it is here. */
static void test_safetensors_last_byte(void) {
#ifndef _WIN32
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *guards[64];
  int file;
  vit_safetensors f;
  char *at = (char *)malloc(page);
  if (!at) exit(1);
  memset(at, ' ', page);
  for (int i = 0; i < 8; i++) at[i] = (char)((uint64_t)(page - 8) >> 8 * i);
  at[8] = '{';
  memcpy(at + page - 3, "\"\\u", 3);
  write_file("file.safetensors", at, page);
  free(at);
  file = open(path_of("file.safetensors"), O_RDONLY);
  for (int i = 0; i < 64; i++) guards[i] = mmap(NULL, page, PROT_NONE, MAP_PRIVATE, file, 0);
  CHECK(vit_safetensors_open(&f, path_of("file.safetensors")) == VIT_ERR_FORMAT && !f.bytes, "%s", vit_error());
  for (int i = 0; i < 64; i++)
    if (guards[i] != MAP_FAILED) munmap(guards[i], page);
  close(file);
  no_leak("the last byte");
#endif
}

static void test_safetensors_fuzz(void) {
  static const char alphabet[] = "{}[]\":,\\u0019 a";
  const int rounds = test_quick() ? 1000 : 5000;
  const bytes whole = safetensors(small_file, 26);
  vit_rng rng = vit_rng_create(6, 1);
  int good = 0;
  vit_safetensors f;
  bytes b;
  for (int i = 0; i < rounds; i++) {
    int flips = 1 + (int)vit_random_below(&rng, 3);
    b = whole;
    while (flips--) {
      size_t at = vit_random_below(&rng, (uint32_t)b.size - 26);
      if (vit_random_below(&rng, 2)) /* a byte, a bit, or a letter of JSON */
        b.at[at] = (unsigned char)alphabet[vit_random_below(&rng, sizeof alphabet - 1)];
      else if (vit_random_below(&rng, 2))
        b.at[at] ^= (unsigned char)(1 << vit_random_below(&rng, 8));
      else
        b.at[at] = (unsigned char)vit_random_u32(&rng);
    }
    if (!open_bytes(&f, &b)) {
      good++;
      read_everything(&f);
    } else {
      CHECK(!f.bytes && !f.entries && *vit_error(), "round %d: a file is left", i);
    }
    vit_safetensors_close(&f);
    no_leak("random bytes");
  }
  CHECK(good > rounds / 50 && good < rounds, "%d of %d were read", good, rounds);
}

/* ---- the verdicts of the reference implementation ------------------------- */

#ifndef _WIN32
/* A header of tensors that join up, with one to three pieces put in, taken out, or
   exchanged; its data. */
static bytes mutant(vit_rng *rng) {
  static const char *const types[] = {"F32", "F64", "I8", "BF16", "BOOL", "C64", "F8_E5M2", "F4", "F6_E2M3", "U64"};
  static const int eighths[] = {32, 64, 8, 16, 8, 64, 8, 4, 6, 64};
  static const char *const shapes[] = {"[]", "[8]", "[2,4]", "[0]", "[1,1,1,1,1,1,1,1,8]", "[0,4294967296]"};
  static const int counts[] = {1, 8, 8, 0, 8, 0};
  static const char *const more[] = {"", "", ",\"a\":null", ",\"b\":[1,{\"c\":-1.5e3}]", ",\"d\":\"\\ud83d\\ude42\""};
  static const char *const pieces[] = {
      "\"", "\\", "\\u", "\\ud83d", "\\udc00", "\\n", "\\u0000", "0", "1", "-", "-0", ".5", "e5", "1e999", "{", "}", "[",
      "]", ",", ":", " ", "\n", "\t", "\v", "\x1f", "\x7f", "null", "true", "nul", "NaN", "\xc3\xa9", "\xff", "\xc0\x80",
      "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x9f\x99\x82", "\xe2\x82", "F32", "\"dtype\"", "\"shape\":[]",
      "\"data_offsets\":[0,4]", "\"__metadata__\":{}", "\"__metadata__\":null", "[1,]", "18446744073709551615",
      "18446744073709551616", "00", ",\"z\":[1,{}]", "\"a\":1", "4", "8"};
  enum { PIECES = sizeof pieces / sizeof *pieces };
  char header[2000] = "{";
  const int tensors = (int)vit_random_below(rng, 4), changes = (int)vit_random_below(rng, 4);
  int at = 0;
  if (vit_random_below(rng, 2)) strcat(header, "\"__metadata__\":{\"note\":\"\\u00e9\"}");
  for (int i = 0; i < tensors; i++) {
    const uint32_t t = vit_random_below(rng, 10), n = vit_random_below(rng, 6);
    const int size = counts[n] * eighths[t] / 8;
    snprintf(header + strlen(header), 200, "%s\"%c\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%d,%d]%s}",
             header[1] ? "," : "", 'a' + i, types[t], shapes[n], at, at + size, more[vit_random_below(rng, 5)]);
    at += size;
  }
  strcat(header, "}");
  for (int i = 0; i < changes; i++) {
    const size_t n = strlen(header), from = vit_random_below(rng, (uint32_t)n), cut = vit_random_below(rng, 5) % 4;
    const char *piece = vit_random_below(rng, 4) ? pieces[vit_random_below(rng, PIECES)] : "";
    const size_t to = from + cut < n ? from + cut : n, size = strlen(piece);
    memmove(header + from + size, header + to, n - to + 1);
    memcpy(header + from, piece, size);
  }
  return safetensors(header, at + (vit_random_below(rng, 20) ? 0 : 4));
}

/* What opens there opens here, and what does not, does not; but for a name that is
   there twice, of which the last one counts there. */
static void test_safetensors_verdicts(void) {
  static const char script[] =
      "import struct, sys\n"
      "from safetensors import deserialize\n"
      "b = open(sys.argv[1], 'rb').read()\n"
      "while b:\n"
      "    n, = struct.unpack('<I', b[:4])\n"
      "    try:\n"
      "        deserialize(b[4:4 + n]); print('y', end='')\n"
      "    except Exception:\n"
      "        print('n', end='')\n"
      "    b = b[4 + n:]\n";
  const int rounds = test_quick() ? 500 : 4000;
  const char *python = getenv("PYTHON");
  char command[700];
  vit_rng rng = vit_rng_create(31, 0);
  int good = 0, twice = 0;
  vit_safetensors f;
  FILE *all, *pipe;
  if (!python || !*python) python = "python3";
  snprintf(command, sizeof command, "'%s' -c 'import safetensors; assert safetensors.__version__ >= \"0.7\"' >/dev/null 2>&1",
           python);
  if (system(command) != 0) SKIP("python has no safetensors 0.7 or later");
  write_file("verdicts.py", script, sizeof script - 1);
  all = fopen(path_of("verdicts"), "wb");
  if (!CHECK(all != NULL, "cannot write")) return;
  for (int i = 0; i < rounds; i++) {
    const bytes b = mutant(&rng);
    bytes size;
    size.size = 0;
    put_little32(&size, (uint32_t)b.size);
    fwrite(size.at, 1, 4, all);
    fwrite(b.at, 1, b.size, all);
  }
  fclose(all);
  snprintf(command, sizeof command, "'%s' '%s' '%s'", python, path_of("verdicts.py"), path_of("verdicts"));
  pipe = popen(command, "r");
  if (!CHECK(pipe != NULL, "no pipe")) return;
  rng = vit_rng_create(31, 0);
  for (int i = 0; i < rounds; i++) {
    const bytes b = mutant(&rng);
    const int there = fgetc(pipe) == 'y', here = !open_bytes(&f, &b);
    good += there;
    if (there && !here && strstr(vit_error(), "is there twice"))
      twice++;
    else
      CHECK(here == there, "%s there, %s here: %.*s", there ? "opens" : "refused", here ? "opens" : vit_error(),
            (int)b.size - 8, (const char *)b.at + 8);
    vit_safetensors_close(&f);
  }
  CHECK(pclose(pipe) == 0 && good > rounds / 10 && good < rounds * 9 / 10 && twice < rounds / 50,
        "%d of %d open, %d have a name twice", good, rounds, twice);
  no_leak("verdicts");
}
#else
static void test_safetensors_verdicts(void) { SKIP("not tested here"); }
#endif

/* ---- loading a model ----------------------------------------------------- */

/* A safetensors file with all parameters of a config, but for one change. */
static bytes model_file(const vit_config *c, const char *prefix, int skip, int wrong,
                        const char *type) {
  static char header[3000];
  bytes b;
  vit_tensor t;
  size_t n = 0, offset = 0;
  n += (size_t)snprintf(header, sizeof header, "{");
  for (int i = 0; vit_tensor_at(c, i, &t); i++) {
    if (i == skip) continue;
    n += (size_t)snprintf(header + n, sizeof header - n,
                          "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[", n > 1 ? "," : "",
                          prefix, t.name, i == wrong ? type : "F32");
    for (int d = 0; d < t.dims; d++)
      n += (size_t)snprintf(header + n, sizeof header - n, "%s%d", d ? "," : "",
                            t.shape[t.dims - 1 - d < 0 || i != wrong ? d
                                                                     : t.dims - 1 - d]);
    n += (size_t)snprintf(header + n, sizeof header - n, "],\"data_offsets\":[%d,%d]}",
                          (int)offset * 4, (int)(offset + t.count) * 4);
    offset += t.count;
  }
  snprintf(header + n, sizeof header - n, "}");
  b = safetensors(header, 0);
  for (size_t i = 0; i < offset; i++) {
    float v = (float)i / 8;
    memcpy(b.at + b.size, &v, 4);
    b.size += 4;
  }
  return b;
}

static void test_model_load(void) {
  vit_config c = vit_config_tutorial();
  vit_tensor t;
  vit_model m;
  vit_safetensors f;
  float *was;
  bytes b;
  int tensors = 0;
  c.image_height = c.image_width = 2;
  c.patch_height = c.patch_width = 2;
  c.width = 2;
  c.heads = c.mlp_width = c.depth = 1;
  c.classes = 3;
  vit_config_resolve(&c);
  if (!CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error())) return;
  was = (float *)malloc(m.params.count * sizeof(float));
  if (!was) return;
  memcpy(was, m.params.block, m.params.count * sizeof(float));
  while (vit_tensor_at(&c, tensors, &t)) tensors++;

  for (int i = 0; i < tensors; i++) { /* each tensor missing in turn */
    char sentence[200];
    vit_tensor_at(&c, i, &t);
    b = model_file(&c, "a.", i, -1, "F32");
    CHECK(!open_bytes(&f, &b), "%s", vit_error());
    snprintf(sentence, sizeof sentence, "the file has no tensor \"a.%s\"", t.name);
    fails(vit_model_load(&m, &f, "a."), VIT_ERR_FORMAT, sentence, "");
    CHECK_SAME_BITS("after a missing tensor", m.params.block, was, m.params.count);
    vit_safetensors_close(&f);
  }
  b = model_file(&c, "", -1, tensors - 2, "F32"); /* [3,2] as [2,3] */
  CHECK(!open_bytes(&f, &b), "%s", vit_error());
  fails(vit_model_load(&m, &f, ""), VIT_ERR_FORMAT,
        "tensor head.weight is F32 [2,3] in the file, the model wants F32 "
        "[3,2]", "");
  CHECK_SAME_BITS("after a wrong shape", m.params.block, was, m.params.count);
  vit_safetensors_close(&f);
  b = model_file(&c, "", -1, tensors - 1, "I32");
  CHECK(!open_bytes(&f, &b), "%s", vit_error());
  fails(vit_model_load(&m, &f, ""), VIT_ERR_FORMAT,
        "tensor head.bias is I32 [3] in the file, the model wants F32 "
        "[3]", "");
  CHECK_SAME_BITS("after a wrong type", m.params.block, was, m.params.count);
  vit_safetensors_close(&f);

  b = model_file(&c, "a.", -1, -1, "F32");
  CHECK(!open_bytes(&f, &b), "%s", vit_error());
  CHECK(vit_model_load(&m, &f, "") == VIT_ERR_FORMAT, "another prefix");
  CHECK(!vit_model_load(&m, &f, "a."), "%s", vit_error());
  for (size_t i = 0; i < m.params.count; i++)
    CHECK(m.params.block[i] == (float)i / 8, "parameter %lu is %g", (unsigned long)i,
          (double)m.params.block[i]);
  vit_safetensors_close(&f);
  free(was);
  vit_model_free(&m);
  no_leak("vit_model_load");
}

int main(void) {
  snprintf(folder, sizeof folder, "build/test_data_%ld", (long)getpid());
  if (vit_make_dir(path_of(""))) {
    printf("%s\n", vit_error());
    return 1;
  }
  RUN(test_two_processes_write); /* first: OpenMP does not survive a fork */
  RUN(test_two_threads_write);
  RUN(test_rests);
  RUN(test_idx);
  RUN(test_idx_errors);
  RUN(test_idx_fuzz);
  RUN(test_gzip);
  RUN(test_gzip_members);
  RUN(test_gzip_large_members);
  RUN(test_gzip_broken_members);
  RUN(test_gzip_errors);
  RUN(test_gzip_bits);
  RUN(test_gzip_no_memory);
  RUN(test_mnist_folders);
  RUN(test_names_of_data);
  RUN(test_real_mnist);
  RUN(test_resize);
  RUN(test_resize_edges);
  RUN(test_batch);
  RUN(test_make_dir);
  RUN(test_safetensors);
  RUN(test_safetensors_valid);
  RUN(test_safetensors_many);
  RUN(test_safetensors_errors);
  RUN(test_safetensors_cut_off);
  RUN(test_safetensors_last_byte);
  RUN(test_safetensors_fuzz);
  RUN(test_safetensors_verdicts);
  RUN(test_model_load);
  remove_all();
  return test_end("data");
}
