"""SE, GE, CBAM, ELA and MCA beside closed forms, brute force and timm, and their parameters."""

import numpy as np
import pytest
import torch
from timm.layers import SEModule
from timm.layers.cbam import CbamModule
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr.attention_blocks import CBAMBlock, ELABlock, GEBlock, MCABlock, SEBlock
from reprefine.methods.pddr.attention_blocks.functional import axis_means, mean_and_deviation, mean_and_skewness

BLOCKS = {
    'se': SEBlock,
    'ge': GEBlock,
    'cbam': CBAMBlock,
    'ela-t': lambda channels: ELABlock(channels, 'T'),
    'ela-b': ELABlock,
    'ela-s': lambda channels: ELABlock(channels, 'S'),
    'ela-l': lambda channels: ELABlock(channels, 'L'),
    'mca-e': MCABlock,
    'mca-s': lambda channels: MCABlock(channels, 'S'),
}


def randomised(block: nn.Module) -> nn.Module:
    """Give a block, and the statistics it keeps, values that nothing is special about; evaluation, float64."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in (*block.named_parameters(), *block.named_buffers()):
        if tensor.is_floating_point():
            tensor.data.normal_(generator=generator)
            if name.endswith('running_var'):
                tensor.data.abs_().add_(0.1)
    return block.double().eval()


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@torch.no_grad()
def test_se_is_that_of_timm():
    actual, reference = randomised(SEBlock(64)), SEModule(64, rd_channels=4).double()
    for name in ('fc1', 'fc2'):
        layer = getattr(actual, name)
        getattr(reference, name).weight.copy_(layer.weight[..., None, None])
        getattr(reference, name).bias.copy_(layer.bias)
    x = image(3, 64, 5, 7)
    torch.testing.assert_close(actual(x), reference(x))


def test_se_hidden_width_is_not_rounded():
    assert SEBlock(64).fc1.out_features == 4


@torch.no_grad()
@pytest.mark.parametrize(('extent', 'size'), [(2, (8, 6)), (4, (16, 12)), (8, (40, 24))])
def test_ge_gathers_with_strided_convolutions_activated_in_between(extent, size):
    block, x = randomised(GEBlock(16, extent)), image(2, 16, *size)
    gathered = x
    for index, (conv, norm) in enumerate(block.steps):
        gathered = gathered.relu() if index else gathered
        gathered = nn.functional.conv2d(gathered, conv.weight, stride=2, padding=1, groups=16)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        gathered = (gathered - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]
    assert gathered.shape[2:] == (size[0] // extent, size[1] // extent)
    spread = gathered.repeat_interleave(extent, 2).repeat_interleave(extent, 3)
    torch.testing.assert_close(block(x), x * spread.sigmoid())


@torch.no_grad()
@pytest.mark.parametrize(
    ('size', 'executed'),
    [((7, 7), 2), ((8, 8), 2), ((17, 17), 3), ((7, 30), 2), ((30, 18), 3), ((9, 14), 2), ((3, 9), 0), ((4, 4), 1)],
)
def test_ge_leaves_out_steps_that_end_in_one_position(size, executed):
    block = randomised(GEBlock(8))
    calls = []
    for index, step in enumerate(block.steps):
        step.register_forward_hook(lambda *_, index=index: calls.append(index))
    x = image(2, 8, *size)
    y = block(x)
    assert calls == list(range(executed))
    gathered = x
    for index, step in enumerate(block.steps[:executed]):
        gathered = step(gathered).relu() if index < 2 else step(gathered)
    rows = torch.arange(size[0]) * gathered.shape[2] // size[0]
    columns = torch.arange(size[1]) * gathered.shape[3] // size[1]
    torch.testing.assert_close(y, x * gathered[:, :, rows][..., columns].sigmoid())


@torch.no_grad()
@pytest.mark.parametrize('extent', [0, 2, 4])
def test_ge_without_parameters_averages_windows(extent):
    block, x = GEBlock(4, extent, parametric=False).double(), image(2, 4, 8, 12)
    side_y, side_x = (extent, extent) if extent else (8, 12)
    means = x.reshape(2, 4, 8 // side_y, side_y, 12 // side_x, side_x).mean((3, 5))
    spread = means.repeat_interleave(side_y, 2).repeat_interleave(side_x, 3)
    torch.testing.assert_close(block(x), x * spread.sigmoid())
    assert parameters(block) == 0


@torch.no_grad()
def test_ge_over_the_whole_map_weighs_every_position():
    block, x = randomised(GEBlock(4, 0, spatial_size=(5, 6))), image(2, 4, 5, 6)
    conv, norm = block.steps[0]
    summed = (x * conv.weight[:, 0]).sum((2, 3))
    logits = norm(summed[..., None, None])
    torch.testing.assert_close(block(x), x * logits.sigmoid())


@torch.no_grad()
def test_ge_with_mlp():
    block, x = randomised(GEBlock(32, 0, parametric=False, reduction=16)), image(2, 32, 4, 4)
    inner, _, outer = block.mlp
    logits = x.mean((2, 3)) @ inner.weight[..., 0, 0].T
    logits = logits.relu() @ outer.weight[..., 0, 0].T
    torch.testing.assert_close(block(x), x * logits.sigmoid()[..., None, None])


@torch.no_grad()
def test_cbam_is_that_of_timm():
    actual, reference = randomised(CBAMBlock(64)), CbamModule(64, rd_channels=4, mlp_bias=True).double().eval()
    for reference_fc, actual_fc in ((reference.channel.fc1, actual.mlp[0]), (reference.channel.fc2, actual.mlp[2])):
        reference_fc.weight.copy_(actual_fc.weight[..., None, None])
        reference_fc.bias.copy_(actual_fc.bias)
    reference.spatial.conv.conv.weight.copy_(actual.conv.weight.flip(1))  # timm puts the mean first
    reference.spatial.conv.bn.load_state_dict(actual.norm.state_dict())
    x = image(3, 64, 9, 6)
    torch.testing.assert_close(actual(x), reference(x))


@torch.no_grad()
@pytest.mark.parametrize(('variant', 'group_width', 'norm_groups'), [('T', 1, 32), ('B', 1, 16), ('S', 8, 16)])
def test_ela_by_brute_force(variant, group_width, norm_groups):
    block, x = randomised(ELABlock(64, variant)), image(2, 64, 5, 7).numpy()
    weight = block.conv.weight.numpy()

    def gate(means: np.ndarray) -> np.ndarray:
        pad = weight.shape[2] // 2
        padded = np.pad(means, ((0, 0), (0, 0), (pad, pad)))
        out = np.zeros_like(means)
        for o in range(64):
            first = o // group_width * group_width
            for position in range(means.shape[2]):
                window = padded[:, first : first + group_width, position : position + 2 * pad + 1]
                out[:, o, position] = (window * weight[o]).sum((1, 2))
        grouped = out.reshape(2, norm_groups, -1)
        normed = (grouped - grouped.mean(2, keepdims=True)) / np.sqrt(grouped.var(2, keepdims=True) + block.norm.eps)
        scale, shift = block.norm.weight.numpy()[:, None], block.norm.bias.numpy()[:, None]
        return sigmoid(normed.reshape(out.shape) * scale + shift)

    expected = x * gate(x.mean(3))[..., None] * gate(x.mean(2))[:, :, None]
    np.testing.assert_allclose(block(torch.from_numpy(x)).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_ela_has_one_convolution_and_one_normalisation_for_both_axes():
    assert [type(layer) for layer in ELABlock(64).children()] == [nn.Conv1d, nn.GroupNorm]
    rows, columns = axis_means(image(2, 64, 5, 7))
    assert (rows.shape, columns.shape) == ((2, 64, 5), (2, 64, 7))


@torch.no_grad()
@pytest.mark.parametrize(('variant', 'moments'), [('E', mean_and_deviation), ('S', mean_and_skewness)])
def test_mca_mixes_the_moments_of_neighbouring_channels(variant, moments):
    block, x = randomised(MCABlock(6, variant)), image(2, 6, 4, 5)
    weight, bias = block.conv.weight[0], block.conv.bias
    pad = weight.shape[1] // 2
    padded = nn.functional.pad(moments(x), (pad, pad))
    logits = torch.stack([(padded[..., c : c + 2 * pad + 1] * weight).sum((1, 2)) for c in range(6)], 1) + bias
    torch.testing.assert_close(block(x), x * logits.sigmoid()[..., None, None])


def test_moments_of_a_known_distribution():
    # Half the positions 0, a quarter 2, a quarter 6: mean 2, variance 6, third central moment 12.
    x = torch.tensor([0.0, 0, 0, 0, 2, 2, 6, 6], dtype=torch.float64).reshape(1, 1, 2, 4)
    torch.testing.assert_close(mean_and_deviation(x)[0, :, 0], torch.tensor([2.0, 6**0.5], dtype=torch.float64))
    skewness = mean_and_skewness(x)[0, 1, 0].item()
    assert skewness == pytest.approx(12 / (6**1.5 + 1e-5), rel=1e-9)


@pytest.mark.parametrize('moments', [mean_and_deviation, mean_and_skewness])
def test_moments_of_a_constant_map_have_finite_gradients(moments):
    x = torch.full((1, 2, 3, 3), 0.5, requires_grad=True)
    moments(x).sum().backward()
    assert x.grad.isfinite().all()


# Parameters of a block of 64 channels, by hand.
COUNTS = {
    'se': 2 * 64 * 4 + 4 + 64,
    'ge': 33 * 64,
    'cbam': 2 * 64 * 4 + 4 + 64 + 98 + 2,
    'ela-t': 7 * 64,
    'ela-b': 9 * 64,
    'ela-s': 8 * 5 * 64 + 2 * 64,
    'ela-l': 8 * 7 * 64 + 2 * 64,
    'mca-e': 7,
    'mca-s': 15,
}


@pytest.mark.parametrize('name', BLOCKS)
def test_parameters_of_one_block(name):
    assert parameters(BLOCKS[name](64)) == COUNTS[name]


@pytest.mark.parametrize('name', BLOCKS)
def test_every_block_keeps_the_shape_and_trains(name):
    block = BLOCKS[name](64)
    x = torch.randn(2, 64, 18, 20, requires_grad=True)
    y = block(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in (x, *block.parameters()))


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: ELABlock(48, 'T'), 'in_channels=48 is not a multiple of 32'),
        (lambda: ELABlock(64, 'X'), "variant='X' of ELA is unknown"),
        (lambda: MCABlock(64, 'V'), 'use one of E, S'),
        (lambda: GEBlock(64, 3), 'extent=3 of GE is unknown'),
        (lambda: GEBlock(64, 0), 'spatial_size'),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
