"""The Runner of all tools: mmengine's, with safe and checked loading of checkpoints."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseTTAModel, is_model_wrapper, revert_sync_batchnorm
from mmengine.optim import BaseOptimWrapper
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.runner import ConfigType
from torch import nn
from torch.utils.data import DataLoader

from reprefine.registry import RUNNERS

from .checkpoints import durable
from .checkpoints.checkpoint import raise_together, read_checkpoint, without_config
from .checkpoints.checkpoint_hook import SafeCheckpointHook
from .checkpoints.pretrained import check_pretrained, check_same_files, demand_floor
from .checkpoints.weights import check_finite, check_match, load_weights
from .datasets.corrupt_hook import build_tolerant_loader
from .datasets.data_check import check_batches, check_classes, told_if_empty
from .datasets.faults import name_unreadable_files
from .errors import UserError
from .finite_check.finite import add_finite_check
from .resuming.data_loader import end_workers, seekable
from .resuming.interrupt import StopHook, last_checkpoint, resumable
from .resuming.loops import exact
from .resuming.resume import ResumeHook, settle_resume
from .speed.averaging import average_at_once, make_hook_average_at_once
from .speed.copies import copies_overlap, copy_without_waiting
from .speed.foreach import speed_up
from .speed.message_hub import defer

LOAD_FLOOR = 0.5


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """mmengine's Runner that reads checkpoints weights-only and says what is wrong with them.

    The top-level config key ``load_floor`` is the share of the model that a loaded checkpoint must fill, default 0.5;
    it also holds for the parts of the model whose ``init_cfg`` names a checkpoint. Resuming and testing
    ask for the whole model.
    """

    @classmethod
    def from_cfg(cls, cfg: ConfigType) -> 'Runner':
        """Build from a config; a run that is resumed finds its checkpoint and its seed."""
        if cfg.get('resume'):
            settle_resume(cfg)
        return super().from_cfg(cfg)

    def train(self) -> nn.Module:
        """Train, and answer signals; see :func:`.interrupt.resumable`."""
        with resumable(self.work_dir), self._ending_workers():
            return super().train()

    def test(self) -> dict:
        """Test, and end the workers whatever happens."""
        with self._ending_workers():
            return super().test()

    @contextmanager
    def _ending_workers(self) -> Iterator[None]:
        try:
            yield
        finally:
            for loop in (self._train_loop, self._val_loop, self._test_loop):
                if isinstance(loop, BaseLoop):
                    end_workers(loop.dataloader)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop over a data set that replaces up to ``max_corrupt`` unreadable samples, default 0.

        The loops of mmengine go on where a run was stopped, see :func:`.loops.exact`.
        """
        if self._train_dataloader is not None:
            build_tolerant_loader(self)
            check_classes(self.cfg.get('model'), self._train_dataloader.dataset)
        built = exact(super().build_train_loop(loop))
        seekable(built.dataloader, self.seed)  # the loader may have been given, not built
        return built

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the hooks of the config, and those of every run."""
        super().register_hooks(*args, **kwargs)
        self._resume_hook, self._stop_hook = ResumeHook(), StopHook()
        for hook in (self._resume_hook, self._stop_hook):
            self.register_hook(hook)
        add_finite_check(self)

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Build the message hub as mmengine does; it reads values from the device when they are looked at."""
        return defer(super().build_message_hub(message_hub))

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper | dict) -> BaseOptimWrapper:
        """Build the optimiser as mmengine does; equal parameter groups are updated together."""
        return speed_up(super().build_optim_wrapper(optim_wrapper))

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for several processes; without a GPU, SyncBN layers become the BatchNorm that a CPU can compute."""
        average_at_once(model)
        if copies_overlap(self.cfg):
            copy_without_waiting(model)
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        # When a run is resumed, the weights of the run itself follow.
        model, floor = self._bare_model(), 0.0 if self._resume else self.cfg.get('load_floor', LOAD_FLOOR)
        if not self._resume:
            with raise_together():
                check_pretrained(model, floor)
        check_same_files(model)
        with demand_floor(model, floor):
            super()._init_model_weights()

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, *args: Any, **kwargs: Any
    ) -> DataLoader:
        """Build a data loader that can begin anywhere, and whose data set names the file it cannot read."""
        with told_if_empty(dataloader):
            loader = MMEngineRunner.build_dataloader(_with_plain_collate(dataloader), seed, *args, **kwargs)
        check_batches(loader, dataloader)
        name_unreadable_files(loader.dataset)
        return seekable(loader, seed)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook; mmengine's ``CheckpointHook`` becomes :class:`.checkpoint_hook.SafeCheckpointHook`.

        Averages of weights are updated by few calls instead of one for each parameter.

        Args:
            hook: The hook or its config.
            priority: As mmengine's.
        """
        super().register_hook(hook, priority)
        for registered in self._hooks:
            if type(registered) is CheckpointHook:
                registered.__class__ = SafeCheckpointHook
            if isinstance(registered, EMAHook):
                make_hook_average_at_once(registered)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint as mmengine does, on a local disk whole or not at all, with its checksum beside it.

        Args:
            out_dir: Folder.
            filename: Name of the file.
            *args: As mmengine's.
            **kwargs: As mmengine's.

        Raises:
            UserError: If the disk is full.
        """
        if kwargs.get('save_optimizer', True):
            self._gather_resume_state(kwargs)
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        target = Path(out_dir, filename)
        partial = target.with_name(durable.partial_name(filename))
        try:
            with durable.told_if_full(target):
                super().save_checkpoint(out_dir, partial.name, *args, **kwargs)
                if is_main_process():
                    durable.complete(partial, target)
        finally:
            if is_main_process():
                partial.unlink(missing_ok=True)

    def _gather_resume_state(self, arguments: dict[str, Any]) -> None:
        """Collect from all processes what resuming needs; the counters follow from the arguments as in mmengine."""
        by_epoch, meta = arguments.get('by_epoch', True), arguments.get('meta') or {}
        epoch = meta.get('epoch', self.epoch + by_epoch)
        iteration = meta.get('iter', self.iter + (not by_epoch))
        self.call_hook('before_gather_state')
        self._resume_hook.gather(self, epoch, iteration)
        self._stop_hook.saved_iteration = iteration

    def load_or_resume(self) -> None:
        """Load what the run starts from; without a name, resuming takes the newest whole checkpoint."""
        if self._resume and self._load_from is None:
            self._load_from = last_checkpoint(self.work_dir)
            self._resume = self._load_from is not None
        super().load_or_resume()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continue the run that wrote ``filename``.

        Raises:
            UserError: If the file holds weights only, or those of another model.
        """
        self._resume = True  # asks load_checkpoint for a full match, also when resume is called directly
        super().resume(filename, *args, **kwargs)

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
    ) -> dict[str, Any]:
        """Load weights; every rank raises when one fails.

        Args:
            filename: Local path or URL.
            map_location: As in :func:`torch.load`.
            strict: Whether the model must be filled completely.
            revise_keys: Pairs of pattern and replacement for the names in the file.

        Returns:
            The checkpoint.

        Raises:
            UserError: If the file is missing, damaged, unsafe to load, or fills too little of the model.
        """
        with raise_together():
            checkpoint = read_checkpoint(filename, map_location)
            if self._resume and not {'meta', 'message_hub', 'optimizer'} <= checkpoint.keys():
                raise UserError(f'checkpoint {filename} holds no training state: give it as load_from, not to resume')
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        floor = 1.0 if strict or self._resume else self.cfg.get('load_floor', LOAD_FLOOR)
        with raise_together():
            model = self._bare_model()
            # A refinement starts from its baseline's checkpoint, which cannot hold what the refinement adds.
            may_lack = getattr(model, 'added_keys', ()) if floor < 1 else ()
            match = load_weights(model, checkpoint, revise_keys, may_lack)
            check_match(match, filename, floor)
            check_finite(model, filename)
        self._has_loaded = True
        level = logging.INFO if match.exact else logging.WARNING
        self.logger.log(level, f'Load checkpoint from {filename}: {match}')
        return without_config(checkpoint)

    def _bare_model(self) -> nn.Module:
        """Return the model without the wrappers whose prefix checkpoints do not carry."""
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        return model


def _with_plain_collate(dataloader: DataLoader | dict) -> DataLoader | dict:
    """Drop the scope that inheriting another package's config leaves: mmengine would hand it to the function."""
    collate = dataloader.get('collate_fn') if isinstance(dataloader, dict) else None
    if not isinstance(collate, dict):
        return dataloader
    return {**dataloader, 'collate_fn': {key: value for key, value in collate.items() if key != '_scope_'}}
