"""Parts that methods add to a model are identified by an attribute of their modules, not by their names."""

import torch
from torch import nn

from reprefine.engine.checkpoints.method_keys import added_names, state_without_added
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.methods.denoiserep import convert


class Predictor(nn.Linear):
    added_by_refinement = True


def net():
    """A part with a ``denoiser`` of its own, one of whose layers has a predictor by the same name."""
    model = nn.ModuleDict(dict(denoiser=nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), head=nn.Linear(2, 2)))
    model['denoiser'][0].denoiser = Predictor(2, 2)
    return model


def test_names_are_those_of_modules_with_the_attribute():
    assert added_names(net()) == {'denoiser.0.denoiser.weight', 'denoiser.0.denoiser.bias'}
    assert added_names(Predictor(2, 2)) == set()
    assert added_names(nn.Linear(2, 2)) == set()


def test_a_shared_layer_has_additions_under_both_names():
    model = net()
    model['twin'] = model['denoiser']
    assert {name for name in added_names(model) if name.startswith('twin.')} == {
        'twin.0.denoiser.weight',
        'twin.0.denoiser.bias',
    }


def test_all_tensors_of_denoisereps_noise_predictors_are_added():
    model = nn.Sequential(nn.Linear(4, 4))
    convert(model, 'linear', time_embed=True, embed_width=8)
    keys = {name.removeprefix('0.denoiser.') for name in added_names(model)}
    assert {'weight', 'bias', 'timestep', 'schedule', 'side', 'time_embed.mlp.0.weight'} <= keys
    assert state_without_added(model).keys() == nn.Sequential(nn.Linear(4, 4)).state_dict().keys()


def test_a_file_without_additions_loads_the_rest_of_a_model_and_does_not_change_them():
    model, plain = net(), net()
    weights = {name: torch.full_like(value, 3) for name, value in state_without_added(plain).items()}
    before = model['denoiser'][0].denoiser.weight.clone()
    assert load_weights(model, weights, allowed_missing=added_names(model)).exact
    assert not load_weights(model, weights).exact
    assert (model['denoiser'][0].weight == 3).all()
    assert torch.equal(model['denoiser'][0].denoiser.weight, before)
