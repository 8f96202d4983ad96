"""Fixtures of the tests of stage 1."""

from pathlib import Path

import pytest

from .small_images import write_images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a config of stage 1 and small images."""
    write_images(tmp_path)
    return tmp_path
