"""Label maps from the part masks of CelebAMask-HQ."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from reprefine.engine.errors import UserError

from ..classes import PARTS


def merge_parts(masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """Merge part masks into a label map; where parts overlap, the later one in ``PARTS`` wins.

    Args:
        masks: Mask of each visible part by its name, at least one, all of shape (H, W); nonzero pixels belong to the
            part.

    Returns:
        Label map of shape (H, W), uint8: 0 for the background, else the position in ``PARTS``, from 1.
    """
    labels = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for value, part in enumerate(PARTS, start=1):
        if part in masks:
            labels[masks[part] != 0] = value
    return labels


def read_mask(file: Path) -> np.ndarray:
    """Read an image of any colour mode as a mask of shape (H, W): True where any of its colours is not zero.

    Raises:
        UserError: The file is corrupted or not an image.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert('RGB')).any(axis=-1)
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG chunk
        raise UserError(f'mask {file} is corrupted or not an image: unpack CelebAMask-HQ again') from error


def merge_files(files: Mapping[str, Path]) -> np.ndarray:
    """Return the label map of a face from the mask file of each visible part.

    Raises:
        UserError: A file cannot be read, or the masks differ in size.
    """
    masks = {part: read_mask(file) for part, file in files.items()}
    if len({mask.shape for mask in masks.values()}) > 1:
        sizes = ', '.join(f'{files[part].name} {mask.shape[1]}x{mask.shape[0]}' for part, mask in masks.items())
        raise UserError(f'{next(iter(files.values())).parent}: the masks of a face differ in size: {sizes}')
    return merge_parts(masks)
