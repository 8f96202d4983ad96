#!/usr/bin/env bash
# Sets up .venv in the checkout: `make install`, or `tools/misc/install.sh [--demo | --forks] [VENV]`. May be interrupted
# and repeated. --demo, as called by `make demo`, installs only what classification on a CPU needs: nothing is compiled.
# --forks, as called by `make install-forks`, takes the maintained forks and not the official OpenMMLab packages.
# Environment: PYTHON            interpreter to build the environment from (default python3.11, else python3)
#              REPREFINE_WHEELS  folder of prebuilt wheels, to skip compiling mmcv
#              MMCV_WHEEL        one mmcv wheel file to install as it is (e.g. with CUDA ops); not with --forks
#              MAX_JOBS=1        compile one file at a time, to save memory
#              FORCE_CUDA=1      compile the CUDA ops also where no GPU is visible
#              CPPFLAGS=-g       keep the debug symbols of the ops
set -euo pipefail
demo='' family=official mmcv=mmcv openmmlab=requirements/mminstall.txt again='make -B install'
case ${1:-} in
--demo) demo=yes && shift ;;
--forks)
    family=forks mmcv=onedl-mmcv openmmlab=requirements/mminstall-onedl.txt again='make -B install-forks'
    unset MMCV_WHEEL # that is the official one
    shift
    ;;
esac
venv=$(realpath -ms "${1:-$(dirname "${BASH_SOURCE[0]}")/../../.venv}")
wheels=${REPREFINE_WHEELS:+$(realpath -m "$REPREFINE_WHEELS")}
mmcv_wheel=${MMCV_WHEEL:+$(realpath -m "$MMCV_WHEEL")}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-$(command -v python3.11 || echo python3)}
log=$venv/install.log
network='check the network connection and run the command again'
# A package built on the way must find ninja, and the tools of this environment first.
export PATH=$venv/bin:$PATH

die() {
    printf '\nset-up stopped at step "%s"\n  remedy: %s\n' "$1" "$2" >&2
    exit 1
}

# Shows pip's downloads and ninja's "[done/all]" as they pass by: one changing line on a terminal, else one line each.
show_progress() {
    local line end='\n'
    [ -t 1 ] && end='\033[K\r'
    while IFS= read -r line; do
        if [[ $line =~ ^[[:space:]]*\[([0-9]+/[0-9]+)\] ]]; then
            printf "    compiled %s$end" "${BASH_REMATCH[1]}"
        elif [[ $line =~ ^[[:space:]]*(Downloading|Building\ wheel|Installing\ collected) && $line != *.metadata* ]]; then
            printf "    %.70s$end" "${line#"${line%%[! ]*}"}"
        fi
    done
    if [ -t 1 ]; then printf '\033[K'; fi
}

# step NAME REMEDY COMMAND...: run the command, keep its output in the log.
step() {
    local name=$1 remedy=$2
    shift 2
    printf '==> %s\n' "$name"
    if ! "$@" 2>&1 | tee -a "$log" | show_progress; then
        tail -n 15 "$log" >&2
        die "$name" "$remedy (whole log: $log)"
    fi
}

free_gb() { echo $(($(df -Pk "$1" | awk 'NR == 2 {print $4}') / 1048576)); }

missing_headers() {
    local headers
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -f "$headers/Python.h" ] || echo "Python headers missing ($headers/Python.h): apt-get install python3-dev"
}

missing_compilers() {
    local tool
    for tool in "${CC:-gcc}" "${CXX:-g++}"; do
        command -v "${tool%% *}" >/dev/null || echo "no compiler '$tool': apt-get install build-essential, or set CC and CXX"
    done
}

missing_prerequisites() {
    if ! "$python" -c '' 2>/dev/null; then
        echo "'$python' not found or not working: apt-get install python3 python3-venv python3-dev, or set PYTHON=/path/to/python3.11"
    elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "$("$python" --version) is too old, CPython 3.11 is needed: set PYTHON=/path/to/python3.11"
    else
        "$python" -c 'import venv, ensurepip' 2>/dev/null ||
            echo "'$python' lacks the venv module: apt-get install python3-venv"
        [ -n "$demo" ] || missing_headers
    fi
    [ -n "$demo" ] || missing_compilers
    local present=0 needed=${demo:+8}
    [ -d "$venv" ] && present=$(($(du -sk "$venv" | cut -f1) / 1048576))
    [ $(($(free_gb .) + present)) -ge "${needed:=9}" ] ||
        echo "only $(free_gb .) GB free in $PWD, $needed GB needed: free some space"
    [ "$(free_gb "${TMPDIR:-/tmp}")" -ge 2 ] ||
        echo "only $(free_gb "${TMPDIR:-/tmp}") GB free in ${TMPDIR:-/tmp}, 2 GB needed: set TMPDIR=/a/larger/folder"
    [ -z "$wheels" ] || [ -d "$wheels" ] || echo "REPREFINE_WHEELS=$wheels is no folder: correct it or unset it"
    [ -z "$mmcv_wheel" ] || [ -f "$mmcv_wheel" ] || echo "MMCV_WHEEL=$mmcv_wheel is no file: correct it or unset it"
}

check_prerequisites() {
    echo '==> check prerequisites'
    local missing
    missing=$(missing_prerequisites)
    [ -z "$missing" ] || die 'check prerequisites' "${missing//$'\n'/$'\n          '}"
    "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))' ||
        echo "    note: $("$python" --version) is newer than the verified CPython 3.11"
}

create_venv() {
    # pip writes RECORD last: a package without it was interrupted and must not count as installed.
    local package
    for package in "$venv"/lib/python3*/site-packages/*.dist-info; do
        [ ! -d "$package" ] || [ -f "$package/RECORD" ] || rm -r "$package"
    done
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || step 'create the virtual environment' \
        "remove $venv and check that '$python -m venv' works" "$python" -m venv "$venv"
}

# build.txt doubles as the constraint of every step, so that no later package moves numpy or torch; so does the list of
# OpenMMLab's packages, so that none takes another version of its siblings.
pip_install() {
    "$venv/bin/python" -m pip --disable-pip-version-check install -c requirements/build.txt -c "$openmmlab" "$@"
}

# The OpenCV wheel needs libGL and glib, which a server may lack; the headless build goes over it.
check_opencv() {
    "$venv/bin/python" -c 'import cv2' 2>/dev/null || step 'install the headless OpenCV (libGL or glib is missing here)' \
        "$network" pip_install --no-deps --force-reinstall \
        "$(grep '^opencv-python==' requirements/build.txt | sed 's/python/python-headless/')"
}

select_build_device() {
    "$venv/bin/python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || return 0
    local cuda
    cuda=$("$venv/bin/python" -c 'import torch; print(torch.version.cuda.split(".")[0])')
    if [[ $(nvcc --version 2>/dev/null) == *"release $cuda."* ]]; then
        export FORCE_CUDA=1
        echo "    GPU and nvcc found: the CUDA ops are built"
    else
        export CUDA_VISIBLE_DEVICES= # mmcv would try the CUDA ops wherever it sees a GPU
        echo "    GPU found, but no nvcc of CUDA $cuda: CPU ops are built. For CUDA ops install that toolkit, or name a" \
            "wheel: MMCV_WHEEL=FILE $again"
    fi
}

# Most of the work of compiling mmcv would be to read torch's headers for each file, and to write debug symbols. Flags go
# into CPPFLAGS, because CFLAGS would replace those of the interpreter, -O3 among them. nvcc sees neither.
compile_mmcv() {
    local CPPFLAGS="-g0 ${CPPFLAGS-}" headers=$venv/precompiled
    export CPPFLAGS
    trap 'rm -rf "$venv/precompiled"' EXIT
    mkdir -p "$headers"
    step "precompile torch's headers" 'check the free space' \
        "$venv/bin/python" tools/misc/precompile_torch.py "$headers/torch.h"
    CPPFLAGS+=" -include \"$headers/torch.h\" -Winvalid-pch"
    # Not from pip's cache: a wheel built there may belong to another torch, or lack the ops.
    MMCV_WITH_OPS=1 step 'compile mmcv with its ops' 'MAX_JOBS=1 helps when memory ran out' \
        pip_install -v --no-cache-dir --no-build-isolation --no-binary "$mmcv" "$1"
}

mmcv_ready() { "$venv/bin/python" -c "import mmcv, mmcv.ops, sys; sys.exit(mmcv.__version__ != '$1')" 2>/dev/null; }

install_mmcv() {
    local requirement
    requirement=$(grep "^$mmcv==" "$openmmlab")
    if [ -n "$mmcv_wheel" ]; then
        step "install mmcv from $mmcv_wheel" 'check that the wheel fits this Python' \
            pip_install --force-reinstall --no-deps "$mmcv_wheel"
        step 'install what mmcv needs' "$network" pip_install "$mmcv_wheel"
    elif ! mmcv_ready "${requirement#*==}"; then
        # A copy whose ops do not import must not count as installed; that of the demo has none.
        "$venv/bin/python" -m pip uninstall -y "$mmcv" mmcv-lite >>"$log" 2>&1
        if [ -n "$wheels" ] && pip_install --dry-run --no-index --no-deps --find-links "$wheels" "$requirement" >>"$log" 2>&1
        then
            step "install mmcv from a wheel in $wheels" "$network" \
                pip_install --only-binary "$mmcv" --find-links "$wheels" "$requirement"
        else
            echo '    no prebuilt mmcv is at hand: compiling takes about 3 minutes on 2 cores'
            select_build_device
            compile_mmcv "$requirement"
        fi
    fi
    step 'import the compiled ops of mmcv' "a wheel built for another torch does not fit: name another, or unset
          MMCV_WHEEL and REPREFINE_WHEELS and run $again to compile" "$venv/bin/python" -c 'import mmcv.ops'
}

install_reprefine() {
    step 'install reprefine' 'the log names the file' pip_install --no-build-isolation --no-deps -e .
    step 'check the environment' "run $venv/bin/python -m reprefine.check_env for the table" \
        "$venv/bin/python" -m reprefine.check_env
}

# mmcv-lite is mmcv without the compiled ops. A complete mmcv, from a set-up that was interrupted, serves as well.
install_for_demo() {
    "$venv/bin/python" -c 'import mmcv' 2>/dev/null || step 'install mmcv without compiled ops' "$network" \
        pip_install "$(sed -n 's/^mmcv==/mmcv-lite==/p' requirements/mminstall.txt)"
    step 'install what the demo uses' "$network" \
        pip_install -r <(grep -E '^(mmengine|mmpretrain)==' requirements/mminstall.txt) -r requirements/runtime.txt \
        -r <(grep -E '^(diffusers|mlxtend|timm)==' requirements/optional.txt)
}

install_everything() {
    install_mmcv
    step "install the OpenMMLab packages ($family)" "$network" pip_install -r <(grep -v "^$mmcv==" "$openmmlab")
    step 'install runtime, optional and test requirements' "$network" pip_install --no-binary xtcocotools \
        -r requirements/runtime.txt -r requirements/optional.txt -r requirements/tests.txt
    step 'install mmpose without its unused dependencies' "$network" pip_install --no-deps -r requirements/mmpose.txt
}

check_prerequisites
mkdir -p "$venv"
: >"$log"
create_venv
step 'install torch and the build requirements (3 GB to download)' "$network" pip_install -r requirements/build.txt
check_opencv
if [ -n "$demo" ]; then install_for_demo; else install_everything; fi
install_reprefine
echo "==> done: $venv is ready${demo:+ for the demo; make install adds detection, segmentation, poses and the tests}"
