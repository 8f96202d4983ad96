"""Conversion of the raw CUHK03 release into folders of images under the new protocol."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image
from rich.progress import track

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

RAW = 'cuhk-03.mat'
FOLDERS = dict(train='bounding_box_train', query='query', gallery='bounding_box_test')
# Images of train, query and gallery in the release.
COUNTS = dict(labeled=(7368, 1400, 5328), detected=(7365, 1400, 5332))
IDENTITIES = dict(train=767, query=700, gallery=700)


def prepare_cuhk03(root: Path, warn: Callable[[str], None] = print) -> dict[str, dict[str, int]]:
    """Write ``{labeled,detected}/{bounding_box_train,query,bounding_box_test}/PPPP_cC_I.png`` beside the raw files.

    P is the identity, C the camera (1 or 2) and I the position in the protocol's list of files, from 1. Images that an
    earlier call has written are kept, and the raw files are only read.

    Args:
        root: Folder of ``cuhk-03.mat`` and ``cuhk03_new_protocol_config_{labeled,detected}.mat``.
        warn: Receives a line for each number of images or identities that is not the release's.

    Returns:
        For each kind of boxes the number of images of train, query and gallery.

    Raises:
        UserError: h5py or a raw file is missing, or a file is damaged.
    """
    protocols = {boxes: root / f'cuhk03_new_protocol_config_{boxes}.mat' for boxes in COUNTS}
    missing = [str(file) for file in (root / RAW, *protocols.values()) if not file.is_file()]
    if missing:
        raise UserError(f'CUHK03: missing {", ".join(missing)}')
    counts = {}
    with open_raw(root / RAW) as raw:
        for boxes, file in protocols.items():
            plan = read_protocol(file)
            _check_counts(boxes, plan, warn)
            targets = [(FOLDERS[role], *entry) for role, entries in plan.items() for entry in entries]
            for folder, name, place in track(targets, f'writing {boxes}'):
                _write_image(raw, boxes, place, root / boxes / folder / name)
            counts[boxes] = {role: len(entries) for role, entries in plan.items()}
    return counts


@contextmanager
def open_raw(file: Path) -> Iterator[Any]:
    """Open the HDF5 file of the images for reading."""
    try:
        import h5py
    except ImportError as error:
        raise UserError(f'{file.name} is an HDF5 file, and h5py is not installed: pip install h5py') from error
    try:
        raw = h5py.File(file, 'r')
    except OSError as error:
        raise UserError(f'{file} is cut short or no MATLAB 7.3 file: {error}') from error
    with raw:
        yield raw


def read_protocol(file: Path) -> dict[str, list[tuple[str, tuple[int, int, int]]]]:
    """Read which image belongs where.

    Args:
        file: The new protocol's file for one kind of boxes.

    Returns:
        For train, query and gallery the name of each image and its place in the raw file: camera pair, person within
        the pair and column, from 0.

    Raises:
        UserError: The file is damaged or another one.
    """
    try:
        content = scipy.io.loadmat(file)
        names = [str(cell[0]) for cell in content['filelist'].ravel()]
        labels, cameras = (content[key].ravel().astype(int) for key in ('labels', 'camId'))
        indices = {role: content[f'{role}_idx'].ravel().astype(int) for role in FOLDERS}
        return {
            role: [(f'{labels[i - 1]:04d}_c{cameras[i - 1]}_{i}.png', _place(names[i - 1])) for i in sorted(of_role)]
            for role, of_role in indices.items()
        }
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise UserError(f'{file} is damaged or no protocol file of CUHK03: {error}') from error


def _place(name: str) -> tuple[int, int, int]:
    """Parse ``pair_person_camera_column.png``, counted from 1."""
    pair, person, _, column = name.removesuffix('.png').split('_')
    return int(pair) - 1, int(person) - 1, int(column) - 1


def _check_counts(boxes: str, plan: dict[str, list], warn: Callable[[str], None]) -> None:
    for (role, entries), expected in zip(plan.items(), COUNTS[boxes], strict=True):
        identities = len({name.split('_')[0] for name, _ in entries})
        if (len(entries), identities) != (expected, IDENTITIES[role]):
            warn(
                f'CUHK03 {boxes}, {role}: {len(entries):,} images of {identities} identities; '
                f'the release has {expected:,} of {IDENTITIES[role]}'
            )


def _write_image(raw: Any, boxes: str, place: tuple[int, int, int], target: Path) -> None:
    """Copy one image unless it is there already.

    MATLAB's column order reverses every shape: a pair is (10, persons) and an image (3, width, height).
    """
    if target.exists():
        return
    pair, person, column = place
    try:
        image = raw[raw[raw[boxes][0, pair]][column, person]][()].T
    except (KeyError, IndexError, ValueError, OSError) as error:
        raise UserError(f'{raw.filename}: no image {place} among {boxes} ({error}); download the file again') from error
    if image.ndim != 3 or image.dtype != np.uint8:
        raise UserError(f'{raw.filename}: image {place} among {boxes} is empty; the protocol is of another release')
    with atomic_write(target) as partial:
        Image.fromarray(image).save(partial)
