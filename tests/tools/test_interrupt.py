"""A run that is stopped before it has saved anything."""

import signal

from tests.helpers.run import DIGITS, read_until, start


def test_interrupt_before_the_first_checkpoint(tmp_path):
    process = start(
        'tools/train.py',
        DIGITS,
        '--work-dir',
        str(tmp_path),
        '--cfg-options',
        'train_cfg.max_epochs=500',
        'default_hooks.checkpoint.interval=500',
    )
    read_until(process, 'Epoch(train)')
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1].strip().splitlines()[-1]
    assert process.returncode == 130
    assert error == 'stopped by SIGINT before the first checkpoint'
