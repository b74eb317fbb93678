#!/usr/bin/env bash
# The one command before a commit: format, include directions, build with warnings as errors, tests;
# where nvcc is installed the CUDA back end is built too, and its tests run if there is a device.
#
#   scripts/check.sh                  release build, tests labelled quick and full
#   scripts/check.sh --preset debug   the same under AddressSanitizer and UndefinedBehaviorSanitizer
#   scripts/check.sh --preset tsan    the same under ThreadSanitizer
#   scripts/check.sh --preset minimal --labels quick   without MPI and tokenizers' libraries
#   scripts/check.sh --labels quick   other tests: quick, full, soak (a regular expression)
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
labels='quick|full'
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) preset=$2; shift 2 ;;
    --labels) labels=$2; shift 2 ;;
    *) echo "check.sh: unknown argument $1 (see the head of this file)" >&2; exit 2 ;;
  esac
done

echo "== format"
formatter=$(command -v clang-format-14 || command -v clang-format || true)
if [ -n "$formatter" ] && "$formatter" --version | grep -q 'version 14\.'; then
  git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs "$formatter" --dry-run -Werror
else
  echo "skipped: the format is checked by clang-format 14, which is not installed"
fi

echo "== include directions"
scripts/check_includes.sh

echo "== build ($preset)"
launcher=()
if command -v ccache > /dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
# quickstart.sh leaves them out.
cmake --preset "$preset" -DPOLYHEAD_BUILD_TESTS=ON "${launcher[@]}"
cmake --build --preset "$preset"

if [ "$preset" = release ] && command -v nvcc > /dev/null; then
  echo "== build (cuda)"
  cmake --preset cuda -DPOLYHEAD_BUILD_TESTS=ON "${launcher[@]}"
  cmake --build --preset cuda --target polyhead gpu_tests
  echo "== tests (gpu): skipped where no device is visible"
  ctest --test-dir build/cuda -L gpu --no-tests=error --output-on-failure
fi

echo "== tests ($labels)"
if [ "$preset" = tsan ]; then
  # libgomp is not instrumented: with more threads every parallel loop would look like a race.
  export OMP_NUM_THREADS=1
fi
ctest --test-dir "build/$preset" -L "$labels" --no-tests=error --output-on-failure

echo "== passed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
