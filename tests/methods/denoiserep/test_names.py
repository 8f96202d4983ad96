"""Rules by parameter name apply as to the base model: learning rates of optimisers, and checkpoints."""

import copy
import warnings

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import get_state_dict
from torch import nn

from reprefine.deploy.checkpoint import reparameterize_file
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.methods.denoiserep import DenoiseRep, denoise_layers
from reprefine.registry import MODELS

VIT = dict(
    type='VisionTransformer',
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=16,
)
CONVNEXT = dict(
    type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 3, 1], channels=[8, 8, 8, 8]), out_indices=[0, 1, 2, 3],
    gap_before_final_norm=False,
)  # fmt: skip
CLASSIFIER = dict(
    type='ImageClassifier', backbone=VIT, head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=16)
)
SEGMENTOR = dict(
    type='EncoderDecoder',
    backbone=CONVNEXT,
    decode_head=dict(type='FCNHead', in_channels=8, channels=8, num_convs=1, num_classes=3),
)
DETECTOR = dict(
    type='RetinaNet',
    backbone=CONVNEXT,
    neck=dict(type='FPN', in_channels=[8] * 4, out_channels=8, num_outs=5),
    bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1),
)
POSE = dict(
    type='TopdownPoseEstimator',
    backbone=dict(type='mmpretrain.VisionTransformer', **{k: v for k, v in VIT.items() if k != 'type'},
                  out_type='featmap', with_cls_token=False),
    head=dict(type='HeatmapHead', in_channels=16, out_channels=3, deconv_out_channels=None,
              loss=dict(type='KeypointMSELoss'),
              decoder=dict(type='MSRAHeatmap', input_size=(32, 32), heatmap_size=(2, 2), sigma=2)),
)  # fmt: skip
CONSTRUCTORS = {
    'mmpretrain': ('LearningRateDecayOptimWrapperConstructor', dict(layer_decay_rate=0.5, flat_decay_mult=0.0)),
    'mmseg': (
        'LearningRateDecayOptimizerConstructor',
        dict(decay_rate=0.5, decay_type='layer_wise', num_layers=6),
    ),
    'mmdet': (
        'LearningRateDecayOptimizerConstructor',
        dict(decay_rate=0.5, decay_type='stage_wise', num_layers=6),
    ),
    'mmpose': ('LayerDecayOptimWrapperConstructor', dict(layer_decay_rate=0.5, num_layers=4)),
}
BASES = {'mmpretrain': CLASSIFIER, 'mmseg': SEGMENTOR, 'mmdet': DETECTOR, 'mmpose': POSE}
LAYERS = {'mmpretrain': r'layers\.\d+\.ffn', 'mmseg': 'pointwise', 'mmdet': 'pointwise', 'mmpose': r'\.ffn'}


def denoised(config: dict, **options) -> dict:
    """The config of a model that denoises."""
    return copy.deepcopy(config) | dict(type='reprefine.DenoiseRep', base_type=config['type'], denoise=options)


def pair(scope: str, config: dict, **options) -> tuple[nn.Module, DenoiseRep]:
    """The base model, and another one of the same config that denoises; the options are those under ``denoise``."""
    pytest.importorskip(scope)
    with DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings():
        warnings.filterwarnings('ignore', category=DeprecationWarning)
        __import__(f'{scope}.models')
        base = MODELS.build(copy.deepcopy(config))
        return base, MODELS.build(denoised(config, **options))


def settings(model: nn.Module, scope: str, constructor: str, paramwise: dict) -> dict[str, tuple[float, float]]:
    """Rate and weight decay by the name of the parameter."""
    __import__(f'{scope}.engine')
    config = dict(
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1), constructor=constructor, paramwise_cfg=dict(paramwise)
    )
    with DefaultScope.overwrite_default_scope(scope):
        groups = build_optim_wrapper(model, config).optimizer.param_groups
    of = {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    return {name: of[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize('scope', BASES)
def test_layer_wise_rates_are_those_of_the_base_model(scope):
    base, refined = pair(scope, BASES[scope], include=LAYERS[scope])
    expected, found = (settings(model, scope, *CONSTRUCTORS[scope]) for model in (base, refined))
    assert len(set(expected.values())) > 3
    assert {name: found[name] for name in expected} == expected
    added = found.keys() - expected.keys()
    assert added == {name for name in refined.added_keys if name.endswith(('weight', 'bias'))}
    for name in added:  # a predictor has the learning rate of its layer
        layer, _, part = name.partition('.denoiser.')
        assert found[name][0] == expected[f'{layer}.{part}'][0]


@pytest.mark.parametrize(
    'rules',
    [
        dict(custom_keys={'backbone.layers.1': dict(lr_mult=0.1), 'head': dict(lr_mult=10, decay_mult=0)}),
        dict(bias_lr_mult=2.0, bias_decay_mult=0.0, norm_decay_mult=0.0),
        dict(flat_decay_mult=0.0, custom_keys={'.backbone.pos_embed': dict(decay_mult=0.5)}),
    ],
)
def test_other_rules_by_name_and_kind_are_those_of_the_base_model(rules):
    base, refined = pair('mmpretrain', CLASSIFIER, include=LAYERS['mmpretrain'])
    rules = 'DefaultOptimWrapperConstructor', rules
    expected, found = (settings(model, 'mmpretrain', *rules) for model in (base, refined))
    assert len(set(expected.values())) > 1 or '.backbone.pos_embed' in str(rules)
    assert {name: found[name] for name in expected} == expected


TIMM = dict(
    type='TimmClassifier', model_name='vit_tiny_patch16_224', img_size=32, embed_dim=16, depth=2, num_heads=2,
    num_classes=3,
)  # fmt: skip


def test_checkpoints_of_a_network_wrapped_in_model_are_loaded_both_ways(tmp_path):
    """mmpretrain's TimmClassifier keeps its network in ``self.model`` and takes that prefix out of its state dict."""
    base, refined = pair('mmpretrain', TIMM, include='mlp')
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    match = load_weights(refined, base.state_dict(), allowed_missing=refined.added_keys)
    assert (match.ratio, match.missing, match.unexpected) == (1.0, [], [])
    again, stock = pair('mmpretrain', TIMM, include='mlp')[::-1]
    assert base.state_dict().keys() < refined.state_dict().keys() == get_state_dict(refined).keys()
    again.load_state_dict(refined.state_dict())
    torch.testing.assert_close(again.eval()(images), refined.eval()(images), rtol=0, atol=0)
    torch.save(dict(state_dict=refined.state_dict(), meta={}), tmp_path / 'run.pth')
    reparameterize_file(again, tmp_path / 'run.pth', tmp_path / 'deployed.pth')
    stock.load_state_dict(torch.load(tmp_path / 'deployed.pth', weights_only=True)['state_dict'])
    torch.testing.assert_close(stock.eval()(images), refined(images), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('scope', BASES)
def test_functions_of_the_libraries_that_build_a_model_from_a_config(scope):
    """mmdet's and mmpose's edit ``model.backbone``."""
    cfg = Config(dict(default_scope=scope, model=denoised(BASES[scope], include=LAYERS[scope]), data_preprocessor={}))
    apis = __import__(f'{scope}.apis', fromlist=['apis'])
    built = {
        'mmpretrain': lambda: apis.get_model(cfg, device='cpu'),
        'mmseg': lambda: apis.init_model(cfg, device='cpu'),
        'mmdet': lambda: apis.init_detector(cfg, device='cpu', palette='coco'),
        'mmpose': lambda: apis.init_model(cfg, device='cpu'),
    }[scope]()
    assert isinstance(built, DenoiseRep)
    assert not built.training
    assert denoise_layers(built)
