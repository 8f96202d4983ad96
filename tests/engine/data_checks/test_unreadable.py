from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, Compose, ConcatDataset, RepeatDataset
from PIL import Image

from reprefine.engine.data_checks.unreadable import data_errors_as_user_error, name_unreadable_files
from reprefine.engine.errors import UserError


class Images(BaseDataset):
    """Images and masks of a folder."""

    def __init__(self, samples, transform):
        self.samples = samples
        super().__init__(pipeline=[transform])

    def load_data_list(self):
        return self.samples


def decode(data):
    for key in ('img_path', 'seg_map_path'):
        if key in data and not data[key].endswith('unused'):
            Image.open(data[key]).load()
    if data.get('crash'):
        raise ZeroDivisionError('a bug')
    return data['img_path']


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'a.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)).save(path)
    return str(path)


def named(samples):
    dataset = Images(samples, decode)
    name_unreadable_files(dataset)
    return dataset


def test_readable_images_pass(image):
    assert named([dict(img_path=image)])[0] == image


@pytest.mark.parametrize('content', [b'', b'no image', None])
@pytest.mark.parametrize('key', ['img_path', 'seg_map_path'])
def test_unreadable_file_is_named(image, tmp_path, content, key):
    corrupted = tmp_path / 'corrupted.png'
    corrupted.write_bytes(Path(image).read_bytes()[:500] if content is None else content)
    sample = {'img_path': image, key: str(corrupted)}
    with pytest.raises(UserError, match=f'image {corrupted} cannot be read'):
        named([sample])[0]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=f'image {tmp_path}/gone.png does not exist'):
        named([dict(img_path=f'{tmp_path}/gone.png')])[0]


def test_other_errors_pass_unchanged(image):
    with pytest.raises(ZeroDivisionError, match='a bug'):
        named([dict(img_path=image, crash=True)])[0]


class LoadTooMuch:
    def __call__(self, data):
        raise MemoryError


def test_running_out_of_memory_is_not_the_fault_of_a_file(image):
    dataset = Images([dict(img_path=image)], LoadTooMuch())
    name_unreadable_files(dataset)
    with pytest.raises(MemoryError):
        dataset[0]


@pytest.mark.parametrize('wrap', [lambda inner: ConcatDataset([inner]), lambda inner: RepeatDataset(inner, 2)])
def test_wrapped_datasets_are_reached(tmp_path, wrap):
    inner = Images([dict(img_path=f'{tmp_path}/gone.png')], decode)
    name_unreadable_files(wrap(inner))
    with pytest.raises(UserError, match='gone.png'):
        inner[0]
    assert isinstance(inner.pipeline, Compose)
    assert inner.pipeline.transforms == [decode]


@pytest.mark.parametrize('workers', [0, 1])
def test_a_worker_names_the_file_in_one_line(tmp_path, workers):
    loader = torch.utils.data.DataLoader(named([dict(img_path=f'{tmp_path}/gone.png')]), num_workers=workers)
    with pytest.raises(UserError) as caught, data_errors_as_user_error():
        next(iter(loader))
    assert str(caught.value) == f'image {tmp_path}/gone.png does not exist'


def test_missing_file_of_a_host_library_is_one_line(tmp_path):
    with pytest.raises(UserError, match='No such file or directory.*gone.json'), data_errors_as_user_error():
        (tmp_path / 'gone.json').read_text()


def test_bugs_keep_their_traceback():
    with pytest.raises(KeyError), data_errors_as_user_error():
        {}['a']


class Labelled(Images):
    """Two classes, masks with 255 for what is ignored."""

    METAINFO = dict(classes=('a', 'b'))
    ignore_index = 255
    reduce_zero_label = False


class LoadMask:
    def __init__(self, *values):
        self.values = values

    def __call__(self, data):
        return data | dict(gt_seg_map=np.uint8([self.values]))


@pytest.mark.parametrize('label', [0, 1, [0, 1], []])
def test_labels_and_masks_of_the_classes_pass(label):
    dataset = Labelled([dict(img_path='a.jpg', seg_map_path='a.png', gt_label=label)], LoadMask(0, 1, 255))
    name_unreadable_files(dataset)
    assert dataset[0]['gt_label'] == label


@pytest.mark.parametrize('label', [2, -1, [0, 2]])
def test_a_label_that_is_no_class_is_named(label):
    dataset = Labelled([dict(img_path='a.jpg', gt_label=label)], LoadMask(0))
    name_unreadable_files(dataset)
    with pytest.raises(UserError, match=r'image a.jpg: label (2|-1) is no class, they are numbered 0 to 1: correct'):
        dataset[0]


@pytest.mark.parametrize('values', [(0, 2), (255, 2), (254, 255)])
def test_a_mask_value_that_is_no_class_is_named(values):
    dataset = Labelled([dict(img_path='a.jpg', seg_map_path='a.png')], LoadMask(*values))
    name_unreadable_files(ConcatDataset([dataset]))
    with pytest.raises(UserError, match='mask a.png: value (2|254) is no class, .* 0 to 1, and 255 is ignored'):
        dataset[0]
