#!/usr/bin/env bash
# Cuts texts into documents and makes two datasets of them, with bytes as tokens:
#
#   tests/study/pieces.sh POLYHEAD PREFIX BYTES TEXT...
#
# Each TEXT is cut at its line ends into documents of at most BYTES. Counted through all texts, every
# 20th document goes to PREFIX_validation, the others to PREFIX_train. PREFIX_pieces/ is used meanwhile.
set -euo pipefail

if [ $# -lt 4 ]; then
  echo "pieces.sh: use: pieces.sh POLYHEAD PREFIX BYTES TEXT..." >&2
  exit 2
fi
polyhead=$1
prefix=$2
bytes=$3
shift 3

pieces=${prefix}_pieces
rm -rf "$pieces"
mkdir -p "$pieces/train" "$pieces/validation"
texts=0
for text in "$@"; do
  texts=$((texts + 1))
  split -C "$bytes" -a 5 -d --additional-suffix=.txt "$text" "$pieces/train/$texts."
done

number=0
for piece in "$pieces"/train/*; do
  number=$((number + 1))
  [ $((number % 20)) -ne 0 ] || mv "$piece" "$pieces/validation/"
done
if [ "$number" -lt 20 ]; then
  echo "pieces.sh: $number documents of $bytes bytes; 20 or more are needed to hold one out" >&2
  exit 1
fi

for part in train validation; do
  "$polyhead" tokenize "$pieces/$part" --output "${prefix}_$part" --tokenizer bytes
done
rm -rf "$pieces"
