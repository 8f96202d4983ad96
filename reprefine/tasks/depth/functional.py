"""Formulas of depth estimation: depth from bins, the two losses, the evaluation mask and the metrics."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Keeps logarithms finite at pixels without depth.
LOG_OFFSET = 1e-3
# Keeps the gradient of a square root finite at zero.
TINY = 1e-12


def at_least_float32(values: Tensor) -> Tensor:
    """Return ``values`` in float32, or as they are if their type is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def depth_from_bins(logits: Tensor, bins: Tensor) -> Tensor:
    """Return the mean depth under the distribution ``relu(logit) + 0.1``, normalised over the bins.

    Computed in float32 at least, also under autocast.

    Args:
        logits: Shape (B, K, H, W).
        bins: Depth of each bin in metres, shape (K,).

    Returns:
        Depth in metres, shape (B, 1, H, W), between the smallest and the largest bin.
    """
    with torch.autocast(logits.device.type, enabled=False):
        weights = F.relu(at_least_float32(logits)) + 0.1
        depth = torch.einsum('bkhw,k->bhw', weights, bins.to(weights)) / weights.sum(dim=1)
    return depth[:, None].clamp(bins.min(), bins.max())


def log_error(depth: Tensor, target: Tensor) -> Tensor:
    """Return the difference of the logarithms of two depth maps in metres, in float32 at least."""
    depth, target = at_least_float32(depth), at_least_float32(target)
    return torch.log(depth + LOG_OFFSET) - torch.log(target + LOG_OFFSET)


def sig_loss(depth: Tensor, target: Tensor, variance_weight: float | Tensor = 1.0) -> Tensor:
    """Return the scale-invariant loss ``sqrt(var(g) + 0.15 mean(g)^2)`` of the log error g over all valid pixels.

    Args:
        depth: Predicted depth in metres, any shape.
        target: True depth of the same shape; pixels without a measurement are 0.
        variance_weight: Factor of the unbiased variance; 0 keeps the term of the mean only.
    """
    valid = target > 0
    error = log_error(depth, target) * valid
    count = valid.sum()
    mean = error.sum() / count.clamp(min=1)
    variance = ((error - mean).square() * valid).sum() / (count - 1).clamp(min=1)
    return (variance_weight * variance + 0.15 * mean.square()).clamp(min=TINY).sqrt()


def gradient_loss(depth: Tensor, target: Tensor, strides: Sequence[int] = (1, 2, 4, 6)) -> Tensor:
    """Return the absolute difference of the log error between pixels at distance two, along rows and columns.

    At each stride the differences between pairs of valid pixels are summed and divided by the number of valid
    pixels; strides are summed, images averaged.

    Args:
        depth: Predicted depth in metres, shape (B, 1, H, W).
        target: True depth of the same shape; pixels without a measurement are 0.
        strides: Steps at which the maps are subsampled.
    """
    valid = target > 0
    error = log_error(depth, target)
    return sum(_mean_difference(error[..., ::step, ::step], valid[..., ::step, ::step]) for step in strides).mean()


def _mean_difference(error: Tensor, valid: Tensor) -> Tensor:
    """Return the sum of the differences of each image over its number of valid pixels, shape (B,)."""
    rows = (error[..., 2:, :] - error[..., :-2, :]).abs() * (valid[..., 2:, :] & valid[..., :-2, :])
    columns = (error[..., 2:] - error[..., :-2]).abs() * (valid[..., 2:] & valid[..., :-2])
    return (rows.flatten(1).sum(1) + columns.flatten(1).sum(1)) / valid.flatten(1).sum(1).clamp(min=1)


def depth_metrics(depth: Tensor, target: Tensor) -> dict[str, float]:
    """Return the usual error measures over the pixels of one image.

    Args:
        depth: Predicted depth in metres, shape (N,).
        target: True depth, shape (N,).

    Returns:
        ``d1`` to ``d3``, the share of pixels that are off by a factor below 1.25, 1.25^2 and 1.25^3; ``abs_rel``,
        ``sq_rel``, ``rmse``, ``rmse_log``, ``log10`` and ``silog``, which is 100 times the standard deviation of the
        log error. All are nan if there is no pixel.
    """
    depth, target = depth.double(), target.double()
    ratio = torch.maximum(depth / target, target / depth)
    error = depth - target
    log = torch.log(depth) - torch.log(target)
    metrics = {f'd{power}': (ratio < 1.25**power).double().mean() for power in (1, 2, 3)}
    metrics |= {
        'abs_rel': (error.abs() / target).mean(),
        'sq_rel': (error.square() / target).mean(),
        'rmse': error.square().mean().sqrt(),
        'rmse_log': log.square().mean().sqrt(),
        'log10': (torch.log10(depth) - torch.log10(target)).abs().mean(),
        'silog': 100 * (log.square().mean() - log.mean().square()).clamp(min=0).sqrt(),
    }
    return dict(zip(metrics, torch.stack(list(metrics.values())).tolist(), strict=True))
