"""Two processes that are killed, or stopped by a signal to one of them, and resumed end as two that are not."""

import re
import signal
import subprocess

import pytest
import torch

from reprefine.engine.checkpoints import integrity
from tests.helpers import random_choices, two_processes
from tests.helpers.killed import assert_equal_runs
from tests.helpers.run import ROOT, read_until
from tests.helpers.two_processes import SignalOn

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


def train(work_dir, after=two_processes.NEVER):
    return two_processes.train(work_dir, CONFIG, '--resume', *OPTIONS, after=after)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole') / 'run'
    code, said = train(work_dir)
    assert code == 0, said
    return work_dir


def test_a_killed_process_takes_the_run_down_and_it_goes_on(whole, tmp_path):
    pick = random_choices.rng()
    moment = (pick.randrange(2), pick.choice(['before_train_iter', 'after_train_iter']), pick.randint(4, 14))
    assert train(tmp_path / 'run', SignalOn(*moment, signal.SIGKILL))[0] != 0
    code, said = train(tmp_path / 'run')
    assert code == 0, said
    assert_equal_runs(whole, tmp_path / 'run', f'rank, hook and iteration {moment}, {random_choices.how_to_repeat()}')


def test_a_signal_to_one_process_stops_both_at_the_same_iteration(whole, tmp_path):
    code, said = train(tmp_path / 'run', SignalOn(1, 'before_train_iter', 7, signal.SIGTERM))
    assert code != 0
    # The other process learns of it one iteration later.
    assert f'stopped by SIGTERM; continue from {tmp_path}/run/iter_8.pth' in said
    assert 'exitcode  : 143' in said
    saved = torch.load(tmp_path / 'run/iter_8.pth', weights_only=True)
    first, second = saved['resume']['ranks']
    assert first['buffers'].keys() == second['buffers'].keys() != set()  # BatchNorm's statistics are each rank's own
    assert all(not torch.equal(first['buffers'][name], second['buffers'][name]) for name in first['buffers'])
    code, said = train(tmp_path / 'run')
    assert code == 0, said
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
    assert integrity.find_corruption(tmp_path / 'run' / found[1]) is None
