"""Stopping a training run and finding its way back."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .durable import newest_whole


class Interrupted(KeyboardInterrupt):
    """The user or the scheduler asked the process to stop.

    Attributes:
        signal: The signal that did.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


def last_checkpoint(work_dir: str) -> str | None:
    """Return the newest whole checkpoint of a run in ``work_dir``, or None if it wrote none; say what is passed over.

    Raises:
        UserError: If all that it wrote is gone or damaged.
    """
    checkpoint, skipped = newest_whole(work_dir)
    if os.environ.get('RANK', '0') == '0':
        for line in skipped:
            print(f'not resumed from {line}', file=sys.stderr)
    return None if checkpoint is None else str(checkpoint)


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
