"""What a checkpoint needs beside mmengine's, so that a resumed run equals one that was never stopped."""

import hashlib
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from reprefine.engine.build import unwrap
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.integrity import find_latest_checkpoint

from .loops import ExactEpochLoop, ExactLoop
from .rng_state import get_rng_state, set_rng_state

KEY = 'resume'
VERSION = 1


def fill_resume_settings(cfg: Config) -> None:
    """Fill in what a resumed run takes from the run before: the newest whole checkpoint and, unless given, the seed.

    Args:
        cfg: Config with ``resume=True``; ``load_from`` and ``randomness`` are changed in place.

    Raises:
        UserError: If all checkpoints in the work dir are damaged.
    """
    checkpoint = cfg.get('load_from') or find_latest_checkpoint(cfg.work_dir)
    if checkpoint is None:
        return
    cfg.load_from = checkpoint
    randomness = cfg.get('randomness') or {}
    if randomness.get('seed') is None and '://' not in checkpoint:
        seed = read_checkpoint(checkpoint, mmap=True).get('meta', {}).get('seed')
        cfg.randomness = {**randomness, 'seed': seed}


class ResumeHook(Hook):
    """Keeps the place in the data, and what differs between the processes, in the checkpoint's entry ``resume``.

    The entry holds the pass over the data, the number of its batches that are done and of all that it has, whether the
    validation that is due there has been done, and for each rank its random state, its accumulated gradients and those
    buffers in which it differs from others. Validation is kept from touching the random state of the training.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.training_state: dict[str, Any] | None = None  # while a validation runs
        self._entry: dict[str, Any] | None = None
        self._read: dict[str, Any] | None = None

    def gather(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Collect the entry of the next checkpoint; every rank takes part.

        Args:
            runner: The runner.
            epoch: Epochs that the checkpoint says to be done.
            iteration: Iterations that it says to be done.
        """
        loop = runner.train_loop
        if not isinstance(loop, ExactLoop):
            self._entry = None
            return
        model = unwrap(runner.model)
        own = dict(
            random=self.training_state or get_rng_state(),
            pass_random=loop.pass_state,
            gradients=accumulated_gradients(model, runner.optim_wrapper),
            buffers=differing_buffers(model),
        )
        place, batches = loop.place(epoch, iteration), len(loop.dataloader)
        validated = self.training_state is not None
        ranks = all_gather_object(own)
        self._entry = dict(version=VERSION, place=place, batches=batches, validated=validated, ranks=ranks)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the entry into a checkpoint of training."""
        if self._entry is not None:
            checkpoint[KEY], self._entry = self._entry, None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember the entry of the checkpoint that the run goes on from."""
        if runner._resume:
            self._read = checkpoint.get(KEY, {})

    def before_train(self, runner: Runner) -> None:
        """Go to where the checkpoint was written, and make up for a validation that was due there."""
        entry, self._read = self._read, None
        loop = runner.train_loop
        if entry is None or not isinstance(loop, ExactLoop):
            return
        if isinstance(loop, ExactEpochLoop) and entry.get('place', [None])[0] != loop.epoch:
            entry = {}  # somebody changed the counters
        self._find_place(runner, entry)
        own = self._own_state(runner, entry)
        if own is not None:
            restore(unwrap(runner.model), own)
            set_rng_state(own['random'])
            loop.awaited, loop.pass_state = own['random'], own['pass_random']
        for hook in runner.hooks:
            if isinstance(hook, EarlyStoppingHook) and replay_early_stopping(hook, runner.message_hub):
                runner.logger.warning('The run has stopped early already: EarlyStoppingHook decides whether it goes on')
                loop.stop_training = True
        if not entry.get('validated') and loop.is_validation_due():
            runner.logger.info('The validation that was due at the checkpoint is done now')
            runner.val_loop.run()

    def _find_place(self, runner: Runner, entry: dict[str, Any]) -> None:
        loop = runner.train_loop
        if entry.get('version') == VERSION:
            epoch, batch = entry['place']
            former, now = len(entry['ranks']) / entry['batches'], get_world_size() / len(loop.dataloader)
            loop.seek(epoch, batch if former == now else min(round(batch * former / now), len(loop.dataloader)))
        elif isinstance(loop, ExactEpochLoop):
            batch = loop.iter - loop.epoch * len(loop.dataloader)
            loop.seek(loop.epoch, batch if 0 <= batch <= len(loop.dataloader) else 0)

    def _own_state(self, runner: Runner, entry: dict[str, Any]) -> dict[str, Any] | None:
        reason = None
        if entry.get('version') != VERSION:
            reason = 'the checkpoint was written without the random state'
        elif len(entry['ranks']) != get_world_size():
            reason = f'the checkpoint was written by {len(entry["ranks"])} processes'
        elif entry['batches'] != len(runner.train_loop.dataloader):
            reason = f'an epoch had {entry["batches"]} batches'
        if reason is None:
            return entry['ranks'][get_rank()]
        runner.logger.warning(f'Resumed, but not exactly as if the run had not been stopped: {reason}')
        return None

    def before_val(self, runner: Runner) -> None:
        """Take down the random state of the training."""
        self.training_state = get_rng_state()

    def after_val(self, runner: Runner) -> None:
        """Put it back."""
        if self.training_state is not None:
            set_rng_state(self.training_state)
        self.training_state = None


def replay_early_stopping(hook: EarlyStoppingHook, message_hub: MessageHub) -> bool:
    """Bring a new hook to where it was after the validations whose scores a message hub holds.

    Args:
        hook: The hook; its best score and its count of validations without progress change.
        message_hub: The message hub of the resumed run.

    Returns:
        Whether it decided to stop the run.
    """
    scores = message_hub.log_scalars.get(f'val/{hook.monitor}')
    decisions = [] if scores is None else [hook._check_stop_condition(score)[0] for score in scores.data[0].tolist()]
    return any(decisions)


def accumulated_gradients(model: nn.Module, optim_wrapper: Any) -> dict[str, Tensor]:
    """Return the gradients that wait for more of their kind before the next update; mostly there are none.

    Args:
        model: The model without its distributed wrapper.
        optim_wrapper: mmengine's ``OptimWrapper`` or ``OptimWrapperDict``.
    """
    wrappers = [optim_wrapper] if isinstance(optim_wrapper, OptimWrapper) else []
    if hasattr(optim_wrapper, 'optim_wrappers'):  # an OptimWrapperDict is an OptimWrapper, but counts nothing
        wrappers = list(optim_wrapper.optim_wrappers.values())
    if all(wrapper._inner_count % wrapper._accumulative_counts == 0 for wrapper in wrappers):
        return {}
    return {name: p.grad.detach().cpu() for name, p in model.named_parameters() if p.grad is not None}


def differing_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers in which the processes differ, such as BatchNorm's statistics; a single process has none."""
    if get_world_size() == 1:
        return {}
    buffers = {name: buffer.detach().cpu() for name, buffer in model.named_buffers()}
    digests = {name: hashlib.sha256(b.reshape(-1).view(torch.uint8).numpy()).digest() for name, b in buffers.items()}
    every = all_gather_object(digests)
    return {name: buffer for name, buffer in buffers.items() if len({digests[name] for digests in every}) > 1}


@torch.no_grad()
def restore(model: nn.Module, state: dict[str, Any]) -> None:
    """Put back the gradients and buffers of a rank."""
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name, gradient in state['gradients'].items():
        parameters[name].grad = gradient.to(parameters[name], copy=True)
    for name, buffer in state['buffers'].items():
        buffers[name].copy_(buffer)
