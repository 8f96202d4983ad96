"""The loss between denoised features and their targets."""

import pytest

from reprefine.methods.dvt import FeatureLoss
from reprefine.methods.dvt.functional import distance_loss

from .test_network import maps


def test_loss_in_float64():
    prediction, target = maps(8, 3, 5), maps(8, 3, 5).flip(-1) - 0.2
    losses = FeatureLoss(cosine_weight=0.5)(prediction, target)
    a, b = (x.double().permute(0, 2, 3, 1).reshape(-1, 8) for x in (prediction, target))
    assert losses['loss_mse'].item() == pytest.approx(((a - b) ** 2).sum().item() / a.numel(), rel=1e-6)
    cosines = (a * b).sum(1) / ((a**2).sum(1).sqrt() * (b**2).sum(1).sqrt())
    assert losses['loss_cosine'].item() == pytest.approx(0.5 * (1 - cosines.mean().item()), rel=1e-6)
    total = sum(FeatureLoss()(prediction, target).values())
    assert total.item() == pytest.approx(distance_loss(a, b).item(), rel=1e-6)
