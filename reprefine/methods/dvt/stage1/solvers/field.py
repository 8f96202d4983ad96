"""The modules of the decomposition: semantics ``F``, artifact ``G`` and residual ``Delta``.

Each module holds the parameters of several images; all products are batched, and the images are independent. A forward
pass takes the input of all images, or that of one image, ``[1, ...]``, and its index.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .encoding import build_encoding


class StackedLinear(nn.Module):
    """B linear layers, one per image, ``[B, N, I]`` to ``[B, N, O]``.

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
        """Initialise the layer of one image as PyTorch's ``Linear``: uniform within ``1 / sqrt(I)``."""
        bound = self.weight.shape[1] ** -0.5
        for parameter in (self.weight, self.bias):
            parameter[image].uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor, image: int | None = None) -> Tensor:
        """Apply the layer of every image, or of image ``image``, to its own ``[N, I]``."""
        bias, weight = (p if image is None else p[image, None] for p in (self.bias, self.weight))
        return torch.baddbmm(bias, x, weight)


class StackedMLP(nn.Module):
    """B MLPs, one per image: linear layers of the given widths with ReLU between.

    Args:
        num_images: B.
        *widths: Widths of the input, of each hidden layer and of the output.
    """

    def __init__(self, num_images: int, *widths: int):
        super().__init__()
        pairs = zip(widths, widths[1:], strict=False)
        self.layers = nn.ModuleList(StackedLinear(num_images, *pair) for pair in pairs)

    def reset(self, image: int, generator: torch.Generator) -> None:
        """Initialise the parameters of one image."""
        for layer in self.layers:
            layer.reset(image, generator)

    def forward(self, x: Tensor, image: int | None = None) -> Tensor:
        """Map ``[B, N, I]`` to ``[B, N, O]``."""
        for index, layer in enumerate(self.layers):
            x = layer(x.relu() if index else x, image)
        return x


class SemanticField(nn.Module):
    """``F``: features at an image coordinate, from a hash grid and two linear layers.

    Args:
        channels: C.
        num_images: B.
        encoding: Arguments of :func:`~.encoding.build_encoding`.
    """

    def __init__(self, channels: int, num_images: int = 1, encoding: dict[str, Any] | None = None):
        super().__init__()
        self.encoding = build_encoding(num_images, **(encoding or {}))
        self.mlp = StackedMLP(num_images, self.encoding.out_channels, channels // 2, channels)

    def reset(self, image: int, generator: torch.Generator) -> None:
        """Initialise the parameters of one image."""
        self.encoding.reset(image, generator)
        self.mlp.reset(image, generator)

    def forward(self, coords: Tensor, image: int | None = None) -> Tensor:
        """Map coordinates ``[B, ..., 2]`` in [0, 1] to features ``[B, ..., C]``."""
        points = coords.flatten(1, -2)
        return self.mlp(self.encoding(points, image), image).unflatten(1, coords.shape[1:-1])


class Artifact(nn.Module):
    """``G``: a vector for each position of the token grid, shared by all views of an image.

    Args:
        channels: C.
        grid: Rows and columns.
        num_images: B.
        std: Standard deviation of the initial values.
    """

    def __init__(self, channels: int, grid: tuple[int, int], num_images: int = 1, std: float = 0.02):
        super().__init__()
        self.grid, self.std = tuple(grid), std
        self.table = nn.Parameter(torch.empty(num_images, grid[0] * grid[1], channels))

    @torch.no_grad()
    def reset(self, image: int, generator: torch.Generator) -> None:
        """Initialise the parameters of one image."""
        self.table[image].normal_(0, self.std, generator=generator)

    def maps(self) -> Tensor:
        """Return the tables as feature maps ``[B, rows, columns, C]``."""
        return self.table.unflatten(1, self.grid)

    def forward(self, positions: Tensor) -> Tensor:
        """Look up positions ``[B, N]``, numbered row by row; returns ``[B, N, C]``."""
        images, count, channels = self.table.shape
        first = torch.arange(images, device=positions.device)[:, None] * count
        return nn.functional.embedding(positions + first, self.table.view(-1, channels))


class Residual(StackedMLP):
    """``Delta``: what depends on content and position together, predicted from raw features ``[B, N, C]``.

    Args:
        channels: C.
        num_images: B.
    """

    def __init__(self, channels: int, num_images: int = 1):
        super().__init__(num_images, channels, channels // 4, channels // 4, channels)
