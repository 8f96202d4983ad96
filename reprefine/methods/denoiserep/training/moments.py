"""First and second moments of the features that are denoised, over one pass of the data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..conversion.converted import denoise_layers, denoise_state
from ..functional import optimal_predictor
from ..layers.base import DenoiseLayer
from ..layers.noise_predictor import NoisePredictor

CHUNK = 2048  # positions per matrix product
BLOCK = 256  # channels per matrix product; blocks below the diagonal are left out


class FeatureMoments:
    """First and second moments of a feature.

    Products of the deviations from a fixed origin near the mean are computed in float64, ``CHUNK`` positions at a time.
    In float32 the rounding error of the directions of large variance would exceed the variance ``sigma^2`` of the
    noise, about 1e-4, and the variance of the other directions.

    Args:
        groups: Number of diagonal blocks ``g``.
        width: Channels per block ``n``.
        device: Device of the sums.
    """

    def __init__(self, groups: int, width: int, device: torch.device | None = None) -> None:
        self.groups, self.width = groups, width
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self._sums = torch.zeros(groups, width, dtype=torch.float64, device=device)
        self._products = torch.zeros(groups, width, width, dtype=torch.float64, device=device)  # upper triangle
        self._origin: Tensor | None = None  # [g, n], the mean of the first batch

    @torch.no_grad()
    def add(self, feature: Tensor, channel_dim: int, positions: Tensor | None = None) -> None:
        """Add a feature, or some positions of it.

        Args:
            feature: ``[..., C]`` (``channel_dim=-1``) or ``[B, C, ...]`` (``channel_dim=1``).
            channel_dim: Axis of the channels.
            positions: Flat indices ``[K]`` into all axes but the channels', of the positions to add; None for all.
        """
        feature = feature.movedim(channel_dim, -1)
        if positions is not None:
            feature = feature[torch.unravel_index(positions, feature.shape[:-1])]
        if not feature.numel():
            return
        rows = feature.reshape(-1, self.groups, self.width)
        if self._origin is None:
            self._origin = rows.mean(0, dtype=torch.float64)
        self.count += len(rows)
        for chunk in rows.split(CHUNK):
            self._add_deviations((chunk.double() - self._origin).transpose(0, 1))

    def _add_deviations(self, rows: Tensor) -> None:
        """Add deviations ``[g, K, n]``."""
        self._sums += rows.sum(1)
        for start in range(0, self.width, BLOCK):
            end = start + BLOCK
            self._products[:, start:end, start:] += rows[..., start:end].transpose(1, 2) @ rows[..., start:]

    def all_reduce(self) -> None:
        """Sum over all processes; no feature can be added afterwards."""
        total, weighted = self.count.clone(), self.count * self._origin_or_zero
        for tensor in (total, weighted):
            all_reduce(tensor, 'sum')
        origin = (weighted / total).nan_to_num(0.0)  # common to all processes, near the mean of each
        shift = self._origin_or_zero - origin
        cross = self._sums[:, :, None] * shift[:, None, :]
        self._products += cross + cross.mT + self.count * shift[:, :, None] * shift[:, None, :]
        self._sums += self.count * shift
        self._origin = origin
        for tensor in (self.count, self._sums, self._products):
            all_reduce(tensor, 'sum')

    @property
    def mean(self) -> Tensor:
        """``E[x]``, float64, shape ``[g, n]``."""
        return self._origin_or_zero + self._sums / self.count

    @property
    def covariance(self) -> Tensor:
        """``E[(x - E[x]) (x - E[x])^T]`` per group, float64, shape ``[g, n, n]``."""
        deviation = self._sums / self.count
        upper = self._products.triu() / self.count
        return upper + upper.triu(1).mT - deviation[:, :, None] * deviation[:, None, :]

    @property
    def second_moment(self) -> Tensor:
        """``E[x x^T]`` per group, float64, shape ``[g, n, n]``."""
        mean = self.mean
        return self.covariance + mean[:, :, None] * mean[:, None, :]

    @property
    def _origin_or_zero(self) -> Tensor:
        return torch.zeros_like(self._sums) if self._origin is None else self._origin


@contextmanager
def collect_moments(
    model: nn.Module, token_fraction: float = 1.0, generator: torch.Generator | None = None
) -> Iterator[dict[str, FeatureMoments]]:
    """Collect the moments of every feature that ``model`` denoises, while the context is open.

    Run the model in evaluation mode. It does not denoise meanwhile, so that all predictors can be fitted from one pass.
    Yields the moments by layer name.

    Args:
        model: Converted model.
        token_fraction: Fraction of the positions of every feature that are used, drawn for each call of a layer.
        generator: Generator of the positions, on the CPU; None for torch's global one.

    Raises:
        UserError: If the fraction is not in ``(0, 1]``.
    """
    if not 0 < token_fraction <= 1:
        raise UserError(f'token_fraction={token_fraction}: set a value above 0 and at most 1')
    layers = denoise_layers(model)
    state = denoise_state(model)
    was_denoised, state.denoise_eval = state.denoise_eval, False
    moments: dict[str, FeatureMoments] = {}
    handles = []
    for name, layer in layers.items():
        channels, width = layer.denoiser.weight.shape
        moments[name] = FeatureMoments(channels // width, width, layer.denoiser.weight.device)
        handles.append(layer.register_forward_hook(_collector(moments[name], token_fraction, generator)))
    try:
        yield moments
    finally:
        state.denoise_eval = was_denoised
        for handle in handles:
            handle.remove()


def _collector(moments: FeatureMoments, fraction: float, generator: torch.Generator | None) -> Callable:
    def collect(layer: DenoiseLayer, inputs: tuple, output: Tensor) -> None:
        feature, positions = inputs[0] if layer.side == 'input' else output, None
        if fraction < 1:
            count = feature.numel() // max(feature.shape[layer.channel_dim], 1)
            kept = max(round(fraction * count), 1)
            positions = torch.randperm(count, generator=generator)[:kept].to(feature.device, non_blocking=True)
        moments.add(feature, layer.channel_dim, positions)

    return collect


def set_optimal_predictor(predictor: NoisePredictor, moments: FeatureMoments) -> None:
    """Set a predictor to the minimiser of its expected L2 noise loss at its timestep.

    Args:
        predictor: The predictor.
        moments: Moments of its feature.
    """
    optimum = optimal_predictor(moments.covariance, moments.mean, predictor.step, predictor.bias is not None)
    predictor.set_predictor(*optimum)
