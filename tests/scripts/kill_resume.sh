#!/usr/bin/env bash
# Kills a random rank of a training run at a random moment, again and again, and resumes it each
# time. The weights at the end must be bitwise those of a run that nobody disturbed.
#
#   kill_resume.sh POLYHEAD [KILLS [RANKS [cpu|cuda]]]
# shellcheck source=tests/scripts/command_test.sh
source "$(dirname "$0")/command_test.sh" "$1" "$(dirname "$0")/../../scripts/launch.sh"
kills=${2:-50}
ranks=${3:-2}
device=${4:-cpu}
RANDOM=${SEED:-20240117}

make_text 3000

steps=$((kills * 80 + 20))
last=step_$(printf %08d "$steps")
cat > run.yaml << YAML
model: {num_layers: 2, hidden_size: 64, ffn_hidden_size: 96, num_attention_heads: 4, num_query_groups: 2}
parallel: {tensor_model_parallel_size: $ranks}
data: {train: [text], sequence_length: 64}
optimizer: {learning_rate: 2.0e-3, warmup_steps: 5}
training: {train_steps: $steps, global_batch_size: 8, micro_batch_size: 4, device: $device, deterministic: true}
checkpoint: {folder: undisturbed, save_interval: 5, keep_last: 2}
YAML

train() { exec "$launch" --oversubscribe -n "$ranks" "$polyhead" train run.yaml "$@"; }
saved() { cat disturbed/latest 2> /dev/null || echo none; }

begin=$(date +%s%N)
(train) > stdout 2> stderr
forty_steps=$((($(date +%s%N) - begin) * 40 / steps / 1000000)) # milliseconds

killed=0
progressed=0 # of these, jobs that had saved something new
longest=0    # milliseconds that a job outlived its killed rank
finished=no
while [ "$finished" = no ]; do
  resume=()
  if compgen -G 'disturbed/step_*[0-9]' > /dev/null; then resume=(--resume); fi
  (train --set checkpoint.folder=disturbed "${resume[@]}") > stdout 2> stderr &
  launcher=$!
  if [ "$killed" -lt "$kills" ]; then
    before=$(saved)
    # One kill in five comes while the ranks start, the others within forty steps of the first.
    window=600
    if ((RANDOM % 5 > 0)); then
      window=$forty_steps
      until grep -q 'step [0-9]*/' stdout || ! kill -0 "$launcher" 2> /dev/null; do
        sleep 0.01
      done
    fi
    sleep "$(awk -v ms=$((RANDOM % window)) 'BEGIN {print ms / 1000}')"
    mapfile -t processes < <(ranks_of "$launcher")
    until [ "${#processes[@]}" -gt 0 ] || ! kill -0 "$launcher" 2> /dev/null; do
      mapfile -t processes < <(ranks_of "$launcher")
    done
    begin=$(date +%s%N)
    if [ "${#processes[@]}" -gt 0 ] &&
      kill -9 "${processes[RANDOM % ${#processes[@]}]}" 2> /dev/null; then
      killed=$((killed + 1))
    fi
    wait "$launcher" || true
    outlived=$((($(date +%s%N) - begin) / 1000000))
    longest=$((outlived > longest ? outlived : longest))
    [ "$(saved)" = "$before" ] || progressed=$((progressed + 1))
  else
    wait "$launcher" || failed "a run that nobody disturbed"
  fi
  if [ "$(saved)" = "$last" ]; then finished=yes; fi
done

echo "$killed kills, $progressed of them after a save, jobs outlived them by $longest ms at most"
for file in {model,optimizer/exp_avg,optimizer/exp_avg_sq}.safetensors; do
  [ -s "undisturbed/$last/$file" ] || failed "undisturbed/$last/$file is missing or empty"
  cmp "undisturbed/$last/$file" "disturbed/$last/$file"
done
[ "$killed" -ge "$kills" ] || failed "the run ended after $killed of $kills kills"
[ $((progressed * 2)) -ge "$kills" ] || failed "most kills came before anything new was saved"
[ "$longest" -le 5000 ] || failed "a job outlived a killed rank by more than 5 seconds"
echo "final weights and moments are bitwise the same"
