"""Formulas of DenoiseRep as pure functions (arXiv 2406.08773; those for convolutions are ours).

Symbols: ``T`` timestep of a layer, ``D`` predictor matrix, ``d`` its bias, ``tau`` time vector, ``abar`` cumulative
product of ``1 - beta``, ``sigma = sqrt(1 - abar)``. A predictor over ``C`` channels in ``g`` groups is stored like a
1x1 convolution without its spatial axes, ``[C, C / g]``.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reprefine.engine.errors import UserError

LOSS_TYPES = ('l1+l2', 'l1', 'l2')


class StepConstants(NamedTuple):
    """Constants of adding noise up to timestep ``T`` and of one reverse step, as Python floats.

    ``x_T = signal * x + noise * eps`` and ``x_hat = c_x * x - c_e * eps_hat``; ``bias_std`` is the standard deviation
    of the stochastic part of the reverse step, ``sqrt(beta_T)``.
    """

    signal: float
    noise: float
    c_x: float
    c_e: float
    bias_std: float


def linear_betas(steps: int = 1000, start: float = 1e-4, end: float = 2e-3) -> Tensor:
    """Return the linear noise schedule ``[steps]`` in float64, both ends included.

    The default end is a tenth of the usual DDPM value, as in the published code.
    """
    return torch.linspace(start, end, steps, dtype=torch.float64)


def reverse_step(betas: Tensor, timestep: int) -> StepConstants:
    """Return the constants of one DDPM reverse step from ``timestep`` (0-based index into ``betas``).

    Raises:
        UserError: If ``timestep`` is not an index of the schedule.
    """
    _check_timestep(betas, timestep)
    beta = betas[timestep].item()
    abar = torch.cumprod(1 - betas, 0)[timestep].item()
    alpha, sigma = 1 - beta, math.sqrt(1 - abar)
    return StepConstants(
        math.sqrt(abar), sigma, 1 / math.sqrt(alpha), beta / (sigma * math.sqrt(alpha)), math.sqrt(beta)
    )


def ddim_step(betas: Tensor, timestep: int, to: int) -> StepConstants:
    """Return the constants of one deterministic step as in DDIM, from ``timestep`` down to ``to``.

    Not the published form, which goes down by one timestep. With ``to=0`` and the optimal predictor of
    :func:`optimal_predictor`, the step multiplies a direction of variance ``v`` by about
    ``sqrt(abar) v / (abar v + sigma^2)``: a Wiener filter for noise of variance ``sigma^2 / abar``, divided by
    ``sqrt(abar)``.

    Raises:
        UserError: If either is not an index of the schedule or ``to`` is not below ``timestep``.
    """
    _check_timestep(betas, timestep)
    _check_timestep(betas, to)
    if to >= timestep:
        raise UserError(f'to={to} is not below the timestep {timestep}: set a smaller target of the DDIM step')
    abars = torch.cumprod(1 - betas, 0)
    abar, target = abars[timestep].item(), abars[to].item()
    sigma = math.sqrt(1 - abar)
    c_e = math.sqrt(target) * sigma / math.sqrt(abar) - math.sqrt(1 - target)
    return StepConstants(math.sqrt(abar), sigma, math.sqrt(target / abar), c_e, 0.0)


def no_step(betas: Tensor, timestep: int) -> StepConstants:
    """Return the constants of adding noise up to ``timestep`` with the identity as reverse step.

    The noise loss is that of the timestep, and merged weights are equal to the layer's own, bit by bit.

    Raises:
        UserError: If ``timestep`` is not an index of the schedule.
    """
    return reverse_step(betas, timestep)._replace(c_x=1.0, c_e=0.0, bias_std=0.0)


def _check_timestep(betas: Tensor, timestep: int) -> None:
    if not 0 <= timestep < len(betas):
        raise UserError(f'timestep {timestep} is outside the schedule of {len(betas)} steps (0..{len(betas) - 1})')


def sinusoidal_embedding(timestep: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the float64 embedding ``[sin(t f), cos(t f)]`` of shape ``[width]``; ``f_i = 10000^(-i/(width/2-1))``."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float64, device=device) * (-math.log(10000) / (half - 1)))
    return torch.cat([torch.sin(timestep * frequencies), torch.cos(timestep * frequencies)])


def predict_noise(noisy: Tensor, predictor: Tensor, constant: Tensor | None, channel_dim: int) -> Tensor:
    """Apply the predictor to a noisy feature: ``D noisy + constant`` along the channels.

    Args:
        noisy: Feature ``[..., C]`` (``channel_dim=-1``) or ``[B, C, ...]`` (``channel_dim=1``).
        predictor: ``D``, shape ``[C, C / g]``; more than one group needs ``channel_dim=1``.
        constant: ``D tau + d``, shape ``[C]``, or None for zero.
        channel_dim: Axis of the channels, -1 or 1.
    """
    if channel_dim == -1:
        return F.linear(noisy, predictor, constant)
    groups = predictor.shape[0] // predictor.shape[1]
    return F.conv2d(noisy, predictor[..., None, None], constant, groups=groups)


def blockwise_product(predictor: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the block-diagonal predictor ``[C, C / g]`` with ``matrix`` of shape ``[C]`` or ``[C, K]``."""
    channels, width = predictor.shape
    blocks = predictor.view(channels // width, width, width)
    return (blocks @ matrix.reshape(channels // width, width, -1)).view(matrix.shape)


def merge_input_side(
    weight: Tensor, bias: Tensor | None, predictor: Tensor, shift: Tensor | None, step: StepConstants
) -> tuple[Tensor, Tensor | None]:
    """Merge a denoising step on the layer's *input* into its weight: ``W' = W (c_x - c_e D)``, ``b' = b + W shift``.

    Exact for a linear layer, and for a convolution if the input is denoised after padding.

    Args:
        weight: Weight ``[O, I / g, *kernel]``.
        bias: Bias ``[O]`` or None.
        predictor: ``D``, shape ``[I, I / g]``.
        shift: Constant that the step adds to the input, ``-c_e (D tau + d)``, shape ``[I]``, or None.
        step: Constants of the layer's timestep.

    Returns:
        Merged weight and bias; the bias is None when neither bias nor shift is given.
    """
    channels, width = predictor.shape
    groups = channels // width
    grouped = weight.reshape(groups, -1, width, weight[0, 0].numel())
    blocks = predictor.view(groups, width, width)
    merged = step.c_x * weight - step.c_e * torch.einsum('gomk,gmi->goik', grouped, blocks).reshape(weight.shape)
    if shift is not None:
        offset = torch.einsum('gomk,gm->go', grouped, shift.view(groups, width)).reshape(-1)
        bias = offset if bias is None else bias + offset
    return merged, bias


def merge_output_side(
    weight: Tensor, bias: Tensor | None, predictor: Tensor, shift: Tensor | None, step: StepConstants
) -> tuple[Tensor, Tensor | None]:
    """Merge a denoising step on the layer's *output* into its weight: ``W' = (c_x - c_e D) W``, same for the bias.

    Exact for every stride, padding, padding mode, dilation, group count and kernel size.

    Args:
        weight: Weight ``[O, I / g, *kernel]``.
        bias: Bias ``[O]`` or None.
        predictor: ``D``, shape ``[O, O / g]``.
        shift: Constant that the step adds to the output, ``-c_e (D tau + d)``, shape ``[O]``, or None.
        step: Constants of the layer's timestep.

    Returns:
        Merged weight and bias; the bias is None when neither bias nor shift is given.
    """
    merged = step.c_x * weight - step.c_e * blockwise_product(predictor, weight.flatten(1)).view(weight.shape)
    if bias is not None:
        bias = step.c_x * bias - step.c_e * blockwise_product(predictor, bias)
    if shift is not None:
        bias = shift if bias is None else bias + shift
    return merged, bias


def optimal_predictor(
    covariance: Tensor, mean: Tensor, step: StepConstants, with_constant: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the predictor that minimises the L2 noise loss, from the moments of the feature alone.

    ``D* = sigma (abar S + sigma^2 I)^-1`` with ``S`` the covariance and constant ``-D* sqrt(abar) mean``, or, without a
    constant, with ``S`` the raw second moment. Eigenvalues that are negative by rounding are set to zero, which bounds
    the inverse by ``1 / sigma^2``.

    Args:
        covariance: ``E[(x - E[x]) (x - E[x])^T]`` per group, ``[g, n, n]``.
        mean: ``E[x]``, ``[g, n]``.
        step: Constants of the layer's timestep.
        with_constant: Whether the predictor has a constant term.

    Returns:
        ``D*`` of shape ``[g * n, n]`` and the constant ``[g * n]`` or None.
    """
    moment = covariance if with_constant else covariance + mean[:, :, None] * mean[:, None, :]
    variances, directions = torch.linalg.eigh(moment)
    gains = step.noise / (step.signal**2 * variances.clamp(min=0) + step.noise**2)
    optimum = directions * gains[:, None] @ directions.mT
    constant = -step.signal * (optimum @ mean[..., None]).flatten() if with_constant else None
    return optimum.flatten(0, 1), constant


def expected_l2_loss(
    covariance: Tensor, mean: Tensor, predictor: Tensor, constant: Tensor | None, step: StepConstants
) -> Tensor:
    """Return the expectation of the L2 noise loss over noise and features, in closed form.

    A sum of three squares, without cancellation: the contributions of the noise, of the feature's covariance and of its
    mean to the prediction error.

    Args:
        covariance: ``E[(x - E[x]) (x - E[x])^T]`` per group, ``[g, n, n]``.
        mean: ``E[x]``, ``[g, n]``.
        predictor: ``D``, shape ``[g * n, n]``.
        constant: ``D tau + d``, shape ``[g * n]``, or None.
        step: Constants of the layer's timestep.
    """
    groups, width, _ = covariance.shape
    blocks = predictor.view(groups, width, width)
    eye = torch.eye(width, dtype=blocks.dtype, device=blocks.device)
    variance = torch.einsum('gij,gjk,gik->', blocks, covariance, blocks)
    offset = step.signal * (blocks @ mean[..., None]).flatten()
    offset = offset if constant is None else offset + constant
    squares = (eye - step.noise * blocks).square().sum() + step.signal**2 * variance + offset.square().sum()
    return squares / (groups * width)
