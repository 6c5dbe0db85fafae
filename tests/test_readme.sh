#!/bin/sh
# Is the README's table of config fields what vit.h says? It is written from the
# header's own list:   sh tests/test_readme.sh --write   puts it in place.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/readme
mkdir -p $dir
cat >$dir/table.c <<'END'
#define VIT_IMPLEMENTATION
#include "../../vit.h"
int main(void) {
  vit_config c = vit_config_tutorial();
  const char *name, *text;
  double value;
  puts("| field | tutorial | meaning |\n|---|---|---|");
  for (int i = 0; vit_config_field(&c, i, &name, &text, &value); i++)
    printf("| `%s` | %g | %s |\n", name, value, text);
  return 0;
}
END
${CC:-cc} -O1 $dir/table.c -o $dir/table -lm && $dir/table >$dir/new || {
  echo "readme: 0 passed, 1 failed"
  exit 1
}
if [ "${1:-}" = --write ]; then
  awk -v new=$dir/new '/<!-- config:/ { print; while ((getline line < new) > 0) print line; skip = 1 }
    /<!-- \/config/ { skip = 0 } !skip && !/<!-- config:/' README.md >$dir/README.md &&
    cp $dir/README.md README.md
fi
sed -n '/<!-- config:/,/<!-- \/config/p' README.md | grep '^|' >$dir/old
if cmp -s $dir/old $dir/new; then
  echo "readme: 1 passed, 0 failed"
else
  echo "README.md: the table of config fields differs from vit.h; run: sh tests/test_readme.sh --write"
  echo "readme: 0 passed, 1 failed"
  exit 1
fi
