#!/usr/bin/env bash
# Makes the datasets of tests/bench/real_run.yaml from the documentation of Linux, as Debian packs it:
# about 29 MB of text, of which every twentieth file is held out.
#
#   tests/bench/real_run_text.sh POLYHEAD [PACKAGE]
#
# POLYHEAD is the binary. Without PACKAGE (linux-doc-6.1_*.deb) apt-get downloads it. Everything goes to
# text/linux_doc*.
set -euo pipefail

polyhead=$1
mkdir -p text/linux_doc
package=${2:-}
if [ -z "$package" ]; then
  (cd text/linux_doc && apt-get download linux-doc-6.1)
  package=$(ls text/linux_doc/linux-doc-6.1_*.deb)
fi
rm -rf text/linux_doc/train text/linux_doc/held_out
mkdir text/linux_doc/train text/linux_doc/held_out
dpkg-deb -x "$package" text/linux_doc/package

number=0
while IFS= read -r file; do
  number=$((number + 1))
  part=train
  [ $((number % 20)) -ne 0 ] || part=held_out
  gzip -dc "$file" > "text/linux_doc/$part/$(printf %05d $number).txt"
done < <(find text/linux_doc/package -name '*.rst.gz' -o -name '*.txt.gz' | LC_ALL=C sort)

"$polyhead" tokenize text/linux_doc/train --output text/linux_doc_train --tokenizer bytes
"$polyhead" tokenize text/linux_doc/held_out --output text/linux_doc_validation --tokenizer bytes
