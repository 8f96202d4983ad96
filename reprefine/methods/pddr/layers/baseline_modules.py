"""The standard modules that PD-A layers equal."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reprefine.deploy.forms import baseline_copy
from reprefine.engine.errors import UserError

if TYPE_CHECKING:
    from .conv import PDConv
    from .linear import PDLinear


def _check_mode(layer: 'PDConv | PDLinear') -> None:
    if layer.mode == 'B':
        raise UserError(
            'is PD-B: its weights depend on the sample, so no standard module equals it; use the deployed form'
        )


@torch.no_grad()
def linear_baseline_modules(layer: 'PDLinear') -> dict[str, nn.Module]:
    """Return the linear layer that a PD-A layer equals, see :class:`reprefine.deploy.forms.HasBaselineModules`.

    Raises:
        UserError: If the layer is PD-B.
    """
    _check_mode(layer)
    weight, bias = layer.equivalent_weight_bias()
    linear = nn.Linear(layer.in_features, layer.out_features).to(weight)
    linear.load_state_dict(dict(weight=weight, bias=bias))
    return {'': linear}


@torch.no_grad()
def conv_baseline_modules(conv: 'PDConv') -> dict[str, nn.Module]:
    """Return the convolution that a PD-A convolution equals, and the norm after it if the replaced one had a norm.

    The norm has mean 0, variance ``1 - eps``, gamma 1 and the equivalent bias as beta.

    Raises:
        UserError: If the layer is PD-B, or replaces a convolution with neither norm nor bias.
    """
    _check_mode(conv)
    if conv.deploy:
        weight, bias = conv.reparam.weight, conv.reparam.bias
    else:
        weight, bias = (part.sum(0) for part in conv.equivalent_kernels_biases())
    if not (conv.replaced_norm or conv.replaced_bias):
        raise UserError(
            'replaces a convolution without norm and bias, so the baseline cannot hold its bias: use the deployed form'
        )
    norm = {conv.replaced_norm: build_shift_norm(conv, bias)} if conv.replaced_norm else {}
    return {'': build_standard_conv(conv, weight, torch.zeros_like(bias) if norm else bias)} | norm


@torch.no_grad()
def build_standard_conv(conv: 'PDConv', weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return an ``nn.Conv2d`` with the arguments of the replaced convolution.

    Args:
        conv: The PD convolution.
        weight: Kernel ``[O, I/g, k, k]``.
        bias: Bias ``[O]``, used if the replaced convolution had one.
    """
    geometry = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    standard = nn.Conv2d(conv.in_channels, conv.out_channels, *geometry, bias=conv.replaced_bias).to(weight)
    standard.weight.copy_(weight)
    if conv.replaced_bias:
        standard.bias.copy_(bias)
    return standard


@torch.no_grad()
def build_shift_norm(conv: 'PDConv', shift: Tensor) -> nn.BatchNorm2d:
    """Return a batch norm that adds ``shift``, ``[O]``, in evaluation mode."""
    norm = nn.BatchNorm2d(conv.out_channels, eps=conv.norm_cfg.get('eps', 1e-5)).to(shift)
    norm.running_var.fill_(1 - norm.eps)
    norm.bias.copy_(shift)
    return norm


def default_layer_config(_: dict[str, Any]) -> None:
    """Return None, which makes the parent build its default layer."""


def baseline_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of the baseline that a PD-A model, of either form, equals.

    Raises:
        UserError: If the model has PD-B layers, or one of its layers replaces a convolution with neither norm nor bias.
    """
    return baseline_copy(model).state_dict()
