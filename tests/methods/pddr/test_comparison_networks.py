"""Parameters and FLOPs of the ResNets with comparison blocks, to the digit."""

import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.launch import load_config
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.accounting import count_flops
from tests.configs.brief import ROOT

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
