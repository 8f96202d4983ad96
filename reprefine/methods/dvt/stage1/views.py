"""Views of an image: preprocessing, random crops, rendering and the coordinates of their tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reprefine.engine.errors import UserError

from ..functional import DRAWS, crop_views, grid_size, view_coords, whole_view

INTERPOLATIONS = ('bicubic', 'bilinear')


def image_seed(run_seed: int, name: str) -> int:
    """Return the seed of an image: a hash of the seed of the run and the name, independent of other images."""
    digest = hashlib.sha256(f'{run_seed}:{name}'.encode()).digest()
    return int.from_bytes(digest[:8], 'little') >> 1


def resize(image: Tensor, size: tuple[int, int], interpolation: str = 'bicubic') -> Tensor:
    """Resize ``[3, h, w]`` to ``size`` regardless of the aspect ratio, antialiased and without clamping."""
    return F.interpolate(image[None], tuple(size), mode=interpolation, antialias=True, align_corners=False)[0]


def prepare_image(
    image: np.ndarray,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = 'bicubic',
) -> Tensor:
    """Normalise an image and resize it to the input size of the backbone.

    Args:
        image: RGB, ``[H, W, 3]``, 8 bit.
        size: Height and width of the result; the aspect ratio is not kept.
        mean: Mean of each channel, on the scale 0 to 255.
        std: Standard deviation of each channel, on the same scale.
        interpolation: ``'bicubic'``, or ``'bilinear'`` as in the newer code.

    Returns:
        ``[3, height, width]``, float32.
    """
    values = (torch.from_numpy(image).float() - torch.tensor(mean)) / torch.tensor(std)
    return resize(values.movedim(-1, 0), size, interpolation)


def render_view(image: Tensor, view: Tensor) -> Tensor:
    """Crop a view ``[5]`` from a prepared image ``[3, H, W]``, resize it to the size of the image, and flip it."""
    top, left, height, width, flipped = view.tolist()
    crop = image[:, top : top + height, left : left + width]
    resized = resize(crop, image.shape[-2:])
    return resized.flip(-1) if flipped else resized


@dataclass(frozen=True)
class Views:
    """A set of views and the coordinates of their tokens.

    Attributes:
        boxes: ``(top, left, height, width, flipped)`` of each view in pixels, ``[V + 1, 5]``, the whole image last.
        coords: Image coordinates ``(x, y)`` in [0, 1] of the tokens, ``[V + 1, rows, columns, 2]``.
    """

    boxes: Tensor
    coords: Tensor


def draw_views(
    count: int, size: tuple[int, int], patch_size: int, stride: int, seed: int, mode: str = 'endpoint'
) -> Views:
    """Draw ``count`` random crops and add the whole image.

    Args:
        count: Number of random crops V.
        size: Height and width of the prepared image in pixels.
        patch_size: Side of the patches in pixels.
        stride: Distance of neighbouring patches in pixels.
        seed: Seed of the crops.
        mode: ``coord_mode``, see :func:`~..functional.view_coords`.

    Raises:
        UserError: If the image has fewer than two patches along an axis.
    """
    if min(grid_size(size, patch_size, stride)) < 2:
        raise UserError(
            f'images of {size[0]}x{size[1]} hold fewer than 2 patches of {patch_size} along an axis; '
            'increase native.size'
        )
    draws = torch.rand(count, DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    boxes = torch.cat([crop_views(draws, size), whole_view(size)])
    return Views(boxes, view_coords(boxes, size, patch_size, stride, mode))
