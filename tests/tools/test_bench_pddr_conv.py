"""The measurements of bench_pddr_conv.py."""

import runpy
from types import SimpleNamespace

import pytest
import torch

from reprefine.methods.pddr.layers.lookup import pd_convs
from tests.helpers.run_tool import TOOLS
from tests.methods.pddr.toys import image, make_conv

bench = SimpleNamespace(**runpy.run_path(str(TOOLS / 'analysis_tools' / 'bench_pddr_conv.py')))


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_lean_form_saves_little_and_computes_the_same(mode):
    conv = make_conv(16, 16, dtype=torch.float32, mode=mode)
    cost = bench.training_cost(conv, image(2, 16, 32, 32, dtype=torch.float32), bench.Variant('lean'), 2, 0)
    again = bench.training_cost(conv, image(2, 16, 8, 8, dtype=torch.float32), bench.Variant(channels_last=True), 1, 0)
    assert again.memory == pytest.approx(1, abs=0.05)
    assert cost.memory < 0.25
    assert cost.difference < 1e-10
    assert cost.time.count == 2
    assert conv.compute == 'branches'


def test_network_variants_agree():
    _, net, x = bench.network('B', 18, 2, 32)
    assert 0 < bench.output_difference(net, x, bench.Variant('lean', channels_last=True)) < 1e-9
    assert {conv.compute for conv in pd_convs(net).values()} == {'auto'}


def test_latency_is_a_ratio():
    conv = make_conv(dtype=torch.float32)
    assert bench.latency(conv, conv, image(1, 8, 6, 6, dtype=torch.float32), 3, 0).count == 3


def test_names():
    assert str(bench.REFERENCE) == 'branches'
    assert str(bench.Variant('fused', channels_last=True, bf16=True)) == 'fused + channels last + bf16'
