"""The repairs of the host libraries."""

import colorsys

import numpy as np
import pytest

import reprefine.registry  # noqa: F401, applies them


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('factor', [-0.5, -0.2, -0.004, 0.0, 0.3])
def test_hues_turn_both_ways(backend, factor):
    import mmcv

    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    turned = mmcv.adjust_hue(image, factor, backend=backend)
    for before, after in zip(image.reshape(-1, 3), turned.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before[::-1] / 255)
        expected = 255 * np.array(colorsys.hsv_to_rgb((hue + factor) % 1, saturation, value))[::-1]
        np.testing.assert_allclose(after, expected, atol=14)  # a step of 256 hues is six levels


def test_the_repair_is_applied_once():
    import mmcv

    from reprefine.compat import repair_adjust_hue

    before = mmcv.adjust_hue
    repair_adjust_hue()
    assert mmcv.adjust_hue is before is mmcv.image.adjust_hue
