"""Tiny-ImageNet as downloaded: 200 classes, images in 20 of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from toy_data.class_images import KINDS, draw_class_image
from toy_data.image_files import save_jpeg
from toy_data.imagenet import class_words

CLASSES, TRAIN_PER_CLASS, VAL_PER_CLASS, TEST_IMAGES = 200, 20, 5, 10
SHAPE = (64, 64)


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the dataset.

    Args:
        folder: Folder to create.
        rng: Source of all content.
    """
    words = class_words()
    wnids = [str(wnid) for wnid in rng.choice(list(words), CLASSES, replace=False)]
    folder.mkdir()
    (folder / 'wnids.txt').write_text(''.join(f'{wnid}\n' for wnid in wnids))
    (folder / 'words.txt').write_text(''.join(f'{wnid}\t{words[wnid]}\n' for wnid in sorted(words)))
    _write_train(folder / 'train', rng, wnids)
    _write_val(folder / 'val', rng, wnids)
    for number in range(TEST_IMAGES):
        _draw(folder / 'test' / 'images' / f'test_{number}.JPEG', rng, int(rng.integers(KINDS)))


def _write_train(folder: Path, rng: np.random.Generator, wnids: Sequence[str]) -> None:
    for kind, wnid in enumerate(wnids):
        (folder / wnid / 'images').mkdir(parents=True)
        names = [f'{wnid}_{number}.JPEG' for number in range(TRAIN_PER_CLASS if kind < KINDS else 0)]
        lines = [f'{name}\t{_draw(folder / wnid / "images" / name, rng, kind)}\n' for name in names]
        (folder / wnid / f'{wnid}_boxes.txt').write_text(''.join(lines))


def _write_val(folder: Path, rng: np.random.Generator, wnids: Sequence[str]) -> None:
    kinds = rng.permutation(np.repeat(np.arange(KINDS), VAL_PER_CLASS))
    names = [f'val_{number}.JPEG' for number in range(len(kinds))]
    lines = [
        f'{name}\t{wnids[kind]}\t{_draw(folder / "images" / name, rng, int(kind))}\n'
        for name, kind in zip(names, kinds, strict=True)
    ]
    (folder / 'val_annotations.txt').write_text(''.join(lines))


def _draw(path: Path, rng: np.random.Generator, kind: int) -> str:
    """Draw an image; return the box of its digit, first and last column and row inside, as the real files have it."""
    scene = draw_class_image(rng, kind, SHAPE)
    save_jpeg(path, scene.image)
    x1, y1, x2, y2 = scene.boxes[0]
    return f'{x1}\t{y1}\t{x2 - 1}\t{y2 - 1}'
