#!/bin/sh
# How many functions of vit.h does a reader meet? Counts the distinct ones that one
# call runs, with model A and the naive kernels in one thread:
#
#   sh tests/count_functions.sh [-v]     -v: with their names and chapters
#
# vit_predict   one image
# vit_fit       one step: eight images, one epoch, nothing judges, nothing is saved
set -eu
cd "$(dirname "$0")/.."
dir=build/functions
mkdir -p $dir
cat >$dir/count.c <<'END'
#define VIT_IMPLEMENTATION
#include "../../vit.h"
#define PLAIN __attribute__((no_instrument_function))
static void *seen[2000];
static int count, on;
void PLAIN __cyg_profile_func_enter(void *function, void *site) {
  (void)site;
  for (int i = 0; i < count; i++)
    if (seen[i] == function) return;
  if (on && count < 2000) seen[count++] = function;
}
void PLAIN __cyg_profile_func_exit(void *function, void *site) { (void)function, (void)site; }
static void PLAIN report(const char *call) {
  on = 0;
  for (int i = 0; i < count; i++) printf("%s %lx\n", call, (unsigned long)(uintptr_t)seen[i]);
  count = 0;
}
int PLAIN main(void) {
  static uint8_t pixels[8 * 32 * 32], labels[8];
  static float image[32 * 32];
  vit_config c = vit_config_tutorial();
  vit_fit_config f = vit_fit_defaults();
  vit_dataset d;
  vit_history h;
  vit_model m;
  vit_state s;
  int guess;
  memset(&d, 0, sizeof d);
  d.count = f.batch = 8;
  d.channels = 1;
  d.height = d.width = 32;
  d.classes = 10;
  d.pixels = pixels;
  d.labels = labels;
  d.std[0] = 1;
  f.epochs = 1;
  if (vit_model_create(&m, &c, 1) || vit_state_create(&s, &m, 1, 0, 1)) return 1;
  m.kernels = &vit_naive;
  m.threads = 1;
  on = 1;
  if (vit_predict(&m, &s, image, 1, &guess, NULL)) return 1;
  report("vit_predict");
  on = 1;
  if (vit_fit(&m, &f, &d, NULL, &h)) return 1;
  report("vit_fit");
  return 0;
}
END
${CC:-cc} -std=c99 -O0 -g -no-pie -finstrument-functions $dir/count.c -o $dir/count -lm
$dir/count >$dir/seen
for call in vit_predict vit_fit; do
  sed -n "s/^$call //p" $dir/seen | addr2line -f -e $dir/count |
    paste - - | sed 's/[^ \t]*://; s/ (disc.*//' | sort -k2n >$dir/$call
  awk -v call=$call -v names="${1:-}" '
    FILENAME == "vit.h" { if (match($0, />>[01][0-9] /)) { chapter[FNR] = substr($0, RSTART + 2, 2); }
      now = FNR in chapter ? chapter[FNR] : now; of[FNR] = now; next }
    { n[of[$2]]++; all++; text = text "    " of[$2] " " $1 "\n" }
    END { printf "%-12s %3d functions:", call, all
      for (i = 0; i < 14; i++) { k = sprintf("%02d", i); if (n[k]) printf "  %s %d", k, n[k] }
      print ""; if (names == "-v") printf "%s", text }' vit.h $dir/$call
done
