#!/bin/sh
# Are the README's tables of config and augmentation what vit.h says? They are
# written from the header's own lists; `sh tests/test_readme.sh --write` does it.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/readme
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
      index($0, end) { skip = 0 } !skip' README.md >$dir/README.md && cp $dir/README.md README.md
  fi
  sed -n "/<!-- $table:/,/<!-- \/$table/p" README.md | grep '^|' >$dir/old
  if cmp -s $dir/old $dir/new; then
    passed=$((passed + 1))
  else
    echo "README.md: the table of $table differs from vit.h; run: sh tests/test_readme.sh --write"
    failed=$((failed + 1))
  fi
done
echo "readme: $passed passed, $failed failed"
[ $failed = 0 ]
