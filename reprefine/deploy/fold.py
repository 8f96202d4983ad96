"""The protocol of everything that folds, and the walk that folds a whole model."""

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
    """Fold every outermost module of ``model`` that implements :class:`Foldable`, in place, and return the model."""
    if isinstance(model, Foldable):
        model.switch_to_deploy()
    else:
        for child in model.children():
            switch_to_deploy(child)
    return model


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """Return the largest absolute difference, relative to the largest absolute value of ``reference``."""
    scale = reference.abs().max().clamp_min(torch.finfo(reference.dtype).tiny)
    return ((outputs - reference).abs().max() / scale).item()
