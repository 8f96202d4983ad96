"""The three parts of an image's features: content ``F``, position pattern ``G`` and remainder ``Delta``.

Each module holds the parts of several images at once; all products are batched, and no number of one image depends on
another. A forward pass takes input of all images, or that of one alone, ``[1, ...]``, and its number.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .encoding import build_encoding


class StackedLinear(nn.Module):
    """A linear layer for each of B images, ``[B, N, I]`` to ``[B, N, O]``.

    Args:
        num_images: B.
        in_features: I.
        out_features: O.
    """

    def __init__(self, num_images: int, in_features: int, out_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_images, in_features, out_features))
        self.bias = nn.Parameter(torch.empty(num_images, 1, out_features))

    @torch.no_grad()
    def reset(self, image: int, generator: torch.Generator) -> None:
        """Draw the numbers of one image as PyTorch's ``Linear`` does: uniform within ``1 / sqrt(I)``."""
        bound = self.weight.shape[1] ** -0.5
        for parameter in (self.weight, self.bias):
            parameter[image].uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor, image: int | None = None) -> Tensor:
        """Apply the layer of every image, or of one, to its own ``[N, I]``."""
        bias, weight = (part if image is None else part[image, None] for part in (self.bias, self.weight))
        return torch.baddbmm(bias, x, weight)


class StackedMLP(nn.Module):
    """Linear layers of the given widths with ReLU between, for each of B images."""

    def __init__(self, num_images: int, *widths: int):
        super().__init__()
        pairs = zip(widths, widths[1:], strict=False)
        self.layers = nn.ModuleList(StackedLinear(num_images, *pair) for pair in pairs)

    def reset(self, image: int, generator: torch.Generator) -> None:
        """Draw the numbers of one image."""
        for layer in self.layers:
            layer.reset(image, generator)

    def forward(self, x: Tensor, image: int | None = None) -> Tensor:
        """Map ``[B, N, I]`` to ``[B, N, O]``."""
        for index, layer in enumerate(self.layers):
            x = layer(x.relu() if index else x, image)
        return x


class SemanticField(nn.Module):
    """``F``: content at an image coordinate, a hash grid and two linear layers.

    Args:
        channels: C, those of the features.
        num_images: B.
        encoding: Arguments of :func:`~.encoding.build_encoding`.
    """

    def __init__(self, channels: int, num_images: int = 1, encoding: dict[str, Any] | None = None):
        super().__init__()
        self.encoding = build_encoding(num_images, **(encoding or {}))
        self.mlp = StackedMLP(num_images, self.encoding.out_channels, channels // 2, channels)

    def reset(self, image: int, generator: torch.Generator) -> None:
        """Draw the numbers of one image."""
        self.encoding.reset(image, generator)
        self.mlp.reset(image, generator)

    def forward(self, coords: Tensor, image: int | None = None) -> Tensor:
        """Map coordinates ``[B, ..., 2]`` in [0, 1] to content ``[B, ..., C]``."""
        points = coords.flatten(1, -2)
        return self.mlp(self.encoding(points, image), image).unflatten(1, coords.shape[1:-1])


class Artifact(nn.Module):
    """``G``: a vector for each place of the token grid, the same in all views of an image.

    Args:
        channels: C.
        grid: Rows and columns.
        num_images: B.
        std: Standard deviation of the first values.
    """

    def __init__(self, channels: int, grid: tuple[int, int], num_images: int = 1, std: float = 0.02):
        super().__init__()
        self.grid, self.std = tuple(grid), std
        self.table = nn.Parameter(torch.empty(num_images, grid[0] * grid[1], channels))

    @torch.no_grad()
    def reset(self, image: int, generator: torch.Generator) -> None:
        """Draw the numbers of one image."""
        self.table[image].normal_(0, self.std, generator=generator)

    def maps(self) -> Tensor:
        """Return the tables as maps ``[B, rows, columns, C]``."""
        return self.table.unflatten(1, self.grid)

    def forward(self, places: Tensor) -> Tensor:
        """Read places ``[B, N]``, numbered row by row, as ``[B, N, C]``."""
        images, count, channels = self.table.shape
        first = torch.arange(images, device=places.device)[:, None] * count
        return nn.functional.embedding(places + first, self.table.view(-1, channels))


class Residual(StackedMLP):
    """``Delta``: what depends on content and place together, read off the raw feature ``[B, N, C]``.

    Args:
        channels: C.
        num_images: B.
    """

    def __init__(self, channels: int, num_images: int = 1):
        super().__init__(num_images, channels, channels // 4, channels // 4, channels)
