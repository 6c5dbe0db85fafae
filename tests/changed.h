/* What the tests of models share; include it after test.h and vit.h. */
#ifndef TEST_CHANGED_H
#define TEST_CHANGED_H

/* A preset with "field=value field=value" changed. */
static vit_config changed(vit_config c, const char *pairs) {
  char text[500], *pair;
  snprintf(text, sizeof text, "%s", pairs);
  for (pair = strtok(text, " "); pair; pair = strtok(NULL, " ")) {
    char *value = strchr(pair, '=');
    *value++ = '\0';
    CHECK(!vit_config_set(&c, pair, value), "%s", vit_error());
  }
  return c;
}

#endif
