#!/bin/sh
# The program 14 under mpirun: the same bytes with any number of ranks and threads,
# after a stop and a resume, and a lost rank.
#   sh tests/test_cluster.sh   ends in `cluster: N passed, M failed, K skipped`.
set -u
cd "$(dirname "$0")/.." || exit 1
if ! command -v mpirun >/dev/null 2>&1 || ! command -v mpicc >/dev/null 2>&1; then
  echo "no MPI here: the cluster is not tested (make deps MPI=1 installs it)"
  echo "cluster: 0 passed, 0 failed, 1 skipped"
  exit 0
fi
dir=build/cluster
rm -rf $dir
mkdir -p $dir/digits
passed=0 failed=0
tell() { # tell TRUTH WHAT
  if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "wrong: $2"; fi
}
: "${CC:=cc}" "${MAKE:=make}"
export OMP_WAIT_POLICY=passive OMPI_MCA_mpi_yield_when_idle=1
${MAKE:-make} -s build/14_cluster build/09_mnist build/digits WERROR=1 || {
  echo "cluster: 0 passed, 1 failed"
  exit 1
}
build/digits $dir/digits --train 2000 --test 300 >/dev/null || exit 1
# mpirun of Open MPI wants these; that of MPICH does not know them
open=$(mpirun --version 2>&1 | grep -q 'Open MPI' && echo '-q --oversubscribe')
root=$([ "$open" ] && [ "$(id -u)" = 0 ] && echo --allow-run-as-root)
ranks() { # ranks N FLAGS...
  n=$1
  shift
  mpirun $open $root -n "$n" build/14_cluster --data $dir/digits --limit 600 --held 100 --batch 40 \
    --model depth=2,width=16,pos_drop=0.1,drop_path=0.1 "$@" </dev/null
}

# The bits: 500 images make 13 batches, the last of 20, which is 2 images a part.
build/14_cluster --data $dir/digits --limit 600 --held 100 --batch 40 --epochs 2 \
  --model depth=2,width=16,pos_drop=0.1,drop_path=0.1 --out $dir/one >$dir/log 2>&1
tell $? "one program, without mpirun: $(tail -n 3 $dir/log)"
build/09_mnist --data $dir/digits --limit 600 --held 100 --batch 40 --epochs 2 --threads 1 \
  --model depth=2,width=16,pos_drop=0.1,drop_path=0.1 --out $dir/lab >$dir/log 2>&1
tell $? "the same by 09: $(tail -n 3 $dir/log)"
for n in 1 2 4; do
  for threads in 1 2; do
    run=$dir/r$n-$threads
    ranks $n --epochs 2 --threads $threads --out $run >$dir/log 2>&1
    tell $? "$n ranks of $threads threads: $(tail -n 3 $dir/log)"
    for file in best.safetensors last.safetensors; do
      cmp $dir/lab/$file $run/$file && cmp $dir/one/$file $run/$file
      tell $? "$n ranks of $threads threads: other bytes in $file"
    done
  done
done
cmp $dir/lab/last.safetensors $dir/r4-1/rank-3/last.safetensors
tell $? "rank 3 ends with other weights"
ranks 16 --epochs 2 --out $dir/r16 >$dir/log 2>&1 && cmp $dir/lab/last.safetensors $dir/r16/last.safetensors
tell $? "16 ranks: $(tail -n 3 $dir/log)"
ranks 3 --epochs 1 --out $dir/r3 >$dir/log 2>&1 && grep -q 'not those of one program' $dir/log
tell $? "3 ranks: $(tail -n 3 $dir/log)"
ranks 2 --epochs 1 --augment mixup=0.4 --out $dir/r2mix >$dir/log 2>&1 && grep -q 'not those of one program: mixup' $dir/log &&
  grep -q 'of 40 images 24 at most' $dir/log
tell $? "2 ranks with mixup: $(tail -n 3 $dir/log)"
[ -z "$(tr '\r' '\n' <$dir/log | sed 's/\x1b\[[?0-9;]*[A-Za-z]//g' | awk 'length > 80')" ]
tell $? "lines of more than 80 columns: $(awk 'length > 80' $dir/log)"

# One sentence, said once.
ranks 3 --lr -1 --out $dir/bad >$dir/log 2>$dir/err
[ $? != 0 ] && [ "$(grep -c 'rate' $dir/err)" = 1 ]
tell $? "--lr -1: $(cat $dir/err)"
ranks 2 --live --out $dir/bad >$dir/log 2>$dir/err
[ $? != 0 ] && [ "$(grep -c 'only trains' $dir/err)" = 1 ]
tell $? "--live: $(cat $dir/err)"

# A rank is lost: the others end with a sentence, and the last checkpoint is whole.
# They go on from it, with another number of ranks, as if nothing had happened.
ranks 2 --epochs 40 --out $dir/whole >$dir/log 2>&1
tell $? "40 epochs: $(tail -n 3 $dir/log)"
ranks 2 --epochs 40 --out "$PWD/$dir/lost" >$dir/log 2>$dir/err &
job=$!
while kill -0 $job 2>/dev/null && ! [ -s $dir/lost/rank-1/last.safetensors ]; do sleep 0.1; done
pkill -KILL -n -f "14_cluster .*$PWD/$dir/lost"
wait $job
[ $? != 0 ] && grep -q 'a rank was lost' $dir/err
tell $? "a lost rank: $(cat $dir/err)"
ranks 4 --epochs 40 --out $dir/lost --resume >$dir/log 2>&1 && cmp $dir/whole/last.safetensors $dir/lost/last.safetensors &&
  cmp $dir/whole/best.safetensors $dir/lost/best.safetensors
tell $? "resumed after a loss: $(tail -n 3 $dir/log)"

echo "cluster: $passed passed, $failed failed"
[ $failed = 0 ]
