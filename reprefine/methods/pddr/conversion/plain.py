"""The disentangled layers of a model, and the weights of the plain model that one with PD-A equals."""

from torch import Tensor, nn

from reprefine.deploy.forms import baseline_copy

from ..layers.conv import PDConv
from ..layers.linear import PDLinear


def pd_convs(model: nn.Module) -> dict[str, PDConv]:
    """Return the disentangled convolutions of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PDConv)}


def pd_layers(model: nn.Module) -> dict[str, PDConv | PDLinear]:
    """Return the disentangled convolutions and linear layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (PDConv, PDLinear))}


def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a PD-A model, of either form, under the names of the plain model.

    Raises:
        UserError: If the model has PD-B layers, which no plain model equals, or one of them replaces what has neither
            norm nor bias.
    """
    return baseline_copy(model).state_dict()
