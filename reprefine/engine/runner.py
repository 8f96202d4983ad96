"""The Runner that all tools build."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from mmengine.runner.runner import ConfigType
from torch import nn
from torch.utils.data import DataLoader

from reprefine.engine.build import class_of
from reprefine.engine.checkpoints.checkpoint_hook import SafeCheckpointHook
from reprefine.engine.checkpoints.checkpoint_runner import CheckpointRunner
from reprefine.engine.checkpoints.integrity import refuse_existing_run
from reprefine.engine.config_check.deprecated import rename_deprecated_keys
from reprefine.engine.data_checks.class_names import check_class_names, check_same_numbers
from reprefine.engine.data_checks.corrupt_samples_hook import build_replacing_loader
from reprefine.engine.data_checks.loader_checks import check_batches, check_classes, raise_if_empty
from reprefine.engine.data_checks.unreadable import name_unreadable_files
from reprefine.engine.finite_check.hook import add_finite_check
from reprefine.engine.optim import sync_default_lr
from reprefine.engine.resuming.data_loader import make_seekable, shutdown_workers
from reprefine.engine.resuming.interrupt import StopHook, stop_on_signals
from reprefine.engine.resuming.loops import to_exact_loop
from reprefine.engine.resuming.resume import ResumeHook, fill_resume_settings
from reprefine.engine.resuming.schedule import ScheduleHook
from reprefine.engine.speed.averaging import use_foreach_averages
from reprefine.engine.speed.foreach import speed_up_optim_wrapper
from reprefine.engine.speed.message_hub import get_deferred_hub
from reprefine.engine.speed.non_blocking import set_non_blocking, should_copy_non_blocking
from reprefine.registry import RUNNERS
from reprefine.set_up import set_up


@RUNNERS.register_module()
class Runner(CheckpointRunner):
    """mmengine's Runner with the loops, data loaders, hooks and checkpoints of :mod:`reprefine.engine`.

    Its constructor calls :func:`reprefine.set_up.set_up`.
    """

    _train_dataloader: DataLoader | dict | None

    @functools.wraps(MMEngineRunner.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        set_up()
        super().__init__(*args, **kwargs)

    @classmethod
    def from_cfg(cls, cfg: ConfigType) -> 'Runner':
        """Build from a config; to resume, the latest checkpoint and its seed are found."""
        rename_deprecated_keys(cfg)
        if cfg.get('resume'):
            fill_resume_settings(cfg)
        return super().from_cfg(cfg)

    def train(self) -> nn.Module:
        """Train, and stop on signals, see :func:`.interrupt.stop_on_signals`.

        Raises:
            UserError: If nothing is resumed and the work dir has checkpoints of another run.
        """
        if not self._resume:
            refuse_existing_run(self.work_dir)
        with stop_on_signals(self.work_dir), self._shutting_down_workers():
            return super().train()

    def test(self) -> dict:
        """Test, and shut down the workers also after an error."""
        with self._shutting_down_workers():
            return super().test()

    @contextmanager
    def _shutting_down_workers(self) -> Iterator[None]:
        try:
            yield
        finally:
            for loop in (self._train_loop, self._val_loop, self._test_loop):
                if isinstance(loop, BaseLoop):
                    shutdown_workers(loop.dataloader)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop over a dataset that replaces up to ``max_corrupt_samples`` unreadable samples, default 0.

        Loops of mmengine resume at the batch where a run was stopped, see :func:`.loops.to_exact_loop`.
        """
        if self._train_dataloader is not None:
            build_replacing_loader(self)
            check_classes(self.cfg.get('model'), self._train_dataloader.dataset)
            self._train_dataloader = make_seekable(self._train_dataloader, self.seed)  # if it was not built here
        return super().build_train_loop(to_exact_loop(loop))

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, and check that its classes have the same numbers as in training."""
        built = super().build_val_loop(loop)
        if isinstance(self._train_dataloader, DataLoader):
            check_same_numbers(self._train_dataloader.dataset, built.dataloader.dataset)
        return built

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the hooks of the config and those that every run has."""
        super().register_hooks(*args, **kwargs)
        self._resume_hook, self._stop_hook, self._schedule_hook = ResumeHook(), StopHook(), ScheduleHook()
        for hook in (self._resume_hook, self._stop_hook, self._schedule_hook):
            self.register_hook(hook)
        add_finite_check(self)

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Build a message hub that copies values from the device only when they are read."""
        if message_hub is None:
            get_deferred_hub(self._experiment_name)
        return super().build_message_hub(message_hub)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper | dict) -> BaseOptimWrapper:
        """Build the optimizer wrapper as mmengine does; parameter groups of equal settings use one foreach call."""
        return speed_up_optim_wrapper(super().build_optim_wrapper(optim_wrapper))

    def scale_lr(self, optim_wrapper: BaseOptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rates of the parameter groups as mmengine does, and the default one of the optimizer."""
        with sync_default_lr(optim_wrapper):
            super().scale_lr(optim_wrapper, auto_scale_lr)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for distributed training; without a GPU, SyncBN layers become BatchNorm, which works on a CPU."""
        use_foreach_averages(model)
        if should_copy_non_blocking(self.cfg):
            set_non_blocking(model)
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        if self.distributed and not any(parameter.requires_grad for parameter in model.parameters()):
            return model.to(get_device())  # DistributedDataParallel refuses a model without trainable parameters
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, *args: Any, **kwargs: Any
    ) -> DataLoader:
        """Build a data loader that can start at any batch, and whose dataset names files that it cannot read."""
        with raise_if_empty(dataloader):
            loader = MMEngineRunner.build_dataloader(_without_collate_scope(dataloader), seed, *args, **kwargs)
        check_batches(loader, dataloader)
        check_class_names(loader.dataset)
        name_unreadable_files(loader.dataset)
        return make_seekable(loader, seed)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook; the config of a ``CheckpointHook`` builds :class:`.checkpoint_hook.SafeCheckpointHook`.

        Args:
            hook: The hook or its config.
            priority: As mmengine's.
        """
        if isinstance(hook, dict) and class_of(HOOKS, hook) is CheckpointHook:
            hook = {**hook, 'type': SafeCheckpointHook}
        super().register_hook(hook, priority)

    def load_or_resume(self) -> None:
        """Load or resume as :class:`CheckpointRunner` does; hooks have built their averages of weights before."""
        for hook in self.hooks:
            if isinstance(hook, EMAHook):
                use_foreach_averages(hook.ema_model)
        super().load_or_resume()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continue the run that wrote ``filename``.

        Raises:
            UserError: If it was trained with other optimizer settings or another schedule than the config's.
        """
        self._schedule_hook.before_resume(self)
        super().resume(filename, *args, **kwargs)
        self._schedule_hook.after_resume(self)
        self._stop_hook.after_resume(self, filename)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load weights; when resuming, compare the settings before they are restored."""
        checkpoint = super().load_checkpoint(*args, **kwargs)
        self._schedule_hook.check(self, checkpoint)
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint, with the state for an exact resume if it has an optimizer."""
        if kwargs.get('save_optimizer', True):
            self._gather_resume_state(kwargs)
        super().save_checkpoint(out_dir, filename, *args, **kwargs)

    def _gather_resume_state(self, arguments: dict[str, Any]) -> None:
        """Collect the state for an exact resume from all ranks; epoch and iteration are those of mmengine."""
        by_epoch, meta = arguments.get('by_epoch', True), arguments.get('meta') or {}
        epoch = meta.get('epoch', self.epoch + by_epoch)
        iteration = meta.get('iter', self.iter + (not by_epoch))
        self.call_hook('before_gather_state')
        self._resume_hook.gather(self, epoch, iteration)
        self._stop_hook.saved_iteration = iteration


def _without_collate_scope(dataloader: DataLoader | dict) -> DataLoader | dict:
    """Drop ``_scope_``, set by inheriting from another package, which mmengine would pass to the collate function."""
    if not isinstance(dataloader, dict) or not isinstance(collate := dataloader.get('collate_fn'), dict):
        return dataloader
    return {**dataloader, 'collate_fn': {key: value for key, value in collate.items() if key != '_scope_'}}
