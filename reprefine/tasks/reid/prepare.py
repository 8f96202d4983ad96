"""Conversion of the CUHK03 release to image folders of the new protocol."""

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
# Number of images of train, query and gallery in the release.
COUNTS = dict(labeled=(7368, 1400, 5328), detected=(7365, 1400, 5332))
IDENTITIES = dict(train=767, query=700, gallery=700)


def prepare_cuhk03(root: Path, warn: Callable[[str], None] = print) -> dict[str, dict[str, int]]:
    """Write ``{labeled,detected}/{bounding_box_train,query,bounding_box_test}/PPPP_cC_I.png`` into ``root``.

    P is the identity, C the camera (1 or 2) and I the index in the protocol's list of files, from 1. Images of an
    earlier call are kept; the raw files are only read.

    Args:
        root: Folder of ``cuhk-03.mat`` and ``cuhk03_new_protocol_config_{labeled,detected}.mat``.
        warn: Called with a message for each number of images or identities that differs from the release.

    Returns:
        For each kind of boxes the number of images of train, query and gallery.

    Raises:
        UserError: h5py or a raw file is missing, or a file is corrupted.
    """
    protocols = {boxes: root / f'cuhk03_new_protocol_config_{boxes}.mat' for boxes in COUNTS}
    missing = [str(file) for file in (root / RAW, *protocols.values()) if not file.is_file()]
    if missing:
        raise UserError(f'CUHK03: missing {", ".join(missing)}: download them there')
    counts = {}
    with open_raw(root / RAW) as raw:
        for boxes, file in protocols.items():
            protocol = read_protocol(file)
            _check_counts(boxes, protocol, warn)
            targets = [(FOLDERS[role], *entry) for role, entries in protocol.items() for entry in entries]
            for folder, name, index in track(targets, f'writing {boxes}'):
                _write_image(raw, boxes, index, root / boxes / folder / name)
            counts[boxes] = {role: len(entries) for role, entries in protocol.items()}
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
        raise UserError(f'{file} is truncated or not a MATLAB 7.3 file ({error}): download it again') from error
    with raw:
        yield raw


def read_protocol(file: Path) -> dict[str, list[tuple[str, tuple[int, int, int]]]]:
    """Read the images of train, query and gallery.

    Args:
        file: The new protocol's file for one kind of boxes.

    Returns:
        For train, query and gallery the file name of each image and its index in the raw file: camera pair, person
        within the pair and column, from 0.

    Raises:
        UserError: The file is corrupted or not a protocol file.
    """
    try:
        content = scipy.io.loadmat(file)
        names = [str(cell[0]) for cell in content['filelist'].ravel()]
        labels, cameras = (content[key].ravel().astype(int) for key in ('labels', 'camId'))
        indices = {role: content[f'{role}_idx'].ravel().astype(int) for role in FOLDERS}
        return {
            role: [
                (f'{labels[i - 1]:04d}_c{cameras[i - 1]}_{i}.png', _parse_index(names[i - 1]))
                for i in sorted(indices[role])
            ]
            for role in indices
        }
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise UserError(f'{file} is corrupted or not a protocol file of CUHK03 ({error}): download it again') from error


def _parse_index(name: str) -> tuple[int, int, int]:
    """Parse ``pair_person_camera_column.png``, counted from 1."""
    pair, person, _, column = name.removesuffix('.png').split('_')
    return int(pair) - 1, int(person) - 1, int(column) - 1


def _check_counts(boxes: str, protocol: dict[str, list], warn: Callable[[str], None]) -> None:
    for (role, entries), expected in zip(protocol.items(), COUNTS[boxes], strict=True):
        identities = len({name.split('_')[0] for name, _ in entries})
        if (len(entries), identities) != (expected, IDENTITIES[role]):
            warn(
                f'CUHK03 {boxes}, {role}: {len(entries):,} images of {identities} identities; '
                f'the release has {expected:,} of {IDENTITIES[role]}'
            )


def _write_image(raw: Any, boxes: str, index: tuple[int, int, int], target: Path) -> None:
    """Write one image unless its file exists.

    MATLAB is column-major, so shapes are reversed: a pair is (10, persons) and an image (3, width, height).
    """
    if target.exists():
        return
    pair, person, column = index
    try:
        image = raw[raw[raw[boxes][0, pair]][column, person]][()].T
    except (KeyError, IndexError, ValueError, OSError) as error:
        raise UserError(f'{raw.filename}: no image {index} in {boxes} ({error}); download the file again') from error
    if image.ndim != 3 or image.dtype != np.uint8:
        raise UserError(
            f'{raw.filename}: image {index} in {boxes} is empty; download protocol and images of the same release'
        )
    with atomic_write(target) as partial:
        Image.fromarray(image).save(partial)
