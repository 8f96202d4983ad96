"""Lottery-ticket transfer: initialisation of the baseline by the elementwise maximum of the branches of PD-A."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.deploy.forms import baseline_copy
from reprefine.engine.errors import UserError

from ..functional import expand_groups
from ..layers.baseline_modules import build_standard_conv
from ..layers.branches import ConvNorm
from ..layers.conv import PDConv
from ..layers.lookup import pd_layers


def lottery_ticket_state(model: nn.Module, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Return a state dict of the baseline, as initialisation for another training.

    Every kernel is the elementwise (signed) maximum of the raw kernels of ``standard1``, ``standard2``, both strips and
    ``group``, expanded with zeros to ``k x k``. Gamma and beta of the norm are the maximum over the norms; its running
    statistics are reset. All other tensors are copied.

    Args:
        model: Model whose PD layers are PD-A convolutions in training form that replace convolutions with norms.
        generator: If given, the kernels are drawn from it instead (Kaiming normal): the control, which inherits only
            the norms and the other layers.

    Raises:
        UserError: If the model has no PD layers, or other ones.
    """
    layers = pd_layers(model).values()
    if not layers or not all(_is_transferable(layer) for layer in layers):
        raise UserError(
            'the transfer needs PD-A convolutions in training form only, each in place of a convolution with a norm: '
            'use the config and checkpoint of such a model'
        )
    return baseline_copy(model, lambda conv: _lottery_modules(conv, generator)).state_dict()


def _is_transferable(layer: nn.Module) -> bool:
    return isinstance(layer, PDConv) and layer.mode == 'A' and not layer.deploy and layer.replaced_norm is not None


def _lottery_modules(conv: PDConv, generator: torch.Generator | None) -> dict[str, nn.Module]:
    kernel = maximum_kernel(conv)
    if generator is not None:
        kernel = nn.init.kaiming_normal_(
            torch.empty(kernel.shape), mode='fan_out', nonlinearity='relu', generator=generator
        )
    norms = [part.bn for _, part in conv.conv_norms()]
    norm = nn.BatchNorm2d(conv.out_channels).to(kernel)
    norm.weight.copy_(elementwise_maximum([norm.weight for norm in norms]))
    norm.bias.copy_(elementwise_maximum([norm.bias for norm in norms]))
    modules = {'': build_standard_conv(conv, kernel, torch.zeros_like(norm.bias))}
    return modules if conv.replaced_norm is None else {**modules, conv.replaced_norm: norm}


def maximum_kernel(conv: PDConv) -> Tensor:
    """Return the elementwise maximum of the raw kernels of all branches, ``[O, I/g, k, k]``."""
    return elementwise_maximum([_expand_kernel(part, conv) for _, part in conv.conv_norms()]).detach()


def _expand_kernel(part: ConvNorm, conv: PDConv) -> Tensor:
    """Return the kernel of a branch or strip, padded with zeros to ``[O, I/g, k, k]``."""
    kernel = expand_groups(part.conv.weight, part.conv.groups, conv.groups)
    rows, columns = ((full - size) // 2 for full, size in zip(conv.kernel_size, kernel.shape[2:], strict=True))
    return F.pad(kernel, (columns, columns, rows, rows))


def elementwise_maximum(tensors: Sequence[Tensor]) -> Tensor:
    """Return the elementwise maximum (signed, not absolute) of tensors of one shape."""
    return torch.stack(list(tensors)).amax(0)
