"""Formulas of parameter disentanglement (PDDR, 2025): folding of branches, the gate and the per-sample mixture.

Shapes: ``N`` samples, ``I`` and ``O`` channels in and out, ``k`` the odd kernel size, ``J`` branches, ``g`` groups of
the host convolution. All functions are differentiable.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reprefine.engine.errors import UserError

from .layers.workspace import can_reuse, scratch

Pair = tuple[int, int]


def affine_of_norm(gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch norm with fixed statistics: ``BN(c) = scale * c + shift``, each ``[O]``."""
    scale = gamma * torch.rsqrt(var + eps)
    return scale, beta - mean * scale


def fold_norm(weight: Tensor, scale: Tensor, shift: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fold a channel-wise scale and shift into the convolution before it.

    Args:
        weight: Kernel ``[O, I/g, kh, kw]``.
        scale: Scale ``[O]`` after the convolution.
        shift: Shift ``[O]`` after the convolution.
        bias: Bias ``[O]`` of the convolution.

    Returns:
        Kernel and bias of the one convolution that does both.
    """
    folded = shift if bias is None else shift + bias * scale
    return weight * scale[:, None, None, None], folded


def expand_strips(vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Write a vertical and a horizontal strip into one square kernel; both add at its centre.

    Args:
        vertical: Kernel ``[O, I/g, k, 1]``.
        horizontal: Kernel ``[O, I/g, 1, k]``.

    Returns:
        Kernel ``[O, I/g, k, k]``, zero outside the cross.
    """
    half = vertical.shape[2] // 2
    return F.pad(vertical, (half, half)) + F.pad(horizontal, (0, 0, half, half))


def expand_groups(weight: Tensor, groups: int, host_groups: int = 1) -> Tensor:
    """Write the kernel of a grouped convolution as one with fewer groups.

    Output channel ``o`` of group ``q = o // (O/G)`` sees the inputs ``(q mod G/g) I/G ...`` of its host group.

    Args:
        weight: Kernel ``[O, I/G, k, k]``.
        groups: Its number of groups ``G``.
        host_groups: Number of groups ``g`` wanted, a divisor of ``G``.

    Returns:
        Kernel ``[O, I/g, k, k]``, zero outside the blocks.
    """
    inner = groups // host_groups
    channels = weight.shape[1]
    blocks = weight.unflatten(0, (host_groups, inner, -1))
    placed = [F.pad(blocks[:, q], (0, 0, 0, 0, q * channels, (inner - 1 - q) * channels)) for q in range(inner)]
    return torch.stack(placed, 1).flatten(0, 2)


def compose_map(
    kernels: Tensor, biases: Tensor, weight: Tensor, shift: Tensor, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Fold a linear map of the output, ``y -> weight y + shift`` at every position, into layers of the same output.

    With several layers whose outputs are mixed by weights that sum to one, the map of each is the map of the mixture.
    Computed in float64, on the CPU as not every device has it.

    Args:
        kernels: ``[..., O, R]``, where ``R`` is what a unit of output sees: ``I`` or ``I/g k k`` flattened.
        biases: ``[..., O]``.
        weight: Map ``[O, O/g]``, one block a group as the weight of a 1x1 convolution.
        shift: ``[O]``.
        groups: Groups ``g``.

    Returns:
        Kernels and biases that do both, of the shapes, types and device of those given.
    """
    exact = [tensor.to('cpu', torch.float64) for tensor in (kernels, biases, weight, shift)]
    blocks = exact[2].unflatten(0, (groups, -1))
    mapped = blocks @ exact[0].unflatten(-2, (groups, -1))
    moved = blocks @ exact[1].unflatten(-1, (groups, -1))[..., None]
    return mapped.flatten(-3, -2).to(kernels), (moved.flatten(-3) + exact[3]).to(biases)


def gate_weights(pooled: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Return the weight of each branch for each sample: ``softmax(W2 relu(W1 z + b1) + b2)``.

    Args:
        pooled: Mean ``z`` of the input over its positions, ``[..., I]``.
        w1: ``[h, I]``.
        b1: ``[h]``.
        w2: ``[J, h]``.
        b2: ``[J]``.

    Returns:
        ``[..., J]``; rows sum to one.
    """
    return F.linear(F.relu(F.linear(pooled, w1, b1)), w2, b2).softmax(dim=-1)


def mixed_kernels_conv(
    x: Tensor, pi: Tensor, kernels: Tensor, biases: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Convolve each sample with its own mixture of kernels: ``conv(x_n, sum_j pi_nj K_j) + sum_j pi_nj b_j``.

    Args:
        x: Input ``[N, I, H, W]``.
        pi: Weights of the branches ``[N, J]``.
        kernels: ``[J, O, I/g, k, k]``.
        biases: ``[J, O]``.
        stride: Of the convolution, in pixels.
        padding: Zeros added on each side, in pixels.
        dilation: Distance between taps, in pixels.
        groups: Groups ``g`` of the convolution.

    Returns:
        ``[N, O, H', W']``
    """
    if not len(x):  # no sample, hence no groups
        return mixed_outputs_conv(x, pi, kernels, biases, stride, padding, dilation, groups)
    if x.device.type == 'cpu':  # where many groups are slow, and a kernel that fits the cache is not
        rows = [_mixed_kernels_conv(*row, kernels, biases, stride, padding, dilation, groups) for row in _rows(x, pi)]
        return rows[0] if len(rows) == 1 else torch.cat(rows)
    return _mixed_kernels_conv(x, pi, kernels, biases, stride, padding, dilation, groups)


def _rows(x: Tensor, pi: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(1), pi.split(1), strict=True))


def _mixed_kernels_conv(
    x: Tensor, pi: Tensor, kernels: Tensor, biases: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Convolve all samples at once, each as groups of its own."""
    n, size = len(x), kernels.shape[2:]
    flat = kernels.flatten(1)
    out = scratch(n, flat.shape[1], flat) if can_reuse(x, pi, kernels) else None
    weight = torch.matmul(pi, flat, out=out).view(-1, *size)
    bias = (pi @ biases).flatten()
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, bias, stride, padding, dilation, n * groups)
    return y.view(n, -1, *y.shape[2:])


def mixed_outputs_conv(
    x: Tensor, pi: Tensor, kernels: Tensor, biases: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Compute what :func:`mixed_kernels_conv` does by mixing the outputs of all kernels.

    One convolution with fixed weights and ``J O`` output channels: ``J`` times the work, but nothing in it depends on
    the batch, as exporters and quantisers want it.
    """
    branches, out_channels = kernels.shape[:2]
    # Channels of a host group must stay together: [g, J, O/g].
    by_group = kernels.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
    bias = biases.unflatten(1, (groups, -1)).transpose(0, 1).flatten()
    y = F.conv2d(x, by_group, bias, stride, padding, dilation, groups)
    y = y.unflatten(1, (groups, branches, out_channels // groups))
    return torch.einsum('nj,ngjchw->ngchw', pi.to(y.dtype), y).flatten(1, 2)


def group_count(group_num: int | str, in_channels: int, out_channels: int, host_groups: int = 1) -> int:
    """Return the number of groups of the group branch.

    Args:
        group_num: The number, or ``'auto'`` for the largest divisor of both widths up to 64.
        in_channels: ``I``.
        out_channels: ``O``.
        host_groups: Groups of the host convolution.

    Raises:
        UserError: If the number does not divide both widths, or is no multiple of the host's groups.
    """
    if group_num == 'auto':
        return math.gcd(64 * host_groups, in_channels, out_channels)
    if not isinstance(group_num, int) or group_num < 1:
        raise UserError(f"group_num={group_num!r}: use a positive integer or 'auto'")
    if in_channels % group_num or out_channels % group_num:
        raise UserError(
            f'{in_channels} -> {out_channels} channels cannot be split into {group_num} groups; '
            "use group_num='auto', or leave the group branch out"
        )
    if group_num % host_groups:
        raise UserError(f'group_num={group_num} is no multiple of the {host_groups} groups of the host convolution')
    return group_num


def strip_paddings(kernel_size: int, padding: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Return the paddings of the vertical and the horizontal strip that see what the square kernel sees.

    Args:
        kernel_size: ``k`` of the square kernel.
        padding: Its padding, in pixels.
        dilation: Its dilation, in pixels.

    Raises:
        UserError: If a padding is smaller than the reach of the kernel: a strip would have to crop its input.
    """
    reach = tuple(d * (kernel_size // 2) for d in dilation)
    if padding[0] < reach[0] or padding[1] < reach[1]:
        raise UserError(
            f'padding {padding} is smaller than the reach {reach} of the kernel, so the strips of the skeleton would '
            'need cropping; pad at least that much, or leave the skeleton out'
        )
    return (padding[0], padding[1] - reach[1]), (padding[0] - reach[0], padding[1])
