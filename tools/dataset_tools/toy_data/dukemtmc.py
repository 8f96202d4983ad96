"""DukeMTMC-reID in toy size: eight cameras, ``0005_c2_f0046985.jpg``, boxes of many sizes."""

from pathlib import Path

import numpy as np

from toy_data.market_layout import MarketWriter
from toy_data.people import draw_cameras

_CAMERAS = 8
_IDENTITIES = ('train',) * 36 + ('test',) * 10 + ('distractor',) * 3


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the set: training and test identities, and gallery identities without a query.

    Args:
        folder: Root of the dataset; created if missing.
        rng: Source of all random draws.
    """
    writer = MarketWriter(folder, draw_cameras(rng, _CAMERAS), _name, (100, 140))
    numbers = rng.choice(np.arange(1, 7141), len(_IDENTITIES), replace=False)
    for identity, subset in zip(numbers, _IDENTITIES, strict=True):
        writer.write_identity(identity, subset, rng)


def _name(identity: int, camera: int, frame: int, box: int) -> str:
    return f'{identity:04d}_c{camera}_f{frame:07d}.jpg'
