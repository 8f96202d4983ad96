"""Multiresolution hash encoding of image coordinates (Müller et al. 2022), with the semantics of tiny-cuda-nn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.models.precision import FullPrecisionBuffers

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


class HashGrid(FullPrecisionBuffers):
    """Learnable feature grids from coarse to fine with bilinear interpolation, stacked over several images.

    Levels with more nodes than ``2^log2_hashmap_size`` share their entries by a hash. The parameters of an image are
    one flat vector, by level, entry and feature.

    Args:
        n_levels: Number of levels L.
        n_features: Features per level.
        log2_hashmap_size: Largest number of entries of a level, as a power of 2.
        base_resolution: Nodes along an axis of the coarsest level.
        max_resolution: Nodes along an axis of the finest level.
        resolutions: Nodes along an axis of every level, instead of the two arguments before.
        boundary: The right neighbour of a point at 1: ``'wrap'`` takes the first node of the next row, as tiny-cuda-nn
            does; ``'clamp'`` the last node of the row.
        num_images: Number of images B.
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
            raise UserError(f"boundary={boundary!r} of the hash grid is unknown; use 'wrap' or 'clamp'")
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
        """Initialise the parameters of one image from U(-1e-4, 1e-4)."""
        self.table[image].uniform_(-1e-4, 1e-4, generator=generator)

    def corners(self, coords: Tensor) -> tuple[Tensor, Tensor]:
        """Return indices and weights of the four nodes around every point, on every level.

        Args:
            coords: Points ``(x, y)`` in [0, 1], ``[N, 2]``, float32.

        Returns:
            Indices of the entries of an image, and weights, both ``[N, L, 4]``.
        """
        position = self.scale.T * coords[..., None] + 0.5  # [N, 2, L]
        cell = position.floor()
        frac = position - cell
        near, far = 1 - frac, frac
        weights = [y * x for y in (near[:, 1], far[:, 1]) for x in (near[:, 0], far[:, 0])]
        column, row = cell.long().unbind(1)
        indices = [self._entry_index(column + dx, row + dy) for dy in (0, 1) for dx in (0, 1)]
        return torch.stack(indices, -1), torch.stack(weights, -1)

    def _entry_index(self, column: Tensor, row: Tensor) -> Tensor:
        """Return the indices of the entries of nodes, ``[N, L]``."""
        res, size, offset = self.res[:, 0], self.size[:, 0], self.offset[:, 0]
        if self.boundary == 'clamp':
            column, row = column.minimum(res - 1), row.minimum(res - 1)
        index = column + row * res
        for level in self.hashed:
            index[:, level] = column[:, level] ^ (row[:, level] * PRIME & UINT32)
        return index % size + offset

    def forward(self, coords: Tensor, image: int | None = None) -> Tensor:
        """Encode points ``[B, N, 2]`` as ``[B, N, L * n_features]``, by a single embedding look-up.

        Args:
            coords: Points of all B images, or ``[1, N, 2]`` of one image.
            image: Index of that image.
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
    """The same encoding computed by tiny-cuda-nn on a CUDA device; arguments as for :class:`HashGrid`.

    Raises:
        UserError: If tiny-cuda-nn is not installed or finds no CUDA device.
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
        """Initialise the parameters of one image from U(-1e-4, 1e-4); tiny-cuda-nn itself has a fixed seed."""
        self.grids[image].params.uniform_(-1e-4, 1e-4, generator=generator)

    def forward(self, coords: Tensor, image: int | None = None) -> Tensor:
        """Encode points ``[B, N, 2]`` as ``[B, N, L * n_features]``, arguments as for :class:`HashGrid`."""
        grids = self.grids if image is None else [self.grids[image]]
        return torch.stack([grid(points) for grid, points in zip(grids, coords, strict=True)])


BACKENDS = {'torch': HashGrid, 'tiny-cuda-nn': TinyCudaGrid}


def build_encoding(num_images: int = 1, backend: str = 'torch', **settings: Any) -> HashGrid | TinyCudaGrid:
    """Build the encoding.

    Args:
        num_images: Number of images B.
        backend: A key of :data:`BACKENDS`.
        **settings: Arguments of the class of the backend.

    Raises:
        UserError: If backend or argument are unknown, or the backend is not usable.
    """
    if backend not in BACKENDS:
        raise UserError(f'encoding backend {backend!r} is unknown; use {" or ".join(map(repr, BACKENDS))}')
    try:
        return BACKENDS[backend](num_images=num_images, **settings)
    except TypeError as error:
        raise UserError(f'stage1.field.encoding, backend {backend!r}: {error}') from error
