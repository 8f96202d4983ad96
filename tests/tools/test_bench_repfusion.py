"""The timed variants of a distillation step compute the same features, and early exit saves work."""

import importlib

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reprefine.methods.repfusion.teacher.sources import load_unet
from tests.helpers.run import ROOT
from tests.helpers.run_tool import run_tool
from tests.methods.repfusion.tiny import LAYER, UNET

IMAGES = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools/analysis_tools')
    return importlib.import_module('repfusion_step_cost')


@pytest.mark.parametrize(
    ('options', 'tolerance'),
    [({}, 1e-6), (dict(channels_last=True), 1e-5), (dict(bf16=True), 0.05), (dict(cached=True), 1e-6)],
    ids=str,
)
def test_variants_read_the_same_features(bench, options, tolerance, tmp_path):
    variant = bench.Variant(**options)
    cost = bench.measure_step_cost(variant, IMAGES, str(tmp_path), repeats=2, warmup=0, unet=UNET, layer=LAYER)
    assert cost.difference < tolerance
    assert cost.ratio.count == 2
    assert cost.ratio.median > 0


def test_cifar10_unet_has_the_published_size(bench):
    unet, scheduler = load_unet(bench.CIFAR10_UNET)
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(35.7e6, rel=0.002)
    assert scheduler.config.num_train_timesteps == 1000


def test_early_exit_saves_more_than_half_of_the_teachers_work(bench, tmp_path):
    images, flops = torch.zeros(1, 3, 32, 32), []
    for variant in (bench.Variant(), bench.FULL_UNET):
        timed = bench.TimedDistiller(variant, images, str(tmp_path), bench.CIFAR10_UNET, bench.LAYER)
        with FlopCounterMode(display=False) as counter:
            timed.feature()
        flops.append(counter.get_total_flops())
    assert flops[0] < 0.45 * flops[1]


def test_tool_prints_a_ratio_for_every_variant(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, 'CIFAR10_UNET', UNET)
    monkeypatch.setattr(bench, 'LAYER', LAYER)
    assert run_tool('analysis_tools/bench_repfusion.py', '--batch-size', 1, '--repeats', 1) == 0
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines() if line.startswith('early exit')]
    assert [row[0] for row in rows] == [str(variant) for variant in bench.VARIANTS]
    assert all(float(row[1].split()[0]) > 0 and float(row[3]) < 0.05 for row in rows)
