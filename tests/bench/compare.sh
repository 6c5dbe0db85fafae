#!/bin/sh
# Is this vit.h as fast as another one?
#
#   sh tests/bench/compare.sh REVISION [ROUNDS] [GROUPS]
#
# Builds the benchmark of this folder and that of a revision of git, in
# build/compare, and lets them run in turns, so that a busy minute of the machine
# falls on both: ROUNDS times (7) a short run of GROUPS (kernels,matmul,training,
# inference). A line per case: the median of each, and how much faster the new one
# is; then the lowest of these. The exit status is 1 where a case is below 0.97.
# Both use the same path of their own choice, AVX2 on x86-64, and no peers.

set -u
cd "$(dirname "$0")/../.." || exit 1
: "${MAKE:=make}" "${1:?compare.sh needs a revision of git, such as HEAD~1}"
revision=$1 rounds=${2:-7} groups=${3:-kernels,matmul,training,inference}
dir=$(pwd)/build/compare
rm -rf "$dir" && mkdir -p "$dir/old" || exit 1
git archive "$revision" | tar -x -C "$dir/old" || exit 1
for side in old new; do
  tree=$dir/old
  [ $side = old ] || tree=$(pwd)
  "$MAKE" -s -C "$tree" BUILD="$dir/$side-build" BLAS=0 "$dir/$side-build/bench" || exit 1
done

round=1
while [ "$round" -le "$rounds" ]; do
  for side in old new; do
    [ $((round % 2)) = 1 ] || side=$([ $side = old ] && echo new || echo old)
    PYTHON=/no/such/python "$dir/$side-build/bench" --quick --rounds 1 \
      --only "$groups" --out "$dir/$side-$round" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
  done
  round=$((round + 1))
done

for side in old new; do
  for csv in "$dir/$side"-[0-9]*/results.csv; do sed "1d;s/^/$side,/" "$csv"; done
done | awk -F , '
  $2 != "machine" && $4 !~ /OpenBLAS/ && $9 != "MB" {
    key = $2 ", " $3 ", " $4 ", " $5 " threads, " $9
    unit[key] = $9
    values[$1, key] = values[$1, key] " " $6
  }
  function median(text,   v, n, i, j, t) {
    n = split(text, v, " ")
    for (i = 2; i <= n; i++)
      for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
    return n ? (v[int((n + 1) / 2)] + v[int(n / 2) + 1]) / 2 : 0
  }
  END {
    low = 9
    for (key in unit) {
      old = median(values["old", key]); new = median(values["new", key])
      if (!(old > 0) || !(new > 0)) continue
      ratio = unit[key] ~ /^(ms|us|s)$/ ? old / new : new / old
      if (ratio < low) { low = ratio; where = key }
      bad += ratio < 0.97
      n++
      printf "%6.3f  %10.4g %10.4g %-10s %s\n", ratio, old, new, unit[key], key | "sort"
    }
    close("sort")
    printf "%d cases, lowest %.3f (%s), %d below 0.97\n", n, low, where, bad
    exit !n || bad > 0
  }'
