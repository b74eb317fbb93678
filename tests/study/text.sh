#!/usr/bin/env bash
# Makes the text of the conversion study from packages of Debian 12: text/study_train and
# text/study_validation, each .bin, .idx, .json and .sizes.
#
#   tests/study/text.sh                        downloads the packages (73 MB) with apt-get
#   tests/study/text.sh --packages FOLDER      takes the .deb files that lie there
#   tests/study/text.sh --polyhead BIN         the binary; default build/cuda/scripts/polyhead, or
#                                              build/release's where there is none
#
# The text is 114 MB: three dictionaries (GCIDE, WordNet, FOLDOC), Perl's manual and the documentation of
# Linux. The datasets hold two bytes a token, 228 MB; they depend on nothing but the text, so they may be
# made on one machine and carried to another.
set -euo pipefail

die() {
  echo "text.sh: $*" >&2
  exit "${status:-1}"
}

readonly names=(dict-foldoc dict-gcide dict-wn linux-doc-6.1 perl-doc)
packages=
polyhead=
while [ $# -gt 0 ]; do
  case $1 in
    --packages | --polyhead)
      [ $# -ge 2 ] || status=2 die "$1 needs a value"
      case $1 in
        --packages) packages=$(realpath -e -- "$2" 2> /dev/null) || die "$2: no such folder" ;;
        --polyhead) polyhead=$(realpath -m -- "$2") ;;
      esac
      shift 2
      ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
    *) status=2 die "unknown argument $1 (text.sh --help)" ;;
  esac
done
here=$(realpath "$(dirname "$0")")
cd "$here/../.."
if [ -z "$polyhead" ]; then
  polyhead=build/cuda/scripts/polyhead
  [ -x "$polyhead" ] || polyhead=build/release/scripts/polyhead
fi
[ -x "$polyhead" ] || die "$polyhead is no program; build it, or name one with --polyhead"

readonly work=text/study_source
rm -rf "$work/unpacked" "$work/texts"
mkdir -p "$work/unpacked" "$work/texts"
if [ -z "$packages" ]; then
  packages=$work/packages
  mkdir -p "$packages"
  (cd "$packages" && apt-get -qq download "${names[@]}" 2> /dev/null) ||
    die "apt-get cannot download ${names[*]}; run apt-get update, or name a folder with their .deb" \
      "files: --packages FOLDER"
fi
for name in "${names[@]}"; do
  files=("$packages/${name}"_*.deb)
  [ -r "${files[-1]}" ] || die "$packages has no ${name}_*.deb; download it with apt-get download $name"
  dpkg-deb -x "${files[-1]}" "$work/unpacked"
done

# Some quotations and names are not UTF-8; without these bytes they are. iconv then exits with 1.
utf8() { iconv -c -f UTF-8 -t UTF-8 || true; }

# .dict.dz is gzip with an index of its blocks.
for dictionary in foldoc gcide wn; do
  gzip -dc < "$work/unpacked/usr/share/dictd/$dictionary.dict.dz" | utf8 > "$work/texts/$dictionary.txt"
done
in_order() { LC_ALL=C sort -z; }
find "$work/unpacked/usr/share/doc" \( -name '*.rst.gz' -o -name '*.txt.gz' \) -print0 | in_order |
  xargs -0 gzip -dc | utf8 > "$work/texts/linux.txt"
# File by file, for one may lack a character's last byte at its end.
find "$work/unpacked/usr/share/perl" -name '*.pod' -print0 | in_order |
  while IFS= read -r -d '' file; do utf8 < "$file"; done > "$work/texts/perl.txt"

"$here/pieces.sh" "$polyhead" text/study 65536 "$work"/texts/*.txt
rm -rf "$work/unpacked" "$work/texts"
