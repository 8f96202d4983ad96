"""Distillations that are killed and resumed equal uninterrupted ones in student, policy, random numbers and
histogram."""

import numpy as np
import pytest

from tests.helpers.killed import assert_equal_runs, kill_and_resume

from .run import distiller, make_runner, uniform_batches

SAVE = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))


def train(work_dir, hook):
    """Three iterations an epoch; with a policy there is no other source, as in the configs."""
    model = distiller(timestep_source=None) if hook else distiller()
    make_runner(work_dir, hook, model=model, default_hooks=SAVE, resume=True).train()


@pytest.mark.parametrize('hook', [dict(warmup_iters=2, uniform_prob=0.5), None], ids=['policy', 'uniform'])
def test_killed_and_resumed_equals_uninterrupted(hook, tmp_path):
    assert set(uniform_batches(0.5, 9)[2:]) == {True, False}  # of both kinds after the warm-up
    keys = ('repfusion_selector',) if hook else ()
    for whole, parts, moments in kill_and_resume(train, hook, folder=tmp_path):
        assert_equal_runs(whole, parts, moments, 'repfusion_draws', *keys)
        if hook:
            first, second = (np.load(folder / 'timestep_hist.npz') for folder in (whole, parts))
            assert first['epochs'].tolist() == [1, 2, 3]
            for key in first.files:
                np.testing.assert_array_equal(first[key], second[key], err_msg=f'{moments}, {key}')
