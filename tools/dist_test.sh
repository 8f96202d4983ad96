#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'TEXT'
Test a checkpoint with several processes: one per GPU, or on the CPU where there is none.

usage:   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
example: bash tools/dist_test.sh configs/baselines/classification/vit-tiny_digits.py \
             work_dirs/baselines/classification/vit-tiny_digits/epoch_30.pth 2

environment: NNODES, NODE_RANK, MASTER_ADDR, PORT for several machines. Without PORT, a free port is taken.
TEXT
}

source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"
need 3 "$@"
need_file "$1" config
need_file "$2" checkpoint
need_count "$3"
run_distributed "$3" test.py "$1" "$2" "${@:4}"
