"""Any module of a config with disentangled convolutions: its own config, with another type and one more key."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .conv import PDConv
from .convert import Rule, convert_to_pd

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
        UserError: If there is no type, or the convolutions cannot be disentangled as asked.
    """
    if base_type is None:
        raise UserError(_remedy(base, pd or {}))
    with _watch_construction() as loaded:
        module = MODELS.build(dict(base, type=base_type))
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


@contextmanager
def _watch_construction() -> Iterator[set[nn.Module]]:
    """Collect the modules that become parts of others and whose weights are then loaded, by any loader of torch's."""
    loaded: set[nn.Module] = set()

    def collect(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
        if f'{prefix}weight' in state_dict:
            loaded.add(module)

    def watch(_: nn.Module, __: str, part: nn.Module | None) -> None:
        if part is not None:
            stack.callback(part.register_load_state_dict_pre_hook(collect).remove)

    with ExitStack() as stack:
        stack.callback(register_module_module_registration_hook(watch).remove)
        yield loaded


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
