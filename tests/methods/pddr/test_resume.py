"""Networks of parallel convolutions that are killed and resumed."""

import pytest

from tests.helpers.killed import assert_equal_runs, kill_and_resume, train_config
from tests.helpers.run import ROOT

CONFIGS = ROOT / 'configs/pddr/classification'


@pytest.mark.parametrize('variant', ['pda', 'pdb'])
def test_killed_and_resumed_equals_uninterrupted(variant, tmp_path):
    options = ['train_dataloader.dataset.indices=24', 'train_dataloader.batch_size=8', 'train_cfg.max_epochs=2']
    options += ['val_dataloader.dataset.indices=16']
    options += ['default_hooks.checkpoint.by_epoch=False']
    options += ['default_hooks.checkpoint.interval=2']
    config = str(CONFIGS / f'resnet18-w32-{variant}_10e_mnist5k.py')
    for runs in kill_and_resume(train_config, config, '--cfg-options', *options, folder=tmp_path):
        assert_equal_runs(*runs)
