#!/bin/sh
# The benchmark from outside: it builds without warnings, with and without
# OpenBLAS, goes on without its peers, and leaves the table that it promises.
#
#   sh tests/test_bench.sh    ends in `bench: N passed, M failed`
#
# The figures are not tested: a busy machine is no error.

set -u
cd "$(dirname "$0")/.." || exit 1
: "${MAKE:=make}"
out=build/test_bench passed=0 failed=0
unset MAKEFLAGS MFLAGS MAKELEVEL
rm -rf $out
mkdir -p $out
tell() { # tell TRUTH WHAT
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "wrong: $2"; fi
}

for blas in 0 1; do
  "$MAKE" -s $out/$blas/bench BUILD=$out/$blas BLAS=$blas WERROR=1 >$out/log 2>&1
  tell $? "the build with BLAS=$blas: $(cat $out/log)"
done

# A Python that is not there costs one line; the rest goes on.
PYTHON=/no/such/python $out/0/bench --quick --rounds 1 --only training,memory --out $out >$out/log 2>&1
tell $? "the run ended with $?: $(tail -n 3 $out/log)"
[ "$(grep -c '/no/such/python' $out/log)" = 1 ]
tell $? "a missing Python should be one line: $(grep python $out/log)"
[ "$(head -n 1 $out/results.csv)" = group,case,implementation,threads,median,low,high,unit ]
tell $? "the first line of results.csv: $(head -n 1 $out/results.csv)"
awk -F , 'NR > 1 && (NF != 8 || !($6 > 0 && $6 <= $5 && $5 <= $7)) { bad = 1; print } END { exit bad || NR < 10 }' \
  $out/results.csv >$out/bad
tell $? "rows of results.csv, low <= median <= high: $(cat $out/bad)"
awk -F , '$2 == "B/16" && $8 == "MB" { mb[$3] = $5 } END { exit !(mb["weights"] > 0 && mb["used"] < 1.25 * mb["weights"]) }' \
  $out/results.csv
tell $? "B/16 on one image uses more than 1.25 times its weights: $(grep 'B/16' $out/results.csv)"
sh tests/bench/tables.sh $out >$out/tables.md
awk -F , '$2 == "A tutorial" && $3 == "vit.h simd" && $4 == 1 && $8 == "images/s" { print $5 }' $out/results.csv >$out/rate
grep '^| train the tutorial model.* | 1 |' $out/tables.md | tr -d ' ,' |
  awk -F '|' -v rate="$(cat $out/rate)" '$4 > 0.99 * rate && $4 < 1.01 * rate { same = 1 } END { exit !same }'
tell $? "the table says not $(cat $out/rate): $(cat $out/tables.md)"
$out/0/bench --only nonsense >$out/log 2>&1
[ $? = 1 ] && [ "$(wc -l <$out/log)" -eq 1 ]
tell $? "an unknown group: $(cat $out/log)"

echo "bench: $passed passed, $failed failed"
[ $failed = 0 ]
