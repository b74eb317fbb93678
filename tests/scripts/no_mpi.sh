#!/usr/bin/env bash
# A binary without MPI runs one rank, and says so where several were started: no_mpi.sh POLYHEAD
set -euo pipefail
polyhead=$1
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT

failed() {
  echo "FAILED: $*" >&2
  sed 's/^/  | /' "$output/stdout" "$output/stderr" >&2
  exit 1
}

# run_as RANK RANKS: one of the processes that mpirun starts.
run_as() {
  code=0
  OMPI_COMM_WORLD_RANK=$1 OMPI_COMM_WORLD_SIZE=$2 "$polyhead" --version \
    > "$output/stdout" 2> "$output/stderr" || code=$?
}

run_as 0 1
[ "$code" -eq 0 ] || failed "one rank: exit status $code"
run_as 0 2
[ "$code" -eq 1 ] || failed "rank 0 of 2: exit status $code"
[ "$(wc -l < "$output/stderr")" -eq 1 ] || failed "rank 0 of 2: not one line on stderr"
grep -q '2 ranks were started, but this binary was built without MPI .*-DPOLYHEAD_WITH_MPI=ON' \
  "$output/stderr" || failed "rank 0 of 2: another message"
[ ! -s "$output/stdout" ] || failed "rank 0 of 2: works nevertheless"
run_as 1 2
[ "$code" -eq 1 ] || failed "rank 1 of 2: exit status $code"
[ ! -s "$output/stderr" ] || failed "rank 1 of 2: tells it again"
