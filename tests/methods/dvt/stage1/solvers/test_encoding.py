"""The hash grid against its published table and a scalar loop; the arguments of the tiny-cuda-nn backend."""

import math
import sys
import types

import numpy as np
import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.methods.dvt.stage1.solvers.encoding import HashGrid, build_encoding

RESOLUTIONS = [16, 22, 28, 37, 49, 65, 85, 112, 148, 195, 257, 338, 446, 589, 777, 1025]
SIZES = [256, 488, 784, 1376, 2408, 4232, 7232, 12544, 21904, 38032, 66056, 114248, 198920, 346928, 603736, 1048576]
SMALL = dict(n_levels=4, n_features=3, log2_hashmap_size=9, base_resolution=5, max_resolution=61)


def grid(num_images=1, **settings):
    """A hash grid with parameters of magnitude 1."""
    encoding = HashGrid(num_images=num_images, **{**SMALL, **settings})
    with torch.no_grad():
        encoding.table.normal_(generator=torch.Generator().manual_seed(0))
    return encoding


def points(count=40):
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return torch.cat([corners, torch.rand(count - 4, 2, generator=torch.Generator().manual_seed(1))])[None]


def scalar_encode(table, x, y, n_levels, n_features, log2_hashmap_size, base_resolution, max_resolution):
    """Encode one point by the formulas in 32-bit arithmetic."""
    b = np.float32(math.exp((math.log(max_resolution) - math.log(base_resolution)) / (n_levels - 1)))
    offset, output = 0, []
    for level in range(n_levels):
        scale = np.float32(np.exp2(np.float32(level) * np.log2(b)) * np.float32(base_resolution) - np.float32(1))
        res = math.ceil(scale) + 1
        size = min((res * res + 7) // 8 * 8, 2**log2_hashmap_size)
        px, py = (np.float32(scale * np.float32(value)) + np.float32(0.5) for value in (x, y))
        cx, cy = int(px), int(py)
        value = np.zeros(n_features)
        for dx in (0, 1):
            for dy in (0, 1):
                weight = (px - cx if dx else 1 - (px - cx)) * (py - cy if dy else 1 - (py - cy))
                column, row = cx + dx, cy + dy
                index = column + row * res if res * res <= size else column ^ (row * 2654435761 % 2**32)
                start = (offset + index % size) * n_features
                value += float(weight) * table[start : start + n_features]
        output += value.tolist()
        offset += size
    return output


def test_the_published_table():
    encoding = HashGrid()
    assert encoding.resolutions == RESOLUTIONS
    assert encoding.sizes == SIZES
    assert encoding.table.numel() == 2_467_720 * 8
    assert encoding.hashed == [15]
    ten = HashGrid(n_levels=10)
    assert ten.resolutions == [16, 26, 41, 64, 102, 162, 256, 407, 646, 1024]
    assert (sum(ten.sizes), ten.hashed) == (1_740_464, [])


def test_forty_points_equal_a_scalar_loop():
    encoding = grid()
    assert len(encoding.hashed) == 2
    encoded = encoding(points())[0]
    table = encoding.table[0].detach().double().numpy()
    for row, (x, y) in zip(encoded.tolist(), points()[0].tolist(), strict=True):
        assert row == pytest.approx(scalar_encode(table, x, y, **SMALL), abs=1e-5)


def test_the_right_border_wraps_or_clamps():
    """At x = 1 the right neighbour of a node is the first of the next row, or the node itself."""
    wrap = HashGrid(resolutions=[5], n_features=1)
    clamp = HashGrid(resolutions=[5], n_features=1, boundary='clamp')
    for encoding in (wrap, clamp):
        with torch.no_grad():
            encoding.table.copy_(torch.arange(32.0)[None])
    point = torch.tensor([[[1.0, 0.5]]])  # between nodes 4 and 5 of rows 2 and 3
    assert wrap(point).item() == pytest.approx((14 + 15 + 19 + 20) / 4)
    assert clamp(point).item() == pytest.approx((14 + 14 + 19 + 19) / 4)


def test_indices_stay_in_their_level_and_weights_sum_to_one():
    encoding = HashGrid()
    indices, weights = encoding.corners(points(200)[0])
    offsets = np.cumsum([0, *SIZES])
    for level in range(16):
        assert indices[:, level].min() >= offsets[level]
        assert indices[:, level].max() < offsets[level + 1]
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-6)
    constant = grid()
    torch.nn.init.constant_(constant.table, 3.25)
    assert torch.allclose(constant(points()), torch.tensor(3.25), atol=1e-5)


def test_linear_in_the_table():
    one, two, both = grid(), grid(), grid()
    with torch.no_grad():
        two.table.normal_(generator=torch.Generator().manual_seed(5))
        both.table.copy_(2 * one.table - 3 * two.table)
    assert torch.allclose(both(points()), 2 * one(points()) - 3 * two(points()), atol=1e-5)


def test_gradient_of_the_table():
    encoding = HashGrid(n_levels=2, n_features=2, base_resolution=3, max_resolution=6, log2_hashmap_size=4).double()
    encoding.table.data.normal_(generator=torch.Generator().manual_seed(0))
    assert encoding.hashed == [1]
    coords = points(12)

    def encode(table):
        return torch.func.functional_call(encoding, {'table': table}, coords)

    assert torch.autograd.gradcheck(encode, encoding.table.detach().clone().requires_grad_())


def test_points_and_images_are_independent():
    stack = grid(num_images=3)
    coords = torch.stack([points()[0].roll(shift, 0) for shift in range(3)])
    together = stack(coords)
    for image in range(3):
        alone = grid()
        alone.table.data.copy_(stack.table[image : image + 1])
        halves = [alone(part[None]) for part in coords[image].split(17)]
        assert torch.equal(together[image], torch.cat(halves, 1)[0])


def test_initialisation_depends_on_the_seed():
    encoding = HashGrid(num_images=2, **SMALL)
    for image, seed in enumerate((3, 4)):
        encoding.reset(image, torch.Generator().manual_seed(seed))
    again = HashGrid(**SMALL)
    again.reset(0, torch.Generator().manual_seed(4))
    assert torch.equal(encoding.table[1], again.table[0])
    assert not torch.equal(encoding.table[0], encoding.table[1])
    assert 0.99e-4 < encoding.table.abs().max() <= 1e-4


def test_invalid_arguments_and_missing_tiny_cuda_nn_raise():
    with pytest.raises(UserError, match="backend 'tiny-cuda-nn' is not usable here .*set backend='torch'"):
        build_encoding(backend='tiny-cuda-nn')
    with pytest.raises(UserError, match="encoding backend 'tcnn' is unknown"):
        build_encoding(backend='tcnn')
    with pytest.raises(UserError, match='boundary'):
        build_encoding(boundary='mirror')
    with pytest.raises(UserError, match='levels'):
        build_encoding(levels=3)


def test_tiny_cuda_nn_gets_the_same_grid(monkeypatch):
    calls = []

    class Encoding(torch.nn.Module):
        def __init__(self, n_input_dims, encoding_config, dtype):
            super().__init__()
            calls.append((n_input_dims, encoding_config, dtype))
            self.params = torch.nn.Parameter(torch.zeros(10))

        def forward(self, coords):
            return coords.sum(-1, keepdim=True) + self.params[0]

    monkeypatch.setitem(sys.modules, 'tinycudann', types.SimpleNamespace(Encoding=Encoding))
    encoding = build_encoding(2, backend='tiny-cuda-nn')
    dims, config, dtype = calls[0]
    assert (dims, dtype, len(calls)) == (2, torch.float32, 2)
    assert config['per_level_scale'] == pytest.approx(1.3195079, abs=1e-7)
    assert [config[name] for name in ('n_levels', 'n_features_per_level', 'base_resolution')] == [16, 8, 16]
    encoding.reset(1, torch.Generator().manual_seed(0))
    output = encoding(torch.ones(2, 3, 2))
    assert output.shape == (2, 3, 1)
    assert torch.equal(output[0], torch.full((3, 1), 2.0))
    assert 0 < (output[1] - 2).abs().max() < 1.01e-4
    assert torch.equal(encoding(torch.ones(1, 3, 2), image=1), output[1:])


def test_the_scales_keep_their_precision_when_the_grid_is_cast():
    plain, cast = HashGrid(), HashGrid().bfloat16()
    assert torch.equal(plain.scale, cast.scale)
