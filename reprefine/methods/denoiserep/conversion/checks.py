"""Checks of a selection and its options that raise ``UserError`` for what cannot be converted or trained as asked."""

import re
from collections.abc import Sequence

from mmengine.model import BaseAveragedModel
from torch import nn

from reprefine.deploy import Deployable
from reprefine.engine.errors import UserError
from reprefine.models.replaced_layer import ReplacedLayer

from ..layers.base import DenoiseLayer
from .select import PRESETS, Candidate, walk, walk_layers

BASE_TYPES = (nn.Linear, nn.Conv2d)


def check_include(model: nn.Module, include: str | Sequence[str]) -> None:
    """Check that no pattern names only inner layers of replaced layers, such as the gate of a PDConv, or of averages.

    Args:
        model: Any module.
        include: Preset or regular expressions, as in :func:`~.select.select_layers`.

    Raises:
        UserError: If a pattern does.
    """
    if isinstance(include, str) and include in PRESETS:
        return
    reached = [name for name, _, _, layer in walk_layers(model) if isinstance(layer, (*BASE_TYPES, ReplacedLayer))]
    layers = [name for name, _, _, layer in walk(model) if isinstance(layer, BASE_TYPES)]
    inner = [name for name in layers if name not in set(reached)]
    for pattern in [include] if isinstance(include, str) else include:
        named = next((name for name in inner if re.search(pattern, name)), None)
        if named is not None and not any(re.search(pattern, name) for name in reached):
            raise UserError(f'include={pattern!r} names {named}, {_owner(model, named)}')


def _owner(model: nn.Module, inner: str) -> str:
    """Describe the replaced layer or moving average that an inner layer belongs to, and what to name instead."""
    parents = [inner.rsplit('.', count)[0] for count in range(inner.count('.'), 0, -1)]
    modules = ((name, model.get_submodule(name)) for name in parents)
    name, owner = next((n, m) for n, m in modules if isinstance(m, (ReplacedLayer, BaseAveragedModel)))
    if isinstance(owner, BaseAveragedModel):
        return f'a part of the moving average {name}, which follows the layers that it averages: name those'
    return f'a part of the {type(owner).__name__} {name}, which is denoised as one layer: name that'


def check_bias_policy(model: nn.Module, chosen: Sequence[Candidate]) -> None:
    """Check that no layer would get a bias that the ``switch_to_deploy`` of an OpenMMLab module does not read.

    Args:
        model: Any module.
        chosen: Layers to convert with ``bias_policy='add'``.

    Raises:
        UserError: If there is such a layer.
    """
    modules = [(name, module) for name, module in model.named_modules() if name and isinstance(module, Deployable)]
    parents = {name: module for name, module in modules if not type(module).__module__.startswith('reprefine.')}
    for candidate in chosen:
        parent = next((name for name in parents if candidate.name.startswith(f'{name}.')), None)
        if parent is not None and getattr(candidate.layer, 'bias', 0) is None:
            kind = type(parents[parent]).__name__
            raise UserError(
                f"bias_policy='add' gives {candidate.name} a bias, which {kind} leaves out when it is deployed: "
                "set bias_policy='keep'"
            )


def check_no_momentum_encoder(model: nn.Module, setting: str, remedy: str) -> None:
    """Check that a training without task loss has no momentum encoder, which is updated in the task loss only.

    Args:
        model: Converted model.
        setting: The setting that leaves the task loss out, for the message.
        remedy: What to do instead, for the message.

    Raises:
        UserError: If layers of a momentum encoder are converted.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, DenoiseLayer) and layer.is_momentum_copy:
            raise UserError(
                f'{setting} computes no task loss, but the momentum encoder is updated only in the task loss, so that '
                f'the predictor of {name} would keep its initial values: {remedy}'
            )
