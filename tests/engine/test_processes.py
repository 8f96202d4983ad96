"""Start and end of runs with several processes."""

import subprocess
import sys

import pytest
from mmengine.config import Config

from reprefine.engine.errors import UserError
from reprefine.engine.processes import set_up_processes
from tests.helpers.run import ROOT

EXIT = """
import atexit, sys, threading, time
from reprefine.engine.processes import exit_process
class Cycle:
    def __del__(self): print('shut down')
cycle = Cycle()
cycle.self = cycle
atexit.register(print, 'files closed')
exit_process(3)
"""


@pytest.mark.parametrize('distributed', [False, True])
def test_under_torchrun_exit_handlers_run_and_the_interpreter_is_not_shut_down(distributed, monkeypatch):
    monkeypatch.delenv('TORCHELASTIC_RUN_ID', raising=False)
    if distributed:
        monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    result = subprocess.run([sys.executable, '-c', EXIT], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 3, result.stderr
    assert result.stdout.splitlines() == ['files closed'] + ['shut down'] * (not distributed)


def test_for_one_process_only_the_launcher_is_set():
    cfg = Config(dict(model=dict()))
    set_up_processes(cfg, 'none')
    assert cfg.to_dict() == dict(model=dict(), launcher='none')


@pytest.mark.parametrize('launcher', ['slurm', 'pytorch'])
def test_without_a_gpu_torchrun_is_required(launcher, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(UserError, match=f'--launcher {launcher}: .* need torchrun'):
        set_up_processes(Config(), launcher)
