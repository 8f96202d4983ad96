from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from PIL import Image

from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.tasks.face_parsing import CelebAMaskHQ, RandomFaceFlip, ResizeToMask
from reprefine.tasks.face_parsing.prepare.convert import make_plan, prepare

from .raw_faces import SIZE, expected_labels, write_raw

CONFIGS = sorted((Path(__file__).parents[3] / 'configs/baselines/face_parsing').glob('*.py'))
LOAD = [dict(type='LoadImageFromFile'), dict(type='reprefine.ResizeToMask'), dict(type='LoadAnnotations')]
SWAPPED = {'ignore': {1: 2, 3: 4, 6: 7}, 'class': {2: 3, 4: 5, 7: 8}}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = write_raw(tmp_path_factory.mktemp('faces'))
    prepare(make_plan(folder, allow_partial=True))
    return folder


def load(root, split='train', pipeline=LOAD, **options):
    init_default_scope('mmseg')
    # Serialization calls the garbage collector, which takes most of the time of this test.
    options = dict(data_root=str(root), pipeline=pipeline, serialize_data=False, **options)
    return CelebAMaskHQ(f'{split}_celebahqmask.txt', **options)


def swap(labels: np.ndarray, background: str) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    for left, right in SWAPPED[background].items():
        table[left], table[right] = right, left
    return table[labels]


def test_samples_of_a_split(root):
    dataset = load(root)
    assert [Path(dataset[i]['img_path']).name for i in range(len(dataset))] == ['0.jpg', '2002.jpg']
    assert [len(load(root, split)) for split in ('val', 'test')] == [2, 1]


def test_background_is_ignored(root):
    values = load(root)[1]['gt_seg_map']
    expected = expected_labels(2002).astype(int) - 1
    assert np.array_equal(values, np.where(expected < 0, 255, expected))
    assert set(np.unique(values)) <= {*range(18), 255}
    assert {0, 16, 255} <= set(np.unique(values))


def test_background_is_a_class(root):
    values = load(root, background='class')[1]['gt_seg_map']
    assert np.array_equal(values, expected_labels(2002))
    assert {0, 1, 17} <= set(np.unique(values)) <= set(range(19))


def test_classes_and_palette(root):
    ignored, as_class = load(root).metainfo, load(root, background='class').metainfo
    assert (len(ignored['classes']), len(as_class['classes'])) == (18, 19)
    assert as_class['classes'] == ('background', *ignored['classes'])
    assert as_class['palette'] == [[0, 0, 0], *ignored['palette']]
    assert ignored['classes'][17] == 'hat'


def test_some_of_the_classes(root):
    dataset = load(root, metainfo=dict(classes=('hair', 'r_eye', 'l_eye')))
    labels = expected_labels(0)
    expected = np.select([labels == 17, labels == 5, labels == 4], [0, 1, 2], 255)
    assert np.array_equal(dataset[0]['gt_seg_map'], expected)
    assert dataset[0]['left_right_labels'] == [(2, 1)]
    assert dataset.metainfo['palette'] == [load(root).metainfo['palette'][i] for i in (16, 4, 3)]


def test_image_gets_the_size_of_the_mask(root):
    sample = load(root)[0]
    assert sample['img'].shape[:2] == sample['img_shape'] == sample['ori_shape'] == (SIZE, SIZE)
    with Image.open(root / 'CelebA-HQ-img/0.jpg') as image:
        full = np.asarray(image, float)[..., ::-1]
    # Halving by bilinear interpolation is the mean of four pixels.
    assert np.abs(sample['img'] - full.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3))).max() <= 1


def test_an_image_without_a_mask_keeps_its_size():
    results = dict(img=np.zeros((8, 6, 3), np.uint8), img_shape=(8, 6), ori_shape=(8, 6))
    assert ResizeToMask()(results)['img'].shape == (8, 6, 3)
    assert results['ori_shape'] == (8, 6)


@pytest.mark.parametrize('background', ['ignore', 'class'])
@pytest.mark.parametrize('face', [0, 1])
def test_labels_of_left_and_right_are_swapped_by_a_flip(root, background, face):
    plain = load(root, background=background)[face]
    flip = dict(type='reprefine.RandomFaceFlip', prob=1.0)
    once = load(root, background=background, pipeline=[*LOAD, flip])[face]
    assert np.array_equal(once['gt_seg_map'], swap(plain['gt_seg_map'][:, ::-1], background))
    assert np.array_equal(once['img'], plain['img'][:, ::-1])
    assert not np.array_equal(once['gt_seg_map'], plain['gt_seg_map'][:, ::-1])
    twice = load(root, background=background, pipeline=[*LOAD, flip, flip])[face]
    assert np.array_equal(twice['gt_seg_map'], plain['gt_seg_map'])
    assert np.array_equal(twice['img'], plain['img'])


def test_swapping_can_be_switched_off(root):
    flip = dict(type='reprefine.RandomFaceFlip', prob=1.0, swap_labels=False)
    assert np.array_equal(load(root, pipeline=[*LOAD, flip])[0]['gt_seg_map'], load(root)[0]['gt_seg_map'][:, ::-1])


def test_samples_without_a_flip_are_not_changed(root):
    unflipped = load(root, pipeline=[*LOAD, dict(type='reprefine.RandomFaceFlip', prob=0.0)])[0]
    assert np.array_equal(unflipped['gt_seg_map'], load(root)[0]['gt_seg_map'])
    np.random.seed(0)
    some = load(root, pipeline=[*LOAD, dict(type='reprefine.RandomFaceFlip')])
    assert sum(some[0]['flip'] for _ in range(200)) == pytest.approx(100, abs=30)
    assert isinstance(TRANSFORMS.build(dict(type='reprefine.RandomFaceFlip')), RandomFaceFlip)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_fit_the_data(root, path):
    cfg = load_config(str(path), data_root=str(root))
    heads = [cfg.model.decode_head, *cfg.model.auxiliary_head]
    for phase in ('train', 'val', 'test'):
        dataset = DATASETS.build(cfg[f'{phase}_dataloader'].dataset)
        assert {head.num_classes for head in heads} == {len(dataset.metainfo['classes'])}
        packed = dataset[0]
        values = packed['data_samples'].gt_sem_seg.data
        allowed = {*range(len(dataset.metainfo['classes'])), 255}
        assert set(values.unique().tolist()) <= allowed
        if phase == 'train':
            assert packed['inputs'].shape[1:] == values.shape[1:]
            assert max(values.shape[1:]) <= 448
        else:
            assert packed['inputs'].shape == (3, 512, 512)
            assert packed['data_samples'].ori_shape == values.shape[1:] == (SIZE, SIZE)


def test_unprepared_data_are_refused_with_the_remedy(tmp_path):
    raw = write_raw(tmp_path / 'raw')
    with pytest.raises(UserError, match=f'classes.txt missing: run tools/.*prepare_celebamask_hq.py {raw}'):
        load(raw)


def test_incompletely_prepared_data_are_refused(tmp_path):
    raw = write_raw(tmp_path / 'raw')
    prepare(make_plan(raw, allow_partial=True))
    (raw / 'mask/2002.png').unlink()
    with pytest.raises(UserError, match='mask lacks 1 of 2 files, such as 2002.png'):
        load(raw)
    assert len(load(raw, 'val')) == 2


def test_label_maps_of_other_classes_are_refused(tmp_path):
    raw = write_raw(tmp_path / 'raw')
    prepare(make_plan(raw, allow_partial=True))
    names = (raw / 'mask/classes.txt').read_text().split()
    names[2], names[6] = names[6], names[2]
    (raw / 'mask/classes.txt').write_text('\n'.join(names))
    with pytest.raises(UserError, match='names other classes or another order'):
        load(raw)


def test_unknown_background_is_refused():
    with pytest.raises(UserError, match='choose from ignore, class'):
        CelebAMaskHQ('train_celebahqmask.txt', background='skip')
