"""Iterations under both runners: the same losses, a ratio per round, and refusals in one line."""

import json

import numpy as np
import pytest
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner import Runner as StockRunner

from reprefine.engine.cli.launch import load_config
from reprefine.engine.cost import stock as stock_module
from reprefine.engine.cost.rows import Settings
from reprefine.engine.cost.stock import RunnerComparison, require_equal
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner
from reprefine.engine.speed.message_hub import DeferredMessageHub
from tests.helpers.run import DIGITS
from tests.helpers.run_tool import run_tool
from tests.helpers.subjects import SUBJECTS, write_subject
from tests.helpers.tiny_hosts import CONFIGS, write_config

TOOL = 'analysis_tools/compare_cost.py'
FEW = ('--baseline', 'stock', '--repeats', 2, '--warmup', 1)


def test_tool_reports_iterations_and_the_reading_of_batches(tmp_path, capsys):
    out = tmp_path / 'cost.json'
    assert run_tool(TOOL, DIGITS, *FEW, '--batch-size', 4, '--out', out) == 0
    report = json.loads(out.read_text())
    assert [row['name'] for row in report['figures']] == ['training iteration', 'reading of a batch']
    assert all(row['ratio']['count'] == 2 for row in report['figures'])
    assert report['inputs'] == {'training': {'source': 'first 10 batches of train_dataloader', 'batch_size': 4}}
    assert 'Runner of mmengine' in report['baseline']
    assert 'losses were bitwise equal' in capsys.readouterr().out


@pytest.mark.parametrize('name', SUBJECTS)
def test_every_method_and_host_trains_alike_under_both(name, tmp_path, monkeypatch):
    monkeypatch.setattr(stock_module, 'ITERATIONS', 3)
    cfg = load_config(write_subject(name, tmp_path).config)
    comparison = RunnerComparison(cfg, Settings(repeats=1, warmup=0, batch_size=2))
    ours, stock = (prepared.runner for prepared in comparison.runners)
    assert type(ours.message_hub) is DeferredMessageHub
    assert type(stock).__module__ == 'mmengine.runner.runner'
    assert type(stock.message_hub) is not DeferredMessageHub
    iterations = 6 if name == 'denoiserep' else 3  # a round in each of two phases
    *_, row, _ = comparison.run()
    assert row.config.median / row.baseline.median == row.ratio.median
    logged = comparison.runners[0].logged()
    assert len(logged['train/loss']) == iterations == ours.iter == stock.iter
    # The head of a ViT is 0 at first, so that its first losses are equal.
    assert any(len(set(values)) > 1 for key, values in logged.items() if 'loss' in key)
    assert isinstance(ours.train_loop, IterBasedTrainLoop) is (name in ('mmseg', 'dvt'))


def test_the_runner_of_mmengine_is_compared_although_ours_is_everywhere(monkeypatch):
    monkeypatch.setattr(StockRunner, 'from_cfg', StockRunner.from_cfg)  # is restored
    from reprefine import everywhere

    monkeypatch.setattr(StockRunner, 'from_cfg', classmethod(everywhere.from_cfg))
    comparison = RunnerComparison(load_config(DIGITS), Settings(repeats=1, warmup=0, batch_size=2))
    assert [type(prepared.runner) for prepared in comparison.runners] == [Runner, StockRunner]


def test_different_weights_are_refused():
    comparison = RunnerComparison(load_config(DIGITS), Settings(repeats=1, warmup=0, batch_size=2))
    next(comparison.runners[0].runner.model.parameters()).data.normal_()
    with pytest.raises(UserError, match=r'train/\w+ differs from stock mmengine at iteration'):
        comparison.run()


def test_first_difference_is_named():
    values = np.array([1.0, np.nan, 3.0])
    require_equal(dict(a=values), dict(a=values.copy()))
    with pytest.raises(UserError, match='a differs from stock mmengine at iteration 3'):
        require_equal(dict(a=values), dict(a=np.array([1.0, np.nan, 3.5])))
    with pytest.raises(UserError, match='log different values: b'):
        require_equal(dict(a=values), dict(a=values, b=values))


def test_settings_of_other_figures_and_missing_data_are_refused(tmp_path, capsys):
    assert run_tool(TOOL, DIGITS, *FEW, '--deploy') == 1
    assert 'drop --deploy' in capsys.readouterr().err
    assert run_tool(TOOL, DIGITS, *FEW, '--baseline-cfg-options', 'model.head.num_classes=4') == 1
    assert 'use --cfg-options' in capsys.readouterr().err
    config = write_config(tmp_path, CONFIGS['mmpretrain'])
    assert run_tool(TOOL, config, *FEW) == 1
    assert 'no training batch' in capsys.readouterr().err
