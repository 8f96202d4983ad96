"""File layout of CelebAMask-HQ as downloaded, and a check that it is complete."""

import re
from dataclasses import dataclass
from pathlib import Path

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text

from ..classes import PARTS

FACES = 30_000
IMAGES, MASKS, MAPPING = 'CelebA-HQ-img', 'CelebAMask-HQ-mask-anno', 'CelebA-HQ-to-CelebA-mapping.txt'
PART_FILE = re.compile(rf'(\d{{5}})_({"|".join(PARTS)})\.png')


@dataclass(frozen=True)
class RawFaces:
    """The faces of a raw dataset.

    Attributes:
        origins: Number of the CelebA image that each face was made from, by the face's id.
        parts: Mask file of each visible part, by the part's name, by the face's id.
    """

    origins: dict[int, int]
    parts: dict[int, dict[str, Path]]


def find_faces(root: Path, allow_partial: bool = False) -> RawFaces:
    """Find the faces that have an image, at least one mask, and a row in the mapping to CelebA.

    Args:
        root: Folder of the dataset as downloaded.
        allow_partial: Whether some of the 30,000 faces may be missing or incomplete.

    Raises:
        UserError: A folder or file is missing; without ``allow_partial`` also when a face is.
    """
    if missing := [name for name in (IMAGES, MASKS, MAPPING) if not (root / name).exists()]:
        raise UserError(
            f'{root} lacks {", ".join(missing)}; expected there: {IMAGES}/{{0..29999}}.jpg, '
            f'{MASKS}/{{0..14}}/NNNNN_<part>.png and {MAPPING}, as CelebAMask-HQ.zip unpacks them'
        )
    origins = read_mapping(root / MAPPING)
    images = {int(file.stem) for file in (root / IMAGES).iterdir() if re.fullmatch(r'\d+\.jpg', file.name)}
    parts = _part_files(root / MASKS)
    complete = sorted(origins.keys() & images & parts.keys())
    if not allow_partial and len(complete) != FACES:
        raise UserError(_incomplete(root, origins.keys(), images, parts.keys()))
    if not complete:
        raise UserError(f'{root} has no face with an image, a mask and a row in {MAPPING}: unpack CelebAMask-HQ there')
    return RawFaces({face: origins[face] for face in complete}, {face: parts[face] for face in complete})


def read_mapping(file: Path) -> dict[int, int]:
    """Return the number of the CelebA image of each face, by the face's id.

    Args:
        file: Table with a header and the columns idx, orig_idx, orig_file.

    Raises:
        UserError: The file is not such a table.
    """
    header, *rows = read_text(file).splitlines() or ['']
    try:
        if header.split()[:2] != ['idx', 'orig_idx']:
            raise ValueError
        return {int(face): int(origin) for face, origin, *_ in (row.split() for row in rows if row.strip())}
    except ValueError as error:
        raise UserError(
            f'{file} is not a table with the columns idx, orig_idx, orig_file: download it again'
        ) from error


def _part_files(folder: Path) -> dict[int, dict[str, Path]]:
    """Return the mask files by face and part; face N is in subfolder N // 2000."""
    parts: dict[int, dict[str, Path]] = {}
    for number in range(FACES // 2000):
        subfolder = folder / str(number)
        for file in subfolder.iterdir() if subfolder.is_dir() else ():
            if match := PART_FILE.fullmatch(file.name):
                parts.setdefault(int(match[1]), {})[match[2]] = file
    return parts


def _incomplete(root: Path, rows: set[int], images: set[int], masked: set[int]) -> str:
    """Return the error message with the number of missing files of each kind."""
    faces = range(FACES)
    missing = {
        f'{IMAGES}/{{id}}.jpg': [face for face in faces if face not in images],
        f'{MASKS}/{{id // 2000}}/{{id:05d}}_<part>.png': [face for face in faces if face not in masked],
        f'rows of {MAPPING}': [face for face in faces if face not in rows],
    }
    details = '; '.join(f'{name}: {len(ids):,} missing, such as id {ids[0]}' for name, ids in missing.items() if ids)
    return f'{root} lacks some of the {FACES:,} faces: {details}; unpack it again, or use --allow-partial'
