"""Trainings in phases: each is measured and named, and the whole schedule is their weighted sum."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from reprefine.engine.cost import compare, workloads
from reprefine.engine.cost.compare import CostComparison
from reprefine.engine.cost.inputs import InputBatch
from reprefine.engine.cost.phases import Phase, training_phases, weighted_sum
from reprefine.engine.cost.rows import Settings
from reprefine.registry import HOOKS, MODELS
from tests.helpers.run import DENOISED
from tests.helpers.run_tool import run_tool


@MODELS.register_module(force=True)
class PhasedNet(BaseModel):
    """Writes down the phase of every training step; the second phase uses eight times the memory."""

    def __init__(self):
        super().__init__(data_preprocessor=dict(type='mmengine.BaseDataPreprocessor'))
        self.fc = nn.Linear(4, 4)
        self.phase, self.steps = 'none', []

    def forward(self, inputs, mode='tensor'):
        self.steps.append(self.phase)
        repeats = 8 if self.phase == 'large' else 1
        return {'loss': self.fc(inputs.repeat(repeats, 1)).square().mean()}


@HOOKS.register_module(force=True)
class SmallThenLarge(Hook):
    def phase_shares(self, train_cfg):
        return {'small': 1 - train_cfg['large'], 'large': train_cfg['large']}

    def set_phase(self, model, phase):
        model.phase = phase

    def fix_phase(self, phase):
        raise AssertionError


def config(**hook) -> Config:
    hooks = [dict(type='reprefine.SmallThenLarge')] if hook else []
    return Config(
        dict(
            model=dict(type='reprefine.PhasedNet'),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            custom_hooks=[dict(type='EMAHook'), *hooks],
            train_cfg=hook,
        )
    )


def compare_all(candidate, reference, monkeypatch, parts):
    batch = InputBatch(dict(inputs=torch.ones(100, 4)), 100, 'ones')
    monkeypatch.setattr(compare, 'loader_batch', lambda cfg, batch_size: batch)
    rows = CostComparison(candidate, reference, Settings(repeats=2, warmup=1, parts=parts)).run()
    return {row.name: row for row in rows}


def test_times_are_those_of_each_phase_and_their_weighted_sum(monkeypatch):
    rounds = [4.0, 8.0], [10.0, 20.0], [2.0, 4.0]  # candidate small, candidate large, reference
    monkeypatch.setattr(workloads, 'interleave', lambda prepare, *_: rounds[: len(prepare)])
    rows = compare_all(config(large=0.25), config(), monkeypatch, ('train',))
    medians = {name: (f.config.median, f.baseline.median, f.ratio.median) for name, f in rows.items()}
    assert medians == {
        'parameters': (20, 20, 1),
        "training step, phase 'small' (75% of the schedule)": (6, 3, 2),
        "training step, phase 'large' (25% of the schedule)": (15, 3, 5),
        'training step, whole schedule': (8.25, 3, 2.75),
    }


def test_phases_of_the_baseline_are_measured_as_well(monkeypatch):
    rounds = [2.0], [4.0], [8.0]
    monkeypatch.setattr(workloads, 'interleave', lambda prepare, *_: rounds[: len(prepare)])
    rows = compare_all(config(), config(large=0.5), monkeypatch, ('train',))
    assert rows["training step, baseline's phase 'large' (50% of the schedule)"].baseline.median == 8
    assert rows['training step, whole schedule'].ratio.median == pytest.approx(1 / 3)


def test_every_step_is_run_in_its_phase(monkeypatch):
    models = []
    build = compare.build_untrained
    monkeypatch.setattr(compare, 'build_untrained', lambda *a: models.append(build(*a)) or models[-1])
    compare_all(config(large=0.5), config(), monkeypatch, ('train',))
    candidate, reference = models
    assert candidate.steps == ['small', 'large', 'large', 'small', 'small', 'large']
    assert set(reference.steps) == {'none'}


def test_memory_of_the_whole_schedule_is_its_peak(monkeypatch):
    rows = compare_all(config(large=0.5), config(), monkeypatch, ('memory',))
    small, large, total = (f.config.median for name, f in rows.items() if name.startswith('training'))
    assert small < large / 4
    assert total >= large
    assert rows['training peak memory, whole schedule'].baseline.median == small


@MODELS.register_module(force=True)
class AlternatingNet(PhasedNet):
    """The first phase trains a small layer on large activations, the second a large layer on small ones."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(4, 1000)

    def forward(self, inputs, mode='tensor'):
        is_first = self.phase == 'small'
        self.fc.requires_grad_(is_first)
        self.other.requires_grad_(not is_first)
        self.zero_grad(set_to_none=True)
        layer, inputs = (self.fc, inputs.repeat(40, 1)) if is_first else (self.other, inputs[:1])
        return {'loss': layer(inputs).square().mean()}


def test_memory_of_a_phase_holds_the_optimiser_state_of_those_before_it(monkeypatch):
    candidate, reference = config(large=0.5), config(large=0.5)
    candidate.model.type = reference.model.type = 'reprefine.AlternatingNet'
    rows = compare_all(candidate, reference, monkeypatch, ('memory',))
    first, second = (rows[f"training peak memory, phase '{n}' (50% of the schedule)"] for n in ('small', 'large'))
    momentum = 4 * (4 * 1000 + 1000)
    total = rows['training peak memory, whole schedule'].config.median
    assert first.config.median > second.config.median
    assert total >= first.config.median + momentum


def test_a_training_without_phases_has_one_that_has_no_name():
    assert training_phases(config()) == [Phase()]
    assert weighted_sum([Phase('a', 0.25), Phase('b', 0.75)], [[4, 8], [8, 4]]) == [7, 5]


def test_tool_names_the_phases_under_both_runners_and_against_a_baseline(tmp_path):
    out = tmp_path / 'cost.json'
    options = ('--repeats', 1, '--warmup', 0, '--batch-size', 2, '--out', out, '--cfg-options', 'load_from=None')
    for baseline, step in (('stock', 'training iteration'), (DENOISED, 'training step')):
        assert run_tool('analysis_tools/compare_cost.py', DENOISED, '--baseline', baseline, *options) == 0
        names = [row['name'] for row in json.loads(out.read_text())['figures']]
        for phase in ('denoise', 'backbone'):
            assert f"{step}, phase '{phase}' (50% of the schedule)" in names
        assert f'{step}, whole schedule' in names
