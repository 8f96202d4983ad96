import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.tasks.depth.transforms import FixedCrop, RandomColour, change_colour
from tests.helpers.run import ROOT

NYU = str(ROOT / 'configs/baselines/depth/vit-b-dinov2_linear_8xb2-38k_nyu-416x544.py')


def make_sample(height=480, width=640):
    """An image whose depth is its own position, so that both can be compared after any crop or flip."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack((rows % 256, columns % 256, (rows + columns) % 256), axis=-1).astype(np.uint8)
    depth = (1 + rows + columns / 1000).astype(np.float32)
    return dict(img=image, gt_depth_map=depth, seg_fields=['gt_depth_map'], img_path='a.jpg', ori_shape=(height, width))


def test_change_of_colour_in_closed_form():
    image = np.array([[[0, 1, 100], [10, 200, 255]]], np.uint8)
    changed = change_colour(image, 1.1, 0.8, np.array([0.9, 1.0, 1.1]))
    expected = [
        [[0, 0.8, 0.8 * 1.1 * 100**1.1], [0.9 * 0.8 * 10**1.1, min(255, 0.8 * 200**1.1), 255]]
    ]  # fmt: skip
    assert changed == pytest.approx(np.array(expected), rel=1e-5)
    assert changed.dtype == np.float32


def test_random_colour_draws_from_its_ranges():
    image = np.full((2, 2, 3), 50, np.uint8)
    np.random.seed(0)
    results = [RandomColour(prob=0.5).transform(dict(img=image))['img'] for _ in range(400)]
    changed = np.stack([result for result in results if result is not image])
    assert 160 < len(changed) < 240
    assert (changed == changed[:, :1, :1]).all()
    ratio = changed[:, 0, 0, 0] / changed[:, 0, 0, 1]
    assert 0.9 / 1.1 < ratio.min() < 0.87
    assert 1.15 < ratio.max() < 1.1 / 0.9
    assert 50**0.9 * 0.75 * 0.9 < changed.min() < 30
    assert 75 < changed.max() < 50**1.1 * 1.25 * 1.1


def test_probability_0_does_not_change_the_image():
    image = np.zeros((2, 2, 3), np.uint8)
    assert RandomColour(prob=0.0).transform(dict(img=image))['img'] is image


def test_fixed_crop_crops_image_and_depth_alike():
    results = FixedCrop(rows=(45, 472), columns=(43, 608)).transform(make_sample())
    source = make_sample()
    assert results['img'].shape == (427, 565, 3)
    assert results['img_shape'] == (427, 565)
    assert np.array_equal(results['img'], source['img'][45:472, 43:608])
    assert np.array_equal(results['gt_depth_map'], source['gt_depth_map'][45:472, 43:608])


def test_fixed_crop_refuses_a_smaller_image():
    with pytest.raises(UserError, match=r'a\.jpg has 400x640'):
        FixedCrop(rows=(45, 472), columns=(43, 608)).transform(make_sample(400))


@pytest.fixture(scope='module')
def pipelines():
    cfg = load_config(NYU)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return Compose(cfg.train_pipeline[2:]), Compose(cfg.train_pipeline[2:-2])


def test_training_pipeline_keeps_image_and_depth_together(pipelines):
    np.random.seed(0)
    samples = [pipelines[1](make_sample()) for _ in range(12)]
    assert {sample['img'].shape for sample in samples} == {(416, 544, 3)}
    assert any(sample['flip'] for sample in samples)
    for sample in samples:
        depth = sample['gt_depth_map']
        known = depth > 0
        row, column = np.floor(depth) - 1, np.rint(depth % 1 * 1000)
        assert known.mean() > 0.97
        assert row[known].min() >= 45
        assert row[known].max() <= 471
        # Rotated images are interpolated and depths are not: they agree to about a pixel, but where colours wrap.
        off = [np.abs(sample['img'][..., 0][known] - row[known] % 256) > 3,
               np.abs(sample['img'][..., 1][known] - column[known] % 256) > 3]  # fmt: skip
        assert max(wrong.mean() for wrong in off) < 0.05


def test_packed_sample(pipelines):
    packed = pipelines[0](make_sample())
    assert packed['inputs'].shape == (3, 416, 544)
    assert packed['data_samples'].gt_depth_map.data.shape == (1, 416, 544)
