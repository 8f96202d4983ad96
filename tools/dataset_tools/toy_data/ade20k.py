"""ADE20K's scene parsing benchmark: bands of stuff as background, digits as things."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from toy_data.ade_classes import CLASSES
from toy_data.image_files import save_jpeg, save_png
from toy_data.scenes import draw_scene
from toy_data.textures import color, noise, texture

SPLITS = {'training': ('train', 40), 'validation': ('val', 10)}
# From top to bottom.
SCENES = {
    'street': ('sky', 'building', 'road'),
    'field': ('sky', 'tree', 'grass'),
    'coast': ('sky', 'mountain', 'water'),
    'living_room': ('ceiling', 'wall', 'floor'),
}
# Hue, saturation and value of the stuff, from which the drawn ones differ by up to the spread.
SPREAD = 0.06
STUFF = {
    'sky': (0.58, 0.35, 0.9),
    'building': (0.04, 0.3, 0.5),
    'road': (0.65, 0.1, 0.25),
    'tree': (0.36, 0.6, 0.25),
    'grass': (0.25, 0.6, 0.65),
    'mountain': (0.8, 0.3, 0.45),
    'water': (0.55, 0.7, 0.4),
    'ceiling': (0.12, 0.1, 0.92),
    'wall': (0.14, 0.45, 0.75),
    'floor': (0.07, 0.6, 0.35),
}
# What the digits 0 to 9 stand for.
DIGIT_CLASSES = ('person', 'car', 'chair', 'table', 'lamp', 'box', 'bottle', 'ball', 'clock', 'flag')
OTHER_COLOR = np.array((200, 60, 160), np.float32)


class AnnotatedImage(NamedTuple):
    """An image and its annotation: category, RGB uint8 (H, W, 3) and classes uint8 (H, W), 0 for anything else."""

    category: str
    image: np.ndarray
    classes: np.ndarray


def write(folder: Path, rng: np.random.Generator, sizes: Mapping[str, int] | None = None) -> None:
    """Write the dataset.

    Args:
        folder: Folder to create.
        rng: Source of all content.
        sizes: Number of scenes of each split, if not that of :data:`SPLITS`; a bar then shows how far it is.
    """
    categories, pixels, images = [], np.zeros(len(CLASSES) + 1, int), {}
    for split, (title, count) in SPLITS.items():
        images[split] = np.zeros_like(pixels)
        numbers = range(1, (sizes[split] if sizes else count) + 1)
        for number in track(numbers, description=split, disable=not sizes):
            name = f'ADE_{title}_{number:08}'
            drawn = _draw(rng)
            save_jpeg(folder / 'images' / split / f'{name}.jpg', drawn.image)
            save_png(folder / 'annotations' / split / f'{name}.png', drawn.classes)
            categories.append(f'{name} {drawn.category}\n')
            counts = np.bincount(drawn.classes.ravel(), minlength=len(pixels))
            pixels += counts
            images[split] += counts > 0
    (folder / 'sceneCategories.txt').write_text(''.join(categories))
    table = _class_table(pixels / pixels.sum(), images['training'], images['validation'])
    (folder / 'objectInfo150.txt').write_text(table)


def class_index(name: str) -> int:
    """Return what an annotation says for a class, 1 to 150."""
    return CLASSES.index(name) + 1


def _draw(rng: np.random.Generator) -> AnnotatedImage:
    shape = int(rng.integers(112, 129)), int(rng.integers(150, 171))
    category = str(rng.choice(list(SCENES)))
    background, classes = _draw_bands(rng, shape, SCENES[category])
    if rng.random() < 0.4:
        _add_other(rng, background, classes)
    scene = draw_scene(rng, rng.integers(10, size=rng.integers(1, 5)), (32, 60), background)
    for digit, mask in zip(scene.labels, scene.masks, strict=True):
        classes[mask] = class_index(DIGIT_CLASSES[digit])
    return AnnotatedImage(category, scene.image, classes)


def _draw_bands(
    rng: np.random.Generator, shape: tuple[int, int], names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one band of stuff over the next; return the RGB float image and the classes."""
    image = np.empty((*shape, 3), np.float32)
    classes = np.empty(shape, np.uint8)
    for rank, name in enumerate(names):
        edge = shape[0] * (rank / len(names) + rng.uniform(-0.08, 0.08) + 0.03 * noise(rng, (1, shape[1]), cell=30))
        below = np.arange(shape[0])[:, None] >= (edge if rank else -1)
        hue, saturation, value = ((mean - SPREAD, min(mean + SPREAD, 1)) for mean in STUFF[name])
        image = np.where(below[..., None], texture(rng, shape, color(rng, value, hue, saturation)), image)
        classes[np.broadcast_to(below, shape)] = class_index(name)
    return image, classes


def _add_other(rng: np.random.Generator, image: np.ndarray, classes: np.ndarray) -> None:
    """Draw a blob of no class."""
    blob = np.zeros(classes.shape, np.uint8)
    center = [int(rng.uniform(0.2, 0.8) * side) for side in classes.shape[::-1]]
    cv2.ellipse(blob, center, rng.integers(10, 20, size=2).tolist(), 0, 0, 360, 1, cv2.FILLED)
    image[blob > 0] = texture(rng, classes.shape, OTHER_COLOR)[blob > 0]
    classes[blob > 0] = 0


def _class_table(shares: np.ndarray, train: np.ndarray, val: np.ndarray) -> str:
    """Tell share of the pixels, numbers of images, whether it was drawn as stuff, and name of every class."""
    lines = [
        f'{index}\t{shares[index]:.4f}\t{train[index]}\t{val[index]}\t{int(name in STUFF)}\t{name}\n'
        for index, name in enumerate(CLASSES, 1)
    ]
    return ''.join(['Idx\tRatio\tTrain\tVal\tStuff\tName\n', *lines])
