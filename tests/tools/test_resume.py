"""A run that is stopped by a signal finishes its iteration and saves; resumed, it equals one that is not stopped."""

import re
import signal
from pathlib import Path

import pytest
import torch

from tests.helpers.killed import assert_equal_runs, run, train_config
from tests.helpers.run import DENOISED, DIGITS, ROOT, SMALL, read_until, run_train, start

# Dropout and random shifts draw from the random state that the resumed run must find again.
OPTIONS = (
    *SMALL,
    'model.backbone.drop_rate=0.2',
    'train_cfg.max_epochs=3',
    'train_dataloader.dataset.indices=192',  # six iterations an epoch
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=3',
)
# tools/train.py, whose ninth iteration lasts until a signal comes.
SCRIPT = f"""
import runpy, time
from reprefine.engine.resuming.resume import ResumeHook
from reprefine.engine.resuming import interrupt
def before_train_iter(self, runner, batch_idx, data_batch=None):
    if runner.iter == 8:
        print('waits', flush=True)
        while not interrupt._request.number:
            time.sleep(0.01)
ResumeHook.before_train_iter = before_train_iter
runpy.run_path({str(ROOT / 'tools/train.py')!r}, run_name='__main__')
"""


def assert_resumes(config, options, parts, whole, number, iteration, error):
    """Check what the stopped run said and left, and that it goes on to the end of ``whole``."""
    assert run_train(config, '--work-dir', str(whole), *options) == 0
    name, saved = signal.Signals(number).name, parts / f'iter_{iteration}.pth'
    assert re.fullmatch(rf'stopped by {name}; continue from {saved} with: python .* --resume', error)
    assert torch.load(saved, weights_only=True)['meta']['iter'] == iteration

    assert run_train(config, '--work-dir', str(parts), *options, '--resume') == 0
    assert_equal_runs(whole, parts, f'stopped at {iteration}')
    assert not saved.exists()  # the next checkpoint replaces it


@pytest.mark.parametrize(
    ('number', 'moment', 'iteration'),
    [(signal.SIGTERM, ('before_train_iter', 2), 2), (signal.SIGUSR1, ('before_val_iter', 1), 6)],
    ids=['in an epoch', 'in validation'],
)
def test_stopped_and_resumed_run_equals_an_uninterrupted_one(number, moment, iteration, tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    run(train_config, DIGITS, *OPTIONS, work_dir=parts, moment=moment, number=number)
    error = Path(f'{parts}.log').read_text().strip().splitlines()[-1]
    assert_resumes(DIGITS, OPTIONS, parts, whole, number, iteration, error)


def test_a_process_that_is_interrupted_and_resumed_equals_an_uninterrupted_one(tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    options = (*OPTIONS, 'load_from=None', 'custom_hooks.0.phase_length=1')  # every epoch is another phase
    script = tmp_path / 'train.py'
    script.write_text(SCRIPT)
    process = start(str(script), DENOISED, '--work-dir', str(parts), *options, PYTHONPATH=str(ROOT))
    read_until(process, 'waits')
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1].strip().splitlines()[-1]
    assert process.returncode == 128 + signal.SIGINT
    assert_resumes(DENOISED, options, parts, whole, signal.SIGINT, 9, error)
