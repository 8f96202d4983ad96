"""Pictures of a denoiser in training, measures of position dependence, and the control with a known pattern."""

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.dvt import DenoiserPictureHook, DenoiserTraining, FeaturePairDataset, PatternedBackbone
from reprefine.methods.dvt.visualization.denoiser_plot import LABELS, Prediction, denoiser_strip
from reprefine.methods.dvt.visualization.plot import GAP, LABEL
from reprefine.methods.dvt.visualization.position_metrics import energy_ratio, fixed_share, position_correlation

from .pair_files import MODEL, write_pairs
from .workers import BACKBONE, images


def tile_of(picture: np.ndarray, row: int, column: int, size: tuple[int, int]) -> np.ndarray:
    top, left = LABEL + row * (size[0] + GAP), column * (size[1] + GAP)
    return picture[top : top + size[0], left : left + size[1]]


def features(seed: int, shape=(3, 4, 8)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_seven_columns_and_the_prediction_in_colours_of_the_target():
    photo = np.full((10, 20, 3), (10, 200, 30), np.uint8)
    target = features(1)
    rows = [Prediction(photo, features(0), target, target), Prediction(None, features(0), features(2), features(3))]
    picture = denoiser_strip(rows, height=30)
    assert len(LABELS) == 7
    assert picture.shape == (LABEL + 2 * 30 + GAP, 7 * 40 + 6 * GAP, 3)

    def tile(row, column):
        return tile_of(picture, row, column, (30, 40))

    assert (tile(0, 0) == (10, 200, 30)).all()
    assert (tile(1, 0) == 255).all()
    # A perfect prediction has the tiles of the target; another one has not.
    assert (tile(0, 5) == tile(0, 3)).all()
    assert (tile(0, 6) == tile(0, 4)).all()
    assert (tile(1, 5) != tile(1, 3)).any()
    shifted = denoiser_strip([Prediction(None, features(0), target, target + 3)], height=30)
    own = denoiser_strip([Prediction(None, features(0), target, target)], height=30)
    assert (shifted != own).any()  # the range is the target's: a shift shows
    assert (denoiser_strip(rows, height=30) == picture).all()


def test_constant_features_are_drawn():
    flat = np.ones((3, 4, 8), np.float32)
    assert denoiser_strip([Prediction(None, flat, flat, flat)]).shape[0] == LABEL + 128


def test_hook_draws_what_the_model_gives(tmp_path):
    write_pairs(tmp_path / 'features')
    (tmp_path / 'VOC2012').mkdir()
    for number in range(6):
        cv2.imwrite(str(tmp_path / f'VOC2012/{number}.jpg'), np.full((30, 40, 3), 40 * number, np.uint8))
    dataset = FeaturePairDataset(str(tmp_path / 'features'), MODEL)
    torch.manual_seed(0)
    model = DenoiserTraining(dict(type='reprefine.DVTDenoiser', in_channels=64, grid=3))
    picture = DenoiserPictureHook(num=2, image_root=str(tmp_path), height=30).draw(model, dataset)
    sample = dataset[1]
    denoised = model(raw=sample['raw'][None])[0].detach()
    maps = (x.movedim(0, -1).numpy() for x in (sample['raw'], sample['denoised'], denoised))
    expected = denoiser_strip([Prediction(np.full((30, 40, 3), 40, np.uint8), *maps)], height=30)
    assert (picture[LABEL + 30 + GAP :, 40 + GAP :] == expected[LABEL:, 40 + GAP :]).all()
    assert abs(tile_of(picture, 1, 0, (30, 40)).astype(int) - 40).max() <= 2  # but for JPEG
    blank = DenoiserPictureHook(num=2, height=30).draw(model, dataset)
    assert (tile_of(blank, 0, 0, (30, 40)) == 255).all()


def test_correlation_with_position_of_known_maps():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing='ij')
    even = (x - 3).square()
    maps = torch.stack((2 * x + 1, -y, even, torch.ones(5, 7)), -1)[None]
    best, mean = position_correlation(maps)
    assert best == pytest.approx(1)
    assert mean == pytest.approx(2 / 8)  # one of four channels for each axis
    expected = abs(np.corrcoef((x + 2 * y).ravel(), x.ravel())[0, 1])
    other = abs(np.corrcoef((x + 2 * y).ravel(), y.ravel())[0, 1])
    best, _ = position_correlation((x + 2 * y)[None, ..., None].expand(3, -1, -1, -1))
    assert best == pytest.approx((expected + other) / 2)


def test_share_of_a_fixed_pattern_and_energy():
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(1, 8, 8, 16, generator=generator)
    content = torch.randn(400, 8, 8, 16, generator=generator)
    assert fixed_share(pattern.expand(5, -1, -1, -1) + 7) == pytest.approx(1)
    assert fixed_share(content) == pytest.approx(1 / 400, rel=0.2)
    assert fixed_share(content + 2 * pattern) == pytest.approx(4 / 5, rel=0.05)
    assert energy_ratio(3 * content + 5, content) == pytest.approx(9, rel=1e-5)


def test_known_pattern_is_added_to_every_image():
    torch.manual_seed(0)
    model = PatternedBackbone(BACKBONE, channels=64, grid=2, scale=0.5, seed=3).eval()
    x = images()[:, :, :32]
    difference = model(x)[0] - model.backbone(x)[-1]
    expected = 0.5 * torch.randn(64, 2, 2, generator=torch.Generator().manual_seed(3))
    assert_close(difference, expected.expand(4, -1, -1, -1), rtol=0, atol=1e-5)
    assert not any('pattern' in name for name in model.state_dict())
    with pytest.raises(UserError, match=r'the map is .64, 3, 2., the pattern .64, 2, 2.'):
        model(images())
