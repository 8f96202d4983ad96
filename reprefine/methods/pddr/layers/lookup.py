"""Lookup of the PD layers of a model."""

from torch import nn

from .conv import PDConv
from .linear import PDLinear


def pd_convs(model: nn.Module) -> dict[str, PDConv]:
    """Return the PD convolutions of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PDConv)}


def pd_layers(model: nn.Module) -> dict[str, PDConv | PDLinear]:
    """Return the PD convolutions and PD linear layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (PDConv, PDLinear))}
