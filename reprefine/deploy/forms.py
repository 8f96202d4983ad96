"""Configs and models of the deployed form and of the baseline that it equals.

``deploy_config`` maps a config to that of the deployed form: a type that has an argument ``deploy`` gets
``deploy=True``, and a method that is the base model (``base_type``) leaves the base type. ``baseline_config`` maps a
config to one without the methods that can be reparameterised away: a deployable type may define
``baseline_config(cfg)``, which maps the dict that names it, whose inner parts are mapped already, to that of the
baseline's part.
"""

import copy
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, Protocol, runtime_checkable

import torch
from mmengine.registry import MODELS
from torch import nn

from reprefine.engine.build import base_config, class_of
from reprefine.engine.errors import UserError


@runtime_checkable
class HasBaselineModules(Protocol):
    """A deployed layer that equals one or more standard modules, which have other names in the baseline."""

    def baseline_modules(self) -> dict[str, nn.Module]:
        """Return the standard modules by their names in the parent of the layer; ``''`` is the layer's own name.

        Raises:
            UserError: If no standard module computes the same.
        """


def deploy_config(cfg: Any) -> Any:
    """Return a copy of the config of a model, or of any part, that builds the deployed form.

    Args:
        cfg: Config of the training form.
    """
    return _mapped(cfg, _deployed)


def baseline_config(cfg: Any) -> Any:
    """Return a copy of the config of a model, or of any part, without the methods that can be reparameterised away.

    Args:
        cfg: Config of the training form.

    Raises:
        UserError: If no baseline computes the same as the deployed form of a part.
    """
    return _mapped(cfg, _baseline)


def _mapped(cfg: Any, change: Callable[[Any, dict], Any]) -> Any:
    """Return a copy of ``cfg`` in which ``change(class, dict)`` is applied to every dict with a type, inner first."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(_mapped(item, change) for item in cfg)
    if not isinstance(cfg, Mapping):
        return copy.deepcopy(cfg)
    mapped = {key: _mapped(value, change) for key, value in cfg.items()}
    kind = class_of(MODELS, mapped) if 'type' in mapped else None
    return mapped if kind is None else change(kind, mapped)


def _baseline(kind: Any, cfg: dict) -> Any:
    if not hasattr(kind, 'baseline_config') and 'base_type' not in cfg:
        return cfg
    if not (_switches(kind) or _deploy_options(kind) or 'deploy' in _parameters(kind)):
        return cfg  # such as DVT's neck: its baseline computes something else
    return kind.baseline_config(cfg) if hasattr(kind, 'baseline_config') else base_config(kind, cfg)


def _deployed(kind: Any, cfg: dict) -> Any:
    if 'base_type' in cfg and (options := _deploy_options(kind)):
        return cfg | {key: (cfg.get(key) or {}) | {'deploy': True} for key in options}
    if 'base_type' in cfg and _switches(kind):
        return base_config(kind, cfg)
    return cfg | {'deploy': True} if 'deploy' in _parameters(kind) else cfg


def _switches(kind: Any) -> bool:
    return hasattr(kind, 'switch_to_deploy')


def _deploy_options(kind: Any) -> list[str]:
    """Return the keys of a method's options that accept ``deploy``."""
    options = getattr(kind, 'config_options', {})
    return [key for key, function in options.items() if 'deploy' in _parameters(function)]


def _parameters(kind: Any) -> Mapping[str, Any]:
    return signature(kind.__init__ if isinstance(kind, type) else kind).parameters


def _baseline_modules(layer: HasBaselineModules) -> dict[str, nn.Module]:
    return layer.baseline_modules()


@torch.no_grad()
def baseline_copy(model: nn.Module, convert: Callable[[Any], dict[str, nn.Module]] = _baseline_modules) -> nn.Module:
    """Return a copy of a model in which standard modules replace the :class:`HasBaselineModules` layers.

    Args:
        model: The model, usually in the deployed form.
        convert: Function from such a layer to its replacements; default its ``baseline_modules()``.

    Raises:
        UserError: If a layer has no equal standard module; the message starts with the layer's name.
    """
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, HasBaselineModules):
            continue
        try:
            modules = convert(layer)
        except UserError as error:
            raise UserError(f'{name or "the model"} {error}') from error
        parent, _, own = name.rpartition('.')
        if not name:
            return modules['']  # the model itself is the layer
        for attribute, module in modules.items():
            setattr(model.get_submodule(parent), attribute or own, module.train(layer.training))
    return model
