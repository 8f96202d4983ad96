"""Features of the views of an image."""

import pytest
import torch

from reprefine.methods.dvt.stage1.features import extract_features
from reprefine.methods.dvt.stage1.views import draw_views, prepare_image, render_view

from .test_views import MEAN, STD, random_image


class PatchMeans(torch.nn.Module):
    """A backbone whose features are the mean colours of the patches."""

    def __init__(self, with_class_token=False):
        super().__init__()
        self.with_class_token, self.batch_sizes = with_class_token, []

    def forward(self, x):
        self.batch_sizes.append(len(x))
        maps = torch.nn.functional.avg_pool2d(x, 8)
        return ((maps, x.mean((2, 3))) if self.with_class_token else maps,)


@pytest.mark.parametrize('with_class_token', [False, True])
def test_features_are_those_of_each_view(with_class_token):
    image = prepare_image(random_image(), (48, 64), MEAN, STD)
    views = draw_views(6, (48, 64), 8, 8, seed=0)
    backbone = PatchMeans(with_class_token)
    features = extract_features(backbone, image, views.boxes, batch_size=3)
    assert backbone.batch_sizes == [3, 3, 1]
    assert features.shape == (7, 6, 8, 3)
    for view, box in enumerate(views.boxes):
        rendered = render_view(image, box)
        assert torch.allclose(features[view, 2, 5], rendered[:, 16:24, 40:48].mean((1, 2)), atol=1e-5)
    half = extract_features(backbone, image, views.boxes, dtype=torch.bfloat16, storage='cpu')
    assert half.dtype == torch.bfloat16
    assert (half.float() - features).abs().max() < 0.02
