#!/bin/sh
# The book: are the pages of tutorials/ what vit.h and the examples say, does the
# loom find what is wrong, do the answers pass their checks?
#
#   sh tests/test_book.sh [NN...]   after `make programs`; chapters NN alone
#
# ends in `book: N passed, M failed`.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/book
mkdir -p $dir
passed=0 failed=0
tell() { # tell TRUTH WHAT
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "wrong: $2"; fi
}
done_() { echo "book: $passed passed, $failed failed"; [ $failed = 0 ]; exit; }

# ---- the pages ---------------------------------------------------------------------

sh tutorials/loom/loom.sh check "$@" >$dir/log 2>&1
status=$?
cat $dir/log
tell $status "the book differs from its sources, or breaks a rule: see above"

# Answers in C are right; what is planted in a _bug.c is found, in the words that
# its first line gives: /* found: row 0, column 1 of p is ... */
for answer in tutorials/answers/[0-9][0-9]_*.c; do
  [ -f "$answer" ] || continue
  name=${answer##*/} chapter=${name%%_*}
  if [ $# -gt 0 ]; then case " $* " in *" $chapter "*) ;; *) continue ;; esac; fi
  sh tutorials/loom/check.sh "$chapter" "$answer" >$dir/checked 2>&1
  status=$?
  case $name in
  *_bug*.c)
    sentence=$(sed -n '1s|^/\* found: \(.*\) \*/$|\1|p' "$answer")
    [ $status != 0 ] && [ -n "$sentence" ] && grep -qF "$sentence" $dir/checked
    tell $? "$answer should be found with \"$sentence\", but: $(head -n 1 $dir/checked)" ;;
  *) tell $status "$answer does not pass: $(head -n 1 $dir/checked)" ;;
  esac
done
if [ $# -gt 0 ]; then done_; fi

if command -v pandoc >/dev/null 2>&1; then
  sh tutorials/loom/html.sh >$dir/log 2>&1
  tell $? "make book: $(cat $dir/log)"
fi

# ---- the loom, on a small book of its own --------------------------------------------

copy=$PWD/$dir/copy
fresh() {
  rm -rf "$copy"
  mkdir -p "$copy/examples" "$copy/tutorials/figures/src" "$copy/outputs/03" "$copy/tutorials/answers"
  cp -R tutorials/loom "$copy/tutorials/loom"
  cat >"$copy/vit.h" <<'END_OF_FILE'
void vit_small(int n);
/* Says twice as much. */
static int vit_twice(int n) {
  return 2 * n;
}
END_OF_FILE
  printf '%s\n' '/* ---- [1] ---- */' '' 'static void one(void) { printf("%d\n", 21); }' 'int main(void) {}' >"$copy/examples/03_small.c"
  printf '%s\n' 'a title' '' '[1] First cell' '  twice 0.125 is 0.250' '  time 17.5 us' >"$copy/outputs/03.txt"
  cp "$copy/outputs/03.txt" "$copy/outputs/03/one.gp"
  cp "$copy/outputs/03.txt" "$copy/outputs/03/one.dat"
  echo '<svg><text>{{03 1 "twice" 2}} {{here}} {{text word}}</text></svg>' >"$copy/tutorials/figures/src/one.svg"
  echo 'word | Wort' >"$copy/tutorials/figures/strings.txt"
  echo '03-one.svg fill one 03' >"$copy/tutorials/figures/figures.txt"
  printf '%s\n' '# Results' '' '## long' '' '| seed 1 | 99.25 % |' '' '## other' '' '| seed 1 | 98.75 % |' >"$copy/tutorials/results.md"
  cat >"$copy/tutorials/README.md" <<'END_OF_FILE'
# A small book

It says <!-- num 03 1 "twice" 2 -->0<!-- /num -->, see [there](#a-second-heading), and $[T, Dh]$.
A night brought <!-- num results other "| seed 1 |" 1 -->0<!-- /num --> %, and:

<!-- results long -->
<!-- /results -->

<!-- code vit_twice -->
<!-- /code -->
<!-- cell 03 1 -->
<!-- /cell -->
<!-- output 03 1 but "time" -->
<!-- /output -->

<!-- pencil -->
```text
a = 0.125   2 * a = 0.250
```
<!-- /pencil -->

![A figure of one number that is twice the other one](figures/03-one.svg)

## A second heading

In 2026 it was 0.250.
END_OF_FILE
  (cd "$copy" && LOOM_OUTPUTS=outputs sh tutorials/loom/loom.sh write) >$dir/log 2>&1
  page=$copy/tutorials/README.md
}
small() { (cd "$copy" && LOOM_EXACT=1 LOOM_OUTPUTS=outputs sh tutorials/loom/loom.sh check) >$dir/log 2>&1; }
edit() { sed "$1" "$2" >$dir/edited && cp $dir/edited "$2"; }
finds() { # finds WORDS WHAT: the check fails, and says so
  if small; then tell 1 "the loom does not find $2"; else grep -q "$1" $dir/log && ! grep -v -e ': .*; ' -e ' words ' $dir/log; tell $? "the loom on $2: $(cat $dir/log)"; fi
}

mkdir -p "$copy"
fresh
small
tell $? "the small book: $(cat $dir/log)"
grep -q '^  return 2 \* n;' "$page" && grep -q '0.250<!-- /num' "$page" && grep -q 'Says twice' "$page" && grep -q '"%d' "$page"
tell $? "the small book is not woven: $(cat "$page")"
grep -q '<text>0.250 03 Wort<' "$copy/tutorials/figures/03-one.svg"
tell $? "a figure is not filled in: $(cat "$copy/tutorials/figures/03-one.svg")"
edit 's/17.5 us/18.5 us/' "$copy/outputs/03.txt" && small
tell $? "a time that changed is taken for a mistake: $(cat $dir/log)"

edit 's/is 0.250/is 0.251/' "$copy/outputs/03.txt" && edit 's/fill one/plot 03 one 1/' "$copy/tutorials/figures/figures.txt"
(cd "$copy" && LOOM_EXACT=0 LOOM_OUTPUTS=outputs sh tutorials/loom/loom.sh check) >$dir/log 2>&1
tell $? "a last digit is taken for a mistake on another machine: $(cat $dir/log)"
edit 's/is 0.251/is 0.254/' "$copy/outputs/03.txt"
! (cd "$copy" && LOOM_EXACT=0 LOOM_OUTPUTS=outputs sh tutorials/loom/loom.sh check) >$dir/log 2>&1
tell $? "four units of the last digit are no mistake on another machine"

fresh
printf '# epoch loss seconds\n1 0.5 2.25\n' >"$copy/outputs/03/one.dat"
sum=$({ cat "$copy/outputs/03/one.gp" && printf '# epoch loss seconds\n1 0.5\n'; } | cksum | sed 's/ .*//')
edit "s/fill one.*/plot 03 one $sum/" "$copy/tutorials/figures/figures.txt" && small
tell $? "seconds in the data of a figure are taken for a change: $(cat $dir/log)"

fresh
echo "set terminal pngcairo size 961,400 font 'sans,11'" >"$copy/outputs/03/one.gp"
edit "s/fill one.*/plot 03 one $(cat "$copy"/outputs/03/one.gp "$copy"/outputs/03/one.dat | cksum | sed 's/ .*//')/" "$copy/tutorials/figures/figures.txt"
finds '03-one.svg is 961 pixels wide' 'a figure too wide for its type'

wrong() { # wrong WORDS WHAT EDIT FILE
  fresh
  edit "$3" "$copy/$4"
  finds "$1" "$2"
}
wrong 'code vit_twice is not in vit.h' 'a renamed function' 's/vit_twice/vit_double/' vit.h
wrong 'differs from "  return 3' 'a changed function' 's/return 2/return 3/' vit.h
wrong 'differs from .*0.260' 'a changed output' 's/0.250/0.260/' outputs/03.txt
wrong 'number 98.75 is 98.76' 'a changed result' 's/98.75/98.76/' tutorials/results.md
wrong 'differs from "| seed 1 | 99.26' 'a changed table of results' 's/99.25/99.26/' tutorials/results.md
wrong 'number 0.250 is 0.260' 'a changed number' 's/0.250/0.260/' outputs/03.txt
wrong 'figures.txt: 03-one.svg is not' 'a changed number in a figure' 's/0.250/0.260/' outputs/03.txt
wrong 'the data of 03-one.svg changed' 'changed data of a figure' 's/fill one.*/plot 03 one 1/' tutorials/figures/figures.txt
wrong 'output 03 1 is not in' 'a cell that is gone' 's/^\[1\]/[2]/' outputs/03.txt
wrong 'cell 03 1 is not in' 'a removed cell' 's/\[1\]/[2]/' examples/03_small.c
wrong 'differs from "static void one' 'a changed cell' 's/21/22/' examples/03_small.c
wrong 'leads nowhere' 'a dead link' 's/(#a-second/(no.md#a-second/' tutorials/README.md
wrong 'finds no such heading' 'a dead anchor' 's/^## A second/## The second/' tutorials/README.md
wrong 'number 0.75 stands in no block' 'an invented number' 's/it was 0.250/it was 0.75/' tutorials/README.md
wrong 'number 123 stands in no block' 'an invented whole number' 's/it was 0.250/it was 123/' tutorials/README.md
wrong 'has the size Z' 'a foreign size' 's/T, Dh/Z, Dh/' tutorials/README.md
wrong 'is not 0.25; work' 'a wrong calculation' 's/2 \* a = 0.250/2 * a = 0.260/' tutorials/README.md
wrong 'typed by hand' 'a block typed by hand' 's/^<!-- .*pencil -->$//' tutorials/README.md
wrong 'has 2 words' 'a figure without a text' 's/!\[.*\]/![two words]/' tutorials/README.md
wrong 'which is not listed' 'a figure from nowhere' 's/03-one.svg/03-two.svg/' tutorials/README.md
wrong 'never closed' 'a mark without an end' 's/^<!-- .output -->//' tutorials/README.md
fresh
awk 'BEGIN { for (i = 0; i < 260; i++) print "word" }' >>"$page"
finds 'more than 250 words' 'a page of words alone'
fresh
mv "$page" "$copy/tutorials/03-small.md" && cp "$copy/tutorials/03-small.md" "$copy/tutorials/README.md"
edit '/^<!-- output/,/^<!-- .output/d' "$copy/tutorials/03-small.md"
edit 's/<!-- num [^>]*-->0.250<!-- .num -->/a number/' "$copy/tutorials/03-small.md"
printf '%s\n' '/*  >>03 */' 'static void vit_naive_half(int n) {' '}' >>"$copy/vit.h"
edit '/^<!-- cell/,/^<!-- .cell/d' "$copy/tutorials/03-small.md"
finds 'cell \[1\] First cell is quoted nowhere' 'a cell that nobody quotes'
finds 'kernel vit_naive_half is quoted nowhere' 'a kernel that nobody explains'
rm -rf "$copy"

# ---- the checker, on files that are wrong ---------------------------------------------

chapter=03
answer() { # answer WORDS WHAT TEXT: the check of $chapter fails with these words on this file
  printf '%s\n' "$3" >$dir/own.c
  if sh tutorials/loom/check.sh $chapter $dir/own.c >$dir/log 2>&1; then
    tell 1 "check-$chapter passes $2"
  else
    [ "$(wc -l <$dir/log)" -le 2 ] && grep -q "$1" $dir/log
    tell $? "check-$chapter on $2: $(cat $dir/log)"
  fi
}
head='static void my_softmax_forward(float *p, const float *s, int rows, int cols)'
answer 'defines no kernel of chapter 03' 'a file without a kernel' 'int x;'
answer 'does not compile' 'a file with a mistake' "$head { p[0] = ; }"
answer 'wanted: void my_softmax_forward(float \*p, const' 'other arguments' 'static void my_softmax_forward(float *p) { (void)p; }'
answer 'number 0 of p is not a number, or was never' 'an empty kernel' "$head { (void)p, (void)s, (void)rows, (void)cols; }"
answer 'reads or writes where it has no array' 'a crash' "$head { for (int i = 0; i < 100000; i++) p[i] = s[rows * cols]; }"
answer 'is an input' 'a changed input' "$head { vit_naive.softmax_forward(p, s, rows, cols); ((float *)s)[0] = 7; }"
answer 'row 1, column 0 of p is .*, should be' 'one row alone' "$head { vit_naive.softmax_forward(p, s, 1, cols); for (int i = cols; i < rows * cols; i++) p[i] = 1; }"
chapter=09
answer 'wanted: void my_average(float \*average, const' 'other arguments' 'static void my_average(float *a) { (void)a; }'
answer 'after step 1, decay' 'no average' 'static void my_average(float *a, const float *w, int n, int step, float decay) { (void)a; }'
chapter=12
head='static void my_resize_row(unsigned char *out, const unsigned char *in, int n_in, int n_out)'
answer 'from 4 to 2 pixels' 'every other pixel' "$head { for (int x = 0; x < n_out; x++) out[x] = in[x * n_in / n_out]; }"
answer 'no array (with from 1 to 1 pixels)' 'a crash' "$head { (void)in, (void)n_in, (void)n_out; out[-(1 << 30)] = 0; }"
sh tutorials/loom/check.sh 03 $dir/no-such.c >$dir/log 2>&1
[ $? = 1 ] && grep -q 'There is no file' $dir/log
tell $? "check-03 without a file: $(cat $dir/log)"
done_
