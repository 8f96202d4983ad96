"""Contrastive runs that are killed and resumed: queue, momentum encoder and statistics files continue."""

import numpy as np
import pytest

from reprefine.methods.feature_transform import read_run
from tests.helpers.killed import assert_equal_runs, kill_and_resume

from .toys import moco_ft, runner

SAVE = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
STATS = dict(type='reprefine.ScoreStatsHook', flush_interval=5)
SCHEDULE = dict(type='reprefine.FTScheduleHook', start_epoch=1)


def train(work_dir, by_epoch):
    """Five iterations an epoch, or fifteen; nothing is seeded but by the Runner."""
    train_cfg = dict(by_epoch=True, max_epochs=3) if by_epoch else dict(by_epoch=False, max_iters=15)
    hooks = [STATS, SCHEDULE] if by_epoch else [STATS]
    model = moco_ft(seed=1)
    runner(work_dir, model, 20, train_cfg, custom_hooks=hooks, default_hooks=SAVE, resume=True).train()


@pytest.mark.parametrize('by_epoch', [True, False])
def test_killed_and_resumed_equals_uninterrupted(by_epoch, tmp_path):
    for uninterrupted, parts, moments in kill_and_resume(train, by_epoch, folder=tmp_path):
        assert_equal_runs(uninterrupted, parts, moments)
        curves = [read_run(folder) for folder in (uninterrupted, parts)]
        assert curves[0].iters.tolist() == curves[1].iters.tolist() == list(range(1, 16)), moments
        for key, values in curves[0].values.items():
            np.testing.assert_array_equal(values, curves[1].values[key], err_msg=moments)
