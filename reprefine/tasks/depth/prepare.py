"""Conversion of NYU depth v2 (folders ``sync`` and ``official_splits``) to the layout of mmseg."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from rich.progress import track

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write, link_or_copy, read_text

# Folders of the release that the paths in its lists are relative to.
ROOTS = ('', 'sync', 'official_splits/test')
DEPTH_MODES = ('I;16', 'I')


class Pair(NamedTuple):
    """A line of a list.

    Attributes:
        image: Path of the image below one of ``ROOTS``.
        depth: Path of its depth map.
        focal: Focal length in pixels, as written.
    """

    image: Path
    depth: Path
    focal: str

    @property
    def name(self) -> str:
        """File name ``<scene>_<number>``, from whose first part mmseg derives the scene category."""
        return '_'.join(self.image.with_suffix('').parts[-2:]).replace('rgb_', '')


def read_list(file: Path) -> list[Pair]:
    """Return the pairs of a list in the order of their names; lines whose depth map is ``None`` are skipped.

    Args:
        file: Text file with image, depth map and focal length in each line.

    Raises:
        UserError: If the file is missing or empty, a line has another format, or two images have the same name.
    """
    if not file.is_file():
        raise UserError(f'list {file} does not exist; it comes with the training code of the release (BTS)')
    pairs = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        words = [word.lstrip('/') for word in line.split()]
        if words and len(words) != 3:
            raise UserError(f'{file}, line {number}: expected image, depth map and focal length, found {line!r}')
        if words and words[1] != 'None':
            pairs.append(Pair(Path(words[0]), Path(words[1]), words[2]))
    if len({pair.name for pair in pairs}) < max(len(pairs), 1):
        raise UserError(f'list {file} is empty or names an image twice')
    return sorted(pairs, key=lambda pair: pair.name)


def find_root(source: Path, pairs: Sequence[Pair]) -> Path:
    """Return the folder of the release that holds all files of ``pairs``.

    Raises:
        UserError: If each folder lacks files; the message has their number in the best folder and the first of them.
    """
    lacking = {root: _lacking(source / root, pairs) for root in ROOTS}
    best = min(ROOTS, key=lambda root: len(lacking[root]))
    if lacking[best]:
        folders = ', '.join(str(source / root) for root in ROOTS)
        raise UserError(
            f'{len(lacking[best])} of {2 * len(pairs)} listed files are in none of {folders}; '
            f'the first is {lacking[best][0]}'
        )
    return source / best


def _lacking(folder: Path, pairs: Sequence[Pair]) -> list[Path]:
    return [file for pair in pairs for file in (pair.image, pair.depth) if not (folder / file).is_file()]


def prepare(source: Path, out: Path, split: str, list_file: Path) -> int:
    """Write ``images/<split>``, ``annotations/<split>`` and ``nyu_<split>.txt`` below ``out``.

    Files are hard links where the file system supports them, else copies. Files of an earlier call are kept.

    Args:
        source: Folder of the release; it is only read.
        out: Folder to write to.
        split: ``train`` or ``test``.
        list_file: List of the split.

    Returns:
        Number of pairs.

    Raises:
        UserError: If a file is missing, or a depth map is not a 16-bit image of the size of its image.
    """
    if out.resolve() == source.resolve():
        raise UserError(f'{out} is the folder of the release itself; give another one to write to')
    pairs = read_list(list_file)
    root = find_root(source, pairs)
    lines = []
    for pair in track(pairs, description=f'NYU {split}'):
        _check_pair(root / pair.image, root / pair.depth)
        image, depth = f'images/{split}/{pair.name}.jpg', f'annotations/{split}/{pair.name}.png'
        _link_if_missing(root / pair.image, out / image)
        _link_if_missing(root / pair.depth, out / depth)
        lines.append(f'{image} {depth} {pair.focal}\n')
    with atomic_write(out / f'nyu_{split}.txt') as partial:
        Path(partial).write_text(''.join(lines))
    return len(pairs)


def _check_pair(image: Path, depth: Path) -> None:
    """Compare the headers of an image and its depth map."""
    try:
        with Image.open(image) as rgb, Image.open(depth) as depth_map:
            fits = depth_map.mode in DEPTH_MODES and depth_map.size == rgb.size
    except OSError as error:
        raise UserError(f'{image} or {depth} is corrupted or not an image: unpack the release again') from error
    if not fits:
        raise UserError(f'{depth} is not a 16-bit depth map of the size of {image.name}: unpack the release again')


def _link_if_missing(source: Path, target: Path) -> None:
    """Link or copy ``source`` to ``target`` unless an earlier call has done so."""
    if not target.is_file() or target.stat().st_size != source.stat().st_size:
        link_or_copy(source, target)
