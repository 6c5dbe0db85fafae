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
left 08 resize optimisers schedules curves attention confusion mistakes held
[ "$(grep -c '64 of 64 numbers are those of Pillow' $dir/log)" = 2 ]
tell $? "08 does not resize as Pillow: $(grep Pillow $dir/log)"

# The model that 08 leaves, opened again, is as right as 08 said.
cat >$dir/open.c <<'END'
#define VIT_IMPLEMENTATION
#include "../../vit.h"
int main(int argc, char **argv) {
  vit_dataset about, test;
  vit_model m;
  double loss, accuracy;
  if (argc < 2 || vit_model_open(&m, argv[1], &about) || vit_dataset_mnist(&test, NULL, VIT_TEST) ||
      vit_dataset_resize(&test, about.height, about.width) ||
      vit_evaluate(&m, &test, &loss, &accuracy, NULL, NULL, NULL))
    return puts(vit_error()) < 0;
  printf("test accuracy %.2f %%\n", 100 * accuracy);
  return 0;
}
END
${CC:-cc} -std=c99 -O1 $dir/open.c -o $dir/open -lm && $dir/open $dir/08/model.safetensors >$dir/opened &&
  [ "$(cat $dir/opened)" = "$(tail -n 1 $dir/log)" ]
tell $? "the model of 08, opened again: $(cat $dir/opened), and 08 said: $(tail -n 1 $dir/log)"
cp $dir/log $dir/first
$train --epochs 1 --threads 1 >$dir/log 2>&1
[ "$(tail -n 1 $dir/log)" = "$(tail -n 1 $dir/first)" ]
tell $? "08 gives another accuracy with one thread"
$train --epochs 1 --model depth=1,patch_height=8,patch_width=8,softmax_before_loss=0,class_token=0,pool=1 \
  >$dir/log 2>&1 && grep -q '16 patches, 1 block of 3 heads' $dir/log && ! grep -q 'cannot fall' $dir/log
tell $? "08 with another model: $(tail -n 1 $dir/log)"
build/08_training --help >>$dir/log
[ -z "$(cat $dir/first $dir/log | awk 'length > 80')" ]
tell $? "08 prints lines of more than 80 columns: $(cat $dir/first $dir/log | awk 'length > 80')"
PATH=$dir $train --epochs 1 >$dir/log 2>&1 && grep -q 'gnuplot is missing' $dir/log
tell $? "08 without gnuplot"

build/11_speed --out $dir/11 --rows 13 --inputs 35 --outputs 21 --repeats 1 >$dir/log 2>&1 &&
  grep -q 'every rung is right' $dir/log && grep -q 'in the fastest way' $dir/log
tell $? "11 on a small product: $(tail -n 1 $dir/log)"
# The part that the last block spares, by arithmetic: it is known beforehand.
grep -q '^  MNIST  *32  *12.9 %' $dir/log && grep -q '^  B/16  *-  *6.9 %' $dir/log
tell $? "11, the last block: $(grep '16 \|MNIST' $dir/log)"
grep -q 'same bits, checked here at 101 shapes' $dir/log && [ "$(grep -c '^  int8.*x .*%' $dir/log)" = 3 ]
tell $? "11, int8 on the ladder: $(grep '^  int8' $dir/log)"
# int8_of LOG: the float model and the quantized one are nearly equally right
int8_of() {
  awk '$1 == "float" && NF == 6 { a = $2; bytes = $5 } $1 == "int8" && NF == 6 { b = $2; d = a - b
    good = d * d < 4 && $5 < bytes && a > 60 } END { exit !good }' $1
}
int8_of $dir/log
tell $? "11, a model as int8: $(grep '^  float\|^  int8' $dir/log)"
# Errors of each layer, and of all: it has four layers in each block, and two outside.
[ "$(sed -n '/^  patches /,/^  head /p' $dir/log | wc -w)" = $((2 * 3 + 6 * 9)) ] &&
  awk '/the quantized model itself/ { e = $5 } END { exit !(e > 0.2 && e < 5) }' $dir/log &&
  [ "$(grep -c '^"' $dir/11/int8.dat)" = 26 ]
tell $? "11, errors by layer: $(sed -n '/^  patches /,/^  head /p' $dir/log) $(grep itself $dir/log)"
left 11 ladder roofline int8

# 10 trains a model, or looks into one of 08; its methods are judged against a random order.
inside="build/10_inside --out $dir/10 --images 5"
$inside --keep $dir/kept.safetensors >$dir/log 2>&1 && grep -q 'trained here on 4000 images' $dir/log &&
  [ -s $dir/kept.safetensors ]
tell $? "10: $(tail -n 1 $dir/log)"
awk '/^  off by/ { good += $3 < 3 }
  /^  random order/ { random = $3; put_in = $4 } /^  occlusion/ { good += $2 < random && $3 > put_in }
  /^  it says so/ { good += $NF == "1.00" } END { exit good != 3 }' $dir/log
tell $? "10, the methods judged: $(grep 'off by\|random\|occlusion  \|says so' $dir/log)"
left 10 heads methods rolled apart judged lens distance filters positions
cp $dir/log $dir/first10
$inside --model $dir/08/model.safetensors --image 7 --layer 0 --head 1 --class 3 >$dir/log 2>&1 &&
  grep -q 'block 1, head 1' $dir/log && grep -q 'image 7 is' $dir/log
tell $? "10 with a model of 08: $(tail -n 1 $dir/log)"
(cat $dir/log $dir/first10 && build/10_inside --help) | awk 'length > 80 { bad = 1 } END { exit bad }'
tell $? "10 prints lines of more than 80 columns"

long=$(NO_COLOR=1 ${MAKE:-make} help | awk '/^This machine/ { exit } length > 80')
[ -z "$long" ]
tell $? "make help prints lines of more than 80 columns: $long"

# What the notebooks print fits into 80 columns; each leaves its figures.
for name in 00_foundations:speed 01_patches:patches 02_tokens:shuffle,positions,without \
  03_attention:mask,scale,attention 04_heads:heads 05_encoder:layernorm,norm,gelu \
  06_model:memory,parameters,ladder,init 07_gradients:step,check,overfit,quotients; do
  program=${name%%:*}
  build/$program --out $dir/$program >$dir/$program.txt 2>&1
  tell $? "$program: $(tail -n 1 $dir/$program.txt)"
  build/$program --help >>$dir/$program.txt
  [ -z "$(awk 'length > 80' $dir/$program.txt)" ]
  tell $? "$program prints lines of more than 80 columns: $(awk 'length > 80' $dir/$program.txt)"
  left $program $(echo ${name#*:} | tr , ' ')
done
# 13: its story, and a picture for the model of 08. A bar of ink is a 1; a grey picture is nothing.
build/13_pretrained --out $dir/13 >$dir/13.txt 2>&1
tell $? "13_pretrained: $(tail -n 1 $dir/13.txt)"
left 13 bytes logits preprocess photos
awk '/photos are read/ { read[++n] = $(NF - 5) } END { exit !(n == 2 && read[2] > 30 && read[2] > 2 * read[1]) }' $dir/13.txt
tell $? "13, photos: $(grep 'photos are read' $dir/13.txt)"
[ "$(sed -n '/same answers/,/same logits/p' $dir/13.txt | grep -c 'patch.* 0$')" = 3 ]
tell $? "13, written and opened: $(sed -n '/same answers/,/same logits/p' $dir/13.txt)"
{ printf 'P5\n120 90\n255\n'; awk 'BEGIN { for (y = 0; y < 90; y++) for (x = 0; x < 120; x++)
  printf "%c", (x > 80 && x < 88 && y > 20 && y < 70 ? "(" : "z") }'; } >$dir/one.pgm
{ printf 'P5\n120 90\n255\n'; awk 'BEGIN { for (i = 0; i < 10800; i++) printf "z" }'; } >$dir/nothing.pgm
tr -s ' \n' ' ' <$dir/first | grep -q 'build/13_pretrained .*/08/model.safetensors'
tell $? "08 does not say what to do with its model"
build/13_pretrained $dir/08/model.safetensors $dir/one.pgm --out $dir/13 >$dir/log13 2>&1 &&
  grep -q 'prepared as MNIST was' $dir/log13 && [ "$(grep -c ' % *[#.]*  [0-9]$' $dir/log13)" = 5 ]
tell $? "13 with a picture: $(tail -n 1 $dir/log13)"
left 13 answers
[ "$(build/13_pretrained tests/fixtures/pretrained/hf_vit $dir/one.pgm --logits --out $dir/13 | grep -c '^  logit ')" = 5 ]
tell $? "13 --logits"
refuses 'found no digit in a picture of 90 x 120' build/13_pretrained $dir/08/model.safetensors $dir/nothing.pgm
refuses 'no way to prepare pictures is called resnet' build/13_pretrained a b --preprocess resnet
refuses 'wants MODEL PICTURE' build/13_pretrained $dir/08/model.safetensors
refuses 'wants colours' build/13_pretrained tests/fixtures/pretrained/hf_vit $dir/one.pgm --digit
build/13_pretrained --help >>$dir/log13
[ -z "$(cat $dir/13.txt $dir/log13 | awk 'length > 80')" ]
tell $? "13 prints lines of more than 80 columns: $(cat $dir/13.txt $dir/log13 | awk 'length > 80')"
cp $dir/log $dir/first11
build/11_speed --out $dir/11 --rows 1 --inputs 1 --outputs 1 --repeats 1 --model $dir/08/model.safetensors \
  >$dir/log 2>&1 && ! grep -q 'trained here' $dir/log && grep -q 'figure .*int8.png\|gnuplot is missing' $dir/log
tell $? "11 with a model of 08: $(tail -n 1 $dir/log)"
(cat $dir/log $dir/first11 && build/11_speed --help) | awk 'length > 80 { bad = 1 } END { exit bad }'
tell $? "11 prints lines of more than 80 columns"

for program in $(ls examples/[0-9]*.c | grep -v 14_cluster); do # wants MPI: test_cluster.sh
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
refuses 'softmax_before_loss' $train --model softmax_before_loss=2
refuses 'wants name=value' $train --model depth
refuses 'multiple of patch height' $train --model image_height=28
refuses '10 classes and 1 channel' $train --model classes=5
refuses 'threads must be from 0' $train --threads -1
refuses 'naive or simd' $train --kernels fast
refuses 'OUT_DIR\|cannot\|No such' build/digits $dir/no/such/folder
refuses 'rows must be' build/11_speed --rows 0
refuses 'no/such.safetensors' build/11_speed --model no/such.safetensors
refuses 'found no' build/11_speed --data $dir/nowhere
refuses 'layer is 3; of this model it must be from 0 to 2' $inside --model $dir/08/model.safetensors --layer 3
refuses 'head is -2; of' $inside --model $dir/08/model.safetensors --head -2
refuses 'class is 10; of' $inside --model $dir/08/model.safetensors --class 10
refuses 'there are not so many test images' $inside --model $dir/08/model.safetensors --image 500
refuses 'epochs must be from 1' $inside --epochs 0
refuses 'images must be from 1' $inside --model $dir/08/model.safetensors --images 0
refuses 'no/such.safetensors' $inside --model no/such.safetensors
refuses 'README.md' $inside --model $dir/08/model.safetensors --image README.md
refuses 'repeats must be' build/11_speed --repeats 100
refuses 'must not be above' build/11_speed --rows 20000 --inputs 20000 --outputs 20000
mkdir -p $dir/cut
cp $dir/data/digits/* $dir/cut
head -c 1000 $dir/data/digits/train-images-idx3-ubyte >$dir/cut/train-images-idx3-ubyte
refuses 'should hold 3136000 bytes' $train --data $dir/cut

echo "programs: $passed passed, $failed failed"
[ $failed = 0 ]
