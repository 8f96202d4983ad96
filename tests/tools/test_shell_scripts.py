"""Launch scripts: what they hand to python and srun; usage texts; errors."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'
SCRIPTS = ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
RECORDER = """#!/bin/bash
if [ "$1" = -c ]; then exec {python} "$@"; fi
printf '%s\\n' "$0" "$@" >{record}
printf '%s' "$PYTHONPATH" >{record}.path
"""


@pytest.fixture
def sandbox(tmp_path):
    """A work folder with a fake python and srun, a config and a checkpoint, both with a space in their names."""
    programs = tmp_path / 'bin'
    programs.mkdir()
    for name in ('python', 'srun'):
        script = programs / name
        script.write_text(RECORDER.format(python='/usr/bin/env python3', record=tmp_path / 'record'))
        script.chmod(0o755)
    (tmp_path / 'my config.py').write_text('')
    (tmp_path / 'my epoch.pth').write_text('')
    return tmp_path


def run(sandbox, script, *arguments, **variables):
    """Run a launch script inside a fake active environment; return the finished process and the recorded call."""
    kept = {name: os.environ[name] for name in ('PATH', 'HOME') if name in os.environ}
    path = f'{sandbox / "bin"}:{kept["PATH"]}'
    environment = kept | {'VIRTUAL_ENV': str(sandbox), 'PATH': path} | variables
    command = ['bash', str(TOOLS / script), *arguments]
    done = subprocess.run(command, cwd=sandbox, env=environment, capture_output=True, text=True, check=False)
    record = sandbox / 'record'
    return done, record.read_text().splitlines() if record.exists() else []


def option(call, name):
    """Value of ``--name=value`` in a recorded call."""
    return next(word.split('=', 1)[1] for word in call if word.startswith(f'--{name}='))


@pytest.mark.parametrize('script', SCRIPTS)
def test_usage(sandbox, script):
    done, call = run(sandbox, script, 'only-one')
    assert done.returncode == 2
    assert f'tools/{script}' in done.stderr
    assert 'environment:' in done.stderr
    assert not done.stdout
    done, call = run(sandbox, script, '--help')
    assert done.returncode == 0
    assert 'usage:' in done.stdout
    assert not call


def test_dist_train_keeps_words_with_spaces(sandbox):
    more = ['--cfg-options', 'note=two words', 'glob=*', '--work-dir', 'a dir']
    done, call = run(sandbox, 'dist_train.sh', 'my config.py', '2', *more)
    assert done.returncode == 0, done.stderr
    script = call.index(str(TOOLS / 'train.py'))
    assert call[script + 1 :] == ['my config.py', *more, '--launcher', 'pytorch']
    assert call[1] == str(TOOLS / 'misc/torchrun.py')
    assert (option(call, 'nproc_per_node'), option(call, 'nnodes'), option(call, 'node_rank')) == ('2', '1', '0')
    assert option(call, 'master_addr') == '127.0.0.1'
    assert (sandbox / 'record.path').read_text().split(':')[0] == str(TOOLS.parent)


def test_dist_test_puts_the_checkpoint_second(sandbox):
    done, call = run(sandbox, 'dist_test.sh', 'my config.py', 'my epoch.pth', '3', '--out', 'a b.pkl')
    assert done.returncode == 0, done.stderr
    script = call.index(str(TOOLS / 'test.py'))
    assert call[script + 1 :] == ['my config.py', 'my epoch.pth', '--out', 'a b.pkl', '--launcher', 'pytorch']
    assert option(call, 'nproc_per_node') == '3'


def test_free_port_differs_and_port_is_honoured(sandbox):
    ports = {option(run(sandbox, 'dist_train.sh', 'my config.py', '1')[1], 'master_port') for _ in range(5)}
    assert len(ports) > 1
    assert all(1024 <= int(port) < 65536 for port in ports)
    _, call = run(sandbox, 'dist_train.sh', 'my config.py', '1', PORT='23456')
    assert option(call, 'master_port') == '23456'


def test_several_machines(sandbox):
    done, call = run(sandbox, 'dist_train.sh', 'my config.py', '4', NNODES='2', NODE_RANK='1')
    assert done.returncode == 2
    assert 'set PORT' in done.stderr
    assert not call
    variables = {'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'node-0', 'PORT': '29500'}
    _, call = run(sandbox, 'dist_train.sh', 'my config.py', '4', **variables)
    names = ('nnodes', 'node_rank', 'master_addr', 'master_port', 'nproc_per_node')
    assert [option(call, name) for name in names] == ['2', '1', 'node-0', '29500', '4']


@pytest.mark.parametrize(
    ('script', 'arguments', 'message'),
    [
        ('dist_train.sh', ['no such.py', '2'], "config 'no such.py' does not exist"),
        ('dist_train.sh', ['my config.py', 'two'], "number of processes is 'two'"),
        ('dist_train.sh', ['my config.py', '0'], "number of processes is '0'"),
        ('dist_test.sh', ['my config.py', 'gone.pth', '2'], "checkpoint 'gone.pth' does not exist"),
        ('slurm_train.sh', ['part', 'job', 'no such.py', 'out'], "config 'no such.py' does not exist"),
        ('slurm_test.sh', ['part', 'job', 'my config.py', 'gone.pth'], "checkpoint 'gone.pth' does not exist"),
    ],
)
def test_wrong_argument_is_one_line(sandbox, script, arguments, message):
    done, call = run(sandbox, script, *arguments)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert message in done.stderr
    assert not call


def test_exit_code_is_passed_on(sandbox):
    (sandbox / 'bin' / 'python').write_text('#!/bin/bash\n[ "$1" = -c ] && echo 1234 && exit\nexit 7\n')
    assert run(sandbox, 'dist_train.sh', 'my config.py', '1')[0].returncode == 7


def test_slurm_train(sandbox):
    variables = {'GPUS': '16', 'GPUS_PER_NODE': '4', 'CPUS_PER_TASK': '3', 'SRUN_ARGS': '--time=1:00 --exclusive'}
    done, call = run(sandbox, 'slurm_train.sh', 'my part', 'job', 'my config.py', 'a dir', '--amp', **variables)
    assert done.returncode == 0, done.stderr
    assert call[0].endswith('/srun')
    names = ('partition', 'job-name', 'gres', 'ntasks', 'ntasks-per-node', 'cpus-per-task', 'kill-on-bad-exit')
    assert [option(call, name) for name in names] == ['my part', 'job', 'gpu:4', '16', '4', '3', '1']
    python = call.index('python')
    assert {'--time=1:00', '--exclusive'} <= set(call[:python])
    expected = ['my config.py', '--work-dir', 'a dir', '--amp', '--launcher', 'slurm']
    assert call[python + 1 :] == ['-u', str(TOOLS / 'train.py'), *expected]


def test_slurm_test_defaults(sandbox):
    done, call = run(sandbox, 'slurm_test.sh', 'part', 'job', 'my config.py', 'my epoch.pth', GPUS='2')
    assert done.returncode == 0, done.stderr
    assert [option(call, name) for name in ('gres', 'ntasks', 'cpus-per-task')] == ['gpu:2', '2', '5']
    assert call[call.index('python') + 2 :] == [
        str(TOOLS / 'test.py'), 'my config.py', 'my epoch.pth', '--launcher', 'slurm',
    ]  # fmt: skip


@pytest.fixture
def checkout(sandbox):
    """A copy of the launch scripts with a .venv of its own."""
    root = sandbox / 'checkout'
    for name in ('dist_train.sh', 'misc/launch.sh'):
        target = root / 'tools' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((TOOLS / name).read_text())
    python = root / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text((sandbox / 'bin' / 'python').read_text())
    python.chmod(0o755)
    return root


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [
        ({}, 'checkout/.venv/bin/python'),
        ({'CONDA_DEFAULT_ENV': 'base'}, 'checkout/.venv/bin/python'),
        ({'VIRTUAL_ENV': '/somewhere'}, 'bin/python'),
        ({'CONDA_DEFAULT_ENV': 'mine'}, 'bin/python'),
    ],
)
def test_the_active_environment_decides_else_the_venv_of_the_checkout(sandbox, checkout, variables, expected):
    environment = {'PATH': f'{sandbox / "bin"}:{os.environ["PATH"]}'} | variables
    command = ['bash', str(checkout / 'tools' / 'dist_train.sh'), 'my config.py', '1']
    subprocess.run(command, cwd=sandbox, env=environment, check=True)
    assert (sandbox / 'record').read_text().splitlines()[0] == str(sandbox / expected)
