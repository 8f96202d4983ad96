"""Any module of a config with disentangled convolutions: its own config, with another type and one more key."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseAveragedModel
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..layers.conv import PDConv
from .convert import Rule, convert_to_pd
from .loaded_modules import take_marks, watched_construction

TYPE = 'reprefine.PDConverted'


@MODELS.register_module(name='PDConverted')
def build_converted(base_type: Any = None, pd: Mapping[str, Any] | None = None, **base: Any) -> nn.Module:
    """Build a module of a config and disentangle its convolutions: a whole model, a backbone, a neck or a head.

    What comes back is the module itself, so names and interface stay. Weights of a plain checkpoint
    (``init_cfg=dict(type='Pretrained', ...)``) load with unchanged output, and so do those of PDDR's own.

    Args:
        base_type: Type of the module, looked up in the default scope of the config.
        pd: Arguments of :func:`disentangle`.
        **base: Arguments of the module.

    Raises:
        UserError: If there is no type, the convolutions cannot be disentangled as asked, or the module keeps a moving
            average of its parts.
    """
    if base_type is None:
        raise UserError(_remedy(base, pd or {}))
    with watched_construction():
        module = MODELS.build(dict(base, type=base_type))
    loaded = take_marks(module)
    _refuse_averages(module)
    disentangle(module, loaded, **pd or {})
    return module


def disentangle(
    module: nn.Module,
    loaded: set[nn.Module],
    /,
    rule: Rule = None,
    deploy: bool = False,
    input_shape: Sequence[int] | None = None,
    warm_start: bool | None = None,
    **pd_cfg: Any,
) -> None:
    """Disentangle the convolutions of a module, in place. A config has its keyword arguments under ``pd``.

    Args:
        module: The module.
        loaded: Parts of it whose weights its constructor has loaded.
        rule: As in :func:`~.convert.convert_to_pd`.
        deploy: Build the deployed form.
        input_shape: ``(C, H, W)`` of an input on which the module runs, if it does on none of the usual images.
        warm_start: Whether the weights that the module is constructed with become the first branch, the others
            starting at zero; None: where its constructor has loaded them from a file, as the random ones of a plain
            module are none for branches. Weights that are loaded later start the branches like this in any case.
        **pd_cfg: Arguments of :class:`~.conv.PDConv`: ``mode``, ``branches``, ``group_num``, ``reduction``, ….
    """
    example = None if input_shape is None else torch.zeros(1, *input_shape)
    start = (lambda _, conv: conv in loaded) if warm_start is None else warm_start
    convert_to_pd(module, rule, warm_start=start, deploy=deploy, example=example, **pd_cfg)


def _signature() -> inspect.Signature:
    """Return the signature of :func:`disentangle` with the arguments of PDConv by name."""
    parameters = inspect.signature(disentangle).parameters
    own = [parameter for parameter in parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    layer = inspect.signature(PDConv).parameters.values()
    options = [p for p in layer if p.kind is p.KEYWORD_ONLY and p.name not in parameters]
    return inspect.Signature(own + options)


disentangle.__signature__ = _signature()
# For the check of configs: what a dict below a key of this name takes.
build_converted.config_options = {'pd': disentangle}


def _refuse_averages(module: nn.Module) -> None:
    """Refuse a model that keeps a moving average of its parts, whose parameters it has listed by their names."""
    for name, part in module.named_modules():
        if isinstance(part, BaseAveragedModel):
            raise UserError(
                f'{type(module).__name__} cannot be converted as a whole: {name} is a moving average of its parts as '
                f"they were constructed; convert a part instead, such as backbone=dict(type='{TYPE}', ...)"
            )


def _remedy(given: Mapping[str, Any], pd: Mapping[str, Any]) -> str:
    """Say what to write instead of a config without ``base_type``: in former versions it held the module's config."""
    if not isinstance(given.get('module'), Mapping):
        return f"{TYPE} needs base_type, the type of the module that it converts, such as base_type='ResNet'"
    module = {key: value for key, value in given['module'].items() if key != 'type'}
    options = {key: value for key, value in given.items() if key != 'module'} | dict(pd)
    flat = dict(type=TYPE, base_type=given['module'].get('type')) | module | dict(pd=options)
    return f'{TYPE} takes the arguments of the module itself instead of module=dict(...): write {_written(flat)}'


def _written(value: Any) -> str:
    """Return a value as a config writes it."""
    if isinstance(value, Mapping):
        entries = (f'{key}={_written(item)}' for key, item in value.items() if key != '_scope_')
        return f'dict({", ".join(entries)})'
    if isinstance(value, list | tuple):
        return f'[{", ".join(map(_written, value))}]'
    return repr(value)
