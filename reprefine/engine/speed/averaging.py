"""Averages of weights (EMA, SWA) whose update is a few calls for all parameters together."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel
from mmengine.registry import MODELS
from torch import nn

from ..build import class_of

# Averages whose formulas only use the operations of _TensorList: tests/engine/speed/test_averaging.py compares them
# with mmengine's loop bit by bit.
PROVEN_EQUAL = frozenset(
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
    """Several tensors that compute as one: what a formula of averaging asks of a tensor."""

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
    """Mixin: the update of mmengine's average without its loop over parameters."""

    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights of ``model`` into the average.

        Args:
            model: A model of the same layout.
        """
        found = model.state_dict() if self.update_buffers else dict(model.named_parameters())
        pairs = [(average.data, found[name].data) for name, average in self.avg_parameters.items()]
        if any(average.device != source.device for average, source in pairs):
            super().update_parameters(model)
            return
        steps = self._steps_taken()
        if steps == 0:
            _apply(_TensorList.copy_, pairs)
        elif steps % self.interval == 0:
            floating = [pair for pair in pairs if pair[0].dtype.is_floating_point]
            # A tensor, because formulas round as tensors do, but one that is not on a GPU.
            _apply(partial(self.avg_func, steps=torch.tensor(steps)), floating)
        if not self.update_buffers:
            _apply(_TensorList.copy_, list(zip(self.module.buffers(), model.buffers(), strict=False)))
        self.steps += 1
        self._known = (self.steps, self.steps._version, steps + 1)

    def _steps_taken(self) -> int:
        """Return the number of updates; read from the device only when other code may have changed it."""
        tensor, version, steps = self.__dict__.get('_known', (None, 0, 0))
        return steps if tensor is self.steps and version == tensor._version else int(self.steps)


def _apply(function: Any, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    if pairs:
        averages, sources = zip(*pairs, strict=True)
        function(_TensorList(averages), _TensorList(sources))


@lru_cache
def _class_at_once(kind: type) -> type:
    """Return the class whose update is the same in a few calls; of a class not known to allow that, itself."""
    if f'{kind.__module__}.{kind.__qualname__}' not in PROVEN_EQUAL or _ForeachUpdate in kind.__mro__:
        return kind
    return type(kind.__name__, (_ForeachUpdate, kind), {'__module__': kind.__module__})


def use_foreach_averages(module: nn.Module) -> nn.Module:
    """Let the averages of weights within a module be updated at once. Their values stay the same to the bit.

    Args:
        module: A model, or an average itself; the class of averages known to be equal is changed in place.

    Returns:
        The same object.
    """
    for part in module.modules():
        if isinstance(part, BaseAveragedModel):
            # Constructors of models make their averages themselves: no config or registry has a say in the class.
            part.__class__ = _class_at_once(type(part))
    return module


def make_hook_use_foreach(hook: EMAHook) -> None:
    """Let a hook build its average as one that is updated at once; a second call changes nothing.

    Args:
        hook: The hook, of which any library may have a subclass.
    """
    kind = hook.ema_cfg['type']
    if not isinstance(kind, partial):
        hook.ema_cfg = {**hook.ema_cfg, 'type': partial(_build_average, kind)}


def _build_average(kind: str | type, **settings: Any) -> nn.Module:
    average = class_of(MODELS, dict(type=kind))
    return MODELS.build(dict(type=_class_at_once(average)), default_args=settings)
