"""The type ``PDConverted``, which builds any module of a config and replaces its convolutions by PDConv."""

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
from .loaded_modules import pop_loaded_modules, record_weight_loading

TYPE = 'reprefine.PDConverted'


@MODELS.register_module(name='PDConverted')
def build_pd_module(base_type: Any = None, pd: Mapping[str, Any] | None = None, **base: Any) -> nn.Module:
    """Build a model, backbone, neck or head and replace its convolutions by PDConv.

    The result is the module itself, so its names and interface are unchanged. It loads checkpoints of the base model
    (``init_cfg=dict(type='Pretrained', ...)``), with unchanged output, and PDDR checkpoints.

    Args:
        base_type: Type of the module, looked up in the default scope of the config.
        pd: Keyword arguments of :func:`disentangle`.
        **base: Arguments of the module.

    Raises:
        UserError: If ``base_type`` is missing, the convolutions cannot be replaced, or the module contains a moving
            average of its own weights.
    """
    if base_type is None:
        raise UserError(_missing_base_type_message(base, pd or {}))
    with record_weight_loading():
        module = MODELS.build(dict(base, type=base_type))
    loaded = pop_loaded_modules(module)
    _check_no_averaged_model(module)
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
    """Replace convolutions of a module by PDConv, in place. A config gives the keyword arguments under ``pd``.

    Args:
        module: The module.
        loaded: Its submodules whose weights the constructor has loaded.
        rule: As in :func:`~.convert.convert_to_pd`.
        deploy: Whether to build the deployed form.
        input_shape: ``(C, H, W)`` of an input of the module, if it does not run on images of usual size.
        warm_start: Whether the weights that the constructor has set become ``standard1``, with zero output of the other
            branches. None: only weights that it has loaded, since randomly initialised branches differ from a randomly
            initialised convolution. Checkpoints loaded later always initialise the branches this way.
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
# For the config check: the function whose arguments the dict under this key gives.
build_pd_module.config_options = {'pd': disentangle}


def _check_no_averaged_model(module: nn.Module) -> None:
    """Raise if a model contains a moving average of its own weights, which lists its parameters by name."""
    for name, part in module.named_modules():
        if isinstance(part, BaseAveragedModel):
            raise UserError(
                f'{type(module).__name__} cannot be converted: {name} is a moving average of its weights; convert a '
                f"part instead, such as backbone=dict(type='{TYPE}', ...)"
            )


def _missing_base_type_message(given: Mapping[str, Any], pd: Mapping[str, Any]) -> str:
    """Return the message for a config without ``base_type``; former versions had the key ``module`` instead."""
    if not isinstance(given.get('module'), Mapping):
        return f"{TYPE} has no base_type: add the type of the module that it converts, such as base_type='ResNet'"
    module = {key: value for key, value in given['module'].items() if key != 'type'}
    options = {key: value for key, value in given.items() if key != 'module'} | dict(pd)
    flat = dict(type=TYPE, base_type=given['module'].get('type')) | module | dict(pd=options)
    return f'{TYPE} takes the arguments of the module itself instead of module=dict(...): write {_format(flat)}'


def _format(value: Any) -> str:
    """Return a value in config syntax."""
    if isinstance(value, Mapping):
        entries = (f'{key}={_format(item)}' for key, item in value.items() if key != '_scope_')
        return f'dict({", ".join(entries)})'
    if isinstance(value, list | tuple):
        return f'[{", ".join(map(_format, value))}]'
    return repr(value)
