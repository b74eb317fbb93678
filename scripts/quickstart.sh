#!/usr/bin/env bash
# From a fresh machine to a table of attentions, in under 15 minutes on two cores:
#
#   scripts/quickstart.sh                  on five novels by Jane Austen, scored on a sixth
#   scripts/quickstart.sh FOLDER|FILE      on your own plain text; the last file (of a single file,
#                                          its last tenth) is held out
#
# Trains multi-head attention, converts it to grouped-query and multi-query attention, heals both by a
# few uptraining steps, continues the parent for the same steps (the fair comparison), trains latent
# attention and a sliding window of the same size from scratch, and scores all on the held-out text.
# What is done already is not done again: after an interruption, start it again.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly books=text/books
readonly results=runs/quickstart
polyhead=build/release/scripts/polyhead
ranks=2
[ "$(nproc)" -ge 2 ] || ranks=1

say() { printf '\n== %s\n' "$*"; }

# The R package r-cran-janeaustenr carries the novels (public domain); R itself is not needed.
fetch_austen() {
  local package=text/package
  mkdir -p "$package" text/held_out
  say "fetching the novels (Debian package r-cran-janeaustenr)"
  (cd "$package" && apt-get -qq download r-cran-janeaustenr 2> /dev/null) || {
    echo "quickstart.sh: apt-get cannot download r-cran-janeaustenr; run apt-get update, or pass a" \
      "file or folder of your own text: scripts/quickstart.sh FOLDER" >&2
    exit 1
  }
  dpkg -x "$package"/r-cran-janeaustenr_*.deb "$package"
  build/release/scripts/extract_austen \
    "$package/usr/lib/R/site-library/janeaustenr/data/Rdata" "$books"
  mv "$books/persuasion.txt" text/held_out/
}

take_own_text() {
  mkdir -p "$books" text/held_out
  if [ -d "$1" ]; then
    local files=("$1"/*.txt)
    [ "${#files[@]}" -ge 2 ] || {
      echo "quickstart.sh: $1 needs two .txt files or more, one to hold out" >&2
      exit 1
    }
    cp "${files[@]:0:${#files[@]}-1}" "$books/"
    cp "${files[-1]}" text/held_out/
  else
    local lines
    lines=$(wc -l < "$1")
    head -n $((lines - lines / 10)) "$1" > "$books/train.txt"
    tail -n $((lines / 10)) "$1" > text/held_out/held_out.txt
  fi
}

train() { # FOLDER CONFIG [ARGUMENTS]
  local folder=runs/$1 config=$2
  shift 2
  local resume=()
  [ ! -e "$folder/latest" ] || resume=(--resume)
  scripts/launch.sh -n "$ranks" "$polyhead" train "configs/$config.yaml" \
    --set "checkpoint.folder=$folder" --set training.log_interval=10 "${resume[@]}" "$@"
}

convert() { # ATTENTION GROUPS
  local out=runs/quickstart_$1_converted
  [ -e "$out/trainer.json" ] || \
    "$polyhead" convert runs/quickstart_mha --to gqa --groups "$2" --method mean --out "$out"
}

# Columns of the table: 2 checkpoint, 8 bits/byte.
bits_per_byte() { awk -F'|' -v row="runs/quickstart_$1" '{gsub(/ /, "", $2)} $2 == row {print $8 + 0}' "$results.md"; }

say "set-up"
scripts/setup.sh

say "build"
cmake --preset release -DPOLYHEAD_BUILD_TESTS=OFF > build.log 2>&1 || { cat build.log >&2; exit 1; }
cmake --build --preset release >> build.log 2>&1 || { tail -n 40 build.log >&2; exit 1; }
rm build.log

if [ ! -e text/austen_validation.idx ]; then
  if [ $# -gt 0 ]; then take_own_text "$1"; else fetch_austen; fi
  say "tokenizing"
  "$polyhead" tokenize "$books" --output text/austen_train --train-sentencepiece 4096
  "$polyhead" tokenize text/held_out --output text/austen_validation \
    --tokenizer text/austen_train.model
fi

say "multi-head attention (MHA)"
train quickstart_mha quickstart_mha
say "converting MHA to grouped-query (GQA, 2 groups) and multi-query attention (MQA)"
convert gqa 2
convert mqa 1
for attention in gqa mqa; do
  say "uptraining the converted $attention"
  train "quickstart_${attention}_uptrained" uptrain/quickstart \
    --set "uptrain.source=runs/quickstart_${attention}_converted"
done
say "continuing MHA for the same steps"
train quickstart_mha_continued uptrain/quickstart --set uptrain.source=runs/quickstart_mha
say "latent attention (MLA) from scratch"
train quickstart_mla quickstart_mla
say "sliding-window attention (SWA) from scratch"
train quickstart_swa quickstart_swa

say "the held-out text"
scripts/launch.sh -n "$ranks" "$polyhead" evaluate runs/quickstart_mha runs/quickstart_mha_continued \
  runs/quickstart_gqa_converted runs/quickstart_gqa_uptrained \
  runs/quickstart_mqa_converted runs/quickstart_mqa_uptrained \
  runs/quickstart_mla runs/quickstart_swa \
  --data text/austen_validation --stride 256 --out "$results"

parent=$(bits_per_byte mha)
continued=$(bits_per_byte mha_continued)
for attention in gqa mqa; do
  awk -v name="${attention^^}" -v parent="$parent" -v continued="$continued" \
    -v converted="$(bits_per_byte ${attention}_converted)" \
    -v uptrained="$(bits_per_byte ${attention}_uptrained)" 'BEGIN {
      printf "%s: conversion cost %.3f bits/byte; uptraining recovered %.0f %% of the gap to the " \
             "continued parent\n", name, converted - parent,
             100 * (converted - uptrained) / (converted - continued) }'
done
echo "The table is in $results.md and $results.json."
