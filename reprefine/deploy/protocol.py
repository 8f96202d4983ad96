"""The ``switch_to_deploy`` protocol, and the function that applies it to a whole model."""

import math
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Deployable(Protocol):
    """A module that can replace its training form by an equal one of lower cost, the deployed form.

    A layer that keeps its class has an attribute ``deploy``: whether it is in the deployed form. A layer whose output
    in evaluation is computed with merged weights may have a method ``explicit_output(x)`` that computes it without
    them; the deployed form is compared with that output.
    """

    def switch_to_deploy(self) -> None:
        """Take the deployed form in place, with evaluation statistics, keeping device and dtype; idempotent."""


@torch.no_grad()
def switch_to_deploy(model: nn.Module) -> nn.Module:
    """Switch every :class:`Deployable` module of ``model`` to its deployed form, in place, children before parents.

    A module of an OpenMMLab library whose ``switch_to_deploy`` requires arguments is left to its parent.

    Args:
        model: Any module.

    Returns:
        The model.

    Raises:
        RuntimeError: If a module is still in training form afterwards.
    """
    _switch(model)
    if left := training_forms(model):
        raise RuntimeError(f'{left[0] or "the model"} is in training form still, after switch_to_deploy()')
    return model


def _switch(module: nn.Module) -> None:
    for child in list(module.children()):
        _switch(child)
    if is_deployable(module):
        module.switch_to_deploy()


def is_deployable(module: nn.Module) -> bool:
    """Return whether a module has a ``switch_to_deploy`` that requires no arguments."""
    return isinstance(module, Deployable) and not _requires_arguments(module.switch_to_deploy)


def _requires_arguments(method: Callable) -> bool:
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    parameters = signature(method).parameters.values()
    return any(parameter.default is Parameter.empty and parameter.kind not in optional for parameter in parameters)


def training_forms(model: nn.Module) -> list[str]:
    """Return the names of the deployable modules whose attribute ``deploy`` is False."""
    return [
        name
        for name, module in model.named_modules()
        if getattr(module, 'deploy', None) is False and is_deployable(module)
    ]


def reparameterized_layers(trained: nn.Module, deployed: nn.Module) -> dict[str, str]:
    """Return the layers that differ between two forms of a model: in their type or in their attribute ``deploy``.

    Args:
        trained: Training form of a model.
        deployed: The same model after :func:`switch_to_deploy`.

    Returns:
        Types in ``trained`` by name; ``''`` is the model itself. Layers in training form inside of a layer that has
        been replaced are included.
    """
    before, after = dict(trained.named_modules()), dict(deployed.named_modules())
    in_training_form = set(training_forms(trained))
    changed = {name for name in before.keys() & after.keys() if _form(before[name]) != _form(after[name])}
    return {name: type(module).__name__ for name, module in before.items() if name in changed | in_training_form}


def _form(module: nn.Module) -> tuple[type, object]:
    return type(module), getattr(module, 'deploy', None)


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """Return the largest absolute difference, relative to the largest absolute value of ``reference``.

    Infinite, not NaN, if either holds a value that is not finite, so that every comparison with a bound fails.

    Args:
        outputs: Tensor of any shape.
        reference: Tensor of the same shape.
    """
    scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)
    difference = ((outputs - reference).abs().max() / scale).item()
    return difference if math.isfinite(difference) else math.inf
