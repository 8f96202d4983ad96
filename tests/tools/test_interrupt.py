"""Runs that are stopped before they have saved anything, and by users who cannot wait."""

import signal
from pathlib import Path

from reprefine.engine.resuming.resume import ResumeHook
from reprefine.engine.runner import Runner
from tests.helpers.killed import SignalAt, in_process, train_config
from tests.helpers.run import DIGITS, SMALL


def interrupted_while_it_is_built(work_dir):
    """Train, and get a signal while the environment is logged."""
    log_env = Runner._log_env

    def interrupted(self, *args):
        log_env(self, *args)
        signal.raise_signal(signal.SIGINT)

    Runner._log_env = interrupted
    return train_config(work_dir, DIGITS, *SMALL)


def stopped_twice_in_an_iteration(work_dir):
    """Train, and get two signals within the first iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        signal.raise_signal(signal.SIGTERM)
        Path(f'{work_dir}.waited').touch()
        signal.raise_signal(signal.SIGTERM)

    ResumeHook.before_train_iter = before_train_iter
    return train_config(work_dir, DIGITS, *SMALL)


def end_of(job, work_dir):
    """Return the exit code and the last line of a job."""
    code = in_process(job, work_dir=work_dir, after=SignalAt(0, 0))
    return code, Path(f'{work_dir}.log').read_text().strip().splitlines()[-1]


def test_interrupt_before_the_training(tmp_path):
    code, line = end_of(interrupted_while_it_is_built, tmp_path / 'run')
    assert (code, line) == (130, 'stopped by SIGINT before the first checkpoint')


def test_a_second_signal_does_not_wait_for_the_iteration(tmp_path):
    code, line = end_of(stopped_twice_in_an_iteration, tmp_path / 'run')
    assert (code, line) == (143, 'stopped by SIGTERM before the first checkpoint')
    assert (tmp_path / 'run.waited').exists()  # the first one waits
