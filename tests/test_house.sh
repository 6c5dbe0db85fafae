#!/bin/sh
# Is vit.h as its first screen says? Chapters in the order of their numbers, each
# in one piece, the three parts about as long as announced, lines that fit.
#
#   sh tests/test_house.sh    ends in `house: N passed, M failed`

set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
tell() { # tell TRUTH WHAT
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "vit.h: $2"; fi
}

long=$(awk 'length > 80 { printf " %d", NR }' vit.h)
[ -z "$long" ]
tell $? "lines above 80 columns:$long"

sorted() { [ -n "$1" ] && [ "$1" = "$(printf '%s\n' "$1" | sort -u)" ]; }
declared=$(sed -n 's|^/\* ---- \([01][0-9]\) .*|\1|p' vit.h)
sorted "$declared"
tell $? "the declarations' chapters are not in order:" $declared
chapters=$(sed -n 's|^/\*  >>\([01][0-9]\) .*|\1|p' vit.h)
sorted "$chapters" && [ "$(printf '%s\n' "$chapters" | wc -l)" -eq 14 ]
tell $? "the implementation's chapters are not 00 to 13 in order:" $chapters
[ "$(sed -n 's|^ *>>\([01][0-9] [a-z]*\) .*|\1|p' vit.h)" = "$(sed -n 's|^/\*  >>\([01][0-9] [a-z]*\) .*|\1|p' vit.h)" ]
tell $? "the contents on the first screen are not the chapters"

# Where a part begins; the declarations end where the model begins.
at() { grep -n "^/\*  PART $1" vit.h | head -n 1 | cut -d: -f1; }
one=$(at ONE) two=$(at TWO) three=$(at THREE) end=$(wc -l <vit.h)
for part in "ONE $((two - one))" "TWO $((three - two))" "THREE $((end - three))"; do
  announced=$(sed -n "s/^ *PART ${part% *} .* about \([0-9]*\) lines/\1/p" vit.h)
  awk -v is="${part#* }" -v said="${announced:-0}" 'BEGIN { exit !(said > 0.95 * is && said < 1.05 * is) }'
  tell $? "part $part lines, announced are ${announced:-none}"
done

# A reader sees a function whole.
tall=$(awk '/PART TWO: / { code = 1 }
  code && /^[A-Za-z].*\(/ && !/;$/ { start = NR; name = $0 }
  /^}/ { if (start && NR - start > 62) print substr(name, 1, 50) " (" NR - start ")"; start = 0 }' vit.h)
[ -z "$tall" ]
tell $? "functions that do not fit on a screen: $tall"

# Only the vocabulary of chapter 00 knows on what it runs.
where=$(grep -nE '__x86_64__|__aarch64__|__wasm|__AVX|_mm[0-9]*_|vld1|wasm_' vit.h | cut -d: -f1)
from=$(grep -n '^/\* -- the SIMD vocabulary' vit.h | cut -d: -f1)
to=$(grep -n '^/\* -- the two kernel tables' vit.h | cut -d: -f1)
stray=$(for line in $where; do if [ "$line" -lt "$from" ] || [ "$line" -gt "$to" ]; then echo "$line"; fi; done)
[ -n "$where" ] && [ -z "$stray" ]
tell $? "a dialect is known outside the vocabulary, in lines:" $stray

if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then # others differ
  clang-format --dry-run -Werror vit.h >/dev/null 2>&1
  tell $? "is not formatted; run: clang-format -i vit.h"
fi
echo "house: $passed passed, $failed failed"
[ $failed = 0 ]
