"""Refinements that are killed and resumed in the middle of a phase."""

from tests.helpers.killed import assert_equal_runs, kill_and_resume, train_config
from tests.helpers.run import DENOISED, SMALL


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    options = [*SMALL, 'load_from=None', 'train_cfg.max_epochs=3', 'train_dataloader.dataset.indices=160']
    options += ['custom_hooks.0.phase_length=2', 'custom_hooks.0.by=iter', 'model.backbone.drop_rate=0.2']
    options += ['default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=3']
    for runs in kill_and_resume(train_config, DENOISED, *options, folder=tmp_path):
        assert_equal_runs(*runs)
