#!/bin/sh
# Are the tables of config and augmentation what vit.h says, and does the code in
# README.md and reference.md compile? The tables are written from the header's own
# lists; `sh tests/test_readme.sh --write` does it.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/readme page=tutorials/reference.md
mkdir -p $dir
cat >$dir/table.c <<'END'
#define VIT_IMPLEMENTATION
#include "../../vit.h"
int main(int argc, char **argv) {
  vit_config c = vit_config_tutorial();
  vit_augment a;
  const char *name, *text;
  double value;
  float *number;
  if (argc > 1 && !strcmp(argv[1], "augment")) {
    puts("| field | what it does to training images; 0 is off |\n|---|---|");
    for (int i = 0; vit_augment_field(&a, i, &name, &text, &number); i++)
      printf("| `%s` | %s |\n", name, text);
    return 0;
  }
  puts("| field | tutorial | meaning |\n|---|---|---|");
  for (int i = 0; vit_config_field(&c, i, &name, &text, &value); i++)
    printf("| `%s` | %g | %s |\n", name, value, text);
  return 0;
}
END
${CC:-cc} -O1 $dir/table.c -o $dir/table -lm || {
  echo "readme: 0 passed, 1 failed"
  exit 1
}
passed=0 failed=0
for table in config augment; do
  $dir/table $table >$dir/new
  if [ "${1:-}" = --write ]; then
    awk -v new=$dir/new -v begin="<!-- $table:" -v end="<!-- /$table" 'index($0, begin) { print
      while ((getline line < new) > 0) print line; skip = 1 }
      index($0, end) { skip = 0 } !skip' $page >$dir/page && cp $dir/page $page
  fi
  sed -n "/<!-- $table:/,/<!-- \/$table/p" $page | grep '^|' >$dir/old
  if cmp -s $dir/old $dir/new; then
    passed=$((passed + 1))
  else
    echo "$page: the table of $table differs from vit.h; run: sh tests/test_readme.sh --write"
    failed=$((failed + 1))
  fi
done
# The pieces of code compile: the first is a program (tests/compile.sh runs it),
# the others are its neighbours: functions, and lines for inside of one.
awk '/^```c$/ { n++; inside = 1; next } /^```/ { inside = 0 }
     inside { print > ("'$dir'/piece" n ".c") }' README.md $page
{
  sed 's/int main(void)/int lab(void)/' $dir/piece1.c
  cat $dir/piece2.c
  echo 'int steps(vit_model model, vit_fit_config f, vit_dataset train, vit_dataset test, vit_history h) {'
  cat $dir/piece3.c
  echo 'return (int)r; }'
  echo 'int packed(vit_model model, const float *image) {'
  cat $dir/piece4.c
  echo 'return best; }'
  cat <<'END'
int main(void) {
  vit_config c = vit_config_tutorial();
  vit_model m;
  return vit_model_create(&m, &c, 1) || try_my_gelu(&m);
}
END
} >$dir/pieces.c
cp vit.h $dir
if ${CC:-cc} -std=c99 -O1 -Wall -Wextra -Werror -Wno-unused-function $dir/pieces.c -o $dir/pieces -lm >$dir/log 2>&1 &&
  $dir/pieces >>$dir/log 2>&1 && grep -q 'error of the gradients 0.00' $dir/log; then
  passed=$((passed + 1))
else
  echo "README.md, $page: their code does not compile, or is wrong:"
  head -n 20 $dir/log
  failed=$((failed + 1))
fi
if [ "$(wc -l <README.md)" -le 150 ]; then
  passed=$((passed + 1))
else
  echo "README.md has $(wc -l <README.md) lines; 150 are what a newcomer reads: the rest belongs into $page"
  failed=$((failed + 1))
fi
echo "readme: $passed passed, $failed failed"
[ $failed = 0 ]
