import cv2
import numpy as np
import pytest
from toy_data.outlines import curve, ellipse, inside


def test_curve_passes_through_its_points():
    points = np.random.default_rng(0).normal(size=(6, 2))
    smooth = curve(points, steps=4)
    assert smooth.shape == (21, 2)
    np.testing.assert_allclose(smooth[::4], points, atol=1e-12)


def test_curve_keeps_straight_lines():
    line = np.linspace([0, 1], [3, 7], 4)
    np.testing.assert_allclose(curve(line, steps=2), np.linspace([0, 1], [3, 7], 7), atol=1e-12)


def test_ellipse_has_its_area():
    assert cv2.contourArea(ellipse((3, 4), (5, 2), 200).astype(np.float32)) == pytest.approx(10 * np.pi, rel=1e-3)


def test_inside_is_the_filled_polygon_cut_at_the_border():
    outline = np.array([[-4.0, 2], [12, -3], [9, 14], [2, 11]])
    expected = cv2.fillPoly(np.zeros((30, 28), np.uint8), [outline.astype(int) + 10], 1)[10:20, 10:18]
    found = np.zeros_like(expected)
    found[inside(outline, expected.shape)] = 1
    np.testing.assert_array_equal(found, expected)
