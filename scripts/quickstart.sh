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
# What is done already is not done again: after an interruption, start it again. Text goes to text/,
# checkpoints and table to runs/; both belong to one source.
set -euo pipefail

die() {
  echo "quickstart.sh: $*" >&2
  exit 1
}

own_text=
if [ $# -gt 0 ]; then
  own_text=$(realpath -e -- "$1" 2> /dev/null) || die "$1: no such file or folder"
  if [ -d "$own_text" ]; then
    own_files=("$own_text"/*.txt)
    [ "${#own_files[@]}" -ge 2 ] || die "$1 needs two .txt files or more, one to hold out"
  else
    [ -r "$own_text" ] || die "$1 cannot be read"
    own_lines=$(wc -l < "$own_text")
    [ "$own_lines" -ge 10 ] || die "$1 has $own_lines lines; a tenth of 10 or more is held out"
  fi
fi
cd "$(dirname "$0")/.."

readonly austen="Jane Austen's novels"
readonly source=${own_text:-$austen}
if [ -e text/austen_train.idx ] || [ -e text/source ]; then
  earlier=$(cat text/source 2> /dev/null || echo "$austen")
  [ "$source" = "$earlier" ] ||
    die "text/ and runs/ are those of $earlier; move both away to begin with $source"
fi

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
    die "apt-get cannot download r-cran-janeaustenr; run apt-get update, or pass a file or folder of" \
      "your own text: scripts/quickstart.sh FOLDER"
  }
  dpkg -x "$package"/r-cran-janeaustenr_*.deb "$package"
  build/release/scripts/extract_austen \
    "$package/usr/lib/R/site-library/janeaustenr/data/Rdata" "$books"
  mv "$books/persuasion.txt" text/held_out/
}

take_own_text() {
  mkdir -p "$books" text/held_out
  if [ -d "$own_text" ]; then
    cp -- "${own_files[@]:0:${#own_files[@]}-1}" "$books/"
    cp -- "${own_files[-1]}" text/held_out/
  else
    head -n $((own_lines - own_lines / 10)) "$own_text" > "$books/train.txt"
    tail -n $((own_lines / 10)) "$own_text" > text/held_out/held_out.txt
  fi
}

train() { # FOLDER CONFIG [ARGUMENTS]
  local folder=runs/$1 config=$2
  shift 2
  local resume=()
  # Not by `latest`: it may be missing after an interruption, and the checkpoints count.
  if compgen -G "$folder/step_*[0-9]" > /dev/null; then resume=(--resume); fi
  scripts/launch.sh -n "$ranks" "$polyhead" train "configs/$config.yaml" \
    --set "checkpoint.folder=$folder" --set training.log_interval=10 "${resume[@]}" "$@"
}

convert() { # ATTENTION GROUPS
  local out=runs/quickstart_$1_converted
  [ -e "$out/trainer.json" ] || \
    "$polyhead" convert runs/quickstart_mha --to gqa --groups "$2" --method mean --out "$out"
}

# Columns of the table: 2 checkpoint, 8 bits/byte.
bits_per_byte() { awk -F'|' -v row="runs/quickstart_$1" '{gsub(/ /, "", $2)} $2 == row {print $8 + 0; exit}' "$results.md"; }

say "set-up"
scripts/setup.sh

say "build"
cmake --preset release -DPOLYHEAD_BUILD_TESTS=OFF > build.log 2>&1 || { cat build.log >&2; exit 1; }
cmake --build --preset release >> build.log 2>&1 || { tail -n 40 build.log >&2; exit 1; }
rm build.log

if [ ! -e text/austen_validation.idx ]; then
  mkdir -p text
  echo "$source" > text/source
  if [ -n "$own_text" ]; then take_own_text; else fetch_austen; fi
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
  --data text/austen_validation --windows rolling --out "$results"

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
echo "The table is in $results.md and $results.json; all took $((SECONDS / 60)) min $((SECONDS % 60)) s."
