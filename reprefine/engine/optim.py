"""Mixed precision without a GPU, where mmengine's own wrapper refuses to run, and scaled learning rates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import BaseOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Runs the forward pass under bfloat16 autocast on the CPU.

    The loss is not scaled: bfloat16 has the range of float32, so that small gradients do not vanish.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast, and what gradient accumulation asks for.

        Args:
            model: The model that is trained.
        """
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


@contextmanager
def sync_default_lr(optim_wrapper: BaseOptimWrapper) -> Iterator[None]:
    """Let an optimiser's own learning rate follow what is done within to those of its parameter groups.

    It is what a group has that names no rate; schedules take shares of it, and the log shows it as ``base_lr``.
    """
    wrappers = list(optim_wrapper.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    before = [_summed_lr(wrapper) for wrapper in wrappers]
    yield
    for wrapper, lr in zip(wrappers, before, strict=True):
        ratio = _summed_lr(wrapper) / lr if lr else 1.0
        for settings in (wrapper.optimizer.defaults, wrapper.base_param_settings or {}):
            if 'lr' in settings:
                settings['lr'] *= ratio


def _summed_lr(wrapper: OptimWrapper) -> float:
    return sum(group['lr'] for group in wrapper.optimizer.param_groups)


def use_amp(optim_wrapper: dict, on_gpu: bool) -> None:
    """Change the config of an optimiser wrapper, in place, to mixed precision: mmengine's, or bfloat16 on the CPU.

    Args:
        optim_wrapper: Config of the wrapper.
        on_gpu: Whether the model is on a GPU.

    Raises:
        UserError: If the wrapper is of a class of its own.
    """
    if optim_wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp: optim_wrapper.type is {optim_wrapper["type"]}; it must be OptimWrapper')
    if on_gpu:
        optim_wrapper['type'] = 'AmpOptimWrapper'
        optim_wrapper.setdefault('loss_scale', 'dynamic')
        return
    optim_wrapper['type'] = 'reprefine.CPUAmpOptimWrapper'
    for option in ('loss_scale', 'dtype', 'use_fsdp'):
        optim_wrapper.pop(option, None)
