"""Annotation files of a subset of ImageNet-1k's classes."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write, read_text

WNID = re.compile(r'n\d{8}')


def read_classes(file: Path) -> list[str]:
    """Return the wnids of a class file, one a line in any order.

    Raises:
        UserError: A line is no wnid, or a wnid stands there twice.
    """
    if not file.is_file():
        raise UserError(f'class file {file} does not exist')
    wnids = read_text(file).split()
    for wnid in wnids:
        if not WNID.fullmatch(wnid) or wnids.count(wnid) > 1:
            raise UserError(f'{file}: {wnid!r} is no wnid such as n01558993, or stands there twice')
    return sorted(wnids)


def write_subset(root: Path, wnids: Sequence[str], suffix: str = '100') -> dict[str, int]:
    """Write ``meta/{train,val,classes}_<suffix>.txt`` below ``root``; a class's rank among ``wnids`` is its label.

    The paths are relative to ``train`` and ``val``. The images of ``val`` may lie in one folder a class, or all in
    one folder with ``meta/val.txt`` beside it, whose labels are ranks among the folders of ``train``.

    Args:
        root: Folder of ImageNet-1k.
        wnids: Classes to keep.
        suffix: Distinguishes the files of one subset from those of another.

    Returns:
        Number of images of ``train`` and ``val``.

    Raises:
        UserError: A folder or file of the data set is missing, or a class is.
    """
    labels = {wnid: label for label, wnid in enumerate(sorted(wnids))}
    folders = _class_folders(root / 'train', root)
    if missing := sorted(labels.keys() - set(folders)):
        raise UserError(f'{root}/train lacks {len(missing)} of {len(labels)} classes: {" ".join(missing[:5])} …')
    val_folders = _class_folders(root / 'val', root)
    lines = {
        'train': _from_folders(root / 'train', labels),
        'val': _from_folders(root / 'val', labels) if val_folders else _from_list(root, folders, labels),
    }
    counts = {}
    for split, found in lines.items():
        samples = sorted(found)
        if not samples:
            raise UserError(f'{root}/{split} holds no image of these classes; is the data set unpacked?')
        (root / 'meta').mkdir(exist_ok=True)
        with atomic_write(root / 'meta' / f'{split}_{suffix}.txt') as file:
            Path(file).write_text(''.join(f'{path} {label}\n' for path, label in samples))
        counts[split] = len(samples)
    with atomic_write(root / 'meta' / f'classes_{suffix}.txt') as file:
        Path(file).write_text(''.join(f'{wnid}\n' for wnid in labels))
    return counts


def _class_folders(folder: Path, root: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f'{root} is no ImageNet folder: expected train/<wnid>/*.JPEG and val/, missing {folder.name}/')
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def _from_folders(folder: Path, labels: dict[str, int]) -> Iterator[tuple[str, int]]:
    for wnid, label in labels.items():
        if (folder / wnid).is_dir():
            yield from ((f'{wnid}/{image.name}', label) for image in (folder / wnid).iterdir() if image.is_file())


def _from_list(root: Path, folders: Sequence[str], labels: dict[str, int]) -> Iterator[tuple[str, int]]:
    file = root / 'meta' / 'val.txt'
    if not file.is_file() or len(folders) != 1000:
        raise UserError(
            f'{root}/val has no class folders; then {file} and all 1000 folders of train/ are needed to know its labels'
        )
    for line in read_text(file).splitlines():
        path, label = line.rsplit(maxsplit=1)
        if (wnid := folders[int(label)]) in labels:
            yield path, labels[wnid]
