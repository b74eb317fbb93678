#!/usr/bin/env bash
# The whole conversion study with a tiny model, half of its children in parts of which some stop what runs,
# the others elsewhere at once, and its tables:
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
study() { study_in study --variants 'gqa-8-* gqa-2-* mla-*' "$@"; }
study_in() { # FOLDER ARGUMENTS...
  "$here/study.sh" --smoke --polyhead "$polyhead" --folder "$folder/$1" "${@:2}"
}
expect() { # STATUS TEXT COMMAND...
  local status=$1 text=$2 code=0
  shift 2
  "$@" &> "$folder/output" || code=$?
  [ "$code" -eq "$status" ] || failed "$*: exit status $code, not $status"
  grep -q -e "$text" "$folder/output" || failed "$*: no '$text'"
}

expect 2 'unknown argument --parts' study --parts 3
expect 2 '--gpus none is not a positive number' study --gpus none
expect 1 '--products nowhere: no such file' study --products nowhere
expect 2 'variants gqa-3-.: none of gqa-8-mean' study_in study --variants 'gqa-3-*'
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

# The other half; 12 conversions to groups or 14 with those to latent attention, each in three tables.
results=("$folder/study/results" "$folder/other/results")
echo '{}' > "$folder/products.json" # which the CPU, that has no choice, does not read
expect 0 'all .* tasks are done' study_in other --variants 'gqa-4-* gqa-1-*' --gpus 2 \
  --products "$folder/products.json"
cmp -s "$folder/products.json" "$folder/other/results/matmul_algorithms.json" ||
  failed "the products' algorithms were not taken over"
expect 0 '| the parent, continued | [0-9]* | [0-9.]* |' "$here/table.py" "${results[@]}"
variants=$(cat "$folder"/{study,other}/results/plan.txt | grep -c '^convert')
[ "$variants" -ge 12 ] || failed "$variants variants"
rows=$(grep -c -E '^\| ([1248] groups?|latent), ' "$folder/output")
[ "$rows" -eq $((3 * variants)) ] || failed "$rows rows for $variants variants"
! grep ' to ' "$folder/output" | grep -q '–' || failed "a figure is missing"
[ "$(grep -o -m 4 -E '^\| [1248] groups?, mean' "$folder/output" | tr -dc 1248)" = 8421 ] ||
  failed "the table is not in order"
sed -i '0,/"nll": /s//"nll": 1/' "$folder/other/results/stage_0.json"
expect 1 'the parents of .* differ at 0 %' "$here/table.py" "${results[@]}"

echo "$parts parts; the tables:"
"$here/table.py" "$folder/study/results"
