/* files.h - what the tests of files share: an allocator that counts and fails on
   demand, a folder of their own, and a check of the exact sentence.

   Include it instead of vit.h. It compiles vit.h, and stb_image where the
   Makefile found it, with that allocator. */

#ifndef FILES_H
#define FILES_H

#include "test.h"

#include <sys/stat.h>
#include <sys/types.h>
#ifndef _WIN32
#include <dirent.h>
#endif

static void *test_malloc(size_t n);
static void test_free(void *p);

#ifdef VIT_HAVE_STB /* set by the Makefile when it finds stb_image.h */
static void *test_realloc(void *p, size_t n);
#define STBI_MALLOC(n) test_malloc(n)
#define STBI_REALLOC(p, n) test_realloc(p, n)
#define STBI_FREE(p) test_free(p)
#define STB_IMAGE_IMPLEMENTATION
#include "stb_image.h"
#endif

#define VIT_MALLOC(n) test_malloc(n)
#define VIT_FREE(p) test_free(p)
#define VIT_STATIC
#define VIT_IMPLEMENTATION
#include "../vit.h"

/* ---- an allocator that counts, and that fails on demand ------------------ */

static struct {
  int calls, live, fail_at;
  size_t largest; /* bytes of the largest block that was asked for */
} heap; /* threads share it */

static int heap_refuses(size_t n) {
  if (n > heap.largest) heap.largest = n;
  return __sync_add_and_fetch(&heap.calls, 1) == heap.fail_at ||
         n > ((size_t)1 << 30);
}
static void *test_malloc(size_t n) {
  void *p = heap_refuses(n) ? NULL : malloc(n);
  if (p) __sync_add_and_fetch(&heap.live, 1);
  return p;
}
#ifdef VIT_HAVE_STB
static void *test_realloc(void *p, size_t n) {
  void *q = heap_refuses(n) ? NULL : realloc(p, n);
  if (q && !p) __sync_add_and_fetch(&heap.live, 1);
  return q;
}
#endif
static void test_free(void *p) {
  if (p) __sync_sub_and_fetch(&heap.live, 1);
  free(p);
}
static inline void no_leak(const char *what) {
  CHECK(heap.live == 0, "%s: %d blocks were not freed", what, heap.live);
  heap.live = heap.calls = heap.fail_at = 0;
  heap.largest = 0;
}

/* ---- files --------------------------------------------------------------- */

enum { MOST_PATHS = 900 };
static char folder[100];
static char *made[MOST_PATHS]; /* what is to be removed, in this order */
static int made_count;

/* build/test_NAME_PID/NAME; remove_all() removes what got a path here. */
static inline const char *path_of(const char *name) {
  char path[300];
  const size_t n = (size_t)snprintf(path, sizeof path, "%s%s%s", folder,
                                    *name ? "/" : "", name);
  for (int i = 0; i < made_count; i++)
    if (!strcmp(made[i], path)) return made[i];
  if (n >= sizeof path || made_count == MOST_PATHS) exit(1);
  made[made_count] = (char *)malloc(n + 1);
  if (!made[made_count]) exit(1);
  return strcpy(made[made_count++], path);
}

static inline const char *folder_of(const char *name) {
  const char *path = path_of(name);
  CHECK(!vit_make_dir(path), "%s", vit_error());
  return path;
}

static inline void remove_all(void) {
  while (made_count > 0) {
    remove(made[--made_count]);
    free(made[made_count]);
  }
}

static inline const char *write_file(const char *name, const void *data, size_t size) {
  const char *path = path_of(name);
  FILE *f = fopen(path, "wb");
  if (!CHECK(f != NULL, "cannot write %s", path)) exit(1);
  fwrite(data, 1, size, f);
  fclose(f);
  return path;
}

static inline int exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

/* Files PATH.*.tmp, which a writer that was killed leaves behind; with `away` they
   are removed. */
static inline int rests(const char *path, int away) {
  int count = 0;
#ifndef _WIN32
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  char dir[600], full[900];
  struct dirent *entry;
  DIR *d;
  snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
  d = opendir(dir);
  while (d && (entry = readdir(d)) != NULL) {
    const size_t n = strlen(entry->d_name);
    if (strncmp(entry->d_name, name, strlen(name)) || n < 4 || strcmp(entry->d_name + n - 4, ".tmp")) continue;
    snprintf(full, sizeof full, "%.500s/%.300s", dir, entry->d_name);
    if (away) remove(full);
    count++;
  }
  if (d) closedir(d);
#else
  (void)path, (void)away;
#endif
  return count;
}

/* "%s" of the sentence stands for the path. */
static inline int fails(vit_result have, vit_result want, const char *sentence,
                 const char *path) {
  char text[900];
  const char *hole = strstr(sentence, "%s");
  if (hole)
    snprintf(text, sizeof text, "%.*s%.600s%.200s", (int)(hole - sentence), sentence, path,
             hole + 2);
  else
    snprintf(text, sizeof text, "%s", sentence);
  return CHECK(have == want && !strcmp(vit_error(), text),
               "result %d \"%s\",\n    expected %d \"%s\"", (int)have, vit_error(),
               (int)want, text);
}

#endif
