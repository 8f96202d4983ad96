"""Small real models of the OpenMMLab libraries: trained in every phase, deployed, equal predictions (checks 13, 18)."""

import copy
import warnings

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

from reprefine.methods.denoiserep import convert, denoise_layers, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.registry import MODELS
from tests.helpers.small_models import FCN, HOSTS, SEGFORMER, build_denoised, distance, predictions, stock_config


@pytest.mark.parametrize('case', HOSTS)
def test_a_real_model_is_converted_trained_and_deployed_with_equal_predictions(case):
    library, text, include, count, make_batch, read = HOSTS[case]
    config = stock_config(library, text)
    torch.manual_seed(0)
    np.random.seed(0)
    model = build_denoised(library, text, include).train()
    model.init_weights()
    layers = denoise_layers(model)
    assert len(layers) == count
    batch = make_batch()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 1e-3))
    for phase in ('denoise', 'backbone', 'joint'):
        set_phase(model, phase)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        log = model.train_step(copy.deepcopy(batch), optimizer)
        assert log['loss'].isfinite()
        assert ('loss_denoise' in log) == (phase != 'backbone')
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert {'.denoiser.' in name for name in moved} == {
            'denoise': {True}, 'backbone': {False}, 'joint': {True, False}
        }[phase]  # fmt: skip
    with torch.no_grad():
        for layer in layers.values():
            layer.denoiser.weight.mul_(30)  # so that a step that is missing or taken twice shows
    expected = predictions(model, batch, read)
    denoise_state(model).denoise_eval = False
    assert distance(predictions(model, batch, read), expected) > 1e-3
    model.switch_to_deploy()
    stock = MODELS.build(copy.deepcopy(config))
    stock.load_state_dict(model.state_dict(), strict=True)
    assert distance(predictions(stock, batch, read), expected) < 1e-5


def test_the_segmentors_have_dilated_and_depthwise_layers():
    """The geometry that the two segmentors are there for."""
    fcn = build_denoised('mmseg', FCN, 'conv')
    assert sorted({layer.dilation[0] for layer in denoise_layers(fcn).values()}) == [1, 2, 4]
    segformer = build_denoised('mmseg', SEGFORMER, r'\.ffn\.')
    layers = denoise_layers(segformer).values()
    assert [layer.groups == layer.in_channels for layer in layers] == [False, True, False] * 4
    assert all(layer.denoiser.weight.shape[1] == 1 for layer in layers if layer.groups > 1)


def test_the_official_mask_rcnn_swin_has_24_mlp_layers():
    pytest.importorskip('mmdet')
    cfg = Config.fromstring("_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'", '.py')
    init_default_scope('mmdet')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        rows = convert(MODELS.build(cfg.model), 'mlp')
    assert [row.timestep for row in rows] == list(range(24, 0, -1))
    assert all(row.name.startswith('backbone.stages.') for row in rows)


def test_multihead_attention_of_a_detector_is_skipped_with_a_warning():
    pytest.importorskip('mmdet')
    from mmdet.models.layers import DetrTransformerEncoderLayer

    options = dict(embed_dims=8, num_heads=2, dropout=0.0)
    layer = DetrTransformerEncoderLayer(
        self_attn_cfg=options | dict(batch_first=True), ffn_cfg=dict(embed_dims=8, feedforward_channels=16, num_fcs=2)
    ).eval()
    base = copy.deepcopy(layer)
    with pytest.warns(UserWarning, match=r"'self_attn.attn.out_proj' is not denoised: MultiheadAttention reads"):
        rows = convert(layer, 'linear')
    assert {row.name: row.skipped is None for row in rows} == {
        'ffn.layers.0.0': True, 'ffn.layers.1': True, 'self_attn.attn.out_proj': False
    }  # fmt: skip
    assert torch.equal(layer.self_attn.attn.out_proj.weight, base.self_attn.attn.out_proj.weight)


def test_a_preset_that_matches_no_layer_of_a_real_model_is_refused():
    with pytest.raises(ValueError, match=r"no layer can be converted with include='mlp'.* such as backbone.stem.0"):
        build_denoised('mmseg', FCN, 'mlp')
