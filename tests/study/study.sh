#!/usr/bin/env bash
# The conversion study: a multi-head parent, its conversions to fewer groups and to latent attention, each
# scored right after conversion and after uptraining for 1, 2, 5 and 10 % of the parent's steps, beside
# the parent continued for the same steps. In parts: start it again until it exits with 0.
#
#   tests/study/study.sh [OPTIONS]
#
#   --polyhead BIN   the binary; default build/cuda/scripts/polyhead
#   --launch CMD     what starts it, such as 'scripts/launch.sh -n 1'; default: nothing
#   --folder F       where everything goes; default runs/study
#   --gpus N         so many tasks at a time, each on a device of its own; default 1. CUDA_VISIBLE_DEVICES
#                    may name them, and one of them more than once: with 0,1,0,1 and --gpus 4 one task
#                    computes on a device while another loads or saves
#   --seconds S      begin nothing after S seconds; default 480. A training is stopped then, and goes on
#                    in the next part; anything else is given 50 seconds more
#   --variants P     only the children whose names match one of these patterns ('gqa-8-* mla-*'), and
#                    the parent continued: a machine that is lent for less than the whole takes does
#                    some of them, table.py joins their results
#   --products FILE  results/matmul_algorithms.json of a study done elsewhere. The parent then comes out
#                    with the same weights to the bit, on a device of the same kind
#   --smoke          the same with a tiny model and text, on the CPU
#
# Exits with 0 when all is done, 3 while something is left, 1 where a task failed, 2 for wrong arguments.
# F/results/ holds what tests/study/table.py makes the tables of; F/logs/ what the tasks printed. Takes
# up to 50 GB: checkpoints are removed once they are scored, all but the parent.
set -euo pipefail

die() {
  echo "study.sh: $*" >&2
  exit "${status:-1}"
}

polyhead=
launch=()
folder=
gpus=1
seconds=480
patterns='*'
products=
smoke=no
while [ $# -gt 0 ]; do
  case $1 in
    --polyhead | --launch | --folder | --gpus | --seconds | --variants | --products)
      [ $# -ge 2 ] || status=2 die "$1 needs a value"
      case $1 in
        --polyhead) polyhead=$(realpath -m -- "$2") ;;
        --launch) read -ra launch <<< "$2" ;;
        --folder) folder=$(realpath -m -- "$2") ;;
        --gpus) gpus=$2 ;;
        --seconds) seconds=$2 ;;
        --variants) patterns=$2 ;;
        --products) products=$(realpath -e -- "$2" 2> /dev/null) || die "--products $2: no such file" ;;
      esac
      shift 2
      ;;
    --smoke) smoke=yes; shift ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
    *) status=2 die "unknown argument $1 (study.sh --help)" ;;
  esac
done
[[ $gpus =~ ^[1-9][0-9]*$ ]] || status=2 die "--gpus $gpus is not a positive number"
[[ $seconds =~ ^[1-9][0-9]*$ ]] || status=2 die "--seconds $seconds is not a positive number"
here=$(realpath "$(dirname "$0")")
cd "$here/../.."
polyhead=${polyhead:-build/cuda/scripts/polyhead}
folder=${folder:-runs/study}
[ -x "$polyhead" ] || die "$polyhead is no program; build it, or name one with --polyhead"
mkdir -p "$folder"/{logs,done,results}

# One part at a time.
exec 9> "$folder/lock"
flock -n 9 || die "$folder is in use by another study.sh; wait for it, or choose another --folder"

# What the parent's configuration says, and in the smoke test its tiny stand-in.
text=text/study
parent_steps=$(sed -n 's/^ *train_steps: *\([0-9]*\).*/\1/p' "$here/parent.yaml")
head_dim=64
calibration=()
changes=()       # of both configurations
model_changes=() # of the parent's alone
if [ "$smoke" = yes ]; then
  text=$folder/text
  parent_steps=800
  head_dim=4
  calibration=(--calibration-tokens 2048)
  export OMP_NUM_THREADS=1
  changes=(training.device=cpu training.cuda_graph=false training.global_batch_size=4
    training.micro_batch_size=4 "data.train=[${text}_train]" "data.validation=[${text}_validation]"
    data.sequence_length=64 optimizer.learning_rate=3.0e-3 optimizer.warmup_steps=10)
  model_changes=(model.num_layers=2 model.hidden_size=64 model.ffn_hidden_size=96
    training.eval_interval=400 training.eval_samples=8 checkpoint.save_interval=400)
  [ -e "${text}_validation.idx" ] ||
    "$here/pieces.sh" "$polyhead" "$text" 512 ./*.md configs/README.md > "$folder/logs/text.log"
fi
[ -e "${text}_validation.sizes" ] ||
  die "${text}_validation.sizes is missing: make the text with tests/study/text.sh, or bring it here"
readonly percent=$((parent_steps / 100))
[ $((percent * 100)) -eq "$parent_steps" ] ||
  die "parent.yaml: train_steps $parent_steps is not a multiple of 100"

# gqa-GROUPS-METHOD and mla-RANK; the latter with the caches of 4 and of 2 groups. mha is the parent.
variants=()
for method in mean first aligned-renorm; do
  for groups in 8 4 2 1; do variants+=("gqa-$groups-$method"); done
done
if "$polyhead" convert --help | grep -q -e --kv-lora-rank; then
  for groups in 4 2; do variants+=("mla-$((2 * groups * head_dim - head_dim))"); done
elif [ "$smoke" = no ]; then
  die "$polyhead cannot convert to latent attention (no convert --kv-lora-rank); build a newer one"
fi
read -ra patterns <<< "$patterns"
all=("${variants[@]}")
variants=()
for variant in "${all[@]}"; do
  for pattern in "${patterns[@]}"; do
    # shellcheck disable=SC2053  # a pattern
    if [[ $variant == $pattern ]]; then
      variants+=("$variant")
      break
    fi
  done
done
[ "${#variants[@]}" -gt 0 ] || status=2 die "--variants ${patterns[*]}: none of ${all[*]}"

# The arguments of polyhead convert that make a variant. All are calibrated, if only to report the
# divergence from the parent on the same text.
conversion_of() {
  local kind size method
  IFS=- read -r kind size method <<< "$1"
  case $kind in
    gqa) conversion=(--to gqa --groups "$size" --method "$method") ;;
    mla) conversion=(--to mla --kv-lora-rank "$size" --rope-dim "$head_dim") ;;
  esac
  conversion+=("${calibration[@]}" --calibrate "${text}_train")
}

# uptrain.VARIANT.2 goes to 2 % and saves at 1 %; uptrain.VARIANT.10 resumes, and saves at 5 % too. A run
# that saves at every percent would write six checkpoints more.
# In order of preference: a conversion computes on the CPU, and uptraining keeps the devices busy beside it.
tasks=(parent)
for variant in mha "${variants[@]}"; do tasks+=("uptrain.$variant.2"); done
for variant in "${variants[@]}"; do tasks+=("convert.$variant"); done
tasks+=(evaluate.0 evaluate.1 evaluate.2)
for variant in mha "${variants[@]}"; do tasks+=("uptrain.$variant.10"); done
tasks+=(evaluate.5 evaluate.10)
printf '%s\n' "${tasks[@]}" > "$folder/results/plan.txt"

is_done() { [ -e "$folder/done/$1" ]; }
all_done() { # PATTERN: all tasks of that name
  local task
  for task in "${tasks[@]}"; do
    # shellcheck disable=SC2053  # a pattern
    [[ $task != $1 ]] || is_done "$task" || return 1
  done
}
ready() {
  local variant=${1#*.}
  variant=${variant%.*}
  case $1 in
    parent) ;;
    convert.* | uptrain.mha.2) is_done parent ;;
    evaluate.0) all_done 'convert.*' ;;
    evaluate.[12]) all_done 'uptrain.*.2' ;;
    evaluate.*) all_done 'uptrain.*.10' ;;
    uptrain.*.2) is_done "convert.$variant" ;;
    uptrain.*.10) is_done "uptrain.$variant.2" ;;
  esac
}

stages_of() { if [ "$1" = 2 ]; then echo 1 2; else echo 5 10; fi; }
checkpoint_of() { # VARIANT STAGE
  printf '%s/uptrain/%s/step_%08d' "$folder" "$1" $((parent_steps + $2 * percent))
}

# Which algorithms compute matrix products is measured once a run: the continued parent is the same in
# all parts of a study only with those of the parent.
readonly record=matmul_algorithms.json
take_products() { # RUN_FOLDER FILE
  if [ -e "$2" ] && [ ! -e "$1/$record" ]; then
    mkdir -p "$1"
    cp "$2" "$1/$record"
  fi
}

# train CONFIGURATION RUN_FOLDER KEY=VALUE...: sets `command`.
train() {
  local config=$1 run=$2 key
  shift 2
  command=(train "$here/$config" --set "checkpoint.folder=$run")
  for key in "${changes[@]}" "$@"; do command+=(--set "$key"); done
  if compgen -G "$run/step_*[0-9]" > /dev/null; then command+=(--resume); fi
}

# Sets `command` to the arguments of polyhead for a task.
prepare() {
  local kind variant to source interval scored
  IFS=. read -r kind variant to <<< "$1"
  case $kind in
    parent)
      take_products "$folder/parent" "$products"
      train parent.yaml "$folder/parent" "training.train_steps=$parent_steps" "${model_changes[@]}"
      ;;
    convert)
      rm -rf "$folder/stage_0/$variant" # finished, but its end was not noted
      conversion_of "$variant"
      command=(convert "$folder/parent" --out "$folder/stage_0/$variant" "${conversion[@]}")
      ;;
    uptrain)
      source=$folder/stage_0/$variant
      interval=$percent
      [ "$to" = 2 ] || interval=$((5 * percent))
      take_products "$folder/uptrain/$variant" "$folder/parent/$record"
      train uptrain.yaml "$folder/uptrain/$variant" "uptrain.source=$source" \
        "uptrain.steps=$((to * percent))" "checkpoint.save_interval=$interval"
      ;;
    evaluate)
      command=(evaluate)
      for scored in mha "${variants[@]}"; do command+=("$folder/stage_$variant/$scored"); done
      command+=(--data "${text}_validation" --windows rolling --out "$folder/results/stage_$variant")
      [ "$smoke" = no ] || command+=(--device cpu)
      ;;
  esac
}

# What is kept of a task that succeeded.
conclude() {
  local kind variant to stage checkpoint
  IFS=. read -r kind variant to <<< "$1"
  case $kind in
    parent)
      mkdir -p "$folder/stage_0"
      ln -sfn ../parent "$folder/stage_0/mha"
      cp "$folder/parent/log.jsonl" "$folder/results/parent.log.jsonl"
      [ ! -e "$folder/parent/$record" ] || cp "$folder/parent/$record" "$folder/results/$record"
      ;;
    convert) cp "$folder/stage_0/$variant/conversion.json" "$folder/results/$variant.conversion.json" ;;
    uptrain)
      for stage in $(stages_of "$to"); do
        checkpoint=$(checkpoint_of "$variant" "$stage")
        [ -d "$checkpoint" ] || die "$1: $checkpoint is missing, see $folder/logs/$1.log"
        mkdir -p "$folder/stage_$stage"
        ln -sfn "../uptrain/$variant/${checkpoint##*/}" "$folder/stage_$stage/$variant"
      done
      cp "$folder/uptrain/$variant/log.jsonl" "$folder/results/$variant.log.jsonl"
      ;;
  esac
  touch "$folder/done/$1"
}

# Removes checkpoints that nothing needs any more.
tidy() {
  local variant
  for variant in "${variants[@]}"; do
    if is_done evaluate.0 && is_done "uptrain.$variant.2"; then rm -rf "$folder/stage_0/$variant"; fi
  done
  for variant in mha "${variants[@]}"; do
    if is_done evaluate.1; then rm -rf "$(checkpoint_of "$variant" 1)"; fi
    if is_done evaluate.2 && is_done "uptrain.$variant.10"; then
      rm -rf "$(checkpoint_of "$variant" 2)"
    fi
  done
  if is_done evaluate.5 && is_done evaluate.10; then rm -rf "$folder/uptrain" "$folder"/stage_*; fi
}

# Lines of task, seconds, and finished or stopped.
readonly times=$folder/results/times.tsv
touch "$times"
longest_evaluation() {
  awk -F '\t' '$1 ~ /^evaluate/ && $3 == "finished" && $2 > most {most = $2} END {print most + 0}' "$times"
}

# Devices by number, or those that are meant to be used.
IFS=, read -ra devices <<< "${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((gpus - 1)))}"
[ "${#devices[@]}" -ge "$gpus" ] ||
  die "--gpus $gpus, but CUDA_VISIBLE_DEVICES names ${#devices[@]}; ask for fewer"
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > gpus ? cores / gpus : 1))}

declare -A task_of=() place_of=() begin_of=() limit_of=() # of the running ones, by process
failed=
trap 'kill "${!task_of[@]}" 2> /dev/null || true; wait; exit 130' INT TERM

begin() { # TASK PLACE: of `devices`
  local limit=$((seconds - SECONDS)) command=() conversion=()
  case $1 in convert.* | evaluate.*) limit=$((limit + 50)) ;; esac
  prepare "$1"
  CUDA_VISIBLE_DEVICES=${devices[$2]} timeout -k 40 "$limit" "${launch[@]}" "$polyhead" "${command[@]}" \
    >> "$folder/logs/$1.log" 2>&1 9>&- &
  task_of[$!]=$1
  place_of[$!]=$2
  begin_of[$!]=$SECONDS
  limit_of[$!]=$limit
}

end() { # PROCESS STATUS
  local task=${task_of[$1]} took=$((SECONDS - begin_of[$1])) how=finished
  [ "$2" -ne 124 ] || how=stopped # by timeout
  if [ "$how" = stopped ] && [ "${limit_of[$1]}" -ge "$seconds" ]; then
    case $task in convert.* | evaluate.*)
      failed="$task takes more than the ${limit_of[$1]} seconds of a part; raise --seconds" ;;
    esac
  elif [ "$how" = finished ] && [ "$2" -ne 0 ]; then
    how="failed with $2"
    failed="$task failed with status $2; see $folder/logs/$task.log:
$(tail -n 5 "$folder/logs/$task.log")"
  fi
  [ "$how" != finished ] || conclude "$task"
  printf '%s\t%d\t%s\n' "$task" "$took" "$how" >> "$times"
  printf '%4d s  %s: %s, %d s\n' "$SECONDS" "$task" "$how" "$took"
  unset "task_of[$1]" "place_of[$1]" "begin_of[$1]" "limit_of[$1]"
  tidy
}

is_running() { [[ " ${task_of[*]} " == *" $1 "* ]]; }
next_task() {
  local task left=$((seconds - SECONDS))
  # One that is stopped begins anew, so it had better fit into what is left of the part.
  local fits=no
  if [ "$SECONDS" -lt 5 ] || [ "$(longest_evaluation)" -lt $((left + 40)) ]; then fits=yes; fi
  for task in "${tasks[@]}"; do
    if is_done "$task" || is_running "$task" || ! ready "$task"; then continue; fi
    if [[ $task == evaluate.* && $fits = no ]]; then continue; fi
    echo "$task"
    return
  done
}
free_place() {
  local place
  for ((place = 0; place < gpus; ++place)); do
    if [[ " ${place_of[*]} " != *" $place "* ]]; then
      echo "$place"
      return
    fi
  done
}

tidy
while true; do
  while [ -z "$failed" ] && [ "$SECONDS" -lt "$seconds" ]; do
    place=$(free_place)
    task=$(next_task)
    if [ -z "$place" ] || [ -z "$task" ]; then break; fi
    begin "$task" "$place"
  done
  [ "${#task_of[@]}" -gt 0 ] || break
  code=0
  wait -n -p process "${!task_of[@]}" || code=$?
  end "$process" "$code"
done
[ -z "$failed" ] || die "$failed"

left=()
for task in "${tasks[@]}"; do is_done "$task" || left+=("$task"); done
if [ "${#left[@]}" -gt 0 ]; then
  more=
  [ "${#left[@]}" -le 5 ] || more=" and $((${#left[@]} - 5)) more"
  echo "${#left[@]} of ${#tasks[@]} tasks are left: ${left[*]:0:5}$more; start it again to go on"
  exit 3
fi
echo "all ${#tasks[@]} tasks are done: tests/study/table.py $folder/results"
