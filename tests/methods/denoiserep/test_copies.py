"""Copies of refined models of the host libraries, and what mmengine makes of them: pickles, averages, other norms."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.model import ExponentialMovingAverage, convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn

from reprefine.methods.denoiserep import denoise_layers, set_phase
from reprefine.methods.denoiserep.convert import denoise_state
from tests.helpers.small_models import HOSTS, build_denoised, predictions

from .toys import assert_same

SMALL = ('swin classifier', 'pose resnet', 'segformer, depthwise')
WAYS = {'deepcopy': copy.deepcopy, 'pickle': lambda model: pickle.loads(pickle.dumps(model))}


def host(name: str, **options) -> tuple[nn.Module, dict]:
    """A refined model, and a batch."""
    library, text, include, _, make_batch, _ = HOSTS[name]
    torch.manual_seed(0)
    np.random.seed(0)
    return build_denoised(library, text, include, **options), make_batch()


def loss_of(model: nn.Module, batch: dict, seed: int = 3) -> torch.Tensor:
    denoise_state(model).generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    return model.parse_losses(model(**data, mode='loss'))[0]


def step(model: nn.Module, batch: dict) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    loss_of(model, batch).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('name', SMALL)
def test_a_copy_of_a_trained_model_trains_on_alike(name, way, phase):
    """Made while the graph of a forward pass is alive; the copies have a state and parameters of their own."""
    model, batch = host(name)
    set_phase(model.train(), phase)
    step(model, batch)
    in_flight = loss_of(model, batch)
    twin = WAYS[way](model)
    in_flight.backward()
    model.zero_grad()
    assert type(twin) is type(model)
    assert denoise_state(twin) is not denoise_state(model)
    assert all(layer.state is denoise_state(twin) for layer in denoise_layers(twin).values())
    assert denoise_state(twin).phase == phase
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}
    for network in (model, twin):
        step(network, batch)
    assert_same(twin.state_dict(), model.state_dict())
    set_phase(twin, 'backbone' if phase == 'denoise' else 'denoise')
    step(twin, batch)
    assert denoise_state(model).phase == phase
    assert not torch.equal(
        torch.cat([p.flatten() for p in twin.parameters()]), torch.cat([p.flatten() for p in model.parameters()])
    )


@pytest.mark.parametrize('name', SMALL)
def test_averages_of_a_host_pair_by_name_and_fold(name):
    model, batch = host(name)
    average = ExponentialMovingAverage(model, momentum=0.5, update_buffers=True)
    read = HOSTS[name][5]
    for phase in ('joint', 'backbone', 'denoise'):
        set_phase(model.train(), phase)
        step(model, batch)
        average.update_parameters(model)
    assert {key.removeprefix('module.') for key in average.state_dict()} - {'steps'} == set(model.state_dict())
    averaged = average.module
    expected = predictions(averaged, batch, read)
    averaged.switch_to_deploy()
    for ours, theirs in zip(predictions(averaged, batch, read), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert denoise_layers(model)


def test_norms_are_synchronised_and_turned_back():
    model, batch = host('pose resnet')
    names, layers = list(model.state_dict()), list(denoise_layers(model))
    read = HOSTS['pose resnet'][5]
    expected = predictions(model, batch, read)
    synchronised = convert_sync_batchnorm(model)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules())
    assert not any(type(module) is nn.BatchNorm2d for module in synchronised.modules())
    assert (list(synchronised.state_dict()), list(denoise_layers(synchronised))) == (names, layers)
    assert type(synchronised) is type(model)
    back = revert_sync_batchnorm(synchronised)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in back.modules())
    assert (list(back.state_dict()), list(denoise_layers(back))) == (names, layers)
    for ours, theirs in zip(predictions(back, batch, read), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    statistics = {name: value.clone() for name, value in back.named_buffers() if 'running' in name}
    set_phase(back.train(), 'denoise')
    step(back, batch)
    assert_same({name: back.get_buffer(name) for name in statistics}, statistics)


@pytest.mark.filterwarnings('ignore:.*use_reentrant')
@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')
@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
@pytest.mark.parametrize(
    ('name', 'part'), [('swin classifier', 'backbone.stages.0.blocks.0.ffn.layers'), ('pose resnet', 'backbone.layer2')]
)
def test_activation_checkpointing_changes_no_loss_and_no_gradient(name, part, phase):
    """As ``activation_checkpointing`` of mmengine's Runner does it."""
    results = []
    for checkpoints in (False, True):
        model, batch = host(name)
        if checkpoints:
            turn_on_activation_checkpointing(model, [part])
        set_phase(model.train(), phase)
        loss = loss_of(model, batch)
        loss.backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients))
    (loss, gradients), (loss_cp, gradients_cp) = results
    assert torch.equal(loss, loss_cp)
    assert any(key.startswith(part) for key in gradients)
    torch.testing.assert_close(gradients_cp, gradients, rtol=1e-4, atol=1e-6)
