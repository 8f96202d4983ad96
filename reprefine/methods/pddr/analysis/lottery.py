"""Starting a plain network from a trained PD-A one, not by the sum of the branches but by their maximum."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError

from ..conv import PDConv
from ..functional import expand_groups
from ..layers import ConvNorm
from .functional import elementwise_maximum


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
    layers = {name: m for name, m in model.named_modules() if isinstance(m, PDConv)}
    if not layers or any(conv.mode != 'A' or conv.deploy or conv.host_norm is None for conv in layers.values()):
        raise UserError('the transfer needs PD-A convolutions in training form, each in place of one with a norm')
    state = dict(model.state_dict())
    for name, conv in layers.items():
        state = {key: value for key, value in state.items() if not key.startswith(f'{name}.')}
        parent = name.rpartition('.')[0]
        norm = f'{parent}.{conv.host_norm}' if parent else conv.host_norm
        state[f'{name}.weight'] = merged_kernel(conv) if generator is None else _redrawn(conv, generator)
        state |= {f'{norm}.{key}': value for key, value in _merged_norm(conv).items()}
    return state


def merged_kernel(conv: PDConv) -> Tensor:
    """Return the elementwise maximum of the branches' kernels, (O, I/g, k, k)."""
    return elementwise_maximum([_full_size(leaf, conv) for _, leaf in conv.leaves()]).detach()


def _full_size(leaf: ConvNorm, conv: PDConv) -> Tensor:
    """Return the kernel of a branch or strip at the size of the plain one, with zeros outside."""
    kernel = expand_groups(leaf.conv.weight, leaf.conv.groups, conv.groups)
    rows, columns = ((full - size) // 2 for full, size in zip(conv.kernel_size, kernel.shape[2:], strict=True))
    return F.pad(kernel, (columns, columns, rows, rows))


def _redrawn(conv: PDConv, generator: torch.Generator) -> Tensor:
    kernel = torch.empty(merged_kernel(conv).shape)
    return nn.init.kaiming_normal_(kernel, mode='fan_out', nonlinearity='relu', generator=generator)


def _merged_norm(conv: PDConv) -> dict[str, Tensor]:
    norms = [leaf.bn for _, leaf in conv.leaves()]
    weight, bias = (elementwise_maximum([getattr(norm, key) for norm in norms]).detach() for key in ('weight', 'bias'))
    return dict(
        weight=weight,
        bias=bias,
        running_mean=torch.zeros_like(bias),
        running_var=torch.ones_like(bias),
        num_batches_tracked=torch.zeros((), dtype=torch.long),
    )
