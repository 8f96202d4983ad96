"""Stopping a training run and finding its way back."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError


class Interrupted(KeyboardInterrupt):
    """The user or the scheduler asked the process to stop.

    Attributes:
        signal: The signal that did.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


def last_checkpoint(work_dir: str) -> str | None:
    """Return the checkpoint that a run in ``work_dir`` wrote last, or None if it wrote none.

    Raises:
        UserError: If the file that the folder names is gone.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.is_file():
        return None
    checkpoint = pointer.read_text().strip()
    if not os.path.exists(checkpoint):
        raise UserError(f'{pointer} names {checkpoint!r}, which does not exist; name one with --resume CHECKPOINT')
    return checkpoint


@contextmanager
def resumable(work_dir: str) -> Iterator[None]:
    """Answer SIGINT and SIGTERM with one line that says how to go on, and exit with 128 + the signal's number."""

    def stop(number: int, frame: Any) -> None:
        raise Interrupted(number)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Interrupted as interrupt:
        if os.environ.get('RANK', '0') == '0':
            print(f'\n{_farewell(interrupt, work_dir)}', file=sys.stderr)
        raise SystemExit(128 + interrupt.signal) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _farewell(interrupt: Interrupted, work_dir: str) -> str:
    checkpoint = last_checkpoint(work_dir)
    if checkpoint is None:
        return f'stopped by {interrupt.signal.name} before the first checkpoint'
    command = shlex.join(['python', *sys.argv, '--resume'])
    return f'stopped by {interrupt.signal.name}; continue from {checkpoint} with: {command}'
