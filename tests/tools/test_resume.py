"""A run that is stopped by a signal finishes its iteration and saves; resumed, it equals one that is not stopped."""

import re
import signal

import pytest
import torch

from tests.helpers.killed import assert_equal_runs
from tests.helpers.run import DENOISED, DIGITS, SMALL, read_until, run_train, start


@pytest.mark.parametrize(
    ('config', 'number', 'said'),
    [
        (DIGITS, signal.SIGTERM, 'Epoch(train) [1][ 2/'),
        (DIGITS, signal.SIGUSR1, 'Epoch(val) [1]'),
        (DENOISED, signal.SIGINT, 'Epoch(train) [2][ 2/'),
    ],
    ids=['in an epoch', 'in or after validation', 'denoiserep'],
)
def test_stopped_and_resumed_run_equals_an_uninterrupted_one(config, number, said, tmp_path):
    # Dropout and random shifts draw from the random state that the resumed run must find again.
    options = [*SMALL, 'model.backbone.drop_rate=0.2', 'train_cfg.max_epochs=3', 'train_dataloader.dataset.indices=512']
    options += ['default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=3']
    if config == DENOISED:  # every epoch is another phase
        options = [option.replace('model.', 'model.model.', 1) for option in options]
        options += ['load_from=None', 'custom_hooks.1.phase_length=1']
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert run_train(config, '--work-dir', str(whole), *options) == 0

    process = start('tools/train.py', config, '--work-dir', str(parts), *options)
    read_until(process, said)
    process.send_signal(number)
    error = process.communicate()[1].strip().splitlines()[-1]
    assert process.returncode == 128 + number
    name = signal.Signals(number).name
    found = re.search(rf'stopped by {name}; continue from {parts}/(iter_\d+.pth) with: python .* --resume$', error)
    assert found, error
    saved = torch.load(parts / found[1], weights_only=True)
    assert found[1] == f'iter_{saved["meta"]["iter"]}.pth'
    assert 0 < saved['meta']['iter'] < 48

    assert run_train(config, '--work-dir', str(parts), *options, '--resume') == 0
    assert_equal_runs(whole, parts, f'stopped at {found[1]}')
    assert not (parts / found[1]).exists()  # the next checkpoint replaces it
