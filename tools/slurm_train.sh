#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'TEXT'
Train in a Slurm job, one task per GPU.

usage:   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
example: GPUS=4 bash tools/slurm_train.sh gpu digits configs/baselines/classification/vit-tiny_digits.py \
             work_dirs/baselines/classification/vit-tiny_digits

environment: GPUS (8), GPUS_PER_NODE (at most 8), CPUS_PER_TASK (5), SRUN_ARGS (more arguments of srun).
TEXT
}

source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"
need 4 "$@"
need_file "$3" config
run_slurm "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
