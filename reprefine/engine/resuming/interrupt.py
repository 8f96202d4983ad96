"""Stopping a run by a signal: a checkpoint of the training, a resume hint and an exit code."""

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import Runner

from reprefine.engine.checkpoints.checkpoint_hook import STOP_CHECKPOINT
from reprefine.engine.checkpoints.integrity import find_latest_checkpoint
from reprefine.engine.errors import find_interruption
from reprefine.engine.lock import is_first_process

from .loops import ExactLoop
from .resume import ResumeHook

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """The process received one of :data:`SIGNALS`.

    Attributes:
        signal: The signal.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


class _Request:
    """State of the signal handler.

    Attributes:
        number: Signal to handle at the end of the iteration; 0: none.
        is_deferred: Whether a signal is handled at the end of the iteration rather than at once.
    """

    number = 0
    is_deferred = False


_request = _Request()


@contextmanager
def stop_on_signals(work_dir: str) -> Iterator[None]:
    """Print a resume hint on SIGINT, SIGTERM and SIGUSR1, and exit with 128 + the signal's number.

    During training the iteration is finished and a checkpoint written before; a second signal stops immediately. May be
    nested.

    Args:
        work_dir: Work directory of the run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        is_immediate = not _request.is_deferred or _request.number
        _request.number = number  # a library that catches all exceptions may swallow the one below
        if is_immediate:
            raise Interrupted(number)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises if a worker got the signal too

    previous = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except (Exception, Interrupted) as error:
        interrupt = find_interruption(error)
        if not isinstance(interrupt, Interrupted):
            raise
        if is_first_process():
            print(f'\n{_resume_hint(interrupt, work_dir)}', file=sys.stderr)
        raise SystemExit(128 + interrupt.signal) from None
    finally:
        _request.number, _request.is_deferred = 0, False
        for number, handler in previous.items():
            signal.signal(number, handler)


def _resume_hint(interrupt: Interrupted, work_dir: str) -> str:
    checkpoint = find_latest_checkpoint(work_dir)
    if checkpoint is None:
        return f'stopped by {interrupt.signal.name} before the first checkpoint'
    command = shlex.join(['python', *sys.argv, *([] if '--resume' in sys.argv else ['--resume'])])
    return f'stopped by {interrupt.signal.name}; continue from {checkpoint} with: {command}'


class StopHook(Hook):
    """Saves a checkpoint and ends the run after the iteration in which a signal came, on all ranks after the same one.

    The ranks share their signals by an asynchronous all-reduce in a gloo group. Its result is read one iteration later,
    so that no rank waits for another one or for a GPU.
    """

    priority = 'LOWEST'  # after every hook that counts or saves

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._reduction: tuple[torch.Tensor, dist.Work] | None = None
        self.saved_iteration = -1  # of the last checkpoint of training

    def before_train(self, runner: Runner) -> None:
        """Defer signals to the end of the iteration."""
        if runner.distributed and runner.world_size > 1:
            self._group = dist.new_group(backend='gloo')
        _request.is_deferred = True

    def after_resume(self, runner: Runner, checkpoint: str) -> None:
        """Note the iteration of the resumed checkpoint, so that no later state of this iteration replaces it.

        In an uninterrupted run the end of an epoch and a validation follow a checkpoint and do not write it again.
        """
        pointer = Path(runner.work_dir, 'last_checkpoint')
        if pointer.is_file() and Path(pointer.read_text().strip()).resolve() == Path(checkpoint).resolve():
            self.saved_iteration = runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Save a checkpoint and stop, if any rank has received a signal.

        Raises:
            Interrupted: When the checkpoint is written.
        """
        number = _request.number if self._group is None else self._reduce(_request.number)
        if number:
            _request.number = number
            if isinstance(runner.train_loop, ExactLoop):
                self._save(runner, runner.epoch, runner.iter + 1)
            raise Interrupted(number)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop within a validation; several ranks, whose parts of it may differ in length, finish it.

        Raises:
            Interrupted: When a checkpoint of the state before the validation is written.
        """
        if _request.number and self._group is None:
            if isinstance(runner.train_loop, ExactLoop):
                self._undo_validation(runner)
                self._save(runner, runner.epoch, runner.iter)
            raise Interrupted(_request.number)

    def after_train(self, runner: Runner) -> None:
        """Handle signals at once again."""
        _request.is_deferred = False

    def _reduce(self, number: int) -> int:
        """Start the all-reduce of a signal's number, and return the result of the former one."""
        result = 0
        if self._reduction is not None:
            self._reduction[1].wait()
            result = int(self._reduction[0])
        tensor = torch.tensor(number)
        self._reduction = (tensor, dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group, async_op=True))
        return result

    def _undo_validation(self, runner: Runner) -> None:
        """Restore the weights and the RNG state of the training."""
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook._swap_ema_parameters()
            elif isinstance(hook, ResumeHook):
                hook.after_val(runner)

    def _save(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Write ``iter_N.pth`` unless this iteration has a checkpoint already; no rank returns before it is written."""
        if self.saved_iteration != iteration:
            folder = next((hook.out_dir for hook in runner.hooks if isinstance(hook, CheckpointHook)), runner.work_dir)
            name = f'iter_{iteration}.pth'
            path = f'{folder}/{name}'
            runner.message_hub.update_info(STOP_CHECKPOINT, path)
            runner.save_checkpoint(folder, name, meta=dict(epoch=epoch, iter=iteration), by_epoch=False)
            if is_main_process():
                Path(runner.work_dir, 'last_checkpoint').write_text(path)
        barrier()  # when one process ends, the launcher ends the others
