"""Image lists of iNaturalist 2018 from its annotation files."""

import json
from pathlib import Path

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text

from ..image_lists import write_list

SPLITS = ('train2018', 'val2018')
# Numbers of images, as published by the competition.
SIZES = {'train2018': 437_513, 'val2018': 24_426}


def read_annotations(file: Path) -> list[tuple[str, int]]:
    """Return path and category of every image of an annotation file, in its order.

    Raises:
        UserError: The file is missing or corrupted, or an image has no category.
    """
    if not file.is_file():
        raise UserError(f'{file} does not exist; unpack the annotations of iNaturalist 2018 there')
    try:
        content = json.loads(read_text(file))
        labels = {entry['image_id']: int(entry['category_id']) for entry in content['annotations']}
        images = [(entry['id'], entry['file_name']) for entry in content['images']]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{file} is corrupted or not an annotation file of iNaturalist: {error!r}; download it again'
        ) from error
    if missing := [name for key, name in images if key not in labels]:
        raise UserError(f'{file}: {len(missing)} images have no category, such as {missing[0]}')
    return [(name, labels[key]) for key, name in images]


def write_lists(root: Path) -> dict[str, int]:
    """Write ``meta/<split>.txt`` below ``root`` from ``<split>.json``.

    Args:
        root: Folder with ``train2018.json``, ``val2018.json`` and ``train_val2018/``.

    Returns:
        Number of images of each split.

    Raises:
        UserError: Files of the dataset are missing or corrupted.
    """
    lists = {split: read_annotations(root / f'{split}.json') for split in SPLITS}
    for split, samples in lists.items():
        if not samples or not (root / samples[0][0]).is_file():
            name = samples[0][0] if samples else 'any image'
            raise UserError(f'{root} lacks {name} of {split}.json; unpack train_val2018 there')
    for split, samples in lists.items():
        write_list(samples, root / 'meta' / f'{split}.txt')
    return {split: len(samples) for split, samples in lists.items()}
