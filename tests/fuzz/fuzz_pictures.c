/* Pictures: any bytes, whole or behind a good beginning of each format, through the
   scan and stb_image. stb_image shifts and adds beyond what C defines; that gives a
   wrong pixel at worst, so here only its memory is watched. */
#ifdef VIT_HAVE_STB
#pragma clang attribute push(__attribute__((no_sanitize("shift", "signed-integer-overflow"))), apply_to = function)
#define STB_IMAGE_IMPLEMENTATION
#include "stb_image.h"
#pragma clang attribute pop
#undef VIT_HAVE_STB /* fuzz.h need not include it */
#endif
#include "fuzz.h"

#ifdef STBI_INCLUDE_STB_IMAGE_H
#define TEXT(s) {s, sizeof s - 1}
#define SIXTEEN(byte) byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte byte
#define QUANTISATION "\xFF\xDB\0\x43\0" SIXTEEN("\1") SIXTEEN("\2") SIXTEEN("\3") SIXTEEN("\4")
#define CODES(kind) "\xFF\xC4\0\x23" kind "\0\1\2\3\3\3\2\1\1\0\0\0\0\0\0\0\0\1\2\3\4\5\6\7\x11\x12\x21\x31\x41\xF0\x22\x10"
#define FRAME(kind) "\xFF" kind "\0\x11\10\0\x14\0\x11\3\1\x22\0\2\x11\0\3\x11\0"

/* How a file begins, and what the rest of it is then. */
static const struct { const char *text; size_t size; } begin[] = {
    TEXT(""), TEXT("\xFF\xD8\xFF"),
    TEXT("\xFF\xD8" QUANTISATION FRAME("\xC0") CODES("\0") CODES("\x10") "\xFF\xDA\0\f\3\1\0\2\0\3\0\0\x3F\0"),
    TEXT("\xFF\xD8" QUANTISATION FRAME("\xC2") CODES("\0") CODES("\x10") "\xFF\xDA\0\f\3\1\0\2\0\3\0\0\0\1"),
    TEXT("\xFF\xD8" QUANTISATION FRAME("\xC2") CODES("\0") CODES("\x10")),
    TEXT("\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\x11\0\0\0\x13\10\6\0\0\1\0\0\0\0"),
    TEXT("\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\x11\0\0\0\x13\4\3\0\0\0\0\0\0\0\0\0\0\6PLTEabcdef\0\0\0\0"),
    TEXT("GIF89a\x11\0\x13\0\x81\1\0abcdefghijkl"),
    TEXT("GIF89a\x11\0\x13\0\x81\1\0abcdefghijkl,\0\0\0\0\x11\0\x13\0\x40\2"),
    TEXT("BM\0\0\0\0\0\0\0\0\x3E\0\0\0\x28\0\0\0\x11\0\0\0\x03\0\0\0\1\0\1\0\0\0\0\0"),
    TEXT("P6\n"), TEXT("\0\1\t\0\0\4\0\x18\0\0\0\0\x11\0\x05\0\10\0"), TEXT("8BPS\0\1"),
    TEXT("#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 9 +X 11\n"), TEXT("\x53\x80\xF6\x34")};

/* Hours could be spent on millions of pixels that all look the same. */
static int is_large(const uint8_t *file, size_t size) {
  int orientation, w = 0, h = 0, parts;
  if (vit__scan_picture(file, size, &orientation)) return 0;
  return stbi_info_from_memory(file, (int)size, &w, &h, &parts) &&
         fabs((double)w * h) > 100000;
}

/* Right checksums of a PNG's chunks, or only wrong pixels would be found. */
static void mend(uint8_t *p, size_t size) {
  for (size_t at = 8; at + 12 <= size;) {
    const size_t n = vit__number(p + at, 4, 1);
    uint32_t crc;
    if (n > size - at - 12) break;
    crc = vit__crc32(p + at + 4, n + 4);
    for (size_t i = 0; i < 4; i++) p[at + 8 + n + i] = (uint8_t)(crc >> (24 - 8 * i));
    at += 12 + n;
  }
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
#ifdef STBI_INCLUDE_STB_IMAGE_H
  const size_t kinds = sizeof begin / sizeof *begin;
  const size_t kind = size ? data[0] % kinds : 0, n = begin[kind].size;
  uint8_t *file, *pixels = NULL;
  int h = 0, w = 0, channels;
  if (size < 2) return 0;
  channels = data[1] & 1 ? 3 : 1;
  data += 2, size -= 2;
  file = (uint8_t *)malloc(n + size + 2 + 1); /* no byte more: its end is watched */
  must(file != NULL);
  memcpy(file, begin[kind].text, n);
  memcpy(file + n, data, size);
  if (kind >= 2 && kind <= 4) memcpy(file + n + size, "\xFF\xD9", 2), size += 2;
  file = (uint8_t *)realloc(file, n + size + !(n + size));
  must(file != NULL);
  if (n + size >= 8 && !memcmp(file, "\x89PNG", 4)) mend(file, n + size);
  if (is_large(file, n + size)) {
    free(file);
    return 0;
  }
  if (!vit__decode("picture", file, n + size, channels, &pixels, &h, &w)) {
    size_t sum = 0;
    must(pixels && h > 0 && w > 0 && h <= 32768 && w <= 32768);
    for (size_t i = 0; i < (size_t)channels * (size_t)h * (size_t)w; i++) sum += pixels[i];
    must(sum <= 255 * (size_t)channels * (size_t)h * (size_t)w);
    vit_image_free(pixels);
  } else {
    must(!pixels && *vit_error() && !strstr(vit_error(), "()"));
  }
  free(file);
#else
  (void)data, (void)size;
#endif
  return 0;
}
