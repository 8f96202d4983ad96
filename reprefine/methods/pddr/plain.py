"""The disentangled layers of a model, and the plain model that one with PD-A equals."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .conv import PDConv
from .linear import PDLinear


def pd_convs(model: nn.Module) -> dict[str, PDConv]:
    """Return the disentangled convolutions of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PDConv)}


def pd_layers(model: nn.Module) -> dict[str, PDConv | PDLinear]:
    """Return the disentangled convolutions and linear layers of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, (PDConv, PDLinear))}


def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a PD-A model, of either form, under the names of the plain model.

    The norm that a convolution had replaced comes back with mean 0, variance ``1 - eps``, scale 1 and the folded bias
    as shift.

    Raises:
        UserError: If the model has PD-B layers, which no plain model equals, or one of them replaces what has neither
            norm nor bias.
    """
    return plain_model(model).state_dict()


@torch.no_grad()
def plain_model(model: nn.Module) -> nn.Module:
    """Return a copy of a PD-A model, of either form, with a plain layer, and its norm, for every disentangled one.

    Raises:
        UserError: As :func:`plain_state_dict`.
    """
    return with_plain_layers(model, _plain_layer)


@torch.no_grad()
def with_plain_layers(model: nn.Module, make: Callable[[str, PDConv | PDLinear], tuple[nn.Module, ...]]) -> nn.Module:
    """Return a copy of a model with other layers, and norms, in place of its disentangled ones.

    Args:
        model: The model.
        make: From name and layer to the layer that replaces it, and the norm behind it if it had one.
    """
    model = copy.deepcopy(model)
    for name, layer in pd_layers(model).items():
        plain, *norms = (part.train(layer.training) for part in make(name, layer))
        parent, _, attribute = name.rpartition('.')
        if not attribute:
            return plain  # the model is the layer
        setattr(model.get_submodule(parent), attribute, plain)
        for norm in norms:
            setattr(model.get_submodule(parent), layer.host_norm, norm)
    return model


def _plain_layer(name: str, layer: PDConv | PDLinear) -> tuple[nn.Module, ...]:
    if layer.mode == 'B':
        raise UserError(f'{name} is PD-B: its weights depend on the sample, so that no plain model equals it')
    return _plain_linear(layer) if isinstance(layer, PDLinear) else _plain_conv(name, layer)


def _plain_linear(layer: PDLinear) -> tuple[nn.Module]:
    weight, bias = layer.folded()
    plain = nn.Linear(layer.in_features, layer.out_features).to(weight)
    plain.load_state_dict(dict(weight=weight, bias=bias))
    return (plain,)


def _plain_conv(name: str, conv: PDConv) -> tuple[nn.Module, ...]:
    """Return the convolution, and the norm behind it if it had one."""
    if conv.deploy:
        weight, bias = conv.reparam.weight, conv.reparam.bias
    else:
        weight, bias = (part.sum(0) for part in conv.folded())
    if not (conv.host_norm or conv.host_bias):
        raise UserError(f'{name} replaces a convolution without norm and bias, which has no place for the folded bias')
    norm = (folded_norm(conv, bias),) if conv.host_norm else ()
    return plain_conv(conv, weight, torch.zeros_like(bias) if norm else bias), *norm


def plain_conv(conv: PDConv, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return a plain convolution of the same geometry.

    Args:
        conv: The disentangled one.
        weight: Kernel ``[O, I/g, k, k]``.
        bias: Bias ``[O]``, used if the convolution that was replaced had one.
    """
    geometry = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, *geometry, bias=conv.host_bias).to(weight)
    plain.weight.copy_(weight)
    if conv.host_bias:
        plain.bias.copy_(bias)
    return plain


def folded_norm(conv: PDConv, shift: Tensor) -> nn.BatchNorm2d:
    """Return a norm that in evaluation mode does nothing but add ``shift``, ``[O]``."""
    norm = nn.BatchNorm2d(conv.out_channels, eps=conv.norm_cfg.get('eps', 1e-5)).to(shift)
    norm.running_var.fill_(1 - norm.eps)
    norm.bias.copy_(shift)
    return norm
