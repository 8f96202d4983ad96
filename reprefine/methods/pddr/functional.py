"""Formulas of parameter disentanglement (PDDR, 2025): equivalent kernels of branches, gate, per-sample mixed kernels.

Symbols: ``N`` samples, ``I`` input and ``O`` output channels, ``k`` kernel size (odd), ``J`` branches, ``g`` groups of
the replaced convolution. All functions are differentiable.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reprefine.engine.errors import UserError

from .layers.workspace import can_use_workspace, workspace

Pair = tuple[int, int]


def affine_of_norm(gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return scale and shift of a batch norm with fixed statistics: ``BN(c) = scale * c + shift``, each ``[O]``."""
    scale = gamma * torch.rsqrt(var + eps)
    return scale, beta - mean * scale


def fuse_conv_bn(weight: Tensor, scale: Tensor, shift: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fuse a convolution and the channel-wise scale and shift after it.

    Args:
        weight: Kernel ``[O, I/g, kh, kw]``.
        scale: Scale ``[O]`` after the convolution.
        shift: Shift ``[O]`` after the convolution.
        bias: Bias ``[O]`` of the convolution.

    Returns:
        Kernel ``[O, I/g, kh, kw]`` and bias ``[O]`` of the fused convolution.
    """
    fused_bias = shift if bias is None else shift + bias * scale
    return weight * scale[:, None, None, None], fused_bias


def expand_strips(vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Return the square kernel that equals the sum of a vertical and a horizontal strip, which overlap at its centre.

    Args:
        vertical: Kernel ``[O, I/g, k, 1]``.
        horizontal: Kernel ``[O, I/g, 1, k]``.

    Returns:
        Kernel ``[O, I/g, k, k]``, zero outside the cross.
    """
    half = vertical.shape[2] // 2
    return F.pad(vertical, (half, half)) + F.pad(horizontal, (0, 0, half, half))


def expand_groups(weight: Tensor, groups: int, conv_groups: int = 1) -> Tensor:
    """Return the kernel of the equivalent convolution with fewer groups.

    Output channel ``o`` of group ``q = o // (O/G)`` reads ``I/G`` input channels of its new group,
    starting at ``(q mod G/g) I/G``.

    Args:
        weight: Kernel ``[O, I/G, k, k]``.
        groups: Its number of groups ``G``.
        conv_groups: New number of groups ``g``, a divisor of ``G``.

    Returns:
        Kernel ``[O, I/g, k, k]``, zero outside the blocks.
    """
    inner = groups // conv_groups
    channels = weight.shape[1]
    blocks = weight.unflatten(0, (conv_groups, inner, -1))
    placed = [F.pad(blocks[:, q], (0, 0, 0, 0, q * channels, (inner - 1 - q) * channels)) for q in range(inner)]
    return torch.stack(placed, 1).flatten(0, 2)


def compose_map(
    kernels: Tensor, biases: Tensor, weight: Tensor, shift: Tensor, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Compose layers with a linear map of their output, ``y -> weight y + shift`` at every position.

    For layers whose outputs are mixed with weights that sum to one, composing each of them composes the mixture.
    Computed in float64 on the CPU, because some devices lack float64.

    Args:
        kernels: ``[..., O, R]``, where ``R`` is the fan-in: ``I``, or ``I/g k k`` flattened.
        biases: ``[..., O]``.
        weight: Map ``[O, O/g]``, laid out as the weight of a 1x1 convolution with ``g`` groups.
        shift: ``[O]``.
        groups: Groups ``g``.

    Returns:
        Composed kernels and biases, with the shape, dtype and device of the arguments.
    """
    exact = [tensor.to('cpu', torch.float64) for tensor in (kernels, biases, weight, shift)]
    blocks = exact[2].unflatten(0, (groups, -1))
    composed = blocks @ exact[0].unflatten(-2, (groups, -1))
    composed_biases = blocks @ exact[1].unflatten(-1, (groups, -1))[..., None]
    return composed.flatten(-3, -2).to(kernels), (composed_biases.flatten(-3) + exact[3]).to(biases)


def gate_weights(pooled: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Return the weight of each branch for each sample: ``softmax(W2 relu(W1 z + b1) + b2)``.

    Args:
        pooled: Global average pooling ``z`` of the input, ``[..., I]``.
        w1: Weight of the hidden layer ``[h, I]``.
        b1: Bias of the hidden layer ``[h]``.
        w2: Weight of the output layer ``[J, h]``.
        b2: Bias of the output layer ``[J]``.

    Returns:
        ``[..., J]``; rows sum to one.
    """
    return F.linear(F.relu(F.linear(pooled, w1, b1)), w2, b2).softmax(dim=-1)


def mixed_kernels_conv(
    x: Tensor, pi: Tensor, kernels: Tensor, biases: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Return the dynamic convolution ``conv(x_n, sum_j pi_nj K_j) + sum_j pi_nj b_j`` of each sample ``n``.

    Args:
        x: Input ``[N, I, H, W]``.
        pi: Branch weights ``[N, J]``.
        kernels: ``[J, O, I/g, k, k]``.
        biases: ``[J, O]``.
        stride: Stride (height, width) in pixels.
        padding: Zero padding (height, width) on each side, in pixels.
        dilation: Dilation (height, width) in pixels.
        groups: Groups ``g`` of the convolution.

    Returns:
        Output ``[N, O, H', W']``.
    """
    if not len(x):  # a grouped convolution needs at least one group
        return mixed_outputs_conv(x, pi, kernels, biases, stride, padding, dilation, groups)
    if x.device.type == 'cpu':  # sample by sample: convolutions with many groups are slow on CPUs
        samples = zip(x.split(1), pi.split(1), strict=True)
        outputs = [_grouped_conv(*sample, kernels, biases, stride, padding, dilation, groups) for sample in samples]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return _grouped_conv(x, pi, kernels, biases, stride, padding, dilation, groups)


def _grouped_conv(
    x: Tensor, pi: Tensor, kernels: Tensor, biases: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Convolve all samples in one grouped convolution with ``N g`` groups."""
    n, size = len(x), kernels.shape[2:]
    flat = kernels.flatten(1)
    out = workspace(n, flat.shape[1], flat) if can_use_workspace(x, pi, kernels) else None
    weight = torch.matmul(pi, flat, out=out).view(-1, *size)
    bias = (pi @ biases).flatten()
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight, bias, stride, padding, dilation, n * groups)
    return y.view(n, -1, *y.shape[2:])


def mixed_outputs_conv(
    x: Tensor, pi: Tensor, kernels: Tensor, biases: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Return the same as :func:`mixed_kernels_conv` by mixing the outputs of all kernels.

    One convolution with static weights and ``J O`` output channels: ``J`` times the multiply-adds, but no operation
    depends on the batch size, which export (ONNX, TensorRT) and quantisation need.
    """
    branches, out_channels = kernels.shape[:2]
    # Output channels ordered by group of the convolution, then by branch: [g, J, O/g].
    by_group = kernels.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
    bias = biases.unflatten(1, (groups, -1)).transpose(0, 1).flatten()
    y = F.conv2d(x, by_group, bias, stride, padding, dilation, groups)
    y = y.unflatten(1, (groups, branches, out_channels // groups))
    return torch.einsum('nj,ngjchw->ngchw', pi.to(y.dtype), y).flatten(1, 2)


def group_count(group_num: int | str, in_channels: int, out_channels: int, conv_groups: int = 1) -> int:
    """Return the number of groups of the group branch.

    Args:
        group_num: The number, or ``'auto'`` for ``gcd(64 g, I, O)``.
        in_channels: Input channels ``I``.
        out_channels: Output channels ``O``.
        conv_groups: Groups ``g`` of the replaced convolution.

    Raises:
        UserError: If the number does not divide both channel counts, or is not a multiple of ``conv_groups``.
    """
    if group_num == 'auto':
        return math.gcd(64 * conv_groups, in_channels, out_channels)
    if not isinstance(group_num, int) or group_num < 1:
        raise UserError(f"group_num={group_num!r}: use a positive integer or 'auto'")
    if in_channels % group_num or out_channels % group_num:
        raise UserError(
            f'group_num={group_num} does not divide {in_channels} input and {out_channels} output channels: '
            "use group_num='auto', or remove 'group' from branches"
        )
    if group_num % conv_groups:
        raise UserError(
            f'group_num={group_num} is not a multiple of the {conv_groups} groups of the replaced convolution: use '
            "a multiple, or group_num='auto'"
        )
    return group_num


def strip_paddings(kernel_size: int, padding: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Return the paddings with which the vertical and the horizontal strip give outputs aligned with the square kernel.

    Args:
        kernel_size: ``k`` of the square kernel.
        padding: Its padding (height, width) in pixels.
        dilation: Its dilation (height, width) in pixels.

    Raises:
        UserError: If a padding is smaller than ``dilation * (k // 2)``: a strip would need negative padding.
    """
    half = tuple(d * (kernel_size // 2) for d in dilation)
    if padding[0] < half[0] or padding[1] < half[1]:
        raise UserError(
            f'padding={padding} is smaller than dilation * (kernel_size // 2) = {half}, which the skeleton branch '
            "needs: use a larger padding, or remove 'skeleton' from branches"
        )
    return (padding[0], padding[1] - half[1]), (padding[0] - half[0], padding[1])
