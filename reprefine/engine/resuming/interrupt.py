"""Stopping a training run by a signal, and finding its way back."""

import os
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

from .loops import ExactLoop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """The user or the scheduler asked the process to stop.

    Attributes:
        signal: The signal that did.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


class _Request:
    """The signal that waits for the end of the iteration, if any; whether one may wait."""

    number = 0
    may_wait = False


_request = _Request()


@contextmanager
def resumable(work_dir: str) -> Iterator[None]:
    """Answer SIGINT, SIGTERM and SIGUSR1 with one line that says how to go on, and exit with 128 + the signal's number.

    While a model is trained, the iteration is finished and a checkpoint is written before; a second signal stops at
    once. May be nested.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        at_once = not _request.may_wait or _request.number
        _request.number = number  # a library that catches all exceptions may swallow the one below
        if at_once:
            raise Interrupted(number)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises when a worker got the signal, too

    previous = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except (Exception, Interrupted) as error:
        interrupt = find_interruption(error)
        if not isinstance(interrupt, Interrupted):
            raise
        if os.environ.get('RANK', '0') == '0':
            print(f'\n{_resume_hint(interrupt, work_dir)}', file=sys.stderr)
        raise SystemExit(128 + interrupt.signal) from None
    finally:
        _request.number, _request.may_wait = 0, False
        for number, handler in previous.items():
            signal.signal(number, handler)


def _resume_hint(interrupt: Interrupted, work_dir: str) -> str:
    checkpoint = find_latest_checkpoint(work_dir)
    if checkpoint is None:
        return f'stopped by {interrupt.signal.name} before the first checkpoint'
    command = shlex.join(['python', *sys.argv, *([] if '--resume' in sys.argv else ['--resume'])])
    return f'stopped by {interrupt.signal.name}; continue from {checkpoint} with: {command}'


class StopHook(Hook):
    """Ends the run after the iteration in which a signal came, with a checkpoint; all processes at the same iteration.

    Several processes tell each other of signals through a group of their own on the CPU. The answer is looked at one
    iteration later, so that nobody waits for it, neither for the other processes nor for a GPU.
    """

    priority = 'LOWEST'  # after every hook that counts or saves

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._question: tuple[torch.Tensor, dist.Work] | None = None
        self.saved_iteration = -1  # the last of which there is a checkpoint of training

    def before_train(self, runner: Runner) -> None:
        """Let signals wait from now on."""
        if runner.distributed and runner.world_size > 1:
            self._group = dist.new_group(backend='gloo')
        _request.may_wait = True

    def after_resume(self, runner: Runner, checkpoint: str) -> None:
        """Know of the checkpoint that the run continues from, so that no later state of its iteration replaces it.

        In an uninterrupted run the end of an epoch and a validation follow a checkpoint and do not write it again.
        """
        pointer = Path(runner.work_dir, 'last_checkpoint')
        if pointer.is_file() and Path(pointer.read_text().strip()).resolve() == Path(checkpoint).resolve():
            self.saved_iteration = runner.iter

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stop, if any process was told to.

        Raises:
            Interrupted: When the checkpoint is written.
        """
        number = _request.number if self._group is None else self._of_any_rank(_request.number)
        if number:
            _request.number = number
            if isinstance(runner.train_loop, ExactLoop):
                self._save(runner, runner.epoch, runner.iter + 1)
            raise Interrupted(number)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop in the middle of a validation; several processes, which may have unlike shares of it, finish it.

        Raises:
            Interrupted: When a checkpoint of the state before the validation is written.
        """
        if _request.number and self._group is None:
            if isinstance(runner.train_loop, ExactLoop):
                self._leave_validation(runner)
                self._save(runner, runner.epoch, runner.iter)
            raise Interrupted(_request.number)

    def after_train(self, runner: Runner) -> None:
        """Stop at once from now on."""
        _request.may_wait = False

    def _of_any_rank(self, number: int) -> int:
        question, self._question = self._question, None
        answer = 0
        if question is not None:
            question[1].wait()
            answer = int(question[0])
        told = torch.tensor(number)
        self._question = (told, dist.all_reduce(told, dist.ReduceOp.MAX, group=self._group, async_op=True))
        return answer

    def _leave_validation(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook._swap_ema_parameters()
            elif hasattr(hook, 'training_state'):
                hook.after_val(runner)

    def _save(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Write ``iter_N.pth``, unless this iteration has its checkpoint already; return when it is on the disk."""
        if self.saved_iteration != iteration:
            folder = next((hook.out_dir for hook in runner.hooks if isinstance(hook, CheckpointHook)), runner.work_dir)
            name = f'iter_{iteration}.pth'
            path = f'{folder}/{name}'
            runner.message_hub.update_info(STOP_CHECKPOINT, path)
            runner.save_checkpoint(folder, name, meta=dict(epoch=epoch, iter=iteration), by_epoch=False)
            if is_main_process():
                Path(runner.work_dir, 'last_checkpoint').write_text(path)
        barrier()  # a process that ends has the launcher end the others
