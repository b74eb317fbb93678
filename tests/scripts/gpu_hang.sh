#!/usr/bin/env bash
# How training on GPUs ends when a rank stops answering: within communication_timeout, on all ranks,
# with a message that names it, wherever the others' hosts or devices wait for it. Exits with 77 where
# no GPU is visible.
#
#   gpu_hang.sh POLYHEAD
if [[ $(nvidia-smi -L 2> /dev/null) != GPU* ]]; then
  echo "skipped: no GPU is visible"
  exit 77
fi
# shellcheck source=tests/scripts/command_test.sh
source "$(dirname "$0")/command_test.sh" "$1" "$(dirname "$0")/../../scripts/launch.sh"
export NCCL_SOCKET_IFNAME=lo
readonly timeout=12 # seconds
make_text 3000

# hang NAME LINKS LAYERS AFTER [TRAINING KEYS]: stops a rank once the log has AFTER. Links: nccl, also
# where the ranks share a GPU, or host.
hang() {
  local name=$1 links=$2 layers=$3 after=$4 keys=${5:-} code=0 launcher processes stopped begin
  cat > run.yaml << YAML
model: {num_layers: $layers, hidden_size: 64, ffn_hidden_size: 96, num_attention_heads: 4, num_query_groups: 2}
parallel: {tensor_model_parallel_size: 2, communication_timeout: $timeout}
data: {train: [text], sequence_length: 64}
optimizer: {learning_rate: 1.0e-3, warmup_steps: 5}
training: {train_steps: 1000000, global_batch_size: 4, micro_batch_size: 4, device: cuda, log_interval: 1$keys}
checkpoint: {folder: $name}
YAML
  (
    # shellcheck disable=SC2016  # for each rank to expand
    exec "$launch" --oversubscribe -n 2 bash -c '
      export NCCL_HOSTID=one
      [ "$0" = host ] || NCCL_HOSTID=rank-${OMPI_COMM_WORLD_RANK:-$PMI_RANK}
      exec "$@"' "$links" "$polyhead" train run.yaml
  ) > stdout 2> stderr &
  launcher=$!
  until grep -q "$after" stdout; do
    kill -0 "$launcher" 2> /dev/null || failed "$name: ended before it was to hang"
    sleep 0.01
  done
  mapfile -t processes < <(ranks_of "$launcher")
  [ ${#processes[@]} -eq 2 ] || failed "$name: ${#processes[@]} ranks"
  stopped=${processes[RANDOM % 2]}
  begin=$(date +%s%N)
  kill -STOP "$stopped"
  for ((looks = 0; looks < (timeout + 10) * 10; looks++)); do
    kill -0 "$launcher" 2> /dev/null || break
    sleep 0.1
  done
  local milliseconds=$((($(date +%s%N) - begin) / 1000000))
  if kill -0 "$launcher" 2> /dev/null; then
    kill -9 "${processes[@]}"
    wait "$launcher" || true
    failed "$name: still there $milliseconds ms after a rank was stopped"
  fi
  wait "$launcher" || code=$?
  echo "$name: status $code after $milliseconds ms: $(head -n 1 stderr)"
  [ "$code" -eq 3 ] || failed "$name: exit status $code, not 3"
  [ "$milliseconds" -le $((timeout * 1000 + 1500)) ] || failed "$name: later than $timeout s"
  grep -q "rank [01] (process $stopped on .*) stopped answering" stderr ||
    failed "$name: no message names process $stopped"
  [ "$(grep -c '^polyhead: error:' stderr)" -eq 1 ] || failed "$name: not one message"
}

hang eager nccl 2 'step 3/'
# More work than the device's queue of launches holds.
hang deep nccl 60 'step 3/'
hang recorded nccl 2 'step 5/' ', cuda_graph: true'
hang first_step nccl 2 'computes in'
hang host_memory host 2 'step 3/'
echo "a rank that stops answering ends the job, and is named"
