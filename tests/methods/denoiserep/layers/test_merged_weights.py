"""Merged weights are computed once in evaluation, and never outlive what they were computed from."""

import copy
import gc
import pickle

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from reprefine.methods.denoiserep import denoise_layers, reparameterize, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.methods.denoiserep.layers.linear_conv import _WeightLayer

from ..toys import TinyConvNet, TinyViT, converted, images
from ..training.test_hooks import runner_of


@pytest.fixture
def merges(monkeypatch):
    """Names of the layers that were merged, in order."""
    names, merge = [], _WeightLayer.effective_weight_bias
    monkeypatch.setattr(
        _WeightLayer,
        'effective_weight_bias',
        lambda self, **options: names.append(self.name) or merge(self, **options),
    )
    return names


@torch.no_grad()
def run(model):
    return model(images(dtype=next(model.parameters()).dtype))


def fresh(model):
    """What the model computes with nothing kept."""
    return run(copy.deepcopy(model))


@pytest.mark.parametrize(('factory', 'include'), [(TinyViT, 'all'), (TinyConvNet, 'conv')])
@pytest.mark.parametrize('guard', [torch.no_grad, torch.inference_mode])
def test_the_second_pass_merges_nothing_and_is_the_same(factory, include, guard, merges):
    model = converted(factory, include).eval()
    with guard():
        first, second = (model(images(dtype=torch.float64)) for _ in range(2))
    assert merges == list(denoise_layers(model))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, reparameterize(model)(images(dtype=torch.float64)), rtol=1e-12, atol=1e-12)
    assert torch.equal(run(model), first)  # kept weights of inference mode serve no_grad as well


LAYER = 'blocks.1.mlp.fc2'


def step_of_sgd(model):
    set_phase(model, 'joint')
    model(images(dtype=torch.float64)).sum().backward()
    torch.optim.SGD(model.parameters(), 0.5).step()


def replace_weight(model):
    model.get_submodule(LAYER).weight = nn.Parameter(model.get_submodule(LAYER).weight.detach() * 2)


def write_data_and_set_mode(model):
    """As EMAHook and the validation loop do it."""
    model.get_submodule(LAYER).weight.data.mul_(2)
    model.eval()


def load(model, **options):
    doubled = tuple(f'{LAYER}.{part}weight' for part in ('', 'denoiser.'))
    state_dict = {key: value * 2 if key in doubled else value for key, value in model.state_dict().items()}
    model.load_state_dict(state_dict, **options)


CHANGES = {
    'weight in place': lambda model: model.get_submodule(LAYER).weight.detach().mul_(2),
    'bias in place': lambda model: model.get_submodule(LAYER).bias.detach().add_(1),
    'predictor in place': lambda model: model.get_submodule(LAYER).denoiser.weight.detach().mul_(9),
    'constant in place': lambda model: model.get_submodule(LAYER).denoiser.bias.detach().add_(9),
    'another parameter': replace_weight,
    'other data': lambda model: setattr(model.get_submodule(LAYER).weight, 'data', torch.ones(8, 16).double()),
    'optimiser': step_of_sgd,
    'load_state_dict': load,
    'load_state_dict, assign': lambda model: load(model, assign=True),
    'timestep': lambda model: model.get_submodule(LAYER).denoiser.set_step(600, 'ddpm'),
    'data in place, then eval': write_data_and_set_mode,
    'cast': lambda model: model.float(),
}


@pytest.mark.parametrize('change', CHANGES)
def test_every_change_is_detected(change):
    model = converted(TinyViT, 'mlp').eval()
    before = run(model)
    CHANGES[change](model)
    after = run(model)
    assert torch.equal(after, fresh(model))
    assert (after.double() - before.double()).abs().max() > 1e-9


@pytest.mark.parametrize(
    'call',
    [lambda m: m.train(), lambda m: m.eval(), lambda m: set_phase(m, 'backbone'), lambda m: m.to(torch.float64)],
    ids=['train', 'eval', 'phase', 'to'],
)
def test_changes_of_mode_phase_and_device_clear_the_cache(call):
    model = converted(TinyViT, 'mlp').eval()
    run(model)
    assert len(denoise_state(model).merged) == 4
    call(model)
    assert len(denoise_state(model).merged) == 0


def test_gradients_still_flow_in_evaluation_mode(merges):
    """With autograd on nothing is kept: a kept weight would carry a graph that is freed by the first backward."""
    model = converted(TinyViT, 'mlp').eval()
    for _ in range(2):
        model(images(dtype=torch.float64)).sum().backward()
    assert len(merges) == 8
    assert model.get_submodule(LAYER).weight.grad.abs().sum() > 0
    assert len(denoise_state(model).merged) == 0


def test_training_merges_in_every_pass(merges):
    model = converted(TinyViT, 'mlp').train()
    set_phase(model, 'backbone')
    for _ in range(2):
        run(model)
    assert len(merges) == 8


@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_share_nothing(copier):
    model = converted(TinyViT, 'mlp').eval()
    before = run(model)
    copied = copier(model)
    assert len(denoise_state(copied).merged) == 0
    copied.get_submodule(LAYER).weight.data.zero_()
    assert not torch.equal(run(copied), before)
    assert torch.equal(run(model), before)


def test_the_cache_does_not_keep_a_deleted_layer():
    model = converted(TinyViT, 'mlp').eval()
    run(model)
    model.blocks[1] = nn.Identity()
    gc.collect()
    assert len(denoise_state(model).merged) == 2


def test_export_records_the_merge_itself():
    """An exported model must not hold as constants the weights that happened to be kept."""
    model = converted(TinyViT, 'mlp', dtype=torch.float32).eval()
    expected = run(model)
    with torch.no_grad():
        program = torch.export.export(model, (images(),))
    assert not program.constants
    torch.testing.assert_close(program.module()(images()), expected, rtol=1e-5, atol=1e-6)


class Probe(Hook):
    """Runs the model just before EMAHook swaps its weights, and compares what validation computes with a fresh copy."""

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.compared = self.averaged = 0

    def before_val_epoch(self, runner):
        self.current = run(runner.model.eval())

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert len(denoise_state(runner.model).merged) == 4
        for output, expected_output in zip(outputs, copy.deepcopy(runner.model).test_step(data_batch), strict=True):
            assert torch.equal(output, expected_output)
        self.compared += 1
        self.averaged += not torch.equal(run(runner.model), self.current)


def test_validation_of_an_averaged_model_uses_the_average(tmp_path):
    """EMAHook writes through ``.data``, which no version counter sees."""
    probe = Probe()
    hooks = [dict(type='reprefine.DenoisePhaseHook', phases=('joint',)), dict(type='EMAHook', momentum=0.5), probe]
    runner_of(tmp_path, hooks, epochs=2, validate=True).train()
    assert probe.compared == probe.averaged == 4
