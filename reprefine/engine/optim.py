"""Mixed precision on the CPU, which mmengine's wrapper does not support, and scaling of the default learning rate."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import BaseOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Runs the forward pass in bfloat16 autocast on the CPU.

    The loss is not scaled: bfloat16 has the range of float32, so that small gradients do not vanish.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast and the context of gradient accumulation.

        Args:
            model: The model that is trained.
        """
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield


@contextmanager
def sync_default_lr(optim_wrapper: BaseOptimWrapper) -> Iterator[None]:
    """Scale an optimiser's default learning rate as its parameter groups are scaled within the block.

    The default applies to groups without a rate, schedulers compute fractions of it, and the log shows it as
    ``base_lr``.

    Args:
        optim_wrapper: Wrapper of one optimiser or a dict of them.
    """
    wrappers = list(optim_wrapper.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    before = [_sum_of_lrs(wrapper) for wrapper in wrappers]
    yield
    for wrapper, lr in zip(wrappers, before, strict=True):
        ratio = _sum_of_lrs(wrapper) / lr if lr else 1.0
        for settings in (wrapper.optimizer.defaults, wrapper.base_param_settings or {}):
            if 'lr' in settings:
                settings['lr'] *= ratio


def _sum_of_lrs(wrapper: OptimWrapper) -> float:
    return sum(group['lr'] for group in wrapper.optimizer.param_groups)


def use_amp(optim_wrapper: dict, on_gpu: bool) -> None:
    """Change the config of an optimiser wrapper to mixed precision: mmengine's on a GPU, bfloat16 on the CPU.

    Args:
        optim_wrapper: Config of the wrapper, changed in place.
        on_gpu: Whether the model is on a GPU.

    Raises:
        UserError: If the wrapper is of another class.
    """
    if optim_wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'--amp: optim_wrapper.type is {optim_wrapper["type"]}; with --amp it must be OptimWrapper')
    if on_gpu:
        optim_wrapper['type'] = 'AmpOptimWrapper'
        optim_wrapper.setdefault('loss_scale', 'dynamic')
        return
    optim_wrapper['type'] = 'reprefine.CPUAmpOptimWrapper'
    for option in ('loss_scale', 'dtype', 'use_fsdp'):
        optim_wrapper.pop(option, None)
