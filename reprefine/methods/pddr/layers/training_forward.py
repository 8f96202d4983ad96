"""The ways to compute the training form of a disentangled convolution; all give the same numbers."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .branches import update_statistics
from .fused import LeafPlan, branch_sum

if TYPE_CHECKING:
    from .conv import PDConv

COMPUTES = ('auto', 'branches', 'fused', 'lean')


def sum_of_branches(conv: 'PDConv', x: Tensor) -> Tensor:
    """Return the output ``[N, O, H', W']`` of the training form in the way that ``conv.compute`` and the norms allow.

    Args:
        conv: Module in training form.
        x: Input ``[N, I, H, W]``.

    Raises:
        ValueError: If training with batch statistics meets a single value per channel.
    """
    norms = [leaf.bn for _, leaf in conv.leaves()]
    if conv.compute == 'auto' and not any(bn.training for bn in norms):
        return folded_forward(conv, x)
    # Other kinds of norm share statistics between processes.
    can_fuse = all(bn.training and type(bn) is nn.BatchNorm2d for bn in norms)
    wants_fused = conv.compute in ('fused', 'lean') or (conv.compute == 'auto' and _fused_is_better(conv, x))
    if can_fuse and wants_fused and _has_statistics(conv, x):
        return fused_forward(conv, x)
    outputs = [getattr(conv, name)(x) for name in conv.branches]
    if conv.mode == 'A':
        return sum(outputs[1:], start=outputs[0])
    pi = conv.gate(x).to(outputs[0].dtype)
    return sum(y * pi[:, j, None, None, None] for j, y in enumerate(outputs))


def _has_statistics(conv: 'PDConv', x: Tensor) -> bool:
    """Whether the batch moves running statistics: torch leaves them as they are for an empty one.

    Raises:
        ValueError: As torch does, if there is a single value per channel, which has no variance.
    """
    geometry = zip(x.shape[2:], conv.padding, conv.dilation, conv.kernel_size, conv.stride, strict=True)
    size = [(length + 2 * p - d * (k - 1) - 1) // s + 1 for length, p, d, k, s in geometry]
    shape = torch.Size((len(x), conv.out_channels, *size))
    if len(x) * size[0] * size[1] == 1:
        raise ValueError(f'Expected more than 1 value per channel when training, got input size {shape}')
    return shape.numel() > 0


def _fused_is_better(conv: 'PDConv', x: Tensor) -> bool:
    # Measured on CPUs: no faster over a network, but PD-B holds a third less memory; PD-A gains neither.
    return conv.mode == 'B' and x.device.type == 'cpu'


def folded_forward(conv: 'PDConv', x: Tensor) -> Tensor:
    """Fold for this one pass, by the running statistics; gradients reach the branches through the fold."""
    kernels, biases = conv.folded()
    if conv.mode == 'B':
        return conv.mixture(x, kernels, biases)
    return F.conv2d(x, kernels.sum(0), biases.sum(0), conv.stride, conv.padding, conv.dilation, conv.groups)


def fused_forward(conv: 'PDConv', x: Tensor) -> Tensor:
    """Compute all branches in one function and move the running statistics."""
    leaves = list(conv.leaves())
    plan = [LeafPlan.of(leaf, column, lean=conv.compute == 'lean') for column, leaf in leaves]
    weights = [leaf.conv.weight for _, leaf in leaves]
    gammas, betas = ([getattr(leaf.bn, name) for _, leaf in leaves] for name in ('weight', 'bias'))
    pi = conv.gate(x) if conv.mode == 'B' else None
    y, means, variances = branch_sum(x, pi, plan, weights, gammas, betas)
    count = y.numel() / y.shape[1]
    for (_, leaf), mean, variance in zip(leaves, means, variances, strict=True):
        update_statistics(leaf.bn, mean, variance, count)
    return y
