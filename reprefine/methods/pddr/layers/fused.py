"""Sum of branches with batch statistics as one autograd function, optionally with activation recomputation.

For a branch ``c = conv(x)`` with batch mean ``m`` and variance ``v``, the norm is ``s (c - m) + beta`` with
``s = gamma / sqrt(v + eps)``. The forward pass adds it to the output in place, without a normalised copy; the backward
pass needs ``c - m`` only, which is saved or recomputed from ``x``.
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

CHANNEL_AXES = (0, 2, 3)  # reduced by the statistics of a channel
# Most multiply-adds per output value for which the lean form recomputes an output: in a ResNet-18 all but the dense
# branches of the last stage, whose small outputs take much time and little memory.
MAX_RECOMPUTED_MACS = 2304


@dataclass(frozen=True)
class ConvNormSpec:
    """Hyperparameters of one :class:`~.branches.ConvNorm`.

    Attributes:
        stride: Stride in pixels.
        padding: Zero padding in pixels.
        dilation: Dilation in pixels.
        groups: Groups of the convolution.
        eps: Epsilon of the norm.
        branch: Index of the branch, a column of the branch weights.
        lean: Whether the backward pass recomputes the output of the convolution.
    """

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    eps: float
    branch: int
    lean: bool = False

    @classmethod
    def of(cls, module: ConvNorm, branch: int, lean: bool) -> 'ConvNormSpec':
        """Return the hyperparameters of a module; with ``lean``, the most expensive outputs are still saved."""
        conv = module.conv
        is_cheap = conv.weight[0].numel() <= MAX_RECOMPUTED_MACS
        return cls(conv.stride, conv.padding, conv.dilation, conv.groups, module.bn.eps, branch, lean and is_cheap)

    def conv(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of ``x`` with ``weight``, without bias."""
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor, need_x: bool) -> tuple[Tensor | None, Tensor]:
        """Return the gradients of the input (None unless ``need_x``) and of the kernel."""
        needed = [need_x, True, False]
        geometry = self.stride, self.padding, self.dilation, False, (0, 0), self.groups
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, needed)[:2]


def _per_channel(vector: Tensor) -> Tensor:
    """Return ``[..., O]`` as ``[..., O, 1, 1]``, which broadcasts to feature maps."""
    return vector[..., None, None]


def center_(c: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the channel means in place.

    Args:
        c: Output of a convolution ``[N, O, H, W]``; changed.

    Returns:
        Mean and biased variance, each ``[O]``, at least in float32.
    """
    dtype = torch.promote_types(c.dtype, torch.float32)
    mean = c.mean(CHANNEL_AXES, dtype=dtype)
    c.sub_(_per_channel(mean).to(c.dtype))
    return mean, c.to(dtype).square().sum(CHANNEL_AXES) * (c.shape[1] / c.numel())


class BranchSumFunction(Function):
    """Autograd function of :func:`branch_sum`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, pi: Tensor | None, specs: Sequence[ConvNormSpec], *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum ``[N, O, H', W']``, and the batch means and variances, each ``[ConvNorms, O]``."""
        weights, gammas, betas = _split_parameters(parameters)
        centred, means, variances, out = [], [], [], None
        for spec, weight, gamma in zip(specs, weights, gammas, strict=True):
            c = spec.conv(x, weight)
            mean, variance = center_(c)
            scale = gamma * torch.rsqrt(variance + spec.eps)
            scale = _per_channel(scale if pi is None else pi[:, spec.branch, None] * scale).to(c.dtype)
            out = c * scale if out is None else out.addcmul_(c, scale)
            means.append(mean)
            variances.append(variance)
            centred += [] if spec.lean else [c]
        out += _per_channel(_shift(betas, pi, specs)).to(out.dtype)
        means, variances = torch.stack(means), torch.stack(variances)
        ctx.specs = specs
        ctx.save_for_backward(x, pi, means, variances, *parameters, *centred)
        ctx.mark_non_differentiable(means, variances)
        return out, means, variances

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of input, gate and parameters."""
        x, pi, means, variances, *rest = ctx.saved_tensors
        count = len(ctx.specs)
        parameters, centred = rest[: 3 * count], iter(rest[3 * count :])
        grad = grad.contiguous(memory_format=torch.channels_last if _is_channels_last(x) else torch.contiguous_format)
        per_sample = grad.sum((2, 3), dtype=means.dtype)
        grad_x, grad_pi, grads = None, None if pi is None else torch.zeros_like(pi), []
        for i, (spec, weight, gamma, beta) in enumerate(zip(ctx.specs, *_split_parameters(parameters), strict=True)):
            c = spec.conv(x, weight).sub_(_per_channel(means[i]).to(x.dtype)) if spec.lean else next(centred)
            rstd = torch.rsqrt(variances[i] + spec.eps)
            dots = _inner_products(grad, c)
            share = 1 if pi is None else pi[:, spec.branch, None]
            sum_beta, sum_gamma = (share * per_sample).sum(0), (share * dots).sum(0) * rstd
            if pi is not None:
                grad_pi[:, spec.branch] += dots @ (gamma * rstd).to(dots) + per_sample @ beta.to(dots)
            grad_c = _norm_backward(grad, c, gamma * rstd, share, sum_beta, sum_gamma * rstd)
            grad_branch, grad_weight = spec.backward(grad_c, x, weight, ctx.needs_input_grad[0])
            if grad_branch is not None:
                grad_x = grad_branch if grad_x is None else grad_x.add_(grad_branch)
            grads.append((grad_weight, sum_gamma.to(gamma.dtype), sum_beta.to(beta.dtype)))
        return grad_x, grad_pi, None, *(grad for kind in zip(*grads, strict=True) for grad in kind)


def _split_parameters(parameters: Sequence[Tensor]) -> tuple[Sequence[Tensor], ...]:
    """Split the parameters into kernels, gammas and betas."""
    count = len(parameters) // 3
    return parameters[:count], parameters[count : 2 * count], parameters[2 * count :]


def _shift(betas: Sequence[Tensor], pi: Tensor | None, specs: Sequence[ConvNormSpec]) -> Tensor:
    """Return the (weighted) sum of the betas, ``[O]`` or ``[N, O]``."""
    betas = torch.stack(betas)
    return betas.sum(0) if pi is None else pi[:, [spec.branch for spec in specs]] @ betas.to(pi.dtype)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _inner_products(grad: Tensor, c: Tensor) -> Tensor:
    """Return the inner products of ``grad`` and ``c`` over positions, ``[N, O]``, at least in float32."""
    return (grad * c).sum((2, 3), dtype=torch.promote_types(c.dtype, torch.float32))


def _norm_backward(
    grad: Tensor, c: Tensor, scale: Tensor, share: Tensor | int, sum_beta: Tensor, slope: Tensor
) -> Tensor:
    """Return ``scale (share grad - mean(share grad) - c slope / M)``, the gradient of the convolution's output."""
    inverse = c.shape[1] / c.numel()
    grad_c = torch.addcmul(
        _per_channel(-scale * sum_beta * inverse).to(c.dtype), grad, _per_channel(share * scale).to(c.dtype)
    )
    return grad_c.addcmul_(c, _per_channel(-scale * slope * inverse).to(c.dtype))


def branch_sum(
    x: Tensor,
    pi: Tensor | None,
    specs: Sequence[ConvNormSpec],
    weights: Sequence[Tensor],
    gammas: Sequence[Tensor],
    betas: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``sum_b pi_b BN_b(conv_b(x))`` with batch statistics.

    Args:
        x: Input ``[N, I, H, W]``.
        pi: Branch weights ``[N, J]``; None for ones (PD-A).
        specs: Hyperparameters, one for each ConvNorm.
        weights: Kernels, one for each ConvNorm.
        gammas: Scales ``[O]`` of the norms.
        betas: Shifts ``[O]`` of the norms.

    Returns:
        Output ``[N, O, H', W']``, and batch means and biased variances ``[ConvNorms, O]`` without gradient.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weights = x.to(dtype), [weight.to(dtype) for weight in weights]
    with without_autocast(x):
        return BranchSumFunction.apply(x, pi, specs, *weights, *gammas, *betas)
