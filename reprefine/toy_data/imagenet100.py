"""ImageNet-100: lists of its classes' pictures, added to the ImageNet folder."""

from pathlib import Path

import numpy as np


def write(folder: Path, _: np.random.Generator) -> None:
    """Add the lists.

    Args:
        folder: Folder of the toy ImageNet.
        _: Not used; the lists follow from the folder.
    """
    from reprefine.tasks.classification.imagenet100 import WNIDS
    from reprefine.tasks.classification.imagenet_subset import write_subset

    write_subset(folder, WNIDS)
