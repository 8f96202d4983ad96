"""A checkpoint with layers in a form of a method is refused by the baseline; other unexpected keys are not."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import reprefine.registry  # noqa: F401, lets mmengine's checkpoints be read
from reprefine.engine.checkpoints.method_keys import form_keys, state_without_added
from reprefine.engine.checkpoints.pretrained import refuse_other_forms, register_initializer
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.errors import UserError
from reprefine.methods import denoiserep
from reprefine.methods.denoiserep import convert
from reprefine.methods.denoiserep.layers.noise_predictor import NoisePredictor
from reprefine.methods.dvt import DVTDenoiser
from reprefine.methods.pddr import PDLinear, convert_to_pd
from tests.helpers.run import DIGITS, SMALL, run_test, train_digits

LINE = 'holds layers in a form that the model does not have .*reparameterize_model.py$'


def net():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 40, 1), nn.Linear(5, 2))


def denoising():
    model = net()
    convert(model, 'all')
    return model


def disentangled(mode, deploy=False):
    model = net()
    convert_to_pd(model, '^0$', group_num=2, mode=mode, example=torch.zeros(1, 4, 5, 5))
    if deploy:
        model[0].switch_to_deploy()
    return model


def linear(mode, deploy=False):
    model = net()
    model[4] = PDLinear(5, 2, mode)
    if deploy:
        model[4].switch_to_deploy()
    return model


MAKERS = {
    'noise predictors': (denoising, '0.denoiser.timestep'),
    'PD-A': (lambda: disentangled('A'), '0.standard1.conv.weight'),
    'PD-B': (lambda: disentangled('B'), '0.standard1.conv.weight'),
    'deployed PD-A': (lambda: disentangled('A', True), '0.reparam.weight'),
    'deployed PD-B': (lambda: disentangled('B', True), '0.reparam_weight'),
    'linear PD-A': (lambda: linear('A'), '4.standard1.weight'),
    'deployed linear PD-B': (lambda: linear('B', True), '4.reparam.weight'),
}


@pytest.mark.parametrize('kind', MAKERS)
@pytest.mark.parametrize('min_ratio', [0.0, 1.0])
def test_every_form_of_a_method_is_refused_by_the_baseline_and_loaded_by_its_own_model(kind, min_ratio):
    make, name = MAKERS[kind]
    state = make().state_dict()
    with pytest.raises(UserError, match=f'checkpoint a.pth {LINE}') as error:
        check_match(load_weights(net(), state), 'a.pth', min_ratio)
    assert f'({name}' in str(error.value)
    check_match(load_weights(make(), state), 'a.pth', 1.0)


def test_other_unexpected_keys_are_not_refused():
    """Also those of a module named ``denoiser``, and of the host libraries' own reparameterised layers."""
    unexpected = {
        f'neck.denoiser.{name}': value for name, value in DVTDenoiser(64, grid=2).denoiser.state_dict().items()
    }
    unexpected |= {f'head.{name}': torch.zeros(1) for name in ('fc.weight', 'branch_reparam.weight', 'denoiser.weight')}
    check_match(load_weights(net(), net().state_dict() | unexpected), 'a.pth', 1.0)


def test_every_method_that_changes_the_form_of_layers_declares_it():
    """The declarations are read from the source: one for each line that sets the name."""
    lines = [
        line
        for file in Path(denoiserep.__file__).parents[1].rglob('*.py')
        for line in file.read_text().splitlines()
        if 'FORM_KEYS =' in line
    ]
    assert len(lines) == 2
    assert all(re.fullmatch(r"FORM_KEYS = r'.+'", line) for line in lines)
    assert form_keys().pattern.count('(?:') == 2


def test_a_backbone_that_starts_from_such_a_checkpoint_is_refused(tmp_path):
    """The required load ratio is that outside a Runner, 0."""
    register_initializer()
    config = dict(type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        trained = MODELS.build(config)
        convert(trained, 'conv')
        state = {f'backbone.{name}': value for name, value in trained.state_dict().items()}
        torch.save(dict(state_dict=state), tmp_path / 'a.pth')
        start = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='backbone.')
        plain = MODELS.build(config | dict(init_cfg=start))
        with pytest.raises(UserError, match=rf"\('backbone.'\) \(init_cfg of ResNet\) {LINE}"):
            plain.init_weights()


SWIN = dict(type='SwinTransformer', embed_dims=8, depths=(1, 1), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1))
OWN_LOADERS = {
    'mmdet': SWIN | dict(window_size=4),
    'mmseg': SWIN | dict(window_size=4),
    'mmpretrain': dict(
        type='SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
        window_size=4,
        out_indices=(1,),
    ),
}


@pytest.mark.parametrize('host', OWN_LOADERS)
def test_backbones_that_load_and_convert_their_files_themselves_are_checked(host, tmp_path):
    """They load without a check of their own."""
    pytest.importorskip(host)
    __import__(f'{host}.models')
    register_initializer()
    with DefaultScope.overwrite_default_scope(host):
        trained = MODELS.build(OWN_LOADERS[host])
        convert(trained, 'linear')
        prefix = 'backbone.' if host == 'mmdet' else ''  # mmdet's reads no other
        torch.save(dict(state_dict=dict(trained.state_dict(prefix=prefix))), tmp_path / 'a.pth')
        start = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
        plain = nn.ModuleDict(dict(backbone=MODELS.build(ConfigDict(OWN_LOADERS[host], init_cfg=start))))
        line = rf'a.pth \(init_cfg of SwinTransformer\) {LINE}'
        with refuse_other_forms(plain), pytest.raises(UserError, match=line):
            plain['backbone'].init_weights()
        own = {f'{prefix}{name}': value for name, value in state_without_added(trained).items()}
        torch.save(dict(state_dict=own), tmp_path / 'a.pth')
        with refuse_other_forms(plain):
            plain['backbone'].init_weights()
    state = plain['backbone'].state_dict()
    assert all(torch.equal(state[name.removeprefix(prefix)], value) for name, value in own.items())


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Folder with the checkpoint of a plain run, and the same with a noise predictor on a layer of its backbone."""
    folder = tmp_path_factory.mktemp('digits')
    assert train_digits(folder / 'plain') == 0
    state = torch.load(folder / 'plain/epoch_2.pth', weights_only=True)['state_dict']
    layer = 'backbone.layers.0.ffn.layers.1'
    predictor = NoisePredictor(state[f'{layer}.weight'].shape[1], timestep=3)
    state |= {f'{layer}.denoiser.{name}': value for name, value in predictor.state_dict().items()}
    torch.save(dict(state_dict=state, meta={}), folder / 'training_form.pth')
    return folder


def test_a_baseline_does_not_test_with_a_checkpoint_in_training_form(digits, tmp_path, capsys):
    assert run_test(DIGITS, str(digits / 'training_form.pth'), '--work-dir', str(tmp_path), *SMALL) == 1
    assert re.search(LINE, capsys.readouterr().err.strip())


@pytest.mark.parametrize('key', ['load_from', 'backbone'])
def test_a_baseline_does_not_train_from_a_checkpoint_in_training_form(key, digits, tmp_path, capsys):
    """Nor does its backbone, which is mmpretrain's vision transformer."""
    start = f'load_from={digits}/training_form.pth'
    if key == 'backbone':
        init_cfg = f"dict(type='Pretrained',checkpoint='{digits}/training_form.pth',prefix='backbone.')"
        start = f'model.backbone.init_cfg={init_cfg}'
    assert train_digits(tmp_path / 'run', '--cfg-options', start) == 1
    assert re.search(LINE, capsys.readouterr().err.strip())
