"""The entry ``resume`` of a checkpoint: what mmengine does not save, but an exactly resumed run needs."""

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
    """Set the latest valid checkpoint and, unless given, its seed in the config of a run that is resumed.

    Args:
        cfg: Config with ``resume=True``; ``load_from`` and ``randomness`` are changed in place.

    Raises:
        UserError: If all checkpoints in the work dir are corrupted.
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
    """Saves and restores the entry ``resume`` of a checkpoint.

    The entry holds the epoch of the data, the number of its finished batches and of all its batches, whether the
    validation that is due there is finished, and for each rank its RNG state, its accumulated gradients and the buffers
    that differ between ranks. A validation does not change the RNG state of the training.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.train_rng_state: dict[str, Any] | None = None  # during a validation
        self._saved_entry: dict[str, Any] | None = None
        self._loaded_entry: dict[str, Any] | None = None

    def gather(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Collect the entry of the next checkpoint from all ranks; every rank has to call this.

        Args:
            runner: The runner.
            epoch: Finished epochs according to the checkpoint.
            iteration: Finished iterations according to the checkpoint.
        """
        loop = runner.train_loop
        if not isinstance(loop, ExactLoop):
            self._saved_entry = None
            return
        model = unwrap(runner.model)
        own = dict(
            random=self.train_rng_state or get_rng_state(),
            pass_random=loop.epoch_rng_state,
            gradients=accumulated_gradients(model, runner.optim_wrapper),
            buffers=differing_buffers(model),
        )
        self._saved_entry = dict(
            version=VERSION,
            place=loop.position(epoch, iteration),
            batches=len(loop.dataloader),
            validated=self.train_rng_state is not None,
            ranks=all_gather_object(own),
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the entry to a checkpoint of training."""
        if self._saved_entry is not None:
            checkpoint[KEY], self._saved_entry = self._saved_entry, None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the entry of the checkpoint from which the run is resumed."""
        if runner._resume:
            self._loaded_entry = checkpoint.get(KEY, {})

    def before_train(self, runner: Runner) -> None:
        """Restore the state of the checkpoint, and run a validation that was due there."""
        entry, self._loaded_entry = self._loaded_entry, None
        loop = runner.train_loop
        if entry is None or not isinstance(loop, ExactLoop):
            return
        if isinstance(loop, ExactEpochLoop) and entry.get('place', [None])[0] != loop.epoch:
            entry = {}  # the counters of the checkpoint were changed
        self._seek(runner, entry)
        own = self._own_state(runner, entry)
        if own is not None:
            restore(unwrap(runner.model), own)
            set_rng_state(own['random'])
            loop.resumed_rng_state, loop.epoch_rng_state = own['random'], own['pass_random']
        for hook in runner.hooks:
            if isinstance(hook, EarlyStoppingHook) and replay_early_stopping(hook, runner.message_hub):
                runner.logger.warning(
                    'The resumed run was stopped early by EarlyStoppingHook and ends here: change the settings of the '
                    'hook to train longer'
                )
                loop.stop_training = True
        if not entry.get('validated') and loop.is_validation_due():
            runner.logger.info('The checkpoint was saved before a validation that was due: it runs now')
            runner.val_loop.run()

    def _seek(self, runner: Runner, entry: dict[str, Any]) -> None:
        """Let the loop start where the checkpoint was saved, or at the corresponding batch of other loaders."""
        loop = runner.train_loop
        if entry.get('version') == VERSION:
            epoch, batch = entry['place']
            saved, current = len(entry['ranks']) / entry['batches'], get_world_size() / len(loop.dataloader)
            loop.seek(epoch, batch if saved == current else min(round(batch * saved / current), len(loop.dataloader)))
        elif isinstance(loop, ExactEpochLoop):
            batch = loop.iter - loop.epoch * len(loop.dataloader)
            loop.seek(loop.epoch, batch if 0 <= batch <= len(loop.dataloader) else 0)

    def _own_state(self, runner: Runner, entry: dict[str, Any]) -> dict[str, Any] | None:
        """Return the state of this rank, or None with a warning if the run cannot be resumed exactly."""
        reason = None
        if entry.get('version') != VERSION:
            reason = 'the checkpoint has no RNG state'
        elif len(entry['ranks']) != get_world_size():
            reason = f'the checkpoint was saved by {len(entry["ranks"])} processes, the run has {get_world_size()}'
        elif entry['batches'] != len(runner.train_loop.dataloader):
            reason = f'an epoch had {entry["batches"]} batches and now has {len(runner.train_loop.dataloader)}'
        if reason is None:
            return entry['ranks'][get_rank()]
        runner.logger.warning(f'Resumed, but not exactly: {reason}')
        return None

    def before_val(self, runner: Runner) -> None:
        """Save the RNG state of the training."""
        self.train_rng_state = get_rng_state()

    def after_val(self, runner: Runner) -> None:
        """Restore the RNG state of the training."""
        if self.train_rng_state is not None:
            set_rng_state(self.train_rng_state)
        self.train_rng_state = None


def replay_early_stopping(hook: EarlyStoppingHook, message_hub: MessageHub) -> bool:
    """Feed the logged validation scores of a resumed run to its ``EarlyStoppingHook``, which has no state dict.

    Args:
        hook: The hook; its best score and its count of validations without progress change.
        message_hub: The message hub of the resumed run.

    Returns:
        Whether the hook decided to stop the run.
    """
    scores = message_hub.log_scalars.get(f'val/{hook.monitor}')
    decisions = [] if scores is None else [hook._check_stop_condition(score)[0] for score in scores.data[0].tolist()]
    return any(decisions)


def accumulated_gradients(model: nn.Module, optim_wrapper: Any) -> dict[str, Tensor]:
    """Return the gradients by parameter name if ``accumulative_counts`` asks for more before the next update, else {}.

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
    """Return the buffers that differ between ranks, such as BatchNorm's statistics; for a single process none do."""
    if get_world_size() == 1:
        return {}
    buffers = {name: buffer.detach().cpu() for name, buffer in model.named_buffers()}
    digests = {name: hashlib.sha256(b.reshape(-1).view(torch.uint8).numpy()).digest() for name, b in buffers.items()}
    of_ranks = all_gather_object(digests)
    return {name: buffer for name, buffer in buffers.items() if len({digests[name] for digests in of_ranks}) > 1}


@torch.no_grad()
def restore(model: nn.Module, state: dict[str, Any]) -> None:
    """Restore the gradients and buffers of a rank."""
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name, gradient in state['gradients'].items():
        parameters[name].grad = gradient.to(parameters[name], copy=True)
    for name, buffer in state['buffers'].items():
        buffers[name].copy_(buffer)
