"""Neck and backbone whose layers another method has converted: initialisation, training and test.

Both load checkpoints of their own in ``init_weights``, after the conversion.
"""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from reprefine.engine.build import build_model
from reprefine.engine.checkpoints.method_keys import added_names, is_added
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert, denoise_layers, noise_loss, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.methods.dvt import DVTDenoiser
from reprefine.methods.pddr import PDConv, convert_to_pd
from reprefine.models.timm_vit import TimmViT
from tests.helpers.run import ROOT

from . import workers
from .test_network import maps, perturbed

VIT = dict(depth=1, embed_dim=64, num_heads=2)
NAME = 'vit_base_patch14_reg4_dinov2.lvd142m'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Backbone, neck, and the paths of their checkpoints."""
    folder = tmp_path_factory.mktemp('files')
    vit, neck = perturbed(TimmViT(NAME, img_size=56, model_args=VIT)), perturbed(DVTDenoiser(64, grid=4))
    torch.save(vit.vit.state_dict(), folder / 'vit.pth')
    torch.save(dict(state_dict=dict(neck.state_dict(prefix='neck.'))), folder / 'neck.pth')
    return vit, neck, str(folder / 'vit.pth'), str(folder / 'neck.pth')


def segmentor(vit_file=None, neck_file=None):
    """The segmentor of the config of linear segmentation, with a ViT of one block."""
    cfg = load_config(str(ROOT / 'configs/dvt/segmentation/vit-b-dinov2-reg-dvt_linear_8xb2-40k_voc12-512x512.py'))
    cfg.model.backbone.update(model_args=VIT, img_size=56, pretrained=False, checkpoint=vit_file)
    cfg.model.decode_head.update(in_channels=64, norm_cfg=dict(type='BN'))
    cfg.model.neck.update(in_channels=64, grid=4, checkpoint=neck_file, features=None)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return build_model(cfg)


def batch():
    sample = SegDataSample(metainfo=dict(img_shape=(28, 42), ori_shape=(28, 42), pad_shape=(28, 42)))
    sample.gt_sem_seg = PixelData(data=torch.ones(1, 28, 42, dtype=torch.long))
    inputs = torch.randn(2, 3, 28, 42, generator=torch.Generator().manual_seed(1))
    return inputs, [sample, copy.deepcopy(sample)]


@pytest.fixture
def refined(files):
    """A segmentor with noise predictors on every layer, initialised from both checkpoints."""
    model = segmentor(*files[2:])
    convert(model, 'linear')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in added_names(model))
    return model


def test_both_checkpoints_are_loaded_into_layers_with_noise_predictors(refined, files):
    vit, neck, *_ = files
    assert {name.partition('.')[0] for name in denoise_layers(refined)} == {'backbone', 'neck'}
    assert added_names(refined) > {'neck.denoiser.blocks.0.mlp.fc1.denoiser.weight'}
    for part, source in ((refined.backbone, vit), (refined.neck, neck)):
        state = part.state_dict()
        assert state.keys() - added_names(part) == source.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in source.state_dict().items())
    denoise_state(refined).denoise_eval = False
    x = batch()[0]
    with torch.no_grad():
        expected = neck.eval()(vit(x))[-1]
        assert torch.equal(refined.eval().extract_feat(x)[-1], expected)
        denoise_state(refined).denoise_eval = True
        assert not torch.equal(refined.extract_feat(x)[-1], expected)


def test_only_the_noise_predictors_of_frozen_parts_are_trained(refined):
    """Backbone and neck are frozen, as published, and stay in eval mode."""
    refined.train()
    set_phase(refined, 'denoise')
    before = {name: value.clone() for name, value in refined.state_dict().items()}
    optimizer = torch.optim.SGD(refined.parameters(), 0.1)
    refined(*batch(), mode='loss')
    noise = noise_loss(refined)
    noise.backward()
    optimizer.step()
    moved = {name for name, value in refined.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in added_names(refined) if name.endswith(('.weight', '.bias'))}
    assert len(moved) == 2 * len(denoise_layers(refined))
    assert not any(module.training for part in (refined.backbone, refined.neck) for module in part.modules())
    set_phase(refined, 'backbone')
    losses = refined(*batch(), mode='loss')
    losses['decode.loss_ce'].backward()
    assert all(parameter.grad is None for part in (refined.backbone, refined.neck) for parameter in part.parameters())


def test_testing_loads_no_other_checkpoint_and_equals_the_trained_model(refined, tmp_path):
    fresh = segmentor(str(tmp_path / 'missing.pth'), str(tmp_path / 'missing.pth'))
    convert(fresh, 'linear')
    assert load_weights(fresh, refined.state_dict()).exact
    x, samples = batch()
    with torch.no_grad():
        expected = refined.eval()(x, samples, mode='predict')
        predictions = fresh.eval()(x, samples, mode='predict')
    for one, two in zip(predictions, expected, strict=True):
        assert torch.equal(one.seg_logits.data, two.seg_logits.data)


def test_a_missing_key_of_the_neck_raises_with_and_without_noise_predictors(files, tmp_path):
    state = torch.load(files[3], weights_only=True)['state_dict']
    del state['neck.denoiser.blocks.0.mlp.fc1.bias']
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    for convert_neck in (lambda _: None, lambda neck: convert(neck, 'linear')):
        neck = DVTDenoiser(64, grid=4, checkpoint=str(tmp_path / 'a.pth'))
        convert_neck(neck)
        before = {name: value.clone() for name, value in neck.state_dict().items()}
        with pytest.raises(UserError, match=r'a.pth does not match the model: missing keys blocks.0.mlp.fc1.bias;'):
            neck.init_weights()
        assert all(torch.equal(value, before[name]) for name, value in neck.state_dict().items())


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_convolutional_neck_with_pd_layers_loads_the_checkpoint_of_the_baseline(mode, tmp_path):
    baseline = perturbed(DVTDenoiser(64, grid=4, arch='conv3x3'))
    torch.save(dict(state_dict=dict(baseline.state_dict(prefix='neck.'))), tmp_path / 'neck.pth')
    neck = DVTDenoiser(64, grid=4, arch='conv3x3', checkpoint=str(tmp_path / 'neck.pth'), frozen=False)
    x = maps(64, 5, 6)
    convert_to_pd(neck, '.', warm_start=False, mode=mode, group_num='auto', example=x)
    assert sum(isinstance(module, PDConv) for module in neck.modules()) == 3
    neck.init_weights()
    torch.testing.assert_close(neck.eval()(x), baseline(x), rtol=1e-4, atol=1e-5)
    neck.train()(x).square().mean().backward()
    assert all(p.grad is not None for name, p in neck.named_parameters() if 'standard1.conv' in name)


@pytest.mark.parametrize('include', [r'^backbone\.', r'^(backbone|teacher)\.', r'^(teacher|neck)\.'])
def test_the_student_copies_the_teacher_but_keeps_its_own_noise_predictors(include):
    """The timesteps of noise predictors count layers, so that those of teacher and student differ."""
    model = workers.distiller()
    convert(model, include)
    before = {name: value.clone() for name, value in model.named_buffers() if name.endswith('timestep')}
    model.init_weights()
    base = {name: value for name, value in model.teacher.named_parameters() if name not in added_names(model.teacher)}
    assert all(torch.equal(model.backbone.get_parameter(name), value) for name, value in base.items())
    assert all(torch.equal(model.get_buffer(name), value) for name, value in before.items())
    assert any(map(is_added, model.modules()))
