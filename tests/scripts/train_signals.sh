#!/usr/bin/env bash
# What signals do to a training run on two ranks, and how it ends: train_signals.sh POLYHEAD LAUNCH
if [ "${POLYHEAD_SANITIZE:-}" = thread ]; then
  echo "skipped: ThreadSanitizer delays handlers of signals, so that two may count as one"
  exit 77
fi
# shellcheck source=tests/scripts/command_test.sh
source "$(dirname "$0")/command_test.sh"

make_text 500

readonly steps=120
cat > run.yaml << YAML
model: {num_layers: 2, hidden_size: 64, ffn_hidden_size: 96, num_attention_heads: 4, num_query_groups: 2}
data: {train: [text], sequence_length: 64}
optimizer: {learning_rate: 2.0e-3, warmup_steps: 5}
training: {train_steps: $steps, global_batch_size: 16, micro_batch_size: 2}
checkpoint: {folder: undisturbed}
YAML

# start FOLDER PROGRAM...: in the background as `pid`, on the run folder. Without job control INT
# would be ignored there.
start() {
  local run=$1
  shift
  set -m
  "$@" train run.yaml --set "checkpoint.folder=$run" "${more[@]}" > stdout 2> stderr &
  pid=$!
  set +m
}
more=()
two_ranks=("$launch" --oversubscribe -n 2 "$polyhead")

ends_with() { # STATUS
  local code=0
  wait "$pid" || code=$?
  [ "$code" -eq "$1" ] || failed "exit status $code, not $1"
}
notes() { cat "$1/log.jsonl" 2> /dev/null | grep -c "$2" || true; } # FOLDER TEXT
await() { # FOLDER TEXT
  for _ in $(seq 600); do
    [ "$(notes "$@")" -eq 0 ] || return 0
    sleep 0.05
  done
  failed "no '$2' in the log of $1"
}
weights() { cat "$1/step_$(printf %08d $steps)"/{model,optimizer/exp_avg,optimizer/exp_avg_sq}.safetensors; }
same_weights() { cmp <(weights undisturbed) <(weights "$1") || failed "$1 has other weights"; }

start undisturbed "${two_ranks[@]}"
ends_with 0
for text in 'model: GQA' 'parameters: ' 'memory per rank: ' 'ranks: 2 = 2 data-parallel x 1' \
  'computes in f32 by .*peak of all ranks' 'rank 1: 1 threads on processors' 'share_of_peak'; do
  [ "$(notes undisturbed "$text")" -gt 0 ] || failed "no '$text' in the log"
done

start saved "${two_ranks[@]}"
await saved '"event":"step","step":10,'
kill -USR1 "$pid"
ends_with 0
[ "$(notes saved 'saved saved/step')" -eq 2 ] || failed "USR1 did not save once"
[ "$(notes saved '"event":"step"')" -eq $steps ] || failed "USR1 did not go on"
same_weights saved
echo "USR1 saves and goes on"

for signal in USR2 TERM INT; do
  start "stopped_$signal" "${two_ranks[@]}"
  await "stopped_$signal" '"event":"step","step":10,'
  kill -s "$signal" "$pid"
  ends_with 0
  [ ! -s stderr ] || failed "$signal: output on stderr"
  [ "$(notes "stopped_$signal" 'stopped by a signal')" -eq 1 ] || failed "$signal did not stop"
  more=(--resume)
  start "stopped_$signal" "${two_ranks[@]}"
  more=()
  ends_with 0
  same_weights "stopped_$signal"
  echo "$signal saves, stops and is resumed bitwise"
done

# A step that outlasts the patience of whoever sends the second signal.
second_ends_at_once() { # SIGNAL PROGRAM...
  local signal=$1 begin seconds
  shift
  more=(--set training.global_batch_size=200000)
  start "twice_$signal" "$@"
  more=()
  await "twice_$signal" 'computes in '
  kill -s "$signal" "$pid"
  sleep 1
  kill -0 "$pid" 2> /dev/null || failed "the first $signal did not wait for the end of the step"
  begin=$SECONDS
  kill -s "$signal" "$pid"
  ! wait "$pid" || failed "the second $signal ended with status 0"
  seconds=$((SECONDS - begin))
  [ "$seconds" -le 5 ] || failed "the second $signal took $seconds s"
  [ ! -e "twice_$signal/latest" ] || failed "the second $signal still saved"
  echo "a second $signal ends $(basename "$1") at once"
}
second_ends_at_once TERM "${two_ranks[@]}"
rm -r twice_TERM
second_ends_at_once INT "${two_ranks[@]}"
rm -r twice_INT
second_ends_at_once INT "$polyhead"

more=(--set optimizer.learning_rate=0)
start refused "${two_ranks[@]}"
ends_with 2
[ "$(grep -c 'optimizer.learning_rate: got 0' stderr)" -eq 1 ] || failed "a bad key was not told once"
echo "a configuration that cannot be used ends with status 2"
