"""Views of an image and the features of them."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from reprefine.engine.errors import UserError
from reprefine.methods.dvt.stage1.views import draw_views, extract_features, image_seed, prepare_image, render_view

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def picture(height=60, width=90):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_preparation_equals_torchvision():
    image = picture()
    ours = prepare_image(image, (48, 32), MEAN, STD)
    plain = torch.from_numpy(image).movedim(-1, 0).float()
    normal = tv.normalize(plain, MEAN, STD)
    expected = tv.resize(normal, [48, 32], tv.InterpolationMode.BICUBIC, antialias=True)
    assert torch.allclose(ours, expected, atol=1e-4)
    other = prepare_image(image, (48, 32), MEAN, STD, 'bilinear')
    assert torch.allclose(other, tv.resize(normal, [48, 32], antialias=True), atol=1e-4)
    assert (other - ours).abs().max() > 0.01


def test_views_equal_torchvision():
    image = prepare_image(picture(), (48, 64), MEAN, STD)
    for flipped in (0, 1):
        ours = render_view(image, torch.tensor([5, 9, 20, 31, flipped]))
        expected = tv.resized_crop(image, 5, 9, 20, 31, [48, 64], tv.InterpolationMode.BICUBIC, antialias=True)
        assert torch.allclose(ours, tv.hflip(expected) if flipped else expected, atol=1e-4)
    whole = draw_views(2, (48, 64), 8, 8, seed=0).boxes[-1]
    assert torch.allclose(render_view(image, whole), image, atol=1e-5)


def test_views_follow_their_seed():
    one, again, other = (draw_views(16, (48, 64), 16, 8, seed) for seed in (3, 3, 4))
    assert one.coords.shape == (17, 5, 7, 2)
    assert torch.equal(one.boxes, again.boxes)
    assert not torch.equal(one.boxes, other.boxes)
    with pytest.raises(UserError, match='hold fewer than 2 patches of 16'):
        draw_views(4, (24, 64), 16, 16, 0)


def test_the_seed_of_an_image_depends_on_nothing_else():
    assert image_seed(0, 'a.jpg') == image_seed(0, 'a.jpg')
    assert len({image_seed(run, name) for run in range(3) for name in ('a.jpg', 'b.jpg')}) == 6
    assert 0 <= image_seed(0, 'a.jpg') < 2**63


class Patches(torch.nn.Module):
    """A network whose token is the mean colour of its patch."""

    def __init__(self, with_class_token=False):
        super().__init__()
        self.with_class_token, self.batches = with_class_token, []

    def forward(self, x):
        self.batches.append(len(x))
        maps = torch.nn.functional.avg_pool2d(x, 8)
        return ((maps, x.mean((2, 3))) if self.with_class_token else maps,)


@pytest.mark.parametrize('with_class_token', [False, True])
def test_features_are_those_of_each_view(with_class_token):
    image = prepare_image(picture(), (48, 64), MEAN, STD)
    views = draw_views(6, (48, 64), 8, 8, seed=0)
    network = Patches(with_class_token)
    features = extract_features(network, image, views.boxes, batch_size=3)
    assert network.batches == [3, 3, 1]
    assert features.shape == (7, 6, 8, 3)
    for view, box in enumerate(views.boxes):
        shown = render_view(image, box)
        assert torch.allclose(features[view, 2, 5], shown[:, 16:24, 40:48].mean((1, 2)), atol=1e-5)
    half = extract_features(network, image, views.boxes, dtype=torch.bfloat16, storage='cpu')
    assert half.dtype == torch.bfloat16
    assert (half.float() - features).abs().max() < 0.02
