#!/bin/sh
# Makes the page: out/15-browser/index.html, one file that needs no other.
# Wants emcc; build/digits and build/09_mnist are there (make browser).
#
#   1. vit.h as WebAssembly, twice: with SIMD128, and the plain loops alone
#   2. a small model, trained on drawn digits, always the same
#   3. page.html with all that it includes put in
set -eu
cd "$(dirname "$0")/../.."
: "${BUILD:=build}"
here=examples/15_browser work=$BUILD/browser out=out/15-browser
mkdir -p "$work" "$out"
newer() { # newer FILE SOURCE...: is FILE there, and newer than all of them?
  file=$1
  shift
  [ -f "$file" ] && [ -z "$(find "$@" -newer "$file")" ]
}

# -O2 is for the C alone: in emcc's last step it wants a package of node's (acorn).
# The plain loops are for old browsers: small is better there than fast.
settings='-s MODULARIZE=1 -s EXPORT_NAME=createVit -s ENVIRONMENT=web --no-entry
  -s FORCE_FILESYSTEM=1 -s ALLOW_MEMORY_GROWTH=1 -s TOTAL_STACK=1048576
  -s EXPORTED_RUNTIME_METHODS=FS,cwrap,ccall -s EXPORTED_FUNCTIONS=_malloc,_free'
compile() { # compile NAME FLAGS
  newer "$work/$1.wasm" vit.h data/digits.c $here/glue.c $here/build.sh && return
  echo "  build   $work/$1.wasm"
  emcc $2 -c $here/glue.c -o "$work/$1.o"
  emcc -O1 "$work/$1.o" -o "$work/$1.js" $settings
}
compile simd "-O2 -msimd128"
compile plain "-Os -DVIT_NO_SIMD"
# without the comments and the indentation of emscripten's part
sed 's/^ *//; /^\/\//d; /^$/d' "$work/simd.js" >"$work/vit.js"

if ! newer "$work/start.safetensors" vit.h data/digits.c; then
  echo "  train   $work/start.safetensors"
  mkdir -p "$work/digits"
  "$BUILD/digits" "$work/digits" --train 12000 --test 2000
  "$BUILD/09_mnist" --preset quick --data "$work/digits" --out "$work/start" --epochs 7 --lr 0.004 \
    --model depth=3,width=32,mlp_width=96,patch_height=4,patch_width=4 --threads 1 >"$work/start.txt"
  grep 'test accuracy' "$work/start.txt"
  cp "$work/start/best.safetensors" "$work/start.safetensors" # last: build anew after a failure
fi
printf 'const START_ACCURACY = "%s";\n' "$(sed -n 's/^test accuracy \([0-9.]*\) %.*/\1/p' "$work/start.txt")" >"$work/start.js"

# A line `<!-- include FILE -->` becomes that file, and `<!-- base64 NAME FILE -->`
# a constant of the script that holds its bytes.
awk -v here=$here -v work="$work" '
  /^<!-- include / {
    path = ($3 ~ /^build\//) ? work substr($3, 6) : here "/" $3
    while ((getline line <path) > 0) print line
    close(path)
    next
  }
  /^<!-- base64 / {
    printf "const %s = \"", $3
    command = "base64 <\"" work "/" $4 "\""
    while ((command | getline line) > 0) printf "%s", line
    close(command)
    print "\";"
    next
  }
  { print }' $here/page.html >"$out/index.html.new"
mv "$out/index.html.new" "$out/index.html"
size=$(wc -c <"$out/index.html")
echo "  $out/index.html: $size bytes, open it in a browser"
[ "$size" -lt 1500000 ] || { echo "The page is larger than 1.5 MB."; exit 1; }
