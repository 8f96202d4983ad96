import pytest
import torch
from mmengine.registry import DefaultScope

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from tests.helpers.run import ROOT
from tests.helpers.schedules import schedule

CONFIGS = sorted((ROOT / 'configs/baselines/depth').glob('*_linear_8xb2-38k_nyu-416x544.py'))


@pytest.fixture(scope='module')
def cfg():
    return load_config(str(ROOT / 'configs/baselines/depth/vit-b-dinov2_linear_8xb2-38k_nyu-416x544.py'))


@pytest.fixture(scope='module')
def curves(cfg):
    return schedule(cfg)


def test_recipe(cfg):
    assert cfg.train_cfg.max_iters == 38400
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.01
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16


@pytest.mark.parametrize(
    ('iteration', 'lr'), [(0, 5.0e-6), (6400, 2.3349e-3), (12799, 3.75e-3), (12800, 3.75e-3), (25600, 1.25e-3)]
)
def test_learning_rate(curves, iteration, lr):
    assert curves[0][iteration] == pytest.approx(lr, rel=1e-4)


def test_learning_rate_is_a_cosine_times_a_linear_warmup(curves):
    t = torch.arange(38400, dtype=torch.float64)
    cosine = 5e-11 + (5e-3 - 5e-11) * (1 + torch.cos(torch.pi * t / 38400)) / 2
    warmup = 1 - (1 - t / 12800).clamp(min=0) * (1 - 1e-3)
    assert (torch.tensor(curves[0], dtype=torch.float64) / (cosine * warmup) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ('iteration', 'beta'), [(0, 0.95), (5760, 0.9), (11520, 0.85), (19200, 0.8688), (38399, 0.95)]
)  # fmt: skip
def test_beta1_cycle(curves, iteration, beta):
    assert curves[1][iteration] == pytest.approx(beta, abs=5e-5)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_backbone_builds_with_its_class_token(path):
    cfg = load_config(str(path))
    cfg.model.backbone.model_args = dict(depth=1)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build_model(cfg)
    with torch.no_grad():
        depth = model(torch.zeros(1, 3, 64, 96), mode='tensor')
    patch = model.backbone.patch_size
    assert depth.shape == (1, 1, 4 * -(-64 // patch), 4 * -(-96 // patch))
    assert 0.001 <= depth.min() <= depth.max() <= 10
    base = ROOT / f'configs/_base_/models/{path.stem.split("_")[0]}.py'
    assert cfg.model.backbone.model_name in base.read_text()


def test_all_seven_backbones_are_there():
    assert len(CONFIGS) == 7
