"""Ids of samples in the batches of all four libraries, and which inputs are not finite."""

import pytest
import torch
from mmengine.structures import BaseDataElement

from reprefine.engine.finite_check.sample_ids import nonfinite_inputs, sample_ids, shorten


def element(**metainfo):
    return BaseDataElement(metainfo=metainfo)


@pytest.mark.parametrize(
    ('batch', 'expected'),
    [
        (
            dict(inputs=[0, 1], data_samples=[element(img_path='a.png', img_id=7), element(img_id=8)]),
            ['a.png', 'img_id 8'],
        ),
        (
            dict(data_samples=[element(sample_idx=3), element(ori_shape=(1, 1))]),
            ['sample_idx 3', 'sample without an id'],
        ),
        (
            dict(inputs=dict(a=[1]), data_samples=dict(a=[element(img_id=1)], b=[element(img_id=2)])),
            ['img_id 1', 'img_id 2'],
        ),
        (dict(features=torch.zeros(2, 3), img_path=['a.png', 'b.png']), ['a.png', 'b.png']),
        (dict(raw=torch.zeros(2, 3), name=['a.jpg', 'b.jpg']), ['a.jpg', 'b.jpg']),
        (dict(features=torch.zeros(2, 3), index=torch.tensor([4, 5])), ['index 4', 'index 5']),
        ([dict(sample_idx=1, inputs=0), dict(sample_idx=2, inputs=0)], ['sample_idx 1', 'sample_idx 2']),
        ((torch.zeros(2), torch.zeros(2)), []),
    ],
)
def test_ids(batch, expected):
    assert sample_ids(batch) == expected


NAN = torch.tensor([1.0, float('nan')])
INF = torch.tensor([1.0, float('inf')])
GOOD = torch.tensor([1.0, 2.0])


@pytest.mark.parametrize(
    ('batch', 'count', 'expected'),
    [
        (dict(inputs=[GOOD, NAN, INF]), 3, [1, 2]),
        (dict(inputs=torch.stack([NAN, GOOD])), 2, [0]),
        (dict(inputs=[torch.stack([GOOD, NAN, GOOD]), torch.stack([INF, GOOD, GOOD])]), 3, [0, 1]),
        (dict(inputs=dict(image=torch.stack([GOOD, NAN]), scale=torch.tensor([1.0, 1.0]))), 2, [1]),
        (dict(inputs=torch.tensor([1, 2])), 2, []),
        (dict(inputs=GOOD[None]), 3, []),
        ([NAN, GOOD], 2, [0]),
        (dict(features=torch.stack([GOOD, NAN]), index=torch.tensor([0, 1])), 2, [1]),
    ],
)
def test_nonfinite_inputs(batch, count, expected):
    assert nonfinite_inputs(batch, count) == expected


def test_long_lists_are_cut():
    assert shorten(list('abcde')) == 'a, b, c, d, e'
    assert shorten(list('abcdefg')) == 'a, b, c, d, e and 2 more'
    assert shorten([]) == ''
