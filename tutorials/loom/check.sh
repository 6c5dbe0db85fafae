#!/bin/sh
# Tries a reader's kernels: sh tutorials/loom/check.sh NN my.c
#
# my.c defines functions my_KERNEL with the arguments of VIT_KERNELS in vit.h,
# each from the start of a line. The exit status is 0 when all are right.

set -u
cd "$(dirname "$0")/../.." || exit 1
chapter=${1:-} own=${2:-}
stop() { echo "$*"; exit 1; }

kernels=$(awk '/^#define VIT_KERNELS/ { on = 1 } on && match($0, /X\([a-z0-9_]+,/) {
  print substr($0, RSTART + 2, RLENGTH - 3) } on && !/\\$/ { exit }' vit.h)
special() { # the functions that are no kernels, with their arguments
  case $1 in
  04) echo "int my_qkv_at(int t, int which, int h, int d, int H, int Dh)" ;;
  09) echo "void my_average(float *average, const float *w, int n, int step, float decay)" ;;
  10) for method in rollout relevance; do
    echo "vit_result my_attention_$method(const vit_model *m, const vit_state *s, int image, int token, float *map)"
  done
  echo "double my_linear_cka(const float *x, const float *y, int rows, int a, int b)" ;;
  12) echo "void my_resize_row(unsigned char *out, const unsigned char *in, int n_in, int n_out)" ;;
  13) echo "float my_half(unsigned h)"
    echo "void my_positions_row(float *out, const float *in, int n_in, int n_out)" ;;
  esac
}
of() { sed -n "s/^ *{${1#0}, \"\([a-z0-9_]*\)\".*/\1/p" tutorials/loom/check.c | uniq; }

case $chapter in
0[0-9] | 1[0-3]) ;;
*) stop "make check-NN OWN=my.c: NN is a chapter from 00 to 13" ;;
esac
wanted=$(special "$chapter" | sed 's/.* my_//; s/(.*//')
wanted=${wanted:-$(of "$chapter")}
list=$(for kernel in $wanted; do printf ' my_%s' "$kernel"; done)
[ -n "$own" ] || stop "Which file? make check-$chapter OWN=my.c, where my.c defines one of:$list"
[ -f "$own" ] || stop "There is no file $own."

mine=$(sed -n 's/^[A-Za-z].*[ *]my_\([a-z0-9_]*\) *(.*/\1/p' "$own" | sort -u)
dir=build/check
mkdir -p $dir
known= set=
for name in $mine; do
  for kernel in $wanted; do
    if [ "$name" = "$kernel" ]; then known="$known $name"; fi
  done
  for kernel in $kernels; do
    if [ "$name" = "$kernel" ]; then set="$set X($name)"; fi
  done
done
[ -n "$known" ] || stop "$own defines no kernel of chapter $chapter; it may define:$list"
{
  echo "#define OWN(X)$set"
  for name in $known; do echo "#define OWN_$name"; done
} >$dir/own.h
case $own in /*) path=$own ;; *) path=$PWD/$own ;; esac
cc="${CC:-cc} -std=c99 -D_GNU_SOURCE -I. -I$dir"

# vit.h is compiled once, but for a file that uses its private words, such as vectors.
if grep -q -e vit_vec -e vit_ivec -e VIT__ -e vit__ -e VIT_IMPLEMENTATION "$own"; then
  with=-DWITH_VECTORS
else
  with=$dir/vit.o
  if [ -z "$(find $with -newer vit.h 2>/dev/null)" ]; then
    echo '#include "vit.h"' | $cc -O1 -DVIT_IMPLEMENTATION -x c -c - -o $with.$$ && mv $with.$$ $with || exit 1
  fi
fi
if ! $cc -O1 -Wall -Wno-unused-function -Werror=incompatible-pointer-types -Werror=implicit-function-declaration \
  -DCHAPTER="${chapter#0}" -DOWN_FILE="\"$path\"" tutorials/loom/check.c $with -o $dir/check-"$chapter" -lm >$dir/log 2>&1; then
  echo "$own does not compile: $({ grep 'error:' $dir/log || cat $dir/log; } | sed "s|^$PWD/||; s|^$own:||" | head -n 1)"
  for name in $known; do
    if [ -n "$(special "$chapter")" ]; then
      echo "wanted: $(special "$chapter" | grep "my_$name(")"
    else
      awk -v name="$name" '/^#define VIT_KERNELS/ { on = 1 }
        on && index($0, "X(" name ",") { text = ""; take = 1 }
        take { line = $0; sub(/ *\\$/, "", line); sub(/^ +/, " ", line); text = text line
               if (line ~ /\)\)$/) { sub(/^.*X\([a-z0-9_]*, */, "", text); sub(/\)$/, "", text)
                 print "wanted: void my_" name text; exit } }' vit.h
    fi
  done
  exit 1
fi
$dir/check-"$chapter"
