"""Conversion of CelebAMask-HQ: a label map for each face, and files with the ids of the splits."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from ..classes import CLASSES
from .label_maps import merge_files
from .raw import find_faces
from .split import Splits, split_by_origin, split_randomly, warn_if_sizes_differ

LABELS = 'mask'
CLASS_LIST = f'{LABELS}/classes.txt'


@dataclass(frozen=True)
class Face:
    """Mask files of the visible parts of a face, and the file of the label map that is merged from them."""

    parts: dict[str, Path]
    labels: Path


@dataclass(frozen=True)
class Plan:
    """Content of the prepared dataset.

    Attributes:
        root: Folder of the dataset.
        splits: Ids of the faces of each split.
        faces: All faces.
        texts: Text files by name: the class list, and the ids of each split.
    """

    root: Path
    splits: Splits
    faces: list[Face]
    texts: dict[str, str]


def list_file(split: str) -> str:
    """Return the name of the file with the ids of a split."""
    return f'{split}_celebahqmask.txt'


def make_plan(root: Path, split: str = 'celeba', seed: int = 0, allow_partial: bool = False) -> Plan:
    """Find the raw files and determine what to write.

    Args:
        root: Folder of the dataset as downloaded.
        split: ``celeba``, the rule of the dataset's authors, or ``random``.
        seed: Seed of the random split.
        allow_partial: Whether some of the 30,000 faces may be missing.

    Raises:
        UserError: Files of the dataset are missing.
    """
    raw = find_faces(root, allow_partial)
    splits = split_by_origin(raw.origins) if split == 'celeba' else split_randomly(raw.origins, seed)
    if not allow_partial:
        warn_if_sizes_differ(splits)
    faces = [Face(files, root / LABELS / f'{face}.png') for face, files in raw.parts.items()]
    contents = {CLASS_LIST: CLASSES, **{list_file(name): ids for name, ids in splits.items()}}
    return Plan(root, splits, faces, {name: ''.join(f'{line}\n' for line in lines) for name, lines in contents.items()})


def prepare(plan: Plan, workers: int = 1) -> None:
    """Write ``mask/{id}.png``, ``mask/classes.txt`` and the ids of each split into the folder of the raw files.

    Existing files are kept, so that an interrupted call can be repeated.

    Args:
        plan: Content to write.
        workers: Number of processes.

    Raises:
        UserError: A raw file is corrupted, or the folder has label maps or split files of other options.
    """
    maps = plan.root / LABELS
    if not (plan.root / CLASS_LIST).is_file() and any(maps.glob('*.png')):
        raise UserError(f'{maps} has label maps of unknown classes (no {CLASS_LIST}): move them away')
    for name, text in plan.texts.items():
        _write_text(plan.root / name, text)
    missing = [face for face in plan.faces if not face.labels.is_file()]
    done = len(plan.faces) - len(missing)
    for _ in track(_map_unordered(_write_labels, missing, workers), 'label maps', len(plan.faces), done):
        pass


def check(plan: Plan, workers: int = 1) -> None:
    """Compare what :func:`prepare` wrote with the raw files; write nothing.

    Args:
        plan: Expected content.
        workers: Number of processes.

    Raises:
        UserError: A file is missing, corrupted or different.
    """
    files = {name: plan.root / name for name in plan.texts}
    wrong = [name for name, file in files.items() if not file.is_file() or file.read_text() != plan.texts[name]]
    names = track(_map_unordered(_wrong_label_map, plan.faces, workers), 'checking', len(plan.faces))
    wrong += [name for name in names if name]
    if wrong:
        more = f' and {len(wrong) - 5:,} more' if len(wrong) > 5 else ''
        raise UserError(f'{plan.root}: missing or wrong: {", ".join(wrong[:5])}{more}; remove them and prepare again')


def _write_text(file: Path, text: str) -> None:
    if file.is_file() and file.read_text() != text:
        raise UserError(f'{file} was written with other files or options: remove it, or use the same options')
    with atomic_write(file) as partial:
        Path(partial).write_text(text)


def _map_unordered(function: Callable, items: Sequence, workers: int) -> Iterator[Any]:
    """Yield the results of ``function`` for all items from ``workers`` processes, in any order."""
    if workers <= 1:
        yield from map(function, items)
        return
    # Workers ignore Ctrl-C; the parent handles it and terminates them.
    with multiprocessing.Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap_unordered(function, items, chunksize=16)


def _write_labels(face: Face) -> None:
    labels = merge_files(face.parts)
    with atomic_write(face.labels) as partial:
        Image.fromarray(labels).save(partial)


def _wrong_label_map(face: Face) -> str | None:
    """Return the name of the label map if it differs from the merged part masks."""
    try:
        with Image.open(face.labels) as image:
            equal = image.mode == 'L' and np.array_equal(np.asarray(image), merge_files(face.parts))
    except (OSError, SyntaxError):
        equal = False
    return None if equal else f'{LABELS}/{face.labels.name}'
