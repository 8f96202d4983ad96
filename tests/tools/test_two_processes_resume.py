"""Two processes that are killed, or stopped by a signal to one of them, and resumed end as two that are not."""

import re
import signal
import subprocess

import pytest
import torch

from reprefine.engine.checkpoints import durable
from tests.helpers import draws
from tests.helpers.killed import assert_equal_runs
from tests.helpers.run import ROOT, read_until, start

CONFIG = str(ROOT / 'configs/baselines/classification/resnet14-narrow_5e_mnist5k-32px.py')  # has BatchNorm
OPTIONS = (
    '--cfg-options',
    'train_dataloader.dataset.indices=80',
    'train_dataloader.batch_size=8',  # five iterations an epoch
    'val_dataloader.dataset.indices=32',
    'train_cfg.max_epochs=3',
    'train_cfg.val_interval=1',
    'optim_wrapper.accumulative_counts=2',
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=3',
)
# Sends a signal to itself on one rank, after a number of iterations.
SCRIPT = f"""
import os, runpy
from reprefine.engine.runner import Runner
call_hook, count = Runner.call_hook, 0
def counted(runner, name, **kwargs):
    global count
    if name == 'after_train_iter':
        count += 1
        if [os.environ['RANK'], count] == [os.environ.get('SICK_RANK'), int(os.environ.get('SICK_AT', 0))]:
            os.kill(os.getpid(), int(os.environ['SICK_OF']))
    call_hook(runner, name, **kwargs)
Runner.call_hook = counted
runpy.run_path({str(ROOT / 'tools/train.py')!r}, run_name='__main__')
"""


def train(folder, work_dir, **environment):
    """Train with two processes; return the exit code and what was said."""
    script = folder / 'train.py'
    script.write_text(SCRIPT)
    torchrun = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2')
    argv = (str(script), CONFIG, '--work-dir', str(work_dir), '--launcher', 'pytorch', '--resume', *OPTIONS)
    process = start(*torchrun, *argv, **environment)
    return process.communicate()[1], process.returncode


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    error, code = train(folder, folder / 'run')
    assert code == 0, error
    return folder / 'run'


def test_a_killed_process_takes_the_run_down_and_it_goes_on(whole, tmp_path):
    pick = draws.draws()
    place = (pick.randrange(2), pick.randint(4, 14))
    _, code = train(tmp_path, tmp_path / 'run', SICK_RANK=str(place[0]), SICK_AT=str(place[1]), SICK_OF='9')
    assert code != 0
    error, code = train(tmp_path, tmp_path / 'run')
    assert code == 0, error
    assert_equal_runs(whole, tmp_path / 'run', f'rank and iteration {place}, {draws.drawn_by()}')


def test_a_signal_to_one_process_stops_both_at_the_same_iteration(whole, tmp_path):
    error, code = train(tmp_path, tmp_path / 'run', SICK_RANK='1', SICK_AT='7', SICK_OF='15')
    assert code != 0
    # The other process learns of it one iteration later.
    assert f'stopped by SIGTERM; continue from {tmp_path}/run/iter_8.pth' in error
    assert 'exitcode  : 143' in error
    saved = torch.load(tmp_path / 'run/iter_8.pth', weights_only=True)
    first, second = saved['resume']['ranks']
    assert first['buffers'].keys() == second['buffers'].keys() != set()  # BatchNorm's statistics are each rank's own
    assert all(not torch.equal(first['buffers'][name], second['buffers'][name]) for name in first['buffers'])
    error, code = train(tmp_path, tmp_path / 'run')
    assert code == 0, error
    assert_equal_runs(whole, tmp_path / 'run', 'stopped at 8')


def test_torchrun_hands_a_signal_on(whole, tmp_path):
    options = ('default_hooks.logger.interval=1', 'train_cfg.max_epochs=500')
    command = ['bash', str(ROOT / 'tools/dist_train.sh'), CONFIG, '2', '--work-dir', str(tmp_path / 'run')]
    process = subprocess.Popen(
        [*command, *OPTIONS, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    read_until(process, 'Epoch(val)')
    process.send_signal(signal.SIGUSR1)
    error = process.communicate()[1]
    assert process.returncode != 0
    found = re.search(rf'stopped by SIGUSR1; continue from {tmp_path}/run/(iter_\d+.pth) with', error)
    assert found, error
    assert durable.fault_of(tmp_path / 'run' / found[1]) is None
