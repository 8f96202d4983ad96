"""CelebAMask-HQ in toy size, as released: images, one mask file for each visible part, and the mapping to CelebA.

Images have 256 pixels a side and masks 128, half as many as in the release. ``l_`` and ``r_`` in the names of parts
mean the left and the right of the image.
"""

from pathlib import Path

import numpy as np

from toy_data.faces import FaceCanvas, Light, draw_face
from toy_data.image_files import save_jpeg, save_png

_IMAGE, _MASK = (256, 256), (128, 128)
_IDS = (*range(60), *range(2000, 2020))  # two folders of masks: each holds 2000 images
# Ranges of CelebA's own numbers, by which its authors split it, and how many images to take from each.
_SPLITS = (((0, 162771), 56), ((162771, 182638), 12), ((182638, 202599), 12))


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the set.

    Args:
        folder: Root of the dataset; created if missing.
        rng: Source of all random draws.
    """
    for index in _IDS:
        canvas = FaceCanvas(_IMAGE, rng)
        center = rng.uniform([120, 110], [136, 124])
        face = canvas.add(draw_face(rng), center, rng.uniform(52, 64))
        light = Light(gain=rng.uniform(0.8, 1.1), side=rng.uniform(-0.25, 0.25))
        save_jpeg(folder / f'CelebA-HQ-img/{index}.jpg', canvas.render(light, rng))
        for part, mask in face.part_masks(_MASK).items():
            white = np.repeat(255 * mask.astype(np.uint8)[..., None], 3, axis=2)
            save_png(folder / f'CelebAMask-HQ-mask-anno/{index // 2000}/{index:05d}_{part}.png', white)
    _write_mapping(folder / 'CelebA-HQ-to-CelebA-mapping.txt', rng)


def _write_mapping(path: Path, rng: np.random.Generator) -> None:
    """Map the images to numbers of CelebA, whose files count from 1, so that all three splits occur."""
    numbers = [rng.choice(np.arange(*limits), count, replace=False) for limits, count in _SPLITS]
    lines = [f'{"idx":<20}{"orig_idx":<20}orig_file']
    for index, number in zip(_IDS, rng.permutation(np.concatenate(numbers)), strict=True):
        lines.append(f'{index:<20}{number:<20}{number + 1:06d}.jpg')
    path.write_text('\n'.join(lines) + '\n')
