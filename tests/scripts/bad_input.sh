#!/usr/bin/env bash
# What a user gets wrong is told once, with its name and the fix, ends all ranks, and leaves what was
# on disk as it was: bad_input.sh POLYHEAD LAUNCH
# shellcheck source=tests/scripts/command_test.sh
source "$(dirname "$0")/command_test.sh"

make_text 500
cat > run.yaml << 'YAML'
model: {num_layers: 2, hidden_size: 32, ffn_hidden_size: 56, num_attention_heads: 4, num_query_groups: 2}
data: {train: [text], sequence_length: 50}
optimizer: {learning_rate: 2.0e-3, warmup_steps: 2}
training:
  train_steps: 4
  global_batch_size: 8
  micro_batch_size: 4
checkpoint: {folder: run, save_interval: 2}
YAML
train() { "$launch" --oversubscribe -n 2 "$polyhead" train "$@" > stdout 2> stderr; }
train run.yaml || failed "the run that the others disturb"

contents() { find run text.* -type f ! -name .lock -exec sha256sum {} + | sort; }
contents > before

# Lines that are indented belong to the message before them.
messages() { grep -vc '^  ' stderr; }

# refused STATUS TEXT FIX ARGUMENT...: train ends so, with both texts in the one message on stderr.
refused() {
  local status=$1 text=$2 fix=$3 code=0
  shift 3
  train "$@" || code=$?
  echo "$*: status $code: $(head -1 stderr)"
  [ "$code" -eq "$status" ] || failed "$*: exit status $code, not $status"
  [ "$(messages)" -eq 1 ] || failed "$*: not one message on stderr"
  grep -q '^polyhead: error: ' stderr || failed "$*: not told as an error"
  grep -q -e "$text" stderr || failed "$*: no '$text' on stderr"
  grep -q -e "$fix" stderr || failed "$*: no '$fix' on stderr"
  contents | cmp - before || failed "$*: files have changed"
}

# A copy of the dataset, to damage, and arguments that train on it in another folder.
copy_text() {
  local ending
  for ending in bin idx json; do cp "text.$ending" "copy.$ending"; done
}
flip_byte() { # FILE OFFSET
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  # shellcheck disable=SC2059  # the format is the byte
  printf "\\$(printf %03o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
on_copy=(run.yaml --set 'data.train=[copy]' --set checkpoint.folder=other)

sed 's/warmup_steps/warm_up_steps/' run.yaml > typo.yaml
refused 2 'typo.yaml:3:36: optimizer.warm_up_steps: unknown key' 'did you mean warmup_steps' typo.yaml
sed 's/  train_steps: 4/&\n  train_steps: 5/' run.yaml > twice.yaml
refused 2 'twice.yaml:6:3: .*train_steps' 'delete one' twice.yaml
refused 2 'tensor_model_parallel_size: got 4; must divide the number of ranks (2)' 'use 1 or 2' \
  run.yaml --set parallel.tensor_model_parallel_size=4

copy_text
rm copy.idx
refused 1 'data.train: copy.idx: no such file' 'polyhead tokenize' "${on_copy[@]}"
copy_text
truncate -s -1 copy.idx
refused 1 'data.train: copy.idx: has .* bytes, but' 'tokenize the text again' "${on_copy[@]}"
copy_text
flip_byte copy.bin 12345
refused 1 'copy.bin was altered since it was made' 'tokenize the text again' "${on_copy[@]}"
copy_text
rm copy.json
refused 1 'copy.bin: token [0-9]* at offset .* lies outside the vocabulary of 90' \
  'set model.vocab_size' "${on_copy[@]}" --set model.vocab_size=90

# A dataset that someone truncates while it is read. ThreadSanitizer has handlers of its own.
if [ "${POLYHEAD_SANITIZE:-}" != thread ]; then
  copy_text
  train "${on_copy[@]}" --set checkpoint.folder=cut --set training.train_steps=1000000 &
  training=$!
  until grep -q 'step 10/' stdout; do sleep 0.05; done
  truncate -s 0 copy.bin
  ! wait "$training" || failed "a run without its text succeeded"
  [ "$(messages)" -eq 1 ] || failed "copy.bin is cut short: not one message on stderr"
  grep -q '^polyhead: error: .*/copy.bin was cut short while it was in use' stderr ||
    failed "copy.bin is cut short: another message"
fi

refused 1 'checkpoint.folder: run holds the checkpoints of a run' 'continue it with --resume' run.yaml
refused 1 '--resume: absent holds no checkpoint' 'start without --resume' \
  run.yaml --resume --set checkpoint.folder=absent
cp -r run damaged
for weights in damaged/step_*/model.safetensors; do flip_byte "$weights" 3000; done
refused 1 'damaged/step_00000004/model.safetensors: altered since it was written' \
  'use another checkpoint' run.yaml --resume --set checkpoint.folder=damaged
exec {lock}<> run/.lock
flock "$lock"
refused 1 'run is in use by' 'wait for it to end' run.yaml --resume
exec {lock}<&-

# Two that write one dataset.
exec {lock}<> text.lock
flock "$lock"
if "$polyhead" tokenize text.txt --output text --tokenizer bytes > stdout 2> stderr; then
  failed "a second tokenize was accepted"
fi
[ "$(messages)" -eq 1 ] || failed "tokenize: not one message on stderr"
grep -q 'text is being written by another process; wait' stderr || failed "tokenize: another message"
exec {lock}<&-
contents | cmp - before || failed "tokenize: files have changed"

# What launch.sh left behind for a second still holds the lock.
flock run/.lock true
train run.yaml --resume --set training.train_steps=6 || failed "the run cannot go on"
[ "$(cat run/latest)" = step_00000006 ] || failed "the run did not go on"
