"""Starting a plain network from a trained PD-A one, not by the sum of the branches but by their maximum."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.deploy.forms import baseline_copy
from reprefine.engine.errors import UserError

from ..functional import expand_groups
from ..layers.baseline_modules import plain_conv
from ..layers.branches import ConvNorm
from ..layers.conv import PDConv
from ..layers.lookup import pd_layers


def lottery_state(model: nn.Module, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Return a state dict of the plain network for training it anew.

    Every kernel is the elementwise maximum of those of all branches, both strips apart, as they are trained and written
    at full size, zeros included. So are scale and shift of the norms; their statistics are reset. All else is
    copied.

    Args:
        model: Model with PD-A convolutions in training form that have replaced convolutions and their norms.
        generator: If given, the kernels are drawn from it instead (Kaiming normal): the control, which inherits the
            norms and the plain layers only.

    Raises:
        UserError: If there is no such convolution, or one of another kind.
    """
    layers = pd_layers(model).values()
    if not layers or not all(_is_transferable(layer) for layer in layers):
        raise UserError('the transfer needs PD-A convolutions in training form, each in place of one with a norm')
    return baseline_copy(model, lambda conv: _merged(conv, generator)).state_dict()


def _is_transferable(layer: nn.Module) -> bool:
    return isinstance(layer, PDConv) and layer.mode == 'A' and not layer.deploy and layer.host_norm is not None


def _merged(conv: PDConv, generator: torch.Generator | None) -> dict[str, nn.Module]:
    kernel = merged_kernel(conv)
    if generator is not None:
        drawn = nn.init.kaiming_normal_(
            torch.empty(kernel.shape), mode='fan_out', nonlinearity='relu', generator=generator
        )
        kernel = drawn.to(kernel)
    norms = [leaf.bn for _, leaf in conv.leaves()]
    norm = nn.BatchNorm2d(conv.out_channels).to(kernel)
    norm.weight.copy_(elementwise_maximum([norm.weight for norm in norms]))
    norm.bias.copy_(elementwise_maximum([norm.bias for norm in norms]))
    return {'': plain_conv(conv, kernel, torch.zeros_like(norm.bias)), conv.host_norm: norm}


def merged_kernel(conv: PDConv) -> Tensor:
    """Return the elementwise maximum of the branches' kernels, (O, I/g, k, k)."""
    return elementwise_maximum([_full_size(leaf, conv) for _, leaf in conv.leaves()]).detach()


def _full_size(leaf: ConvNorm, conv: PDConv) -> Tensor:
    """Return the kernel of a branch or strip at the size of the plain one, with zeros outside."""
    kernel = expand_groups(leaf.conv.weight, leaf.conv.groups, conv.groups)
    rows, columns = ((full - size) // 2 for full, size in zip(conv.kernel_size, kernel.shape[2:], strict=True))
    return F.pad(kernel, (columns, columns, rows, rows))


def elementwise_maximum(tensors: Sequence[Tensor]) -> Tensor:
    """Return the largest value, by sign, at each place of tensors of one shape."""
    return torch.stack(list(tensors)).amax(0)
