#!/usr/bin/env bash
# Whether the quickstart's MHA learns on a GPU what it learns on the CPU: in fp32 the first 20 losses
# within 1e-4 of the CPU's, in bf16 the held-out bits per byte of the whole run within 0.02; and
# whether over 200 steps every loss in bf16 is within 1 % of fp32's. The text is what
# scripts/quickstart.sh prepares in text/. Some minutes, nearly all of them the CPU's.
#
#   gpu_quickstart.sh POLYHEAD
set -euo pipefail

die() {
  echo "gpu_quickstart.sh: $*" >&2
  exit 2
}

[ $# -eq 1 ] && command -v "$1" > /dev/null || die "the one argument is the polyhead of the cuda preset"
polyhead=$(realpath "$1")
cd "$(dirname "$0")/../.."
[ -r text/austen_validation.idx ] || die "text/austen_validation.idx is missing; scripts/quickstart.sh makes it"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

train() { # NAME DEVICE PRECISION [STEPS]
  local steps=()
  [ $# -lt 4 ] || steps=(--set "training.train_steps=$4")
  "$polyhead" train configs/quickstart_mha.yaml --set "checkpoint.folder=$folder/$1" \
    --set "training.device=$2" --set "training.precision=$3" "${steps[@]}" > "$folder/$1.log" 2>&1 ||
    { tail -n 5 "$folder/$1.log" >&2; die "training $1 failed"; }
}

# The loss of each step, a line each.
losses() {
  sed -n 's/^{"event":"step","step":\([0-9]*\),.*"loss":\([0-9.e+-]*\),.*/\1 \2/p' "$folder/$1/log.jsonl"
}
follows() { # NAME OTHER STEPS TOLERANCE
  join <(losses "$1" | sort) <(losses "$2" | sort) |
    awk -v name="$1" -v other="$2" -v steps="$3" -v tolerance="$4" '
      $1 <= steps { d = $2 / $3 - 1; d = d < 0 ? -d : d; ++seen; if (d > worst) worst = d }
      END {
        holds = seen == steps && worst <= tolerance
        printf "%s: %d losses of %s within %.2g of those of %s; %d should be within %g\n",
          holds ? "holds" : "FAILED", seen, name, worst, other, steps, tolerance
        exit !holds
      }'
}

train cpu cpu fp32
train fp32 cuda fp32
train bf16 cuda bf16
train long_fp32 cuda fp32 200
train long_bf16 cuda bf16 200
"$polyhead" evaluate "$folder"/{cpu,fp32,bf16} --data text/austen_validation --windows rolling \
  --device cuda --precision fp32 --out "$folder/table" > /dev/null

failed=0
follows fp32 cpu 20 1e-4 || failed=1
follows long_bf16 long_fp32 200 0.01 || failed=1
sed -n 's/^ *"bits_per_byte": \([0-9.]*\).*/\1/p' "$folder/table.json" | awk '
  { bits[NR] = $1 }
  END {
    d = bits[3] - bits[1]
    holds = NR == 3 && d <= 0.02 && d >= -0.02
    printf "%s: %.4f bits per byte in bf16, %.4f in fp32 and %.4f on the CPU; 0.02 may lie between\n",
      holds ? "holds" : "FAILED", bits[3], bits[2], bits[1]
    exit !holds
  }' || failed=1
exit "$failed"
