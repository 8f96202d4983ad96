"""The plain layers that one with PD-A equals, and the plain configs."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reprefine.deploy.forms import baseline_copy
from reprefine.engine.errors import UserError

if TYPE_CHECKING:
    from .conv import PDConv
    from .linear import PDLinear


def _refuse_mixtures(layer: 'PDConv | PDLinear') -> None:
    if layer.mode == 'B':
        raise UserError('is PD-B: its weights depend on the sample, so that no plain model equals it')


@torch.no_grad()
def plain_linear(layer: 'PDLinear') -> dict[str, nn.Module]:
    """Return the linear layer that a PD-A one equals, see :class:`reprefine.deploy.forms.HasBaselineModules`.

    Raises:
        UserError: If the layer is PD-B.
    """
    _refuse_mixtures(layer)
    weight, bias = layer.folded()
    plain = nn.Linear(layer.in_features, layer.out_features).to(weight)
    plain.load_state_dict(dict(weight=weight, bias=bias))
    return {'': plain}


@torch.no_grad()
def plain_conv_and_norm(conv: 'PDConv') -> dict[str, nn.Module]:
    """Return the convolution that a PD-A one equals, and the norm behind it if it had one.

    The norm comes back with mean 0, variance ``1 - eps``, scale 1 and the folded bias as shift.

    Raises:
        UserError: If the layer is PD-B, or replaces what has neither norm nor bias.
    """
    _refuse_mixtures(conv)
    if conv.deploy:
        weight, bias = conv.reparam.weight, conv.reparam.bias
    else:
        weight, bias = (part.sum(0) for part in conv.folded())
    if not (conv.host_norm or conv.host_bias):
        raise UserError('replaces a convolution without norm and bias, which has no place for the folded bias')
    norm = {conv.host_norm: folded_norm(conv, bias)} if conv.host_norm else {}
    return {'': plain_conv(conv, weight, torch.zeros_like(bias) if norm else bias)} | norm


@torch.no_grad()
def plain_conv(conv: 'PDConv', weight: Tensor, bias: Tensor) -> nn.Conv2d:
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


@torch.no_grad()
def folded_norm(conv: 'PDConv', shift: Tensor) -> nn.BatchNorm2d:
    """Return a norm that in evaluation mode does nothing but add ``shift``, ``[O]``."""
    norm = nn.BatchNorm2d(conv.out_channels, eps=conv.norm_cfg.get('eps', 1e-5)).to(shift)
    norm.running_var.fill_(1 - norm.eps)
    norm.bias.copy_(shift)
    return norm


def plain_layer(_: dict[str, Any]) -> None:
    """Return nothing, which stands for a plain layer where a config may name another one."""


def baseline_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a PD-A model, of either form, under the names of the plain model.

    Raises:
        UserError: If the model has PD-B layers, which no plain model equals, or one of them replaces what has neither
            norm nor bias.
    """
    return baseline_copy(model).state_dict()
