# What the tests of commands begin with; sourced with the arguments POLYHEAD LAUNCH. Leaves them in an
# empty folder that is removed at the end. A command's output goes to the files stdout and stderr
# there.
# shellcheck shell=bash disable=SC2034  # who sources it uses the names
set -euo pipefail

polyhead=$(realpath "$1")
launch=$(realpath "$2")
export OMP_NUM_THREADS=1

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# The dataset `text`: sentences for which no tokenizer has to be trained.
make_text() { # SENTENCES
  local i
  for ((i = 0; i < $1; i++)); do
    printf 'the %d. sentence follows the %d. one, as day follows night; ' $((i * 7 % 311)) $((i % 97))
  done > text.txt
  "$polyhead" tokenize text.txt --output text --tokenizer bytes > /dev/null
}

# The processes of a job: grandchildren of its launcher that already run our program.
ranks_of() { # LAUNCHER
  local pid
  for pid in $(pgrep -P "$1" | xargs -r -n1 pgrep -P); do
    [ "$(readlink "/proc/$pid/exe")" != "$polyhead" ] || echo "$pid"
  done
}

failed() {
  echo "FAILED: $*" >&2
  cat stdout stderr >&2
  exit 1
}
