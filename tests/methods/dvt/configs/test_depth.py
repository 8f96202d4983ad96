"""Depth configs with the denoiser, without the gradient loss as published, and the weight of that loss."""

import pytest

from reprefine.engine.cli.launch import load_config
from tests.configs.walk import configs_below, train_and_test

CONFIGS = configs_below('dvt/depth')
PUBLISHED = [path for path in CONFIGS if 'gradloss' not in path.stem and '-50k' not in path.stem]


@pytest.mark.parametrize('path', PUBLISHED, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_gradient_loss_has_the_weight_of_its_variant(path):
    cfg = load_config(str(path))
    weights = {loss.type: loss.get('loss_weight', 1.0) for loss in cfg.model.decode_head.loss_decode}
    expected = 0.5 if 'gradloss' in path.stem else 0.0
    assert weights == {'reprefine.SigLoss': 1.0, 'reprefine.GradientLoss': expected}
    assert cfg.model.backbone.with_cls_token
