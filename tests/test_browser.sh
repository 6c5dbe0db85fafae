#!/bin/sh
# The page of chapter 15 in a real browser: chromium without a window, driven by
# Playwright, which is put into build/browser/venv.
#   sh tests/test_browser.sh [PART...]   ends in `browser: N passed, M failed`.
# Environment: BROWSER_PYTHON, a Python that has Playwright.
set -u
cd "$(dirname "$0")/.." || exit 1
: "${CC:=cc}" "${CFLAGS:=-O2}" "${MAKE:=make}"
dir=build/browser
skip() {
  echo "$1: the page is not tested"
  echo "browser: 0 passed, 0 failed, 1 skipped"
  exit 0
}
chromium=
for name in chromium chromium-browser google-chrome; do
  if command -v $name >/dev/null 2>&1; then chromium=$(command -v $name) && break; fi
done
command -v emcc >/dev/null 2>&1 || skip "no emcc here (make deps BROWSER=1 installs it)"
[ "$chromium" ] || skip "no chromium here"
mkdir -p $dir
python=${BROWSER_PYTHON:-$dir/venv/bin/python}
if ! "$python" -c 'import playwright' 2>/dev/null; then
  python=$dir/venv/bin/python
  { python3 -m venv $dir/venv && $dir/venv/bin/pip install -q playwright; } >$dir/venv.log 2>&1 ||
    skip "no Playwright for Python, and none to be had"
fi
fail() {
  echo "$1"
  echo "browser: 0 passed, 1 failed"
  exit 1
}
"$MAKE" -s DEPS=0 WERROR=1 browser >$dir/log 2>&1 || fail "make browser: $(tail -n 5 $dir/log)"
$CC -std=c99 $CFLAGS tests/browser_native.c -o $dir/native -lm || fail "browser_native.c does not build"
# A model as `make mnist` makes it, of less training.
if [ ! -s $dir/lab.safetensors ]; then
  build/09_mnist --preset quick --data $dir/digits --limit 1500 --held 200 --epochs 1 --threads 1 --out $dir/lab >$dir/log 2>&1 &&
    cp $dir/lab/best.safetensors $dir/lab.safetensors || fail "09_mnist: $(tail -n 5 $dir/log)"
fi
"$python" tests/browser_drive.py out/15-browser/index.html $dir/native $dir "$chromium" "$@"
