"""The noise loss of one layer, with its gradient computed in the forward pass.

Only the predictor is trained by this loss, and its gradient follows from the prediction error at once. So no tensor of
the feature's size is saved for the backward pass, and on the CPU the feature is processed in chunks that fit its cache.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..functional import StepConstants, predict_noise

CPU_CHUNK = 2**20  # elements, 4 MB in float32

NoiseSampler = Callable[[torch.Size], Tensor]


class NoiseLossTerms(NamedTuple):
    """Noise loss of a chunk of a feature, summed over its elements, and its gradients.

    ``loss`` is a scalar; ``predictor`` has the shape ``[C, C / g]`` of ``D``, ``constant`` ``[C]`` or is None.
    """

    loss: Tensor
    predictor: Tensor
    constant: Tensor | None


def noise_loss_terms(
    feature: Tensor,
    noise: Tensor,
    predictor: Tensor,
    constant: Tensor | None,
    step: StepConstants,
    loss_type: str = 'l1+l2',
    channel_dim: int = -1,
) -> NoiseLossTerms:
    """Return the noise loss of a feature, summed over its elements, and its gradients.

    With ``e = D x_T + constant - eps`` the loss sums ``|e| + e^2``; its gradient in ``e`` is ``sign(e) + 2 e``.

    Args:
        feature: Clean feature ``x0``, ``[..., C]`` (``channel_dim=-1``) or ``[B, C, H, W]`` (``channel_dim=1``).
        noise: Standard normal noise of the same shape.
        predictor: ``D``, shape ``[C, C / g]``.
        constant: ``D tau + d``, shape ``[C]``, or None.
        step: Constants of the layer's timestep.
        loss_type: ``'l1+l2'``, ``'l1'`` or ``'l2'``.
        channel_dim: Axis of the channels, -1 or 1.
    """
    noisy = (step.noise * noise).add_(feature, alpha=step.signal)
    error = predict_noise(noisy, predictor, constant, channel_dim).sub_(noise)
    loss, error_gradient = error.new_zeros(()), None
    if 'l1' in loss_type:
        loss = torch.linalg.vector_norm(error, 1)
        error_gradient = error.sign()
    if 'l2' in loss_type:
        loss = loss + torch.linalg.vector_norm(error).square()
        error_gradient = error.mul_(2) if error_gradient is None else error_gradient.add_(error, alpha=2)
    return NoiseLossTerms(
        loss, *_predictor_gradient(error_gradient, noisy, predictor, constant is not None, channel_dim)
    )


def _predictor_gradient(
    error_gradient: Tensor, noisy: Tensor, predictor: Tensor, has_constant: bool, channel_dim: int
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients with respect to ``D`` and the constant, from that with respect to the prediction."""
    if channel_dim == -1:
        error_gradient, noisy = error_gradient.flatten(0, -2), noisy.flatten(0, -2)
        return error_gradient.T @ noisy, error_gradient.sum(0) if has_constant else None
    groups = predictor.shape[0] // predictor.shape[1]
    kernel = (*predictor.shape, 1, 1)
    gradient = torch.nn.grad.conv2d_weight(noisy, kernel, error_gradient, groups=groups).view_as(predictor)
    return gradient, error_gradient.sum((0, 2, 3)) if has_constant else None


def noise_prediction_loss(
    feature: Tensor,
    noise: Tensor | NoiseSampler,
    predictor: Tensor,
    constant: Tensor | None,
    step: StepConstants,
    loss_type: str = 'l1+l2',
    channel_dim: int = -1,
) -> Tensor:
    """Return the noise loss of one layer, a scalar: the mean over elements of :func:`noise_loss_terms`.

    Differentiable, once, in the predictor and the constant; no gradient reaches the feature.

    Args:
        feature: Clean feature ``x0``, ``[..., C]`` (``channel_dim=-1``) or ``[B, C, H, W]`` (``channel_dim=1``).
        noise: Standard normal noise of the feature's shape, or a function that draws it for a given shape and is called
            for each chunk of the feature.
        predictor: ``D``, shape ``[C, C / g]``.
        constant: ``D tau + d``, shape ``[C]``, or None.
        step: Constants of the layer's timestep.
        loss_type: ``'l1+l2'`` (mean absolute plus mean squared error), ``'l1'`` or ``'l2'``.
        channel_dim: Axis of the channels, -1 or 1.
    """
    return _NoisePredictionLoss.apply(predictor, constant, feature.detach(), noise, step, loss_type, channel_dim)


class _NoisePredictionLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        predictor: Tensor,
        constant: Tensor | None,
        feature: Tensor,
        noise: Tensor | NoiseSampler,
        step: StepConstants,
        loss_type: str,
        channel_dim: int,
    ) -> Tensor:
        total: NoiseLossTerms | None = None
        for chunk, chunk_noise in _chunks(feature, noise, channel_dim):
            terms = noise_loss_terms(chunk, chunk_noise, predictor, constant, step, loss_type, channel_dim)
            total = terms if total is None else _add(total, terms)
        ctx.save_for_backward(*total[1:])
        ctx.elements = max(feature.numel(), 1)  # the feature of a detector's head may have no box
        return total.loss / ctx.elements

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        scale = gradient / ctx.elements
        for_predictor, for_constant = ctx.saved_tensors
        return scale * for_predictor, None if for_constant is None else scale * for_constant, *[None] * 5


def _chunks(feature: Tensor, noise: Tensor | NoiseSampler, channel_dim: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield chunks of a feature and their noise, split along the positions (or images); a single chunk on a GPU."""
    if channel_dim == -1:
        feature = feature.reshape(-1, feature.shape[-1])
    rows = len(feature)
    if feature.device.type == 'cpu' and rows:
        rows = max(CPU_CHUNK * rows // max(feature.numel(), 1), 1)
    if isinstance(noise, Tensor):
        yield from zip(feature.split(rows), noise.reshape(feature.shape).split(rows), strict=True)
    else:
        yield from ((chunk, noise(chunk.shape)) for chunk in feature.split(rows))


def _add(total: NoiseLossTerms, terms: NoiseLossTerms) -> NoiseLossTerms:
    constant = None if total.constant is None else total.constant.add_(terms.constant)
    return NoiseLossTerms(total.loss + terms.loss, total.predictor.add_(terms.predictor), constant)
