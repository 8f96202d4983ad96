"""PASCAL VOC 2007 and 2012: boxes and segmentations of digits, ten of the 20 classes."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from toy_data.image_files import save_jpeg, save_png
from toy_data.scenes import Scene, draw_background, draw_scene

CLASSES = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
    'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)  # fmt: skip
# What the digits 0 to 9 stand for: every second class.
DIGIT_CLASSES = CLASSES[::2]
SPLITS = {'VOC2007': dict(train=16, val=16, test=20), 'VOC2012': dict(train=24, val=16)}
VOID = 255
# Two of three images are segmented; the real release has fewer.
SEGMENTED = (True, True, False)


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the dataset.

    Args:
        folder: Folder to create.
        rng: Source of all content.
    """
    for year, counts in SPLITS.items():
        names = _names(year, sum(counts.values()))
        segmented = set(itertools.compress(names, itertools.cycle(SEGMENTED)))
        for name in names:
            _write_image(folder / year, name, _draw(rng), name in segmented, rng)
        for split, chosen in _split(rng, names, counts).items():
            _write_list(folder / year / 'ImageSets' / 'Main', split, chosen)
            _write_list(folder / year / 'ImageSets' / 'Segmentation', split, [n for n in chosen if n in segmented])


def _split(rng: np.random.Generator, names: Sequence[str], counts: dict[str, int]) -> dict[str, list[str]]:
    """Deal out the images to the splits; return the sorted names of each, and of ``trainval``."""
    parts = np.split(rng.permutation(names), np.cumsum(list(counts.values()))[:-1])
    splits = {split: sorted(part.tolist()) for split, part in zip(counts, parts, strict=True)}
    return splits | {'trainval': sorted(splits['train'] + splits['val'])}


def _names(year: str, count: int) -> list[str]:
    """Number the images as the release of the year does; that of 2012 spans six years."""
    if year == 'VOC2007':
        return [f'{number:06}' for number in range(1, count + 1)]
    return [f'{2007 + (number - 1) * 6 // count}_{number:06}' for number in range(1, count + 1)]


def _draw(rng: np.random.Generator) -> Scene:
    shape = int(rng.integers(170, 221)), int(rng.integers(220, 281))
    # The detectors of VOC ignore boxes with a side under 32 pixels.
    return draw_scene(rng, rng.integers(10, size=rng.integers(1, 4)), (68, 120), draw_background(rng, shape))


def _write_image(folder: Path, name: str, scene: Scene, segmented: bool, rng: np.random.Generator) -> None:
    save_jpeg(folder / 'JPEGImages' / f'{name}.jpg', scene.image)
    path = folder / 'Annotations' / f'{name}.xml'
    path.parent.mkdir(parents=True, exist_ok=True)
    difficult = rng.random(len(scene.labels)) < 0.05
    path.write_text(_annotation(folder.name, name, scene, segmented, difficult))
    if segmented:
        classes = np.array([CLASSES.index(DIGIT_CLASSES[digit]) + 1 for digit in scene.labels])
        save_png(folder / 'SegmentationClass' / f'{name}.png', _indices(scene.masks, classes), palette())
        objects = np.arange(1, len(classes) + 1)
        save_png(folder / 'SegmentationObject' / f'{name}.png', _indices(scene.masks, objects), palette())


def _annotation(folder: str, name: str, scene: Scene, segmented: bool, difficult: Sequence[bool]) -> str:
    """Return the XML of an image. Boxes count from 1 and hold their last column and row."""
    root = ET.Element('annotation')
    height, width, depth = scene.image.shape
    _add(root, folder=folder, filename=f'{name}.jpg')
    _add(ET.SubElement(root, 'source'), database='toy data', annotation=f'PASCAL {folder}', image='digits')
    _add(ET.SubElement(root, 'size'), width=width, height=height, depth=depth)
    _add(root, segmented=int(segmented))
    for digit, (x1, y1, x2, y2), hard in zip(scene.labels, scene.boxes, difficult, strict=True):
        entry = ET.SubElement(root, 'object')
        _add(entry, name=DIGIT_CLASSES[digit], pose='Unspecified', truncated=0, difficult=int(hard))
        _add(ET.SubElement(entry, 'bndbox'), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    ET.indent(root, '\t')
    return ET.tostring(root, encoding='unicode') + '\n'


def _add(parent: ET.Element, **fields: object) -> None:
    for tag, value in fields.items():
        ET.SubElement(parent, tag).text = str(value)


def _indices(masks: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the value of each pixel: 0 on the background, void in a ring around the objects, uint8 of shape (H, W)."""
    near = cv2.dilate(masks.any(0).astype(np.uint8), np.ones((3, 3), np.uint8))
    indices = np.where(near, VOID, 0)
    for mask, value in zip(masks, values, strict=True):
        indices[mask] = value
    return indices.astype(np.uint8)


def palette() -> np.ndarray:
    """Return VOC's colours of the 256 indices, uint8 of shape (256, 3): their bits, dealt out to the channels."""
    bits = np.arange(256)[:, None] >> np.arange(9) & 1
    return (bits.reshape(256, 3, 3) << np.arange(7, 4, -1)[:, None]).sum(1).astype(np.uint8)


def _write_list(folder: Path, split: str, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names))
