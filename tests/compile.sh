#!/bin/sh
# Does vit.h compile, without a single warning, in every way that it may be
# included?   sh tests/compile.sh   ends in `compile: N passed, M failed`.
#
# Compilers: gcc and clang, those that are there, or COMPILERS="...".
# Languages: C99, C++11 and C++20. Each case is also linked and run.
#
#   single     #define VIT_IMPLEMENTATION in one file; only vit_ symbols global
#   two        a second file that only includes it, linked with the first
#   twice      included twice in the file that has the implementation
#   static     VIT_STATIC in two files that are linked; no symbol is global
#   nosimd     VIT_NO_SIMD
#   openmp     with the compiler's OpenMP, also asked for more threads than an int
#   avx2       VIT_SIMD_AVX2 with -march=native
#   stb        stb_image.h included before it
# and once for each compiler
#   lab        the program in README.md, by `cc -O2 lab.c -lm` and nothing else
#   fastmath   -Ofast and -ffast-math are refused with the sentence
# and where it is installed
#   tcc        the smallest compiler: plain loops, no thread-local variables
#   mingw      Windows, C and C++, without and with SIMD; run where wine is

set -u
cd "$(dirname "$0")/.." || exit 1
root=$(pwd)
: "${VIT_DATA:=data}"
case $VIT_DATA in /*) ;; *) VIT_DATA=$root/$VIT_DATA ;; esac
export VIT_DATA

# ---- one case ------------------------------------------------------------------

# A user of the header: the smallest model, one forward and one backward pass.
program() {
  cat <<'END'
static int use_model(void) {
  vit_config c = vit_config_tutorial();
  vit_model m;
  vit_state s;
  static float image[32 * 32];
  int label = 3;
  double loss = 0;
  if (vit_model_create(&m, &c, 1)) return 1;
  if (vit_state_create(&s, &m, 1, VIT_FOR_TRAINING, 1)) return 2;
  for (int i = 0; i < 32 * 32; i++) image[i] = (float)(i % 7) / 7.0f;
  if (vit_forward(&m, &s, image, 1)) return 3;
  if (vit_loss(&m, &s, &label, 0, &loss)) return 4;
  if (vit_backward(&m, &s, 1)) return 5;
  for (int i = 0; i < c.classes; i++) /* work was done */
    if (s.logits[i] == 0) return 7;
  if (vit_max_threads() < 1 || vit_model_threads(&m) < 1) return 8;
  vit_state_free(&s);
  vit_model_free(&m);
  return loss > 0 && loss < 10 ? 0 : 6;
}
END
}

# Defined symbols of an object file that other files can see, without those of
# this test, and without templates of C++'s own library (_ZSt...).
globals() {
  nm -P -g "$1" | awk '$2 != "U" && $2 != "w" && $2 != "v" { sub(/^_/, "", $1); print $1 }' |
    grep -vE '^(main|other)$|^_?ZN?K?St'
}

# The C++ compiler that belongs to a C compiler: g++, clang++, g++-12, c++.
cxx() {
  case $1 in
  *clang*) echo "$1" | sed 's/clang/clang++/' ;;
  *gcc*) echo "$1" | sed 's/gcc/g++/' ;;
  *) echo c++ ;;
  esac
}

# case_run COMPILER STANDARD OPTIMISATION KIND
case_run() {
  cc=$1 std=$2 opt=$3 kind=$4
  flags="-std=$std $opt -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -I."
  suffix=c
  case $std in
  c++20) cc=$(cxx "$cc") suffix=cpp flags="$flags -Wdeprecated-enum-enum-conversion" ;;
  c++*) cc=$(cxx "$cc") suffix=cpp ;;
  esac
  link=-lm runner= program=./program
  case $kind in
  mingw*) # only assembled so may gcc use vectors there: see chapter 00
    program=./program.exe link="-static -lm" runner=none
    if [ $kind = mingw-avx2 ]; then
      flags="$flags -DVIT_SIMD_AVX2 -Wa,-muse-unaligned-vector-move"
    fi
    for wine in wine wine64; do
      if command -v $wine >/dev/null 2>&1; then runner=$wine; fi
    done ;;
  tcc) flags="-Wall -Werror -I." ;;
  avx2) flags="$flags -march=native -DVIT_SIMD_AVX2" ;;
  esac
  dir=$(mktemp -d) || return 1
  trap 'rm -rf "$dir"' EXIT
  cd "$dir" && ln -s "$root/vit.h" . || return 1

  before= again=
  case $kind in
  twice) again='#include "vit.h"' ;;
  static) before='#define VIT_STATIC' ;;
  nosimd) before='#define VIT_NO_SIMD' ;;
  openmp) flags="$flags $OPENMP" link="$OPENMP -lm" ;;
  stb)
    before='#define STB_IMAGE_IMPLEMENTATION
#include "stb_image.h"'
    case $STB_DIR in /usr/include | /usr/local/include) ;; *) flags="$flags -isystem $STB_DIR" ;; esac ;;
  esac

  call='use_model()'
  case $kind in two | static) call='(use_model() || other())' ;; esac
  {
    echo "$before"
    echo '#define VIT_IMPLEMENTATION'
    echo '#include "vit.h"'
    echo "$again"
    program
    echo '#ifdef __cplusplus'
    echo 'extern "C"'
    echo '#endif'
    echo 'int other(void);'
    echo "int main(void) { return $call; }"
  } >main.$suffix
  $cc $flags -c main.$suffix -o main.o || return 1

  objects=main.o
  case $kind in two | static)
    {
      echo '#ifdef __cplusplus'
      echo 'extern "C"'
      echo '#endif'
      echo 'int other(void);'
      if [ $kind = static ]; then echo '#define VIT_STATIC'; echo '#define VIT_IMPLEMENTATION'; fi
      echo '#include "vit.h"'
      program
      echo 'int other(void) { return use_model(); }'
    } >other.$suffix
    $cc $flags -c other.$suffix -o other.o || return 1
    objects='main.o other.o' ;;
  esac

  $cc $objects -o $program $link || return 1
  [ "$runner" = none ] && return 0
  $runner $program || { echo "program: exit status $?"; return 1; }
  if [ $kind = openmp ]; then # as an int these are negative, 0 and 2
    for threads in 2147483648 4294967296 4294967298; do
      OMP_NUM_THREADS=$threads ./program ||
        { echo "OMP_NUM_THREADS=$threads: exit status $?"; return 1; }
    done
  fi

  # A private name that other files can see may collide with theirs.
  case $kind in
  single | nosimd) stray=$(globals main.o | grep -vE '^vit_[^_]') ;;
  static) stray=$(globals main.o; globals other.o) ;;
  *) stray= ;;
  esac
  if [ -n "$stray" ]; then
    echo "global symbols:" $stray
    return 1
  fi
}

# What takes NaN away is refused, and the sentence is on the screen.
case_fastmath() {
  dir=$(mktemp -d) || return 1
  trap 'rm -rf "$dir"' EXIT
  printf '#define VIT_IMPLEMENTATION\n#include "%s/vit.h"\n' "$root" >"$dir/fast.c"
  for flag in -Ofast -ffast-math; do
    if $1 $flag -c "$dir/fast.c" -o "$dir/fast.o" 2>"$dir/messages"; then
      echo "$1 $flag compiles it"
      return 1
    fi
    grep -q 'error.*vit.h needs NaN and infinity: use -O2 or -O3' "$dir/messages" ||
      { head -n 5 "$dir/messages"; return 1; }
  done
}

# The first C program of README.md, as a student would type it.
case_lab() {
  dir=$(mktemp -d) || return 1
  trap 'rm -rf "$dir"' EXIT
  awk '/^```c$/ && !seen { inside = 1; next } /^```/ && inside { inside = 0; seen = 1 }
       inside' "$root/README.md" >"$dir/lab.c" || return 1
  [ -s "$dir/lab.c" ] || { echo "README.md has no \`\`\`c block"; return 1; }
  cp "$root/vit.h" "$dir" && cd "$dir" || return 1
  echo "$1 -O2 lab.c -lm"
  $1 -O2 lab.c -lm -o lab >messages 2>&1 || { cat messages; return 1; }
  if [ -s messages ]; then cat messages; return 1; fi
  for packed in "$VIT_DATA"/mnist/*.gz; do # without stb_image.h it reads no .gz
    if [ -f "$packed" ] && [ ! -f "${packed%.gz}" ]; then
      mkdir -p data/mnist
      gzip -dc "$packed" >"data/mnist/$(basename "$packed" .gz)"
    fi
  done
  if [ -d data ]; then VIT_DATA=$dir/data; fi
  ./lab >output 2>&1 </dev/null
  status=$?
  cat output
  if [ $status = 1 ] && grep -q '^found no train-images' output; then # no data here: draw some
    mkdir -p data/digits && $1 -O2 "$root/data/digits.c" -o digits || return 1
    ./digits data/digits --train 4000 --test 500 >/dev/null || return 1
    VIT_DATA=$dir/data ./lab >output 2>&1 </dev/null
    status=$?
    cat output
  fi
  [ $status = 0 ] || { echo "lab: exit status $status"; return 1; }
  if grep -q avx2 /proc/cpuinfo 2>/dev/null && grep -q fma /proc/cpuinfo; then
    grep -q AVX2 output || { echo "this CPU has AVX2, and lab does not say so"; return 1; }
  fi
}

if [ "${1:-}" = --case ]; then
  case $5 in
  lab | fastmath) text=$( ("case_$5" "$2") 2>&1) ;;
  *) text=$( (case_run "$2" "$3" "$4" "$5") 2>&1) ;;
  esac
  if [ $? = 0 ]; then
    echo "ok   $2 $3 $4 $5"
  else
    printf 'FAIL %s\n%s\n' "$2 $3 $4 $5" "$(echo "$text" | head -n 25 | sed 's/^/       /')"
  fi
  exit 0
fi

# ---- all of them ---------------------------------------------------------------

if [ -z "${COMPILERS:-}" ]; then
  COMPILERS=
  for cc in gcc clang; do
    if command -v $cc >/dev/null 2>&1; then COMPILERS="$COMPILERS $cc"; fi
  done
  : "${COMPILERS:=cc}"
fi
STB_DIR=$(sh .ci/deps.sh stb)
case $STB_DIR in '' | /*) ;; *) STB_DIR=$root/$STB_DIR ;; esac
export STB_DIR
log=$(mktemp)
trap 'rm -f "$log"' EXIT
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

for cc in $COMPILERS; do
  OPENMP=$(CC=$cc sh .ci/deps.sh openmp)
  export OPENMP
  standards=c99
  if command -v "$(cxx $cc)" >/dev/null 2>&1; then
    standards='c99 c++11 c++20'
  else
    echo "     $(cxx $cc) is not installed: no C++"
  fi
  {
    for std in $standards; do
      for opt in -O2 -O0; do
        for kind in single two twice static nosimd openmp stb; do
          case $opt$kind in -O2two | -O2twice | -O2stb) continue ;; esac
          if [ $std = c++20 ] && [ $kind != single ]; then continue; fi
          if [ $kind = openmp ] && [ -z "$OPENMP" ]; then continue; fi
          if [ $kind = stb ] && [ -z "$STB_DIR" ]; then continue; fi
          echo "$cc $std $opt $kind"
        done
      done
    done
    if [ "$(uname -m)" = x86_64 ]; then echo "$cc c99 -O2 avx2"; fi
    echo "$cc - -O2 fastmath"
    echo "$cc - -O2 lab"
  } | xargs -n 4 -P "$jobs" sh tests/compile.sh --case | tee -a "$log"
done

mingw=x86_64-w64-mingw32-gcc
{
  if command -v tcc >/dev/null 2>&1; then
    echo "tcc c99 -O2 tcc"
  else
    echo "     tcc is not installed: not tested" >&2
  fi
  if command -v $mingw >/dev/null 2>&1; then
    echo "$mingw c99 -O2 mingw"
    echo "$mingw c99 -O2 mingw-avx2"
    if command -v "$(cxx $mingw)" >/dev/null 2>&1; then echo "$mingw c++11 -O2 mingw"; fi
    command -v wine >/dev/null 2>&1 || command -v wine64 >/dev/null 2>&1 ||
      echo "     wine is not installed: programs for Windows are compiled, not run" >&2
  else
    echo "     $mingw is not installed: Windows is not tested" >&2
  fi
} | xargs -n 4 -P "$jobs" sh tests/compile.sh --case | tee -a "$log"

passed=$(grep -c '^ok ' "$log")
failed=$(grep -c '^FAIL ' "$log")
[ $((passed + failed)) -gt 0 ] || failed=1
echo "compile: $passed passed, $failed failed"
[ "$failed" = 0 ]
