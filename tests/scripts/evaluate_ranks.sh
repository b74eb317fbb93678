#!/usr/bin/env bash
# Perplexities must not depend on how many ranks share the work: evaluate_ranks.sh POLYHEAD LAUNCH
# shellcheck source=tests/scripts/command_test.sh
source "$(dirname "$0")/command_test.sh"

# Texts of unequal lengths, so that windows fill more batches than there are ranks.
mkdir texts
for document in 1 2 3; do
  for ((i = 0; i < 70 * document; i++)); do
    printf 'the %d. sentence follows the %d. one, as day follows night; ' \
      $((i * 7 % 311)) $((i * document % 97))
  done > "texts/$document.txt"
done
"$polyhead" tokenize texts --output text --tokenizer bytes > /dev/null

cat > run.yaml << 'YAML'
model: {num_layers: 2, hidden_size: 32, ffn_hidden_size: 56, num_attention_heads: 4, num_query_groups: 2}
data: {train: [text], sequence_length: 50}
optimizer: {learning_rate: 2.0e-3, warmup_steps: 2}
training: {train_steps: 5, global_batch_size: 8, micro_batch_size: 4}
checkpoint: {folder: run}
YAML
"$polyhead" train run.yaml > /dev/null

number() { sed -n "s/^ *\"$1\": \([0-9.e+-]*\),*$/\1/p" "$2.json"; }

evaluate() { # RANKS TP [ARGUMENTS]
  local ranks=$1 tensor_ranks=$2
  shift 2
  "$launch" --oversubscribe -n "$ranks" "$polyhead" evaluate run --data text --tp "$tensor_ranks" \
    --out "table_${ranks}_$tensor_ranks" "$@" > stdout 2> stderr ||
    failed "$ranks ranks, --tp $tensor_ranks: exit status $?"
  [ "$(grep -c '^| checkpoint ' stdout)" -eq 1 ] ||
    failed "$ranks ranks, --tp $tensor_ranks: the table is not printed once"
  cmp -s stdout "table_${ranks}_$tensor_ranks.md" || failed "the table on disk is another one"
  [ ! -s stderr ] || failed "$ranks ranks, --tp $tensor_ranks: output on stderr"
}

for windows in strided rolling; do
  for layout in '1 1' '2 1' '2 2' '3 1' '4 1' '4 2' '4 4'; do
    read -r ranks tensor_ranks <<< "$layout"
    evaluate "$ranks" "$tensor_ranks" --windows "$windows"
    result=table_${ranks}_$tensor_ranks
    echo "$windows windows, $ranks ranks, --tp $tensor_ranks: loss $(number loss "$result")"
    [ "$(number tokens_scored "$result")" -gt 10000 ] || failed "hardly a token was scored"
    [ "$(number tokens_scored "$result")" -eq "$(number tokens_scored table_1_1)" ] ||
      failed "not as many tokens scored as on one rank"
    for measure in loss bits_per_byte byte_perplexity; do
      awk -v one="$(number $measure table_1_1)" -v here="$(number $measure "$result")" 'BEGIN {
        difference = here / one - 1
        exit !(one > 1 && difference < 1e-6 && difference > -1e-6) }' ||
        failed "$measure is not that of one rank, $(number $measure table_1_1)"
    done
  done
done

for i in 1 2 3 4 5 6 7; do echo "{\"text\": \"as day follows the $i. one, as day\"}"; done > passages.jsonl
lambada() { # RANKS TP
  "$launch" --oversubscribe -n "$1" "$polyhead" evaluate run --task lambada --text passages.jsonl \
    --tp "$2" --out "lambada_$1_$2" > stdout 2> stderr || failed "lambada, $1 ranks: exit status $?"
  [ "$(number correct "lambada_$1_$2")" -eq "$(number correct lambada_1_1)" ] &&
    awk -v one="$(number perplexity_per_word lambada_1_1)" \
      -v here="$(number perplexity_per_word "lambada_$1_$2")" 'BEGIN {
        difference = here / one - 1
        exit !(one > 1 && difference < 1e-5 && difference > -1e-5) }' ||
    failed "lambada on $1 ranks, --tp $2, is not that of one rank"
}
lambada 1 1
lambada 2 2
lambada 4 2

refused() { # MESSAGE ARGUMENTS
  local message=$1
  shift
  if "$polyhead" evaluate "$@" > stdout 2> stderr; then failed "evaluate $* was accepted"; fi
  grep -qF -- "$message" stderr || failed "evaluate $* does not say '$message'"
}
refused '--data is missing' run
refused '--data was given 2 times for 1 checkpoints' run --data text --data text
refused '--text is missing' run --task lambada
refused '--data: is no option of --task lambada' run --task lambada --data text --text passages.jsonl
refused '--tokenizer: is no option of --task perplexity' run --data text --tokenizer bytes
"$polyhead" tokenize passages.jsonl --output other --tokenizer bytes > /dev/null
refused 'are different texts' run run --data text --data other
# Before the first is scored, which would fail for its stride.
refused 'the checkpoint typo does not exist' run typo --data text --stride 0

# Every rank fails in the same way; it is told once.
if "$launch" --oversubscribe -n 3 "$polyhead" evaluate run --data text --tp 2 > stdout 2> stderr; then
  failed "--tp 2 on 3 ranks was accepted"
fi
[ "$(grep -c 'must divide the number of ranks (3)' stderr)" -eq 1 ] || failed "not told once"
