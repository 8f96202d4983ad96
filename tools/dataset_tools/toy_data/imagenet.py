"""ImageNet-1k: folders of all 1,000 classes, images in 20 of those that ImageNet-100 has too."""

from pathlib import Path

import numpy as np

from reprefine.engine.errors import UserError
from toy_data.class_images import KINDS, draw_class_image
from toy_data.image_files import save_jpeg

TRAIN_PER_CLASS, VAL_PER_CLASS = 25, 5


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the dataset.

    Args:
        folder: Folder to create.
        rng: Source of all content.
    """
    wnids = list(class_words())
    names = dict(train=_train_names(rng), val=_val_names(rng))
    for split, files in names.items():
        for wnid in wnids:
            (folder / split / wnid).mkdir(parents=True)
        for kind, name in files:
            save_jpeg(folder / split / name, draw_class_image(rng, kind, _shape(rng)).image)
    (folder / 'meta').mkdir()
    for split, files in names.items():
        lines = sorted(f'{name} {wnids.index(name.split("/")[0])}\n' for _, name in files)
        (folder / 'meta' / f'{split}.txt').write_text(''.join(lines))


def class_words() -> dict[str, str]:
    """Return the 1,000 classes of ImageNet-1k: WordNet ids, in the order of their labels, and their words.

    Raises:
        UserError: If timm is not installed.
    """
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise UserError('the class names of the toy ImageNet come with timm: pip install timm') from error
    info = ImageNetInfo()
    return {wnid: info.label_name_to_description(wnid) for wnid in info.label_names()}


def filled_wnids() -> tuple[str, ...]:
    """Return the classes with images, one for each kind of image."""
    from reprefine.tasks.classification.classes import WNIDS

    return WNIDS[:: len(WNIDS) // KINDS]


def _train_names(rng: np.random.Generator) -> list[tuple[int, str]]:
    """Return kind and name of the training images, numbered with gaps as in the real release."""
    return [
        (kind, f'{wnid}/{wnid}_{number}.JPEG')
        for kind, wnid in enumerate(filled_wnids())
        for number in rng.choice(30_000, TRAIN_PER_CLASS, replace=False)
    ]


def _val_names(rng: np.random.Generator) -> list[tuple[int, str]]:
    """Return kind and name of the validation images, numbered through all classes in random order."""
    wnids = filled_wnids()
    kinds = rng.permutation(np.repeat(np.arange(KINDS), VAL_PER_CLASS))
    return [(kind, f'{wnids[kind]}/ILSVRC2012_val_{number:08}.JPEG') for number, kind in enumerate(kinds, 1)]


def _shape(rng: np.random.Generator) -> tuple[int, int]:
    height, width = rng.integers(80, 121, size=2)
    return int(height), int(width)
