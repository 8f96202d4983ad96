"""MSMT17 (first release) in toy size: 15 cameras, ``0000_000_01_0303morning_0015_0.jpg``, lists of files."""

from pathlib import Path

import numpy as np

from toy_data.image_files import save_jpeg
from toy_data.market_layout import first_of_each
from toy_data.people import Camera, draw_cameras, draw_person, draw_size, draw_visits, render_person

_CAMERAS, _TRAIN, _TEST, _IMAGES = 15, 36, 12, 9


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write ``train``, ``test`` and the four lists of ``path identity`` lines.

    As in the release, training and test identities are counted from 0 each, and the validation list holds further
    photos of the training identities.

    Args:
        folder: Root of the dataset; created if missing.
        rng: Source of all random draws.
    """
    cameras = draw_cameras(rng, _CAMERAS)
    lists = {name: [] for name in ('train', 'val', 'query', 'gallery')}
    for subset, count in (('train', _TRAIN), ('test', _TEST)):
        for identity in range(count):
            names, seen_by = _write_identity(folder / subset, identity, cameras, rng)
            special = set(first_of_each(seen_by)[:2] if subset == 'test' else [len(names) - 1])
            for number, name in enumerate(names):
                usual, rare = ('gallery', 'query') if subset == 'test' else ('train', 'val')
                lists[rare if number in special else usual].append(f'{name} {identity}\n')
    for name, lines in lists.items():
        (folder / f'list_{name}.txt').write_text(''.join(lines))


def _write_identity(
    folder: Path, identity: int, cameras: list[Camera], rng: np.random.Generator
) -> tuple[list[str], np.ndarray]:
    """Write one person's photos; return their paths below ``folder`` and their cameras, counted from 0."""
    person, visits = draw_person(rng), draw_visits(rng, len(cameras), _IMAGES)
    names = []
    for number, camera in enumerate(visits):
        day, hour = rng.choice(['0113', '0302', '0303']), rng.choice(['morning', 'noon', 'afternoon'])
        file = f'{identity:04d}_{number:03d}_{camera + 1:02d}_{day}{hour}_{rng.integers(3000):04d}_0.jpg'
        names.append(f'{identity:04d}/{file}')
        photo = render_person(person, cameras[camera], rng, draw_size((100, 140), rng))
        save_jpeg(folder / names[-1], photo)
    return names, visits
