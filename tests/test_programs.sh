#!/bin/sh
# The programs from outside: what they print, what they leave, how they refuse.
#   sh tests/test_programs.sh   after `make programs`; ends in `programs: N passed, M failed`.
set -u
cd "$(dirname "$0")/.." || exit 1
dir=build/programs
rm -rf $dir
mkdir -p $dir/data/digits
passed=0 failed=0
tell() { # tell TRUTH WHAT
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "wrong: $2"; fi
}

# refuses SENTENCE COMMAND...: exit status 1, nothing but one sentence on stderr
refuses() {
  sentence=$1
  shift
  "$@" >$dir/out 2>$dir/err
  status=$?
  [ $status = 1 ] && [ "$(wc -l <$dir/err)" -eq 1 ] && grep -q "$sentence" $dir/err
  tell $? "exit $status of: $* said: $(cat $dir/err)"
}

# left CHAPTER NAME...: scripts, data and pictures of these names are in its folder
left() {
  chapter=$1
  shift
  for name in "$@"; do
    [ -s $dir/$chapter/$name.gp ] && [ -s $dir/$chapter/$name.dat ]
    tell $? "$chapter left no script or data of $name"
    if command -v gnuplot >/dev/null 2>&1; then
      head -c 8 $dir/$chapter/$name.png 2>/dev/null | grep -q PNG
      tell $? "$chapter left no picture of $name"
    fi
  done
}

# A mirror with half of MNIST: digits are drawn, and no half of MNIST is left to be mixed with
# them; when the mirror has the rest, that is fetched.
mirror=$PWD/$dir/mirror real=${VIT_DATA:-data}/mnist
fetch() { VIT_DATA='' VIT_MIRRORS=file://$mirror sh data/get.sh $dir/fetched $dir/draw >$dir/log 2>&1; }
mkdir -p "$mirror"
echo '#!/bin/sh' >$dir/draw && chmod +x $dir/draw
if [ "$mirror" = "${mirror% *}" ] && # a blank cannot stand in an address
  command -v curl >/dev/null 2>&1 && cp "$real"/train-*.gz "$mirror" 2>/dev/null; then
  fetch && grep -q 'drawing digits' $dir/log && [ ! -e $dir/fetched/mnist/train-images-idx3-ubyte ]
  tell $? "half a mirror: $(cat $dir/log)"
  cp "$real"/t10k-*.gz "$mirror"
  fetch && ! grep -q 'train' $dir/log && [ -s $dir/fetched/mnist/train-labels-idx1-ubyte ] &&
    [ -s $dir/fetched/mnist/t10k-images-idx3-ubyte ]
  tell $? "the rest of a mirror: $(cat $dir/log)"
  rm -rf $dir/fetched "$mirror"
fi

build/digits $dir/data/digits --train 4000 --test 500 || exit 1
VIT_DATA=$dir/data
export VIT_DATA
train="build/08_training --out $dir/08"

$train --epochs 1 >$dir/log 2>&1 && tail -n 1 $dir/log | grep -Eq '^test accuracy [0-9]+\.[0-9][0-9] %$'
tell $? "the last line of 08: $(tail -n 1 $dir/log)"
left 08 curves attention confusion mistakes
cp $dir/log $dir/first
$train --epochs 1 --threads 1 >$dir/log 2>&1
[ "$(tail -n 1 $dir/log)" = "$(tail -n 1 $dir/first)" ]
tell $? "08 gives another accuracy with one thread"
PATH=$dir $train --epochs 1 >$dir/log 2>&1 && grep -q 'gnuplot is missing' $dir/log
tell $? "08 without gnuplot"

build/11_speed --out $dir/11 --rows 13 --inputs 35 --outputs 21 --repeats 1 >$dir/log 2>&1 &&
  grep -q 'every rung is right' $dir/log && tail -n 1 $dir/log | grep -q 'in the fastest way'
tell $? "11 on a small product: $(tail -n 1 $dir/log)"
left 11 ladder roofline

# What the notebooks print fits into 80 columns; each leaves its figures.
for name in 00_foundations:speed 01_patches:patches 02_tokens:shuffle,positions \
  03_attention:mask,scale,attention 04_heads:heads 05_encoder:layernorm,norm,gelu \
  06_model:memory,parameters 07_gradients:step,check,overfit; do
  program=${name%%:*}
  build/$program --out $dir/$program >$dir/$program.txt 2>&1
  tell $? "$program: $(tail -n 1 $dir/$program.txt)"
  build/$program --help >>$dir/$program.txt
  [ -z "$(awk 'length > 80' $dir/$program.txt)" ]
  tell $? "$program prints lines of more than 80 columns: $(awk 'length > 80' $dir/$program.txt)"
  left $program $(echo ${name#*:} | tr , ' ')
done
(cat $dir/log && build/11_speed --help) | awk 'length > 80 { bad = 1 } END { exit bad }'
tell $? "11 prints lines of more than 80 columns"

for program in examples/[0-9]*.c; do
  program=build/$(basename "$program" .c)
  refuses 'unknown flag --no-such-flag' $program --no-such-flag 1
  refuses '.' $program --out README.md/inside
  $program --help >$dir/log 2>&1 && grep -q -- '--out' $dir/log
  tell $? "$program --help"
done
VIT_DATA=$dir/nowhere refuses 'holds neither MNIST nor digits' sh data/get.sh $dir/get build/digits
refuses 'found no train-images' $train --data $dir/nowhere
refuses 'epochs must be' $train --epochs 0
refuses 'needs a whole number' $train --epochs many
refuses 'needs a value' $train --epochs
refuses 'batch must be' $train --batch -3
refuses 'lr must be' $train --lr -1
refuses 'softmax or logits' $train --head none
refuses 'threads must be from 0' $train --threads -1
refuses 'naive or simd' $train --kernels fast
refuses 'OUT_DIR\|cannot\|No such' build/digits $dir/no/such/folder
refuses 'rows must be' build/11_speed --rows 0
refuses 'repeats must be' build/11_speed --repeats 100
refuses 'must not be above' build/11_speed --rows 20000 --inputs 20000 --outputs 20000
mkdir -p $dir/cut
cp $dir/data/digits/* $dir/cut
head -c 1000 $dir/data/digits/train-images-idx3-ubyte >$dir/cut/train-images-idx3-ubyte
refuses 'should hold 3136000 bytes' $train --data $dir/cut

echo "programs: $passed passed, $failed failed"
[ $failed = 0 ]
