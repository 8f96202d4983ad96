"""CelebAMask-HQ made ready for training: a label map for each face, and the lists of the splits."""

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

from .classes import CLASSES
from .merge import merge_files
from .raw import find_faces
from .split import Splits, split_by_origin, split_randomly, warn_of_sizes

LABELS = 'mask'
CLASS_LIST = f'{LABELS}/classes.txt'


@dataclass(frozen=True)
class Face:
    """The mask files of the parts that a label map is made from, and the file it goes to."""

    parts: dict[str, Path]
    labels: Path


@dataclass(frozen=True)
class Plan:
    """What a prepared data set holds.

    Attributes:
        root: Folder of the data set.
        splits: Ids of the faces of each split.
        faces: All faces.
        texts: Content of the text files by their names: the class list, and the ids of each split.
    """

    root: Path
    splits: Splits
    faces: list[Face]
    texts: dict[str, str]


def list_file(split: str) -> str:
    """Return the name of the file that lists the ids of a split."""
    return f'{split}_celebahqmask.txt'


def make_plan(root: Path, split: str = 'celeba', seed: int = 0, allow_partial: bool = False) -> Plan:
    """Look through the raw data set, without changing anything.

    Args:
        root: Folder of the data set as downloaded.
        split: ``celeba``, the rule of the data set's authors, or ``random``.
        seed: Of the random split.
        allow_partial: Whether some of the 30,000 faces may be missing.

    Raises:
        UserError: A part of the data set is missing.
    """
    raw = find_faces(root, allow_partial)
    splits = split_by_origin(raw.origins) if split == 'celeba' else split_randomly(raw.origins, seed)
    if not allow_partial:
        warn_of_sizes(splits)
    faces = [Face(files, root / LABELS / f'{face}.png') for face, files in raw.parts.items()]
    contents = {CLASS_LIST: CLASSES, **{list_file(name): ids for name, ids in splits.items()}}
    return Plan(root, splits, faces, {name: ''.join(f'{line}\n' for line in lines) for name, lines in contents.items()})


def prepare(plan: Plan, workers: int = 1) -> None:
    """Write ``mask/{id}.png``, ``mask/classes.txt`` and the list of each split beside the raw files.

    What is there already stays, so that an interrupted call can be repeated.

    Args:
        plan: What to write.
        workers: Number of processes.

    Raises:
        UserError: A raw file is damaged, or the folder holds label maps or lists of another kind.
    """
    maps = plan.root / LABELS
    if not (plan.root / CLASS_LIST).is_file() and any(maps.glob('*.png')):
        raise UserError(f'{maps} holds label maps of unknown classes (no {CLASS_LIST}): move them away')
    for name, text in plan.texts.items():
        _write_text(plan.root / name, text)
    todo = [face for face in plan.faces if not face.labels.is_file()]
    done = len(plan.faces) - len(todo)
    for _ in track(_each(_write_labels, todo, workers), 'label maps', len(plan.faces), done):
        pass


def check(plan: Plan, workers: int = 1) -> None:
    """Compare what :func:`prepare` wrote with the raw files; write nothing.

    Args:
        plan: What should be there.
        workers: Number of processes.

    Raises:
        UserError: Something is missing, damaged or different.
    """
    files = {name: plan.root / name for name in plan.texts}
    wrong = [name for name, file in files.items() if not file.is_file() or file.read_text() != plan.texts[name]]
    faults = track(_each(_fault, plan.faces, workers), 'checking', len(plan.faces))
    wrong += [fault for fault in faults if fault]
    if wrong:
        more = f' and {len(wrong) - 5:,} more' if len(wrong) > 5 else ''
        raise UserError(f'{plan.root}: missing or wrong: {", ".join(wrong[:5])}{more}; remove them and prepare again')


def _write_text(file: Path, text: str) -> None:
    if file.is_file() and file.read_text() != text:
        raise UserError(f'{file} was made from other files or options: remove it, or repeat what it was made with')
    with atomic_write(file) as partial:
        Path(partial).write_text(text)


def _each(function: Callable, items: Sequence, workers: int) -> Iterator[Any]:
    """Yield the results of ``function`` on all items, computed by so many processes, in any order."""
    if workers <= 1:
        yield from map(function, items)
        return
    # Ctrl-C is for the parent, which then ends the workers.
    with multiprocessing.Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap_unordered(function, items, chunksize=16)


def _write_labels(face: Face) -> None:
    labels = merge_files(face.parts)
    with atomic_write(face.labels) as partial:
        Image.fromarray(labels).save(partial)


def _fault(face: Face) -> str | None:
    """Return the name of the label map if it is not what the face's parts give."""
    try:
        with Image.open(face.labels) as image:
            equal = image.mode == 'L' and np.array_equal(np.asarray(image), merge_files(face.parts))
    except (OSError, SyntaxError):
        equal = False
    return None if equal else f'{LABELS}/{face.labels.name}'
