"""Multiresolution hash encoding of image coordinates (Müller et al. 2022), with the semantics of tiny-cuda-nn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.models.precision import KeepsPrecision

PRIME = 2654435761
UINT32 = 0xFFFFFFFF


def level_scales(n_levels: int, base_resolution: int, max_resolution: int) -> np.ndarray:
    """Return the scale of every level, ``b^l * N_min - 1`` in float32 as tiny-cuda-nn computes it, ``[L]``."""
    growth = per_level_scale(n_levels, base_resolution, max_resolution)
    levels = np.arange(n_levels, dtype=np.float32)
    return np.exp2(levels * np.log2(growth)) * np.float32(base_resolution) - np.float32(1)


def per_level_scale(n_levels: int, base_resolution: int, max_resolution: int) -> np.float32:
    """Return the growth ``b`` from one level to the next, rounded to float32."""
    return np.float32(np.exp((np.log(max_resolution) - np.log(base_resolution)) / max(n_levels - 1, 1)))


class HashGrid(KeepsPrecision):
    """Grids of trained features from coarse to fine, read bilinearly; several images have one stack of grids.

    Fine levels with more nodes than ``2^log2_hashmap_size`` share their entries by a hash. All numbers lie in one flat
    vector an image, level by level, entry by entry.

    Args:
        n_levels: Number of grids.
        n_features: Features of a grid.
        log2_hashmap_size: Largest number of entries of a grid, as a power of 2.
        base_resolution: Nodes along an axis of the coarsest grid.
        max_resolution: The same of the finest.
        resolutions: The nodes along an axis of every level, in place of the two numbers before.
        boundary: Where the right neighbour of a point at 1 is read: ``'wrap'`` takes the next row, as tiny-cuda-nn
            does; ``'clamp'`` the last node.
        num_images: Images of the stack.
    """

    full_precision = ('scale',)

    def __init__(
        self,
        n_levels: int = 16,
        n_features: int = 8,
        log2_hashmap_size: int = 20,
        base_resolution: int = 16,
        max_resolution: int = 1024,
        resolutions: Sequence[int] | None = None,
        boundary: str = 'wrap',
        num_images: int = 1,
    ):
        super().__init__()
        if boundary not in ('wrap', 'clamp'):
            raise UserError(f"boundary of the hash grid is 'wrap' or 'clamp', not {boundary!r}")
        if resolutions is None:
            scales = level_scales(n_levels, base_resolution, max_resolution)
        else:
            scales = np.array(resolutions, dtype=np.float32) - np.float32(1)
        res = np.ceil(scales).astype(np.int64) + 1
        sizes = np.minimum((res**2 + 7) // 8 * 8, 2**log2_hashmap_size)
        self.resolutions, self.sizes = res.tolist(), sizes.tolist()
        self.n_features = n_features
        self.out_channels = len(sizes) * n_features
        self.boundary = boundary
        self.hashed = (res**2 > sizes).nonzero()[0].tolist()
        for name, values in (('scale', scales), ('res', res), ('size', sizes), ('offset', np.cumsum(sizes) - sizes)):
            self.register_buffer(name, torch.from_numpy(values)[:, None], persistent=False)
        self.table = nn.Parameter(torch.empty(num_images, sum(self.sizes) * n_features))

    @torch.no_grad()
    def reset(self, image: int, generator: torch.Generator) -> None:
        """Draw the numbers of one image from U(-1e-4, 1e-4)."""
        self.table[image].uniform_(-1e-4, 1e-4, generator=generator)

    def corners(self, coords: Tensor) -> tuple[Tensor, Tensor]:
        """Return entries and weights of the four nodes around every point, on every level.

        Args:
            coords: Points ``(x, y)`` in [0, 1], ``[N, 2]``, float32.

        Returns:
            Indices into the entries of an image and weights, both ``[N, L, 4]``.
        """
        place = self.scale.T * coords[..., None] + 0.5  # [N, 2, L]
        cell = place.floor()
        frac = place - cell
        near, far = 1 - frac, frac
        weights = [y * x for y in (near[:, 1], far[:, 1]) for x in (near[:, 0], far[:, 0])]
        column, row = cell.long().unbind(1)
        indices = [self._entry(column + dx, row + dy) for dy in (0, 1) for dx in (0, 1)]
        return torch.stack(indices, -1), torch.stack(weights, -1)

    def _entry(self, column: Tensor, row: Tensor) -> Tensor:
        """Return the entries of nodes ``[N, L]``."""
        res, size, offset = self.res[:, 0], self.size[:, 0], self.offset[:, 0]
        if self.boundary == 'clamp':
            column, row = column.minimum(res - 1), row.minimum(res - 1)
        index = column + row * res
        for level in self.hashed:
            index[:, level] = column[:, level] ^ (row[:, level] * PRIME & UINT32)
        return index % size + offset

    def forward(self, coords: Tensor, image: int | None = None) -> Tensor:
        """Encode points ``[B, N, 2]`` as ``[B, N, L * n_features]``, by one look-up for all.

        Args:
            coords: Points of the B images of the stack, or of one.
            image: That one.
        """
        table = self.table if image is None else self.table[image]
        images, count = coords.shape[:2]
        indices, weights = self.corners(coords.reshape(-1, 2))
        first = torch.arange(images, device=coords.device) * sum(self.sizes)
        indices = indices.unflatten(0, (images, count)) + first[:, None, None, None]
        entries = F.embedding_bag(
            indices.reshape(-1, 4),
            table.view(-1, self.n_features),
            mode='sum',
            per_sample_weights=weights.reshape(-1, 4).to(table.dtype),
        )
        return entries.view(images, count, self.out_channels)


class TinyCudaGrid(nn.Module):
    """The same encoding computed by tiny-cuda-nn, on a CUDA device; arguments as for :class:`HashGrid`.

    Raises:
        UserError: If tiny-cuda-nn is not installed, or an argument has no counterpart there.
    """

    full_precision = ('scale',)

    def __init__(
        self,
        n_levels: int = 16,
        n_features: int = 8,
        log2_hashmap_size: int = 20,
        base_resolution: int = 16,
        max_resolution: int = 1024,
        num_images: int = 1,
    ):
        super().__init__()
        try:
            import tinycudann
        except (ImportError, OSError) as error:  # it raises OSError where there is no CUDA device
            raise UserError(
                f"encoding backend 'tiny-cuda-nn' is not usable here ({error}); install tinycudann on a machine with "
                "CUDA, or set backend='torch'"
            ) from error
        config: dict[str, Any] = dict(
            otype='HashGrid',
            n_levels=n_levels,
            n_features_per_level=n_features,
            log2_hashmap_size=log2_hashmap_size,
            base_resolution=base_resolution,
            per_level_scale=float(per_level_scale(n_levels, base_resolution, max_resolution)),
            interpolation='Linear',
        )
        self.grids = nn.ModuleList(tinycudann.Encoding(2, config, dtype=torch.float32) for _ in range(num_images))
        self.out_channels = n_levels * n_features

    @torch.no_grad()
    def reset(self, image: int, generator: torch.Generator) -> None:
        """Draw the numbers of one image from U(-1e-4, 1e-4); tiny-cuda-nn itself knows one seed only."""
        self.grids[image].params.uniform_(-1e-4, 1e-4, generator=generator)

    def forward(self, coords: Tensor, image: int | None = None) -> Tensor:
        """Encode points ``[B, N, 2]`` as ``[B, N, L * n_features]``, arguments as for :class:`HashGrid`."""
        grids = self.grids if image is None else [self.grids[image]]
        return torch.stack([grid(points) for grid, points in zip(grids, coords, strict=True)])


BACKENDS = {'torch': HashGrid, 'tiny-cuda-nn': TinyCudaGrid}


def build_encoding(num_images: int = 1, backend: str = 'torch', **settings: Any) -> HashGrid | TinyCudaGrid:
    """Build the encoding of a config; ``settings`` are the arguments of the backend's class.

    Raises:
        UserError: If there is no such backend or argument, or the backend cannot be used.
    """
    if backend not in BACKENDS:
        raise UserError(f'encoding backend {backend!r} is unknown; use {" or ".join(map(repr, BACKENDS))}')
    try:
        return BACKENDS[backend](num_images=num_images, **settings)
    except TypeError as error:
        raise UserError(f'encoding of backend {backend!r}: {error}') from error
