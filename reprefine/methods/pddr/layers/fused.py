"""Sum of branches with batch statistics as one differentiable function, which may forget the branches in between.

For a branch ``c = conv(x)`` with batch mean ``m`` and variance ``v``, the norm is ``s (c - m) + beta`` with
``s = gamma / sqrt(v + eps)``. Forward adds it into the output in place, so that no normalised copy exists; backward
needs ``c - m`` only, kept or computed anew from ``x``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

from ..functional import Pair
from .branches import ConvNorm
from .gate import without_autocast

POSITIONS = (0, 2, 3)
# Multiply-adds per output value up to which the lean form computes an output anew: all of a ResNet-18 but the dense
# branches of its last stage, whose small maps would save little memory for much time.
CHEAP = 2304


@dataclass(frozen=True)
class LeafPlan:
    """How one convolution with norm is computed.

    Attributes:
        stride: In pixels.
        padding: In pixels.
        dilation: In pixels.
        groups: Groups of the convolution.
        eps: Of the norm.
        column: Number of the branch it belongs to, hence its column in the gate's weights.
        lean: Convolve anew in the backward pass instead of keeping the output.
    """

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    eps: float
    column: int
    lean: bool = False

    @classmethod
    def of(cls, leaf: ConvNorm, column: int, lean: bool) -> 'LeafPlan':
        """Describe a convolution with norm; if ``lean``, all but the dearest outputs are computed anew."""
        conv = leaf.conv
        is_cheap = conv.weight[0].numel() <= CHEAP
        return cls(conv.stride, conv.padding, conv.dilation, conv.groups, leaf.bn.eps, column, lean and is_cheap)

    def conv(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve without bias."""
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, need_x: bool) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of input (None if not needed) and kernel."""
        needed = [need_x, True, False]
        geometry = self.stride, self.padding, self.dilation, False, (0, 0), self.groups
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, needed)[:2]


def _planes(vector: Tensor) -> Tensor:
    return vector[..., None, None]


def centre(c: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the channel means in place.

    Args:
        c: ``[N, O, H, W]``; changed.

    Returns:
        Mean and biased variance ``[O]``, at least in float32.
    """
    dtype = torch.promote_types(c.dtype, torch.float32)
    mean = c.mean(POSITIONS, dtype=dtype)
    c.sub_(_planes(mean).to(c.dtype))
    return mean, c.to(dtype).square().sum(POSITIONS) * (c.shape[1] / c.numel())


class BranchSum(Function):
    """Differentiable :func:`branch_sum`; see there."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, pi: Tensor | None, plan: Sequence[LeafPlan], *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum ``[N, O, H', W']``, and the batch means and variances, each ``[leaves, O]``."""
        weights, gammas, betas = _thirds(parameters)
        centred, means, variances, out = [], [], [], None
        for leaf, weight, gamma in zip(plan, weights, gammas, strict=True):
            c = leaf.conv(x, weight)
            mean, variance = centre(c)
            scale = gamma * torch.rsqrt(variance + leaf.eps)
            scale = _planes(scale if pi is None else pi[:, leaf.column, None] * scale).to(c.dtype)
            out = c * scale if out is None else out.addcmul_(c, scale)
            means.append(mean)
            variances.append(variance)
            centred += [] if leaf.lean else [c]
        out += _planes(_shift(betas, pi, plan)).to(out.dtype)
        means, variances = torch.stack(means), torch.stack(variances)
        ctx.plan = plan
        ctx.save_for_backward(x, pi, means, variances, *parameters, *centred)
        ctx.mark_non_differentiable(means, variances)
        return out, means, variances

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input, gate and parameters."""
        x, pi, means, variances, *rest = ctx.saved_tensors
        count = len(ctx.plan)
        parameters, centred = rest[: 3 * count], iter(rest[3 * count :])
        grad = grad.contiguous(memory_format=torch.channels_last if _is_last(x) else torch.contiguous_format)
        per_sample = grad.sum((2, 3), dtype=means.dtype)
        grad_x, grad_pi, grads = None, None if pi is None else torch.zeros_like(pi), []
        for i, (leaf, weight, gamma, beta) in enumerate(zip(ctx.plan, *_thirds(parameters), strict=True)):
            c = leaf.conv(x, weight).sub_(_planes(means[i]).to(x.dtype)) if leaf.lean else next(centred)
            rstd = torch.rsqrt(variances[i] + leaf.eps)
            dots = _inner(grad, c)
            share = 1 if pi is None else pi[:, leaf.column, None]
            sum_beta, sum_gamma = (share * per_sample).sum(0), (share * dots).sum(0) * rstd
            if pi is not None:
                grad_pi[:, leaf.column] += dots @ (gamma * rstd).to(dots) + per_sample @ beta.to(dots)
            grad_c = _norm_backward(grad, c, gamma * rstd, share, sum_beta, sum_gamma * rstd)
            into_x, grad_weight = leaf.backward(grad_c, x, weight, ctx.needs_input_grad[0])
            if into_x is not None:
                grad_x = into_x if grad_x is None else grad_x.add_(into_x)
            grads.append((grad_weight, sum_gamma.to(gamma.dtype), sum_beta.to(beta.dtype)))
        return grad_x, grad_pi, None, *(grad for kind in zip(*grads, strict=True) for grad in kind)


def _thirds(parameters: Sequence[Tensor]) -> tuple[Sequence[Tensor], ...]:
    """Split the parameters into kernels, scales and shifts of the norms."""
    count = len(parameters) // 3
    return parameters[:count], parameters[count : 2 * count], parameters[2 * count :]


def _shift(betas: Sequence[Tensor], pi: Tensor | None, plan: Sequence[LeafPlan]) -> Tensor:
    """Return the constant part of the sum, ``[O]`` or ``[N, O]``."""
    betas = torch.stack(betas)
    return betas.sum(0) if pi is None else pi[:, [leaf.column for leaf in plan]] @ betas.to(pi.dtype)


def _is_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _inner(grad: Tensor, c: Tensor) -> Tensor:
    """Return the inner products over positions, ``[N, O]``, at least in float32."""
    return (grad * c).sum((2, 3), dtype=torch.promote_types(c.dtype, torch.float32))


def _norm_backward(
    grad: Tensor, c: Tensor, scale: Tensor, share: Tensor | int, sum_beta: Tensor, slope: Tensor
) -> Tensor:
    """Return ``scale (share grad - mean(share grad) - c slope / M)``, the gradient of the convolution's output."""
    inverse = c.shape[1] / c.numel()
    into = torch.addcmul(_planes(-scale * sum_beta * inverse).to(c.dtype), grad, _planes(share * scale).to(c.dtype))
    return into.addcmul_(c, _planes(-scale * slope * inverse).to(c.dtype))


def branch_sum(
    x: Tensor,
    pi: Tensor | None,
    plan: Sequence[LeafPlan],
    weights: Sequence[Tensor],
    gammas: Sequence[Tensor],
    betas: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``sum_b pi_b BN_b(conv_b(x))`` with batch statistics.

    Args:
        x: Input ``[N, I, H, W]``.
        pi: Weights of the branches ``[N, J]``; None for ones.
        plan: How each convolution works.
        weights: Kernels, one a convolution.
        gammas: Scales of the norms ``[O]``.
        betas: Shifts of the norms ``[O]``.

    Returns:
        Output ``[N, O, H', W']``; batch means and biased variances, ``[leaves, O]`` without gradient.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weights = x.to(dtype), [weight.to(dtype) for weight in weights]
    with without_autocast(x):
        return BranchSum.apply(x, pi, plan, *weights, *gammas, *betas)
