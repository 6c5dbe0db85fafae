/* The order of bytes: a forward pass and the files of a model give the same numbers
   on a machine that stores the high byte first, or its files are refused with a
   sentence. tests/run.sh runs it on such a machine too (s390x, under qemu). */

#include "test.h"

#define VIT_IMPLEMENTATION
#include "../vit.h"

static const char *const path = "test_endian.tmp.safetensors";

static int high_byte_first(void) {
  const uint32_t one = 1;
  unsigned char first;
  memcpy(&first, &one, 1);
  return first == 0;
}

/* A refusal is an error with a sentence. */
static int refused(vit_result r) {
  return high_byte_first() && r != VIT_OK && strlen(vit_error()) > 20;
}

/* The logits of the tutorial's model, plain loops, for one image. */
static void logits_of(const vit_model *m, float *logits) {
  float image[32 * 32];
  vit_state s;
  for (int i = 0; i < 32 * 32; i++) image[i] = (float)(i % 7) / 7.0f;
  if (!CHECK(!vit_state_create(&s, m, 1, VIT_FOR_INFERENCE, 1), "%s", vit_error()))
    return;
  CHECK(!vit_forward(m, &s, image, 1), "%s", vit_error());
  memcpy(logits, s.logits, (size_t)m->config.classes * sizeof *logits);
  vit_state_free(&s);
}

static void test_forward(void) {
  /* what an x86-64 computes */
  static const float want[10] = {
      -0.1649356f, -0.5790248f, -0.7859135f, 0.05447927f, 1.255721f,
      1.019517f, 0.06802293f, -0.6243298f, -0.02533981f, -0.738961f};
  float logits[10] = {0};
  vit_config c = vit_config_tutorial();
  vit_model m;
  if (!CHECK(!vit_model_create(&m, &c, 1), "%s", vit_error())) return;
  m.kernels = &vit_naive;
  logits_of(&m, logits);
  CHECK_CLOSE("logits", logits, want, 10, 1e-4, 1e-5);
  vit_model_free(&m);
}

/* The first number in a safetensors file, which has the low byte first. */
static float first_number(void) {
  unsigned char head[8] = {0}, bytes[4] = {0};
  uint32_t bits = 0;
  float x = NAN;
  FILE *f = fopen(path, "rb");
  if (!CHECK(f != NULL, "%s is not there", path)) return x;
  if (fread(head, 1, 8, f) == 8 && !fseek(f, 8 + head[0] + 256 * head[1], SEEK_SET) &&
      fread(bytes, 1, 4, f) == 4) {
    for (int i = 0; i < 4; i++) bits |= (uint32_t)bytes[i] << 8 * i;
    memcpy(&x, &bits, sizeof x);
  }
  fclose(f);
  return x;
}

/* What one model writes, another reads, here and elsewhere. */
static void test_save_and_load(void) {
  float a[10] = {0}, b[10] = {0}, first;
  vit_config c = vit_config_tutorial();
  vit_safetensors f;
  vit_model m, back;
  vit_result r;
  if (!CHECK(!vit_model_create(&m, &c, 1) && !vit_model_create(&back, &c, 2), "%s", vit_error()))
    return;
  r = vit_model_save(&m, NULL, path);
  if (!refused(r) && CHECK(!r, "%s", vit_error())) {
    size_t i = 0;
    first = first_number();
    while (i < m.params.count && m.params.block[i] != first) i++;
    CHECK(i < m.params.count, "the file begins with %g, which is no weight", (double)first);
    r = vit_safetensors_open(&f, path);
    if (!refused(r) && CHECK(!r, "%s", vit_error())) {
      CHECK(!vit_model_load(&back, &f, ""), "%s", vit_error());
      logits_of(&m, a);
      logits_of(&back, b);
      CHECK_SAME_BITS("logits", b, a, 10);
      vit_safetensors_close(&f);
    }
  }
  vit_model_free(&back);
  vit_model_free(&m);
  remove(path);
}

/* A file from elsewhere, byte for byte: its numbers are 1 and -2.5. */
static void test_foreign_file(void) {
  static const char header[] = "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
  static const unsigned char numbers[8] = {0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0};
  const size_t n = sizeof header - 1;
  unsigned char length[8] = {0};
  float x[2] = {0, 0};
  vit_safetensors f;
  vit_safetensor t;
  vit_result r;
  FILE *file = fopen(path, "wb");
  if (!CHECK(file != NULL, "%s cannot be written", path)) return;
  length[0] = (unsigned char)n;
  fwrite(length, 1, 8, file);
  fwrite(header, 1, n, file);
  fwrite(numbers, 1, 8, file);
  fclose(file);
  r = vit_safetensors_open(&f, path);
  if (!refused(r) && CHECK(!r, "%s", vit_error())) {
    r = vit_safetensors_find(&f, "x", &t);
    if (!refused(r) && CHECK(!r, "%s", vit_error())) {
      memcpy(x, t.data, sizeof x);
      CHECK(x[0] == 1.0f && x[1] == -2.5f, "read %g and %g", (double)x[0], (double)x[1]);
    }
    vit_safetensors_close(&f);
  }
  remove(path);
}

int main(void) {
  RUN(test_forward);
  RUN(test_save_and_load);
  RUN(test_foreign_file);
  return test_end("endian");
}
