"""iNaturalist 2018: annotations of both splits, and a long tail of images in 20 of its 8,142 categories."""

import json
from pathlib import Path

import numpy as np

from toy_data.class_images import KINDS, draw_class_image
from toy_data.image_files import save_jpeg

CATEGORIES = 8142
SUPERCATEGORIES = ('Actinopterygii', 'Aves', 'Insecta', 'Plantae')
LARGEST, SMALLEST, VAL_PER_CLASS = 110, 2, 3


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the dataset.

    Args:
        folder: Folder to create.
        rng: Source of all content.
    """
    categories = np.sort(rng.choice(CATEGORIES, KINDS, replace=False))
    sizes = np.rint(np.geomspace(LARGEST, SMALLEST, KINDS)).astype(int)
    first = 1
    for split, counts in dict(train2018=sizes, val2018=np.full(KINDS, VAL_PER_CLASS)).items():
        kinds = rng.permutation(np.repeat(np.arange(KINDS), counts))
        entries = [(first + i, int(kind), int(categories[kind])) for i, kind in enumerate(kinds)]
        first += len(entries)
        _write_split(folder, split, entries, rng)


def _write_split(folder: Path, split: str, entries: list[tuple[int, int, int]], rng: np.random.Generator) -> None:
    images, annotations = [], []
    for number, kind, category in entries:
        above = SUPERCATEGORIES[category % len(SUPERCATEGORIES)]
        name = f'train_val2018/{above}/{category}/{rng.bytes(16).hex()}.jpg'
        height, width = (int(side) for side in rng.integers(64, 97, size=2))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_jpeg(folder / name, draw_class_image(rng, kind, (height, width)).image)
        images.append(dict(id=number, file_name=name, width=width, height=height, license=1, rights_holder='nobody'))
        annotations.append(dict(id=number, image_id=number, category_id=category))
    # As in the release, categories go by number and carry no names.
    categories = [dict(id=i, name=str(i), supercategory=SUPERCATEGORIES[i % 4]) for i in range(CATEGORIES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / f'{split}.json').write_text(json.dumps(content))
