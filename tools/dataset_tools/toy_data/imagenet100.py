"""ImageNet-100: lists of its images, and of a long-tailed subset of them, added to the ImageNet folder."""

from pathlib import Path

import numpy as np

IMBALANCE = 100


def write(folder: Path, rng: np.random.Generator) -> None:
    """Add the lists.

    Args:
        folder: Folder of the toy ImageNet.
        rng: Chooses the long-tailed subset.
    """
    from reprefine.tasks.classification.classes import WNIDS
    from reprefine.tasks.classification.image_lists import read_list, write_list
    from reprefine.tasks.classification.prepare.imagenet_subset import write_subset
    from reprefine.tasks.classification.prepare.long_tail import long_tail

    write_subset(folder, WNIDS)
    meta = folder / 'meta'
    write_list(long_tail(read_list(meta / 'train_100.txt'), IMBALANCE, rng), meta / 'train_100_lt.txt')
