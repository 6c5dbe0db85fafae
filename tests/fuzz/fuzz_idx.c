/* IDX files, plain and gzip: any bytes as images or labels, and gzip files whose
   trailers are right, so that the bytes inside reach the reader. */
#include "fuzz.h"

static uint8_t file[1 << 17];

static size_t put32(size_t at, uint32_t v, int big) {
  for (int i = 0; i < 4; i++) file[at + (size_t)i] = (uint8_t)(v >> 8 * (big ? 3 - i : i));
  return at + 4;
}

/* data as the deflated bytes of a member, with a header and a right trailer. */
static size_t put_member(size_t at, const uint8_t *data, size_t size) {
#ifdef VIT_HAVE_STB
  static uint8_t out[1 << 16];
  const int n = stbi_zlib_decode_noheader_buffer((char *)out, sizeof out, (const char *)data, (int)size);
  memcpy(file + at, "\x1F\x8B\10\0\0\0\0\0\0\377", 10);
  memcpy(file + at + 10, data, size);
  at = put32(at + 10 + size, n < 0 ? 0 : vit__crc32(out, (size_t)n), 0);
  return put32(at, n < 0 ? 0 : (uint32_t)n, 0);
#else
  memcpy(file + at, data, size);
  return at + size;
#endif
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const int kind = size ? data[0] % 6 : 0;
  const size_t half = size / 2;
  size_t n = 0;
  vit_dataset d;
  const char *images, *labels;
  fuzz_begin();
  if (size < 4 || size > 20000) return 0;
  data++, size--;
  if (kind == 0) /* any bytes */
    memcpy(file, data, size), n = size;
  if (kind == 1) /* the header of an image, 1 x size x 1 */
    n = put32(put32(put32(put32(0, 0x803, 1), 1, 1), (uint32_t)size, 1), 1, 1);
  if (kind == 1) memcpy(file + n, data, size), n += size;
  if (kind == 2) /* any bytes that claim to be gzip */
    memcpy(file, "\x1F\x8B\10", 3), memcpy(file + 3, data, size), n = size + 3;
  if (kind == 3) n = put_member(0, data, size);
  if (kind == 4) n = put_member(put_member(0, data, half), data + half, size - half);
  if (kind == 5) { /* a whole member, then any bytes */
    n = put_member(0, (const uint8_t *)"\1\3\0\374\377abc", 8);
    memcpy(file + n, data, size), n += size;
  }
  images = fuzz_file(0, file, n);
  labels = data[0] & 1 ? images : fuzz_file(1, "\0\0\10\1\0\0\0\1\3", 9);
  if (!vit_dataset_idx(&d, images, labels, 10)) {
    size_t sum = 0;
    must(d.count > 0 && d.height > 0 && d.width > 0 && d.channels == 1);
    for (int i = 0; i < d.count; i++) must(d.labels[i] < 10);
    for (size_t i = 0; i < (size_t)d.count * (size_t)d.height * (size_t)d.width; i++) sum += d.pixels[i];
    must(sum <= 255 * (size_t)d.count * 4096 * 4096);
    vit_dataset_free(&d);
  }
  must(!d.pixels && !d.labels);
  if (!vit_dataset_idx(&d, labels, images, 10)) vit_dataset_free(&d);
  return 0;
}
