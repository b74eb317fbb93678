#!/usr/bin/env bash
# Installs what building and running Polyhead needs, on Debian 12, Ubuntu 24.04 and later, by apt
# (through sudo when not root). What is there already is left alone; the second time nothing happens.
#
#   scripts/setup.sh               to build, test and run
#   scripts/setup.sh --developer   also what scripts/check.sh and the soak tests use
#
# Without root, put the same libraries under a prefix of your own and name it at configure time:
#
#   conda   conda create -p ~/polyhead-deps -c conda-forge gxx cmake ninja openmpi libopenblas \
#             yaml-cpp cli11 nlohmann_json fmt spdlog xsimd xxhash libsentencepiece pcre2 \
#             libutf8proc zlib gtest benchmark
#   spack   spack install openmpi openblas yaml-cpp cli11 nlohmann-json fmt spdlog xsimd \
#             xxhash sentencepiece pcre2 utf8proc googletest benchmark, and spack view symlink \
#             ~/polyhead-deps of them
#   apt     single packages: apt-get download libcli11-dev && dpkg -x libcli11-dev*.deb \
#             ~/polyhead-deps, whose libraries are under ~/polyhead-deps/usr
#
#   cmake --preset release -DCMAKE_PREFIX_PATH=$HOME/polyhead-deps
#
# MPI, LAPACK, sentencepiece, PCRE2, utf8proc and zlib may be missing: CMake then names the feature that
# goes. Another CBLAS than OpenBLAS, which contains LAPACK, is chosen by -DBLA_VENDOR=..., such as FLAME
# for BLIS (libblis-dev).
set -euo pipefail

packages=(
  g++ cmake ninja-build
  libopenmpi-dev openmpi-bin # several ranks
  libopenblas-dev
  libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libfmt-dev libspdlog-dev
  libxsimd-dev libxxhash-dev zlib1g-dev
  libsentencepiece-dev libpcre2-dev libutf8proc-dev # tokenizers
  procps # scripts/launch.sh and the tests look at processes
  libgtest-dev libgmock-dev libbenchmark-dev
)
case ${1:-} in
  '') ;;
  --developer) packages+=(ccache clang-format-14 shellcheck strace) ;;
  -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
  *) echo "setup.sh: unknown argument $1 (there is --developer)" >&2; exit 2 ;;
esac

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  echo "setup.sh: this machine has no apt; install by its own means what these packages of Debian" \
    "hold: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" != installed ]; then
    missing+=("$package")
  fi
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup.sh: everything is installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "setup.sh: neither root nor sudo; ask an administrator to run" >&2
    echo "  apt-get install ${missing[*]}" >&2
    echo "or use a prefix of your own (setup.sh --help)" >&2
    exit 1
  fi
  as_root=(sudo)
fi

apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"; }

echo "setup.sh: installing ${missing[*]}"
apt update
available=()
unavailable=()
for package in "${missing[@]}"; do
  if [ -n "$(apt-cache madison "$package" 2> /dev/null)" ]; then
    available+=("$package")
  else
    unavailable+=("$package")
  fi
done
if [ ${#available[@]} -gt 0 ]; then
  apt install --no-install-recommends -y "${available[@]}" > /dev/null
fi
if [ ${#unavailable[@]} -gt 0 ]; then
  echo "setup.sh: this distribution has no package ${unavailable[*]}" >&2
  exit 1
fi
echo "setup.sh: done"
