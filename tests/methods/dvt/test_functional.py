"""Coordinates, crops, losses and schedules against explicit loops and formulas."""

import math

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from reprefine.methods.dvt import functional as dvt
from reprefine.methods.dvt.stage1.views import render_view

# top, left, height, width, flipped in an image of 60 x 90
BOXES = torch.tensor([[0, 0, 60, 90, 0], [5, 11, 20, 31, 0], [5, 11, 20, 31, 1], [37, 60, 23, 30, 1]])
SIZE, PATCH, STRIDE = (60, 90), 12, 8


@pytest.mark.parametrize('mode', ['endpoint', 'center'])
def test_coordinates_equal_an_explicit_loop(mode):
    """A non-square image, overlapping patches, crops of every kind."""
    rows, columns = (60 - 12) // 8 + 1, (90 - 12) // 8 + 1
    coords = dvt.view_coords(BOXES, SIZE, PATCH, STRIDE, mode)
    assert coords.shape == (4, rows, columns, 2)
    for view, (top, left, height, width, flipped) in enumerate(BOXES.tolist()):
        for r in range(rows):
            for c in range(columns):
                column = columns - 1 - c if flipped else c
                if mode == 'endpoint':
                    y, x = r / (rows - 1), column / (columns - 1)
                else:
                    y, x = (r * 8 + 6) / 60, (90 - (c * 8 + 6) if flipped else c * 8 + 6) / 90
                expected = left / 90 + width / 90 * x, top / 60 + height / 60 * y
                assert coords[view, r, c].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(('patch', 'stride'), [(12, 8), (16, 16), (14, 7), (9, 5)])
def test_center_coordinates_are_those_of_the_patches_of_rendered_views(patch, stride):
    """In an image of its own coordinates the mean of a patch is the coordinate of its centre."""
    height, width = SIZE
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    image = torch.stack([x / width, y / height, torch.zeros(SIZE)])
    coords = dvt.view_coords(BOXES, SIZE, patch, stride, 'center')
    for view, box in enumerate(BOXES):
        means = torch.nn.functional.avg_pool2d(render_view(image, box)[None], patch, stride)[0, :2].movedim(0, -1)
        assert (coords[view] - means).abs().max() < 2e-3  # a thousandth of the image is a tenth of a pixel


def test_flipping_mirrors_within_the_view():
    unflipped, flipped = dvt.view_coords(BOXES[1:3], SIZE, PATCH, STRIDE)
    assert torch.equal(flipped.flip(1), unflipped)
    low, high = unflipped[..., 0].min(), unflipped[..., 0].max()
    assert torch.allclose(flipped[..., 0], low + high - unflipped[..., 0], atol=1e-6)
    assert torch.equal(flipped[..., 1], unflipped[..., 1])


def test_the_whole_image_is_a_linspace():
    coords = dvt.view_coords(dvt.whole_view((518, 518)), (518, 518), 14, 14)[0]
    line = torch.linspace(0, 1, 37)
    assert torch.allclose(coords[..., 0], line.expand(37, 37), atol=1e-6)
    assert torch.allclose(coords[..., 1], line[:, None].expand(37, 37), atol=1e-6)


def test_a_single_row_starts_where_the_crop_does():
    coords = dvt.view_coords(torch.tensor([[3, 0, 7, 40, 0]]), (14, 40), 14, 13)
    assert coords.shape == (1, 1, 3, 2)
    assert coords[0, 0, :, 1].tolist() == pytest.approx([3 / 14] * 3)
    assert dvt.artifact_positions((1, 3))[0].tolist() == [[-1, -1], [0, -1], [1, -1]]


def test_the_artifact_at_its_nodes_is_its_table():
    table = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    positions = dvt.artifact_positions((5, 7))
    assert positions[1, 2].tolist() == pytest.approx([-1 + 4 / 6, -1 + 2 / 4])
    assert torch.allclose(dvt.sample_artifact(table, positions), table, atol=1e-5)
    between = dvt.sample_artifact(table, (positions[2, 3] + positions[2, 4]) / 2)
    assert torch.allclose(between, (table[2, 3] + table[2, 4]) / 2, atol=1e-5)


def scalar_crop(draws, height, width):
    """The rule for one view in a loop over the tries."""
    for attempt in range(dvt.TRIES):
        area = height * width * (0.1 + 0.4 * draws[2 * attempt])
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draws[2 * attempt + 1])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(draws[-3] * (height - h + 1)), int(draws[-2] * (width - w + 1)), h, w
    return None


@pytest.mark.parametrize('size', [(60, 90), (37, 120), (128, 128)])
def test_crops_equal_a_scalar_loop(size):
    draws = torch.rand(300, dvt.DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    views = dvt.crop_views(draws, size)
    expected = [scalar_crop(row.tolist(), *size) for row in draws]
    assert sum(view is not None for view in expected) > 250
    for view, wanted, row in zip(views.tolist(), expected, draws, strict=True):
        assert wanted is None or tuple(view[:4]) == wanted
        assert view[4] == (row[-1] < 0.5)
        assert view[0] + view[2] <= size[0]
        assert view[1] + view[3] <= size[1]


@pytest.mark.parametrize('size', [(10, 1000), (1000, 10)])
def test_the_fallback_crop_is_that_of_torchvision(size):
    draws = torch.rand(4, dvt.DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = RandomResizedCrop.get_params(torch.zeros(3, *size), [0.1, 0.5], [3 / 4, 4 / 3])
    assert dvt.crop_views(draws, size)[:, :4].tolist() == [list(expected)] * 4


def test_crops_are_distributed_as_those_of_torchvision():
    torch.manual_seed(0)
    image = torch.zeros(3, 120, 160)
    expected = torch.tensor([RandomResizedCrop.get_params(image, [0.1, 0.5], [3 / 4, 4 / 3]) for _ in range(4000)])
    draws = torch.rand(4000, dvt.DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    views = dvt.crop_views(draws, (120, 160))
    difference = (views[:, :4].double().mean(0) - expected.double().mean(0)).abs()
    error = (2 * expected.double().var(0) / 4000).sqrt()
    assert (difference < 4 * error).all()
    assert abs(views[:, 4].double().mean() - 0.5) < 0.04


def test_losses_equal_explicit_sums_in_float64():
    generator = torch.Generator().manual_seed(0)
    raw, semantics, artifact, delta = torch.randn(4, 2, 6, 5, generator=generator, dtype=torch.float64)
    explained = semantics + artifact
    for image in range(2):
        total, cosine, residual, sparse = 0.0, 0.0, 0.0, 0.0
        for n in range(6):
            y, p, d = raw[image, n], explained[image, n], delta[image, n]
            cosine += float((p @ y) / (p.norm() * y.norm()))
            for c in range(5):
                total += float((p[c] - y[c]) ** 2)
                residual += float((d[c] - (y[c] - p[c])) ** 2)
                sparse += float(abs(d[c]))
        assert dvt.distance_loss(explained, raw)[image] == pytest.approx(total / 30 + 1 - cosine / 6, rel=1e-6)
        assert dvt.residual_loss(delta, raw, explained)[image] == pytest.approx(residual / 30, rel=1e-6)
        assert dvt.sparsity_loss(delta)[image] == pytest.approx(sparse / 30, rel=1e-6)


@pytest.mark.parametrize(
    ('step', 'rate'), [(0, 1e-4), (1000, 5.05e-3), (2000, 1e-2), (5000, 3.3e-3), (10000, 1.089e-3), (18000, 1.18592e-4)]
)
def test_learning_rate_of_the_first_release(step, rate):
    assert dvt.paper_lr(step, 20000) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(
    ('step', 'rate'), [(0, 0), (1250, 5e-3), (2500, 1e-2), (12500, 6.2814e-3), (20000, 2.0528e-3), (24999, 1e-3)]
)
def test_learning_rate_of_the_newer_code(step, rate):
    assert dvt.head_lr(step, 25000) == pytest.approx(rate, rel=2e-5)


def test_learning_rates_by_the_formulas():
    assert dvt.head_lr(12500, 25000) == pytest.approx(
        0.001 + 0.009 * 0.5 * (1 + math.cos(math.pi * 10000 / 22500)), rel=1e-9
    )
    assert dvt.paper_lr(18000, 20000) == pytest.approx(0.01 * 0.33**4, rel=1e-9)


def test_recentering_keeps_the_sum():
    semantics, artifact = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    recentered = dvt.recentered(semantics, artifact)
    assert torch.allclose(recentered[0] + recentered[1], semantics + artifact, atol=1e-6)
    assert recentered[1].mean((0, 1)).abs().max() < 1e-6
