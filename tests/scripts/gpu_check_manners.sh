#!/usr/bin/env bash
# Which checks the parts of gpu_check.sh run, and when they fail together: gpu_check_manners.sh
# In place of a GPU, CMake, ctest and compute-sanitizer: programs that say what the test wants.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

failed() {
  echo "FAILED: $*" >&2
  cat output >&2
  exit 1
}

mkdir -p checkout/scripts checkout/build/cuda/tests bin
cp "$here/../../scripts/gpu_check.sh" checkout/scripts/
touch checkout/build/cuda/CMakeCache.txt
program() { # NAME BODY
  printf '#!/usr/bin/env bash\n%s\n' "$2" > "bin/$1"
  chmod +x "bin/$1"
}
tests=(ops_attention_cuda_test ops_matmul_cuda_test ops_rope_cuda_test layers_model_cuda_test
  layers_model_cuda_test_mpi2)
for test in "${tests[@]}"; do
  touch "checkout/build/cuda/tests/$test"
  chmod +x "checkout/build/cuda/tests/$test"
done
program nvidia-smi 'echo "A device, 9.0"'
program cmake ':'
# shellcheck disable=SC2016  # for the program to expand
program ctest 'if [[ " $* " == *" -N "* ]]; then
  for test in '"${tests[*]}"'; do echo "  Test #7: $test"; done
elif [[ "$*" == *"${FAILING:-none}"* ]]; then exit 8
elif [[ "$*" == *"${SKIPPED:-none}"* ]]; then echo "The following tests did not run:"
fi'
# shellcheck disable=SC2016
program compute-sanitizer '[[ "$*" != *"${HAZARD:-none}"* ]] || exit 1
echo "[  PASSED  ] ${PASSED:-1} test."'
export PATH=$folder/bin:$PATH

expect() { # STATUS TEXT ARGUMENT...
  local status=$1 text=$2 code=0
  shift 2
  checkout/scripts/gpu_check.sh "$@" &> output || code=$?
  [ "$code" -eq "$status" ] || failed "$*: exit status $code, not $status"
  grep -q -e "$text" output || failed "$*: no '$text'"
}

expect 2 'not K/N' --part 3/2
expect 2 'not K/N' --part 0/2
expect 2 'needs a value' --part
expect 2 'unknown argument' --parts 1/2
expect 2 'cannot be read' --merge absent

# Ten checks: five tests, three under memcheck, two under racecheck, which matmul is spared.
expect 0 'memcheck ops_matmul_cuda_test' --list
! grep -q 'racecheck ops_matmul' output || failed 'racecheck of cuBLAS'
grep -v '^==' output | sort > whole
[ "$(wc -l < whole)" -eq 10 ] || failed 'not ten checks'
for part in 1/3 2/3 3/3; do
  expect 0 '' --part "$part" --list
  grep -v '^==' output
done | sort | cmp - whole || failed 'the parts together are not the whole'

for part in 1/3 2/3 3/3; do
  expect 0 "part $part: [34] of 10 checks, 0 failed" --part "$part" --report "${part%/*}"
done
expect 0 'passed: 10 checks in 3 parts' --merge 1 2 3
expect 1 'part 2/3 did not end' --merge 1 3
sed 1d 2 > less
expect 1 'of 10 checks are there' --merge 1 less 3

FAILING=layers_model_cuda_test_mpi2 expect 1 '1 failed' --report one
expect 1 'test layers_model_cuda_test_mpi2 failed' --merge one
SKIPPED=ops_matmul expect 1 'test ops_matmul_cuda_test  *failed'
HAZARD=racecheck expect 1 '2 failed'
PASSED=0 expect 1 '5 failed'
program nvidia-smi 'echo "NVIDIA-SMI has failed"; exit 9'
expect 1 'no GPU is visible'
