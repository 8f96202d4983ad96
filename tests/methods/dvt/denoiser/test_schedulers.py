"""The learning rate of the denoiser's training in both recipes."""

import math

import numpy as np
import pytest

from reprefine.engine.cli.launch import load_config
from tests.helpers.run import ROOT
from tests.helpers.schedules import schedule

CONFIGS = ROOT / 'configs/dvt/denoiser'


def test_learning_rate_of_the_newer_release():
    cfg = load_config(str(CONFIGS / 'vit-b-dinov2_denoiser_8xb16-50k_voc10k.py'))
    rates, momenta = schedule(cfg)
    spots = {3750: 7.0720e-5, 7499: 1.41421e-4, 7500: 1.41421e-4, 25000: 9.04247e-5, 49999: 1.0e-6}
    assert rates[0] == 0
    assert {t: rates[t] for t in spots} == pytest.approx(spots, rel=1e-5)
    assert len(rates) == 50000
    assert set(momenta) == {0.9}
    peak = 2e-4 * math.sqrt(128 / 256)
    assert rates[7499] == rates[7500] == pytest.approx(peak, rel=1e-12)
    np.testing.assert_allclose(rates[:7500], np.linspace(0, peak, 7500), rtol=1e-12)
    cosine = 1e-6 + 0.5 * (peak - 1e-6) * (1 + np.cos(np.pi * np.arange(42500) / 42500))
    np.testing.assert_allclose(rates[7500:], cosine, rtol=1e-9)


def test_learning_rate_and_recipe_of_the_first_release():
    cfg = load_config(str(CONFIGS / 'vit-b-mae_denoiser_8xb8-100k_voc10k.py'))
    rates, _ = schedule(cfg)
    assert len(rates) == 100000
    expected = {0: 0, 14999: 1e-4, 15000: 1e-4, 57500: (1e-4 + 1e-6) / 2, 7500: 1e-4 * 7500 / 14999}
    assert {t: rates[t] for t in expected} == pytest.approx(expected, rel=1e-6)
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-5
    assert cfg.optim_wrapper.get('clip_grad') is None
    assert cfg.optim_wrapper.get('paramwise_cfg') is None  # decay on positions and biases too
    assert 8 * cfg.train_dataloader.batch_size == 64
