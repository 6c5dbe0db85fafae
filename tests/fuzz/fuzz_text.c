/* Settings of a model as text, as command lines and files give them; the table of a
   run, history.csv. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  vit_config c = vit_config_tutorial();
  char text[400], *name, *value, *next;
  vit_history h;
  fuzz_begin();
  if (!vit_history_read(&h, fuzz_file(0, data, size))) {
    must(h.epochs >= 0 && h.best >= 0 && h.best <= h.epochs);
    vit_history_free(&h);
  } else {
    must(*vit_error());
  }
  if (size >= sizeof text) return 0;
  memcpy(text, data, size); /* lines of name=value; 1 to 9 as a name: that field */
  text[size] = '\0';
  for (name = text; name; name = next) {
    const char *field = name, *meaning;
    double number;
    next = strchr(name, '\n');
    if (next) *next++ = '\0';
    value = strchr(name, '=');
    if (!value) continue;
    *value++ = '\0';
    if (*name > '0' && *name < 'z') vit_config_field(&c, *name - '0', &field, &meaning, &number);
    if (vit_config_set(&c, field, value)) must(*vit_error());
  }
  if (!vit_config_resolve(&c)) {
    vit_config again = c;
    must(!vit_config_resolve(&again) && !memcmp(&again, &c, sizeof c));
    must(vit_config_patches(&c) > 0 && vit_config_tokens(&c) > 0);
  }
  return 0;
}
