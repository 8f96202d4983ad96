"""What is timed computes the same features, and early exit saves work."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reprefine.methods.repfusion import bench
from reprefine.methods.repfusion.bench import CIFAR10_UNET, FULL, LAYER, Side, Variant, step_cost
from reprefine.methods.repfusion.sources import load_unet
from tests.helpers.run_tool import run_tool

from .tiny import LAYER as TINY_LAYER
from .tiny import UNET

IMAGES = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize(
    ('variant', 'tolerance'),
    [(Variant(), 1e-6), (Variant(channels_last=True), 1e-5), (Variant(bf16=True), 0.05), (Variant(cached=True), 1e-6)],
    ids=str,
)
def test_variants_read_the_same_features(variant, tolerance, tmp_path):
    cost = step_cost(variant, IMAGES, str(tmp_path), repeats=2, warmup=0, unet=UNET, layer=TINY_LAYER)
    assert cost.difference < tolerance
    assert cost.time.count == 2
    assert cost.time.median > 0


def test_cifar10_unet_has_the_published_size():
    unet, scheduler = load_unet(CIFAR10_UNET)
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(35.7e6, rel=0.002)
    assert scheduler.config.num_train_timesteps == 1000


def test_early_exit_saves_more_than_half_of_the_teachers_work(tmp_path):
    images, flops = torch.zeros(1, 3, 32, 32), []
    for variant in (Variant(), FULL):
        side = Side(variant, images, str(tmp_path), CIFAR10_UNET, LAYER)
        with FlopCounterMode(display=False) as counter:
            side.feature()
        flops.append(counter.get_total_flops())
    assert flops[0] < 0.45 * flops[1]


def test_tool_prints_a_ratio_for_every_variant(monkeypatch, capsys):
    monkeypatch.setattr(bench, 'CIFAR10_UNET', UNET)
    monkeypatch.setattr(bench, 'LAYER', TINY_LAYER)
    assert run_tool('analysis_tools/bench_repfusion.py', '--batch-size', 1, '--repeats', 1) == 0
    rows = [line.split(' | ') for line in capsys.readouterr().out.splitlines() if line.startswith('early exit')]
    assert [row[0] for row in rows] == [str(variant) for variant in bench.VARIANTS]
    assert all(float(row[1].split()[0]) > 0 and float(row[3]) < 0.05 for row in rows)
