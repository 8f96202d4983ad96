#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'TEXT'
Train with several processes: one per GPU, or on the CPU where there is none.

usage:   bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
example: bash tools/dist_train.sh configs/denoiserep/classification/vit-tiny_denoiserep_digits.py 2 --amp

environment: NNODES, NODE_RANK, MASTER_ADDR, PORT for several machines. Without PORT, a free port is taken.
TEXT
}

source "$(dirname "${BASH_SOURCE[0]}")/misc/launch.sh"
need 2 "$@"
need_file "$1" config
need_count "$2"
run_distributed "$2" train.py "$1" "${@:3}"
