"""PD-A of linear layers is plain training from the sum of two draws with twice the rate."""

import argparse

import pytest
import torch

from reprefine.methods.pddr import PDLinear
from tests.helpers.run_tool import import_beside

tool = import_beside('experiments/pddr_step_size.py', 'pddr_step_size')
mlp = import_beside('experiments/pddr_step_size.py', 'pddr_mlp')
records = import_beside('experiments/records.py', 'records')
NOT_EQUIVALENT = 'Adam, weight decay added to the gradient'


@pytest.fixture
def few(monkeypatch):
    images, labels = mlp.float64_digits('train')
    data = images[::10], labels[::10]
    for module in (tool, mlp):
        monkeypatch.setattr(module, 'float64_digits', lambda split: data)
    monkeypatch.setattr(tool, 'SCHEDULES', {'short': (2, 1), 'long': (3, 2)})


def test_pda_equals_its_plain_network_unless_the_step_depends_on_the_weights(few):
    for label, values in tool.compare_optimizers(seed=3, epochs=3).items():
        assert values['same_rate'] > -3, label
        assert (values['distance'] < -12) == (label != NOT_EQUIVALENT), label
        if label != NOT_EQUIVALENT:
            assert values['pda'] == values['plain'], label


def test_every_setting_starts_from_the_same_draws():
    nets = {setting: mlp.network(setting, 5) for setting in mlp.SETTINGS}
    drawn = nets[mlp.PDA].layers[0]
    for setting, net in nets.items():
        layer = net.layers[0]
        assert isinstance(layer, PDLinear) == (setting.mode is not None)
        if setting.mode is None:
            start = drawn.standard1.weight + (drawn.standard2.weight if setting.draws == 2 else 0)
            assert torch.equal(layer.weight, start)
        else:
            assert torch.equal(layer.standard2.weight, drawn.standard2.weight)


def test_the_records_have_each_setting_and_optimiser(few, tmp_path, monkeypatch):
    def run_here(function, parts, out, jobs):
        return {name: {**function(*arguments), 'seconds': 1.0} for name, arguments in parts.items()}

    monkeypatch.setattr(tool, 'run_parts', run_here)
    tool.main(tool_arguments(tmp_path))
    steps = records.read_record(tmp_path / 'mlp_step_size.json')
    assert [row.name for row in steps.rows] == [setting.label for setting in mlp.SETTINGS]
    exact = steps.row(mlp.EQUIVALENT.label).values
    assert exact['long_accuracy'] == steps.row('PD-A').values['long_accuracy'] and max(exact['long_distance']) < -12
    assert min(steps.row('plain').values['short_distance']) > -3
    equivalence = records.read_record(tmp_path / 'pda_equivalence.json')
    assert {row.name for row in equivalence.rows} == set(tool.OPTIMIZERS)


def tool_arguments(folder):
    return argparse.Namespace(seeds=1, jobs=1, out=folder / 'out', results=folder)
