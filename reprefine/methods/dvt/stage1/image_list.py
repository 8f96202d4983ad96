"""Lists of images, one name per line."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text

PUBLISHED_PREFIX = 'data/VOCdevkit/'
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def read_list(file: str | Path, exists: Callable[[str], bool]) -> list[str]:
    """Return the names in a list of images; stages 1 and 2 read the same format.

    Args:
        file: One name per line. Empty lines and lines that begin with ``#`` are ignored.
        exists: Whether a name exists. From a name that does not, the prefix ``data/VOCdevkit/`` of the published list
            is removed.

    Raises:
        UserError: If the file cannot be read, or names no image.
    """
    try:
        lines = (line.strip() for line in read_text(file).splitlines())
    except OSError as error:
        raise UserError(
            f'list {file} cannot be read ({error.strerror}); tools/dataset_tools/voc_image_list.py writes one'
        ) from error
    names = [line for line in lines if line and not line.startswith('#')]
    if not names:
        raise UserError(f'list {file} names no image; write one name per line, relative to the data root')
    return [name if exists(name) else name.removeprefix(PUBLISHED_PREFIX) for name in names]


def list_images(data_root: Path, list_file: Path | None) -> list[str]:
    """Return the images to denoise, relative to ``data_root``.

    Args:
        data_root: Folder of the images.
        list_file: See :func:`read_list`. None lists all images below the root.

    Raises:
        UserError: If the root does not exist or holds no image, or the list cannot be read.
    """
    if not data_root.is_dir():
        raise UserError(f'data root {data_root} does not exist; give the folder of the images')
    if list_file is not None:
        return read_list(list_file, lambda name: (data_root / name).is_file())
    files = (file for file in sorted(data_root.rglob('*')) if file.suffix.lower() in IMAGE_SUFFIXES)
    if not (names := [file.relative_to(data_root).as_posix() for file in files]):
        raise UserError(f'data root {data_root} holds no image ({", ".join(IMAGE_SUFFIXES)})')
    return names


def shard(names: Sequence[str], index: int, count: int) -> list[str]:
    """Return shard ``index`` of ``count``, counted from 1, and of it the part of this process of torchrun.

    Raises:
        UserError: If ``index`` is not in 1..``count``.
    """
    if not 1 <= index <= count:
        raise UserError(f'--shard {index}/{count} is out of range; use 1/{count} to {count}/{count}')
    rank, world_size = int(os.environ.get('RANK', '0')), int(os.environ.get('WORLD_SIZE', '1'))
    return list(names[index - 1 :: count])[rank::world_size]
