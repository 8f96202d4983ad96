"""Views of an image, and the features that a frozen network gives for them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..functional import DRAWS, crop_views, grid_size, view_coords, whole_view

INTERPOLATIONS = ('bicubic', 'bilinear')


def image_seed(run_seed: int, name: str) -> int:
    """Return the seed of an image: a hash of the run's seed and its name, whatever else is processed."""
    digest = hashlib.sha256(f'{run_seed}:{name}'.encode()).digest()
    return int.from_bytes(digest[:8], 'little') >> 1


def resize(image: Tensor, size: tuple[int, int], interpolation: str = 'bicubic') -> Tensor:
    """Resize ``[3, h, w]`` to ``size`` whatever its shape, antialiased and without clamping."""
    return F.interpolate(image[None], tuple(size), mode=interpolation, antialias=True, align_corners=False)[0]


def prepare_image(
    image: np.ndarray,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = 'bicubic',
) -> Tensor:
    """Normalise an image and squash it to the size that the network sees.

    Args:
        image: RGB, ``[H, W, 3]``, 8 bit.
        size: Height and width to resize to; the aspect ratio is not kept.
        mean: Of the network's input, one a channel, on the scale 0 to 255.
        std: Likewise.
        interpolation: ``'bicubic'``, or ``'bilinear'`` as the newer code resizes.

    Returns:
        ``[3, height, width]``, float32.
    """
    values = (torch.from_numpy(image).float() - torch.tensor(mean)) / torch.tensor(std)
    return resize(values.movedim(-1, 0), size, interpolation)


def render_view(image: Tensor, view: Tensor) -> Tensor:
    """Cut a view ``[5]`` out of a prepared image ``[3, H, W]`` and enlarge it to the size of the image."""
    top, left, height, width, flipped = view.tolist()
    crop = image[:, top : top + height, left : left + width]
    shown = resize(crop, image.shape[-2:])
    return shown.flip(-1) if flipped else shown


@dataclass(frozen=True)
class Views:
    """A set of views and where their tokens lie.

    Attributes:
        boxes: ``[V + 1, 5]``, the whole image last.
        coords: ``[V + 1, rows, columns, 2]``.
    """

    boxes: Tensor
    coords: Tensor


def draw_views(
    count: int, size: tuple[int, int], patch_size: int, stride: int, seed: int, mode: str = 'endpoint'
) -> Views:
    """Draw ``count`` random crops and add the whole image.

    Raises:
        UserError: If the image has fewer than two patches along an axis.
    """
    if min(grid_size(size, patch_size, stride)) < 2:
        raise UserError(
            f'images of {size[0]}x{size[1]} hold fewer than 2 patches of {patch_size} along an axis; enlarge size'
        )
    draws = torch.rand(count, DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    boxes = torch.cat([crop_views(draws, size), whole_view(size)])
    return Views(boxes, view_coords(boxes, size, patch_size, stride, mode))


@torch.no_grad()
def extract_features(
    backbone: nn.Module,
    image: Tensor,
    boxes: Tensor,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    storage: torch.device | str | None = None,
    amp: bool = False,
) -> Tensor:
    """Return what a frozen network gives for views of an image.

    Args:
        backbone: Network in eval mode; the last entry of its output is the map ``[B, C, rows, columns]``, or a pair of
            it and a class token.
        image: Prepared image ``[3, H, W]`` on the device of the network.
        boxes: Views ``[V, 5]``.
        batch_size: Views of a forward pass.
        dtype: Type to keep the features in.
        storage: Device to keep them on; that of the network by default.
        amp: Whether the network computes in mixed precision.

    Returns:
        ``[V, rows, columns, C]``.
    """
    features = None
    for first in range(0, len(boxes), batch_size):
        batch = torch.stack([render_view(image, box) for box in boxes[first : first + batch_size]])
        with torch.autocast(image.device.type, enabled=amp):
            maps = backbone(batch)[-1]
        maps = (maps[0] if isinstance(maps, tuple | list) else maps).movedim(1, -1)
        if features is None:  # one block for all: collecting parts would hold everything twice
            features = torch.empty(len(boxes), *maps.shape[1:], dtype=dtype, device=storage or image.device)
        features[first : first + len(maps)] = maps.to(features)
    return features
