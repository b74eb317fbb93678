#!/usr/bin/env bash
# Every system call of one checkpoint save fails or kills the process in turn, injected by strace.
# After each fault the previous or the new checkpoint must load, and the next save must succeed.
#
# Usage: checkpoint_faults.sh PATH/TO/checkpoint_probe
set -euo pipefail

probe=$(realpath "$1")
if ! command -v strace >/dev/null; then
  echo "checkpoint_faults.sh: strace is missing (apt-get install strace)" >&2
  exit 77
fi
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

calls=(openat write fsync close mkdir rename renameat2 unlink unlinkat getdents64)
actions=(signal=KILL error=ENOSPC error=EIO)
declare -A outcomes=([previous]=0 [new]=0)
cases=0
failures=0

fail_case() {
  echo "FAILED: $1" >&2
  failures=$((failures + 1))
}

# fault BASE CALL NUMBER ACTION: the NUMBER-th CALL of a save from BASE suffers ACTION.
fault() {
  local base=$1 call=$2 number=$3 action=$4 status=0 step
  local label="$(basename "$base"): $call #$number $action"
  rm -rf "$work/run"
  cp -r "$base" "$work/run"
  # The inner shell swallows bash's own report of a killed child.
  bash -c '"$@"; exit $?' _ strace -f -qq -o /dev/null -e trace="$call" \
    -e inject="$call:$action:when=$number" "$probe" save "$work/run" \
    >"$work/out" 2>"$work/errors" || status=$?
  cases=$((cases + 1))
  # 0: saved; 1: said so; 127: the program could not start; 137: killed by the injection.
  case $status in
    0 | 1 | 127 | 137) ;;
    *) fail_case "$label: exit status $status: $(cat "$work/errors")" ;;
  esac
  if ! step=$("$probe" check "$work/run" 2>"$work/check"); then
    fail_case "$label: nothing loads: $(cat "$work/check")"
    return
  fi
  case $step in
    2) outcomes[previous]=$((outcomes[previous] + 1)) ;;
    *) outcomes[new]=$((outcomes[new] + 1)) ;;
  esac
  # What was reported as saved must load. A fault while step 2 is loaded makes the save go on from
  # another step.
  if [ "$status" = 0 ]; then
    [ "$step" = "$(cat "$work/out")" ] ||
      fail_case "$label: saved step $(cat "$work/out"), but step $step loads"
  elif [ "$step" != 2 ] && [ "$step" != 3 ]; then
    fail_case "$label: step $step loads, neither 2 nor 3"
  elif [ "$step" = 3 ] && [ -e "$work/run/step_00000003/abandoned" ]; then
    fail_case "$label: the abandoned step 3 loads"
  fi
  if ! "$probe" save "$work/run" >"$work/out" 2>&1; then
    fail_case "$label: the next save fails: $(cat "$work/out")"
  fi
  if compgen -G "$work/run/*polyhead-partial" >/dev/null; then
    fail_case "$label: a temporary folder is left after the next save"
  fi
}

# A stand-in for the loss of power, which a killed process does not simulate: before anything is
# renamed, all that was made or renamed so far is synced.
check_order() {
  rm -rf "$work/run"
  cp -r "$1" "$work/run"
  strace -f -qq -y -o "$work/trace" -e trace=openat,mkdir,fsync,rename,renameat2 \
    "$probe" save "$work/run" >/dev/null
  awk -v run="$work/run" '
    function check(line) {
      for (path in unsynced) {
        print "FAILED: " path " is not synced before: " line
        failed = 1
      }
    }
    { split($0, quoted, "\""); path = quoted[2] }
    index(path, run) == 1 && (/O_CREAT/ || /mkdir\(/) { unsynced[path] = 1; ++made }
    /fsync\(/ { match($0, /<[^>]*>/); delete unsynced[substr($0, RSTART + 1, RLENGTH - 2)] }
    /rename/ { check($0); unsynced[run] = 1 }
    END { check("the end"); print made " files and folders are synced in order"; exit failed || !made }
  ' "$work/trace" || fail_case "$(basename "$1"): order of syncs"
}

# A run that saved steps 1 and 2; and one that went on to step 3 before it was continued from 2,
# so that saving step 3 replaces a folder.
"$probe" save "$work/fresh" >/dev/null
"$probe" save "$work/fresh" >/dev/null
cp -r "$work/fresh" "$work/continued"
"$probe" save "$work/continued" >/dev/null
echo step_00000002 >"$work/continued/latest"
touch "$work/continued/step_00000003/abandoned"

for base in "$work/fresh" "$work/continued"; do
  check_order "$base"
  for call in "${calls[@]}"; do
    rm -rf "$work/run"
    cp -r "$base" "$work/run"
    strace -f -qq -o "$work/trace" -e trace="$call" "$probe" save "$work/run" >/dev/null
    count=$(grep -c "$call(" "$work/trace" || true)
    for action in "${actions[@]}"; do
      for ((number = 1; number <= count; ++number)); do
        fault "$base" "$call" "$number" "$action"
      done
    done
  done
done

echo "$cases faults: the previous checkpoint loads after ${outcomes[previous]}, the new one after" \
  "${outcomes[new]}; $failures failures"
[ "$failures" = 0 ]
