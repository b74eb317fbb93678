#!/usr/bin/env bash
# The whole conversion study with a tiny model, in parts of which some stop what runs, and its tables:
#   smoke.sh POLYHEAD
set -euo pipefail

polyhead=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

failed() {
  echo "FAILED: $*" >&2
  cat "$folder/output" >&2
  exit 1
}
study() { "$here/study.sh" --smoke --polyhead "$polyhead" --folder "$folder/study" "$@"; }
expect() { # STATUS TEXT COMMAND...
  local status=$1 text=$2 code=0
  shift 2
  "$@" &> "$folder/output" || code=$?
  [ "$code" -eq "$status" ] || failed "$*: exit status $code, not $status"
  grep -q -e "$text" "$folder/output" || failed "$*: no '$text'"
}

expect 2 'unknown argument --parts' study --parts 3
expect 2 '--gpus none is not a positive number' study --gpus none
expect 1 'no plan.txt' "$here/table.py" "$folder"

code=3
parts=0
while [ "$code" -eq 3 ]; do
  parts=$((parts + 1))
  code=0
  study --seconds $((parts < 3 ? 1 : 15)) --gpus 2 &> "$folder/output" || code=$?
  [ "$code" -eq 0 ] || [ "$code" -eq 3 ] || failed "part $parts ended with $code"
  [ "$parts" -lt 100 ] || failed "100 parts were not enough"
  if [ "$code" -eq 3 ]; then
    expect 1 'tasks have not finished: .*evaluate.10' "$here/table.py" "$folder/study/results"
    expect 0 'Byte perplexity' "$here/table.py" --partial "$folder/study/results"
  fi
done
expect 0 'all .* tasks are done' study
[ "$parts" -ge 3 ] || failed "all was done in $parts parts, so that nothing had to go on"
grep -q stopped "$folder/study/results/times.tsv" || failed "no part stopped a training"
if compgen -G "$folder/study/stage_*" || [ -e "$folder/study/uptrain" ]; then
  failed "checkpoints were left behind"
fi
[ -d "$folder/study/parent" ] || failed "the parent was removed"

# 12 conversions to groups or 14 with those to latent attention, each in three tables.
expect 0 '| the parent, continued | [0-9]* | [0-9.]* |' "$here/table.py" "$folder/study/results"
variants=$(grep -c '^convert' "$folder/study/results/plan.txt")
rows=$(grep -c -E '^\| ([1248] groups?|latent), ' "$folder/output")
[ "$rows" -eq $((3 * variants)) ] || failed "$rows rows for $variants variants"
! grep ' to ' "$folder/output" | grep -q '–' || failed "a figure is missing"

echo "$parts parts; the tables:"
"$here/table.py" "$folder/study/results"
