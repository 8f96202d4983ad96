"""Parameters and FLOPs of the ResNets with comparison blocks, to the digit."""

import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDResNet
from reprefine.methods.pddr.cost import count_flops
from tests.configs.brief import ROOT

from ..toys import image, randomise

FOLDER = ROOT / 'configs/pddr/classification'
COUNTS = {
    (18, 'se'): 11_778_592,
    (18, 'ge'): 11_752_872,
    (18, 'cbam'): 11_779_392,
    (18, 'ela'): 11_706_792,
    (18, 'mca'): 11_689_568,
    (50, 'se'): 28_088_024,
    (50, 'ge'): 26_055_464,
    (50, 'cbam'): 28_089_624,
    (50, 'ela'): 25_692_968,
    (50, 'mca'): 25_557_144,
}
FLOPS = {
    (18, 'se'): 1_823_016_568,
    (18, 'ge'): 1_824_974_464,
    (50, 'se'): 4_129_959_344,
    (50, 'ge'): 4_142_511_872,
    (18, 'cbam'): 1_823_184_088 + 1_505_280,  # twice the elements of the maps that its two poolings read
    (50, 'cbam'): 4_128_342_572 + 11_038_720,
}


def network(depth: int, block: str) -> torch.nn.Module:
    return build_model(load_config(str(FOLDER / f'resnet{depth}-{block}_8xb32-wide-crop_in1k.py'))).eval()


@pytest.mark.parametrize(('depth', 'block'), COUNTS)
def test_parameters_and_published_flops(depth, block):
    model = network(depth, block)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[depth, block]
    if expected := FLOPS.get((depth, block)):
        assert count_flops(model).published == expected


def test_mca_with_skewness_has_eight_more_parameters_a_block():
    cfg = load_config(str(FOLDER / 'resnet18-mca_8xb32-wide-crop_in1k.py'), {'model.backbone.attention.variant': 'S'})
    assert sum(parameter.numel() for parameter in build_model(cfg).parameters()) == 11_689_632


def test_ac_is_pd_a_with_two_branches():
    convs = [module for module in network(18, 'ac').modules() if isinstance(module, PDConv)]
    assert len(convs) == 16
    assert {(conv.mode, conv.branches) for conv in convs} == {('A', ('standard1', 'skeleton'))}


@torch.no_grad()
def test_the_block_ends_the_residual_branch():
    model = network(18, 'se')
    block = model.backbone.layer2[0].double()
    x = torch.randn(2, 64, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    branch = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    expected = (block.attention(branch) + block.downsample(x)).relu()
    torch.testing.assert_close(block(x), expected)


PLAIN = {18: 11_689_512, 50: 25_557_032}
# ELA-B has 9 parameters a channel; widths of the stages 64 to 512, outside a bottleneck 4 times that. First: 25.57M.
PLACED = [
    (
        50,
        dict(attention_position='after_conv2', attention_blocks=[-1]),
        9 * (64 + 128 + 256 + 512),
    ),
    (50, dict(attention_position='after_conv2'), 9 * (3 * 64 + 4 * 128 + 6 * 256 + 3 * 512)),
    (50, dict(attention_stages=[False, False, False, True], attention_blocks=[0, -1]), 9 * 2 * 2048),
    (18, dict(attention_position='after_conv1', attention_stages=[True, False, True, False]), 9 * 2 * (64 + 256)),
]


@pytest.mark.parametrize(('depth', 'placement', 'more'), PLACED)
def test_stages_blocks_and_position_decide_the_parameters_of_ela(depth, placement, more):
    options = {f'model.backbone.{key}': value for key, value in placement.items()}
    cfg = load_config(str(FOLDER / f'resnet{depth}-ela_8xb32-wide-crop_in1k.py'), options)
    count = sum(parameter.numel() for parameter in build_model(cfg).parameters())
    assert count == PLAIN[depth] + more
    if placement == PLACED[0][1]:
        assert count == 25_565_672


def narrow(depth: int = 50, **options) -> PDResNet:
    torch.manual_seed(0)
    attention = dict(type='reprefine.SEBlock', reduction=4)
    network = PDResNet(depth, stem_channels=8, base_channels=8, attention=attention, host='mmpretrain', **options)
    return randomise(network).double().eval()


@torch.no_grad()
@pytest.mark.parametrize('position', [None, 'after_conv1', 'after_conv2', 'after_conv3'])
def test_attention_follows_the_norm_of_its_position(position):
    network = narrow(attention_position=position, attention_blocks=[1])
    assert [hasattr(block, 'attention') for block in network.layer1] == [False, True, False]
    block, x = network.layer1[1], image(2, 32, 6, 6)
    y = x
    for index in (1, 2, 3):
        y = getattr(block, f'bn{index}')(getattr(block, f'conv{index}')(y))
        if index == int((position or 'after_conv3')[-1]):
            y = block.attention(y)
        y = y.relu() if index < 3 else (y + x).relu()
    torch.testing.assert_close(block(x), y)


@torch.no_grad()
def test_attention_within_a_bottleneck_is_deployed_with_pd():
    network = narrow(attention_position='after_conv2', pd_cfg=dict(mode='A', group_num='auto'))
    x = image(2, 3, 40, 32)
    expected = network(x)[0]
    network.switch_to_deploy()
    torch.testing.assert_close(network(x)[0], expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())
    assert network.layer2[0].attention.fc1.in_features == 16


@pytest.mark.parametrize(
    ('depth', 'options', 'message'),
    [
        (18, dict(attention_position='after_conv3'), 'for BasicBlock: use one of after_conv1, after_conv2$'),
        (50, dict(attention_position='end'), 'for Bottleneck: use one of after_conv1, after_conv2, after_conv3'),
        (18, dict(attention_blocks=[0, 2]), '2 is out of range for a stage with 2 blocks'),
    ],
)
def test_a_position_or_block_that_is_not_there_is_refused(depth, options, message):
    with pytest.raises(UserError, match=message):
        narrow(depth, **options)
