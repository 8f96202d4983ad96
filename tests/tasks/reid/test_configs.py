"""The models of the base configs, and the baselines made of them."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

from reprefine.registry import MODELS

CONFIGS = Path(__file__).parents[3] / 'configs'
BASES, BASELINES = CONFIGS / '_base_/models', CONFIGS / 'baselines/reid'


def build(name, device='cpu', **backbone):
    cfg = Config.fromfile(BASES / f'reid_{name}.py').model
    cfg.backbone.update(backbone)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg).to(device)


def make_batch(height=256, identities=(0, 0, 1, 1, 2, 2)):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(identities), 3, height, 128, generator=generator)
    return images, [DataSample(metainfo=dict(pid=7 + label)).set_gt_label(label) for label in identities]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ('name', 'backbone', 'width'),
    [('vit-small', 23_001_024, 384), ('vit-base', 88_435_008, 768), ('r50', 23_508_032, 2048)],
)
def test_number_of_parameters(name, backbone, width):
    model = build(name, 'meta')
    assert count(model.backbone) == backbone
    assert count(model) == backbone + (2 + 751) * width


def test_small_vit_has_24_linear_layers_in_its_feed_forward_networks():
    names = [name for name, module in build('vit-small', 'meta').named_modules() if isinstance(module, nn.Linear)]
    assert sum('.ffn.' in name for name in names) == 24
    assert sum('.attn.' in name for name in names) == 24
    assert len(names) == 49  # and the classifier


@pytest.mark.parametrize(('name', 'height', 'grid'), [('vit-small', 256, (16, 8)), ('vit-base', 384, (24, 8))])
def test_grid_of_patches(name, height, grid):
    backbone = build(name, 'meta').backbone
    tokens, found = backbone.patch_embed(torch.zeros(1, 3, height, 128, device='meta'))
    assert found == backbone.patch_resolution == grid
    assert tokens.shape[1] == backbone.pos_embed.shape[1] - 1


def test_last_stage_of_the_resnet_keeps_its_resolution():
    model = build('r50', 'meta')
    (features,) = model.extract_feat(torch.zeros(2, 3, 256, 128, device='meta'), stage='backbone')
    assert features.shape == (2, 2048, 16, 8)


def tiny_vit():
    torch.manual_seed(0)
    model = build(
        'vit-small', arch=dict(embed_dims=384, num_layers=1, num_heads=6, feedforward_channels=64), stem_channels=8
    )
    model.init_weights()
    return model


def test_predictions_are_the_class_token_before_the_neck():
    model = tiny_vit()
    model.eval()
    images, samples = make_batch()
    with torch.no_grad():
        expected = model.backbone(images)[-1]
        assert torch.equal(model(images), expected)
        predicted = model(images, samples, mode='predict')
    assert torch.equal(torch.stack([sample.feature for sample in predicted]), expected)
    assert expected.shape == (6, 384)
    assert [sample.pid for sample in predicted] == [7, 7, 8, 8, 9, 9]


def test_training_separates_the_identities():
    model = tiny_vit()
    images, samples = make_batch()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.03, momentum=0.9)
    history = []
    for _ in range(15):
        losses = model(images, samples, mode='loss')
        total, statistics = model.parse_losses(losses)
        history.append({key: value.item() for key, value in statistics.items()})
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert history[0]['loss'] == pytest.approx(history[0]['loss_id'] + history[0]['loss_triplet'])
    assert history[0]['loss_id'] == pytest.approx(torch.tensor(751.0).log().item(), abs=0.05)
    assert history[-1]['loss_id'] < 0.5 * history[0]['loss_id']
    assert history[-1]['loss_triplet'] < 0.5 * history[0]['loss_triplet']
    assert history[-1]['accuracy_top-1'] == 100


@pytest.mark.parametrize('path', sorted(BASELINES.glob('*.py')), ids=lambda path: path.stem)
def test_parts_of_a_config_fit_each_other(path):
    cfg = Config.fromfile(path)
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes
    height, width = cfg.model.backbone.get('img_size', (256, 128))
    pipelines = cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline, cfg.tta_pipeline
    assert [pipeline[1].scale for pipeline in pipelines] == [(width, height)] * 3
    assert pipelines[0][3].crop_size == (height, width)
    assert path.stem.endswith(f'{height}x{width}')
