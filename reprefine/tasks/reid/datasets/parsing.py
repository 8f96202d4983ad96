"""Parsing of identities and cameras from file names and lists of ReID datasets."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')


class Photo(NamedTuple):
    """An image with its annotation.

    Attributes:
        path: Image file.
        pid: Identity in the release; -1 for a junk box.
        camera: Camera, counted from 0.
    """

    path: str
    pid: int
    camera: int


def parse_folder(folder: Path, pattern: re.Pattern[str]) -> list[Photo]:
    """Parse the names of all images in a folder.

    Args:
        folder: The folder; a missing folder has no images.
        pattern: Regular expression with the groups ``pid`` and ``camera`` (counted from 1) that matches the start of
            every file name.

    Returns:
        The images, sorted by name.

    Raises:
        UserError: A file name does not match.
    """
    # A leading dot marks unfinished files, and the resource forks in archives of macOS.
    files = folder.iterdir() if folder.is_dir() else ()
    images = sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != '.')
    return [_parse(image, pattern) for image in images]


def parse_list(file: Path, folder: Path, pattern: re.Pattern[str]) -> list[Photo]:
    """Parse a list of ``path identity`` lines.

    Args:
        file: The list.
        folder: Folder that its paths are relative to.
        pattern: As in :func:`parse_folder`; only the group ``camera`` is used.

    Raises:
        UserError: A line or a file name does not have the expected format.
    """
    photos = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        path, _, pid = line.strip().rpartition(' ')
        if not path or not pid.isdecimal():
            raise UserError(f'{file}, line {number}: expected "path identity", found {line!r}')
        photos.append(_parse(folder / path, pattern)._replace(pid=int(pid)))
    return photos


def _parse(image: Path, pattern: re.Pattern[str]) -> Photo:
    match = pattern.match(image.name)
    if match is None:
        raise UserError(
            f'{image}: the name does not have the format of this dataset; remove the file if it is not part of it'
        )
    return Photo(str(image), int(match['pid']), int(match['camera']) - 1)


def missing_files(photos: Iterable[Photo], folder: Path) -> list[str]:
    """Return the paths of missing images below ``folder``, by one directory walk instead of a look-up per image."""
    present = {str(path) for path in folder.rglob('*.*')}
    return [photo.path for photo in photos if photo.path not in present]
