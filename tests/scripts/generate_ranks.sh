#!/usr/bin/env bash
# A text must not depend on how many ranks write it, stdout must hold nothing else, and what a user
# gets wrong must end all ranks with one message: generate_ranks.sh POLYHEAD LAUNCH
# shellcheck source=tests/scripts/command_test.sh
source "$(dirname "$0")/command_test.sh"

for ((i = 0; i < 40; i++)); do printf 'caf\303\251 \342\202\254 5\n---\n'; done > text.txt
"$polyhead" tokenize text.txt --output text --tokenizer bytes --document-separator=--- > /dev/null
cat > run.yaml << 'YAML'
model: {num_layers: 2, hidden_size: 32, ffn_hidden_size: 56, num_attention_heads: 4, num_query_groups: 2}
data: {train: [text], sequence_length: 160}
optimizer: {learning_rate: 2.0e-2, warmup_steps: 2}
training: {train_steps: 40, global_batch_size: 4, micro_batch_size: 4}
checkpoint: {folder: run}
YAML
"$polyhead" train run.yaml > /dev/null

generate() { # RANKS ARGUMENT...
  local ranks=$1
  shift
  "$launch" --oversubscribe -n "$ranks" "$polyhead" generate "$@" > stdout 2> stderr
}
accepted() { # RANKS ARGUMENT...
  generate "$@" || failed "$*: exit status $?"
  [ ! -s stderr ] || failed "$*: output on stderr"
}

# By heart, up to the end of the document, and the line feed behind every text.
printf 'f\303\251 \342\202\254 5\n\n' > want
for ranks in 1 2 4; do
  accepted "$ranks" run --prompt ca
  cmp -s stdout want || failed "$ranks ranks: not the document"
done
accepted 2 run --prompt ca --tp 1
cmp -s stdout want || failed "two copies of the model: not the document"
printf 'ca' > prompt.txt
accepted 2 run --prompt-file prompt.txt
cmp -s stdout want || failed "--prompt-file: not the text of --prompt"
accepted 1 run --prompt ''
printf 'ca' | cat - want | cmp -s stdout - || failed "no prompt: not the whole document"

draw=(run --prompt ca --temperature 2 --top-k 50 --top-p 0.95 --seed 7 --max-new-tokens 50 --ignore-eos)
accepted 1 "${draw[@]}"
cp stdout drawn
for ranks in 2 4; do
  accepted "$ranks" "${draw[@]}"
  cmp -s stdout drawn || failed "$ranks ranks draw another text"
done
iconv -f UTF-8 -t UTF-8 drawn > /dev/null || failed "the text is not UTF-8"

code=0
"$polyhead" generate run --prompt ca > /dev/full 2> stderr || code=$?
[ "$code" -eq 1 ] || failed "/dev/full: exit status $code, not 1"
grep -q 'cannot write the text to stdout: No space left on device' stderr || failed "/dev/full: another message"

# refused STATUS TEXT ARGUMENT...
refused() {
  local status=$1 text=$2 ranks code
  shift 2
  for ranks in 1 3; do
    code=0
    generate "$ranks" "$@" || code=$?
    [ "$code" -eq "$status" ] || failed "$*, $ranks ranks: exit status $code, not $status"
    [ "$(wc -l < stderr)" -eq 1 ] || failed "$*, $ranks ranks: not one message on stderr"
    grep -q -e "$text" stderr || failed "$*, $ranks ranks: no '$text' on stderr"
    [ ! -s stdout ] || failed "$*, $ranks ranks: output on stdout"
  done
  echo "$*: status $status: $(cat stderr)"
}
refused 2 'prompt' run
refused 2 'prompt' run --prompt a --prompt-file prompt.txt
refused 2 '--top-p 1.5: must be above 0 and at most 1' run --prompt a --top-p 1.5 --tp 1
refused 2 '--temperature -1: must be a number of at least 0' run --prompt a --temperature -1 --tp 1
refused 2 '--max-new-tokens 0: must lie between 1' run --prompt a --max-new-tokens 0 --tp 1
refused 2 '--seed: must not be negative' run --prompt a --seed -1
refused 1 'the prompt is not UTF-8 at byte 1' run --prompt "$(printf 'a\377')" --tp 1
refused 1 'absent.txt' run --prompt-file absent.txt --tp 1
refused 1 'absent' absent --prompt a --tp 1
refused 1 'must divide the number of ranks' run --prompt a --tp 2
