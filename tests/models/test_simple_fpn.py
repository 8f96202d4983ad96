import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reprefine.models.simple_fpn import LayerNorm2d, SimpleFPN, sincos_positions
from reprefine.models.timm_vit import TimmViT


@pytest.mark.parametrize('grid', [(8, 8), (6, 10), (7, 5)])
def test_levels_have_their_strides(grid):
    height, width = grid
    levels = SimpleFPN(16, 8)(torch.zeros(2, 16, *grid))
    sizes = [(4 * height, 4 * width), (2 * height, 2 * width), grid, (height // 2, width // 2)]
    sizes.append(tuple(-(-size // 2) for size in sizes[-1]))
    assert [level.shape for level in levels] == [(2, 8, *size) for size in sizes]


def test_the_last_feature_map_is_used_and_there_may_be_more_levels():
    torch.manual_seed(0)
    neck = SimpleFPN(16, 8, num_outs=6)
    maps = torch.randn(2, 1, 16, 8, 8)
    levels = neck(tuple(maps))
    assert len(levels) == 6
    assert all(torch.equal(a, b) for a, b in zip(levels, neck(maps[1]), strict=True))
    assert torch.equal(levels[4], levels[3][..., ::2, ::2])
    assert torch.equal(levels[5], levels[4][..., ::2, ::2])


def test_levels_equal_those_of_the_layers_of_vitdet():
    torch.manual_seed(0)
    neck = SimpleFPN(16, 8).eval()
    x = torch.randn(1, 16, 6, 6)
    first, norm, _, second = neck.scales[0]
    fine = F.gelu(norm(F.conv_transpose2d(x, first.weight, first.bias, stride=2)))
    fine = F.conv_transpose2d(fine, second.weight, second.bias, stride=2)
    for level, source in zip(neck(x), (fine, neck.scales[1](x), x, F.max_pool2d(x, 2)), strict=False):
        lateral, output = neck.levels[(fine.shape[2], 12, 6, 3).index(source.shape[2])]
        expected = lateral.norm(F.conv2d(source, lateral.conv.weight))
        expected = output.norm(F.conv2d(expected, output.conv.weight, padding=1))
        assert torch.allclose(level, expected, atol=1e-5)


def test_number_of_parameters():
    c, d = 768, 256
    scales = (4 * c * c // 2 + c // 2) + 2 * c // 2 + (4 * c * c // 8 + c // 4) + (4 * c * c // 2 + c // 2)
    levels = sum(k * d + 9 * d * d + 4 * d for k in (c // 4, c // 2, c, c))
    assert sum(p.numel() for p in SimpleFPN(c).parameters()) == scales + levels


def test_norm_is_over_channels():
    torch.manual_seed(0)
    norm = LayerNorm2d(6, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 4)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert torch.allclose(norm(x), expected, atol=1e-5)
    assert SimpleFPN(16).levels[0][0].norm.eps == 1e-6


def test_positions_equal_loops():
    table = sincos_positions(16, 3, 5)
    assert table.shape == (16, 3, 5)
    for row in range(3):
        for column in range(5):
            for i in range(4):
                frequency = 10000 ** (-i / 4)
                expected = [math.sin(column * frequency), math.cos(column * frequency)]
                expected += [math.sin(row * frequency), math.cos(row * frequency)]
                assert table[i::4, row, column].tolist() == pytest.approx(expected, abs=1e-6)


def test_positions_are_resampled_and_added():
    torch.manual_seed(0)
    plain, placed = SimpleFPN(16, 8), SimpleFPN(16, 8, position_grid=5)
    assert placed.state_dict().keys() == plain.state_dict().keys()
    placed.load_state_dict(plain.state_dict())
    x, table = torch.randn(1, 16, 5, 5), sincos_positions(16, 5, 5)
    assert all(torch.equal(a, b) for a, b in zip(placed(x), plain(x + table), strict=True))
    wide = torch.randn(1, 16, 4, 9)
    resized = F.interpolate(table[None], (4, 9), mode='bicubic')
    assert all(torch.equal(a, b) for a, b in zip(placed(wide), plain(wide + resized), strict=True))


def test_it_is_a_neck_of_a_vision_transformer():
    torch.manual_seed(0)
    args = dict(depth=1, embed_dim=32, num_heads=2)
    vit = TimmViT('vit_base_patch14_dinov2.lvd142m', model_args=args)
    with torch.no_grad():
        levels = SimpleFPN(32, 8)(vit(torch.randn(1, 3, 56, 84)))
    assert [84 / level.shape[3] for level in levels] == [3.5, 7, 14, 28, 42]
