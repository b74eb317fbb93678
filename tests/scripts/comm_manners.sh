#!/usr/bin/env bash
# How a job on several ranks ends when one of them does not play along: comm_manners.sh COMM_PROBE
set -euo pipefail
launch=$(dirname "$0")/../../scripts/launch.sh
probe=$1
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT

failed() {
  echo "FAILED: $*" >&2
  sed 's/^/  | /' "$output/stdout" "$output/stderr" >&2
  exit 1
}

processes_left() { pgrep -r R,S,T -f "$probe $1" > /dev/null; }

# expect SECONDS STATUS LINES TEXT CASE...: the job ends in time with this status, no process is
# left, and stderr has this many lines, one with TEXT.
expect() {
  local seconds=$1 status=$2 lines=$3 text=$4 start code=0
  shift 4
  start=$(date +%s%N)
  timeout 60 "$launch" --oversubscribe -n 3 "$probe" "$@" \
    > "$output/stdout" 2> "$output/stderr" || code=$?
  local milliseconds=$((($(date +%s%N) - start) / 1000000))
  echo "$*: status $code after $milliseconds ms: $(head -1 "$output/stderr")"
  [ "$code" -eq "$status" ] || failed "$*: exit status $code, not $status"
  [ "$milliseconds" -le $((seconds * 1000)) ] || failed "$*: took longer than $seconds s"
  [ "$(wc -l < "$output/stderr")" -eq "$lines" ] || failed "$*: not $lines line(s) on stderr"
  [ "$lines" -eq 0 ] || grep -q "$text" "$output/stderr" || failed "$*: no '$text' on stderr"
  ! processes_left "$*" || failed "$*: processes are left"
}

expect 5 137 1 'launch.sh: rank 1 on node .* was ended by signal 9 (KILL)' die 1
expect 8 3 1 'rank 1 (process .* stopped answering; ranks 0 and 2 wait for rank 1 in all_reduce' \
  stop 1 8
expect 8 3 1 \
  'rank 1 (process .* stopped answering; ranks 0 and 2 wait for the devices of other ranks, last in all_reduce 1 ' \
  stop-device 1 8
expect 12 0 0 '' work 1 4
expect 12 0 0 '' work-slow-device 1 4
expect 12 0 0 '' wait-slow-device -1 8
expect 5 3 1 'rank 1 finished without the others' return 1
expect 5 1 1 'rank 0 all_reduce 11 (awaits 16 bytes), rank 1 barrier 11 (sends 0 bytes)' other 1
expect 5 1 1 'rank 0 all_reduce 11 (awaits 16 bytes), rank 1 all_reduce 11 (sends .* bytes)' longer 1
FAILING_CALL=MPI_Isend expect 5 1 1 'error: rank 1: MPI_Isend failed: MPI_ERR_OTHER' run 0
FAILING_CALL=MPI_Testsome expect 5 1 1 'error: rank 1: MPI_Testsome failed: MPI_ERR_OTHER' run 0
expect 5 1 1 'error: rank 1: layers: 0 is not positive' fail 1
expect 5 1 1 'error: layers: 0 is not positive' fail -1
expect 5 2 1 'error: layers: 0 is not positive' fail-configuration -1

# expect_saves SAVES SIGNAL...: these signals to launch.sh, half a second apart, save so often and
# end the job with 0.
expect_saves() {
  local saves=$1 code=0 pid
  shift
  rm "$output/stdout"
  # Job control off would leave INT ignored in a background process.
  set -m
  "$launch" --oversubscribe -n 3 "$probe" signals 0 > "$output/stdout" 2> "$output/stderr" &
  pid=$!
  set +m
  for _ in $(seq 100); do
    if grep -q ready "$output/stdout" 2> /dev/null; then break; fi
    sleep 0.1
  done
  for signal in "$@"; do
    kill -s "$signal" "$pid"
    sleep 0.5
  done
  wait "$pid" || code=$?
  echo "signals $*: status $code, $(grep -c saved "$output/stdout") saves"
  [ "$code" -eq 0 ] || failed "signals $*: exit status $code"
  [ "$(grep -c saved "$output/stdout")" -eq "$saves" ] || failed "signals $*: not $saves saves"
  [ ! -s "$output/stderr" ] || failed "signals $*: output on stderr"
}

expect_saves 1 USR2
expect_saves 1 TERM
expect_saves 1 INT
# ThreadSanitizer delays handlers, so that two signals may count as one.
[ "${POLYHEAD_SANITIZE:-}" = thread ] || expect_saves 3 USR1 USR1 USR2

# refused TEXT ARGUMENT...: launch.sh starts nothing and says why, in one line.
refused() {
  local text=$1 code=0
  shift
  "$launch" "$@" > "$output/stdout" 2> "$output/stderr" || code=$?
  [ "$code" -eq 2 ] || failed "launch.sh $*: exit status $code, not 2"
  [ "$(wc -l < "$output/stderr")" -eq 1 ] || failed "launch.sh $*: not one line on stderr"
  grep -q -e "$text" "$output/stderr" || failed "launch.sh $*: no '$text' on stderr"
}

refused '100000 ranks, but .* --oversubscribe' -n 100000 "$probe" signals 0
refused 'unknown option --frob' --frob "$probe"
refused '-n two is not a positive number' -n two "$probe"
refused 'no program' -n 1
refused "${probe}x is not a program" -n 1 "${probe}x"
OMP_NUM_THREADS='' refused 'give --threads' --hostfile /dev/null "$probe"
