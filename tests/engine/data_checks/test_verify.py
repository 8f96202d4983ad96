import re
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from PIL import Image

from reprefine.engine.data_checks.verify import build_datasets, format_class_counts, verify_samples
from reprefine.engine.errors import UserError


def errors_of(dataset, workers):
    return [sample.error for sample in verify_samples(dataset, workers)]


@pytest.fixture
def cfg(tmp_path):
    """Six images in two class folders, of which one is cut, one empty and one no image; read through two wrappers."""
    for index in range(6):
        image = tmp_path / 'train' / f'class{index % 2}' / f'{index}.jpg'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (32, 32, 3), np.uint8)).save(image)
    cut = tmp_path / 'train' / 'class0' / '2.jpg'
    cut.write_bytes(cut.read_bytes()[:-300])
    (tmp_path / 'train' / 'class1' / '3.jpg').write_bytes(b'')
    (tmp_path / 'train' / 'class1' / '5.jpg').write_bytes(b'no image')
    init_default_scope('mmpretrain')
    plain = dict(
        type='mmpretrain.ImageNet',
        data_root=str(tmp_path),
        split='train',
        classes=('class0', 'class1'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=9), dict(type='PackInputs')],
    )
    train = dict(type='RepeatDataset', times=3, dataset=dict(type='ConcatDataset', datasets=[plain]))
    return Config(dict(train_dataloader=dict(dataset=train), val_dataloader=dict(dataset=train)))


@pytest.mark.parametrize('workers', [0, 2])
def test_every_unreadable_sample_is_found_once(cfg, tmp_path, workers):
    ((place, dataset),) = build_datasets(cfg)  # the validation loader reads the same samples
    assert place == 'train_dataloader.dataset.dataset.datasets.0'
    found = [error for error in errors_of(dataset, workers) if error]
    files = [f'{tmp_path}/train/{name}.jpg' for name in ('class0/2', 'class1/3', 'class1/5')]
    assert [(error.index, *error.files) for error in found] == list(zip((1, 4, 5), files, strict=True))
    assert 'truncated' in found[0].reason
    assert all('\n' not in error.reason for error in found)


def test_valid_samples_have_no_error(cfg):
    ((_, dataset),) = build_datasets(cfg)
    assert [error is None for error in errors_of(dataset, 0)] == [True, False, True, True, False, False]


class Boxes(BaseDataset):
    """A valid box, and one that is not finite."""

    def load_data_list(self):
        return [dict(instances=[dict(bbox=[0, 0, x, 4])]) for x in (4, float('nan'))]


def test_a_box_that_is_not_finite_is_an_error():
    valid, invalid = errors_of(Boxes(pipeline=[]), 0)
    assert valid is None
    assert 'a box is not finite' in invalid.reason


class Pairs(torch.utils.data.Dataset):
    """Samples of no pipeline, of which one cannot be read."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            raise OSError('cut short')
        return index


def test_datasets_without_a_pipeline_are_read_as_they_are():
    valid, invalid = errors_of(Pairs(), 0)
    assert valid is None
    assert invalid.reason == 'OSError: cut short'


def count(dataset):
    return format_class_counts(dataset, sum((Counter(one.labels) for one in verify_samples(dataset, 0)), Counter()))


def test_classes_are_counted(cfg):
    ((_, dataset),) = build_datasets(cfg)
    assert count(dataset) == '2 of 2 classes found: class0 2, class1 1'  # of the three that can be read


class Masks(BaseSegDataset):
    METAINFO = dict(classes=('sky', 'sea', 'land'))


@pytest.mark.parametrize(
    ('value', 'reduced', 'shown', 'counts'),
    [
        (3, False, '3', '3 of 3 classes found: sky 1, sea 1, land 1'),
        (4, True, r'3 \(4 in the file, reduce_zero', '2 of 3 classes found: sky 2, sea 1, land 0'),
    ],
)
def test_a_mask_value_that_is_no_class_is_an_error(tmp_path, value, reduced, shown, counts):
    for name, values in (('a', [reduced, 2]), ('b', [1 + reduced, value]), ('c', [255, 1])):
        (tmp_path / f'{name}.jpg').write_bytes(b'')
        Image.new('RGB', (2, 2)).save(tmp_path / f'{name}.jpg')
        Image.fromarray(np.uint8([values, values])).save(tmp_path / f'{name}.png')
    dataset = Masks(
        data_prefix=dict(img_path=str(tmp_path), seg_map_path=str(tmp_path)),
        pipeline=[dict(type='mmseg.LoadAnnotations')],
        reduce_zero_label=reduced,
    )
    first, wrong, last = errors_of(dataset, 0)
    assert first is last is None
    assert wrong.files[1] == f'{tmp_path}/b.png'
    assert re.match(f'mask {tmp_path}/b.png: value {shown}.* is no class, .* 0 to 2, and 255 is ignored', wrong.reason)
    assert count(dataset) == counts


class Identities(BaseDataset):
    """Two images of one person, one of another, and one of nobody known."""

    def load_data_list(self):
        return [dict(gt_label=label) for label in (0, 1, 0, -1)]


def test_labels_without_names_are_counted():
    assert count(Identities(pipeline=[])) == '2 labels, 1 to 2 of each'
    assert count(Boxes(pipeline=[])) == 'no labels'


def test_classes_with_other_numbers_than_in_training_are_refused(cfg, tmp_path):
    (tmp_path / 'val').mkdir()
    (tmp_path / 'train' / 'class1').rename(tmp_path / 'val' / 'class1')
    node = dict(type='mmpretrain.CustomDataset', data_root=str(tmp_path), pipeline=[])
    (tmp_path / 'train' / 'class1').mkdir()
    cfg.train_dataloader.dataset = dict(node, data_prefix='train')
    cfg.val_dataloader.dataset = dict(node, data_prefix='val')
    with pytest.raises(UserError, match="class 'class1' has the number 0 in CustomDataset .*, but 1 in training"):
        list(build_datasets(cfg))
