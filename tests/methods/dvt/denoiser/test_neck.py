"""The neck: inputs and outputs, any grid, frozen in a segmentor, and training."""

import pytest
import torch
from mmengine.registry import DefaultScope
from torch.testing import assert_close

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.methods.dvt import DVTDenoiser, FeatureLoss
from tests.helpers.run import ROOT

from .test_network import maps, perturbed


def neck(**kwargs) -> DVTDenoiser:
    torch.manual_seed(0)
    return perturbed(DVTDenoiser(64, grid=4, **kwargs))


@pytest.mark.parametrize('grid', [(1, 11), (6, 11), (37, 37), (35, 46), (1, 1)])
def test_any_grid(grid):
    for dtype in (torch.float32, torch.bfloat16):
        x = maps(64, *grid).to(dtype)
        (out,) = neck()((x,))
        assert out.shape == x.shape
        assert out.dtype == dtype
        assert out.isfinite().all()


def test_only_the_chosen_map_changes_and_class_tokens_pass():
    first, last, cls_token = maps(64, 3, 4), maps(64, 3, 4) + 1, torch.randn(2, 64)
    model = neck()
    denoised = model.denoiser(last)
    outputs = model((first, (last, cls_token)))
    assert outputs[0] is first
    assert_close(outputs[1][0], denoised)
    assert outputs[1][1] is cls_token
    outputs = neck(in_index=0)([first, last])
    assert_close(outputs[0], model.denoiser(first))
    assert outputs[1] is last
    assert_close(model(last), denoised)


@pytest.mark.parametrize('outputs', [torch.zeros(2, 64), (torch.zeros(2, 64),), [(torch.zeros(2, 5, 64),)]])
def test_features_without_positions_raise(outputs):
    with pytest.raises(UserError, match=r'features of shape \[2, .*64\], not a feature map'):
        neck()(outputs)


@pytest.mark.parametrize('frozen', [True, False])
def test_a_frozen_neck_stops_gradients(frozen):
    x = maps(64, 3, 4).requires_grad_()
    (output,) = neck(frozen=frozen)((x,))
    assert output.requires_grad is not frozen


def test_heads_with_several_inputs():
    x = maps(64, 2, 3)
    outputs = neck(num_outs=3)((maps(64, 2, 3) + 5, x))
    assert len(outputs) == 3
    assert all(output is outputs[0] for output in outputs)
    assert_close(outputs[0], neck().denoiser(x))


def test_a_missing_feature_map_raises():
    with pytest.raises(UserError, match='in_index is 2, but the backbone has 1 outputs'):
        neck(in_index=2)((maps(64, 2, 2),))


@pytest.fixture(scope='module')
def segmentor_cfg():
    cfg = load_config(str(ROOT / 'configs/dvt/segmentation/vit-b-dinov2-reg-dvt_linear_8xb2-40k_voc12-512x512.py'))
    cfg.model.backbone.model_args = dict(depth=1, embed_dim=64, num_heads=2)
    cfg.model.backbone.pretrained = False
    cfg.model.backbone.img_size = 56
    cfg.model.decode_head.update(in_channels=64, norm_cfg=dict(type='BN'))
    cfg.model.neck.update(in_channels=64, grid=4, checkpoint=None)
    return cfg


@pytest.fixture
def segmentor(segmentor_cfg):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return build_model(segmentor_cfg)


def test_backbone_and_neck_stay_frozen_through_a_step_of_training(segmentor):
    segmentor.train()
    trainable = {name for name, parameter in segmentor.named_parameters() if parameter.requires_grad}
    assert {name.split('.')[0] for name in trainable} == {'decode_head'}
    assert not any(module.training for part in (segmentor.backbone, segmentor.neck) for module in part.modules())
    assert segmentor.decode_head.training
    x = torch.randn(2, 3, 28, 42)
    before = segmentor.extract_feat(x)[-1]
    assert not before.requires_grad
    optimizer = torch.optim.AdamW(segmentor.parameters(), lr=0.1, weight_decay=0.1)
    head = segmentor.decode_head.conv_seg.weight.clone()
    segmentor.decode_head((before,)).square().sum().backward()
    optimizer.step()
    assert torch.equal(segmentor.extract_feat(x)[-1], before)
    assert not torch.equal(segmentor.decode_head.conv_seg.weight, head)


def test_the_segmentor_applies_the_neck(segmentor):
    x = torch.randn(1, 3, 28, 42)
    raw = segmentor.backbone(x)[-1]
    assert raw.shape == (1, 64, 2, 3)
    assert_close(segmentor.extract_feat(x)[-1], segmentor.neck.denoiser(raw))


def test_checkpoints_reload_strictly(segmentor_cfg, segmentor):
    perturbed(segmentor)
    with DefaultScope.overwrite_default_scope('mmseg'):
        fresh = build_model(segmentor_cfg)
    fresh.load_state_dict(segmentor.state_dict(), strict=True)
    x = torch.randn(1, 3, 28, 28)
    assert torch.equal(fresh.eval().extract_feat(x)[-1], segmentor.eval().extract_feat(x)[-1])


def test_a_classifier_applies_the_neck():
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(
            type='reprefine.TimmViT', model_name='vit_tiny_patch16_224', img_size=64, model_args=dict(depth=1)
        ),
        neck=dict(type='reprefine.DVTDenoiser', in_channels=192, grid=4),
    )
    import mmpretrain.models  # noqa: F401
    from mmpretrain.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg).eval()
    x = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        assert_close(model.extract_feat(x)[-1], model.neck.denoiser(model.backbone(x)[-1]))


def smooth_targets(count: int, generator: torch.Generator) -> torch.Tensor:
    """Random maps (count, 64, 8, 8), smooth over the grid, of unit variance."""
    coarse = torch.randn(count, 64, 3, 3, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, size=(8, 8), mode='bicubic', align_corners=True)
    return maps / maps.std()


def test_training_removes_a_fixed_pattern():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    pattern = torch.randn(64, 8, 8, generator=generator)
    model = DVTDenoiser(64, grid=8, frozen=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5)
    loss = FeatureLoss()
    held_out = smooth_targets(64, generator)
    start = loss(held_out + pattern, held_out)
    assert start['loss_mse'] == pytest.approx(1, abs=0.1)
    assert 1 - start['loss_cosine'] == pytest.approx(0.66, abs=0.08)
    for _ in range(300):
        target = smooth_targets(16, generator)
        optimizer.zero_grad()
        sum(loss(model(target + pattern), target).values()).backward()
        optimizer.step()
    with torch.no_grad():
        end = loss(model(held_out + pattern), held_out)
    assert end['loss_mse'] <= 0.15
    assert 1 - end['loss_cosine'] >= 0.92
