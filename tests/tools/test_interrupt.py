"""Runs that are stopped before they have saved anything, and by users who cannot wait."""

import signal
import time

from tests.helpers.run import DIGITS, read_until, start

LONG = ('--cfg-options', 'train_cfg.max_epochs=500', 'default_hooks.checkpoint.interval=500')


def test_interrupt_before_the_training(tmp_path):
    process = start('tools/train.py', DIGITS, '--work-dir', str(tmp_path), *LONG)
    read_until(process, 'System environment')
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1].strip().splitlines()[-1]
    assert process.returncode == 130
    assert error == 'stopped by SIGINT before the first checkpoint'


def test_a_second_signal_does_not_wait_for_the_iteration(tmp_path):
    slow = tmp_path / 'slow.py'
    slow.write_text(f'_base_ = {DIGITS!r}\ncustom_imports = dict(imports=["slow_hook"])\n')
    (tmp_path / 'slow_hook.py').write_text(
        'import time\n'
        'from reprefine.engine.hooks import EpochSeedHook\n'
        'def before_train_iter(self, runner, batch_idx, data_batch=None):\n'
        '    print("waits", flush=True)\n'
        '    for _ in range(600): time.sleep(0.1)\n'
        'EpochSeedHook.before_train_iter = before_train_iter\n'
    )
    process = start('tools/train.py', str(slow), '--work-dir', str(tmp_path / 'run'), PYTHONPATH=str(tmp_path))
    read_until(process, 'waits')
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None  # the first one waits
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=30)[1].strip().splitlines()[-1]
    assert process.returncode == 143
    assert error == 'stopped by SIGTERM before the first checkpoint'
