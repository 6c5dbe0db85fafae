/* safetensors: any bytes; any header with as many zeros behind it as it likes; the
   file of a small model with any metadata. */
#include "fuzz.h"

static uint8_t file[1 << 16];

/* Whatever opens can be read whole and written; written, it is the same. */
static void read_all(const vit_safetensors *f) {
  vit_safetensor list[8], t;
  const char *notes[17];
  size_t sum = 0;
  int n = 0, kept = 0, plain = 1;
  for (; vit_safetensors_at(f, n, &t); n++) {
    const size_t bits = vit__type_bits(t.type), bytes = t.count / 8 * bits + t.count % 8 * bits / 8;
    vit_safetensor same;
    must(t.dims >= -1 && t.dims <= 8 && bits);
    must((const uint8_t *)t.data >= f->bytes + f->data && (const uint8_t *)t.data + bytes <= f->bytes + f->size);
    for (size_t i = 0; i < bytes; i++) sum += ((const uint8_t *)t.data)[i];
    must(!vit_safetensors_find(f, t.name, &same) && same.data == t.data && same.name == t.name);
    if (t.dims >= 0 && kept < 8 && !strstr(t.name, "\xC0\x80")) list[kept++] = t;
  }
  must(n == f->count && sum <= 255 * f->size);
  for (n = 0; n < f->notes; n++) must(vit_safetensors_metadata(f, f->names[n].name) == f->names[n].text);
  for (n = 0; n < f->notes && n < 8; n++) {
    notes[2 * n] = f->names[n].name;
    notes[2 * n + 1] = f->names[n].text;
    plain &= !strstr(notes[2 * n], "\xC0\x80");
  }
  notes[2 * n] = NULL;
  if (plain) {
    const char *path = fuzz_file(1, "", 0);
    vit_safetensors again;
    must(!vit_safetensors_write(path, list, kept, notes));
    must(!vit_safetensors_open(&again, path) && again.count == kept && again.notes == n);
    for (int i = 0; i < kept; i++)
      must(vit_safetensors_at(&again, i, &t) && !strcmp(t.name, list[i].name) && !strcmp(t.type, list[i].type) &&
           t.count == list[i].count && !memcmp(t.shape, list[i].shape, sizeof t.shape));
    vit_safetensors_close(&again);
  }
}

/* The file of a small model, with `size` bytes as its metadata: its size. */
static size_t put_model(const uint8_t *data, size_t size) {
  static uint8_t whole[8192];
  static size_t all, header, from; /* of the file; of its header; where its first tensor stands in it */
  size_t n = 8;
  if (!all) {
    vit_config c = vit_config_tutorial();
    vit_model m;
    const char *path = fuzz_file(1, "", 0);
    FILE *f;
    c.image_height = c.image_width = c.patch_height = c.patch_width = 2;
    c.width = c.heads = c.depth = c.mlp_width = c.classes = 1;
    must(!vit_model_create(&m, &c, 1) && !vit_model_save(&m, NULL, path));
    vit_model_free(&m);
    must((f = fopen(path, "rb")) != NULL && (all = fread(whole, 1, sizeof whole, f)) < sizeof whole);
    fclose(f);
    header = 8 + whole[0] + ((size_t)whole[1] << 8);
    from = (size_t)(strstr((char *)whole + 8, "},\"") + 1 - (char *)whole);
  }
  memcpy(file + n, "{\"__metadata__\":", 16), n += 16;
  memcpy(file + n, data, size), n += size;
  memcpy(file + n, whole + from, header - from), n += header - from;
  for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)(n - 8) >> 8 * i);
  memcpy(file + n, whole + header, all - header);
  return n + all - header;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const int kind = size ? data[0] % 3 : 0;
  const char *path;
  size_t n = 0;
  vit_safetensors f;
  vit_model m;
  vit_dataset about;
  fuzz_begin();
  if (size < 3 || size > 20000) return 0;
  if (kind == 0) memcpy(file, data + 1, n = size - 1);
  if (kind == 1) {
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)(size - 2) >> 8 * i);
    memcpy(file + 8, data + 2, size - 2);
    memset(file + 6 + size, 0, data[1]);
    n = size + 6 + data[1];
  }
  if (kind == 2) n = put_model(data + 1, size - 1);
  path = fuzz_file(0, file, n);
  if (!vit_safetensors_open(&f, path)) read_all(&f);
  vit_safetensors_close(&f);
  if (!vit_model_open(&m, path, &about)) {
    must(m.params.block && about.classes == m.config.classes && VIT__IS_FINITE(about.mean[0]));
    for (int k = 0; about.names && k < about.classes; k++) must(strlen(about.names[k]) < VIT_NAME_SIZE);
    vit_dataset_free(&about);
    vit_model_free(&m);
  }
  must(!m.params.block && !about.names);
  return 0;
}
