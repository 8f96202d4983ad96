"""Training with two forked gloo processes, with or without torchrun's agent."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.helpers.killed import SignalAt, in_process
from tests.helpers.run import run_train

NEVER = SignalAt(0, 0)
SECONDS = 200  # a process that trains longer waits for another that has ended


class SignalOn(SignalAt):
    """Sends a signal to one of the processes.

    Args:
        rank: The process.
        name: The hook method after whose call the signal is sent.
        count: Which of these calls.
        number: The signal.
    """

    def __init__(self, rank: int, name: str, count: int, number: int) -> None:
        super().__init__((name, count), number)
        self.rank = str(rank)

    def __call__(self, name: str) -> None:
        """Count a call of hooks of the process."""
        if os.environ['RANK'] == self.rank:
            super().__call__(name)


def _train(work_dir: str, argv: tuple[str, ...]) -> None:
    signal.alarm(SECONDS)
    if code := run_train(*argv, '--work-dir', work_dir, '--launcher', 'pytorch'):
        raise SystemExit(code)


def torchrun(work_dir: str, *argv: str) -> int:
    """Train as ``torchrun --standalone --nproc_per_node=2 tools/train.py`` does, the job of :func:`train`."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend='c10d',
        rdzv_endpoint='127.0.0.1:0',
        max_restarts=0,
        start_method='fork',
    )
    try:
        elastic_launch(config, _train)(work_dir, argv)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def without_agent(work_dir: str, *argv: str) -> int:
    """Train with two processes without torchrun's agent, whose errors are written to ``<work_dir>.<rank>.log``.

    torchrun terminates the other process as soon as one fails, so that the output of the other would vary. The exit
    code is 0 unless both fail.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        os.environ |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free.getsockname()[1]), 'WORLD_SIZE': '2'}
    fork = multiprocessing.get_context('fork')
    ranks = [fork.Process(target=_train_rank, args=(rank, work_dir, argv)) for rank in '01']
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return min(abs(rank.exitcode) for rank in ranks)


def _train_rank(rank: str, work_dir: str, argv: tuple[str, ...]) -> None:
    os.environ |= {'RANK': rank, 'LOCAL_RANK': rank}
    os.dup2(os.open(f'{work_dir}.{rank}.log', os.O_WRONLY | os.O_CREAT), 2)
    _train(work_dir, argv)


def train(
    work_dir: Path, *argv: str, job: Callable[..., int] = torchrun, after: Callable[[str], Any] = NEVER
) -> tuple[int, str]:
    """Train with two processes.

    Args:
        work_dir: The work directory.
        argv: Further arguments of ``tools/train.py``.
        job: :func:`torchrun`, :func:`without_agent`, or a function of a module that calls one of them.
        after: Called in either process after every call of hooks, with their name.

    Returns:
        The exit code and the output.
    """
    log = Path(f'{work_dir}.log')
    log.unlink(missing_ok=True)
    code = in_process(job, *argv, work_dir=work_dir, after=after)
    return code, log.read_text()
