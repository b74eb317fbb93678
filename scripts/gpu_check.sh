#!/usr/bin/env bash
# Builds and runs the tests of the CUDA back end on this machine's GPU, then compute-sanitizer (memcheck
# and racecheck) on a small set of them.
#
#   scripts/gpu_check.sh                      all of it
#   scripts/gpu_check.sh --part 2/3           the second third of the checks; each of the parts builds
#                                             what is not yet built
#   scripts/gpu_check.sh --report FILE        also append a line a check to FILE
#   scripts/gpu_check.sh --merge FILE...      the reports of all parts: whether together they passed
#   scripts/gpu_check.sh --build FOLDER       build there; default build/cuda
#   scripts/gpu_check.sh --list               build, and name the checks of the part
#
# A new build folder is configured for this machine's GPU alone. Ranks of the tests under mpirun have a
# GPU each where there are four, and share what there is otherwise. Exits with 1 where no device is
# visible, where a check fails or is skipped, and where the sanitizer finds something.
set -euo pipefail

die() {
  echo "gpu_check.sh: $*" >&2
  exit "${status:-1}"
}

# The tests that compute-sanitizer runs, by their executables; it slows them down by a factor of 10 to
# 100. The kernels of cuBLAS are not ours: memcheck sees what matmul hands to them, and racecheck is
# spared them.
sanitized_filter() {
  case $1 in
    ops_activation_cuda_test) echo 'ActivationCuda.SurvivesExtremes' ;;
    ops_adamw_cuda_test) echo 'AdamwCuda.TakesSlicesAtAnyAddress' ;;
    ops_attention_cuda_test) echo '*SameBits*' ;;
    ops_attention_f32_cuda_test) echo '*SameBits*' ;;
    ops_cross_entropy_cuda_test) echo 'CrossEntropyCuda.WideRowsRescaleTheSum:*MaskedColumns*' ;;
    ops_elementwise_cuda_test) echo '*MixesPlacements*:*SumsKeep*:*ClipScale*' ;;
    ops_embedding_cuda_test) echo 'EmbeddingCuda.OneIdAndNone:*TokensAreAddedInOrder' ;;
    ops_latent_keys_cuda_test) echo 'LatentKeysCuda.*' ;;
    ops_matmul_cuda_test) echo '*WithNothingToSum*:*HasNoRows*:*WritesNothingOutside*' ;;
    # A width of 67 in f32 and in bf16.
    ops_normalization_cuda_test) echo '*MatchDoubleOnTheCpu/2:*MatchDoubleOnTheCpu/9' ;;
    ops_rope_cuda_test) echo 'RopeCuda.TurnsBack' ;;
    *) return 1 ;;
  esac
}

# Reports: part, check, result, seconds; separated by tabs. The last line of a part's run has the check
# "end" and the number of checks of all parts for its result.
merge() {
  [ $# -gt 0 ] || status=2 die "--merge needs the reports of all parts"
  local file
  for file in "$@"; do [ -r "$file" ] || status=2 die "$file cannot be read"; done
  awk -F '\t' '
    function complain(text) { print "gpu_check.sh: " text > "/dev/stderr"; bad = 1 }
    { split($1, part, "/") }
    parts == "" { parts = part[2] }
    part[2] != parts { complain("part " $1 " does not belong to " parts " parts") ; next }
    $2 == "end" { ended[part[1]] = 1; total = $3; next }
    { result[$2] = $3; seconds[$2] = $4 }
    END {
      for (k = 1; k <= parts; ++k) if (!(k in ended)) complain("part " k "/" parts " did not end")
      for (check in result) {
        ++count
        time += seconds[check]
        if (result[check] != "passed") complain(check " " result[check])
      }
      if (count != total) complain(count + 0 " of " total + 0 " checks are there")
      printf "== %s: %d checks in %d parts, %d min %d s\n", bad ? "FAILED" : "passed", count, parts,
        time / 60, time % 60
      exit bad
    }' "$@"
}

part=1/1
build=build/cuda
report=/dev/null
list=no
while [ $# -gt 0 ]; do
  case $1 in
    --part | --build | --report)
      [ $# -ge 2 ] || status=2 die "$1 needs a value"
      case $1 in
        --part) part=$2 ;;
        --build) build=$(realpath -m "$2") ;;
        --report) report=$(realpath -m "$2") ;;
      esac
      shift 2
      ;;
    --list) list=yes; shift ;;
    --merge) shift; merge "$@"; exit ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
    *) status=2 die "unknown argument $1 (gpu_check.sh --help)" ;;
  esac
done
if ! [[ $part =~ ^[1-9][0-9]*/[1-9][0-9]*$ ]] || [ "${part%/*}" -gt "${part#*/}" ]; then
  status=2 die "--part $part is not K/N with 1 <= K <= N, such as 2/3"
fi
cd "$(dirname "$0")/.."

gpu=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2> /dev/null | head -n 1) || true
[[ $gpu == *,* ]] || die "no GPU is visible (nvidia-smi names none)"
command -v compute-sanitizer > /dev/null || PATH=$PATH:/usr/local/cuda/bin
command -v compute-sanitizer > /dev/null || die "compute-sanitizer is missing; it comes with CUDA"

echo "== build for ${gpu%,*}"
if [ ! -f "$build/CMakeCache.txt" ]; then
  architecture=$(tr -d ' .' <<< "${gpu##*,}")
  # What only Hopper has needs its own name.
  [ "$architecture" != 90 ] || architecture=90a
  cmake --preset cuda -B "$build" -DPOLYHEAD_BUILD_TESTS=ON "-DCMAKE_CUDA_ARCHITECTURES=$architecture"
fi
cmake --build "$build" --target gpu_tests
built=$SECONDS

mapfile -t tests < <(ctest --test-dir "$build" -N -L '^gpu$' | sed -n 's/^ *Test *#[0-9]*: *//p')
[ ${#tests[@]} -gt 0 ] || die "$build has no tests labelled gpu"
printf '%s\n' "${tests[@]}" | grep -q '_mpi[0-9]*$' ||
  die "$build was configured without MPI: no test would run on several ranks"
checks=()
for test in "${tests[@]}"; do checks+=("test $test"); done
for tool in memcheck racecheck; do
  for test in "${tests[@]}"; do
    if sanitized_filter "$test" > /dev/null && [ "$tool $test" != 'racecheck ops_matmul_cuda_test' ]; then
      checks+=("$tool $test")
    fi
  done
done

# One host to NCCL: it then connects them as it does in training, not by sockets.
if [ "$(nvidia-smi -L | wc -l)" -ge 4 ]; then
  export NCCL_HOSTID=${NCCL_HOSTID:-$(hostname)}
fi

scratch=$(mktemp -d)
log=$scratch/log
trap 'end_sharing; rm -rf "$scratch"' EXIT

# Kernels of several processes run side by side where MPS is there. Else they take turns, and ranks that
# share a GPU wait for each other through many turns: ten times as long.
begin_sharing() {
  [ "$list" = no ] && command -v nvidia-cuda-mps-control > /dev/null || return 0
  mkdir "$scratch/mps"
  CUDA_MPS_PIPE_DIRECTORY=$scratch/mps CUDA_MPS_LOG_DIRECTORY=$scratch/mps \
    nvidia-cuda-mps-control -d &> /dev/null || rmdir "$scratch/mps"
}
end_sharing() {
  [ ! -d "$scratch/mps" ] ||
    echo quit | CUDA_MPS_PIPE_DIRECTORY=$scratch/mps nvidia-cuda-mps-control &> /dev/null || true
}
begin_sharing

# What a run printed must show that it ran: nothing skipped, at least one test passed.
run_test() {
  local environment=()
  if [[ $1 == *_mpi* ]] && [ -d "$scratch/mps" ]; then
    environment=("CUDA_MPS_PIPE_DIRECTORY=$scratch/mps")
  fi
  env "${environment[@]}" ctest --test-dir "$build" -R "^$1\$" -L '^gpu$' --no-tests=error --output-on-failure &> "$log" &&
    ! grep -q '\*\*\*Skipped\|did not run' "$log"
}
run_sanitizer() {
  local executable
  executable=$(find "$build/tests" -name "$2" -type f -perm -u+x -print -quit)
  [ -n "$executable" ] || { echo "no executable $2" > "$log"; return 1; }
  compute-sanitizer --tool "$1" --error-exitcode 1 --print-limit 20 "$executable" \
    "--gtest_filter=$(sanitized_filter "$2")" &> "$log" && grep -q '\[  PASSED  \] [1-9]' "$log"
}

failed=0
ran=0
# The parts take turns in the list, in which what takes long lies together.
for ((i = ${part%/*} - 1; i < ${#checks[@]}; i += ${part#*/})); do
  read -r tool test <<< "${checks[i]}"
  if [ "$list" = yes ]; then
    echo "${checks[i]}"
    continue
  fi
  begin=$SECONDS
  result=passed
  if [ "$tool" = test ]; then
    run_test "$test" || result=failed
  else
    run_sanitizer "$tool" "$test" || result=failed
  fi
  ran=$((ran + 1))
  printf '%-50s %s, %d s\n' "${checks[i]}" "$result" $((SECONDS - begin))
  printf '%s\t%s\t%s\t%d\n' "$part" "${checks[i]}" "$result" $((SECONDS - begin)) >> "$report"
  if [ "$result" = failed ]; then
    failed=$((failed + 1))
    tail -n 60 "$log"
  fi
done
[ "$list" = no ] || exit 0
printf '%s\tend\t%d\t0\n' "$part" ${#checks[@]} >> "$report"

echo "== part $part: $ran of ${#checks[@]} checks, $failed failed; build $built s, checks" \
  "$((SECONDS - built)) s"
[ "$failed" -eq 0 ]
