"""The benchmark of DVT's stage 1: equal results of both implementations of the hash grid, and the printed tables."""

import torch

from reprefine.methods.dvt.stage1.solvers.encoding import HashGrid
from tests.helpers.run_tool import import_beside, run_tool

TOOL = 'analysis_tools/bench_dvt_stage1.py'
measurements = import_beside(TOOL, 'dvt_stage1.measurements')


def test_level_by_level_is_the_same_encoding():
    encoding = HashGrid(n_levels=5, n_features=3, max_resolution=60, log2_hashmap_size=10)
    encoding.table.data.normal_(generator=torch.Generator().manual_seed(0))
    coords = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(encoding(coords), measurements.encode_level_by_level(encoding, coords), atol=1e-5)


def test_one_look_up_is_several_times_faster():
    one, many, difference = measurements.hash_grid_seconds(2, log2_hashmap_size=17)
    assert difference < 1e-4
    assert min(many) > 2 * min(one)


def test_tables(capsys):
    sizes = ['--grid', '6', '--channels', '16', '--views', '12', '--steps', '6', '--repeats', '1']
    extraction = ['--model', 'vit_tiny_patch16_224', '--size', '64']
    assert run_tool(TOOL, 'throughput', 'extraction', *sizes, *extraction) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split('|')[1].strip(): line.split('|')[2:-1] for line in lines if line.startswith('|')}
    one = [float(cell) for cell in rows['Adam, one image, 20000 steps']]
    assert one[2] == 1
    assert abs(one[1] / (20000 * one[0]) - 1) < 0.1
    assert float(rows['closed form'][1]) < one[1]
    assert 'vit_tiny_patch16_224, 64 pixels' in rows
    assert run_tool(TOOL, 'throughput', '--steps', '1') == 1
