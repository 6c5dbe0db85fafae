#!/bin/sh
# The loom: weaves the pages of tutorials/ from vit.h, the examples and what
# they print, and checks them. README.md beside it says how a page is written.
#
#   sh tutorials/loom/loom.sh check [NN...]   say what is wrong, change nothing
#   sh tutorials/loom/loom.sh write [NN...]   weave pages and figures anew
#
# All pages, or those of chapters NN. It builds and runs the examples of these
# chapters as the book shows them: drawn digits, one thread, naive kernels.
# LOOM_OUTPUTS=DIR takes what they printed from DIR instead.

set -u
cd "$(dirname "$0")/../.." || exit 1
mode=${1:-check}
case $mode in
check | write) shift ;;
*) echo "usage: loom.sh check | write [NN...]" >&2; exit 1 ;;
esac
all=$(cd tutorials && ls [0-9][0-9]-*.md 2>/dev/null | sed 's/-.*//')
chapters=${*:-$all}
tmp=build/book
mkdir -p $tmp
bad=0

pages=
for chapter in $chapters; do
  pages="$pages $(ls tutorials/"$chapter"-*.md tutorials/answers/"$chapter".md 2>/dev/null)"
done
if [ $# = 0 ]; then pages="$pages $(ls tutorials/[A-Za-z]*.md | grep -v -e results.md -e reference.md)"; fi

# On x86-64 Linux the numbers are the very same, elsewhere nearly.
case $(uname -sm) in 'Linux x86_64') exact=1 ;; *) exact=0 ;; esac
case ${CFLAGS:-} in *march* | *fast*) exact=0 ;; esac
exact=${LOOM_EXACT:-$exact}

# ---- what the examples print -------------------------------------------------------

flags() { # what an example needs beside its defaults
  case $1 in
  08) echo --epochs 10 ;;
  09) echo --preset tutorial --limit 500 --epochs 60 --model softmax_before_loss=0 ;;
  10) echo --model tutorials/models/inside.safetensors --images 10 ;; # training one takes a minute
  11) echo --repeats 1 ;;
  12) echo --data $tmp/photos --epochs 30 --batch 16 \
    --model depth=2,width=24,heads=3,mlp_width=48,patch_height=8,patch_width=8 ;;
  esac
}

run() { # run NN: $outputs/NN.txt, figures in $outputs/NN
  if [ "$1" = 14 ]; then return; fi # wants MPI; its page quotes results.md. Its figure:
  #   build/14_cluster --paper --out build/book/14
  source=$(ls examples/"$1"_*.c 2>/dev/null)
  if [ -z "$source" ]; then return; fi
  program=build/$(basename "$source" .c)
  if [ -z "$(find "$program" -newer vit.h -newer "$source" -newer examples/common.h -newer examples/lab.h 2>/dev/null)" ]; then
    ${MAKE:-make} -s "$program" >&2 || return
  fi
  if [ ! -s $tmp/data/digits/t10k-labels-idx1-ubyte ]; then
    if [ ! -x build/digits ]; then ${MAKE:-make} -s build/digits >&2; fi
    mkdir -p $tmp/data/digits
    build/digits $tmp/data/digits --train 6000 --test 1000 >$tmp/digits.log || return
  fi
  if [ "$1" = 12 ] && [ ! -d $tmp/photos/triangle ]; then
    for class in cross disc ring square triangle; do mkdir -p $tmp/photos/$class; done
    LC_ALL=C awk -v dir=$tmp/photos -v each=80 -f tutorials/loom/shapes.awk
  fi
  if [ "$outputs/$1.txt" -nt "$program" ]; then return; fi
  rm -rf "${outputs:?}/$1"
  VIT_KERNELS=naive OMP_NUM_THREADS=1 VIT_DATA=$tmp/data NO_COLOR=1 \
    "$program" --out "$outputs/$1" $(flags "$1") >"$outputs/$1.part" 2>&1 </dev/null || {
    echo "$program failed: $(tail -n 1 "$outputs/$1.part")" >&2
    bad=1
    return
  }
  mv "$outputs/$1.part" "$outputs/$1.txt"
}

outputs=${LOOM_OUTPUTS:-$tmp}
if [ -z "${LOOM_OUTPUTS:-}" ]; then # of these chapters, and what their pages quote of others
  for chapter in $(echo "$chapters" | tr ' ' '\n' | cat - $pages tutorials/figures/src/*.svg 2>/dev/null |
    tr '<{' '\n\n' | sed -n 's/^\([0-9][0-9]\)$/\1/p; s/^!-- output \([0-9][0-9]\) .*/\1/p; s/^!-- num \([0-9][0-9]\) .*/\1/p; s/^\([0-9][0-9]\) [0-9]* ".*/\1/p' | sort -u); do
    run "$chapter"
  done
fi

# ---- figures: tutorials/figures/figures.txt says what each is made from -------------

list=tutorials/figures/figures.txt
wrong() { echo "$list: $1; $2" >&2; bad=1; }

# NAME plot NN FIGURE CHECKSUM: what gnuplot draws of the example's figure
plot() {
  from=$outputs/$2/$3
  if [ "$2" = 14 ] && [ -s "tutorials/figures/$1" ]; then return; fi # see run()
  # a last column of seconds is another each time
  sum=$(cat "$from.gp" "$from.dat" 2>/dev/null | LC_ALL=C sed '/^# .* seconds$/,$s/ [0-9.]*$//' | cksum | sed 's/ .*//')
  if [ ! -s "$from.dat" ]; then wrong "$1 needs the figure $3, which example $2 does not draw" "name one of its figures"; fi
  wide=$(sed -n 's/^set terminal [a-z]* size \([0-9]*\),.*/\1/p' "$from.gp")
  if [ "${wide:-0}" -gt 960 ]; then wrong "$1 is $wide pixels wide" "draw it 960 wide: a page shows 740, and its type would be too small"; fi
  if [ "$4" = "$sum" ] || { [ "$4" = volatile ] && [ -s "tutorials/figures/$1" ]; }; then return; fi
  if [ $mode = check ]; then
    if [ $exact = 1 ]; then wrong "the data of $1 changed" "run make book-write, and look at it"; fi
    return
  fi
  case $1 in
  *.svg) terminal="svg size \\1,\\2 fixed font 'sans-serif,14' background 'white'" ;;
  *) terminal="pngcairo size \\1,\\2 font 'sans,11' background 'white'" ;;
  esac
  sed "s/^set terminal pngcairo size \([0-9]*\),\([0-9]*\) .*/set terminal $terminal/
       s/^set output '[^']*'/set output 'book.tmp'/" "$from.gp" >"$outputs/$2/book.gp"
  if (cd "$outputs/$2" && gnuplot -d book.gp 2>&1) >&2; then
    mv "$outputs/$2/book.tmp" "tutorials/figures/$1"
    if [ "$4" != volatile ]; then sed "s/^\($1 .*\) $4\$/\1 $sum/" $list >$tmp/list && cp $tmp/list $list; fi
    echo "  drawn  tutorials/figures/$1"
  else
    wrong "gnuplot could not draw $1" "install gnuplot, or mend the example's figure"
  fi
}

# NAME fill TEMPLATE [HERE]: tutorials/figures/src/TEMPLATE.svg with its numbers
fill() {
  awk -v mode=fill -v here="${3:-}" -v exact=$exact -v outputs="$outputs" -v examples="$(echo examples/*.c)" \
    -f tutorials/loom/common.awk -f tutorials/loom/weave.awk "tutorials/figures/src/$2.svg" >$tmp/filled || { bad=1; return; }
  if cmp -s $tmp/filled "tutorials/figures/$1"; then return; fi
  if [ $mode = write ]; then
    cp $tmp/filled "tutorials/figures/$1"
    echo "  filled tutorials/figures/$1"
  elif [ $exact = 1 ]; then
    wrong "$1 is not what its template gives" "run make book-write, and look at it"
  fi
}

if [ -f $list ]; then
  grep '^[0-9a-z]' $list >$tmp/figures
  while read -r name kind a b c; do
    case " $chapters " in *" ${name%%-*} "*) ;; *) if [ $# != 0 ]; then continue; fi ;; esac
    case $kind in
    plot) plot "$name" "$a" "$b" "$c" ;;
    fill) fill "$name" "$a" "$b" ;;
    shot) if [ ! -s "tutorials/figures/$name" ]; then wrong "$name is not there" "make it by: $a $b $c"; fi ;;
    *) wrong "$name is made by \"$kind\"" "write plot, fill or shot" ;;
    esac
  done <$tmp/figures
fi

# ---- pages -------------------------------------------------------------------------

for page in $pages; do
  if ! awk -v mode=$mode -v exact=$exact -v outputs="$outputs" -v examples="$(echo examples/*.c)" \
    -f tutorials/loom/common.awk -f tutorials/loom/weave.awk "$page" >$tmp/page; then bad=1; fi
  if [ $mode = write ] && ! cmp -s $tmp/page "$page"; then
    cp $tmp/page "$page"
    echo "  woven  $page"
  fi
  case $page in */[0-9][0-9]-*) chapter=${page##*/} chapter=${chapter%%-*} ;; *) chapter= ;; esac
  awk -v chapter="$chapter" -v outputs="$outputs" -f tutorials/loom/common.awk \
    -f tutorials/loom/pencil.awk -f tutorials/loom/prose.awk "$page" || bad=1
  for name in $(sed -n 's/.*](figures\/\([^)]*\)).*/\1/p' "$page"); do
    if ! grep -q "^$name " $list; then wrong "$page shows $name, which is not listed" "add a line that says what it is made from"; fi
  done
done
exit $bad
