"""The Runner of all tools: mmengine's, with safe and checked loading of checkpoints."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from reprefine.registry import RUNNERS

from . import durable
from .checkpoint import check_match, load_weights, raise_together, read_checkpoint
from .checkpoint_hook import SafeCheckpointHook
from .corrupt_hook import build_tolerant_loader
from .data_check import check_batches, check_classes, told_if_empty
from .errors import UserError
from .faults import name_unreadable_files
from .pretrained import check_pretrained

LOAD_FLOOR = 0.5


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """mmengine's Runner that reads checkpoints weights-only and says what is wrong with them.

    The top-level config key ``load_floor`` is the share of the model that a loaded checkpoint must fill, default 0.5;
    it also holds for parts of the model whose ``init_cfg`` takes a ``prefix`` out of a checkpoint. Resuming and testing
    ask for the whole model.
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for several processes; without a GPU, SyncBN layers become the BatchNorm that a CPU can compute."""
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        if not self._resume:  # the weights of the run itself follow
            with raise_together():
                check_pretrained(self._bare_model(), self.cfg.get('load_floor', LOAD_FLOOR))
        super()._init_model_weights()

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader whose data set names the file it cannot read."""
        with told_if_empty(dataloader):
            loader = MMEngineRunner.build_dataloader(_with_plain_collate(dataloader), *args, **kwargs)
        check_batches(loader, dataloader)
        name_unreadable_files(loader.dataset)
        return loader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop over a data set that replaces up to ``max_corrupt`` unreadable samples, default 0."""
        if self._train_dataloader is not None:
            build_tolerant_loader(self)
            check_classes(self.cfg.model, self._train_dataloader.dataset)
        return super().build_train_loop(loop)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook; mmengine's ``CheckpointHook`` becomes :class:`.checkpoint_hook.SafeCheckpointHook`."""
        super().register_hook(hook, priority)
        for registered in self._hooks:
            if type(registered) is CheckpointHook:
                registered.__class__ = SafeCheckpointHook

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
        self._has_loaded = True
        level = logging.WARNING if match.unfilled or match.unused else logging.INFO
        self.logger.log(level, f'Load checkpoint from {filename}: {match}')
        return _without_config(checkpoint)

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


def _without_config(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Drop the config text: mmengine's ``resume`` would run it as Python."""
    if 'meta' not in checkpoint:
        return checkpoint
    return {**checkpoint, 'meta': {key: value for key, value in checkpoint['meta'].items() if key != 'config'}}
