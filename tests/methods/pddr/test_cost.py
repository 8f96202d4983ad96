"""Exact parameters and multiply-adds of networks."""

import copy

import pytest
from torch import nn

from reprefine.deploy import switch_to_deploy
from reprefine.engine.cost.counting import count_parameters
from reprefine.methods.pddr import BRANCHES
from reprefine.methods.pddr.cost import (
    ParameterCounts,
    cost_rows,
    count_flops,
    imagenet_resnet,
    mixing_macs,
    model_parameters,
)
from reprefine.methods.pddr.layers.lookup import pd_convs
from tests.helpers.run_tool import run_tool

# Depth: plain, PD-A training form, gates, PD-A deployed with biases, PD-B deployed, its mixing.
PARAMETERS = {
    18: (11_689_512, 30_201_000, 72_036, 11_685_672, 44_725_644, 43_941_888),
    34: (21_797_672, 57_331_240, 143_404, 21_790_120, 85_214_804, 84_344_832),
    50: (25_557_032, 44_626_152, 79_836, 25_553_256, 59_596_164, 45_268_992),
    101: (44_549_160, 80_521_448, 150_896, 44_541_032, 108_749_080, 85_377_024),
}


@pytest.fixture(scope='module')
def networks() -> dict[tuple[int, str], nn.Module]:
    """The training forms, whose values do not exist."""
    return {(depth, mode): imagenet_resnet(depth, pd_cfg=dict(mode=mode)) for depth in PARAMETERS for mode in 'AB'}


@pytest.mark.parametrize('depth', PARAMETERS)
def test_parameters(depth, networks):
    plain, training, gates, deployed_a, deployed_b, mixing = PARAMETERS[depth]
    a, b = (networks[depth, mode] for mode in 'AB')
    assert model_parameters(a) == ParameterCounts(plain, training, 0, plain, deployed_a)
    assert model_parameters(b) == ParameterCounts(plain, training + gates, gates, plain + gates, deployed_b)
    assert count_parameters(imagenet_resnet(depth)) == plain
    assert mixing_macs(b) == mixing
    assert mixing_macs(a) == 0
    for network in (a, b):
        deployed_form = switch_to_deploy(copy.deepcopy(network))
        assert count_parameters(deployed_form) == model_parameters(network).stored
        assert model_parameters(deployed_form) == model_parameters(network)


@pytest.mark.parametrize('depth', [18, 50])
def test_gates_of_fewer_branches(depth):
    constant, slope = {18: (71_124, 228), 50: (78_828, 252)}[depth]
    for count in (2, 3):
        network = imagenet_resnet(depth, pd_cfg=dict(mode='B', branches=BRANCHES[:count]))
        assert model_parameters(network).gates == constant + slope * count
    assert len(pd_convs(network)) == 16


@pytest.mark.parametrize(
    ('depth', 'macs', 'plain', 'deployed', 'gate_macs', 'gate_relus'),
    [
        (18, 1_814_073_344, 1_822_176_768, 1_820_671_488, 71_760, 212),
        (34, 3_663_761_408, 3_675_628_032, 3_672_868_352, 142_832, 444),
        (50, 4_089_184_256, 4_121_924_096, 4_120_544_256, 79_536, 236),
        (101, 7_801_405_440, 7_849_499_136, 7_847_266_304, 150_256, 508),
    ],
)
def test_multiply_adds(depth, macs, plain, deployed, gate_macs, gate_relus, networks):
    assert count_flops(imagenet_resnet(depth)) == (macs, plain)
    assert count_flops(switch_to_deploy(copy.deepcopy(networks[depth, 'A']))) == (macs, deployed)
    mixture = count_flops(switch_to_deploy(copy.deepcopy(networks[depth, 'B'])))
    assert mixture == (macs + gate_macs, deployed + gate_macs + gate_relus)


@pytest.mark.parametrize(('depth', 'published'), [(18, 4.654), (50, 7.245)])
def test_multiply_adds_of_the_training_form(depth, published, networks):
    a, b = (count_flops(networks[depth, mode]).published for mode in 'AB')
    assert round(a / 1e9, 3) == round(b / 1e9, 3) == published


def test_table():
    rows = cost_rows(18)
    assert rows['plain'] == (11_689_512,) * 3 + (1_814_073_344,) * 2 + (0,)
    assert rows['PD-B'][:3] == (30_273_036, 11_761_548, 44_725_644)


def test_table_tool(capsys):
    assert run_tool('analysis_tools/pddr_cost_table.py', '--depth', 18, '--branches', 'standard1', 'skeleton') == 0
    rows = [line.split('│') for line in capsys.readouterr().out.splitlines() if 'ResNet-18 PD-B' in line]
    assert [cell.strip() for cell in rows[0][3:5]] == ['11,761,092', '22,746,564']
    assert run_tool('analysis_tools/pddr_cost_table.py', '--depth', 18, '--branches', 'group') == 1
    assert 'use standard1' in capsys.readouterr().err
