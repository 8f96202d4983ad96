"""Checkpoints of denoisers and distilled ViTs, of the released code (with its keys) and of this package."""

import re

import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.methods.dvt import DVTDenoiser, FeatureDenoiser
from reprefine.methods.dvt.denoiser.checkpoint import denoiser_weights, load_denoiser, vit_weights
from reprefine.models.timm_vit import TimmViT
from tests.helpers.run import ROOT
from tests.helpers.run_tool import run_tool

from .test_network import maps, perturbed

TOOL = 'model_converters/import_dvt.py'
SEGMENTOR = ROOT / 'configs/dvt/segmentation/vit-b-deit3-dvt_linear_8xb2-40k_voc12-512x512.py'
VIT = dict(depth=1, embed_dim=64, num_heads=2)


def small_config(folder, img_size=64):
    """The segmentation config with a ViT and a neck of 64 channels."""
    neck = dict(in_channels=64, grid=4, checkpoint=None, features=None)
    model = dict(backbone=dict(model_args=VIT, img_size=img_size, pretrained=False), neck=neck)
    path = folder / f'small{img_size}.py'
    path.write_text(f'_base_ = {str(SEGMENTOR)!r}\n\nmodel = {model!r}\n')
    return path


def denoiser(num_blocks=1):
    return perturbed(FeatureDenoiser(64, grid=4, num_blocks=num_blocks))


def published(state: dict) -> dict:
    """Checkpoint with the keys of the released code, which number the blocks only if there are several."""
    several = any(name.startswith('blocks.1.') for name in state)
    renamed = {}
    for name, value in state.items():
        renamed[name.replace('blocks.', 'denoiser.') if several else name.replace('blocks.0.', 'denoiser.')] = value
    return dict(denoiser=renamed, optimizer=dict(state={}), step=100000)


@pytest.mark.parametrize('num_blocks', [1, 2])
def test_every_tensor_of_a_released_denoiser_is_loaded(tmp_path, num_blocks):
    source = denoiser(num_blocks)
    checkpoint = published(source.state_dict())
    names = checkpoint['denoiser'].keys()
    assert {'pos_embed', 'denoiser.norm1.weight' if num_blocks == 1 else 'denoiser.1.norm1.weight'} <= names
    assert denoiser_weights(checkpoint).keys() == source.state_dict().keys()
    torch.save(checkpoint, tmp_path / 'published.pth')
    fresh = FeatureDenoiser(64, grid=4, num_blocks=num_blocks)
    load_denoiser(fresh, str(tmp_path / 'published.pth'))
    x = maps(64, 3, 5)
    assert torch.equal(fresh(x), source(x))


def test_the_neck_loads_checkpoints_of_stage_2_and_of_complete_models(tmp_path):
    source = denoiser()
    own = {f'neck.denoiser.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=own | {'decode_head.bias': torch.zeros(2)}, meta={}), tmp_path / 'converted.pth')
    neck = DVTDenoiser(64, grid=4, checkpoint=str(tmp_path / 'converted.pth'))
    neck.init_weights()
    x = maps(64, 3, 5)
    assert torch.equal(neck(x), source(x))


def test_init_cfg_loads_the_neck_too(tmp_path):
    source = denoiser()
    own = {f'neck.denoiser.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=own), tmp_path / 'converted.pth')
    neck = DVTDenoiser(
        64, grid=4, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'converted.pth'), prefix='neck')
    )
    neck.init_weights()
    assert torch.equal(neck(maps(64, 2, 2)), source(maps(64, 2, 2)))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('denoiser.mlp.fc1.bias'), 'missing keys blocks.0.mlp.fc1.bias'),
        (lambda state: state.update(surplus=torch.zeros(1)), 'unexpected keys surplus'),
        (lambda state: state.update(pos_embed=torch.zeros(1, 25, 64)), 'pos_embed has shape .1, 25, 64.*set grid'),
    ],
    ids=['missing', 'unexpected', 'shape'],
)
def test_a_checkpoint_that_does_not_match_raises_and_changes_nothing(tmp_path, change, message):
    checkpoint = published(denoiser().state_dict())
    change(checkpoint['denoiser'])
    torch.save(checkpoint, tmp_path / 'other.pth')
    fresh = FeatureDenoiser(64, grid=4)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_denoiser(fresh, str(tmp_path / 'other.pth'))
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize('field', ['dataset_meta', 'older files'])
def test_a_denoiser_of_other_features_raises(tmp_path, field):
    meta = dict(
        model_id='vit_a', stride=14, input_size=[518, 518], mean=[1.5, 2.0, 3.0], std=[1.0, 2.0, 3.0], layer=[-1]
    )
    own = dict(dvt=meta)
    checkpoint = published(denoiser().state_dict()) | dict(
        meta=own if field == 'older files' else dict(dataset_meta=own)
    )
    torch.save(checkpoint, tmp_path / 'a.pth')
    fresh = FeatureDenoiser(64, grid=4)
    load_denoiser(fresh, str(tmp_path / 'a.pth'), dict(model_id='vit_a', norm='any'))
    same = dict(model_id='vit_a', stride=14, input_size=518, mean=(1.5, 2, 3), std=(1, 2, 3), layer=(-1,))
    load_denoiser(fresh, str(tmp_path / 'a.pth'), same)
    others = dict(model_id='vit_b', stride=7, input_size=512, mean=(1.5, 2, 4), std=(1, 1, 3), layer=(-2,))
    for key, value in others.items():
        with pytest.raises(UserError, match=re.escape(f'trained on features with {key}={meta[key]}, not {value}')):
            load_denoiser(fresh, str(tmp_path / 'a.pth'), same | {key: value})


def test_tool_imports_a_denoiser_that_the_config_loads(tmp_path, capsys):
    source = denoiser()
    torch.save(published(source.state_dict()), tmp_path / 'published.pth')
    out = tmp_path / 'converted.pth'
    arguments = ('denoiser', small_config(tmp_path), tmp_path / 'published.pth', out)
    assert run_tool(TOOL, *arguments) == 0
    assert '13 tensors' in capsys.readouterr().out
    neck = DVTDenoiser(64, grid=4, checkpoint=str(out))
    neck.init_weights()
    assert torch.equal(neck(maps(64, 2, 2)), source(maps(64, 2, 2)))
    assert run_tool(TOOL, *arguments) == 1
    assert 'converted.pth exists' in capsys.readouterr().err


def test_tool_imports_a_distilled_transformer_that_the_backbone_loads(tmp_path, capsys):
    vit = perturbed(TimmViT('deit3_base_patch16_224.fb_in1k', img_size=64, model_args=VIT))
    released = {f'model.{name}': value for name, value in vit.vit.state_dict().items()}
    assert 'model.pos_embed' in released
    torch.save(dict(model=released), tmp_path / 'published.pth')
    out = tmp_path / 'vit.pth'
    assert run_tool(TOOL, 'vit', small_config(tmp_path), tmp_path / 'published.pth', out) == 0
    fresh = TimmViT('deit3_base_patch16_224.fb_in1k', img_size=64, model_args=VIT, checkpoint=str(out))
    fresh.init_weights()
    x = torch.randn(1, 3, 48, 64)
    assert torch.equal(fresh(x)[0], vit(x)[0])
    other = small_config(tmp_path, img_size=96)
    assert run_tool(TOOL, 'vit', other, tmp_path / 'published.pth', tmp_path / 'x.pth') == 1
    assert 'pos_embed' in (message := capsys.readouterr().err)
    assert 'set model.backbone.img_size' in message
    assert not (tmp_path / 'x.pth').exists()


def test_prefixes_of_distilled_checkpoints_are_removed():
    weights = {'backbone.vit.norm.weight': torch.ones(2)}
    assert vit_weights(dict(state_dict=weights)).keys() == {'norm.weight'}
    assert vit_weights(dict(model={'module.model.norm.weight': torch.ones(2)})).keys() == {'norm.weight'}
