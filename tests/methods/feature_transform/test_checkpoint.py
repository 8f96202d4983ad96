"""Conversion of MoCo checkpoints in all directions."""

import argparse

import pytest
import torch
import torchvision
from mmpretrain.models.backbones import ResNet
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert
from reprefine.methods.feature_transform.checkpoint import convert_checkpoint
from tests.helpers.run_tool import run_tool

from .test_models import V1, assert_states_equal
from .toys import BACKBONE, moco_ft

TOOL = 'model_converters/import_feature_transform.py'
NECKS = pytest.mark.parametrize('v1', [True, False], ids=['v1', 'v2'])


def changes(v1):
    return V1 if v1 else {}


def encoder(seed):
    """Weights by the names of torchvision, which a test below makes sure of."""
    torch.manual_seed(seed)
    return ResNet(**{key: value for key, value in BACKBONE.items() if key != 'type'}).state_dict()


def head(v1, seed):
    torch.manual_seed(seed)
    layers = [nn.Linear(32, 8)] if v1 else [nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 8)]
    return nn.Sequential(*layers).state_dict()


def pycontrast(v1):
    """A checkpoint as the released code writes it."""
    torch.manual_seed(7)
    parts = [
        {f'encoder.{k}': v for k, v in encoder(s).items()} | {f'head.{k}': v for k, v in head(v1, s).items()}
        for s in (0, 1)
    ]
    return dict(
        opt=argparse.Namespace(nce_k=24),
        epoch=200,
        optimizer=dict(state={}),
        model={f'module.{k}': v for k, v in parts[0].items()},
        model_ema=parts[1],
        contrast=dict(memory=torch.randn(24, 8)),
    )


def facebook(v1):
    torch.manual_seed(8)
    weights = {'queue': torch.randn(8, 24), 'queue_ptr': torch.tensor([5])}
    for side, seed in (('encoder_q', 0), ('encoder_k', 1)):
        weights |= {f'{side}.{k}': v for k, v in encoder(seed).items()}
        names = {k: (k.partition('.')[2] if v1 else k) for k in head(v1, seed)}
        weights |= {f'{side}.fc.{names[k]}': v for k, v in head(v1, seed).items()}
    return dict(epoch=200, arch='resnet18', state_dict={f'module.{k}': v for k, v in weights.items()})


def converted(checkpoint, folder, to='reprefine', name='out.pth'):
    torch.save(checkpoint, folder / f'in_{name}')
    convert_checkpoint(folder / f'in_{name}', folder / name, to)
    return torch.load(folder / name, weights_only=True)


@NECKS
@pytest.mark.parametrize('make', [pycontrast, facebook])
def test_every_tensor_is_converted(make, v1, tmp_path):
    state = converted(make(v1), tmp_path)['state_dict']
    model = moco_ft(**changes(v1))
    model.load_state_dict(state, strict=True)
    for place, seed in (('', 0), ('encoder_k.module.0.', 1)):
        for key, value in encoder(seed).items():
            assert torch.equal(state[(place or 'backbone.') + key], value)
    for place, seed in (('neck.', 0), ('encoder_k.module.1.', 1)):
        for key, value in head(v1, seed).items():
            actual = f'fc.{key.partition(".")[2]}' if v1 else f'mlp.{key}'
            assert torch.equal(state[place + actual], value)
    if make is pycontrast:
        assert torch.equal(state['queue'], pycontrast(v1)['contrast']['memory'].T)
        assert state['queue_ptr'].tolist() == [0]
    else:
        assert torch.equal(state['queue'], facebook(v1)['state_dict']['module.queue'])
        assert state['queue_ptr'].tolist() == [5]


def test_a_converted_key_encoder_survives_the_first_step(tmp_path):
    """It moves by the momentum, and is not replaced by the query encoder."""
    model = moco_ft(**changes(False))
    model.load_state_dict(converted(pycontrast(False), tmp_path)['state_dict'])
    before, query = model.encoder_k.module[0].conv1.weight.clone(), model.backbone.conv1.weight
    model.encoder_k.update_parameters(nn.Sequential(model.backbone, model.neck))
    torch.testing.assert_close(model.encoder_k.module[0].conv1.weight, torch.lerp(before, query, 0.05))


@NECKS
@pytest.mark.parametrize('make', [pycontrast, facebook])
def test_round_trip_of_other_formats(make, v1, tmp_path):
    source = make(v1)
    actual = converted(source, tmp_path)
    back = converted(actual, tmp_path, make.__name__, 'back.pth')
    parts = ('model', 'model_ema', 'contrast') if make is pycontrast else ('state_dict',)
    assert set(back) == set(parts)
    for part in parts:
        assert_states_equal(back[part], source[part])


@NECKS
def test_round_trip_of_our_model(v1, tmp_path):
    state = moco_ft(**changes(v1)).state_dict()
    state['encoder_k.steps'].fill_(1)
    for to in ('pycontrast', 'facebook', 'reprefine'):
        there = converted(dict(state_dict=state), tmp_path, to, f'{to}.pth')
        assert_states_equal(converted(there, tmp_path, name=f'{to}_back.pth')['state_dict'], state)


def test_backbone_alone_for_torchvision(tmp_path):
    neck = dict(type='LinearNeck', in_channels=512, out_channels=8, gap_dim=2, norm_cfg=None)
    model = moco_ft(backbone=dict(type='ResNet', depth=18), neck=neck).eval()
    baseline = torchvision.models.resnet18()
    weights = converted(dict(state_dict=model.state_dict()), tmp_path, 'torchvision')
    missing, unexpected = baseline.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (['fc.weight', 'fc.bias'], [])
    baseline.fc, images = nn.Identity(), torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(baseline.eval()(images), model.backbone(images)[0].mean((2, 3)))


def test_a_released_file_with_the_query_encoder_alone_loads_into_the_backbone(tmp_path):
    source = facebook(False)
    source['state_dict'] = {k: v for k, v in source['state_dict'].items() if '.encoder_q.' in k}
    state = converted(source, tmp_path)['state_dict']
    assert {key.partition('.')[0] for key in state} == {'backbone', 'neck'}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['model'].update({'module.head_jig.0.weight': torch.ones(1)}), "'model.head_jig.0.weight' has no"),
        (lambda c: c['model'].update({'module.encoder.fc.weight': torch.ones(1)}), "'model.encoder.fc.weight' has no"),
        (lambda c: c['contrast'].update(memory_2=torch.ones(1)), "'contrast.memory_2' has no counterpart"),
        (lambda c: c.pop('model'), 'it is not a MoCo checkpoint of PyContrast, facebookresearch/moco'),
    ],
)
def test_unknown_keys_are_named_in_one_line(change, message, tmp_path, capsys):
    checkpoint = pycontrast(False)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / 'in.pth')
    assert run_tool(TOOL, tmp_path / 'in.pth', tmp_path / 'out.pth') == 1
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert not (tmp_path / 'out.pth').exists()


def test_tool_says_what_it_did_and_overwrites_nothing(tmp_path, capsys):
    torch.save(facebook(True), tmp_path / 'in.pth')
    assert run_tool(TOOL, tmp_path / 'in.pth', tmp_path / 'out.pth') == 0
    assert 'from facebook to reprefine' in capsys.readouterr().out
    assert run_tool(TOOL, tmp_path / 'in.pth', tmp_path / 'out.pth') == 1
    assert 'out.pth exists' in capsys.readouterr().err
    with pytest.raises(UserError, match='cannot be read'):
        (tmp_path / 'cut.pth').write_bytes((tmp_path / 'in.pth').read_bytes()[:5000])
        convert_checkpoint(tmp_path / 'cut.pth', tmp_path / 'x.pth')


@pytest.mark.parametrize('to', ['torchvision', 'facebook', 'pycontrast', 'reprefine'])
def test_noise_predictors_are_not_written_in_formats_whose_models_would_drop_them(to, tmp_path):
    model = moco_ft()
    convert(model, r'^backbone\.layer4')
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'epoch_1.pth')
    if to == 'reprefine':
        convert_checkpoint(tmp_path / 'epoch_1.pth', tmp_path / 'out.pth', to)
        assert_states_equal(torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict'], model.state_dict())
        return
    with pytest.raises(UserError, match=r'epoch_1.pth holds layers in a form .*\(backbone.layer4.0.conv1.denoiser'):
        convert_checkpoint(tmp_path / 'epoch_1.pth', tmp_path / 'out.pth', to)
    assert not (tmp_path / 'out.pth').exists()
