#!/usr/bin/env bash
# Times single ops and whole training steps beside PyTorch on one GPU; --help says how.
set -euo pipefail
exec python3 "$(dirname "$0")/../tests/bench/bench_gpu.py" "$@"
