/* fuzz.h - what the fuzz targets share. Each is one C file with the function
   that libFuzzer calls with more and more cunning bytes; a crash, a leak, a
   sanitizer's complaint or a broken must() is a failure.

       sh tests/run.sh fuzz                     all of them, 20 s each
       VIT_FUZZ_SECONDS=3600 sh tests/run.sh fuzz
       build/fuzz/idx build/fuzz/idx.crash-...  one input again

   The inputs that reached new code stay in build/fuzz/NAME.corpus, and the next
   run goes on from there. clang has libFuzzer in libclang-rt-14-dev. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef VIT_HAVE_STB
#define STB_IMAGE_IMPLEMENTATION
#include "stb_image.h"
#endif
#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../../vit.h"

#define must(condition) \
  do { \
    if (!(condition)) fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), abort(); \
  } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file of these bytes, number `which` of this process: its path. In memory where
   there is such a folder; a disk would be ten times as slow. */
static inline const char *fuzz_file(int which, const void *data, size_t size) {
  static char paths[2][100];
  FILE *f;
  snprintf(paths[which], sizeof paths[which], "%s/fuzz-%ld-%d.input",
           access("/dev/shm", W_OK) ? "build/fuzz" : "/dev/shm", (long)getpid(), which);
  f = fopen(paths[which], "wb");
  must(f && fwrite(data, 1, size, f) == size && !fclose(f));
  return paths[which];
}

/* Remove them at the end; to be called first. */
static void fuzz_clean(void) {
  remove(fuzz_file(0, "", 0));
  remove(fuzz_file(1, "", 0));
}
static inline void fuzz_begin(void) {
  static int begun;
  if (!begun++) atexit(fuzz_clean);
}

#endif
