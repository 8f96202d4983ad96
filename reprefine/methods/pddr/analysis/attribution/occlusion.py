"""Occlusion maps (Zeiler and Fergus 2014): change of the logit of a class when a patch of the image is occluded."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from reprefine.engine.errors import UserError

from .input_gradients import choose_classes, logits_of_classes


@torch.no_grad()
def occlusion_maps(
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    classes: Tensor | None = None,
    patch: int = 35,
    stride: int = 1,
    value: float = 0.0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Return the logit of a class with a square patch occluded, minus the logit of the clean image.

    As in the released code, the images are padded by ``patch // 2`` with the value of the patch before both passes.

    Args:
        classify: Maps images ``[N, 3, H, W]`` of any size to logits ``[N, classes]``, in evaluation mode.
        images: Preprocessed images ``[N, 3, H, W]``.
        classes: Class of each image ``[N]``; None: that of the largest logit of the padded image.
        patch: Side of the patch in pixels; published: 10, 15, 25, 35, 45 and 90.
        stride: Stride of the patches in pixels; published: 1, one forward pass for every pixel.
        value: Value of the patch after preprocessing; 0 is the mean colour.
        batch_size: Occluded images in one forward pass.

    Returns:
        Maps ``[N, h, w]``, negative where occlusion lowers the logit, with ``h = (H + 2 (patch // 2) - patch) // stride
        + 1`` and ``w`` likewise; and the classes ``[N]``.

    Raises:
        UserError: If patch, stride or batch size is not positive.
    """
    for name, number in (('patch', patch), ('stride', stride), ('batch_size', batch_size)):
        if number < 1:
            raise UserError(f'{name}={number}: use a positive integer')
    padded = F.pad(images, (patch // 2,) * 4, value=value)
    height, width = padded.shape[2:]
    logits = classify(padded)
    classes = choose_classes(logits, classes)
    clean = logits_of_classes(logits, classes)
    corners = patch_corners(height, width, patch, stride)
    differences = [
        torch.cat([_scores(classify, image, label, part, patch, value) for part in corners.split(batch_size)]) - score
        for image, label, score in zip(padded, classes, clean, strict=True)
    ]
    return torch.stack(differences).unflatten(1, (-1, (width - patch) // stride + 1)), classes


def _scores(
    classify: Callable[[Tensor], Tensor], image: Tensor, label: Tensor, corners: Tensor, patch: int, value: float
) -> Tensor:
    """Return the logit of the class for each occluded image, ``[P]``."""
    return classify(occlude(image, corners, patch, value))[:, label]


def patch_corners(height: int, width: int, patch: int, stride: int) -> Tensor:
    """Return the upper left corners (row, column) of the patches within an image in row-major order, ``[P, 2]``."""
    rows, columns = (torch.arange(0, length - patch + 1, stride) for length in (height, width))
    return torch.cartesian_prod(rows, columns)


def occlude(image: Tensor, corners: Tensor, patch: int, value: float) -> Tensor:
    """Return copies ``[P, C, H, W]`` of an image ``[C, H, W]``, each with the patch at one of the corners occluded."""
    rows, columns = (torch.arange(length) for length in image.shape[1:])
    in_rows, in_columns = (
        (axis >= first) & (axis < first + patch) for axis, first in ((rows, corners[:, :1]), (columns, corners[:, 1:]))
    )
    mask = (in_rows[:, :, None] & in_columns[:, None, :]).to(image.device)
    return torch.where(mask[:, None], image.new_tensor(value), image)
