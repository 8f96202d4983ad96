"""Optimiser steps without a Python loop over parameter groups, and gradient clipping without reads from the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from types import MethodType
from typing import Any

import torch
from mmengine.optim import BaseOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import nn, optim

# Optimisers whose foreach form equals the loop over parameters bit for bit (tests/engine/speed/test_foreach.py). That
# of NAdam and RAdam does not, nor does any fused form.
VERIFIED = frozenset((optim.SGD, optim.Adam, optim.AdamW, optim.Adamax, optim.RMSprop, optim.Adadelta, optim.Adagrad))
# On a CPU the foreach form saves calls but passes through the memory several times: it is faster for tensors of at most
# this many elements.
MAX_FOREACH_NUMEL = 2**14
IMPLEMENTATIONS = ('foreach', 'fused', 'capturable', 'differentiable')


def speed_up_optim_wrapper(wrapper: BaseOptimWrapper) -> BaseOptimWrapper:
    """Make the steps of an optimiser wrapper cheaper; the updates are equal bit for bit.

    Args:
        wrapper: Wrapper of one optimiser or a dict of them; changed in place, once.

    Returns:
        The same object.
    """
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    for one in wrappers:
        if vars(one).setdefault('_is_sped_up', False):  # a resumed run passes the built wrapper again
            continue
        one._is_sped_up = True
        if isinstance(getattr(one, 'optimizer', None), optim.Optimizer):
            use_plain_groups(one.optimizer)
            use_joint_step(one.optimizer)
        if getattr(type(one), '_clip_grad', None) is OptimWrapper._clip_grad and one.clip_grad_kwargs:
            one.clip_func = _LoggedClip(one)
    return wrapper


def use_plain_groups(optimizer: optim.Optimizer) -> None:
    """Turn the parameter groups into dicts.

    Built from a config, they are mmengine's ``ConfigDict``, whose access is slow. After resuming they are dicts anyway.
    """
    optimizer.param_groups[:] = [dict(group) for group in optimizer.param_groups]


def use_joint_step(optimizer: optim.Optimizer) -> None:
    """Let an optimiser update all parameters with equal settings together.

    With ``paramwise_cfg`` mmengine makes one group per parameter, and torch loops over the groups. Schedulers and
    checkpoints see these groups; groups of equal settings are joined only during ``step``. Optimisers that are not
    verified, and those whose config chooses an implementation, are not changed.

    Args:
        optimizer: Changed in place.
    """
    if type(optimizer) not in VERIFIED or any(map(_has_fixed_implementation, optimizer.param_groups)):
        return
    step = optimizer.step
    settings = itemgetter(*optimizer.defaults)

    def joint_step(self: optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        if self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks:  # they may read the groups
            return step(*args, **kwargs)
        with _joined_groups(self, settings):
            return step(*args, **kwargs)

    optimizer.step = MethodType(joint_step, optimizer)


def _has_fixed_implementation(group: dict) -> bool:
    """Whether the settings or parameters of a group determine the implementation of its update."""
    chosen = group.get('foreach') is False or any(map(group.get, IMPLEMENTATIONS))
    plain = all(type(parameter) in (torch.Tensor, nn.Parameter) for parameter in group['params'])
    return chosen or not plain or any(isinstance(value, torch.Tensor) for value in group.values())


@contextmanager
def _joined_groups(optimizer: optim.Optimizer, settings: Callable[[dict], Any]) -> Iterator[None]:
    groups = optimizer.param_groups
    try:
        optimizer.param_groups = join_groups(groups, settings)
        yield
    finally:
        optimizer.param_groups = groups


def join_groups(groups: list[dict], settings: Callable[[dict], Any]) -> list[dict]:
    """Return one group for all parameters of equal settings, split by whether they are updated with ``foreach``.

    Args:
        groups: Parameter groups of an optimiser; not changed.
        settings: Returns the settings of a group that the optimiser uses.
    """
    joined: dict[Any, dict[bool | None, dict]] = {}
    for index, group in enumerate(groups):
        try:
            equal = joined.setdefault(settings(group), {})
        except TypeError:  # a setting that cannot be hashed, such as a list
            equal = joined.setdefault((index,), {})
        for parameter in group['params']:
            # None leaves the choice to torch, which is good on a GPU.
            foreach = parameter.numel() <= MAX_FOREACH_NUMEL if parameter.is_cpu else None
            if foreach not in equal:
                equal[foreach] = {**group, 'foreach': foreach, 'params': []}
            equal[foreach]['params'].append(parameter)
    return [group for equal in joined.values() for group in equal.values()]


class _LoggedClip:
    """Clips gradients and logs their norm as a tensor; mmengine reads its value from the device."""

    def __init__(self, wrapper: OptimWrapper) -> None:
        self.clip = wrapper.clip_func
        self.hub = wrapper.message_hub
        self.key = f'train/{wrapper.grad_name}'

    def __call__(self, parameters: list[nn.Parameter], **settings: Any) -> None:
        norm = self.clip(parameters, **settings)
        if norm is not None:
            self.hub.update_scalar(self.key, norm)
