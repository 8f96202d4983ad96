"""Averages of weights (EMA, SWA) that update all parameters by a few foreach calls."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from mmengine.model import BaseAveragedModel
from torch import nn

# Averages whose formulas only use the operations of _TensorList: tests/engine/speed/test_averaging.py compares them
# with mmengine's loop bit by bit.
VERIFIED = frozenset(
    (
        'mmengine.model.averaged_model.ExponentialMovingAverage',
        'mmengine.model.averaged_model.MomentumAnnealingEMA',
        'mmengine.model.averaged_model.StochasticWeightAverage',
        'mmdet.models.layers.ema.ExpMomentumEMA',
        'mmpose.engine.hooks.ema_hook.ExpMomentumEMA',
        'mmpretrain.models.utils.ema.CosineEMA',
    )
)


class _TensorList:
    """A list of tensors with the tensor operations that the formulas of averages use, each as one foreach call."""

    def __init__(self, tensors: Sequence[torch.Tensor]):
        self.tensors = tensors

    def lerp_(self, end: '_TensorList', weight: float) -> '_TensorList':
        torch._foreach_lerp_(self.tensors, end.tensors, weight)
        return self

    def mul_(self, factor: float) -> '_TensorList':
        torch._foreach_mul_(self.tensors, factor)
        return self

    def add_(self, other: '_TensorList', alpha: float = 1) -> '_TensorList':
        torch._foreach_add_(self.tensors, other.tensors, alpha=alpha)
        return self

    def copy_(self, other: '_TensorList') -> '_TensorList':
        torch._foreach_copy_(self.tensors, other.tensors)
        return self

    def __sub__(self, other: '_TensorList') -> '_TensorList':
        return _TensorList(torch._foreach_sub(self.tensors, other.tensors))


class _ForeachUpdate(BaseAveragedModel):
    """Mixin: mmengine's update of an average, without the loop over parameters."""

    def update_parameters(self, model: nn.Module) -> None:
        """Update the average by the weights of a model.

        Args:
            model: A model with the same parameters and buffers.
        """
        source = model.state_dict() if self.update_buffers else dict(model.named_parameters())
        pairs = [(average.data, source[name].data) for name, average in self.avg_parameters.items()]
        if any(average.device != value.device for average, value in pairs):
            super().update_parameters(model)
            return
        steps = self._steps_taken()
        if steps == 0:
            _apply(_TensorList.copy_, pairs)
        elif steps % self.interval == 0:
            floating = [pair for pair in pairs if pair[0].dtype.is_floating_point]
            # A tensor, because the formulas round as tensors do; on the CPU, so that nothing waits for a GPU.
            _apply(partial(self.avg_func, steps=torch.tensor(steps)), floating)
        if not self.update_buffers:
            _apply(_TensorList.copy_, list(zip(self.module.buffers(), model.buffers(), strict=False)))
        self.steps += 1
        self._known = (self.steps, self.steps._version, steps + 1)

    def _steps_taken(self) -> int:
        """Return the number of updates; it is read from the device only if other code may have changed it."""
        tensor, version, steps = self.__dict__.get('_known', (None, 0, 0))
        return steps if tensor is self.steps and version == tensor._version else int(self.steps)


def _apply(function: Callable, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    if pairs:
        averages, sources = zip(*pairs, strict=True)
        function(_TensorList(averages), _TensorList(sources))


@lru_cache
def _foreach_class(kind: type) -> type:
    """Return the subclass of a verified class of averages that updates by foreach calls; any other class unchanged."""
    if f'{kind.__module__}.{kind.__qualname__}' not in VERIFIED or _ForeachUpdate in kind.__mro__:
        return kind
    return type(kind.__name__, (_ForeachUpdate, kind), {'__module__': kind.__module__})


def use_foreach_averages(module: nn.Module) -> nn.Module:
    """Let the averages of weights within a module update by foreach calls; the results are equal bit for bit.

    Args:
        module: A model or an average. The class of verified averages is changed in place, because models and hooks
            construct them themselves.

    Returns:
        The same object.
    """
    for child in module.modules():
        if isinstance(child, BaseAveragedModel):
            child.__class__ = _foreach_class(type(child))
    return module
