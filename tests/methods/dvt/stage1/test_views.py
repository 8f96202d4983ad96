"""Views of an image."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from reprefine.engine.errors import UserError
from reprefine.methods.dvt.stage1.views import draw_views, image_seed, prepare_image, render_view

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def random_image(height=60, width=90):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_preparation_equals_torchvision():
    image = random_image()
    prepared = prepare_image(image, (48, 32), MEAN, STD)
    tensor = torch.from_numpy(image).movedim(-1, 0).float()
    normalized = tv.normalize(tensor, MEAN, STD)
    expected = tv.resize(normalized, [48, 32], tv.InterpolationMode.BICUBIC, antialias=True)
    assert torch.allclose(prepared, expected, atol=1e-4)
    other = prepare_image(image, (48, 32), MEAN, STD, 'bilinear')
    assert torch.allclose(other, tv.resize(normalized, [48, 32], antialias=True), atol=1e-4)
    assert (other - prepared).abs().max() > 0.01


def test_views_equal_torchvision():
    image = prepare_image(random_image(), (48, 64), MEAN, STD)
    for flipped in (0, 1):
        rendered = render_view(image, torch.tensor([5, 9, 20, 31, flipped]))
        expected = tv.resized_crop(image, 5, 9, 20, 31, [48, 64], tv.InterpolationMode.BICUBIC, antialias=True)
        assert torch.allclose(rendered, tv.hflip(expected) if flipped else expected, atol=1e-4)
    whole = draw_views(2, (48, 64), 8, 8, seed=0).boxes[-1]
    assert torch.allclose(render_view(image, whole), image, atol=1e-5)


def test_views_follow_their_seed():
    one, again, other = (draw_views(16, (48, 64), 16, 8, seed) for seed in (3, 3, 4))
    assert one.coords.shape == (17, 5, 7, 2)
    assert torch.equal(one.boxes, again.boxes)
    assert not torch.equal(one.boxes, other.boxes)
    with pytest.raises(UserError, match='hold fewer than 2 patches of 16'):
        draw_views(4, (24, 64), 16, 16, 0)


def test_the_seed_of_an_image_depends_on_the_run_and_the_name_only():
    assert image_seed(0, 'a.jpg') == image_seed(0, 'a.jpg')
    assert len({image_seed(run, name) for run in range(3) for name in ('a.jpg', 'b.jpg')}) == 6
    assert 0 <= image_seed(0, 'a.jpg') < 2**63
