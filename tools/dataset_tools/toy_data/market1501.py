"""Market-1501 in toy size: six cameras, ``0002_c1s1_000451_03.jpg``."""

from pathlib import Path

import numpy as np

from toy_data.image_files import save_jpeg
from toy_data.market_layout import MarketWriter
from toy_data.people import Camera, draw_cameras, draw_person, render_person

_CAMERAS, _TRAIN, _TEST = 6, 36, 12
_JUNK, _DISTRACTORS = 12, 12
_SIZE = (64, 128)


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the set: training and test identities, junk boxes (identity -1) and false alarms (identity 0000).

    Args:
        folder: Root of the dataset; created if missing.
        rng: Source of all random draws.
    """
    writer = MarketWriter(folder, draw_cameras(rng, _CAMERAS), _name, (_SIZE[1], _SIZE[1]))
    identities = rng.choice(np.arange(1, 1502), _TRAIN + _TEST, replace=False)
    for number, identity in enumerate(identities):
        writer.write_identity(identity, 'train' if number < _TRAIN else 'test', rng)
    for number in range(_JUNK + _DISTRACTORS):
        camera = int(rng.integers(_CAMERAS))
        junk = number < _JUNK
        image = (_body_part if junk else _empty_street)(writer.cameras[camera], rng)
        name = _name(-1 if junk else 0, camera + 1, 25 * number + 1, 1)
        save_jpeg(folder / 'bounding_box_test' / name, image)


def _name(identity: int, camera: int, frame: int, box: int) -> str:
    label = '-1' if identity < 0 else f'{identity:04d}'
    return f'{label}_c{camera}s{1 + frame % 6}_{frame:06d}_{box:02d}.jpg'


def _body_part(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A box that misses most of a person, as a poor detector gives it."""
    width, height = _SIZE
    photo = render_person(draw_person(rng), camera, rng, (2 * width, 2 * height))
    top, left = rng.integers(height), rng.choice([0, width])
    return np.ascontiguousarray(photo[top : top + height, left : left + width])


def _empty_street(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    return camera.expose(camera.background(rng, _SIZE), rng)
