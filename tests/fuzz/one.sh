#!/bin/sh
# one.sh PROGRAM SECONDS: runs a fuzz target for so long, and counts its runs.
corpus=$1.corpus
mkdir -p "$corpus"
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
"$1" -max_total_time="$2" -timeout=20 -max_len=4096 -artifact_prefix="$1." "$corpus" >"$1.log" 2>&1
status=$?
runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$1.log")
if [ $status = 0 ] && [ "${runs:-0}" -gt 0 ]; then
  echo "$(basename "$1"): 1 passed, 0 failed, $runs runs"
else
  tail -n 50 "$1.log"
  echo "$(basename "$1"): 0 passed, 1 failed, ${runs:-no} runs"
  exit 1
fi
