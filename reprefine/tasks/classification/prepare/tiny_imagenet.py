"""Validation images of Tiny-ImageNet in class folders."""

from pathlib import Path

from rich.progress import track

from reprefine.engine.errors import UserError
from reprefine.engine.files import link_or_copy

from ..datasets.tiny_imagenet import val_wnids


def sort_val_images(root: Path, out: Path) -> int:
    """Write ``<out>/images/<wnid>/val_N.JPEG``, as hard links where the file system supports them, else as copies.

    Existing files are kept, so that an interrupted call can be repeated; the source is only read.

    Args:
        root: Tiny-ImageNet as downloaded.
        out: Output folder, which replaces ``val``.

    Returns:
        Number of images below ``out``.

    Raises:
        UserError: The annotations or some of the images are missing.
    """
    wnids = val_wnids(root)
    source = root / 'val' / 'images'
    if missing := [name for name in wnids if not (source / name).is_file()]:
        raise UserError(f'{source} lacks {len(missing)} of {len(wnids)} images, such as {missing[0]}')
    for name, wnid in track(wnids.items(), description='val images'):
        target = out / 'images' / wnid / name
        if not target.exists():
            link_or_copy(source / name, target)
    return len(wnids)
