"""Comparisons the tests of several toy datasets need."""

from pathlib import Path

import numpy as np


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def assert_like(read: np.ndarray, drawn: np.ndarray) -> None:
    """Check that an image that a host library read, BGR, is the RGB one that was written as JPEG."""
    # The compression blurs colours at the digits' rims; other images differ by 40 and more.
    assert read.shape == drawn.shape
    assert np.abs(read[..., ::-1].astype(int) - drawn).mean() < 12
