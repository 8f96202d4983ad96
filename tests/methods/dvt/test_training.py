"""Stage 2: loss, schedule, data set, and runs of the real config that are interrupted and resumed."""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from reprefine.engine.cli.launch import load_config
from reprefine.engine.data_checks.data_errors import UnreadableSample
from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError
from reprefine.methods.dvt import DenoiserPictureHook, DenoiserTraining, FeatureLoss, FeaturePairDataset, FeaturePairs
from reprefine.methods.dvt.functional import distance_loss
from reprefine.methods.dvt.stage1.views import prepare_image
from tests.helpers.run import ROOT, run_train
from tests.helpers.schedules import schedule

from .denoiser.test_network import maps
from .pair_files import MODEL, write_pairs

CONFIGS = ROOT / 'configs/dvt/denoiser'
NECK = dict(type='reprefine.DVTDenoiser', in_channels=64, grid=4)


def test_loss_in_float64():
    prediction, target = maps(8, 3, 5), maps(8, 3, 5).flip(-1) - 0.2
    losses = FeatureLoss(cosine_weight=0.5)(prediction, target)
    a, b = (x.double().permute(0, 2, 3, 1).reshape(-1, 8) for x in (prediction, target))
    assert losses['loss_mse'].item() == pytest.approx(((a - b) ** 2).sum().item() / a.numel(), rel=1e-6)
    cosines = (a * b).sum(1) / ((a**2).sum(1).sqrt() * (b**2).sum(1).sqrt())
    assert losses['loss_cosine'].item() == pytest.approx(0.5 * (1 - cosines.mean().item()), rel=1e-6)
    total = sum(FeatureLoss()(prediction, target).values())
    assert total.item() == pytest.approx(distance_loss(a, b).item(), rel=1e-6)


def test_learning_rate_of_the_newer_release():
    cfg = load_config(str(CONFIGS / 'vit-b-dinov2_denoiser_8xb16-50k_voc10k.py'))
    rates, momenta = schedule(cfg)
    spots = {3750: 7.0720e-5, 7499: 1.41421e-4, 7500: 1.41421e-4, 25000: 9.04247e-5, 49999: 1.0e-6}
    assert rates[0] == 0
    assert {t: rates[t] for t in spots} == pytest.approx(spots, rel=1e-5)
    assert len(rates) == 50000
    assert set(momenta) == {0.9}
    peak = 2e-4 * math.sqrt(128 / 256)
    assert rates[7499] == rates[7500] == pytest.approx(peak, rel=1e-12)
    np.testing.assert_allclose(rates[:7500], np.linspace(0, peak, 7500), rtol=1e-12)
    cosine = 1e-6 + 0.5 * (peak - 1e-6) * (1 + np.cos(np.pi * np.arange(42500) / 42500))
    np.testing.assert_allclose(rates[7500:], cosine, rtol=1e-9)


def test_learning_rate_and_recipe_of_the_first_release():
    cfg = load_config(str(CONFIGS / 'vit-b-mae_denoiser_8xb8-100k_voc10k.py'))
    rates, _ = schedule(cfg)
    assert len(rates) == 100000
    expected = {0: 0, 14999: 1e-4, 15000: 1e-4, 57500: (1e-4 + 1e-6) / 2, 7500: 1e-4 * 7500 / 14999}
    assert {t: rates[t] for t in expected} == pytest.approx(expected, rel=1e-6)
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-5
    assert cfg.optim_wrapper.get('clip_grad') is None
    assert cfg.optim_wrapper.get('paramwise_cfg') is None  # decay on positions and biases too
    assert 8 * cfg.train_dataloader.batch_size == 64


def test_samples_are_what_is_stored(tmp_path):
    pairs = write_pairs(tmp_path)
    dataset = FeaturePairDataset(str(tmp_path), MODEL)
    assert len(dataset) == 6
    sample = dataset[2]
    assert sample['name'] == 'VOC2012/2.jpg'
    for key in ('raw', 'denoised'):
        stored = getattr(pairs, key)('VOC2012/2.jpg')
        assert sample[key].shape == (64, 3, 4)
        assert sample[key][5, 2, 1] == stored[2, 1, 5]
        assert torch.equal(sample[key], torch.tensor(stored).permute(2, 0, 1))


def test_missing_pairs_are_reported_and_left_out(tmp_path, monkeypatch):
    pairs = write_pairs(tmp_path)
    pairs.path('raw_features', 'VOC2012/3.jpg').unlink()
    names = [f'data/VOCdevkit/VOC2012/{number}.jpg' for number in (5, 3, 0, 9)]
    (tmp_path / 'list.txt').write_text('\n'.join(names) + '\n')
    said = []
    monkeypatch.setattr(
        'reprefine.methods.dvt.denoiser.pair_dataset.print_log', lambda message, *_: said.append(message)
    )
    dataset = FeaturePairDataset(str(tmp_path), MODEL, ann_file=str(tmp_path / 'list.txt'))
    assert dataset.names == ['VOC2012/5.jpg', 'VOC2012/0.jpg']
    assert said == ['2 of 4 listed images have no pair, such as VOC2012/3.jpg']
    first = FeaturePairDataset(str(tmp_path), MODEL, ann_file=str(tmp_path / 'list.txt'), indices=1)
    assert first.names == ['VOC2012/5.jpg']


def test_the_list_of_stage_1_gives_the_first_images(tmp_path):
    names = write_pairs(tmp_path, 4).names
    pairs = FeaturePairs(tmp_path, MODEL)
    pairs.write_list([names[2], names[0]])
    pairs.write_list([names[0], names[3], names[1]])  # of a second run over more images
    assert FeaturePairDataset(str(tmp_path), MODEL).names == [names[2], names[0], names[3], names[1]]
    assert FeaturePairDataset(str(tmp_path), MODEL, indices=2).names == [names[2], names[0]]


def test_targets_of_another_solver_are_refused(tmp_path):
    write_pairs(tmp_path, 2, solver='closed-form', profile=None)
    assert len(FeaturePairDataset(str(tmp_path), MODEL, made_with=dict(solver='closed-form'))) == 2
    with pytest.raises(UserError, match=r'were made with solver=closed-form, not field; take the config'):
        FeaturePairDataset(str(tmp_path), MODEL, made_with=dict(solver='field', profile='paper'))
    write_pairs(tmp_path / 'released', 2)  # tells nothing
    assert len(FeaturePairDataset(str(tmp_path / 'released'), MODEL, made_with=dict(solver='field'))) == 2


def test_what_cannot_be_trained_on_is_named(tmp_path):
    with pytest.raises(UserError, match='holds no pair of nobody; write them with'):
        FeaturePairDataset(str(tmp_path), 'nobody')
    with pytest.raises(UserError, match='list none.txt cannot be read'):
        FeaturePairDataset(str(tmp_path), MODEL, ann_file='none.txt')
    pairs = write_pairs(tmp_path)
    other = np.zeros((2, 2, 64))
    pairs.write('VOC2012/4.jpg', other, other)
    with pytest.raises(UserError, match='VOC2012/4.jpg: features have shape'):
        FeaturePairDataset(str(tmp_path), MODEL)[4]
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
    got = model(**batch, mode='loss')
    assert {key: value.item() for key, value in got.items()} == {key: value.item() for key, value in expected.items()}
    sum(got.values()).backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.neck.parameters())
    assert all(name.startswith('neck.') for name in model.state_dict())
    fresh = DenoiserTraining(NECK, backbone=backbone())
    assert not fresh.load_state_dict(model.state_dict(), strict=True).missing_keys


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (dict(size=(48, 48)), r'input_size=\[32, 48\], not \(48, 48\)'),
        (dict(mean=[127.5] * 3), r'mean=\[128, 128, 128\], not \[127.5, 127.5, 127.5\]'),
        (dict(std=[1, 64, 64]), r'std=\[64, 64, 64\], not \[1, 64, 64\]'),
        (dict(interpolation='bilinear'), 'resize_interpolation=bicubic, not bilinear'),
    ],
)
def test_images_prepared_in_another_way_than_those_of_the_targets_are_refused(tmp_path, changed, message):
    how = dict(size=(32, 48), mean=[128] * 3, std=[64] * 3)
    meta = dict(input_size=how['size'], mean=how['mean'], std=how['std'], resize_interpolation='bicubic')
    write_pairs(tmp_path, 2, grid=(2, 3), **meta)
    with pytest.raises(UserError, match=f'the targets were made with {message}'):
        FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=how | changed)
    assert len(FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=how)) == 2


def test_images_are_prepared_as_those_of_the_targets_by_default(tmp_path):
    """A sample needs no more than the folder of the images."""
    how = dict(input_size=48, mean=[128.0] * 3, std=[64.0] * 3, resize_interpolation='bilinear')
    write_pairs(tmp_path, 1, grid=(3, 3), **how)
    pixels = np.random.default_rng(0).integers(256, size=(40, 50, 3), dtype=np.uint8)
    (tmp_path / 'VOC2012').mkdir()
    cv2.imwrite(str(tmp_path / 'VOC2012/0.jpg'), pixels)
    expected = prepare_image(read_image(tmp_path / 'VOC2012/0.jpg'), (48, 48), how['mean'], how['std'], 'bilinear')
    for given in (None, dict(mean=[128, 128, 128]), dict(size=(48, 48))):
        sample = FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=given)[0]
        assert torch.equal(sample['image'], expected)


def test_a_truncated_image_is_named_by_data_set_and_picture(tmp_path):
    """OpenCV's imread would fill what is missing with grey."""
    pairs = write_pairs(tmp_path, 1)
    content = cv2.imencode('.jpg', np.random.default_rng(0).integers(256, size=(40, 50, 3), dtype=np.uint8))[
        1
    ].tobytes()
    (tmp_path / 'VOC2012').mkdir()
    (tmp_path / pairs.names[0]).write_bytes(content[: len(content) // 2])
    how = dict(size=(42, 56), mean=[1] * 3, std=[1] * 3)
    with pytest.raises(UnreadableSample, match=r'VOC2012/0\.jpg cannot be read: the file is truncated'):
        FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=how)[0]
    hook = DenoiserPictureHook(image_root=str(tmp_path))
    with pytest.raises(UnreadableSample, match=r'VOC2012/0\.jpg cannot be read: the file is truncated'):
        hook.draw(DenoiserTraining(NECK), FeaturePairDataset(str(tmp_path), MODEL))


def test_what_is_needed_to_load_images_is_asked_for_at_once(tmp_path):
    write_pairs(tmp_path, 2)

    def load(**image):
        return FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=image)

    stated = dict(size=(42, 56), mean=[1] * 3, std=[1] * 3)
    assert len(load(**stated)) == 2
    with pytest.raises(UserError, match=r'\.json does not tell the mean of the images; state it'):
        load(std=[1] * 3)
    with pytest.raises(UserError, match='image.means is unknown: size, mean, std, interpolation'):
        load(means=[1] * 3)
    with pytest.raises(UserError, match="image.interpolation='cubic': use bicubic, bilinear"):
        load(**stated, interpolation='cubic')
    with pytest.raises(UserError, match='image_root nowhere does not exist'):
        FeaturePairDataset(str(tmp_path), MODEL, image_root='nowhere', image=stated)
    for file in (tmp_path / 'raw_features').rglob('1.jpg.npy'):
        file.unlink()
    raw = FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=stated, target='raw')
    assert raw.names == ['VOC2012/0.jpg']


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


def test_resumed_run_equals_an_uninterrupted_one_and_reads_nothing_twice(tmp_path, features, monkeypatch):
    whole = train(tmp_path / 'whole', features, 10)
    assert all(name.startswith('neck.denoiser.') for name in whole['state_dict'])
    assert {'optimizer', 'param_schedulers'} <= whole.keys()
    # Without any hook of ours a checkpoint tells what it was trained on.
    assert whole['meta']['dataset_meta'] == {'dvt': FeaturePairs(features, MODEL).read_meta()}
    half = train(tmp_path / 'part', features, 5)
    assert all(not torch.equal(value, half['state_dict'][name]) for name, value in whole['state_dict'].items())
    assert half['optimizer']['param_groups'][0]['lr'] > 0
    read = []
    original = FeaturePairDataset.__getitem__
    monkeypatch.setattr(
        FeaturePairDataset, '__getitem__', lambda self, index: read.append(index) or original(self, index)
    )
    resumed = train(tmp_path / 'part', features, 10, '--resume')
    assert len(read) == 5 * 3
    for name, value in whole['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][name]), name
    assert whole['param_schedulers'] == resumed['param_schedulers']
