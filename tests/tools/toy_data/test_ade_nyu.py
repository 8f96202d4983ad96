import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets import ADE20KDataset, NYUDataset
from mmseg.datasets.transforms import LoadAnnotations, LoadDepthAnnotation
from mmseg.evaluation.metrics import DepthMetric
from toy_data.ade_classes import CLASSES

from tests.tools.toy_data.compare import assert_like, files


@pytest.fixture(scope='module')
def ade20k(record):
    return record('ade20k', '_draw')


@pytest.fixture(scope='module')
def nyu(record):
    return record('nyu', 'draw_indoor_scene')


def test_ade20k_classes_are_the_hosts():
    assert tuple(name.strip() for name in ADE20KDataset.METAINFO['classes']) == CLASSES


@pytest.mark.parametrize(('split', 'part'), [('training', slice(40)), ('validation', slice(40, 50))])
def test_ade20k_is_read_as_drawn(ade20k, split, part):
    root, images = ade20k
    dataset = ADE20KDataset(
        data_root=str(root),
        data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}'),
        pipeline=[LoadImageFromFile(), LoadAnnotations()],
    )
    for sample, drawn in zip(dataset, images[part], strict=True):
        assert_like(sample['img'], drawn.image)
        # The host shifts the classes, so that what belongs to none of them is ignored.
        assert np.array_equal(sample['gt_seg_map'], (drawn.classes.astype(int) - 1) % 256)
    assert sample['img_path'].endswith(f'{len(dataset):08}.jpg')


def test_ade20k_shows_stuff_things_and_others(ade20k):
    maps = [drawn.classes for drawn in ade20k[1]]
    shown = set(np.unique(np.concatenate([classes.ravel() for classes in maps])))
    assert len(shown) == 21
    assert {0, CLASSES.index('sky') + 1, CLASSES.index('person') + 1} <= shown
    assert 3 < sum((classes == 0).any() for classes in maps) < 25


def test_ade20k_tables_count_what_is_there(ade20k):
    root, images = ade20k
    header, *lines = [line.split('\t') for line in (root / 'objectInfo150.txt').read_text().splitlines()]
    assert header == ['Idx', 'Ratio', 'Train', 'Val', 'Stuff', 'Name']
    assert [(int(line[0]), line[5]) for line in lines] == list(enumerate(CLASSES, 1))
    sky = next(line for line in lines if line[5] == 'sky')
    shows_sky = [(drawn.classes == int(sky[0])).any() for drawn in images]
    assert [int(count) for count in sky[2:4]] == [sum(shows_sky[:40]), sum(shows_sky[40:])]
    assert sky[4] == '1'
    pixels = sum(drawn.classes.size for drawn in images)
    share = sum((drawn.classes == int(sky[0])).sum() for drawn in images) / pixels
    assert float(sky[1]) == pytest.approx(share, abs=1e-4)
    scenes = [line.split() for line in (root / 'sceneCategories.txt').read_text().splitlines()]
    assert [category for _, category in scenes] == [drawn.category for drawn in images]
    assert [scenes[0][0], scenes[-1][0]] == ['ADE_train_00000001', 'ADE_val_00000010']


def nyu_dataset(root, split):
    return NYUDataset(
        data_root=str(root),
        data_prefix=dict(img_path=f'images/{split}', depth_map_path=f'annotations/{split}'),
        pipeline=[LoadImageFromFile(), LoadDepthAnnotation(depth_rescale_factor=1e-3)],
    )


@pytest.mark.parametrize(('split', 'count', 'first'), [('train', 12, 0), ('test', 6, 12)])
def test_nyu_is_read_as_drawn(nyu, split, count, first):
    root, scenes = nyu
    dataset = nyu_dataset(root, split)
    assert len(dataset) == count
    for sample in dataset:
        name = sample['img_path'].split('/')[-1]
        scene = scenes[first + int(name[-9:-4])]
        assert_like(sample['img'], scene.image)
        depth = sample['gt_depth_map']
        assert depth.shape == (480, 640)
        np.testing.assert_allclose(depth[8:-8, 8:-8], scene.depth[8:-8, 8:-8], atol=6e-4)
        assert np.count_nonzero(depth) == 464 * 624
        assert dataset.metainfo['classes'][sample['category_id']] == name[:-10]


def test_nyu_depth_is_scored_where_it_is_known(nyu):
    depth = torch.from_numpy(nyu_dataset(nyu[0], 'train')[0]['gt_depth_map'])
    metric = DepthMetric(min_depth_eval=0.001, max_depth_eval=10.0, crop_type='nyu_crop')
    metric.process({}, [dict(gt_depth_map=dict(data=depth), pred_depth_map=dict(data=depth + 0.5))])
    # The crop of the evaluation lies within the part that the sensors see.
    assert len(metric.results[0][0]) == (471 - 45) * (601 - 41)
    assert metric.compute_metrics(metric.results)['rmse'] == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(('split', 'count'), [('train', 12), ('test', 6)])
def test_nyu_lists_name_image_depth_and_focal_length(nyu, split, count):
    root = nyu[0]
    lines = [line.split() for line in (root / f'nyu_{split}.txt').read_text().splitlines()]
    assert len(lines) == count
    for image, depth, focal in lines:
        assert (root / image).is_file()
        assert (root / depth).is_file()
        assert focal == '518.8579'
        assert image == depth.replace('annotations', 'images').replace('.png', '.jpg')


@pytest.mark.parametrize('name', ['ade20k', 'nyu'])
def test_bytes_are_the_same_again(request, toy, name):
    assert files(request.getfixturevalue(name)[0]) == files(toy(name))
