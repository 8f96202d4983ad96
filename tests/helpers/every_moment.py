"""Stops a run at every moment by each signal, and resumes it: ``pytest --every-moment``.

A run is forked after each call of hooks, once for each signal, so that the iterations before it are trained once. Work
directories with equal content are resumed once. Runs with loader workers cannot be forked and are skipped. All tests
that resume take an hour or more:

    python -m pytest tests/engine/resuming tests/methods --every-moment=once -k resume
"""

import hashlib
import multiprocessing
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reprefine.engine.checkpoints.checkpoint_hook import STOP_CHECKPOINT
from reprefine.engine.resuming.interrupt import SIGNALS
from tests.helpers.killed import SignalAt, comparable, histories, in_process, runtime_info

NEVER = SignalAt(0, 0)
HAS_WORKERS = 77  # exit code


class Branches:
    """Makes a copy of the work directory for every way to end the run.

    Args:
        work_dir: The run's work directory.
        target: Folder of the copies, named by moment, hooks and signal.
    """

    def __init__(self, work_dir: Path, target: Path) -> None:
        self.work_dir, self.target, self.moment, self.ends = work_dir, target, 0, False

    def __call__(self, name: str) -> None:
        """End the run by every signal, and continue it."""
        if self.ends:
            return
        if multiprocessing.active_children():
            os._exit(HAS_WORKERS)
        self.moment += 1
        before = self._copy(f'{self.moment:03d}-{name}-SIGKILL')  # after which nothing is executed
        for number in SIGNALS:
            state = random.getstate()
            process = os.fork()
            if process == 0:
                random.setstate(state)  # Python reseeds the generator of a forked process
                self.ends = True
                os.kill(os.getpid(), number)
                return
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            assert code in (0, 128 + number), f'exit code {code} after {name} (moment {self.moment}) by {number!r}'
            self._copy(f'{self.moment:03d}-{name}-{number.name}')
            self._restore(before)

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.work_dir, self.target / name, ignore=shutil.ignore_patterns('.lock')))

    def _restore(self, copy: Path) -> None:
        for path in self.work_dir.rglob('*'):
            if path.is_file() and path.suffix != '.log' and path.name != '.lock':
                path.unlink()
        shutil.copytree(copy, self.work_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns('*.log'))


def explore(job: Callable[..., Any], *arguments: Any, folder: Path, again: bool) -> Iterator[tuple[Path, Path, str]]:
    """Train uninterrupted and in all ways to be stopped once and resumed.

    Args:
        job: As in :func:`tests.helpers.killed.in_process`.
        arguments: Its further arguments.
        folder: Parent of the work directories.
        again: Whether resumed runs are also stopped in all ways, until no new content is found.

    Yields:
        As :func:`tests.helpers.killed.kill_and_resume`.
    """
    uninterrupted, seen, waiting, count = folder / 'run0', set(), [('the uninterrupted run', None)], 0
    while waiting:
        name, start = waiting.pop(0)
        work_dir, copies = folder / f'run{count}', folder / f'copies{count}'
        count += 1
        for path in (start or work_dir, copies):
            path.mkdir(exist_ok=True)
        if start is not None:
            shutil.move(start, work_dir)
        deep = again or start is None
        after = Branches(work_dir, copies) if deep else NEVER
        code = in_process(job, *arguments, work_dir=work_dir, after=after)
        if code == HAS_WORKERS:
            pytest.skip('a run with loader workers cannot be forked')
        assert code == 0, f'{name}: {Path(f"{work_dir}.log").read_text()[-2000:]}'
        yield uninterrupted, work_dir, name
        for copy in sorted(copies.iterdir()):
            if (found := content(copy)) not in seen:
                seen.add(found)
                waiting.append((copy.name if start is None else f'{name}, {copy.name}', copy))
            else:
                shutil.rmtree(copy)
        if start is not None:
            shutil.rmtree(work_dir)


def content(work_dir: Path) -> str:
    """Return a digest of what a resumed run reads in a work directory, except times and names of folders."""
    last = work_dir / 'last_checkpoint'
    found: list[Any] = [Path(last.read_text()).name if last.is_file() else None]
    for path in sorted(work_dir.rglob('*.pth')):
        checkpoint = torch.load(path, weights_only=True)
        info = runtime_info(checkpoint)
        info |= {key: Path(value).name for key, value in info.items() if key == STOP_CHECKPOINT}
        step = [checkpoint['meta'][key] for key in ('epoch', 'iter')]
        rest = {key: comparable(value) for key, value in checkpoint.items() if key not in ('meta', 'message_hub')}
        found.append([path.name, step, histories(checkpoint), info, rest])
    hasher = hashlib.sha256()
    _digest(found, hasher.update)
    return hasher.hexdigest()


def _digest(value: Any, update: Callable[[bytes], None]) -> None:
    if isinstance(value, dict):
        _digest(list(value.items()), update)
    elif isinstance(value, (list, tuple)):
        update(f'{type(value).__name__} of {len(value)}'.encode())
        for item in value:
            _digest(item, update)
    elif torch.is_tensor(value):
        update(f'{value.dtype} {tuple(value.shape)}'.encode())
        update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    else:
        update(repr(value).encode())
