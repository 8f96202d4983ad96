"""The Runner of all tools."""

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
from reprefine.engine.config_check.deprecated import rename_keys
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
from reprefine.engine.speed.averaging import make_hook_use_foreach, use_foreach_averages
from reprefine.engine.speed.foreach import speed_up_optim_wrapper
from reprefine.engine.speed.message_hub import get_deferred_hub
from reprefine.engine.speed.non_blocking import set_non_blocking, should_copy_non_blocking
from reprefine.registry import RUNNERS
from reprefine.set_up import set_up


@RUNNERS.register_module()
class Runner(CheckpointRunner):
    """mmengine's Runner with what :mod:`reprefine.engine` adds: its loops, loaders, hooks and checkpoints.

    Building one sets the process up (:func:`reprefine.set_up.set_up`).
    """

    @functools.wraps(MMEngineRunner.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        set_up()
        super().__init__(*args, **kwargs)

    @classmethod
    def from_cfg(cls, cfg: ConfigType) -> 'Runner':
        """Build from a config; a run that is resumed finds its checkpoint and its seed."""
        rename_keys(cfg)
        if cfg.get('resume'):
            fill_resume_settings(cfg)
        return super().from_cfg(cfg)

    def train(self) -> nn.Module:
        """Train, and answer signals; see :func:`.interrupt.stop_on_signals`.

        Raises:
            UserError: If nothing is resumed and the work directory holds checkpoints of a run already.
        """
        if not self._resume:
            refuse_existing_run(self.work_dir)
        with stop_on_signals(self.work_dir), self._ending_workers():
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
                    shutdown_workers(loop.dataloader)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop over a data set that replaces up to ``max_corrupt_samples`` unreadable samples, default 0.

        The loops of mmengine go on where a run was stopped, see :func:`.loops.to_exact_loop`.
        """
        if self._train_dataloader is not None:
            build_replacing_loader(self)
            check_classes(self.cfg.get('model'), self._train_dataloader.dataset)
            self._train_dataloader = make_seekable(self._train_dataloader, self.seed)  # one that was given, not built
        return super().build_train_loop(to_exact_loop(loop))

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop; its classes must have the numbers that they have in training."""
        built = super().build_val_loop(loop)
        if isinstance(self._train_dataloader, DataLoader):
            check_same_numbers(self._train_dataloader.dataset, built.dataloader.dataset)
        return built

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the hooks of the config, and those of every run."""
        super().register_hooks(*args, **kwargs)
        self._resume_hook, self._stop_hook, self._schedule_hook = ResumeHook(), StopHook(), ScheduleHook()
        for hook in (self._resume_hook, self._stop_hook, self._schedule_hook):
            self.register_hook(hook)
        add_finite_check(self)

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Build the message hub as mmengine does; it reads values from the device when they are looked at."""
        if message_hub is None:
            get_deferred_hub(self._experiment_name)
        return super().build_message_hub(message_hub)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper | dict) -> BaseOptimWrapper:
        """Build the optimiser as mmengine does; equal parameter groups are updated together."""
        return speed_up_optim_wrapper(super().build_optim_wrapper(optim_wrapper))

    def scale_lr(self, optim_wrapper: BaseOptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rates of the parameter groups as mmengine does, and that of the optimiser itself."""
        with sync_default_lr(optim_wrapper):
            super().scale_lr(optim_wrapper, auto_scale_lr)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for several processes; without a GPU, SyncBN layers become the BatchNorm that a CPU can compute."""
        use_foreach_averages(model)
        if should_copy_non_blocking(self.cfg):
            set_non_blocking(model)
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        if self.distributed and not any(parameter.requires_grad for parameter in model.parameters()):
            return model.to(get_device())  # DistributedDataParallel refuses what has nothing to train
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, *args: Any, **kwargs: Any
    ) -> DataLoader:
        """Build a data loader that can begin anywhere, and whose data set names the file it cannot read."""
        with raise_if_empty(dataloader):
            loader = MMEngineRunner.build_dataloader(_with_plain_collate(dataloader), seed, *args, **kwargs)
        check_batches(loader, dataloader)
        check_class_names(loader.dataset)
        name_unreadable_files(loader.dataset)
        return make_seekable(loader, seed)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """Register a hook; the config of a ``CheckpointHook`` builds :class:`.checkpoint_hook.SafeCheckpointHook`.

        Averages of weights are updated by few calls instead of one for each parameter.

        Args:
            hook: The hook or its config.
            priority: As mmengine's.
        """
        if isinstance(hook, dict) and class_of(HOOKS, hook) is CheckpointHook:
            hook = {**hook, 'type': SafeCheckpointHook}
        super().register_hook(hook, priority)
        for registered in self._hooks:
            if isinstance(registered, EMAHook):
                make_hook_use_foreach(registered)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Continue the run that wrote ``filename``.

        Raises:
            UserError: If it was trained with other optimiser settings or another schedule than the config's.
        """
        self._schedule_hook.before_resume(self)
        super().resume(filename, *args, **kwargs)
        self._schedule_hook.after_resume(self)
        self._stop_hook.after_resume(self, filename)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load weights; of a run that is resumed, compare the settings before they are restored."""
        checkpoint = super().load_checkpoint(*args, **kwargs)
        self._schedule_hook.check(self, checkpoint)
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint; one of training holds what resuming needs."""
        if kwargs.get('save_optimizer', True):
            self._gather_resume_state(kwargs)
        super().save_checkpoint(out_dir, filename, *args, **kwargs)

    def _gather_resume_state(self, arguments: dict[str, Any]) -> None:
        """Collect from all processes what resuming needs; the counters follow from the arguments as in mmengine."""
        by_epoch, meta = arguments.get('by_epoch', True), arguments.get('meta') or {}
        epoch = meta.get('epoch', self.epoch + by_epoch)
        iteration = meta.get('iter', self.iter + (not by_epoch))
        self.call_hook('before_gather_state')
        self._resume_hook.gather(self, epoch, iteration)
        self._stop_hook.saved_iteration = iteration


def _with_plain_collate(dataloader: DataLoader | dict) -> DataLoader | dict:
    """Drop the scope that inheriting another package's config leaves: mmengine would hand it to the function."""
    collate = dataloader.get('collate_fn') if isinstance(dataloader, dict) else None
    if not isinstance(collate, dict):
        return dataloader
    return {**dataloader, 'collate_fn': {key: value for key, value in collate.items() if key != '_scope_'}}
