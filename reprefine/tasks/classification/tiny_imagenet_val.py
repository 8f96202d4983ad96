"""Sorting of Tiny-ImageNet's validation images into class folders."""

import os
import shutil
from pathlib import Path

from rich.progress import track

from reprefine.engine.errors import UserError

from .tiny_imagenet import val_wnids


def sort_val_images(root: Path, out: Path) -> int:
    """Write ``<out>/images/<wnid>/val_N.JPEG``, as links where the file system has them, else as copies.

    What is there already is left alone, so that an interrupted call can be repeated; the source is only read.

    Args:
        root: Tiny-ImageNet as downloaded.
        out: Folder that takes the place of ``val``.

    Returns:
        Number of images below ``out``.

    Raises:
        UserError: The annotations or some of the images are missing.
    """
    wnids = val_wnids(root)
    source = root / 'val' / 'images'
    if missing := [name for name in wnids if not (source / name).is_file()]:
        raise UserError(f'{source} lacks {len(missing)} of {len(wnids)} images, such as {missing[0]}')
    for wnid in sorted(set(wnids.values())):
        (out / 'images' / wnid).mkdir(parents=True, exist_ok=True)
    for name, wnid in track(wnids.items(), description='val images'):
        target = out / 'images' / wnid / name
        if not target.exists():
            _link_or_copy(source / name, target)
    return len(wnids)


def _link_or_copy(source: Path, target: Path) -> None:
    partial = target.with_suffix('.partial')
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, partial)
    partial.rename(target)
