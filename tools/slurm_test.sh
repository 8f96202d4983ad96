#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'TEXT'
Test a checkpoint in a Slurm job, one task per GPU.

usage:   bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
example: GPUS=1 bash tools/slurm_test.sh gpu digits configs/baselines/classification/vit-tiny_digits.py epoch_1.pth

environment: GPUS (8), GPUS_PER_NODE (at most 8), CPUS_PER_TASK (5), SRUN_ARGS (more arguments of srun).
TEXT
}

source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"
need 4 "$@"
need_file "$3" config
need_file "$4" checkpoint
run_slurm "$1" "$2" test.py "$3" "$4" "${@:5}"
