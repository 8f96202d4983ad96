"""Selection of the step on validation images: the best candidate, none if nothing helps, merge, checkpoints, loop."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import (
    candidate_table,
    collect_moments,
    convert,
    denoise_layers,
    layers_named,
    reparameterize,
    select_step,
)

from ..toys import TinyConvNet, TinyViT, build, images, refined, snapshot
from .test_fit import Collating, fit_runner


def fitted(factory=TinyViT, include='mlp'):
    """A converted model and the moments of its features."""
    model = build(factory).double().eval()
    convert(model, include, step='selected')
    with torch.no_grad(), collect_moments(model) as moments:
        model(images(64).double())
    return model, moments


@torch.no_grad()
def distance(model: nn.Module, target: Tensor, noise: float) -> float:
    """Squared distance of the outputs for noisy images to a target."""
    noisy = images(64).double() + noise * images(64, 1).double()
    return (model(noisy) - target).square().mean().item()


def denoised(model: nn.Module) -> dict[str, tuple[str, int]]:
    layers = {name: layer.denoiser for name, layer in denoise_layers(model).items()}
    return {name: (p.step_name, int(p.timestep)) for name, p in layers.items() if p.step_name != 'none'}


@pytest.mark.parametrize(('factory', 'include'), [(TinyViT, 'mlp'), (TinyConvNet, 'conv')])
def test_the_candidate_that_the_validation_prefers_is_chosen_and_merged(factory, include):
    """The target is what one of the candidates computes, so that it must be found again."""
    model, moments = fitted(factory, include)
    wanted = dict(timesteps=[300], steps=['ddim'], layers=['first'])
    select_step(model, moments, lambda: -float(bool(denoised(model))), rule='less', **wanted)
    (first, *_) = denoise_layers(model)
    assert denoised(model) == {first: ('ddim', 300)}
    with torch.no_grad():
        target = model(images(64).double())
    candidates = select_step(
        model, moments, lambda: distance(model, target, 0), [100, 300], layers=['all', 'first', 'last'], rule='less'
    )
    chosen, *others = candidates
    assert (chosen.step, chosen.timestep, chosen.layers, chosen.value) == ('ddim', 300, 'first', 0.0)
    assert len(candidates) == 1 + 2 * 2 * 3
    assert all(other.value > 0 for other in others)
    assert denoised(model) == {first: ('ddim', 300)}
    with torch.no_grad():
        torch.testing.assert_close(reparameterize(model)(images(8)[:].double()), model(images(8).double()))
    lines = candidate_table(candidates, 'distance').splitlines()
    assert len(lines) == 14
    assert 'ddim, T=300, layers first' in lines[1]
    assert lines[1].endswith('<- chosen')


def test_none_is_kept_for_clean_images_and_a_step_is_found_for_noisy_ones():
    model, moments = fitted()
    with torch.no_grad():
        target = model(images(64).double())
    options = dict(timesteps=['descending', 100, 500], steps=['ddpm', 'ddim'], rule='less')
    clean, *_ = select_step(model, moments, lambda: distance(model, target, 0), **options)
    assert (clean.step, clean.value, denoised(model)) == ('none', 0.0, {})
    noisy, *others = select_step(model, moments, lambda: distance(model, target, 2), **options)
    assert noisy.step != 'none'
    assert all(noisy.value <= other.value for other in others)
    assert distance(model, target, 2) == noisy.value < next(c.value for c in others if c.step == 'none')


def test_no_step_wins_ties_and_is_the_baseline_bit_by_bit():
    model, moments = fitted()
    own = {key: value for key, value in snapshot(model).items() if '.denoiser.' not in key}
    chosen, *others = select_step(model, moments, lambda: 0.5, [100, 500])
    assert (str(chosen), len(others)) == ('none', 4)
    deployed, baseline = reparameterize(model), build(TinyViT).double().eval()
    baseline.load_state_dict(own)
    assert all(torch.equal(value, own[key]) for key, value in deployed.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model(images().double()), baseline(images().double()))


@pytest.mark.parametrize('rule', ['greater', 'less'])
def test_the_rule_says_which_values_are_better(rule):
    model, moments = fitted()
    values = iter([3.0, 1.0, 5.0, 2.0, 4.0])
    chosen, *_ = select_step(model, moments, lambda: next(values), [100, 500], rule=rule)
    expected = dict(greater=(5.0, 'ddim', 100), less=(1.0, 'ddpm', 100))
    assert (chosen.value, chosen.step, chosen.timestep) == expected[rule]


def test_layer_sets():
    model, _ = fitted(include='linear')
    names = list(denoise_layers(model))
    assert layers_named(model, 'all') == names
    assert layers_named(model, 'first') == names[:1]
    assert layers_named(model, 'last') == names[-1:]
    assert layers_named(model, 'mlp') == [name for name in names if '.mlp.' in name]
    assert layers_named(model, [r'qkv', r'^head']) == ['blocks.0.attn.qkv', 'blocks.1.attn.qkv', 'head']
    with pytest.raises(UserError, match='names none of the 9 denoised layers'):
        layers_named(model, 'conv1')


def test_a_timestep_policy_counts_the_layers_of_the_candidate():
    model, moments = fitted()
    values = iter([0.0, 1.0])
    select_step(model, moments, lambda: next(values), ['descending'], ['ddpm'], [r'blocks\.0'])
    assert denoised(model) == {'blocks.0.mlp.fc1': ('ddpm', 2), 'blocks.0.mlp.fc2': ('ddpm', 1)}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(timesteps=[]), r'select.timesteps=\[\]: give a list'),
        (dict(timesteps='descending'), "select.timesteps='descending': give a list"),
        (dict(timesteps=[5], steps=['none']), r"select.steps=\['none'\]: give a list of 'ddpm', 'ddim' or both"),
        (dict(timesteps=[5], rule='max'), "select.rule='max': use 'greater' or 'less'"),
        (dict(timesteps=[5], layers=['neck']), "layers='neck' names none"),
        (dict(timesteps=[1000]), 'timestep 1000 is outside the schedule'),
    ],
)
def test_invalid_options_are_refused(options, message):
    model, moments = fitted()
    with pytest.raises(UserError, match=message):
        select_step(model, moments, lambda: 0.0, **options)


def test_layers_of_a_fixed_step_are_refused():
    model = build(TinyViT).eval()
    convert(model, 'mlp')
    with pytest.raises(UserError, match="convert them with step='selected'"):
        select_step(model, {}, lambda: 0.0, [100])


def test_the_selected_step_is_loaded_from_the_checkpoint():
    model, moments = fitted()
    values = iter([0.0, 0.0, 1.0])
    select_step(model, moments, lambda: next(values), [500], layers=['last'])
    other = build(TinyViT, seed=3).double().eval()
    convert(other, 'mlp', step='selected')
    other.load_state_dict(model.state_dict())
    assert denoised(other) == denoised(model) == {'blocks.1.mlp.fc2': ('ddim', 500)}
    with torch.no_grad():
        assert torch.equal(other(images().double()), model(images().double()))
    fixed = build(TinyViT).double()
    convert(fixed, 'mlp')
    with pytest.raises(UserError, match="step='none'.* but the model has steps=1000, no DDIM target"):
        fixed.load_state_dict(model.state_dict())


class Closeness(BaseMetric):
    """Minus the distance of the predictions to those of a target, which the samples hold."""

    def process(self, data_batch, data_samples):
        pairs = zip(data_samples, data_batch, strict=True)
        self.results += [-(found - target).abs().sum().item() for found, (_, target) in pairs]

    def compute_metrics(self, results):
        return {'closeness': sum(results) / len(results)}


class Validating(Collating):
    def forward(self, samples, training=False):
        return super().forward(samples if torch.is_tensor(samples[0]) else [image for image, _ in samples])


def runner_for(work_dir, name, select, step='selected'):
    model, data = refined(include='mlp', step=step, label_free=True), images(10)
    model.data_preprocessor = Validating()
    with torch.no_grad():
        targets = model.eval()(inputs=data, mode='predict')
    loader = DataLoader(list(zip(data, targets, strict=True)), 4, collate_fn=list)
    validation = dict(val_dataloader=loader, val_cfg={}, val_evaluator=[Closeness()], log_level='INFO')
    runner = fit_runner(work_dir, model, list(data), experiment_name=name, **validation)
    runner._train_loop['select'] = select
    return runner, model


def test_the_loop_selects_on_the_validation_images(tmp_path):
    """The targets are the outputs without denoising."""
    runner, model = runner_for(
        tmp_path, 'select', dict(timesteps=[100, 500], metric='closeness', layers=['all', 'last'])
    )
    runner.train()
    assert denoised(model) == {}
    (log,) = tmp_path.glob('*/*.log')
    lines = log.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if 'Denoising step by closeness on the validation images' in line)
    assert lines[start + 1].endswith('none  <- chosen')
    assert len([line for line in lines[start + 2 :] if ', T=' in line]) == 8
    assert (tmp_path / 'epoch_1.pth').is_file()


@pytest.mark.parametrize(
    ('select', 'step', 'message'),
    [
        (None, 'selected', 'set train_cfg.select'),
        (dict(timesteps=[5]), 'selected', 'has no metric'),
        (dict(timesteps=[5], metric='accuracy'), 'selected', "'accuracy' is not computed .* use one of closeness"),
        (dict(timesteps=[5], metric='closeness'), 'ddpm', "convert them with step='selected'"),
    ],
)
def test_an_incomplete_selection_is_refused(tmp_path, select, step, message):
    runner, _ = runner_for(tmp_path, f'incomplete_{message[:12]}', select, step)
    with pytest.raises(UserError, match=message):
        runner.train()
