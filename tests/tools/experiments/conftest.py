"""Sections of the tour are tested in the environment of `make demo`."""

import sys

import pytest

ABSENT = ('mmdet', 'mmseg', 'mmpose', 'mmcv.ops', 'mmcv._ext')


@pytest.fixture(autouse=True)
def environment_of_the_demo(request, monkeypatch):
    """Let the imports fail that fail after `make demo`, in the tests of its sections."""
    if request.path.name.startswith('test_section_'):
        for name in ABSENT:
            monkeypatch.setitem(sys.modules, name, None)
