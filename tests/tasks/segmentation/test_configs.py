import copy

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from tests.helpers.run import ROOT
from tests.helpers.schedules import schedule

FOLDER = ROOT / 'configs/baselines/segmentation'
CONFIGS = sorted(FOLDER.glob('*_linear_8xb2-40k_*.py'))
CLASSES = dict(voc12=21, ade20k=150)


@pytest.fixture(scope='module', params=CLASSES)
def cfg(request):
    return load_config(str(FOLDER / f'vit-b-dinov2_linear_8xb2-40k_{request.param}-512x512.py'))


def test_learning_rate(cfg):
    learning_rates, momenta = schedule(cfg)
    assert set(momenta) == {0.9}
    assert len(learning_rates) == 40000
    expected = {0: 1e-9, 750: 0.5000005 * 0.98125e-3, 1400: 0.965e-3 * (1 - (1 - 1400 / 1500) * (1 - 1e-6))}
    expected |= {1500: 9.625e-4, 20000: 5e-4, 39999: 2.5e-8}
    assert {t: learning_rates[t] for t in expected} == pytest.approx(expected, rel=1e-6)
    assert learning_rates[1400] == pytest.approx(9.0067e-4, rel=1e-5)


def test_recipe(cfg):
    dataset = cfg.train_dataloader.dataset
    if 'VOC' in dataset.data_root:
        assert dataset.ann_file == 'ImageSets/Segmentation/train.txt'  # 1464 images, none of SBD
    else:
        assert [step for step in dataset.pipeline if step.type == 'LoadAnnotations'][0].reduce_zero_label
    steps = {step.type: step for step in dataset.pipeline}
    assert steps['RandomResize'].ratio_range == (0.5, 2.0)
    assert steps['RandomCrop'].crop_size == (512, 512)
    assert steps['RandomCrop'].cat_max_ratio == 0.75
    assert cfg.model.test_cfg.stride == (341, 341)
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-4
    assert cfg.optim_wrapper.get('clip_grad') is None
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16


def small_model(cfg, **model_args):
    cfg.model.backbone.model_args = dict(model_args, depth=1)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return revert_sync_batchnorm(build_model(cfg))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_backbone_builds_and_only_its_head_trains(path):
    backbone, _, _, data = path.stem.split('_')
    cfg = load_config(str(path))
    model = small_model(cfg).train()
    with torch.no_grad():
        logits = model(torch.zeros(2, 3, 64, 96), mode='tensor')
    patch = model.backbone.patch_size
    assert logits.shape == (2, CLASSES[data.split('-')[0]], -(-64 // patch), -(-96 // patch))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {
        f'decode_head.{name}' for name in ('norm.weight', 'norm.bias', 'conv_seg.weight', 'conv_seg.bias')
    }
    assert not any(module.training for module in model.backbone.modules())
    assert cfg.model.backbone.model_name in (ROOT / f'configs/_base_/models/{backbone}.py').read_text()


def test_every_backbone_has_a_config_for_every_dataset():
    assert len(CONFIGS) == 7 * len(CLASSES)


def test_sliding_window_averages_logits(cfg):
    cfg = copy.deepcopy(cfg)
    cfg.model.decode_head.in_channels = 48
    model = small_model(cfg, embed_dim=48, num_heads=3).eval()
    nn.init.normal_(model.decode_head.conv_seg.weight)
    image = torch.randn(1, 3, 512, 853, generator=torch.Generator().manual_seed(0))
    meta = dict(ori_shape=(512, 853), img_shape=(512, 853), pad_shape=(512, 853))
    with torch.no_grad():
        logits = model.inference(image, [dict(meta)])
        left, right = (
            model.encode_decode(x, [dict(meta, img_shape=x.shape[2:])]) for x in (image[..., :512], image[..., 341:])
        )
    assert (logits[..., :341] - left[..., :341]).abs().max() < 1e-4
    assert (logits[..., 512:] - right[..., 171:]).abs().max() < 1e-4
    assert (logits[..., 341:512] - (left[..., 341:] + right[..., :171]) / 2).abs().max() < 1e-4
