# What the tests of commands begin with; sourced with their arguments POLYHEAD LAUNCH. Leaves them in
# an empty folder that is removed at the end. A command's output goes to the files stdout and stderr
# there.
# shellcheck shell=bash disable=SC2034  # who sources it uses the names
set -euo pipefail

polyhead=$(realpath "$1")
launch=$(realpath "$2")
export OMP_NUM_THREADS=1

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

failed() {
  echo "FAILED: $*" >&2
  cat stdout stderr >&2
  exit 1
}
