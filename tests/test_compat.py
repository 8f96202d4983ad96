"""The fixes of calls that fail without them."""

import colorsys
import inspect

import mmcv
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

import reprefine.registry  # noqa: F401, applies them
from reprefine.compat import fix_adjust_hue
from tests.helpers.fresh import run_fresh

BACKENDS = pytest.mark.parametrize('backend', ['cv2', 'pillow'])


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@BACKENDS
@pytest.mark.parametrize('factor', [-0.5, -0.2, -0.004, 0.0, 0.3])
def test_hues_turn_both_ways(backend, factor):
    turned = mmcv.adjust_hue(image(), factor, backend=backend)
    for before, after in zip(image().reshape(-1, 3), turned.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before[::-1] / 255)
        expected = 255 * np.array(colorsys.hsv_to_rgb((hue + factor) % 1, saturation, value))[::-1]
        np.testing.assert_allclose(after, expected, atol=14)  # a step of 256 hues is six levels


@BACKENDS
def test_changes_that_mmcv_makes_itself_are_unchanged(backend):
    stock = inspect.getclosurevars(mmcv.adjust_hue).nonlocals['original']
    assert stock.__module__ == 'mmcv.image.photometric'
    worked = 0
    for factor in np.linspace(-0.5, 0.5, 41):
        try:
            expected = stock(image(), factor, backend)
        except OverflowError:
            continue
        worked += 1
        np.testing.assert_array_equal(mmcv.adjust_hue(image(), factor, backend), expected)
    assert worked >= 20
    with pytest.raises(ValueError, match='hue_factor'):
        mmcv.adjust_hue(image(), 0.6, backend)


def test_the_fix_is_applied_once():
    before = mmcv.adjust_hue
    fix_adjust_hue()
    assert mmcv.adjust_hue is before is mmcv.image.adjust_hue


def test_checkpoints_of_mmengine_are_read_weights_only(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save(dict(history=history, value=np.float64(3), array=np.arange(3)), tmp_path / 'a.pth')
    code = """
import torch
from mmengine.logging import HistoryBuffer
def read():
    try:
        return str(torch.load('a.pth', weights_only=True)['history'].current())
    except Exception as error:
        return type(error).__name__
print(read())
import reprefine.registry
print(read())
"""
    assert run_fresh(code, tmp_path).split() == ['UnpicklingError', '2.0']
