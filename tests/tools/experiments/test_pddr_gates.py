"""Digits of random polarity, and the gates of PD-B on them."""

import argparse
import dataclasses

import pytest
import torch

from tests.helpers.run_tool import import_beside

tool = import_beside('experiments/pddr_gates.py', 'pddr_gates')
records = import_beside('experiments/records.py', 'records')
polarity = import_beside('experiments/pddr_gates.py', 'pddr_polarity')
LINEAR, RELU = tool.NETWORKS['linear'], tool.NETWORKS['relu']
PLAIN, PDA, PDB, CONSTANT = polarity.PLAIN, polarity.PDA, polarity.PDB, polarity.CONSTANT


@pytest.fixture
def few(monkeypatch):
    images, labels = polarity.signed_digits('train')
    data = images[::10], labels[::10]
    for module in (tool, polarity):
        monkeypatch.setattr(module, 'signed_digits', lambda split: data)


def test_with_equal_gates_pdb_is_a_quarter_of_pda():
    images = polarity.signed_digits('test')[0][:20]
    gated, summed = polarity.build(CONSTANT, 0)[0], polarity.build(PDA, 0)[0]
    torch.nn.init.zeros_(gated.gate.fc2.bias)
    state = gated.state_dict()
    summed.load_state_dict({key: state[key] for key in summed.state_dict()})
    torch.testing.assert_close(gated(images), summed(images) / 4)


def test_gates_that_are_switched_off_stay_equal_for_all_images_in_training(few):
    net = polarity.train(CONSTANT, random_polarity=True, rate=0.1, seed=0, epochs=2)
    gates = net[0].gate(polarity.signed_digits('test')[0])
    assert torch.equal(gates, gates[:1].expand_as(gates))
    assert not torch.allclose(gates[0], torch.full((4,), 0.25), atol=1e-3)
    assert polarity.gate_difference(net) == 0
    images = polarity.signed_digits('test')[0]
    torch.testing.assert_close(polarity.with_gates_of_inverted(net, images), net(images))


def test_the_deployed_network_has_the_outputs_of_the_training_form(few):
    net = polarity.build(PDB, 1)
    images = polarity.signed_digits('test')[0]
    net(images)
    expected = net.eval()(images)
    net[0].switch_to_deploy()
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-5)
    swapped = polarity.with_gates_of_inverted(net, images)
    assert not torch.allclose(swapped, expected, atol=1e-3)
    torch.testing.assert_close(swapped[:1], polarity.with_gates_of_inverted(net, images[:1]))


def test_the_inverted_image_is_the_negative_and_the_control_has_as_many_parameters():
    images = polarity.signed_digits('test')[0]
    assert images.shape[1:] == (4, 14, 14) and (images.min(), images.max()) == (-1, 1)
    sizes = {setting.label: polarity.size(setting) for setting in polarity.SETTINGS}
    equal = sizes['plain, as many parameters as PD-B']['training']
    assert abs(equal - sizes['PD-B']['training']) <= 0.03 * equal
    assert sizes['PD-A']['deployed'] == sizes['plain']['deployed'] - polarity.WIDTH  # a bias in place of a norm


def test_rates_are_chosen_on_validation_images(few):
    values = {}
    for setting in polarity.SETTINGS:
        for p in tool.POLARITIES:
            for rate in RELU.rates:
                part = dict(val=rate if p == 'random' else -rate, test=rate, difference=0.5, swapped=1.0)
                values[tool.part_name(RELU, setting, p, rate, 0)] = part
    rows, rates = tool.make_rows(values, RELU, [0])
    assert rates['PD-B'] == dict(random=0.1, fixed=0.01)
    by_name = {row.name: row for row in rows}
    assert by_name['PD-B'].values == dict(random=[0.1], fixed=[0.01], difference=[0.5])
    assert by_name[tool.SWAPPED].values == dict(random=[1.0], fixed=[1.0]) and by_name['plain'].control is None


def test_a_part_has_the_values_of_its_row(few):
    short = dataclasses.replace(RELU, epochs=1)
    assert set(tool.compute(short, PLAIN, 'fixed', 0.03, 0)) == {'val', 'test'}
    assert set(tool.compute(short, PDB, 'random', 0.03, 0)) == {'val', 'test', 'difference', 'swapped'}


def test_a_linear_network_needs_the_gates_for_random_polarity():
    values = {s: tool.compute(LINEAR, s, 'random', 0.03, 0) for s in (PDB, CONSTANT)}
    assert values[PDB]['test'] > 75 and values[PDB]['swapped'] < 25 and values[PDB]['difference'] > 0.9
    assert values[CONSTANT]['test'] < 25 and values[CONSTANT]['difference'] == 0


def test_the_records_have_the_effect_of_the_gates_alone(tmp_path, monkeypatch):
    def computed(function, parts, out, jobs):
        accuracy = {PDB: 90.0, CONSTANT: 87.5}
        values = {name: accuracy.get(setting, 85.0) + seed for name, (_, setting, _, _, seed) in parts.items()}
        return {name: dict(val=v, test=v, difference=0.9, swapped=20.0, seconds=1.0) for name, v in values.items()}

    monkeypatch.setattr(tool, 'run_parts', computed)
    tool.main(argparse.Namespace(seeds=2, jobs=1, out=tmp_path, results=tmp_path, networks=['linear', 'relu']))
    for name in ('linear', 'relu'):
        record = records.read_record(tmp_path / f'gates_{name}.json')
        assert record.notes['gates_random'] == record.notes['gates_fixed'] == '+2.5 ± 0.0'
        assert record.row(tool.SWAPPED).values['random'] == [20, 20]
        assert record.notes['parameters']['plain']['training'] == 406
