import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModule
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS
from reprefine.tasks.object_discovery import LOST
from reprefine.tasks.object_discovery.functional import localize


class PatchMeans(BaseModule):
    """The mean colour of patches of 4 pixels, as the last of two maps."""

    def forward(self, x):
        return x, nn.functional.avg_pool2d(x, 4)


class Negative(nn.Module):
    def forward(self, maps):
        return (maps[0], -maps[-1])


@pytest.fixture
def registered():
    with pytest.MonkeyPatch.context() as patch:
        for module in (PatchMeans, Negative):
            patch.setitem(MODELS.module_dict, module.__name__, module)
        yield


def predict(images, shapes, neck=None, scale=(1.0, 1.0), **kwargs):
    model = LOST(dict(type='reprefine.PatchMeans'), neck and dict(type=f'reprefine.{neck}'), **kwargs).eval()
    samples = [DetDataSample(metainfo=dict(img_shape=shape, scale_factor=scale)) for shape in shapes]
    return model.predict(images, samples)


@pytest.fixture
def image():
    image = -torch.ones(1, 3, 24, 32)
    image[:, :, 8:16, 12:28] = 2.0
    return image


def test_box_is_in_pixels(registered, image):
    (sample,) = predict(image, [(24, 32)])
    assert sample.pred_instances.bboxes.tolist() == [[12, 8, 28, 16]]
    assert sample.pred_instances.scores.tolist() == [1]
    assert sample.pred_instances.labels.tolist() == [0]


def test_box_is_in_pixels_of_the_original_image(registered, image):
    (sample,) = predict(image, [(24, 32)], scale=(2.0, 4.0))
    assert sample.pred_instances.bboxes.tolist() == [[6, 2, 14, 4]]


def test_box_ends_where_the_image_does(registered, image):
    (sample,) = predict(image, [(15, 27)])
    assert sample.pred_instances.bboxes.tolist() == [[12, 8, 27, 15]]


def test_patches_of_padding_are_left_out(registered, image):
    alone, *rest = predict(torch.cat([image[..., :24, :28], image[..., :24, :28]]), [(24, 28), (24, 24)])
    padded = predict(torch.cat([image, image]), [(24, 28), (24, 24)])
    assert [s.pred_instances.bboxes.tolist() for s in padded] == [
        s.pred_instances.bboxes.tolist() for s in (alone, *rest)
    ]
    expected = localize(nn.functional.avg_pool2d(image, 4)[0, :, :6, :6]).box
    assert padded[1].pred_instances.bboxes[0].tolist() == [4 * value for value in expected]


def test_features_go_through_the_neck(registered, image):
    means = nn.functional.avg_pool2d(image, 4)[0]
    expected = [4 * value for value in localize(-means, 'norm').box]
    (sample,) = predict(image, [(24, 32)], neck='Negative', prominence='norm')
    assert sample.pred_instances.bboxes[0].tolist() == expected


def test_num_patches_is_used(registered):
    images = torch.randn(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    means = nn.functional.avg_pool2d(images, 4)[0]
    boxes = {k: localize(means, 'norm', k).box for k in (1, 40)}
    assert boxes[1] != boxes[40]
    for k, box in boxes.items():
        (sample,) = predict(images, [(24, 32)], prominence='norm', num_patches=k)
        assert sample.pred_instances.bboxes[0].tolist() == [4 * value for value in box]


def test_training_and_unknown_prominence_are_refused(registered, image):
    with pytest.raises(UserError, match='choose from degree, norm'):
        LOST(dict(type='reprefine.PatchMeans'), prominence='size')
    with pytest.raises(UserError, match='tools/test.py'):
        LOST(dict(type='reprefine.PatchMeans')).loss(image, [])
