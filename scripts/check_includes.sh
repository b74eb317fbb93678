#!/usr/bin/env bash
# Dependencies point one way: framework <- layers <- scripts, framework <- optim <- scripts,
# framework <- data <- scripts. Fails and names every include that points elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
# forbid FOLDER TARGETS: no file in FOLDER includes a header of one of TARGETS.
forbid() {
  local found
  found=$(git grep -nE "^#include \"($2)/" -- "$1/*.h" "$1/*.cpp" "$1/*.cu" "$1/*.cuh" || true)
  if [ -n "$found" ]; then
    printf '%s\n' "$found" >&2
    echo "check_includes.sh: $1 must not include from ${2//|/, }" >&2
    status=1
  fi
}
forbid framework 'layers|optim|data|scripts|tests'
forbid layers 'optim|data|scripts|tests'
forbid optim 'layers|data|scripts|tests'
forbid data 'layers|optim|scripts|tests'
forbid scripts 'tests'
exit $status
