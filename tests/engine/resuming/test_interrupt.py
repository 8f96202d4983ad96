"""Signals whose exception a library converts or swallows."""

import os
import signal
from contextlib import suppress

import pytest

from reprefine.engine.resuming.interrupt import stop_on_signals
from reprefine.engine.runner import Runner
from tests.helpers.run import train_digits


def test_a_signal_that_a_library_converts_to_another_error_ends_the_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended, stop_on_signals(str(tmp_path)):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            raise SyntaxError('cannot be formatted') from None
    assert ended.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err.strip() == 'stopped by SIGTERM before the first checkpoint'


def test_another_error_is_raised_unchanged(tmp_path):
    with pytest.raises(SyntaxError), stop_on_signals(str(tmp_path)):
        raise SyntaxError


def test_a_signal_that_a_library_swallows_ends_the_run_after_the_first_iteration(tmp_path, monkeypatch):
    call_hook = Runner.call_hook

    def swallowing(runner, name, **kwargs):
        if name == 'before_run':
            with suppress(BaseException):
                os.kill(os.getpid(), signal.SIGUSR1)
        call_hook(runner, name, **kwargs)

    monkeypatch.setattr(Runner, 'call_hook', swallowing)
    with pytest.raises(SystemExit) as ended:
        train_digits(tmp_path)
    assert ended.value.code == 128 + signal.SIGUSR1
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_1.pth']
