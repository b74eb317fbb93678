#!/usr/bin/env bash
# What launch.sh starts, and how it ends: launch_manners.sh COMM_PROBE
set -euo pipefail
launch=$(dirname "$0")/../../scripts/launch.sh
probe=$1
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT
unset OMP_NUM_THREADS OPENBLAS_CORETYPE

failed() {
  echo "FAILED: $*" >&2
  sed 's/^/  | /' "$output/stdout" "$output/stderr" >&2
  exit 1
}
touch "$output/stderr"

"$launch" --dry-run --oversubscribe --threads 5 -n 3 "$probe" 'two words' > "$output/stdout"
grep -q "^OMP_NUM_THREADS=5 .*mpirun -n 3 .* -x OMP_NUM_THREADS .*$probe two\\\\ words \$" \
  "$output/stdout" || failed "--dry-run"
! grep -q POLYHEAD_TERMINAL "$output/stdout" || failed "--dry-run: its output is no terminal"
script -qec "'$launch' --dry-run -n 1 '$probe'" /dev/null > "$output/stdout"
grep -q 'POLYHEAD_TERMINAL=1 mpirun .* -x POLYHEAD_TERMINAL ' "$output/stdout" ||
  failed "--dry-run: its output is a terminal"

echo 'localhost slots=3' > "$output/hosts"
"$launch" --hostfile "$output/hosts" --threads 2 -n 3 "$probe" signals 0 \
  > "$output/stdout" 2> "$output/stderr" &
launcher=$!
for _ in {1..100}; do
  if grep -q ready "$output/stdout"; then break; fi
  sleep 0.1
done
kill -USR2 "$launcher"
wait "$launcher" || failed "--hostfile: exit status $?"
grep -q saved "$output/stdout" || failed "--hostfile: not saved"
[ ! -s "$output/stderr" ] || failed "--hostfile: output on stderr"

# launched STATUS SCRIPT [SIGNAL]: under an mpirun that is SCRIPT, launch.sh ends with STATUS. Once
# the script said "ready", launch.sh is sent SIGNAL.
mkdir "$output/bin"
launched() {
  local status=$1 signal=${3:-} code=0 launcher
  cat > "$output/bin/mpirun" << SCRIPT
#!/usr/bin/env bash
[ "\$1" != --version ] || exit 0
$2
SCRIPT
  chmod +x "$output/bin/mpirun"
  PATH=$output/bin:$PATH "$launch" -n 1 "$probe" > "$output/stdout" 2> "$output/stderr" &
  launcher=$!
  if [ -n "$signal" ]; then
    until grep -q ready "$output/stdout"; do sleep 0.05; done
    kill -s "$signal" "$launcher"
  fi
  wait "$launcher" || code=$?
  [ "$code" -eq "$status" ] || failed "$2: exit status $code, not $status"
}

# MPICH's mpirun would die of USR2; TERM it passes on.
launched 0 "trap 'exit 0' TERM; echo ready; for i in {1..50}; do sleep 0.1; done; exit 9" USR2
# A signal in the instant in which mpirun ends does not hide its status.
for _ in {1..20}; do launched 7 "trap '' USR1; kill -USR1 \$PPID; exit 7"; done
# No signal has the number 127.
launched 255 'exit 255'
[ ! -s "$output/stderr" ] || failed "exit status 255: output on stderr"
launched 137 "kill -KILL \$\$"
grep -q 'a rank was ended by signal 9 (KILL)' "$output/stderr" || failed "no word of the signal"
