"""compare_runs.py on logs as mmengine writes them, and bench_feature_transform.py."""

import json

import pytest

from reprefine.visualization.run_comparison import read_run_result, read_seed
from tests.helpers.run_tool import run_tool

TOOL = 'analysis_tools/compare_runs.py'


def write_run(folder, values, seed=None, time='20260101_000000', test=None):
    """Write a log with a training line, validations, and the config."""
    log = folder / time / 'vis_data'
    log.mkdir(parents=True)
    lines = [dict(loss=2.5, iter=1, step=1)] + [dict(knn_top1=v, step=i) for i, v in enumerate(values, 1)]
    text = '\n'.join(map(json.dumps, lines)) + '\n'
    for name in ('scalars.json', f'{time}.json'):
        (log / name).write_text(text)
    (log / 'config.py').write_text(f'model = dict(a=1)\nrandomness = dict(seed={seed}, diff_rank_seed=True)\n')
    if test is not None:
        (folder / time / f'{time}.json').write_text(json.dumps({'accuracy/top1': test}))
    return folder


def cells(line):
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_seeds_are_paired(tmp_path, capsys):
    """Differences are 1, 2 and 3, though the values of a group differ by tens."""
    for seed, base, gain in ((0, 50, 1), (1, 60, 2), (2, 70, 3)):
        write_run(tmp_path / f'base_{seed}', [10, base], seed)
        write_run(tmp_path / f'ft_{2 - seed}', [99, base + gain], seed)
    argv = (f'MoCo={tmp_path}/base_*', f'MoCo+FT={tmp_path}/ft_*')
    assert run_tool(TOOL, *argv) == 0
    header, _, base, refined = map(cells, capsys.readouterr().out.strip().splitlines())
    assert header == ['runs', 'knn_top1', 'difference']
    assert base == ['MoCo', '60.00 ± 10.00 (n=3)', '']
    assert refined == ['MoCo+FT', '62.00 ± 11.00 (n=3)', '+2.00 ± 1.00 (paired, s.e. 0.58)']
    assert run_tool(TOOL, *argv, '--at', 'max') == 0
    assert cells(capsys.readouterr().out.splitlines()[3])[1] == '99.00 ± 0.00 (n=3)'


def test_other_seeds_are_not_paired(tmp_path, capsys):
    for seed in (0, 1):
        write_run(tmp_path / f'a{seed}', [10 + seed], seed, test=70 + seed)
        write_run(tmp_path / f'b{seed}', [15 + seed], seed + 5, test=80)
    argv = (f'A={tmp_path}/a0,{tmp_path}/a1', f'B={tmp_path}/b*', '--metrics', 'knn_top1', 'accuracy/top1')
    assert run_tool(TOOL, *argv) == 0
    assert cells(capsys.readouterr().out.splitlines()[3]) == [
        'B', '15.50 ± 0.71 (n=2)', '+5.00', '80.00 ± 0.00 (n=2)', '+9.50',
    ]  # fmt: skip


def test_resumed_and_tested_runs_are_read_in_order(tmp_path):
    run = write_run(tmp_path / 'run', [1, 2], 3)
    write_run(run, [3], 3, time='20260102_000000', test=4)
    result = read_run_result(run)
    assert result.seed == 3
    assert result.curves['knn_top1'] == [1, 2, 3]
    assert result.curves['accuracy/top1'] == [4]


def test_configs_are_not_run():
    assert read_seed('import os\nrandomness = dict(diff_rank_seed=True)\nos.abort()') is None
    assert read_seed('randomness = dict(seed=7)') == 7
    assert read_seed('model = dict(seed=7)') is None


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (('run',), 'run: expected NAME=PATTERN'),
        (('a=absent*',), 'a=absent*: no such folder'),
        (('a=empty',), 'empty has no log'),
        (('a=run', '--metrics', 'top1'), 'run has no top1: use one of iter, knn_top1, loss, step'),
    ],
)
def test_mistakes_are_one_line(argv, message, tmp_path, monkeypatch, capsys):
    write_run(tmp_path / 'run', [1])
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_tool(TOOL, *argv) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_real_run_is_read(tmp_path):
    from tests.methods.feature_transform.toys import moco_ft, runner, scalars

    done = runner(tmp_path, moco_ft(), cfg=dict(randomness=dict(seed=0)))
    done.train()
    result = read_run_result(tmp_path)
    assert result.curves['pos_mean'] == [line['pos_mean'] for line in scalars(done)]
    assert result.seed == 0


def test_benchmark_checks_that_implementations_agree_and_prints_ratios(capsys):
    argv = ('--batch-size', '4', '--queue-len', '64', '--feat-dim', '8', '--repeats', '2', '--warmup', '1')
    assert run_tool('analysis_tools/bench_feature_transform.py', *argv, '--threads', '1') == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].startswith('MoCo')
    assert rows[1].split()[-1] == '1.00'
    assert len(rows) == 10
    assert all(float(row.split()[-1]) > 0 for row in rows[1:])
    assert run_tool('analysis_tools/bench_feature_transform.py', '--repeats', '0') == 1
    assert 'must be positive' in capsys.readouterr().err
