"""The composition of stage 1: its parts get the settings, and ``denoise_image``."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reprefine.engine.cli.launch import load_config
from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError
from reprefine.methods.dvt import Stage1, Stage1Config, denoise_image
from reprefine.methods.dvt.functional import view_coords
from reprefine.methods.dvt.stage1.views import prepare_image

from .small_images import NAMES, denoise, pairs


def test_api_from_a_file(root):
    torch.manual_seed(0)
    result = denoise_image(str(root / 'images' / NAMES[0]), str(root / 'config.py'))
    assert {name: tuple(value.shape) for name, value in result.items()} == dict.fromkeys(
        ('F', 'G', 'Delta', 'raw', 'subtracted'), (2, 3, 48)
    )
    assert torch.equal(result['subtracted'], result['raw'] - result['G'] - result['Delta'])
    assert result['G'].mean((0, 1)).abs().max() < 1e-4
    torch.manual_seed(0)
    stage1 = Stage1(Stage1Config.from_config(load_config(str(root / 'config.py')), solver='field'))
    file = root / 'images' / NAMES[0]
    named, pixels = denoise_image(file, stage1, name=NAMES[0]), denoise_image(read_image(file), stage1, name=NAMES[0])
    assert torch.equal(named['F'], pixels['F'])
    assert torch.equal(denoise_image(file, stage1)['F'], denoise_image(str(file), stage1, name='0.png')['F'])
    assert not torch.equal(named['F'], denoise_image(file, stage1)['F'])
    assert denoise(root, '--num', '1', solver='field') == 0
    assert np.allclose(pairs(root).denoised(NAMES[0]), named['F'].numpy(), atol=1e-5)
    with pytest.raises(UserError, match='has no stage1'):
        Stage1Config.from_config(type(load_config(str(root / 'config.py')))(dict(backbone={}, native={})))


class ConvBackbone(torch.nn.Module):
    """A backbone of one convolution that records the types of its outputs."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 16, 8)
        self.types = set()

    def forward(self, x):
        maps = self.conv(x)
        self.types.add(maps.dtype)
        return (maps,)


def small_stage1(**changes):
    torch.manual_seed(0)
    field = dict(iterations=4, batch_tokens=32, encoding=dict(n_levels=2, max_resolution=20))
    settings = dict(num_views=6, profile='cpu', field=field) | changes
    return Stage1(Stage1Config({}, (38, 50), [120.0] * 3, [60.0] * 3, **settings), backbone=ConvBackbone())


def test_settings_are_those_of_the_views_and_features():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    default, other = small_stage1(), small_stage1(coord_mode='center', resize_interpolation='bilinear', amp=True)
    for stage1, mode, interpolation in ((default, 'endpoint', 'bicubic'), (other, 'center', 'bilinear')):
        views = stage1.extractor.draw_views(stage1.solver.view_seed('a'))
        assert torch.equal(views.coords, view_coords(views.boxes, (38, 50), 16, 8, mode))
        assert torch.equal(
            stage1.extractor.prepare(image), prepare_image(image, (38, 50), [120.0] * 3, [60.0] * 3, interpolation)
        )
        assert torch.equal(stage1.extract(image, 'a')[1].boxes, views.boxes)
    assert (default.extractor.backbone.types, other.extractor.backbone.types) == ({torch.float32}, {torch.bfloat16})
    narrow = small_stage1(feature_dtype='float16')
    full, half = (stage1.extract(image, 'a')[0] for stage1 in (default, narrow))
    assert half.dtype == torch.float16
    assert torch.equal(full.half(), half)


def test_the_seed_of_the_run_is_that_of_the_closed_form():
    settings = Stage1Config({}, 32, [0] * 3, [1] * 3, seed=3)
    assert settings.closed_form_config.seed == 3
    assert replace(settings, closed_form=dict(seed=5)).closed_form_config.seed == 5


def test_recentering_moves_the_mean_of_the_artifact_to_the_semantics():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    default, moved = (
        denoise_image(image, small_stage1(solver='field', recenter=recenter)) for recenter in (False, True)
    )
    mean = default['G'].mean((0, 1))
    assert mean.abs().max() > 1e-3
    assert torch.allclose(moved['G'], default['G'] - mean, atol=1e-6)
    assert torch.allclose(moved['F'], default['F'] + mean, atol=1e-6)
