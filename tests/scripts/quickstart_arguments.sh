#!/usr/bin/env bash
# What quickstart.sh takes for a text, and that it looks before it works: quickstart_arguments.sh
set -euo pipefail
here=$(realpath "$(dirname "$0")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

failed() {
  echo "FAILED: $*" >&2
  cat stdout stderr >&2
  exit 1
}

# A checkout whose set-up, the first thing that is done, ends the work.
mkdir -p checkout/scripts
cp "$here/../../scripts/quickstart.sh" checkout/scripts/
printf '#!/usr/bin/env bash\necho works\nexit 7\n' > checkout/scripts/setup.sh
chmod +x checkout/scripts/setup.sh

run() {
  code=0
  checkout/scripts/quickstart.sh "$@" > stdout 2> stderr || code=$?
}
refused() { # TEXT ARGUMENT...
  local text=$1
  shift
  run "$@"
  [ "$code" -eq 1 ] || failed "$*: exit status $code, not 1"
  [ "$(wc -l < stderr)" -eq 1 ] || failed "$*: not one line on stderr"
  grep -q -e "$text" stderr || failed "$*: no '$text' on stderr"
  ! grep -q works stdout || failed "$*: works before it looks"
}
accepted() {
  run "$@"
  [ "$code" -eq 7 ] || failed "$*: exit status $code, not 7"
}

mkdir one two
seq 9 > short.txt
seq 10 > long.txt
cp long.txt one/
cp long.txt two/a.txt
cp long.txt two/b.txt
refused 'absent.txt: no such file or folder' absent.txt
refused 'short.txt has 9 lines' short.txt
refused 'one needs two .txt files' one
accepted long.txt
accepted two
accepted

# What lies there belongs to one text.
mkdir checkout/text
touch checkout/text/austen_train.idx
accepted
refused "are those of Jane Austen's novels; move both away to begin with $folder/long.txt" long.txt
echo "$folder/long.txt" > checkout/text/source
accepted long.txt
accepted two/../long.txt
refused "those of $folder/long.txt; move both away to begin with $folder/two" two
refused "those of $folder/long.txt; move both away to begin with Jane Austen's novels"
