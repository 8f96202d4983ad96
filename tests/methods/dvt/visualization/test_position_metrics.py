"""Measures of how strongly features depend on the token position."""

import numpy as np
import pytest
import torch

from reprefine.methods.dvt.visualization.position_metrics import fixed_fraction, position_correlation, variance_ratio


def test_correlation_with_position_of_known_maps():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing='ij')
    even = (x - 3).square()
    maps = torch.stack((2 * x + 1, -y, even, torch.ones(5, 7)), -1)[None]
    best, mean = position_correlation(maps)
    assert best == pytest.approx(1)
    assert mean == pytest.approx(2 / 8)  # one of four channels for each axis
    expected = abs(np.corrcoef((x + 2 * y).ravel(), x.ravel())[0, 1])
    other = abs(np.corrcoef((x + 2 * y).ravel(), y.ravel())[0, 1])
    best, _ = position_correlation((x + 2 * y)[None, ..., None].expand(3, -1, -1, -1))
    assert best == pytest.approx((expected + other) / 2)


def test_fixed_fraction_and_variance_ratio():
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(1, 8, 8, 16, generator=generator)
    content = torch.randn(400, 8, 8, 16, generator=generator)
    assert fixed_fraction(pattern.expand(5, -1, -1, -1) + 7) == pytest.approx(1)
    assert fixed_fraction(content) == pytest.approx(1 / 400, rel=0.2)
    assert fixed_fraction(content + 2 * pattern) == pytest.approx(4 / 5, rel=0.05)
    assert variance_ratio(3 * content + 5, content) == pytest.approx(9, rel=1e-5)
