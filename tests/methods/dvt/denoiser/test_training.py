"""Training of the denoiser: raw features from the backbone, and a run of a config that is interrupted and resumed."""

import numpy as np
import pytest
import torch
from PIL import Image

from reprefine.engine.errors import UserError
from reprefine.methods.dvt import DenoiserTraining, FeaturePairDataset, FeaturePairs
from tests.helpers.run import ROOT, run_train

from ..pair_files import MODEL, write_pairs
from .test_network import maps

CONFIGS = ROOT / 'configs/dvt/denoiser'
NECK = dict(type='reprefine.DVTDenoiser', in_channels=64, grid=4)


def test_missing_raw_features_and_those_of_another_grid_are_refused():
    model = DenoiserTraining(NECK)
    with pytest.raises(UserError, match='raw features have shape'):
        model(denoised=maps(64, 3, 4), raw=maps(64, 4, 4), mode='loss')
    with pytest.raises(UserError, match='raw features are not stored: set model.backbone'):
        model(denoised=maps(64, 3, 4), mode='loss')


def backbone() -> dict:
    args = dict(depth=1, embed_dim=64, num_heads=2)
    return dict(type='reprefine.TimmViT', model_name='vit_tiny_patch16_224', img_size=64, model_args=args)


def test_raw_features_computed_on_the_fly_are_those_of_the_backbone(tmp_path):
    how = dict(size=(32, 48), mean=[128] * 3, std=[64] * 3)
    write_pairs(tmp_path, grid=(2, 3), input_size=how['size'], mean=how['mean'], std=how['std'])
    rng = np.random.default_rng(0)
    (tmp_path / 'VOC2012').mkdir()
    for number in range(6):
        Image.fromarray(rng.integers(256, size=(40, 50, 3), dtype=np.uint8)).save(tmp_path / f'VOC2012/{number}.jpg')
    for file in (tmp_path / 'raw_features').rglob('*.npy'):
        file.unlink()
    dataset = FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=how)
    assert len(dataset) == 6
    sample = dataset[0]
    assert 'raw' not in sample
    assert sample['image'].shape == (3, 32, 48)
    torch.manual_seed(0)
    model = DenoiserTraining(NECK, backbone=backbone()).train()
    raw = model.backbone(sample['image'][None])[-1]
    batch = {key: sample[key][None] for key in ('image', 'denoised')}
    expected = model(raw=raw, denoised=batch['denoised'], mode='loss')
    losses = model(**batch, mode='loss')
    assert {key: value.item() for key, value in losses.items()} == {
        key: value.item() for key, value in expected.items()
    }
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.neck.parameters())
    assert all(name.startswith('neck.') for name in model.state_dict())
    fresh = DenoiserTraining(NECK, backbone=backbone())
    assert not fresh.load_state_dict(model.state_dict(), strict=True).missing_keys


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp('features')
    write_pairs(folder, count=7)
    return folder


def train(work_dir, features, iterations, *resume):
    config = CONFIGS / 'vit-b-dinov2_denoiser_8xb8-100k_voc10k.py'
    options = [f'train_cfg.max_iters={iterations}', 'default_hooks.checkpoint.interval=5', 'custom_hooks=[]']
    options += ['model.neck.in_channels=64', 'model.neck.grid=4', 'param_scheduler.0.total=20']
    options += ['train_dataloader.batch_size=3', 'train_dataloader.num_workers=0']
    options += ['train_dataloader.persistent_workers=False']
    arguments = ['--work-dir', str(work_dir), '--data-root', str(features), *resume, '--cfg-options', *options]
    assert run_train(str(config), *arguments) == 0
    return torch.load(work_dir / f'iter_{iterations}.pth', weights_only=True)


def test_resumed_run_equals_an_uninterrupted_one_and_reads_no_sample_twice(tmp_path, features, monkeypatch):
    uninterrupted = train(tmp_path / 'uninterrupted', features, 10)
    assert all(name.startswith('neck.denoiser.') for name in uninterrupted['state_dict'])
    assert {'optimizer', 'param_schedulers'} <= uninterrupted.keys()
    # Checkpoints hold the metadata of the features without any hook.
    assert uninterrupted['meta']['dataset_meta'] == {'dvt': FeaturePairs(features, MODEL).read_meta()}
    half = train(tmp_path / 'resumed', features, 5)
    assert all(not torch.equal(value, half['state_dict'][name]) for name, value in uninterrupted['state_dict'].items())
    assert half['optimizer']['param_groups'][0]['lr'] > 0
    read = []
    original = FeaturePairDataset.__getitem__
    monkeypatch.setattr(
        FeaturePairDataset, '__getitem__', lambda self, index: read.append(index) or original(self, index)
    )
    resumed = train(tmp_path / 'resumed', features, 10, '--resume')
    assert len(read) == 5 * 3
    for name, value in uninterrupted['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][name]), name
    assert uninterrupted['param_schedulers'] == resumed['param_schedulers']
