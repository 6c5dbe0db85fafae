#!/bin/sh
# The training programs 09 and 12 from outside: short runs with a known result,
# Ctrl-C and --resume, other thread counts, a full disk, folders that do not fit.
#   sh tests/test_lab.sh   after `make programs`; ends in `lab: N passed, M failed, K skipped`.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/lab
rm -rf $dir
mkdir -p $dir/digits
passed=0 failed=0 skipped=0
tell() { # tell TRUTH WHAT
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "wrong: $2"; fi
}

# refuses SENTENCE COMMAND...: exit status 1, and a line on stderr that holds SENTENCE
refuses() {
  sentence=$1
  shift
  "$@" >$dir/out 2>$dir/err
  status=$?
  [ $status = 1 ] && grep -q "$sentence" $dir/err
  tell $? "exit $status of: $* said: $(cat $dir/err)"
}

# at_least PERCENT LOG: its last line is `test accuracy NN.NN %`, and high enough
at_least() {
  tail -n 1 $2 | grep -Eq '^test accuracy [0-9]+\.[0-9][0-9] %$' &&
    [ "$(tail -n 1 $2 | sed 's/[^0-9]//g')" -ge ${1}00 ]
  tell $? "wanted at least $1 %, $2 ends: $(tail -n 1 $2)"
}

# fits FILE...: what a program has printed keeps to 80 columns
fits() {
  [ -z "$(awk 'length > 80' "$@")" ]
  tell $? "lines of more than 80 columns in $*: $(awk 'length > 80' "$@")"
}

build/digits $dir/digits --train 4000 --test 500 || exit 1
quick="build/09_mnist --data $dir/digits --held 400 --epochs 2"

# A short version of each recipe, with what it reaches.
$quick --out $dir/a >$dir/log 2>&1
at_least 60 $dir/log
build/09_mnist --help >$dir/help
build/12_photos --help >>$dir/help
fits $dir/log $dir/help
for name in curves confusion mistakes attention augmentation; do
  [ -s $dir/a/$name.gp ] && [ -s $dir/a/$name.dat ]
  tell $? "09 left no script or data of $name"
done
[ "$(wc -l <$dir/a/history.csv)" -eq 3 ] && head -n 1 $dir/a/history.csv | grep -q '^epoch,train_loss'
tell $? "history.csv: $(cat $dir/a/history.csv)"
$quick --preset best --limit 2000 --out $dir/best >$dir/log 2>&1
at_least 30 $dir/log
$quick --preset tutorial --out $dir/tutorial >$dir/log 2>&1
at_least 30 $dir/log

# Another number of threads, and a stop in the middle: the same files.
same() { # same FOLDER WHAT
  cmp $dir/a/last.safetensors $dir/$1/last.safetensors && cmp $dir/a/best.safetensors $dir/$1/best.safetensors
  tell $? "$2: the checkpoints differ"
}
$quick --out $dir/one --threads 1 >$dir/log 2>&1
same one "one thread"
$quick --out $dir/stopped --threads 3 >$dir/log 2>&1 &
pid=$!
while kill -0 $pid 2>/dev/null && ! [ -s $dir/stopped/history.csv ]; do sleep 0.05; done
kill -INT $pid 2>/dev/null
wait $pid
status=$?
# the command goes on in the next line after a backslash, as a shell reads it
[ $status = 130 ] && tr -d '\\\n' <$dir/log | grep -q 'go on with: .*--resume'
tell $? "Ctrl-C: exit $status, $(tail -n 2 $dir/log)"
fits $dir/log
$quick --out $dir/stopped --resume >$dir/log 2>&1
tell $? "resume: $(tail -n 1 $dir/log)"
same stopped "stopped and resumed"
$quick --out $dir/stopped --resume >$dir/log 2>&1
at_least 60 $dir/log # there is nothing left to train
! grep -q 'int8' $dir/log && ! ls $dir/stopped/int8* >/dev/null 2>&1
tell $? "int8 without --int8: $(grep int8 $dir/log)"

# A finished run both ways: the float line is the test's, int8 is no further away than so
# many points. int8_of LOG FOLDER POINTS
int8_of() {
  awk -v most=$3 '$1 == "float" { a = $2; bytes = $5 } $1 == "int8" && NF == 6 { b = $2; small = $5 < 0.35 * bytes }
    /get another class/ { changed = $1; of = $3; right = $12 } /^  float: / { wrong = $2; other = $6 }
    /^test accuracy/ { same = $3 == a } END { moved = (b - a) * of / 100 - (right - wrong)
    exit !(same && small && a - b < most && b - a < most && changed == right + wrong + other &&
      moved < 0.1 && moved > -0.1) }' $1 && grep -q 'looked at once' $1
  tell $? "both ways: $(sed -n '/whole numbers/,$p' $1)"
  [ "$(wc -c <$2/int8.safetensors)" -lt $(($(wc -c <$2/best.safetensors) * 35 / 100)) ]
  tell $? "size of int8.safetensors: $(ls -l $2)"
}
$quick --out $dir/stopped --resume --int8 >$dir/log 2>&1
at_least 60 $dir/log
grep -q 'only tested again' $dir/log
tell $? "--int8 trains a finished run: $(sed -n '/Training$/,/epoch/p' $dir/log)"
int8_of $dir/log $dir/stopped 1
fits $dir/log
same stopped "tested as int8"
refuses 'quantized already' build/11_speed --data $dir/digits --model $dir/stopped/int8.safetensors
refuses 'unknown flag yes' $quick --int8 yes
refuses 'compare tests none' build/09_mnist --int8 --out $dir/compared --compare $dir/a
refuses 'its recipe.batch is 64, here it is 32' $quick --out $dir/stopped --resume --batch 32
refuses 'config.depth' $quick --out $dir/stopped --resume --model depth=2
same stopped "after two refusals"
refuses 'decay of the averaged weights is 2' $quick --out $dir/stopped --ema 2
same stopped "a new run that is refused"
rm -f $dir/stopped/curves.*
$quick --epochs 1 --limit 500 --held 0 --out $dir/stopped >$dir/log 2>&1
tail -n 1 $dir/log | grep -q '^test accuracy' && [ -s $dir/stopped/curves.gp ] &&
  grep -q "^judged = 0" $dir/stopped/curves.gp && [ -s $dir/stopped/model.safetensors ]
tell $? "without held-back images: $(tail -n 2 $dir/log)"
cmp $dir/a/last.safetensors $dir/stopped/before-1/last.safetensors &&
  cmp $dir/a/best.safetensors $dir/stopped/before-1/best.safetensors && [ -s $dir/stopped/before-1/history.csv ]
tell $? "a new run in the same folder: $(tail -n 2 $dir/log)"
[ -s $dir/stopped/before-1/int8.safetensors ] && ! [ -e $dir/stopped/int8.safetensors ]
tell $? "int8.safetensors of the run before: $(ls $dir/stopped $dir/stopped/before-1)"
head -c 5000 $dir/a/last.safetensors >$dir/stopped/last.safetensors
refuses 'last.safetensors' $quick --out $dir/stopped --resume

# Two runs at once in one folder: the second is refused and disturbs nothing.
$quick --epochs 1000 --out $dir/busy >$dir/log 2>&1 &
pid=$!
while kill -0 $pid 2>/dev/null && ! [ -s $dir/busy/history.csv ]; do sleep 0.05; done
refuses 'another training run is at work in' $quick --out $dir/busy
[ ! -e $dir/busy/before-1 ] && kill -0 $pid 2>/dev/null
tell $? "a run that was refused disturbed the one at work: $(tail -n 2 $dir/log)"
kill -INT $pid 2>/dev/null
wait $pid

# A run that other kernels go on with says so, in one place and once.
sed 's/^#include "mnist.h"/#define VIT_NO_SIMD\n&/' examples/09_mnist.c >$dir/naive.c
if ${CC:-cc} -std=c99 -O2 -I examples $dir/naive.c -o $dir/naive -lm 2>$dir/err; then
  mixed="--data $dir/digits --limit 600 --epochs 30 --preset tutorial --out $dir/mixed"
  build/09_mnist $mixed >$dir/log 2>&1 &
  pid=$!
  while kill -0 $pid 2>/dev/null && ! [ -s $dir/mixed/history.csv ]; do sleep 0.02; done
  kill -INT $pid 2>/dev/null
  wait $pid
  $dir/naive $mixed --resume >$dir/log2 2>&1
  if grep -q 'kernels  *simd' $dir/log; then
    [ "$(tr -s ' \n' ' ' <$dir/log2 | grep -c 'Its kernels: simd [^,]*, naive')" = 1 ]
    tell $? "resumed by other kernels: $(sed -n '/Training$/,/epoch/p' $dir/log2)"
  fi
  ! grep -q 'Its kernels' $dir/log
  tell $? "kernels that did not change are named: $(grep kernels $dir/log)"
else
  tell 1 "cannot compile 09 without SIMD: $(cat $dir/err)"
fi

# Finished runs side by side, judged or not, and what cannot be compared.
compare="build/09_mnist --out $dir/compared --compare"
$compare $dir/a $dir/best/ $dir/stopped >$dir/log 2>&1
[ $? = 0 ] && [ -s $dir/compared/compare.gp ] && [ -s $dir/compared/compare.dat ] &&
  [ "$(grep -Ec '^  (a|best) .* 2  .* %' $dir/log)" = 2 ] && grep -q '^  stopped  .* 1  .* -  ' $dir/log &&
  ! grep -q 'test accuracy' $dir/log && ! ls $dir/compared/*.safetensors >/dev/null 2>&1
tell $? "--compare: $(cat $dir/log)"
fits $dir/log
mkdir -p $dir/a2/best $dir/hostile $dir/empty
cp $dir/a/history.csv $dir/a2/best
build/12_photos --out $dir/compared --compare $dir/best $dir/a2/best >$dir/log 2>&1
grep -q "^  $dir/a2/best " $dir/log
tell $? "two folders of one name are not told apart: $(cat $dir/log)"
refuses "$dir/nowhere/history.csv" $compare $dir/a $dir/nowhere
printf 'epoch,train_loss\n1,%%n;rm -rf,"\n' >$dir/hostile/history.csv
refuses "$dir/hostile/history.csv" $compare $dir/a $dir/hostile
head -n 1 $dir/a/history.csv >$dir/empty/history.csv
refuses "$dir/empty/history.csv .*epoch" $compare $dir/empty
refuses 'at most 12' $compare $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a $dir/a
refuses 'compare needs a value' $compare

# In a terminal of 40 columns: the line that comes and goes is cut, not wrapped, and
# is nowhere longer than 80.
if script -qec true /dev/null >/dev/null 2>&1; then
  script -qec "stty cols 40; $quick --epochs 1 --out $dir/narrow" /dev/null >$dir/log 2>&1 </dev/null
  tr '\r' '\n' <$dir/log | grep -a ' left' >$dir/left
  [ -s $dir/left ] && ! grep -avq '^.\[K.*\[?7h' $dir/left &&
    [ -z "$(sed 's/^.\[K//; s/.\[?7h.*//' $dir/left | awk 'length > 80')" ] && grep -aq '\[?7l' $dir/log
  tell $? "progress in a narrow terminal: $(head -n 3 $dir/left | cat -v)"
else
  echo "skipped: a narrow terminal: there is no script(1) of util-linux"
  skipped=$((skipped + 1))
fi

# No file may be larger than 5000 blocks, as if the disk were full: the old
# run stays. (A block has 512 or 1024 bytes, the new one would have 6.5 MB.)
mkdir -p $dir/full
cp $dir/a/last.safetensors $dir/full
(trap '' XFSZ && ulimit -f 5000 && refuses 'cannot write .*last.safetensors: .*what was there before is still there' \
  $quick --epochs 1 --limit 500 --held 100 --model depth=12 --out $dir/full && [ $failed = 0 ])
tell $? "a full disk"
cmp -s $dir/a/last.safetensors $dir/full/before-1/last.safetensors && ! ls $dir/full/*.tmp >/dev/null 2>&1
tell $? "a full disk destroyed the run before, or left a part of a file"

# A rate that diverges leaves the last good checkpoint.
refuses 'diverged' $quick --out $dir/wild --lr 1000000 --model init=0
$quick --preset tutorial --limit 500 --lr 0.001 --out $dir/slow >$dir/log 2>&1
tr -s ' \n' ' ' <$dir/log | grep -q 'rate 0.001 falling in a line to 0.0005,'
tell $? "--lr and the floor: $(grep -A1 recipe $dir/log)"
refuses 'NAME\|there is no squeeze' $quick --augment squeeze=1
refuses 'rotate is 400' $quick --augment rotate=400
refuses 'tutorial, quick, best, local or post-norm' $quick --preset slow
refuses 'wants name=value' $quick --model depth
refuses 'early_stop is -1' $quick --early-stop -1
refuses 'learning rate is -1' build/09_mnist --data $dir/nowhere --lr -1 # before data are read

# Fine-tuning: a run that begins with the model of another, and goes on as if never stopped.
tune="build/09_mnist --data $dir/digits --held 400 --epochs 2 --init $dir/a/best.safetensors"
$tune --probe --out $dir/probe >$dir/log 2>&1
at_least 60 $dir/log
tr -s ' \n' ' ' <$dir/log | grep -q 'best.safetensors; its head for 10 classes is kept .* augmentation none' &&
  grep -q 'the head alone: a linear probe' $dir/log
tell $? "--probe: $(sed -n '/begin with$/,/seed/p' $dir/log)"
fits $dir/log
$tune --new-head --freeze 3 --layer-decay 0.8 --out $dir/tuned >$dir/log 2>&1
at_least 40 $dir/log
tr -s ' \n' ' ' <$dir/log | grep -q 'new one, as --new-head says .* layer decay 0.8, .* the first 2 blocks'
tell $? "--freeze: $(sed -n '/begin with$/,/seed/p' $dir/log)"
fits $dir/log
refuses 'its recipe.freeze is 3, here it is 4' $tune --new-head --freeze 4 --layer-decay 0.8 --out $dir/tuned --resume
refuses 'freeze is 9; the model has a stem, 6 blocks and a head' $tune --freeze 9 --out $dir/tuned
refuses 'name its file by --init' $quick --freeze 2
refuses 'name its file by --init' $quick --probe
refuses 'nothing can change the images' $tune --probe --augment shift=0.1
refuses 'without changes of its sizes' $tune --model depth=7 --out $dir/tuned
refuses 'history.csv is not a safetensors file' build/09_mnist --init $dir/a/history.csv
refuses 'is quantized, for good' build/09_mnist --init $dir/stopped/before-1/int8.safetensors
refuses 'cannot open .*nowhere' build/09_mnist --init $dir/nowhere

# A folder of photos: digits as PGM files, 20 of each of the first classes.
images=$dir/digits/train-images-idx3-ubyte labels=$dir/digits/train-labels-idx1-ubyte
i=0
od -An -v -tu1 -j8 -N300 $labels | tr -s ' ' '\n' | grep . | while read -r label; do
  mkdir -p $dir/photos/digit_$label
  { printf 'P5\n28 28\n255\n' && tail -c +$((17 + 784 * i)) $images | head -c 784; } \
    >$dir/photos/digit_$label/$i.pgm
  i=$((i + 1))
done
photos="build/12_photos --data $dir/photos --preset cifar-cls --held 30 --epochs 2"
echo 'no image' >$dir/photos/digit_3/notes.txt
$photos --out $dir/p >$dir/log 2>&1
if grep -q 'without stb_image' $dir/log; then
  echo "skipped: the photos: there is no stb_image.h"
  echo "lab: $passed passed, $failed failed, $((skipped + 1)) skipped"
  [ $failed = 0 ]
  exit
fi
fits $dir/log
tr -s ' \n' ' ' <$dir/log | grep -q 'skipped .*notes.txt' && grep -q 'were enlarged' $dir/log && grep -q '^  digit_7' $dir/log
tell $? "12 on a folder: $(tail -n 3 $dir/log)"
at_least 8 $dir/log
$photos --out $dir/q --threads 1 --int8 >$dir/log2 2>&1
int8_of $dir/log2 $dir/q 5
[ "$(tail -n 1 $dir/log)" = "$(tail -n 1 $dir/log2)" ] && cmp $dir/p/best.safetensors $dir/q/best.safetensors
tell $? "12 with one thread: $(tail -n 1 $dir/log2)"

# Fine-tuning to other classes: the head is new, and said to be; others of the same number are not.
classes=$(ls $dir/photos | grep -c .)
build/12_photos --data $dir/photos --init $dir/p/best.safetensors --held 30 --epochs 1 --out $dir/again >$dir/log 2>&1
tr -s ' \n' ' ' <$dir/log | grep -q "head for $classes classes is kept" && ! grep -q 'use --new-head' $dir/log
tell $? "12 --init: $(sed -n '/begin with$/,/^$/p' $dir/log)"
mkdir -p $dir/other && cp -r $dir/photos/. $dir/other && mv $dir/other/digit_3 $dir/other/zebra
build/12_photos --data $dir/other --init $dir/p/best.safetensors --held 30 --epochs 1 --out $dir/again >$dir/log 2>&1
tr -s ' \n' ' ' <$dir/log | grep -q 'note its class 3 was called digit_3, and is now digit_4: .* use --new-head'
tell $? "12 --init with other names: $(sed -n '/begin with$/,/^$/p' $dir/log)"
fits $dir/log
rm -r $dir/other/digit_1
build/12_photos --data $dir/other --init $dir/p/best.safetensors --probe --held 30 --epochs 1 --out $dir/again >$dir/log 2>&1
tr -s ' \n' ' ' <$dir/log | grep -q "head for $classes classes is replaced by a new one" && tail -n 1 $dir/log | grep -q '^test accuracy'
tell $? "12 --init with fewer classes: $(tail -n 3 $dir/log)"
refuses 'no tensor .* of the shape' build/12_photos --data $dir/photos --init $dir/p/best.safetensors --size 64 --out $dir/again

# A class of which no image is left for the test: it has no place in the figure.
mkdir -p $dir/small && cp -r $dir/photos/digit_[123] $dir/small
ls $dir/small/digit_2/*.pgm | tail -n +2 | xargs rm # one is left, and learnt from
build/12_photos --data $dir/small --held 4 --epochs 1 --preset cifar-cls --out $dir/small-out >$dir/log 2>&1
grep -q '"digit_1"' $dir/small-out/attention.gp && ! grep -q '"digit_2"' $dir/small-out/attention.gp
tell $? "a class without test images: $(grep digit $dir/small-out/attention.gp)"

# The photo recipes on 2,500 images of CIFAR-10, where there is an archive of JPEGs,
# cifar/train/CLASS/NNNN.jpg and cifar/test/CLASS/NNNN.jpg; 10 % is chance.
archive=${VIT_DATA:-data}/cifar10/cifar10-jpeg.tar.xz
if [ -f "$archive" ] && tar --version 2>/dev/null | grep -q GNU; then
  tar -C $dir -xJf "$archive" --wildcards 'cifar/train/*/0[01]??.jpg' 'cifar/test/*/00[0-4]?.jpg' 2>$dir/err
  tell $? "cannot unpack $archive: $(cat $dir/err)"
  for preset in cifar-cls cifar-mean best; do
    build/12_photos --data $dir/cifar --preset $preset --held 200 --epochs 2 --out $dir/c >$dir/log 2>&1
    at_least 15 $dir/log
  done
else
  echo "skipped: the photo recipes: no $archive, or no GNU tar"
  skipped=$((skipped + 3))
fi

mkdir -p $dir/bad/one/a && cp $dir/photos/digit_1/*.pgm $dir/bad/one/a
refuses 'class' build/12_photos --data $dir/bad/one --out $dir/x
mkdir -p $dir/bad/one/b
refuses 'class b .* has no files' build/12_photos --data $dir/bad/one --out $dir/x
for part in Training test; do
  mkdir -p $dir/bad/$part/$part && cp -r $dir/photos/digit_[12] $dir/bad/$part/$part
  refuses "folder $part looks like a part" build/12_photos --data $dir/bad/$part --out $dir/x
done
mkdir -p $dir/bad/few/train $dir/bad/few/test && cp -r $dir/photos/digit_[123] $dir/bad/few/train &&
  cp -r $dir/photos/digit_[13] $dir/bad/few/test
refuses 'class 1 is digit_2 .* and digit_3 .* 3 and 2' build/12_photos --data $dir/bad/few --out $dir/x
mkdir -p $dir/bad/binary && : >$dir/bad/binary/data_batch_1.bin
refuses 'filter bicubic is for folders' build/12_photos --data $dir/bad/binary --filter bicubic
mkdir -p $dir/bad/case/cat $dir/bad/case/Cat && cp $dir/photos/digit_1/*.pgm $dir/bad/case/cat &&
  cp $dir/photos/digit_2/*.pgm $dir/bad/case/Cat
if [ "$(ls $dir/bad/case | wc -l)" -eq 2 ]; then
  refuses 'differ' build/12_photos --data $dir/bad/case --out $dir/x
fi
refuses 'cifar-mean' $photos --preset alexnet
VIT_DATA=$dir/nowhere refuses 'nowhere has neither train/ and test/' build/12_photos

echo "lab: $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
