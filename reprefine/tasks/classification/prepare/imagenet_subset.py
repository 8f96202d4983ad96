"""Annotation files of a subset of ImageNet-1k's classes."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write, read_text

WNID = re.compile(r'n\d{8}')


def read_classes(file: Path) -> list[str]:
    """Return the sorted wnids of a class file, which has one per line in any order.

    Raises:
        UserError: The file is missing, a line is not a wnid, or a wnid is listed twice.
    """
    if not file.is_file():
        raise UserError(f'class file {file} does not exist')
    wnids = read_text(file).split()
    for wnid in wnids:
        if not WNID.fullmatch(wnid) or wnids.count(wnid) > 1:
            raise UserError(f'{file}: {wnid!r} is not a wnid such as n01558993, or is listed twice')
    return sorted(wnids)


def write_subset(root: Path, wnids: Sequence[str], suffix: str = '100') -> dict[str, int]:
    """Write ``meta/{train,val,classes}_<suffix>.txt`` below ``root``; a class's rank among ``wnids`` is its label.

    The paths are relative to ``train`` and ``val``. The images of ``val`` may be in class folders, or all in
    ``val`` itself with the list ``meta/val.txt``, whose labels are ranks among the folders of ``train``.

    Args:
        root: Folder of ImageNet-1k.
        wnids: Classes to keep.
        suffix: Last part of the names of the files, different for each subset.

    Returns:
        Number of images of ``train`` and ``val``.

    Raises:
        UserError: A folder, a file or a class of the dataset is missing.
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
            raise UserError(f'{root}/{split} has no images of these classes: unpack the dataset there')
        (root / 'meta').mkdir(exist_ok=True)
        with atomic_write(root / 'meta' / f'{split}_{suffix}.txt') as file:
            Path(file).write_text(''.join(f'{path} {label}\n' for path, label in samples))
        counts[split] = len(samples)
    with atomic_write(root / 'meta' / f'classes_{suffix}.txt') as file:
        Path(file).write_text(''.join(f'{wnid}\n' for wnid in labels))
    return counts


def _class_folders(folder: Path, root: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(
            f'{root} is not an ImageNet folder: expected train/<wnid>/*.JPEG and val/, missing {folder.name}/'
        )
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
