"""The denoiser against explicit sums, its position embeddings and its variants."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.dvt.denoiser.network import FeatureDenoiser, resize_positions


def perturbed(module: nn.Module) -> nn.Module:
    """Add noise to all weights, since norms and biases are initialised to 1 and 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def maps(channels: int, rows: int, columns: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, rows, columns, generator=torch.Generator().manual_seed(1))


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight + bias


def explicit_block(x, w, heads):
    """One pre-norm block in float64, attention as sums over tokens."""
    batch, tokens, channels = x.shape
    y = layer_norm(x, w['norm1.weight'], w['norm1.bias'])
    qkv = torch.einsum('btc,dc->btd', y, w['attn.qkv.weight']) + w['attn.qkv.bias']
    q, k, v = qkv.reshape(batch, tokens, 3, heads, channels // heads).unbind(2)
    attention = (torch.einsum('bihd,bjhd->bhij', q, k) / math.sqrt(channels // heads)).softmax(-1)
    mixed = torch.einsum('bhij,bjhd->bihd', attention, v).reshape(batch, tokens, channels)
    x = x + torch.einsum('btc,dc->btd', mixed, w['attn.proj.weight']) + w['attn.proj.bias']
    y = layer_norm(x, w['norm2.weight'], w['norm2.bias'])
    hidden = torch.einsum('btc,dc->btd', y, w['mlp.fc1.weight']) + w['mlp.fc1.bias']
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + torch.einsum('btc,dc->btd', hidden, w['mlp.fc2.weight']) + w['mlp.fc2.bias']


@pytest.mark.parametrize('num_blocks', [1, 2])
def test_block_equals_explicit_sums(num_blocks):
    model = perturbed(FeatureDenoiser(128, grid=(3, 5), num_blocks=num_blocks))
    x = maps(128, 3, 5)
    weights = {name: value.double() for name, value in model.state_dict().items()}
    tokens = x.double().permute(0, 2, 3, 1).reshape(2, 15, 128) + weights['pos_embed']
    for index in range(num_blocks):
        prefix = f'blocks.{index}.'
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        tokens = explicit_block(tokens, own, heads=2)
    expected = tokens.reshape(2, 3, 5, 128).permute(0, 3, 1, 2)
    assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-4)


def test_features_of_the_magnitude_of_the_epsilon_of_the_norms():
    """Released weights were trained with the epsilon of timm's ViTs, 1e-6, not with PyTorch's 1e-5."""
    model = perturbed(FeatureDenoiser(128, grid=(3, 5), pos_embed=False))
    x = 1e-3 * maps(128, 3, 5)
    weights = {name.removeprefix('blocks.0.'): value.double() for name, value in model.state_dict().items()}
    expected = explicit_block(x.double().flatten(2).transpose(1, 2), weights, heads=2)
    assert_close(model(x).double().flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-4)


def test_number_of_parameters_of_vit_base():
    model = FeatureDenoiser(768, grid=37)
    assert sum(p.numel() for p in model.parameters()) == 8_139_264
    assert sum(p.numel() for p in model.blocks.parameters()) == 7_087_872
    assert model.pos_embed.numel() == 1_051_392


def test_initialisation():
    torch.manual_seed(0)
    model = FeatureDenoiser(768, grid=16)
    bound = 768**-0.5  # of PyTorch's uniform initialisation
    weight = model.blocks[0].attn.qkv.weight.detach()
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert model.pos_embed.detach().std() == pytest.approx(0.02, rel=0.02)


def test_positions_of_the_stored_grid_are_the_table_itself():
    table = torch.randn(1, 25, 8)
    assert resize_positions(table, (5, 5), (5, 5)) is table


def test_positions_of_another_grid_are_bicubic_and_antialiased():
    table = torch.randn(1, 25, 8, dtype=torch.float64).to(torch.bfloat16)
    image = table.float().reshape(1, 5, 5, 8).permute(0, 3, 1, 2)
    for grid in ((4, 6), (2, 2), (9, 3)):
        expected = F.interpolate(image, size=grid, mode='bicubic', antialias=True, align_corners=False)
        resized = resize_positions(table, (5, 5), grid)
        assert resized.dtype == torch.bfloat16
        assert_close(resized, expected.permute(0, 2, 3, 1).reshape(1, -1, 8).to(torch.bfloat16), rtol=0, atol=0)


def test_a_grid_of_equal_size_and_other_shape_is_resampled():
    table = torch.randn(1, 16, 4)
    assert not torch.equal(resize_positions(table, (4, 4), (2, 8)), table)


def test_position_embeddings_of_a_grid_that_is_not_square():
    model = perturbed(FeatureDenoiser(64, grid=(2, 6)))
    flat = maps(64, 2, 6)
    tokens = flat.flatten(2).transpose(1, 2) + model.pos_embed
    assert_close(model(flat), model.blocks(tokens).transpose(1, 2).reshape(2, 64, 2, 6))
    # Embeddings that vary along the columns only do so on any grid.
    with torch.no_grad():
        model.pos_embed.copy_(torch.arange(6.0).repeat(2)[None, :, None].expand(1, 12, 64))
    resized = resize_positions(model.pos_embed, model.grid, (4, 3)).reshape(4, 3, 64)
    assert_close(resized, resized[:1].expand(4, 3, 64), rtol=0, atol=1e-5)
    assert (resized[0, 1:] > resized[0, :-1]).all()


def test_without_position_embeddings_the_output_is_permutation_equivariant():
    x = maps(64, 3, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))

    def shuffled(features):
        return features.flatten(2)[..., order].reshape(features.shape)

    without = perturbed(FeatureDenoiser(64, 3, pos_embed=False))
    assert without.pos_embed is None
    assert_close(without(shuffled(x)), shuffled(without(x)), rtol=1e-4, atol=1e-5)
    with_positions = perturbed(FeatureDenoiser(64, 3))
    assert (with_positions(shuffled(x)) - shuffled(with_positions(x))).abs().max() > 0.1


@pytest.mark.parametrize(('arch', 'radius'), [('conv1x1', 0), ('conv3x3', 3)])
def test_receptive_field_and_widths_of_convolutions(arch, radius):
    model = FeatureDenoiser(64, arch=arch)
    assert [tuple(conv.weight.shape[:2]) for conv in model.convs if hasattr(conv, 'weight')] == [
        (32, 64),
        (32, 32),
        (64, 32),
    ]
    x = maps(64, 9, 9, batch=1)
    changed = x.clone()
    changed[..., 4, 4] += 10
    rows, columns = (model(changed) - model(x)).abs().sum((0, 1)).nonzero().T
    assert rows.unique().tolist() == columns.unique().tolist() == list(range(4 - radius, 5 + radius))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_type_of_the_features_is_kept(dtype):
    assert FeatureDenoiser(64, 4)(maps(64, 3, 3).to(dtype)).dtype == dtype


def test_invalid_arguments_raise():
    with pytest.raises(UserError, match='arch .mlp. is unknown; use block, conv1x1, conv3x3'):
        FeatureDenoiser(64, arch='mlp')
    with pytest.raises(UserError, match='100 channels are not a multiple of 3 heads'):
        FeatureDenoiser(100, num_heads=3)
    with pytest.raises(UserError, match='features have 32 channels, in_channels is 64'):
        FeatureDenoiser(64)(maps(32, 2, 2))
    assert not isinstance(FeatureDenoiser(64), BaseModule)  # only the neck is a BaseModule
