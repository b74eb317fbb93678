#!/usr/bin/env bash
# Starts a program on several ranks; a wrapper of mpirun (Open MPI or MPICH).
#
#   scripts/launch.sh [-n RANKS] [--threads T] [--oversubscribe] [--hostfile FILE] [--dry-run]
#                     PROGRAM [ARGUMENTS]
#
#   -n RANKS         how many ranks; default $SLURM_NTASKS, else 1
#   --threads T      threads of each rank; default $OMP_NUM_THREADS, else $SLURM_CPUS_PER_TASK, else
#                    the cores of this machine shared evenly
#   --oversubscribe  allow more ranks than cores
#   --hostfile FILE  run on these machines (mpirun's format); needs --threads or OMP_NUM_THREADS
#   --dry-run        print the mpirun command and stop
#
# Signals to this script: USR1 is passed on (save and go on), and so is USR2 (finish the step, save,
# exit 0). The first TERM or INT (Ctrl-C) reaches the ranks as USR2 too, because mpirun itself would
# kill them one second after it is told to end; a second one ends the job at once. The exit status is
# the program's.
set -euo pipefail

die() {
  echo "launch.sh: $*" >&2
  exit 2
}

ranks=${SLURM_NTASKS:-1}
threads=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-}}
oversubscribe=no
dry_run=no
hostfile=
while [ $# -gt 0 ]; do
  case $1 in
    -n | --threads | --hostfile)
      [ $# -ge 2 ] || die "$1 needs a value"
      case $1 in
        -n) ranks=$2 ;;
        --threads) threads=$2 ;;
        --hostfile) hostfile=$2 ;;
      esac
      shift 2
      ;;
    --oversubscribe) oversubscribe=yes; shift ;;
    --dry-run) dry_run=yes; shift ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
    -*) die "unknown option $1 (launch.sh --help lists them)" ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || die "no program given (launch.sh --help)"
command -v "$1" > /dev/null || die "$1 is not a program; correct the path, or build it first"
[[ $ranks =~ ^[1-9][0-9]*$ ]] || die "-n $ranks is not a positive number"
[[ -z $threads || $threads =~ ^[1-9][0-9]*$ ]] || die "--threads $threads is not a positive number"
[[ -z $hostfile || -r $hostfile ]] || die "--hostfile $hostfile cannot be read"
command -v mpirun > /dev/null || die "mpirun is not installed (scripts/setup.sh installs it)"

# Cores that this process may use; two hardware threads of one core count once. nproc itself would
# answer OMP_NUM_THREADS where that is set.
usable_cores() {
  local usable physical
  usable=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  physical=$(lscpu -p=CORE,SOCKET 2> /dev/null | grep -v '^#' | sort -u | wc -l || true)
  echo $((physical > 0 && physical < usable ? physical : usable))
}

# OpenBLAS up to 0.3.21 (Debian 12) runs its AVX2 kernels on AMD processors that have AVX-512 (family
# 25, Zen 4, and later), at half the speed of its SkylakeX kernels. Set the variable yourself to
# choose others.
prefer_avx512_kernels() {
  local flag
  [ -z "${OPENBLAS_CORETYPE:-}" ] && [ -r /proc/cpuinfo ] || return 0
  grep -q -m1 '^vendor_id.*AuthenticAMD' /proc/cpuinfo || return 0
  [ "$(awk -F: '/^cpu family/ {print $2 + 0; exit}' /proc/cpuinfo)" -ge 25 ] || return 0
  for flag in avx512f avx512bw avx512dq avx512vl avx512cd; do
    grep -q -m1 "^flags.* $flag\( \|$\)" /proc/cpuinfo || return 0
  done
  export OPENBLAS_CORETYPE=SkylakeX
}

if [ -z "$hostfile" ] && [ -z "${SLURM_JOB_NODELIST:-}" ]; then
  cores=$(usable_cores)
  if [ "$ranks" -gt "$cores" ] && [ "$oversubscribe" = no ]; then
    die "$ranks ranks, but $cores core(s): use -n $cores, or --oversubscribe to share cores"
  fi
  # The check above is ours: mpirun counts cores otherwise in containers.
  oversubscribe=yes
  [ -n "$threads" ] || threads=$((cores > ranks ? cores / ranks : 1))
fi
[ -n "$threads" ] || die "several machines: give --threads, the cores of each rank"
export OMP_NUM_THREADS=$threads
prefer_avx512_kernels

exported=(OMP_NUM_THREADS)
[ -z "${OPENBLAS_CORETYPE:-}" ] || exported+=(OPENBLAS_CORETYPE)
# The ranks cannot see where mpirun's own output goes.
if [ -t 1 ]; then
  export POLYHEAD_TERMINAL=1
  exported+=(POLYHEAD_TERMINAL)
fi

command=(mpirun -n "$ranks")
open_mpi=no
if mpirun --version 2>&1 | grep -q 'Open MPI\|Open-MPI'; then
  open_mpi=yes
  save_and_stop=USR2
  # Not bound: threads of a rank would share one core.
  command+=(--bind-to none)
  for variable in "${exported[@]}"; do command+=(-x "$variable"); done
  [ "$oversubscribe" = no ] || command+=(--oversubscribe)
  [ -z "$hostfile" ] || command+=(--hostfile "$hostfile")
  if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
else
  # MPICH passes the environment on. TERM too, and waits for the ranks; USR2 would end mpirun alone.
  save_and_stop=TERM
  command+=(-bind-to none)
  [ -z "$hostfile" ] || command+=(-f "$hostfile")
fi
command+=("$@")

if [ "$dry_run" = yes ]; then
  for variable in "${exported[@]}"; do printf '%s=%q ' "$variable" "${!variable}"; done
  printf '%q ' "${command[@]}"
  printf '\n'
  exit 0
fi

mpirun_pid=
# shellcheck disable=SC2317  # called by the traps
pass_on() { kill -s "$1" "$mpirun_pid" 2> /dev/null || true; }
next_stop=$save_and_stop
# shellcheck disable=SC2317
stop() {
  pass_on "$next_stop"
  next_stop=TERM
  stopped=yes
}
stopped=no
trap stop TERM INT
trap 'pass_on USR1' USR1
trap 'pass_on "$save_and_stop"' USR2

# What the ranks and Open MPI's mpirun say. The program tells what went wrong; mpirun's paragraphs about
# it, between lines of dashes, and its trouble with these (show_help.c) would bury that. But it alone
# knows which rank a signal ended: that is written to the file $1.
without_paragraphs() {
  local line paragraph=() inside=no
  while IFS= read -r line || [ -n "$line" ]; do
    if [[ $line =~ ^-{74}$ ]]; then
      paragraph+=("$line")
      if [ "$inside" = no ]; then
        inside=yes
        continue
      fi
      case ${paragraph[1]:-} in
        'mpirun noticed that process rank '*)
          sed -n 's/^mpirun noticed that process \(rank [0-9]*\) .* \(on node [^ ]*\) exited .*/\1 \2/p' \
            <<< "${paragraph[1]}" > "$1"
          ;;
        'Primary job '* | 'mpirun detected '* | 'MPI_ABORT was invoked '*) ;;
        *) printf '%s\n' "${paragraph[@]}" ;;
      esac
      paragraph=()
      inside=no
    elif [ "$inside" = yes ] && [[ $line != polyhead:* ]]; then
      paragraph+=("$line")
    elif ! [[ $line =~ ^mpirun:\ (Forwarding\ signal|killing\ job)|ORTE_ERROR_LOG.*/show_help\.c ]]; then
      printf '%s\n' "$line"
    fi
  done
  [ "$inside" = no ] || printf '%s\n' "${paragraph[@]}"
}
ended=$(mktemp)
guard_pid=
trap 'kill "$guard_pid" 2> /dev/null || true; rm -f "$ended"' EXIT
if [ "$open_mpi" = yes ]; then
  exec {words}> >(trap '' TERM INT USR1 USR2 && without_paragraphs "$ended" >&2)
  listener_pid=$!
else
  exec {words}>&2
fi

# In a session of its own: a Ctrl-C at the terminal then reaches this script alone.
setsid "${command[@]}" <&0 2>&"$words" {words}>&- &
mpirun_pid=$!
exec {words}>&-

# Open MPI 4 locks up when a rank dies in the moment it connects: mpirun then never collects the dead.
# Ends a job in which a dead rank lies about for three seconds.
end_locked_up_job() {
  local dead ranks_left=() uncollected=0
  while sleep 1 > /dev/null 2>&1 && kill -0 "$mpirun_pid" 2> /dev/null; do
    # shellcheck disable=SC2009  # pgrep does not tell the dead from the living
    dead=$(ps --ppid "$mpirun_pid" -o stat= 2> /dev/null | grep -c '^Z' || true)
    uncollected=$((dead > 0 ? uncollected + 1 : 0))
    if [ "$uncollected" -ge 3 ]; then
      echo "launch.sh: a rank died and mpirun does not notice; ending the job" >&2
      mapfile -t ranks_left < <(pgrep -P "$mpirun_pid")
      kill -KILL "$mpirun_pid" "${ranks_left[@]}" 2> /dev/null || true
    fi
  done
}
end_locked_up_job &
guard_pid=$!

# Not `wait` at once: bash 5.2 may lose the status of a child that ends while a signal interrupts it.
while kill -0 "$mpirun_pid" 2> /dev/null; do sleep 0.1; done
status=0
wait "$mpirun_pid" || status=$?
# What it said last is still on its way. A rank that outlives it must not keep this script.
for _ in {1..20}; do
  kill -0 "${listener_pid:-}" 2> /dev/null || break
  sleep 0.05
done
signal=$((status - 128))
if [ "$signal" -gt 0 ] && [ "$stopped" = no ] && name=$(kill -l "$signal" 2> /dev/null); then
  rank=$(cat "$ended")
  echo "launch.sh: ${rank:-a rank} was ended by signal $signal ($name)" >&2
fi
exit "$status"
