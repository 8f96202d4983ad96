"""The protocol of everything that folds, and the walk that folds a whole model."""

import math
from collections.abc import Callable
from inspect import Parameter, signature
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Foldable(Protocol):
    """A module that can replace its training form by a cheaper, equal one."""

    def switch_to_deploy(self) -> None:
        """Fold in place, with evaluation statistics, keeping device and dtype; a second call changes nothing."""


@torch.no_grad()
def switch_to_deploy(model: nn.Module) -> nn.Module:
    """Fold every module of ``model`` that implements :class:`Foldable`, in place, from the inside out.

    A part of a host library whose ``switch_to_deploy`` takes arguments is left to the module that holds it.

    Returns:
        The model.
    """
    for child in list(model.children()):
        switch_to_deploy(child)
    if isinstance(model, Foldable) and not _takes_arguments(model.switch_to_deploy):
        model.switch_to_deploy()
    return model


def _takes_arguments(method: Callable) -> bool:
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    parameters = signature(method).parameters.values()
    return any(parameter.default is Parameter.empty and parameter.kind not in optional for parameter in parameters)


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """Return the largest absolute difference, relative to the largest absolute value of ``reference``.

    It is infinite if either holds a value that is not finite, so that no maximum or bound passes over it.
    """
    scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)
    difference = ((outputs - reference).abs().max() / scale).item()
    return difference if math.isfinite(difference) else math.inf
