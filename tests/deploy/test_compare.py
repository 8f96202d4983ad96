"""Comparison of two forms of a model."""

import copy

import pytest
import torch
from torch import Tensor, nn

from reprefine.deploy import switch_to_deploy
from reprefine.deploy.compare import TOLERANCES, compare
from reprefine.deploy.examples import Example
from reprefine.engine.errors import UserError
from tests.deploy.toys import Aside, TwoBranches, two_layers


def example(*shape: int) -> Example:
    return Example(torch.randn(shape, generator=torch.Generator().manual_seed(1)), None, f'{len(shape)} dimensions')


def deployed(model: nn.Module) -> nn.Module:
    return switch_to_deploy(copy.deepcopy(model))


def test_layers_and_outputs_are_compared_in_float64():
    model = two_layers()
    found = compare(model, deployed(model), [example(3, 5), example(2, 3, 5)], ['0', '2'])
    assert list(found.differences) == ['0', '2', 'the model for 2 dimensions', 'the model for 3 dimensions']
    assert found.worst[1] < 1e-6
    assert found.tolerance == TOLERANCES[torch.float64] == 1e-5
    assert str(found) == '2 layers and the model for 2 dimensions, for 3 dimensions, in float64'
    assert next(model.parameters()).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize('index', [0, 2])
def test_the_layer_that_differs_is_named(index):
    model = two_layers()
    other = deployed(model)
    other[index].merged.bias[1] += 0.1
    found = compare(model, other, [example(3, 5)], ['0', '2'])
    assert found.differences[str(index)] > 1e-3
    assert found.differences[str(2 - index)] < 1e-6
    assert found.differences['the model for 2 dimensions'] > 1e-3
    assert found.first_above(1e-4)[0] == str(index)
    assert found.first_above(10.0) is None


def test_the_training_form_is_computed_explicitly():
    model = two_layers(error=0.01)  # of its own evaluation and of the deployed form
    other = deployed(model)
    x = torch.randn(3, 5)
    torch.testing.assert_close(other(x), model(x))
    assert compare(model, other, [example(3, 5)], ['0', '2']).worst[1] > 1e-3


def test_a_layer_that_no_input_reaches_is_compared_on_random_features():
    model = nn.Sequential(two_layers(), Aside(TwoBranches(4, 4, error=0.01)))
    found = compare(model, deployed(model), [example(3, 5)], ['1.layer'])
    assert found.worst[0] == '1.layer'
    assert found.worst[1] > 1e-3


def test_a_layer_that_cannot_be_reached_is_reported():
    model = nn.Sequential(two_layers(), Aside(nn.Sequential(nn.Linear(2, 2))))
    found = compare(model, copy.deepcopy(model), [example(3, 5)], ['1.layer'])
    assert str(found).endswith('in float64; not reached: 1.layer')


class Single(nn.Module):
    """Runs in float32 only."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        return x


def test_a_model_of_float32_only_is_compared_in_it():
    model = nn.Sequential(*two_layers(), Single())
    found = compare(model, deployed(model), [example(3, 5)], ['0'])
    assert (found.dtype, found.tolerance) == (torch.float32, 1e-4)


class FeaturesOnly(nn.Module):
    """Has no mode ``'tensor'``, as mmengine allows."""

    def __init__(self):
        super().__init__()
        self.layers = two_layers()

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> Tensor:
        raise NotImplementedError(mode)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)


def test_a_model_without_outputs_is_compared_by_its_features():
    model = FeaturesOnly()
    found = compare(model, deployed(model), [example(3, 5)], ['layers.0'])
    assert str(found) == '1 layers and the model (features) for 2 dimensions, in float64'
    assert found.worst[1] < 1e-6


def test_the_model_that_is_written_is_compared_as_a_whole():
    model = two_layers()
    found = compare(model, deployed(model), [example(3, 5)], ['0'], written=two_layers(error=0.01))
    assert found.differences['0'] < 1e-6
    assert found.worst[0] == 'the model for 2 dimensions'
    assert found.worst[1] > 1e-3


def test_other_shapes_differ():
    model = two_layers()
    found = compare(model, deployed(model), [example(3, 5)], written=nn.Sequential(deployed(model), nn.Linear(3, 2)))
    assert found.worst == ('the model for 2 dimensions', float('inf'))


def test_what_does_not_run_is_refused():
    model = two_layers()
    with pytest.raises(UserError, match=r'does not run on 2 dimensions \(RuntimeError: .*\): give --shape'):
        compare(model, deployed(model), [example(3, 6)])
    with pytest.raises(UserError, match='nothing can be compared'):
        compare(model, deployed(model))


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0


def test_an_output_of_the_training_form_that_is_not_finite_is_reported_as_such():
    model = nn.Sequential(two_layers(), Infinite())
    with pytest.raises(UserError, match='the output of the training form for 2 dimensions is not finite'):
        compare(model, deployed(model), [example(3, 5)])
