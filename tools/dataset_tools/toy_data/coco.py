"""COCO 2017: instance annotations of digits, ten of the 80 categories."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from toy_data.coco_categories import CATEGORIES
from toy_data.image_files import save_jpeg
from toy_data.polygons import mask_to_polygons, run_lengths
from toy_data.scenes import Scene, draw_background, draw_scene, mask_box

IMAGES = dict(train2017=60, val2017=20)
# What the digits 0 to 9 stand for.
DIGIT_NAMES = ('person', 'car', 'bird', 'cat', 'bottle', 'banana', 'chair', 'tv', 'book', 'teddy bear')
DIGIT_IDS = [next(entry['id'] for entry in CATEGORIES if entry['name'] == name) for name in DIGIT_NAMES]
# Images on which object discovery is evaluated; their file names are those of 2014.
LIST = 'coco_20k_filenames.txt'
# Greatest id of the real release.
LAST_ID = 581_929
INFO = dict(
    description='Toy data in the layout of COCO 2017: MNIST digits on drawn grounds',
    url='',
    version='1.0',
    year=2017,
    contributor='reprefine',
    date_created='2017/09/01',
)
LICENSES = [dict(url='https://creativecommons.org/licenses/by-sa/3.0/', id=1, name='Attribution-ShareAlike License')]


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the dataset.

    Args:
        folder: Folder to create.
        rng: Source of all content.
    """
    image_ids = iter(rng.choice(LAST_ID, sum(IMAGES.values()), replace=False) + 1)
    annotation_ids = itertools.count(1)
    for split, count in IMAGES.items():
        images, annotations = [], []
        for index, image_id in enumerate(sorted(int(next(image_ids)) for _ in range(count))):
            scene = _draw(rng, index)
            images.append(_image_entry(image_id, *scene.image.shape[:2]))
            annotations += _annotate(scene, image_id, annotation_ids, crowd=index == 0)
            save_jpeg(folder / split / f'{image_id:012}.jpg', scene.image)
        if split == 'train2017':
            _write_list(folder / LIST, [entry['id'] for entry in images[::2]])
        content = dict(
            info=INFO, licenses=LICENSES, images=images, annotations=annotations, categories=list(CATEGORIES)
        )
        path = folder / 'annotations' / f'instances_{split}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def _write_list(file: Path, image_ids: Sequence[int]) -> None:
    file.write_text(''.join(f'COCO_train2014_{image_id:012}.jpg\n' for image_id in image_ids))


def _draw(rng: np.random.Generator, index: int) -> Scene:
    """Draw the scene of the image at ``index``: the first is for the crowd, every tenth from the sixth on is empty."""
    shape = int(rng.integers(120, 151)), int(rng.integers(160, 201))
    if index == 0:
        return draw_scene(rng, [0] * 6, (24, 36), draw_background(rng, shape))
    count = 0 if index % 10 == 5 else int(rng.integers(1, 5))
    return draw_scene(rng, rng.integers(10, size=count), (32, 80), draw_background(rng, shape))


def _image_entry(image_id: int, height: int, width: int) -> dict:
    return dict(
        license=1,
        file_name=f'{image_id:012}.jpg',
        coco_url='',
        height=height,
        width=width,
        date_captured='2017-09-01 00:00:00',
        flickr_url='',
        id=image_id,
    )


def _annotate(scene: Scene, image_id: int, ids: Iterator[int], crowd: bool) -> list[dict]:
    """Describe the objects of a scene; of a crowd scene the first one, and the others as one crowd."""
    digits, masks, crowds = scene.labels, scene.masks, np.zeros(len(scene.labels), int)
    if crowd:
        digits, masks, crowds = digits[:2], np.stack([masks[0], masks[1:].any(0)]), np.array([0, 1])
    return [
        _annotation(int(digit), mask, int(is_crowd), image_id, next(ids))
        for digit, mask, is_crowd in zip(digits, masks, crowds, strict=True)
    ]


def _annotation(digit: int, mask: np.ndarray, crowd: int, image_id: int, annotation_id: int) -> dict:
    x1, y1, x2, y2 = mask_box(mask)
    return dict(
        segmentation=run_lengths(mask) if crowd else mask_to_polygons(mask),
        area=float(mask.sum()),
        iscrowd=crowd,
        image_id=image_id,
        bbox=[x1, y1, x2 - x1, y2 - y1],
        category_id=DIGIT_IDS[digit],
        id=annotation_id,
    )
