"""A run that is stopped and resumed equals one that is not."""

import re
import signal

import pytest
import torch

from tests.helpers.run import DENOISED, DIGITS, SMALL, assert_equal, read_until, run_train, start


def final_state(work_dir):
    return torch.load(work_dir / 'epoch_3.pth', weights_only=True)


@pytest.mark.parametrize('config', [DIGITS, DENOISED], ids=['baseline', 'denoiserep'])
def test_stopped_and_resumed_run_equals_an_uninterrupted_one(config, tmp_path):
    # Dropout and random shifts draw from the random state that the resumed run must find again.
    options = [*SMALL, 'model.backbone.drop_rate=0.2', 'train_cfg.max_epochs=3', 'train_dataloader.dataset.indices=512']
    if config == DENOISED:  # every epoch is another phase
        options = [option.replace('model.', 'model.model.', 1) for option in options]
        options += ['load_from=None', 'custom_hooks.1.phase_length=1']
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert run_train(config, '--work-dir', str(whole), *options) == 0

    process = start('tools/train.py', config, '--work-dir', str(parts), *options)
    read_until(process, 'Epoch(val) [1]')
    process.send_signal(signal.SIGTERM)
    error = process.communicate()[1].strip().splitlines()[-1]
    assert process.returncode == 143
    assert re.search(rf'stopped by SIGTERM; continue from {parts}/epoch_[12].pth with: python .* --resume$', error)
    assert not (parts / 'epoch_3.pth').exists()

    assert run_train(config, '--work-dir', str(parts), *options, '--resume') == 0
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(final_state(parts)[key], final_state(whole)[key])
