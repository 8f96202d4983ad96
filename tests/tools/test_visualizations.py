"""browse_dataset.py and vis_scheduler.py: the images they write and the values they plot."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch import nn

from reprefine.engine.cli.launch import load_config
from reprefine.visualization.browse import DatasetBrowser
from reprefine.visualization.images import image_grid, to_rgb8
from reprefine.visualization.schedule import compute_schedule, epoch_length
from tests.helpers.run_tool import run_tool as run
from tests.helpers.tiny_hosts import CLASSIFIER, CONFIGS, IMAGE, write_config, write_images

ROOT = Path(__file__).parents[2]
BROWSE = 'visualizations/browse_dataset.py'
SCHEDULER = 'visualizations/vis_scheduler.py'
RED, BLUE = (255, 0, 0), (0, 0, 255)
# Height and width of what the pipelines of tiny_hosts yield; classification is enlarged for its text.
TRANSFORMED = {'mmpretrain': (256, 320), 'mmdet': (96, 128), 'mmseg': IMAGE, 'mmpose': (256, 192)}
ORIGINAL = {'mmpretrain': (288, 384), 'mmdet': IMAGE, 'mmseg': IMAGE, 'mmpose': IMAGE}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('scenes')
    write_images(path)
    return path


@pytest.mark.parametrize(('mode', 'sizes'), [('original', ORIGINAL), ('transformed', TRANSFORMED)])
@pytest.mark.parametrize('host', CONFIGS)
def test_browse_writes_images_of_the_right_size(host, mode, sizes, folder, tmp_path):
    config = write_config(folder, CONFIGS[host], f'{host}.py')
    assert run(BROWSE, config, '--output-dir', tmp_path, '--show-number', 3, '--mode', mode) == 0
    files = sorted(tmp_path.glob('*.png'))
    assert len(files) == 3
    assert [cv2.imread(str(file)).shape[:2] for file in files] == [sizes[host]] * 3


@pytest.mark.parametrize('mode', ['concat', 'pipeline'])
def test_browse_tiles_have_one_column_a_stage(mode, folder, tmp_path):
    config = write_config(folder, CLASSIFIER)
    assert run(BROWSE, config, '--output-dir', tmp_path, '--show-number', 1, '--mode', mode, '--phase', 'test') == 0
    (file,) = tmp_path.glob(f'test_{mode}_*.png')
    columns = {'concat': 2, 'pipeline': 3}[mode]
    assert cv2.imread(str(file)).shape[1] == 400 * columns


def test_browse_draws_images_without_transforms(tmp_path):
    config = ROOT / 'configs/baselines/classification/vit-tiny_digits.py'
    assert run(BROWSE, config, '--output-dir', tmp_path, '--phase', 'val', '--show-number', 1) == 0
    assert cv2.imread(str(tmp_path / 'val_transformed_000000.png')).shape == (256, 256, 3)


def test_browse_shows_all_images_by_default(folder, tmp_path):
    config = write_config(folder, CLASSIFIER)
    assert run(BROWSE, config, '--output-dir', tmp_path) == 0
    assert len(list(tmp_path.glob('*.png'))) == 4


def test_browse_keeps_colours_and_shows_the_flip(folder):
    browser = DatasetBrowser(load_config(write_config(folder, CLASSIFIER)))
    original, flipped = browser.draw(0, 'original'), browser.draw(0, 'transformed')
    # A point of the red square and one of the blue disc, enlarged six times; then flipped, of 32x40, eight times.
    assert tuple(original[15 * 6, 14 * 6]) == RED
    assert tuple(original[30 * 6, 48 * 6]) == BLUE
    row, column = 15 * 32 // 48 * 8, (40 - 14 * 40 // 64) * 8 - 1
    assert tuple(flipped[row, column]) == RED


def test_browse_draws_boxes_in_the_colour_of_their_class(folder):
    browser = DatasetBrowser(load_config(write_config(folder, CONFIGS['mmdet'], 'mmdet.py')))
    drawn = browser.draw(0, 'original')
    # The lower left corner of the disc's box, grey without annotation.
    assert np.ptp(drawn[40, 38].astype(int)) > 60


def test_browse_draws_masks_in_the_colour_of_their_class(folder):
    browser = DatasetBrowser(load_config(write_config(folder, CONFIGS['mmseg'], 'mmseg.py')))
    drawn = browser.draw(0, 'original')
    alpha = browser.visualizer.alpha
    expected = (1 - alpha) * np.array(BLUE) + alpha * np.array((0, 120, 255))
    assert np.abs(drawn[38, 48] - expected).max() <= 1


def test_browse_draws_transformed_keypoints_into_the_crop(folder):
    browser = DatasetBrowser(load_config(write_config(folder, CONFIGS['mmpose'], 'mmpose.py')))
    drawn = browser.draw(0, 'transformed')
    image = to_rgb8(browser.stages[-1].results['img'], is_bgr=True)
    changed = np.argwhere((drawn != image).any(2))
    points = browser.stages[-1].results['transformed_keypoints'][0]
    inside = points[(points > 8).all(1) & (points < (184, 248)).all(1)]
    assert len(inside) > 3
    # Every visible point lies within a dot that was drawn.
    distances = np.linalg.norm(changed[:, None, ::-1] - inside[None], axis=2).min(0)
    assert distances.max() < 2


def test_browse_without_data_or_phase_is_a_user_error(folder, tmp_path, capsys):
    config = write_config(tmp_path, CLASSIFIER)
    assert run(BROWSE, config, '--output-dir', tmp_path / 'out') == 1
    assert '--data-root' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    assert run(BROWSE, config, '--data-root', folder, '--output-dir', tmp_path / 'out', '--show-number', 1) == 0
    assert len(list((tmp_path / 'out').glob('*.png'))) == 1


def test_any_image_becomes_rgb():
    grey = np.array([[0.0, 1.0], [0.5, 0.25]])
    assert to_rgb8(grey, is_bgr=True)[..., 0].tolist() == [[0, 255], [128, 64]]
    colour = np.array([[[1, 2, 3]]], np.uint8)
    assert to_rgb8(colour, is_bgr=True).tolist() == [[[3, 2, 1]]]
    assert to_rgb8(colour, is_bgr=False).tolist() == [[[1, 2, 3]]]
    views = [np.ones((2, 2, 3), np.uint8), np.ones((3, 1, 3), np.uint8)]
    assert to_rgb8(views, is_bgr=False).sum(2).tolist() == [[3, 3, 3], [3, 3, 3], [0, 0, 3]]


def test_image_grid_has_four_columns():
    images = [np.zeros((10, 10, 3), np.uint8)] * 5
    assert image_grid(images, ['x'] * 5).shape[:2] == (920, 1600)


def schedule(folder, *args, **options):
    cfg = load_config(
        write_config(folder, CLASSIFIER), {key.replace('__', '.'): value for key, value in options.items()}
    )
    return compute_schedule(cfg, nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), *args)


def test_schedule_by_epoch_is_the_closed_form_cosine(folder):
    result = schedule(folder, 3)
    (values,) = result.curves.values()
    epochs = np.repeat(np.arange(10), 3)
    np.testing.assert_allclose(values, 0.05 * (1 + np.cos(math.pi * epochs / 10)), rtol=1e-9)
    assert result.epoch_length == 3


def test_schedule_by_iteration_is_the_closed_form_cosine(folder):
    result = schedule(folder, 4, param_scheduler__convert_to_iter_based=True, param_scheduler__end=10)
    (values,) = result.curves.values()
    np.testing.assert_allclose(values, 0.05 * (1 + np.cos(math.pi * np.arange(40) / 40)), rtol=1e-9)


def test_schedule_has_a_curve_for_each_multiplier(folder):
    result = schedule(folder, 2, optim_wrapper__paramwise_cfg=dict(custom_keys={'1.weight': dict(lr_mult=0.1)}))
    assert list(result.curves) == ['learning rate 0.1 (3 tensors)', 'learning rate 0.01 (1 tensors)']
    full, tenth = result.curves.values()
    np.testing.assert_allclose(tenth, full / 10)


def test_momentum_is_constant_without_a_scheduler(folder):
    result = schedule(folder, 2, 'momentum')
    assert {float(value) for values in result.curves.values() for value in values} == {0.9}


def test_schedule_of_an_iteration_based_loop(folder):
    cfg = load_config(write_config(folder, CLASSIFIER))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=30)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.5, begin=0, end=10, by_epoch=False)]
    result = compute_schedule(cfg, nn.Linear(2, 2), 1)
    (values,) = result.curves.values()
    np.testing.assert_allclose(values, 0.1 * np.minimum(1, 0.5 + 0.5 * np.arange(30) / 9))
    assert result.epoch_length is None


@pytest.mark.parametrize(('args', 'length'), [((100, 32), 4), ((100, 32, 1, True), 3), ((100, 32, 2), 2), ((5, 8), 1)])
def test_epoch_length(args, length):
    assert epoch_length(*args) == length


def test_vis_scheduler_writes_a_plot(folder, tmp_path, capsys):
    out = tmp_path / 'new' / 'lr.png'
    config = write_config(folder, CLASSIFIER)
    assert run(SCHEDULER, config, '--out', out) == 0
    # 4 images, 2 a batch, 10 epochs.
    assert '20 iterations' in capsys.readouterr().out
    assert cv2.imread(str(out)).shape == (540, 960, 3)
    assert run(SCHEDULER, config, '--out', out, '--dataset-size', 10, '--ngpus', 2, '--parameter', 'momentum') == 0
    assert '30 iterations' in capsys.readouterr().out


def test_vis_scheduler_without_data_names_the_remedy(tmp_path, capsys):
    config = write_config(tmp_path, CLASSIFIER)
    assert run(SCHEDULER, config, '--out', tmp_path / 'lr.png') == 1
    assert '--dataset-size' in capsys.readouterr().err
    assert not (tmp_path / 'lr.png').exists()


def test_help_names_an_example(capsys):
    for tool in (BROWSE, SCHEDULER, 'analysis_tools/compare_cost.py', 'analysis_tools/get_flops.py'):
        with pytest.raises(SystemExit, match='0'):
            run(tool, '--help')
        assert 'example' in capsys.readouterr().out
