"""A run that is killed at any moment, several times, and resumed equals an uninterrupted one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import EarlyStoppingHook
from mmengine.logging import MessageHub

from reprefine.engine.resuming.resume import replay_early_stopping
from tests.helpers.killed import assert_equal_runs, kill_and_resume, run, train_config
from tests.helpers.run import DIGITS, SMALL

# Five iterations per epoch; dropout and random shifts draw random numbers.
OPTIONS = (
    *SMALL,
    'model.backbone.drop_rate=0.2',
    'train_cfg.max_epochs=3',
    'train_dataloader.dataset.indices=160',
    'default_hooks.logger.interval=2',
)
BY_ITER = ('default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.interval=2')
CASES = {
    'by epoch': (),
    'by iteration': BY_ITER,
    'workers': (*BY_ITER, 'train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True'),
    'accumulated gradients': (*BY_ITER, 'optim_wrapper.accumulative_counts=3'),
    'save_best': (*BY_ITER, 'default_hooks.checkpoint.save_best=auto', 'train_cfg.val_interval=1'),
}


@pytest.mark.parametrize('case', CASES)
def test_killed_and_resumed_equals_uninterrupted(case, tmp_path):
    for runs in kill_and_resume(train_config, DIGITS, *OPTIONS, *CASES[case], folder=tmp_path):
        assert_equal_runs(*runs)


def derived(folder, text):
    """A config that inherits the digits run."""
    path = folder / 'derived.py'
    path.write_text(f'_base_ = {DIGITS!r}\n{text}\n')
    return str(path)


def test_an_average_of_the_weights_is_resumed(tmp_path):
    config = derived(tmp_path, "custom_hooks = [dict(type='EMAHook', momentum=0.1)]")
    for runs in kill_and_resume(train_config, config, *OPTIONS, *BY_ITER, folder=tmp_path):
        assert_equal_runs(*runs, 'ema_state_dict')


def test_a_loop_over_iterations_with_several_epochs_of_the_data(tmp_path):
    text = """
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=13, val_interval=4)
param_scheduler = dict(_delete_=True, type='PolyLR', by_epoch=False, begin=0, end=13)
log_processor = dict(by_epoch=False)
"""
    options = [option for option in OPTIONS if 'max_epochs' not in option]
    config = derived(tmp_path, text)
    for runs in kill_and_resume(train_config, config, *options, *BY_ITER, folder=tmp_path):
        assert_equal_runs(*runs)


def test_a_run_that_stops_early_stops_at_the_same_iteration(tmp_path):
    text = "custom_hooks = [dict(type='EarlyStoppingHook', monitor='accuracy/top1', patience=2, min_delta=100)]"
    options = (*OPTIONS, *BY_ITER, 'train_cfg.val_interval=1', 'train_cfg.max_epochs=6')
    for uninterrupted, resumed, moments in kill_and_resume(
        train_config, derived(tmp_path, text), *options, folder=tmp_path
    ):
        assert_equal_runs(uninterrupted, resumed, moments)
    assert Path((uninterrupted / 'last_checkpoint').read_text()).name == 'iter_14.pth'  # of 15, in 3 of 6 epochs


@pytest.mark.parametrize('seed', range(3))
def test_early_stopping_continues_its_count(seed, tmp_path):
    scores = np.random.default_rng(seed).integers(0, 4, 12).astype(float)
    hub = MessageHub.get_instance(f'{tmp_path}')
    uninterrupted, resumed = (EarlyStoppingHook('accuracy/top1', min_delta=1, patience=4) for _ in range(2))
    stops = []
    for score in scores:
        hub.update_scalar('val/accuracy/top1', score)
        stops.append(uninterrupted._check_stop_condition(score)[0])
    assert replay_early_stopping(resumed, hub) == any(stops)
    assert (resumed.wait_count, resumed.best_score) == (uninterrupted.wait_count, uninterrupted.best_score)


def test_a_run_without_a_seed_is_resumed_with_its_seed(tmp_path):
    options = (*OPTIONS, *BY_ITER)
    resumed, uninterrupted = tmp_path / 'resumed', tmp_path / 'uninterrupted'
    run(train_config, DIGITS, *options, 'randomness.seed=None', work_dir=resumed, moment=60)
    checkpoint = torch.load((resumed / 'last_checkpoint').read_text(), weights_only=True)
    run(train_config, DIGITS, *options, 'randomness.seed=None', work_dir=resumed)
    run(train_config, DIGITS, *options, f'randomness.seed={checkpoint["meta"]["seed"]}', work_dir=uninterrupted)
    assert_equal_runs(uninterrupted, resumed, 'killed at 60')
