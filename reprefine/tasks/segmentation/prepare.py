"""Image lists of VOC2007 and VOC2012 without the segmentation validation sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text

# VOC2012 first; of VOC2007 the images of the archive with training and validation data.
YEARS = ('VOC2012', 'VOC2007')
EXPECTED = 'JPEGImages and ImageSets/Segmentation/val.txt'


def train_images(root: Path, year: str) -> list[str]:
    """Return the images of one year outside its segmentation validation set, sorted, relative to ``root``.

    For VOC2007 only the images listed in ``ImageSets/Main/trainval.txt`` are included: the same folder may have the
    test images.

    Raises:
        UserError: Files of the dataset are missing.
    """
    folder = root / year
    val = _ids(folder / 'ImageSets' / 'Segmentation' / 'val.txt')
    if year == 'VOC2007':
        ids = _ids(folder / 'ImageSets' / 'Main' / 'trainval.txt')
    else:
        ids = {image.stem for image in (folder / 'JPEGImages').glob('*.jpg')}
    if not ids:
        raise UserError(f'{folder}/JPEGImages has no images; expected {EXPECTED} below {folder}')
    return [f'{year}/JPEGImages/{image}.jpg' for image in sorted(ids - val)]


def _ids(file: Path) -> set[str]:
    if not file.is_file():
        raise UserError(f'{file} does not exist; unpack the development kit of that year below {file.parents[3]}')
    return set(read_text(file).split())


def mixed_list(images: Sequence[Sequence[str]], style: str, rng: np.random.Generator) -> list[str]:
    """Concatenate the images of several years in random order.

    Args:
        images: The images of each year.
        style: ``mixed`` shuffles all images together. ``upstream-like`` shuffles each year and keeps the order of the
            years, as in the list published with DVT, whose first 10,000 images are of 2012.
        rng: Source of the random numbers.
    """
    if style == 'mixed':
        return rng.permutation(np.concatenate(images)).tolist()
    return [image for year in images for image in rng.permutation(np.asarray(year)).tolist()]
