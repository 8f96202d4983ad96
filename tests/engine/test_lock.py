"""A work directory is locked by one run at a time, until the run ends in any way."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from reprefine.engine.errors import UserError
from reprefine.engine.lock import FILE, lock_work_dir
from tests.helpers.run import train_digits

LOCK = 'import sys, time\nfrom reprefine.engine.lock import lock_work_dir\n'
LOCK += 'with lock_work_dir(sys.argv[1]):\n    print("locked", flush=True)\n    time.sleep(60)'


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of ``tmp_path``."""
    process = subprocess.Popen([sys.executable, '-c', LOCK, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'locked\n'
    yield process
    process.kill()
    process.wait()


def test_second_run_is_refused_until_the_first_is_killed(tmp_path, holder, capsys):
    assert train_digits(tmp_path) == 1
    error = capsys.readouterr().err.strip()
    assert error.count('\n') == 0
    assert f'work dir {tmp_path} is in use by process {holder.pid} on ' in error
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lock_work_dir(tmp_path):
        assert f'process {os.getpid()} ' in (tmp_path / FILE).read_text()


def test_a_lock_is_released_after_its_block_and_on_errors(tmp_path):
    with pytest.raises(ValueError, match='failed'), lock_work_dir(tmp_path / 'run'):
        with pytest.raises(UserError, match='in use'), lock_work_dir(tmp_path / 'run'):
            pass
        raise ValueError('failed')
    with lock_work_dir(tmp_path / 'run'):
        pass


def test_other_ranks_take_no_lock(tmp_path, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with lock_work_dir(tmp_path), lock_work_dir(tmp_path):
        assert not (tmp_path / FILE).exists()


def wait(started):
    started.set()
    time.sleep(60)


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    """A worker of a data loader outlives a killed run for some seconds."""
    context = multiprocessing.get_context('fork')
    started = context.Event()
    with lock_work_dir(tmp_path):
        worker = context.Process(target=wait, args=(started,))
        worker.start()
        assert started.wait(30)
    try:
        with lock_work_dir(tmp_path):
            assert worker.is_alive()
    finally:
        worker.kill()
