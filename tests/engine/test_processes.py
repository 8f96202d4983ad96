"""Beginning and end of runs of several processes."""

import subprocess
import sys

import pytest
from mmengine.config import Config

from reprefine.engine.errors import UserError
from reprefine.engine.processes import set_up_processes
from tests.helpers.run import ROOT

LEAVE = """
import atexit, sys, threading, time
from reprefine.engine.processes import exit_process
class Torn:
    def __del__(self): print('torn down')
torn = Torn()
torn.self = torn
atexit.register(print, 'files closed')
exit_process(3)
"""


@pytest.mark.parametrize('distributed', [False, True])
def test_a_process_of_several_closes_its_files_and_skips_the_teardown(distributed, monkeypatch):
    monkeypatch.delenv('TORCHELASTIC_RUN_ID', raising=False)
    if distributed:
        monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    result = subprocess.run([sys.executable, '-c', LEAVE], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 3, result.stderr
    assert result.stdout.splitlines() == ['files closed'] + ['torn down'] * (not distributed)


def test_one_process_changes_nothing_but_the_launcher():
    cfg = Config(dict(model=dict()))
    set_up_processes(cfg, 'none')
    assert cfg.to_dict() == dict(model=dict(), launcher='none')


@pytest.mark.parametrize('launcher', ['slurm', 'pytorch'])
def test_without_a_gpu_torchrun_is_asked_for(launcher, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(UserError, match='torchrun'):
        set_up_processes(Config(), launcher)
