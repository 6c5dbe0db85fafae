#!/bin/sh
# The tables of speed in tutorials/reference.md, as markdown, from what `make bench` left behind.
#
#   sh tests/bench/tables.sh [DIR]           prints them (DIR: out/bench)
#   sh tests/bench/tables.sh --write [DIR]   puts them there
#
# A dash is what was not measured.

set -u
cd "$(dirname "$0")/../.." || exit 1
write=0
[ "${1:-}" != --write ] || { write=1 && shift; }
dir=${1:-out/bench}
[ -f "$dir/results.csv" ] || { echo "There is no $dir/results.csv: run make bench" >&2 && exit 1; }

tables() {
  sed 's/^ *\(.*[^ ]\)  *$/\1/; s/^ *//; s/   */: /; s/$/\\/; $s/\\$//' "$dir/machine.txt"
  awk -F , '
    function number(v,   text) { # three digits, of thousands four
      if (v == "") return "-"
      if (v < 1e3) return sprintf(v >= 100 ? "%.0f" : v >= 10 ? "%.1f" : "%.2f", v)
      text = v >= 1e5 ? 1000 * int(v / 1e3 + 0.5) : v >= 1e4 ? 100 * int(v / 100 + 0.5) : int(v + 0.5)
      return substr(text, 1, length(text) - 3) "," substr(text, length(text) - 2)
    }
    function ratio(a, b) { return a == "" || b == "" ? "-" : sprintf("%.2f x", a / b) }
    # A row for each case and number of threads: ours, the peers (names with ; between),
    # ours against the best of them and, with `base`, against that of our own.
    function table(group, title, ours, peers, against, base, baseline,   names, n, i, j, t, v, p, best, row, rule, head) {
      n = split(peers, names, ";")
      row = title " | threads | " ours
      for (j = 1; j <= n; j++) row = row " | " names[j]
      row = row " | " against (base == "" ? "" : " | " baseline)
      rule = row
      gsub(/[^|]+/, "---", rule)
      head = "\n| " row " |\n|" rule "|\n"
      for (i = 1; i <= cases; i++) for (t = 1; t <= 1024; t++) {
        v = value[group, name[i], ours == "vit.h" ? "vit.h simd" : ours, t, "images/s"]
        if (v == "") continue
        row = (name[i] in text ? text[name[i]] : name[i]) " | " t " | " number(v)
        best = ""
        for (j = 1; j <= n; j++) {
          p = value[group, name[i], names[j], t, "images/s"]
          row = row " | " number(p)
          if (p + 0 > best + 0) best = p
        }
        row = row " | " ratio(v, best)
        if (base != "") row = row " | " ratio(v, value[group, name[i], base, t, "images/s"])
        printf "%s| %s |\n", head, row
        head = ""
      }
    }
    function products(   i, t, row, what) {
      row = "GFLOP/s of y = x W^T, rows x in x out"
      for (t = 1; t <= most; t++) row = row " | vit.h, " t " thread" (t > 1 ? "s" : "") " | OpenBLAS, " t " thread" (t > 1 ? "s" : "")
      row = row " | vit.h of the peak, 1 thread"
      what = row
      gsub(/[^|]+/, "---", what)
      printf "\n| %s |\n|%s|\n", row, what
      for (i = 1; i <= shapes; i++) {
        what = shape[i]
        row = what
        sub(/ forward$/, "", row)
        gsub(/x/, " x ", row)
        for (t = 1; t <= most; t++)
          row = row " | " number(value["matmul", what, "vit.h", t, "GFLOP/s"]) " | " number(value["matmul", what, "OpenBLAS", t, "GFLOP/s"])
        printf "| %s | %.0f %% |\n", row, value["matmul", what, "vit.h", 1, "% of peak"]
      }
    }
    BEGIN {
      text["A tutorial"] = "train the tutorial model (5,689 weights, batch 128)"
      text["MNIST"] = "train `vit_config_mnist()`, patches of 4 x 4 (205,962 weights, batch 128)"
      text["C CIFAR"] = "train the CIFAR-10 model C (119,098 weights, batch 256)"
    }
    NR > 1 {
      value[$1, $2, $3, $4, $8] = $5
      if (!(($1, $2) in seen) && $1 ~ /training|inference/) name[++cases] = $2
      if (!(($1, $2) in seen) && $1 == "matmul" && $2 ~ / forward$/) shape[++shapes] = $2
      seen[$1, $2] = 1
      if ($1 == "matmul" && $4 > most) most = $4
    }
    END {
      torch = "PyTorch eager;PyTorch compile"
      if (cases) {
        table("training", "images per second", "vit.h", torch, "vit.h against the best")
        table("inference", "images per second, 224 x 224", "vit.h", torch ";ONNX Runtime;OpenVINO", "vit.h against the best")
        table("inference", "the same, weights as bytes", "vit.h int8", "ONNX Runtime int8", "vit.h against it", "vit.h simd", "against vit.h in floats")
      }
      if (shapes) products()
    }' "$dir/results.csv"
}

if [ $write = 1 ]; then
  tables >build/tables.md
  awk 'index($0, "<!-- bench:") { print
         while ((getline line < "build/tables.md") > 0) print line; skip = 1 }
       index($0, "<!-- /bench") { skip = 0 } !skip' tutorials/reference.md >build/reference.md && cp build/reference.md tutorials/reference.md
else
  tables
fi
