"""A run that is stopped by a signal at any moment, also in a validation, and resumed equals an uninterrupted one."""

import signal

import pytest

from tests.helpers.killed import assert_equal_runs, kill_and_resume, train_config

from .test_resume import BY_ITER, DIGITS, OPTIONS, derived


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_stopped_by_signals_and_resumed_equals_uninterrupted(number, tmp_path):
    # Six batches of validation, during which the model has the averaged weights.
    config = derived(tmp_path, "custom_hooks = [dict(type='EMAHook', momentum=0.1)]")
    options = (*OPTIONS, 'val_dataloader.batch_size=6', 'default_hooks.checkpoint.interval=3')
    for runs in kill_and_resume(train_config, config, *options, folder=tmp_path, numbers=[number] * 3):
        assert_equal_runs(*runs, 'ema_state_dict')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_stopped_in_a_validation_that_was_due_at_the_last_checkpoint(number, tmp_path):
    # The checkpoint of the last epoch is that of the uninterrupted run: no later one replaces it.
    options = (*OPTIONS, *BY_ITER, 'val_dataloader.batch_size=6', 'train_cfg.val_interval=1')
    stops = [(signal.SIGKILL, ('after_train_epoch', 3)), (number, ('after_val_iter', 1))]
    for runs in kill_and_resume(train_config, DIGITS, *options, folder=tmp_path, stops=stops):
        assert_equal_runs(*runs)
