import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, TensorDataset

from reprefine.engine.data_checks.loader_checks import check_batches, check_classes, raise_if_empty
from reprefine.engine.errors import UserError

CONFIG = dict(dataset=dict(type='CocoDataset', data_root='data/x', ann_file='a.json'))


def loader(samples, sampler=DefaultSampler, **options):
    dataset = TensorDataset(torch.zeros(samples))
    return DataLoader(dataset, sampler=sampler(dataset), **options)


def test_an_empty_dataset_is_named():
    with pytest.raises(UserError, match=r'CocoDataset \(data_root data/x, ann_file a.json\) has no samples'):
        check_batches(loader(0), CONFIG)
    with pytest.raises(UserError, match='CocoDataset .* has no samples'), raise_if_empty(CONFIG):
        np.concatenate([])
    with pytest.raises(ValueError, match='other'), raise_if_empty(CONFIG):
        raise ValueError('other')


def test_a_dataset_smaller_than_a_batch_that_is_dropped():
    with pytest.raises(UserError, match='has 3 samples, fewer than batch_size = 4, and drop_last leaves no batch'):
        check_batches(loader(3, batch_size=4, drop_last=True), CONFIG)
    check_batches(loader(3, batch_size=4), CONFIG)
    check_batches(loader(4, batch_size=4, drop_last=True), CONFIG)


def test_endless_samplers_and_streams_have_batches():
    check_batches(loader(3, InfiniteSampler, batch_size=4, drop_last=True), CONFIG)
    check_batches(DataLoader(Stream()), CONFIG)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


class Identities(TensorDataset):
    num_labels = 3


def test_identities_without_names_are_counted():
    inner = Identities(torch.zeros(1))
    inner.metainfo = {}
    wrapped = ConcatDataset([inner])
    with pytest.raises(UserError, match=r'model.head.num_classes is 2, but Identities has 3 classes: set it to 3$'):
        check_classes(dict(head=dict(num_classes=2)), wrapped)
    check_classes(dict(head=dict(num_classes=3)), wrapped)


class Three(TensorDataset):
    metainfo = dict(classes=('a', 'b', 'c'))


@pytest.mark.parametrize(
    'model',
    [
        dict(head=dict(num_classes=2)),
        dict(model=dict(head=dict(num_classes=2))),
        dict(rpn_head=dict(num_classes=1), roi_head=dict(bbox_head=[dict(num_classes=2)] * 2)),
    ],
)
def test_heads_of_too_few_classes_are_named(model):
    with pytest.raises(UserError, match='head.*num_classes is 2, but Three has 3 classes: set it to 3'):
        check_classes(model, Three())


@pytest.mark.parametrize(
    'model',
    [
        dict(head=dict(num_classes=3)),
        dict(head=dict(num_classes=1000)),
        dict(rpn_head=dict(num_classes=1)),  # tells objects from the rest
        dict(decode_head=dict(num_classes=1)),  # two classes by one logit
        dict(head=dict(in_channels=2)),
        dict(roi_head=dict(bbox_head=dict(num_classes=3), mask_head=dict(num_classes=2))),
    ],
)
def test_other_models_pass(model):
    check_classes(model, Three())
    check_classes(dict(head=dict(num_classes=2)), TensorDataset())  # names no classes
