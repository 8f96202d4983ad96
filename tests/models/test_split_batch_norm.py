import pytest
import torch
from mmcv.cnn import build_norm_layer
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.models.split_batch_norm import SplitBatchNorm2d


@pytest.fixture
def images():
    return torch.randn(8, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1


def test_each_part_is_normalised_alone(images):
    out = SplitBatchNorm2d(3, num_splits=2)(images)
    for part, source in zip(out.chunk(2), images.chunk(2), strict=True):
        mean = source.mean((0, 2, 3), keepdim=True)
        var = source.var((0, 2, 3), unbiased=False, keepdim=True)
        torch.testing.assert_close(part, (source - mean) / (var + 1e-5).sqrt())


def test_a_part_does_not_see_the_others(images):
    layer = SplitBatchNorm2d(3, num_splits=4)
    changed = torch.cat([images[:2], images[2:] * 7])
    assert torch.equal(layer(images)[:2], layer(changed)[:2])
    plain = nn.BatchNorm2d(3)
    assert not torch.allclose(plain(images)[:2], plain(changed)[:2])


def test_one_part_is_batch_norm_and_so_is_evaluation(images):
    split, plain = SplitBatchNorm2d(3, num_splits=1), nn.BatchNorm2d(3)
    assert torch.equal(split(images), plain(images))
    split = SplitBatchNorm2d(3, num_splits=4)
    split.load_state_dict(plain.state_dict())
    assert torch.equal(split.eval()(images[:7]), plain.eval()(images[:7]))


def test_is_built_by_its_name_and_refuses_uneven_parts(images):
    name, layer = build_norm_layer(dict(type='reprefine.SplitBN', num_splits=3), 3, postfix=1)
    assert (name, type(layer), layer.num_splits) == ('bn1', SplitBatchNorm2d, 3)
    with pytest.raises(UserError, match='a batch of 8 does not divide into 3 parts'):
        layer(images)
