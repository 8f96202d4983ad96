"""Configs of detection on denoised features: each adds the denoiser to its twin, and nothing else."""

import pytest
import torch
from mmengine.registry import DefaultScope

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test
from tests.methods.dvt.configs.variables import without_variables

NECKS = configs_below('dvt/detection')
BASELINES = configs_below('baselines/detection/simple_fpn')
MODELS = ('clip', 'deit3', 'dino', 'dinov2', 'dinov2-reg', 'eva02')


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_denoiser_alone(path):
    twin = ROOT / 'configs/baselines/detection/simple_fpn' / path.name.replace('-dvt', '', 1)
    ours, theirs = load_config(str(path)), load_config(str(twin))
    denoiser, ours.model.neck = ours.model.neck
    assert denoiser == ours.denoiser
    assert denoiser.type == 'reprefine.DVTDenoiser'
    assert denoiser.features.model_id == ours.model.backbone.model_name
    assert denoiser.grid == (37 if 'patch14' in denoiser.features.model_id else 32)
    assert without_variables(ours) == without_variables(theirs)


def test_every_published_row_has_a_config():
    name = 'faster-rcnn_vit-b-{}_simple-fpn{}_24k_voc0712'
    assert {path.stem for path in BASELINES} == {name.format(m, end) for m in MODELS for end in ('', '-sincos')}
    assert {path.stem for path in NECKS} == {name.format(f'{m}-dvt', '-sincos') for m in MODELS}


@pytest.mark.parametrize('path', BASELINES, ids=lambda path: path.stem)
def test_recipe(path):
    cfg = load_config(str(path))
    patch = 14 if 'patch14' in cfg.model.backbone.model_name else 16
    strides = [patch / 4, patch / 2, patch, 2 * patch, 4 * patch]
    assert list(cfg.model.rpn_head.anchor_generator.strides) == strides
    assert list(cfg.model.roi_head.bbox_roi_extractor.featmap_strides) == strides[:4]
    assert cfg.model.data_preprocessor.pad_size_divisor == 2 * patch
    assert cfg.model.neck.get('position_grid') == (37 if 'sincos' in path.stem else None)
    assert cfg.model.backbone.get('frozen', True)
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (1e-4, 0.1)
    assert cfg.train_cfg.max_iters == 24000
    assert [cfg.param_scheduler[0].end, *cfg.param_scheduler[1].milestones] == [100, 20000, 22000]
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16


def test_only_pyramid_and_heads_are_trained():
    cfg = load_config(str(next(path for path in NECKS if 'vit-b-dinov2-dvt' in path.stem)))
    cfg.model.backbone.model_args = dict(depth=1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(cfg).train()
    trained = {name.rpartition('.')[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split('.')[0] for name in trained} == {'neck', 'rpn_head', 'roi_head'}
    assert {name.split('.')[1] for name in trained if name.startswith('neck')} == {'1'}
    assert sum('rpn_conv' in name for name in trained) == 2
    head = model.roi_head.bbox_head
    assert [len(head.shared_convs), len(head.shared_fcs), type(head.shared_convs[0].norm).__name__] == [
        4, 1, 'LayerNorm2d',
    ]  # fmt: skip
    with torch.no_grad():
        levels = model.extract_feat(torch.zeros(1, 3, 84, 56))
    assert [84 / level.shape[2] for level in levels] == [3.5, 7, 14, 28, 42]
