"""Forward pass of the training form of PDConv: branch by branch, fused, or with an equivalent kernel."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .branches import update_statistics
from .fused import ConvNormSpec, branch_sum

if TYPE_CHECKING:
    from .conv import PDConv

COMPUTES = ('auto', 'branches', 'fused', 'lean')


def training_forward(conv: 'PDConv', x: Tensor) -> Tensor:
    """Return the output ``[N, O, H', W']`` of the training form, computed as ``conv.compute`` says.

    The fused forms need plain batch norms in training mode; otherwise the branches are computed one by one.

    Args:
        conv: Module in training form.
        x: Input ``[N, I, H, W]``.

    Raises:
        UserError: If the batch has a single value per channel, for which a fused form has no variance.
    """
    norms = [part.bn for _, part in conv.conv_norms()]
    if conv.compute == 'auto' and not any(bn.training for bn in norms):
        return reparameterized_forward(conv, x)
    # SyncBN and its like synchronise batch statistics between processes.
    can_fuse = all(bn.training and type(bn) is nn.BatchNorm2d for bn in norms)
    wants_fused = conv.compute in ('fused', 'lean') or (conv.compute == 'auto' and _prefers_fused(conv, x))
    if can_fuse and wants_fused and _has_statistics(conv, x):
        return fused_training_forward(conv, x)
    outputs = [getattr(conv, name)(x) for name in conv.branches]
    if conv.mode == 'A':
        return sum(outputs[1:], start=outputs[0])
    pi = conv.gate(x).to(outputs[0].dtype)
    return sum(y * pi[:, j, None, None, None] for j, y in enumerate(outputs))


def _has_statistics(conv: 'PDConv', x: Tensor) -> bool:
    """Return whether the batch has statistics; an empty batch has none.

    Raises:
        UserError: As torch does, if there is a single value per channel, which has no variance.
    """
    geometry = zip(x.shape[2:], conv.padding, conv.dilation, conv.kernel_size, conv.stride, strict=True)
    size = [(length + 2 * p - d * (k - 1) - 1) // s + 1 for length, p, d, k, s in geometry]
    shape = torch.Size((len(x), conv.out_channels, *size))
    if len(x) * size[0] * size[1] == 1:
        raise UserError(
            f'Expected more than 1 value per channel when training, got input size {shape}: use a larger batch or image'
        )
    return shape.numel() > 0


def _prefers_fused(conv: 'PDConv', x: Tensor) -> bool:
    # Measured on CPUs: not faster for a whole network, but PD-B needs a third less memory; PD-A gains neither.
    return conv.mode == 'B' and x.device.type == 'cpu'


def reparameterized_forward(conv: 'PDConv', x: Tensor) -> Tensor:
    """Convolve with the equivalent kernel by running statistics; differentiable for the parameters of the branches."""
    kernels, biases = conv.equivalent_kernels_biases()
    if conv.mode == 'B':
        return conv.mixture(x, kernels, biases)
    return F.conv2d(x, kernels.sum(0), biases.sum(0), conv.stride, conv.padding, conv.dilation, conv.groups)


def fused_training_forward(conv: 'PDConv', x: Tensor) -> Tensor:
    """Compute all branches in one autograd function and update the running statistics."""
    indices, conv_norms = zip(*conv.conv_norms(), strict=True)
    is_lean = conv.compute == 'lean'
    specs = [ConvNormSpec.of(part, branch, lean=is_lean) for branch, part in zip(indices, conv_norms, strict=True)]
    weights = [part.conv.weight for part in conv_norms]
    gammas, betas = ([getattr(part.bn, name) for part in conv_norms] for name in ('weight', 'bias'))
    pi = conv.gate(x) if conv.mode == 'B' else None
    y, means, variances = branch_sum(x, pi, specs, weights, gammas, betas)
    count = y.numel() / y.shape[1]
    for part, mean, variance in zip(conv_norms, means, variances, strict=True):
        update_statistics(part.bn, mean, variance, count)
    return y
