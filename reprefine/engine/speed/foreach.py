"""Optimisers and gradient clipping without Python loops over parameters and without waiting for the device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from types import MethodType
from typing import Any

import torch
from mmengine.optim import BaseOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import nn, optim

# Their multi-tensor form equals the loop over parameters bit for bit, which tests/engine/speed/test_foreach.py checks;
# that of NAdam and RAdam does not, and neither does any fused form.
PROVEN_EQUAL = frozenset(
    (optim.SGD, optim.Adam, optim.AdamW, optim.Adamax, optim.RMSprop, optim.Adadelta, optim.Adagrad)
)
# On a CPU the multi-tensor form saves calls, but walks through the memory several times: it pays for tensors of at most
# this many elements.
SMALL = 2**14
FORMS = ('foreach', 'fused', 'capturable', 'differentiable')


def speed_up_optim_wrapper(wrapper: BaseOptimWrapper) -> BaseOptimWrapper:
    """Spare an optimiser wrapper its work per step that changes nothing: the updates stay the same to the bit.

    Args:
        wrapper: Wrapper of one optimiser or a dict of them; changed in place, once.

    Returns:
        The same object.
    """
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    for one in wrappers:
        if vars(one).setdefault('_is_sped_up', False):  # resuming hands the built one in again
            continue
        one._is_sped_up = True
        if isinstance(getattr(one, 'optimizer', None), optim.Optimizer):
            use_plain_groups(one.optimizer)
            use_joint_step(one.optimizer)
        if getattr(type(one), '_clip_grad', None) is OptimWrapper._clip_grad and one.clip_grad_kwargs:
            one.clip_func = _LoggedClip(one)
    return wrapper


def use_plain_groups(optimizer: optim.Optimizer) -> None:
    """Make parameter groups plain dicts again.

    Built from a config they are mmengine's ``ConfigDict``, whose every access is a Python function; after a resume they
    are plain in any case.
    """
    optimizer.param_groups[:] = [dict(group) for group in optimizer.param_groups]


def use_joint_step(optimizer: optim.Optimizer) -> None:
    """Let an optimiser update the parameters of equal settings in one go.

    mmengine makes a group of every parameter once ``paramwise_cfg`` is given, and torch walks through the groups one by
    one. The groups stay as they are for schedulers and checkpoints; only during ``step`` equal ones are one. Optimisers
    whose multi-tensor form is not known to be equal, and those whose config chooses a form, are left alone.

    Args:
        optimizer: Changed in place.
    """
    if type(optimizer) not in PROVEN_EQUAL or any(map(_chooses_a_form, optimizer.param_groups)):
        return
    step = optimizer.step
    settings = itemgetter(*optimizer.defaults)

    def joint_step(self: optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        if self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks:  # they may want to see the groups
            return step(*args, **kwargs)
        with _joined(self, settings):
            return step(*args, **kwargs)

    optimizer.step = MethodType(joint_step, optimizer)


def _chooses_a_form(group: dict) -> bool:
    """Whether a group's settings or parameters leave torch, or us, no choice of how to update them."""
    chosen = group.get('foreach') is False or any(map(group.get, FORMS))
    plain = all(type(parameter) in (torch.Tensor, nn.Parameter) for parameter in group['params'])
    return chosen or not plain or any(isinstance(value, torch.Tensor) for value in group.values())


@contextmanager
def _joined(optimizer: optim.Optimizer, settings: Callable[[dict], Any]) -> Iterator[None]:
    """Join the groups of equal settings for a while."""
    groups = optimizer.param_groups
    try:
        optimizer.param_groups = join_groups(groups, settings)
        yield
    finally:
        optimizer.param_groups = groups


def join_groups(groups: list[dict], settings: Callable[[dict], Any]) -> list[dict]:
    """Return groups that hold the parameters of all groups of equal settings; small ones on the CPU with ``foreach``.

    Args:
        groups: Parameter groups of an optimiser; not changed.
        settings: Reads the settings of a group that its optimiser looks at.
    """
    joined: dict[Any, dict[bool | None, dict]] = {}
    for index, group in enumerate(groups):
        try:
            alike = joined.setdefault(settings(group), {})
        except TypeError:  # a setting that cannot be looked up, such as a list
            alike = joined.setdefault((index,), {})
        for parameter in group['params']:
            form = _form(parameter)
            if form not in alike:
                alike[form] = {**group, 'foreach': form, 'params': []}
            alike[form]['params'].append(parameter)
    return [group for alike in joined.values() for group in alike.values()]


def _form(parameter: torch.Tensor) -> bool | None:
    """Whether a parameter is updated in multi-tensor form; None leaves it to torch, which chooses well on a GPU."""
    return parameter.numel() <= SMALL if parameter.is_cpu else None


class _LoggedClip:
    """Clips gradients and hands the norm to the message hub as the tensor it is; mmengine would wait for its value."""

    def __init__(self, wrapper: OptimWrapper) -> None:
        self.clip = wrapper.clip_func
        self.hub = wrapper.message_hub
        self.key = f'train/{wrapper.grad_name}'

    def __call__(self, parameters: list[nn.Parameter], **settings: Any) -> None:
        norm = self.clip(parameters, **settings)
        if norm is not None:
            self.hub.update_scalar(self.key, norm)
