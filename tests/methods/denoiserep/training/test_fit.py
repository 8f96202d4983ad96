"""Closed-form fit: exact moments, the optimum, against gradient descent, through the Runner."""

import pytest
import torch
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from reprefine.methods.denoiserep import (
    collect_moments,
    convert,
    denoise_layers,
    expected_noise_losses,
    fit_closed_form,
    noise_loss,
    reparameterize,
    report,
)
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.methods.denoiserep.functional import expected_l2_loss

from ..toys import TinyConvNet, TinyViT, ToyClassifier, assert_same, build, images, refined, snapshot

CASES = {'vit': (TinyViT, dict(include='all')), 'conv': (TinyConvNet, dict(include='conv'))}
CASES['conv-input'] = (TinyConvNet, dict(include='conv', side='input'))


@pytest.fixture(params=CASES)
def model(request):
    factory, options = CASES[request.param]
    model = build(factory).double().eval()
    convert(model, timestep=200, **options)
    return model


def moments_of(model, batches):
    with collect_moments(model) as moments, torch.no_grad():
        for batch in batches:
            model(batch)
    return moments


BATCHES = [images(5, 0).double(), images(3, 1).double()]


def features_of(model, batch):
    """Rows of the feature of every layer, recorded from the base model without denoising."""
    state, seen = denoise_state(model), {}
    state.denoise_eval = False
    handles = [
        layer.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update(
                {name: (inputs[0] if module.side == 'input' else output).movedim(module.channel_dim, -1).flatten(0, -2)}
            )
        )
        for name, layer in denoise_layers(model).items()
    ]
    with torch.no_grad():
        model(batch)
    state.denoise_eval = True
    assert all(handle.remove() is None for handle in handles)
    return seen


def test_moments_are_those_of_all_rows_of_the_base_model(model):
    moments = moments_of(model, BATCHES)
    rows = features_of(model, torch.cat(BATCHES))
    assert set(moments) == set(rows)
    for name, m in moments.items():
        groups = rows[name].reshape(len(rows[name]), m.groups, m.width)
        assert m.count == len(rows[name])
        torch.testing.assert_close(m.mean, groups.mean(0), rtol=1e-12, atol=1e-14)
        expected = torch.einsum('rgi,rgj->gij', groups, groups) / len(groups)
        torch.testing.assert_close(m.second_moment, expected, rtol=1e-12, atol=1e-14)
    assert denoise_state(model).denoise_eval is True
    assert not any(layer._forward_hooks for layer in denoise_layers(model).values())


def test_an_error_in_the_pass_removes_the_hooks(model):
    with pytest.raises(RuntimeError), collect_moments(model):
        model(torch.zeros(1, 7))
    assert denoise_state(model).denoise_eval is True
    assert not any(layer._forward_hooks for layer in denoise_layers(model).values())


@pytest.mark.parametrize('time_embed', [True, False])
def test_fit_is_the_minimiser_of_every_layer(model, time_embed):
    if time_embed:
        other = build(TinyViT).double().eval()
        convert(other, 'all', timestep=200, time_embed=True, embed_width=16)
        model = other
    base = {k: v for k, v in snapshot(model).items() if '.denoiser.' not in k}
    moments = moments_of(model, BATCHES)
    before = expected_noise_losses(model, moments)
    losses = fit_closed_form(model, moments)
    assert {name: loss for name, (loss, _) in losses.items()} == before
    assert {k: v for k, v in snapshot(model).items() if k in base}.keys() == base.keys()
    assert_same({k: v for k, v in snapshot(model).items() if '.denoiser.' not in k}, base)
    for name, layer in denoise_layers(model).items():
        m, d = moments[name], layer.denoiser
        weight = d.weight.detach().requires_grad_()
        constant = None if d.bias is None else d.constant().detach().requires_grad_()
        loss = expected_l2_loss(m.covariance, m.mean, weight, constant, d.step)
        assert loss.item() == pytest.approx(losses[name][1], rel=1e-12)
        assert losses[name][1] < losses[name][0]
        for gradient in torch.autograd.grad(loss, [weight] + [constant] * (constant is not None)):
            assert gradient.abs().max() < 1e-9, name


def test_loss_after_the_fit_equals_monte_carlo_on_the_same_data(model):
    moments = moments_of(model, BATCHES)
    losses = fit_closed_form(model, moments)
    for layer in denoise_layers(model).values():
        layer.loss_type = 'l2'
    model.train()
    denoise_state(model).phase = 'denoise'
    torch.manual_seed(0)
    draws = []
    with torch.no_grad():
        for _ in range(40):
            model(torch.cat(BATCHES).repeat(40, 1, 1, 1))
            draws.append(noise_loss(model).item())
    # In training mode the norm layers are paused by the predictor phase, so the features are those of the fit.
    assert sum(draws) / len(draws) == pytest.approx(sum(after for _, after in losses.values()), rel=5e-3)


@pytest.mark.parametrize('optimizer', ['sgd', 'adam'])
def test_the_fit_is_at_least_as_good_as_long_training_on_the_same_data(optimizer):
    """One pass against 300 steps of gradient descent, evaluated by the expected loss of each layer on that data."""
    trained = build(TinyViT).double().train()
    convert(trained, 'mlp', timestep=200, loss_type='l2')
    data = images(24).double()
    with torch.no_grad():
        moments = moments_of(trained.eval(), [data])
    fitted = build(TinyViT).double().eval()
    convert(fitted, 'mlp', timestep=200, loss_type='l2')
    after = {name: loss for name, (_, loss) in fit_closed_form(fitted, moments).items()}
    params = [p for layer in denoise_layers(trained).values() for p in layer.denoiser.parameters()]
    step = torch.optim.SGD(params, 1.0, momentum=0.9) if optimizer == 'sgd' else torch.optim.Adam(params, 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, 300)
    trained.train()
    torch.manual_seed(0)
    for _ in range(300):
        with torch.no_grad():
            trained(data)
        step.zero_grad()
        noise_loss(trained).backward()
        step.step()
        schedule.step()
    reached = expected_noise_losses(trained, moments)
    assert all(after[name] <= reached[name] for name in after)
    assert sum(reached.values()) < 1.05 * sum(after.values())  # the training was a serious one


def test_a_layer_without_data_is_named():
    model = build(TinyViT)
    convert(model, 'mlp')
    with collect_moments(model) as moments:
        model.blocks[0](torch.randn(2, 4, 8))
    with pytest.raises(ValueError, match=r'no feature reached blocks.1.mlp.fc1, blocks.1.mlp.fc2: exclude'):
        fit_closed_form(model, moments)


def fit_runner(work_dir, model, samples, **options):
    loader = DataLoader(samples, 4, collate_fn=list)
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(type='reprefine.DenoiseFitLoop'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=None),
        **(dict(log_level='WARNING') | options),
    )


class Collating(nn.Module):
    """A data preprocessor: from a list of samples, with or without labels, to the arguments of the model."""

    def forward(self, samples, training=False):
        return {'inputs': torch.stack([s if torch.is_tensor(s) else s[0] for s in samples])}


@pytest.mark.parametrize('labelled', [True, False])
def test_loop_fits_over_the_whole_loader_and_saves(tmp_path, labelled, recwarn):
    model = refined(include='mlp')
    model.data_preprocessor = Collating()
    data = images(10)
    expected = build(ToyClassifier)
    torch.manual_seed(3)
    convert(expected, 'mlp')
    losses = fit_closed_form(expected, moments_of(expected.eval(), data.split(4)))
    samples = [(x, 0) for x in data] if labelled else list(data)
    schedule = dict(type='LinearLR', end=2, start_factor=0.5)
    runner = fit_runner(tmp_path, model, samples, experiment_name=f'fit_{labelled}', param_scheduler=schedule)
    runner.train()
    assert not [warning for warning in recwarn if 'optimizer.step()' in str(warning.message)]
    assert (runner.epoch, runner.iter) == (1, 3)
    for name, layer in denoise_layers(model).items():
        other = denoise_layers(expected)[name].denoiser
        torch.testing.assert_close(layer.denoiser.weight, other.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.denoiser.bias, other.bias, rtol=1e-4, atol=1e-5)
        assert losses[name][1] < 1
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['state_dict']
    assert_same(saved, snapshot(model))
    x = images(4, 9)
    torch.testing.assert_close(reparameterize(model).eval()(x), model.eval()(x), rtol=1e-5, atol=1e-5)
    assert [row.timestep for row in report(model)] == [4, 3, 2, 1]


def test_large_features_of_low_rank_are_fitted_in_float32():
    """Rank 64 of 256, standard deviation 50, at the smallest noise: the optimum is 64 / 256."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(256, 2))
    convert(base, 'linear', timestep=1, loss_type='l2')
    features = 50 * torch.randn(4096, 64) @ torch.randn(64, 256) / 8
    with collect_moments(base.eval()) as moments, torch.no_grad():
        base(features)
    before, after = fit_closed_form(base, moments)['0']
    base.train()(features)
    assert (before > 100, after) == (True, pytest.approx(0.25, rel=0.01))
    assert noise_loss(base).item() == pytest.approx(0.25, rel=0.01)
