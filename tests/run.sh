#!/bin/sh
# Builds and runs every test, in every way that vit.h can be compiled.
#
#   sh tests/run.sh [WAY...]
#
#   openmp    SIMD and threads, as the examples are built
#   serial    SIMD, no OpenMP
#   nosimd    the naive kernels alone (VIT_NO_SIMD)
#   clang     the other compiler
#   asan      AddressSanitizer and UndefinedBehaviorSanitizer
#   avx512    AVX-512: natively where the CPU has it, else (or with SIMDE=1)
#             emulated by SIMDe
#   arm64     AArch64 with NEON, under qemu
#   wasm      WebAssembly with SIMD128: emcc, run by node
#   s390x     a machine that stores the high byte first, under qemu
#   compile   the matrix of compilers and languages: tests/compile.sh
#   fuzz      the readers of files and text, under libFuzzer: tests/fuzz
#   programs  the examples from outside: tests/test_*.sh
#
# All of them without an argument. The last line is the sum, `N passed, N failed`,
# and the exit status is 1 when anything failed. A program that crashes, prints
# no such line, or does not build, has failed. Environment: CC, CFLAGS, STB.

set -u
cd "$(dirname "$0")/.." || exit 1
: "${CC:=cc}" "${CFLAGS:=-O2}" "${MAKE:=make}"
export CC CFLAGS

# ---- one program ---------------------------------------------------------------

# Runs it and prints one line: run.sh --one NAME COMMAND
if [ "${1:-}" = --one ]; then
  name=$2 log=$VIT_TEST_OUT/$2.log
  shift 2
  start=$(date +%s) status=none
  if [ -f "$1" ] || command -v "$1" >/dev/null 2>&1; then
    $VIT_TEST_RUNNER "$@" >"$log" 2>&1 </dev/null
    status=$?
  else
    : >"$log"
  fi
  seconds=$(($(date +%s) - start))
  line=$(sed -n 's/.*: \([0-9]* passed, [0-9]* failed.*\)/\1/p' "$log" | tail -n 1)
  count() { number=$(echo " $line" | sed -n "s/.* \([0-9][0-9]*\) $1.*/\1/p"); echo "${number:-0}"; }
  passed=$(count passed) failed=$(count failed) skipped=$(count skipped)
  if [ $status = none ]; then
    failed=1 line="did not build"
  elif [ -z "$line" ]; then
    failed=1 line="no result, exit status $status"
    if [ $status = 124 ]; then line="stopped: it took longer than $seconds s"; fi
  elif [ $status != 0 ] && [ "$failed" = 0 ]; then
    failed=1 line="$line, but exit status $status"
  fi
  verdict=ok
  if [ "$failed" != 0 ]; then verdict=FAIL; fi
  printf '  %-5s %-20s %-40s %4s s\n' $verdict "$name" "$line" "$seconds"
  if [ "$failed" != 0 ]; then tail -n 60 "$log" | sed 's/^/        /'; fi
  echo "$passed $failed $skipped" >>"$VIT_TEST_COUNTS"
  exit 0
fi

# ---- one way of compiling ------------------------------------------------------

jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
limit=
if command -v timeout >/dev/null 2>&1; then limit='timeout 900'; fi
unset MAKEFLAGS MFLAGS MAKELEVEL # make -j of the caller is not ours
export VIT_TEST_OUT=build VIT_TEST_RUNNER="$limit" VIT_TEST_COUNTS=build/counts
mkdir -p build
: >$VIT_TEST_COUNTS

skip() {
  printf '  skip  %s\n' "$1"
  echo "0 0 1" >>$VIT_TEST_COUNTS
}

one() { sh tests/run.sh --one "$@"; }

# What depends on the vectors: every kernel, a step of training, known outputs.
kernels='00_foundations 01_patches 02_tokens 03_attention 04_heads 05_encoder
  06_model 07_gradients 08_training 11_speed fixtures'
only=

# suite FOLDER PROGRAMS_AT_ONCE MAKE_VARIABLES...
# Every tests/test_*.c, or those in $only.
# Where several run at once, OMP_NUM_THREADS=1 keeps them from waiting for each
# other; tests of threads ask for their number themselves.
suite() {
  VIT_TEST_OUT=$1 at_once=$2
  shift 2
  mkdir -p "$VIT_TEST_OUT"
  programs=
  for source in tests/test_*.c; do
    name=$(basename "$source" .c)
    case " "$(echo ${only:-${name#test_}})" " in
    *" ${name#test_} "*) programs="$programs $VIT_TEST_OUT/$name" ;;
    esac
  done
  if ! "$MAKE" -s -k -j "$jobs" tests WERROR=1 BUILD="$VIT_TEST_OUT" "$@" TESTS="$programs" \
    >"$VIT_TEST_OUT/build.log" 2>&1; then
    grep -vE '^(  build |make)' "$VIT_TEST_OUT/build.log" | head -n 40
    echo "0 1 0" >>$VIT_TEST_COUNTS # the programs may be there, from before
  fi
  for program in $programs; do
    name=$(basename "$program")
    echo "${name#test_} $program"
  done | xargs -n 2 -P "$at_once" sh tests/run.sh --one
}

way_openmp() {
  echo "SIMD and OpenMP, $CC $CFLAGS"
  suite build 1
}

way_serial() {
  echo "SIMD without OpenMP"
  suite build/serial "$jobs" OPENMP=0
}

way_nosimd() {
  echo "VIT_NO_SIMD, no OpenMP"
  export VIT_TEST_QUICK=1
  suite build/nosimd "$jobs" OPENMP=0 CPPFLAGS=-DVIT_NO_SIMD
  unset VIT_TEST_QUICK
}

way_clang() {
  case $CC in *clang*) other=gcc ;; *) other=clang ;; esac
  echo "The other compiler, $other"
  if ! command -v $other >/dev/null 2>&1; then skip "$other is not installed"; return; fi
  export VIT_TEST_QUICK=1 OMP_NUM_THREADS=1
  suite build/$other "$jobs" CC=$other
  unset VIT_TEST_QUICK OMP_NUM_THREADS
}

way_asan() {
  echo "AddressSanitizer and UndefinedBehaviorSanitizer"
  sanitize='-fsanitize=address,undefined -fno-sanitize-recover=all'
  mkdir -p build/asan
  echo 'int main(void) { return 0; }' >build/asan/probe.c
  if ! $CC $sanitize build/asan/probe.c -o build/asan/probe 2>/dev/null; then
    skip "$CC has no sanitizers here"
    return
  fi
  export VIT_TEST_QUICK=1 OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1
  export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
  if ! build/asan/probe 2>/dev/null; then # no leak check under ptrace, on macOS
    ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0
    echo "  without the check for leaks, which does not work here"
  fi
  suite build/asan "$jobs" CFLAGS="-O1 -g -fno-omit-frame-pointer $sanitize"
  unset VIT_TEST_QUICK OMP_NUM_THREADS UBSAN_OPTIONS ASAN_OPTIONS
}

way_arm64() {
  echo "AArch64 with NEON, under qemu"
  case $(uname -m) in
  aarch64 | arm64)
    echo "  this machine is one: all of the above ran with NEON"
    return ;;
  esac
  arm=aarch64-linux-gnu-gcc qemu=
  for program in qemu-aarch64 qemu-aarch64-static; do
    if command -v $program >/dev/null 2>&1; then qemu=$program && break; fi
  done
  if ! command -v $arm >/dev/null 2>&1; then skip "$arm is not installed"; return; fi
  if [ -z "$qemu" ]; then skip "qemu-aarch64 is not installed"; return; fi
  mkdir -p build/arm64
  echo 'int main(void) { return 0; }' >build/arm64/probe.c
  if ! $arm -static build/arm64/probe.c -o build/arm64/probe 2>/dev/null; then
    skip "$arm finds no C library"
    return
  fi
  export VIT_TEST_QUICK=1
  VIT_TEST_RUNNER="$limit $qemu"
  suite build/arm64 "$jobs" CC=$arm LDFLAGS=-static OPENMP=0
  VIT_TEST_RUNNER=$limit
  unset VIT_TEST_QUICK
}

way_avx512() {
  export VIT_TEST_QUICK=1 OMP_NUM_THREADS=1
  only=$kernels
  if [ -z "${SIMDE:-}" ] && $CC -march=native -dM -E -x c /dev/null 2>/dev/null | grep -q __AVX512F__; then
    echo "AVX-512, -march=native"
    suite build/avx512 "$jobs" OPENMP=0 CFLAGS="$CFLAGS -march=native"
  elif echo '#include <simde/x86/avx512.h>' | $CC -E -x c - >/dev/null 2>&1; then
    echo "AVX-512 through SIMDe"
    suite build/simde "$jobs" OPENMP=0 CFLAGS='-O1 -Wno-psabi' \
      CPPFLAGS='-DVIT_SIMD_AVX512 -DVIT_SIMD_HEADER=\"tests/simde.h\"'
  else
    echo "AVX-512"
    skip "neither the CPU nor SIMDe (libsimde-dev) has it"
  fi
  only=
  unset VIT_TEST_QUICK OMP_NUM_THREADS
}

way_wasm() {
  echo "WebAssembly with SIMD128, emcc and node"
  for program in emcc node; do
    if ! command -v $program >/dev/null 2>&1; then skip "$program is not installed"; return; fi
  done
  export VIT_TEST_QUICK=1
  only=$kernels
  VIT_TEST_RUNNER="$limit node"
  suite build/wasm "$jobs" CC=emcc CFLAGS='-O1 -msimd128' OPENMP=0 STB=0 \
    LDFLAGS='-s NODERAWFS=1 -s WASM_ASYNC_COMPILATION=0 -s ALLOW_MEMORY_GROWTH=1'
  VIT_TEST_RUNNER=$limit
  only=
  unset VIT_TEST_QUICK
}

way_s390x() {
  echo "The high byte first, s390x under qemu"
  big=s390x-linux-gnu-gcc qemu=
  for program in qemu-s390x qemu-s390x-static; do
    if command -v $program >/dev/null 2>&1; then qemu=$program && break; fi
  done
  if ! command -v $big >/dev/null 2>&1; then skip "$big is not installed"; return; fi
  if [ -z "$qemu" ]; then skip "qemu-s390x is not installed"; return; fi
  export VIT_TEST_QUICK=1
  only='00_foundations endian'
  VIT_TEST_RUNNER="$limit $qemu"
  suite build/s390x "$jobs" CC=$big CFLAGS=-O1 LDFLAGS=-static OPENMP=0 STB=0
  VIT_TEST_RUNNER=$limit
  only=
  unset VIT_TEST_QUICK
}

way_compile() {
  echo "Compilers and languages"
  VIT_TEST_OUT=build
  one compile sh tests/compile.sh
}

way_fuzz() {
  seconds=${VIT_FUZZ_SECONDS:-20}
  echo "Fuzz targets, $seconds s each"
  fuzz='clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined'
  mkdir -p build/fuzz
  echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return p && n < 0; }' >build/fuzz/probe.c
  if ! $fuzz build/fuzz/probe.c -o build/fuzz/probe 2>/dev/null; then
    skip "clang has no libFuzzer here (Debian: libclang-rt-14-dev)"
    return
  fi
  stb=$(sh .ci/deps.sh stb)
  for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    program=build/fuzz/${name#fuzz_}
    rm -f "$program"
    $fuzz ${stb:+-DVIT_HAVE_STB -isystem "$stb"} "$source" -o "$program" -lm
    echo "$name tests/fuzz/one.sh $program $seconds"
  done | VIT_TEST_OUT=build/fuzz xargs -L 1 -P 2 sh -c 'sh tests/run.sh --one "$0" sh "$@"'
}

way_programs() {
  echo "The programs"
  VIT_TEST_OUT=build
  one build sh -c '"$1" -s -k -j "$2" programs WERROR=1 &&
    echo "build: 1 passed, 0 failed" || echo "build: 0 passed, 1 failed"' \
    sh "$MAKE" "$jobs"
  for script in tests/test_*.sh; do
    [ -f "$script" ] || continue
    name=$(basename "$script" .sh)
    one "${name#test_}" sh "$script"
  done
}

# ---- all of them ---------------------------------------------------------------

all='openmp serial nosimd clang asan avx512 arm64 wasm s390x compile fuzz programs'
[ $# -gt 0 ] || set -- $all
for way in "$@"; do
  case " $all " in
  *" $way "*) "way_$way" ;;
  *) echo "run.sh: no way '$way'; see its first lines" >&2; exit 1 ;;
  esac
  echo
done
awk '{ p += $1; f += $2; s += $3 }
     END {
       if (p + f == 0) f = 1
       printf "%d passed, %d failed%s\n", p, f, s ? ", " s " skipped" : ""
       exit f > 0
     }' $VIT_TEST_COUNTS
