"""``switch_to_deploy`` of whole models."""

import copy

import pytest
import torch
from torch import nn

from reprefine.deploy import Deployable, relative_difference, switch_to_deploy
from reprefine.deploy.protocol import reparameterized_layers, training_forms
from tests.deploy.toys import TwoBranches, two_layers


class Recorder(nn.Module):
    """Records that it was switched; may have a child."""

    def __init__(self, name: str, switched: list[str], child: nn.Module | None = None):
        super().__init__()
        self.name, self.switched, self.child = name, switched, child

    def switch_to_deploy(self, *_):
        self.switched.append(self.name)


class NeedsConfig(nn.Module):
    """As parts of some heads of mmpose, which the head itself switches."""

    def switch_to_deploy(self, test_cfg):
        raise AssertionError


def test_children_are_switched_before_their_parents():
    switched = []
    inner = Recorder('inner', switched)
    outer = Recorder('outer', switched, nn.Sequential(nn.Linear(2, 2), inner, NeedsConfig()))
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(outer), Recorder('other', switched))
    assert switch_to_deploy(model) is model
    assert switched == ['inner', 'outer', 'other']


def test_the_protocol_identifies_deployable_modules():
    assert isinstance(Recorder('', []), Deployable)
    assert not isinstance(nn.Linear(1, 1), Deployable)


def test_relative_difference_is_scaled_by_the_reference():
    reference = torch.tensor([0.0, -4.0, 2.0])
    assert relative_difference(reference + torch.tensor([0.0, 0.0, 1.0]), reference) == pytest.approx(0.25)
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0.0


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_not_finite_differs_infinitely(value):
    finite, broken = torch.zeros(2), torch.tensor([1.0, value])
    for outputs, reference in ((finite, broken), (broken, finite), (broken, broken)):
        assert relative_difference(outputs, reference) == float('inf')
        assert max(0.0, relative_difference(outputs, reference)) == float('inf')


def test_reparameterised_layers_are_returned_with_their_former_type():
    trained, model = two_layers(), two_layers()
    assert training_forms(model) == ['0', '2']
    switch_to_deploy(model)
    assert training_forms(model) == []
    assert reparameterized_layers(trained, model) == {'0': 'TwoBranches', '2': 'TwoBranches'}
    assert reparameterized_layers(model, copy.deepcopy(model)) == {}


def test_a_layer_that_becomes_another_type_was_reparameterised():
    trained = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    deployed = nn.Sequential(nn.Linear(2, 2), nn.Identity())
    assert reparameterized_layers(trained, deployed) == {'1': 'Linear'}


def test_a_layer_within_a_replaced_one_is_included():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = TwoBranches(2, 2)

    assert reparameterized_layers(nn.Sequential(Holder()), nn.Sequential(nn.Linear(2, 2))) == {
        '0': 'Holder',
        '0.inner': 'TwoBranches',
    }


def test_a_layer_left_in_training_form_is_an_error(monkeypatch):
    monkeypatch.setattr(TwoBranches, 'switch_to_deploy', lambda self: None)
    with pytest.raises(RuntimeError, match='0 is in training form still'):
        switch_to_deploy(two_layers())
