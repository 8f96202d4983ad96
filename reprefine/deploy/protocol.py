"""The protocol of everything that folds, and the walk that folds a whole model."""

import math
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Deployable(Protocol):
    """A module that can replace its training form by a cheaper, equal one.

    A layer that keeps its type when it folds says by its attribute ``deploy`` whether it has. One whose evaluation
    takes a short cut may offer ``explicit_output(x)``, the output computed part by part, with which its folded form
    is compared.
    """

    def switch_to_deploy(self) -> None:
        """Fold in place, with evaluation statistics, keeping device and dtype; a second call changes nothing."""


@torch.no_grad()
def switch_to_deploy(model: nn.Module) -> nn.Module:
    """Fold every module of ``model`` that implements :class:`Deployable`, in place, from the inside out.

    A part of a host library whose ``switch_to_deploy`` takes arguments is left to the module that holds it.

    Returns:
        The model.

    Raises:
        RuntimeError: If a layer says afterwards that it is in training form.
    """
    _fold(model)
    if left := training_forms(model):
        raise RuntimeError(f'{left[0] or "the model"} is in training form still, after the model was folded')
    return model


def _fold(module: nn.Module) -> None:
    for child in list(module.children()):
        _fold(child)
    if is_deployable(module):
        module.switch_to_deploy()


def is_deployable(module: nn.Module) -> bool:
    """Whether a module folds by itself, without arguments."""
    return isinstance(module, Deployable) and not _takes_arguments(module.switch_to_deploy)


def _takes_arguments(method: Callable) -> bool:
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    parameters = signature(method).parameters.values()
    return any(parameter.default is Parameter.empty and parameter.kind not in optional for parameter in parameters)


def training_forms(model: nn.Module) -> list[str]:
    """Return the names of the modules whose ``deploy`` says that they are not folded."""
    return [
        name
        for name, module in model.named_modules()
        if getattr(module, 'deploy', None) is False and is_deployable(module)
    ]


def reparameterized_layers(trained: nn.Module, folded: nn.Module) -> dict[str, str]:
    """Return name and type of what was folded: what is of another type than before, or changed its ``deploy``.

    Args:
        trained: The training form of a model.
        folded: The same model after :func:`switch_to_deploy`.

    Returns:
        The types in ``trained`` by name, ``''`` being the model itself. What was folded within a folded layer counts.
    """
    before, after = dict(trained.named_modules()), dict(folded.named_modules())
    unfolded = set(training_forms(trained))
    changed = {name for name in before.keys() & after.keys() if _form(before[name]) != _form(after[name])}
    return {name: type(module).__name__ for name, module in before.items() if name in changed | unfolded}


def _form(module: nn.Module) -> tuple[type, object]:
    return type(module), getattr(module, 'deploy', None)


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """Return the largest absolute difference, relative to the largest absolute value of ``reference``.

    It is infinite if either holds a value that is not finite, so that no maximum or bound passes over it.
    """
    scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)
    difference = ((outputs - reference).abs().max() / scale).item()
    return difference if math.isfinite(difference) else math.inf
