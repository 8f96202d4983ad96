"""What each phase trains and what it leaves alone; checkpointing and accumulation (checks 9, 10, 12, 16)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reprefine.methods.denoiserep import convert, denoise_layers, noise_loss, reparameterize, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.methods.denoiserep.functional import expected_l2_loss, optimal_predictor

from ..toys import TinyViT, assert_same, build, images, snapshot

LABELS = torch.tensor([0, 1, 2, 3])
FROZEN = ('patch_embed.weight', 'neck.bias', 'blocks.0.mlp.fc1.weight')


def model_in(phase, seed=0, dtype=torch.float64, frozen=(), include='mlp', timestep='descending', **kwargs):
    model = build(TinyViT, seed, **kwargs).to(dtype)
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    torch.manual_seed(seed)
    convert(model, include, timestep=timestep)
    set_phase(model, phase)
    return model.train()


def losses(model, count=4, seed=0, dtype=torch.float64):
    task = F.cross_entropy(model(images(count, seed, dtype=dtype)), LABELS[:count])
    return task, noise_loss(model)


def predictors(model):
    return {
        f'{n}.denoiser.{k}' for n, layer in denoise_layers(model).items() for k, _ in layer.denoiser.named_parameters()
    }


@pytest.mark.parametrize(
    ('phase', 'trains_predictors', 'trains_base'),
    [('denoise', True, False), ('backbone', False, True), ('joint', True, True), ('eval_only', False, False)],
)
def test_each_phase_gives_gradients_to_its_own_parameters(phase, trains_predictors, trains_base):
    model = model_in('joint', frozen=FROZEN)
    sum(losses(model)).backward()  # leftovers that the phase change must drop
    set_phase(model, phase)
    for name, p in model.named_parameters():
        assert p.grad is None or p.requires_grad, name
    model.zero_grad()
    task, noise = losses(model)
    if phase != 'eval_only':
        (task + noise).backward()
    assert (noise > 0) == trains_predictors
    expected = {name for name, _ in model.named_parameters() if name not in predictors(model)} - set(FROZEN)
    expected = (expected if trains_base else set()) | (predictors(model) if trains_predictors else set())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    assert {name for name, p in model.named_parameters() if p.grad is not None} == expected
    assert all(p.grad.abs().max() > 0 for _, p in model.named_parameters() if p.grad is not None)


@pytest.mark.parametrize('phase', ['denoise', 'joint'])
def test_gradients_of_the_two_losses_do_not_mix(phase):
    model = model_in(phase)
    x = images(dtype=torch.float64).requires_grad_()
    output = model(x)
    noise = noise_loss(model)
    named = dict(model.named_parameters())
    base = [p for n, p in named.items() if n not in predictors(model) and p.requires_grad]
    own = [named[n] for n in sorted(predictors(model))]
    assert torch.autograd.grad(noise, x, retain_graph=True, allow_unused=True) == (None,)
    assert set(torch.autograd.grad(noise, [*base, x], retain_graph=True, allow_unused=True)) == {None}
    assert set(torch.autograd.grad(output.sum(), own, retain_graph=True, allow_unused=True)) == {None}
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(noise, own))


OPTIMIZERS = {
    'sgd': lambda params: torch.optim.SGD(params, 0.05, momentum=0.9, weight_decay=0.1),
    'adamw': lambda params: torch.optim.AdamW(params, 0.01, weight_decay=0.1),
}


@pytest.mark.parametrize('set_to_none', [True, False])
@pytest.mark.parametrize('name', OPTIMIZERS)
def test_nothing_frozen_moves_over_several_phase_changes(name, set_to_none):
    """One optimiser over all parameters, momentum and weight decay on, and gradients even set to zero."""
    model = model_in('joint', frozen=FROZEN)
    optimizer = OPTIMIZERS[name](model.parameters())
    for phase in ('joint', 'denoise', 'backbone', 'denoise', 'eval_only', 'backbone', 'joint'):
        set_phase(model, phase)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        for step in range(2):
            optimizer.zero_grad(set_to_none=set_to_none)
            task, noise = losses(model, seed=step)
            if phase != 'eval_only':
                (task + noise).backward()
            optimizer.step()
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        own = predictors(model)
        base = set(before) - own - set(FROZEN)
        assert moved == (own if phase in ('denoise', 'joint') else set()) | (
            base if phase in ('backbone', 'joint') else set()
        )
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == set(FROZEN)


def test_reparameterisation_restores_requires_grad_of_the_base_model():
    for phase in ('denoise', 'eval_only', 'backbone'):
        deployed = reparameterize(model_in(phase, frozen=FROZEN))
        assert {n for n, p in deployed.named_parameters() if not p.requires_grad} == set(FROZEN)


@pytest.mark.parametrize('call_on', ['outer first', 'inner first'])
def test_requires_grad_does_not_depend_on_the_module_that_the_phase_is_set_on(call_on):
    """A module and what holds it see the same parameters under different names."""
    inner = build(TinyViT)
    for name in FROZEN:
        inner.get_parameter(name).requires_grad_(False)
    convert(inner, 'mlp')
    outer = nn.ModuleDict({'model': inner})
    first, second = (outer, inner) if call_on == 'outer first' else (inner, outer)
    set_phase(first, 'denoise')
    set_phase(second, 'backbone')
    assert {n for n, p in inner.named_parameters() if not p.requires_grad} == set(FROZEN) | predictors(inner)
    set_phase(first, 'denoise')
    assert {n for n, p in reparameterize(inner).named_parameters() if not p.requires_grad} == set(FROZEN)


def test_unknown_phase_is_refused():
    with pytest.raises(ValueError, match="unknown phase 'train': use one of denoise, backbone, joint, eval_only"):
        set_phase(model_in('denoise'), 'train')


@pytest.mark.parametrize('phase', ['denoise', 'joint'])
def test_norm_statistics_and_dropout_are_frozen_with_the_base_model(phase):
    """In the predictor phase the frozen base model computes as in evaluation; its training flags are not changed."""
    model = model_in(phase, drop=0.5)
    x, statistics = images(dtype=torch.float64), model.neck.running_mean.clone()
    first, second = model(x), model(x)
    is_frozen = phase == 'denoise'
    assert torch.equal(first, second) == is_frozen
    assert torch.equal(model.neck.running_mean, statistics) == is_frozen
    assert all(m.training for m in model.modules())
    if is_frozen:
        denoise_state(model).denoise_eval = False
        assert torch.equal(first, model.eval()(x))


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
@pytest.mark.parametrize('drop', [0.0, 0.5])
@pytest.mark.parametrize('use_reentrant', [True, False])
@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')
def test_activation_checkpointing_changes_nothing(phase, use_reentrant, drop):
    results = []
    for checkpoint in (None, use_reentrant):
        model = model_in(phase, drop=drop, checkpoint=checkpoint)
        torch.manual_seed(11)
        task, noise = losses(model)
        (task + 0.1 * noise).backward()
        assert noise_loss(model) == 0  # the recomputation has recorded nothing
        assert all(m.training for m in model.modules())
        results.append((task.detach(), noise.detach(), gradients(model), snapshot(model)))
    (task, noise, grads, state), other = results
    torch.testing.assert_close(other[:2], (task, noise), rtol=0, atol=0)
    assert set(grads) == set(other[2])
    for name, gradient in grads.items():
        torch.testing.assert_close(other[2][name], gradient, rtol=1e-12, atol=1e-14)
    assert_same(state, other[3])


@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')
@pytest.mark.parametrize('use_reentrant', [True, False])
def test_checkpointing_with_a_generator_of_the_caller(use_reentrant):
    """torch does not restore that generator for the recomputation; the noise loss must not be recomputed."""
    results = []
    for checkpoint in (None, use_reentrant):
        model = model_in('joint', checkpoint=checkpoint)
        denoise_state(model).generator = torch.Generator().manual_seed(2)
        sum(losses(model)).backward()
        results.append(gradients(model))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
def test_gradient_accumulation_is_the_mean_over_the_micro_batches(phase, monkeypatch):
    """Two half batches at weight 1/2 against the whole batch with the same noise (norm statistics fixed)."""
    batch, noise = images(dtype=torch.float64), torch.randn(4, 4, 8).double()

    def one_pass(model, rows):
        model.neck.eval()
        monkeypatch.setattr(torch, 'randn', lambda shape, **_: noise[rows].reshape(shape))
        return F.cross_entropy(model(batch[rows]), LABELS[rows]) + noise_loss(model)

    whole, halves = model_in(phase, include='fc1'), model_in(phase, include='fc1')
    one_pass(whole, slice(0, 4)).backward()
    for rows in (slice(0, 2), slice(2, 4)):
        (one_pass(halves, rows) / 2).backward()
    assert set(gradients(whole)) == set(gradients(halves))
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(halves)[name], gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
def test_autocast_step_is_finite(phase, dtype):
    model = model_in(phase, dtype=torch.float32, include='all')
    with torch.autocast('cpu', dtype):
        task, noise = losses(model, dtype=torch.float32)
    assert noise.dtype == torch.float32
    (task.float() + noise).backward()
    assert gradients(model)
    assert all(g.isfinite().all() and g.dtype == torch.float32 for g in gradients(model).values())


def test_training_reaches_the_closed_form_optimum():
    """x ~ N(0, Sigma), L2 loss, stochastic training: loss within 2 % of the minimum, D near D*."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 3))
    convert(base, 'linear', timestep=300, loss_type='l2')
    layer = base[0]
    factor = torch.randn(6, 6) * 0.4
    moment, mean = (factor.T @ factor).double()[None], torch.zeros(1, 6).double()
    best, _ = optimal_predictor(moment, mean, layer.denoiser.step, True)
    with torch.no_grad():
        minimum = expected_l2_loss(moment, mean, best, None, layer.denoiser.step).item()
    optimizer = torch.optim.Adam(layer.denoiser.parameters(), 0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 700)
    for _ in range(700):
        base(torch.randn(512, 6) @ factor)
        optimizer.zero_grad()
        noise_loss(base).backward()
        optimizer.step()
        scheduler.step()
    reached = expected_l2_loss(
        moment, mean, layer.denoiser.weight.double(), layer.denoiser.bias.double(), layer.denoiser.step
    ).item()
    assert minimum <= reached < 1.02 * minimum
    assert (layer.denoiser.weight - best).norm() < 0.05 * best.norm()


def test_training_on_a_small_vit_beats_the_zero_predictor():
    model = model_in('denoise', dtype=torch.float32, include='all', timestep=600)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.01)
    base = {n: p.detach().clone() for n, p in model.named_parameters() if n not in predictors(model)}
    history = []
    for step in range(100):
        model(images(64, step))
        loss = noise_loss(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    zero = len(denoise_layers(model)) * ((2 / torch.pi) ** 0.5 + 1)
    assert sum(history[-10:]) / 10 < 0.95 * zero < history[0]
    assert all(torch.equal(p, base[n]) for n, p in model.named_parameters() if n in base)
