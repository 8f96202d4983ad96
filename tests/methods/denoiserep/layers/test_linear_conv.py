"""Single denoising layers: exact reparameterisation, noise loss, gradients, dtypes (checks 3, 4, 6, 7, 8, 9, 16)."""

import copy
import pickle

import pytest
import torch
from torch import nn

from reprefine.methods.denoiserep import DenoiseConv2d, DenoiseLinear
from reprefine.methods.denoiserep.layers.state import DenoiseState

from ..toys import assert_same, constants, explicit_conv, explicit_linear, explicit_noise_loss, snapshot

T = 24
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def linear(bias=True, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    options = dict(timestep=T, embed_width=16) | options
    return DenoiseLinear(6, 5, bias=bias, denoise=options).to(dtype)


def conv(dtype=torch.float64, seed=0, options=None, **kwargs):
    torch.manual_seed(seed)
    kwargs = dict(in_channels=4, out_channels=8, kernel_size=3) | kwargs
    return DenoiseConv2d(**kwargs, denoise=dict(timestep=T, embed_width=16) | (options or {})).to(dtype)


def assert_reparameterises(layer, explicit, x):
    """Evaluation equals the explicit path and the reparameterised layer."""
    layer.eval()
    with torch.no_grad():
        expected, output, deployed = explicit(layer, x, T), layer(x), layer.reparameterize()(x)
    tolerance = TOLERANCE[x.dtype]
    torch.testing.assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(deployed.double(), expected, rtol=tolerance, atol=tolerance)
    reference = layer._forward_with(x, layer.weight, layer.bias).double()
    assert (reference - expected).abs().max() > 1e-4  # the step does something


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('shape', [(7, 6), (2, 7, 6), (2, 3, 5, 6), (6, 6)])
@pytest.mark.parametrize('time_embed', [True, False])
@pytest.mark.parametrize(('bias', 'policy'), [(True, 'keep'), (False, 'keep'), (False, 'add')])
@pytest.mark.parametrize('side', ['input', 'output'])
def test_linear_is_reparameterised_exactly(shape, dtype, time_embed, bias, policy, side):
    layer = linear(bias, dtype, time_embed=time_embed, bias_policy=policy, side=side)
    assert_reparameterises(layer, explicit_linear, torch.randn(shape, dtype=dtype))


def geometries():
    for side in ('output', 'input'):
        for groups in (1, 2, 4):
            for mode in ('zeros', 'reflect', 'circular'):
                for stride, padding, dilation in ((1, 'same', 1), (2, 1, 1), (1, 0, 2), (1, 'same', 2), (2, 2, 2)):
                    yield side, groups, mode, stride, padding, dilation


@pytest.mark.parametrize(('side', 'groups', 'mode', 'stride', 'padding', 'dilation'), list(geometries()))
def test_conv_is_reparameterised_exactly(side, groups, mode, stride, padding, dilation):
    """Groups 4 on 4 input channels is depthwise; every kernel, bias and dtype inside."""
    for kernel_size in (1, 2, 3, (3, 5)):
        for bias, policy in ((True, 'keep'), (False, 'keep'), (False, 'add')):
            layer = conv(
                kernel_size=kernel_size,
                bias=bias,
                groups=groups,
                padding_mode=mode,
                stride=stride,
                padding=padding,
                dilation=dilation,
                options=dict(side=side, bias_policy=policy),
            )
            assert layer.denoiser.weight.shape == ((8, 8 // groups) if side == 'output' else (4, 4 // groups))
            assert_reparameterises(layer, explicit_conv, torch.randn(2, 4, 10, 11).double())
    assert_reparameterises(layer.float(), explicit_conv, torch.randn(2, 4, 10, 11))


@pytest.mark.parametrize('side', ['input', 'output'])
def test_pointwise_conv_is_the_linear_layer(side):
    layer, other = linear(side=side), conv(in_channels=6, out_channels=5, kernel_size=1, options=dict(side=side))
    other.load_state_dict(
        {k: v.reshape(other.state_dict()[k].shape) for k, v in layer.state_dict().items()},
    )
    x = torch.randn(2, 3, 4, 6).double()
    torch.testing.assert_close(other.eval()(x.movedim(-1, 1)).movedim(1, -1), layer.eval()(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize('make', [linear, conv])
def test_a_ddim_step_is_reparameterised_exactly(make):
    layer = make(ddim_to=3) if make is linear else make(options=dict(ddim_to=3))
    step, start, target = layer.denoiser.step, constants(T), constants(3)
    assert step.c_x == pytest.approx((target.abar / start.abar) ** 0.5, rel=1e-12)
    c_e = (target.abar / start.abar) ** 0.5 * start.sigma - target.sigma
    assert step.c_e == pytest.approx(c_e, rel=1e-9)
    x = torch.randn(2, 6).double() if make is linear else torch.randn(2, 4, 5, 5).double()
    reference = layer._forward_with(x, layer.weight, layer.bias)
    if make is linear:
        x_hat = step.c_x * x - c_e * (x @ layer.denoiser.weight.T + layer.denoiser.bias)
        expected = layer._forward_with(x_hat, layer.weight, layer.bias)
    else:
        d = layer.denoiser
        eps_hat = torch.einsum('oc,bchw->bohw', d.weight, reference) + d.bias[:, None, None]
        expected = step.c_x * reference - c_e * eps_hat
    torch.testing.assert_close(layer.eval()(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.reparameterize()(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('loss_type', ['l1+l2', 'l1', 'l2'])
@pytest.mark.parametrize('case', ['linear', 'linear-output', 'conv', 'conv-input'])
@pytest.mark.parametrize('time_embed', [True, False])
def test_noise_loss_is_the_formula_on_the_drawn_noise(case, loss_type, time_embed):
    """The output is bitwise that of the base layer; the loss is that of the noise of the generator."""
    side = {'linear-output': 'output', 'conv-input': 'input'}.get(case)
    options = dict(side=side, loss_type=loss_type, time_embed=time_embed)
    is_linear = case.startswith('linear')
    layer = linear(**options) if is_linear else conv(groups=2, padding=1, options=options)
    x = torch.randn(3, 7, 6).double() if is_linear else torch.randn(3, 4, 6, 6).double()
    layer.state.generator = torch.Generator().manual_seed(5)
    layer.state._begin_forward(layer, None)
    output = layer(x)
    layer.state._end_forward(layer, None, output)
    reference = layer._forward_with(x, layer.weight, layer.bias)
    assert torch.equal(output, reference)
    feature = x if layer.side == 'input' else reference.detach()
    noise = torch.randn(feature.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = explicit_noise_loss(feature, noise, layer, T, loss_type, -1 if is_linear else 1)
    (loss,) = layer.state.pop_losses().values()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def run(layer, x, phase):
    layer.state.phase = phase
    layer.train()
    layer.state._begin_forward(layer, None)
    output = layer(x)
    layer.state._end_forward(layer, None, output)
    return output, layer.state.pop_losses()


@pytest.mark.parametrize('make', [linear, conv])
def test_noise_loss_trains_the_predictor_alone(make):
    layer = make(time_embed=True) if make is linear else make(options=dict(time_embed=True))
    x = (torch.randn(3, 6) if make is linear else torch.randn(3, 4, 6, 6)).double().requires_grad_()
    _, losses = run(layer, x, 'denoise')
    sum(losses.values()).backward()
    assert x.grad is None
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    assert all(p.grad.abs().max() > 0 for p in layer.denoiser.parameters())  # the time network included


@pytest.mark.parametrize('phase', ['backbone', 'joint'])
@pytest.mark.parametrize('make', [linear, conv])
def test_task_loss_trains_the_base_layer_through_the_merged_weight(make, phase):
    layer = make()
    x = (torch.randn(3, 6) if make is linear else torch.randn(2, 4, 5, 5)).double()
    output, losses = run(layer, x, phase)
    assert bool(losses) == (phase == 'joint')
    target = torch.randn_like(output)
    (output * target).sum().backward()
    assert all(p.grad is None for p in layer.denoiser.parameters())
    analytic = layer.weight.grad.clone(), layer.bias.grad.clone()
    for parameter, gradient in zip((layer.weight, layer.bias), analytic, strict=True):
        flat = parameter.data.view(-1)
        for index in (0, len(flat) // 2, len(flat) - 1):
            values = []
            for delta in (1e-4, -1e-4):
                flat[index] += delta
                values.append((layer.eval()(x) * target).sum().item())
                flat[index] -= delta
            assert gradient.view(-1)[index].item() == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-6, abs=1e-7)


def test_backbone_phase_equals_evaluation():
    layer, x = linear(time_embed=True), torch.randn(4, 6).double()
    output, losses = run(layer, x, 'backbone')
    assert not losses
    assert torch.equal(output, layer.eval()(x))


@pytest.mark.parametrize('phase', ['backbone', 'joint'])
def test_bias_noise_shifts_the_bias_by_one_draw_shared_by_the_batch(phase):
    """b' + s W z with the z of the generator; in evaluation and reparameterisation there is none."""
    layer, x = linear(bias_noise=True, dtype=torch.float64), torch.randn(4, 7, 6).double()
    quiet, generator = layer.eval()(x), torch.Generator()
    layer.state.generator = generator.manual_seed(3)
    noisy, _ = run(layer, x, phase)
    if phase == 'joint':
        torch.randn(x.shape, generator=generator.manual_seed(3), dtype=torch.float64)
        z = torch.randn(6, generator=generator)
    else:
        z = torch.randn(6, generator=torch.Generator().manual_seed(3))
    shift = constants(T).beta ** 0.5 * layer.weight @ z.double()
    torch.testing.assert_close(noisy - quiet, shift.expand_as(quiet), rtol=0, atol=1e-12)
    assert torch.equal(layer.eval()(x), quiet)
    torch.testing.assert_close(layer.reparameterize()(x), quiet, rtol=0, atol=1e-12)


@pytest.mark.parametrize('make', [linear, conv])
def test_evaluation_and_reparameterisation_draw_no_random_numbers(make):
    layer = make(bias_noise=True) if make is linear else make(options=dict(bias_noise=True))
    before = torch.get_rng_state()
    layer.eval()(torch.zeros(2, 6).double() if make is linear else torch.zeros(1, 4, 5, 5).double())
    layer.reparameterize()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('make', [linear, conv])
def test_reparameterisation_returns_a_new_base_layer_and_modifies_nothing(make, train, dtype):
    layer = make(dtype=dtype).train(train)
    layer.bias.requires_grad_(False)
    before, weight, bias = snapshot(layer), layer.weight, layer.bias
    first, second = layer.reparameterize(), layer.reparameterize()
    assert type(first) is (nn.Linear if make is linear else nn.Conv2d)
    assert_same(before, snapshot(layer))
    assert layer.weight is weight
    assert layer.bias is bias
    assert_same(snapshot(first), snapshot(second))
    assert first.weight is not layer.weight
    assert first.weight.data_ptr() != layer.weight.data_ptr()
    assert (first.weight.dtype, first.training) == (dtype, train)
    assert (first.weight.requires_grad, first.bias.requires_grad) == (True, False)
    assert repr(first) == repr((nn.Linear if make is linear else nn.Conv2d)(**base_arguments(first)))
    assert not {'denoiser', 'state'} & set(dir(first))
    first.weight.data.zero_()
    assert_same(before, snapshot(layer))


def base_arguments(layer):
    if isinstance(layer, nn.Linear):
        return dict(in_features=layer.in_features, out_features=layer.out_features)
    return dict(in_channels=layer.in_channels, out_channels=layer.out_channels, kernel_size=layer.kernel_size)


def test_merge_is_computed_wide_and_cast_once():
    layer = linear(dtype=torch.bfloat16)
    wide = copy.deepcopy(layer).double()
    expected = wide.effective_weight_bias()
    for found in (layer.effective_weight_bias(), (layer.reparameterize().weight, layer.reparameterize().bias)):
        for value, reference in zip(found, expected, strict=True):
            assert value.dtype == torch.bfloat16
            torch.testing.assert_close(value, reference.bfloat16(), rtol=2**-8, atol=1e-5)
    assert torch.equal(layer.reparameterize().weight, expected[0].bfloat16())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
@pytest.mark.parametrize('make', [linear, conv])
@pytest.mark.parametrize('autocast', [True, False])
def test_low_precision_steps_are_finite_and_losses_float32(make, phase, dtype, autocast):
    options = dict(time_embed=True)
    layer = make(**options) if make is linear else make(options=options)
    layer = layer.to(torch.float32 if autocast else dtype)
    x = torch.randn(3, 6) if make is linear else torch.randn(2, 4, 5, 5)
    with torch.autocast('cpu', dtype, enabled=autocast):
        output, losses = run(layer, x if autocast else x.to(dtype), phase)
        total = sum(losses.values(), output.float().square().mean())
    assert output.dtype == dtype
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    total.backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize('make', [linear, conv])
def test_zero_predictor_scales_the_weight(make):
    layer = make()
    for parameter in layer.denoiser.parameters():
        nn.init.zeros_(parameter)
    weight, bias = layer.effective_weight_bias()
    c_x = constants(T).c_x
    torch.testing.assert_close(weight, c_x * layer.weight, rtol=1e-12, atol=0)
    torch.testing.assert_close(bias, (1 if make is linear else c_x) * layer.bias, rtol=1e-12, atol=0)


@pytest.mark.parametrize('copier', [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize('make', [linear, conv])
def test_copies_compute_the_same_and_are_independent(make, copier):
    layer = make()
    layer.state.generator = torch.Generator()
    x = (torch.randn(3, 6) if make is linear else torch.randn(2, 4, 5, 5)).double()
    run(layer, x, 'denoise')
    copied = copier(layer)
    assert_same(snapshot(layer), snapshot(copied))
    assert torch.equal(layer.eval()(x), copied.eval()(x))
    assert copied.state is not layer.state
    copied.denoiser.weight.data.zero_()
    assert layer.denoiser.weight.abs().max() > 0


def test_predictor_has_the_default_initialisation_of_a_linear_layer():
    denoiser = DenoiseLinear(400, 3, denoise=dict(timestep=T)).denoiser
    for values in (denoiser.weight, denoiser.bias):
        assert values.abs().max() <= 1 / 20
        assert values.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.1)


def test_the_timestep_is_part_of_the_state_dict():
    source, target = linear(), linear(timestep=7, seed=1)
    target.load_state_dict(source.state_dict())
    x = torch.randn(4, 6).double()
    assert torch.equal(source.eval()(x), target.eval()(x))
    assert target.denoiser.step == source.denoiser.step


def test_several_layers_may_share_one_state():
    state = DenoiseState(['a', 'b'])
    first, second = linear(name='a', state=state), linear(name='b', state=state, seed=1)
    state._begin_forward(first, None)
    first(torch.randn(2, 6).double())
    second(torch.randn(2, 6).double())
    assert set(state.pop_losses()) == {'a', 'b'}
