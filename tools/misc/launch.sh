# What dist_train.sh, dist_test.sh, slurm_train.sh and slurm_test.sh share; they source this file and define `usage`.
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(dirname "$tools")
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

# The active environment decides; without one, the .venv of the checkout.
python=${PYTHON:-python}
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" = base ] && [ -x "$root/.venv/bin/python" ]; then
    python=$root/.venv/bin/python
fi

fail() {
    printf '%s: error: %s\n' "$(basename "$0")" "$1" >&2
    exit 2
}

# need COUNT "$@": print the usage unless COUNT arguments are given.
need() {
    if [ "${2:-}" = -h ] || [ "${2:-}" = --help ]; then
        usage
        exit 0
    elif [ $(($# - 1)) -lt "$1" ]; then
        usage >&2
        exit 2
    fi
}

# Checked here, once, instead of in every process.
need_file() { [[ $1 == *://* || -f $1 ]] || fail "$2 '$1' does not exist"; }

need_count() { [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "number of processes is '$1', a positive number is needed"; }

# run_distributed PROCESSES SCRIPT ARGS...
run_distributed() {
    local nodes=${NNODES:-1} port=${PORT:-}
    if [ -z "$port" ]; then
        [ "$nodes" = 1 ] || fail 'with NNODES > 1 set PORT (and MASTER_ADDR), the same on every node'
        port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    fi
    # torchrun, which tells an error once. It hands these signals on to the processes, which save and end, and waits.
    exec "$python" "$tools/misc/torchrun.py" --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 \
        --nnodes="$nodes" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$1" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" "$tools/$2" "${@:3}" --launcher pytorch
}

# run_slurm PARTITION JOB_NAME SCRIPT ARGS...
run_slurm() {
    local gpus=${GPUS:-8} per_node srun_args
    need_count "$gpus"
    per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    read -ra srun_args <<<"${SRUN_ARGS:-}"
    exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 "${srun_args[@]}" \
        "$python" -u "$tools/$3" "${@:4}" --launcher slurm
}
