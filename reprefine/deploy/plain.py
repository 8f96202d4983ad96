"""The config and the model that a folded model needs: its deployed form, or the plain model that it equals.

A type of a config says by itself what it becomes, if it becomes another: its attribute ``plain_config`` maps the dict
that names it, whose parts are plain already, to the plain one. A type that has an argument ``deploy`` takes its
deployed form by it. A method that is the base model leaves the base type when it folds away.
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
class HasPlainForm(Protocol):
    """A folded layer that equals plain ones of other names."""

    def plain_form(self) -> dict[str, nn.Module]:
        """Return the plain modules by their names in the module that holds the layer, its own being ``''``.

        Raises:
            UserError: If no plain module computes the same.
        """


def deploy_config(cfg: Any) -> Any:
    """Return a copy of a model's config, or of any part, that builds the form which a folded checkpoint loads into."""
    return _mapped(cfg, _deployed)


def plain_config(cfg: Any) -> Any:
    """Return a copy of a model's config, or of any part, without the methods that fold away.

    Raises:
        UserError: If a part has no plain form.
    """
    return _mapped(cfg, _plain)


def _mapped(cfg: Any, change: Callable[[Any, dict], Any]) -> Any:
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(_mapped(item, change) for item in cfg)
    if not isinstance(cfg, Mapping):
        return copy.deepcopy(cfg)
    mapped = {key: _mapped(value, change) for key, value in cfg.items()}
    kind = class_of(MODELS, mapped) if 'type' in mapped else None
    return mapped if kind is None else change(kind, mapped)


def _plain(kind: Any, cfg: dict) -> Any:
    if hasattr(kind, 'plain_config'):
        return kind.plain_config(cfg)
    return base_config(kind, cfg) if 'base_type' in cfg and (_folds(kind) or _deploy_options(kind)) else cfg


def _deployed(kind: Any, cfg: dict) -> Any:
    if 'base_type' in cfg and (options := _deploy_options(kind)):
        return cfg | {key: (cfg.get(key) or {}) | {'deploy': True} for key in options}
    if 'base_type' in cfg and _folds(kind):
        return base_config(kind, cfg)
    return cfg | {'deploy': True} if 'deploy' in _parameters(kind) else cfg


def _folds(kind: Any) -> bool:
    return hasattr(kind, 'switch_to_deploy')


def _deploy_options(kind: Any) -> list[str]:
    """Return the keys of a method's options among which ``deploy`` is one."""
    options = getattr(kind, 'config_options', {})
    return [key for key, function in options.items() if 'deploy' in _parameters(function)]


def _parameters(kind: Any) -> Mapping[str, Any]:
    return signature(kind.__init__ if isinstance(kind, type) else kind).parameters


def _plain_form(layer: HasPlainForm) -> dict[str, nn.Module]:
    return layer.plain_form()


@torch.no_grad()
def plain_copy(model: nn.Module, form: Callable[[Any], dict[str, nn.Module]] = _plain_form) -> nn.Module:
    """Return a copy of a model with plain modules in place of its :class:`HasPlainForm` layers.

    Args:
        model: The model, which may be folded.
        form: What to put in place of such a layer instead of its ``plain_form()``.

    Raises:
        UserError: If one of them has no plain form; it is named.
    """
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, HasPlainForm):
            continue
        try:
            parts = form(layer)
        except UserError as error:
            raise UserError(f'{name or "the model"} {error}') from error
        parent, _, own = name.rpartition('.')
        if not name:
            return parts['']  # the model is the layer
        for attribute, part in parts.items():
            setattr(model.get_submodule(parent), attribute or own, part.train(layer.training))
    return model
