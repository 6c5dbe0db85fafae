#!/bin/sh
# The same bits with and without OpenMP, and with other numbers of threads:
# compares the line `checksum naive XXXXXXXX simd XXXXXXXX` of 08_training.
#
#   sh tests/test_same_bits.sh    ends in `same_bits: N passed, M failed`
#
# The program holds the comparison of thread counts; this is about the builds.

set -u
cd "$(dirname "$0")/.." || exit 1
: "${MAKE:=make}"
out=build/same_bits passed=0 failed=0 first=
unset MAKEFLAGS MFLAGS MAKELEVEL

# checksum NAME THREADS MAKE_VARIABLES...
checksum() {
  name=$1 threads=$2
  shift 2
  if ! "$MAKE" -s "$out/$name/test_08_training" BUILD="$out/$name" "$@" \
    >"$out/$name.log" 2>&1; then
    echo "  FAIL $name did not build"
    failed=$((failed + 1))
    return
  fi
  line=$(OMP_NUM_THREADS=$threads VIT_TEST_ONLY=same_bits \
    "$out/$name/test_08_training" | grep '^checksum naive')
  [ -n "$first" ] || first=$line
  if [ -n "$line" ] && [ "$line" = "$first" ]; then
    passed=$((passed + 1))
  else
    echo "  FAIL $name, $threads threads: $line, expected $first"
    failed=$((failed + 1))
  fi
}

mkdir -p "$out"
checksum serial 1 OPENMP=0
checksum openmp 1
checksum openmp 3
echo "same_bits: $passed passed, $failed failed"
[ $failed = 0 ]
