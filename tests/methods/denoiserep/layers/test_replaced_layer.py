"""A layer that another method has replaced is one layer: denoised at its output, reparameterised as one."""

import copy
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert, denoise_layers, noise_loss, reparameterize, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.methods.denoiserep.functional import linear_betas, reverse_step
from reprefine.methods.denoiserep.layers.noise_predictor import NoisePredictor
from reprefine.methods.denoiserep.layers.replaced_layer import DenoiseReplaced, denoise_replaced, step_matrix
from reprefine.models.replaced_layer import ReplacedLayer

from ..toys import constants, dense_predictor, explicit_noise_loss, explicit_step, snapshot

T = 7


class _Branches(nn.Module):
    """Two layers whose outputs are added; deployed it is one layer."""

    def __init__(self, branches, deployed):
        super().__init__()
        self.branches, self.deployed = nn.ModuleList(branches), None
        self.make_deployed = deployed

    def forward(self, x: Tensor) -> Tensor:
        if self.deployed is not None:
            return self.deployed(x)
        return sum(branch(x) for branch in self.branches)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        if self.deployed is None:
            self.deployed = self.make_deployed().to(self.branches[0].weight)
            self.deployed.weight.copy_(sum(self.widened(branch.weight) for branch in self.branches))
            self.deployed.bias.copy_(sum(branch.bias for branch in self.branches))
            del self.branches

    @torch.no_grad()
    def map_output(self, weight: Tensor, shift: Tensor) -> None:
        if self.deployed is None:
            raise RuntimeError('in training form')
        own = self.deployed
        blocks = weight.reshape(self.groups, -1, weight.shape[1]).to(own.weight)
        for parameter in (own.weight, own.bias):
            rows = parameter.reshape(self.groups, blocks.shape[1], -1)
            parameter.copy_((blocks @ rows).view_as(parameter))
        own.bias.add_(shift.to(own.bias))


class BranchedLinear(_Branches):
    replaced_type, groups = nn.Linear, 1

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__([nn.Linear(inputs, outputs) for _ in range(2)], partial(nn.Linear, inputs, outputs))
        self.out_channels = outputs

    def widened(self, weight: Tensor) -> Tensor:
        return weight


class BranchedConv(_Branches):
    replaced_type = nn.Conv2d

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        wide = dict(kernel_size=3, padding=1, stride=2, groups=groups)
        narrow = dict(kernel_size=1, stride=2, groups=groups)
        branches = [nn.Conv2d(inputs, outputs, **wide), nn.Conv2d(inputs, outputs, **narrow)]
        super().__init__(branches, partial(nn.Conv2d, inputs, outputs, **wide))
        self.out_channels, self.groups = outputs, groups

    def widened(self, weight: Tensor) -> Tensor:
        return weight if weight.shape[-1] == 3 else F.pad(weight, (1, 1, 1, 1))


# the layer, an input, the axis of the output's channels
LAYERS = {
    'linear': (lambda: BranchedLinear(5, 6), (3, 5), -1),
    'linear of tokens': (lambda: BranchedLinear(5, 6), (2, 4, 5), -1),
    'conv': (lambda: BranchedConv(4, 6), (2, 4, 7, 8), 1),
    'conv of 2 groups': (lambda: BranchedConv(4, 6, groups=2), (2, 4, 7, 8), 1),
    'conv of single channels': (lambda: BranchedConv(4, 4, groups=4), (2, 4, 7, 8), 1),
}


class Net(nn.Module):
    """One replaced layer under a name that every preset knows."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.mlp = nn.Sequential(layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


def denoised(case: str, **options) -> tuple[Net, Tensor]:
    """A converted model in float64, and an input."""
    torch.manual_seed(0)
    factory, shape, _ = LAYERS[case]
    model = Net(factory()).double()
    convert(model, 'all', timestep=T, **options)
    return model, torch.randn(shape, dtype=torch.float64)


def base_output(layer: nn.Module, x: Tensor) -> Tensor:
    return sum(branch(x) for branch in layer.branches)


def test_the_doubles_follow_the_protocol():
    for factory, _, _ in LAYERS.values():
        assert isinstance(factory(), ReplacedLayer)
    assert not isinstance(nn.Linear(2, 2), ReplacedLayer)


@pytest.mark.parametrize(('channels', 'groups'), [(6, 1), (6, 2), (4, 4)])
def test_the_map_is_the_reverse_step_in_float64(channels, groups):
    """``M y + s`` against ``x_hat = c_x y - c_e (D (y + tau) + d)``, with constants from their definitions."""
    torch.manual_seed(0)
    denoiser = NoisePredictor(channels, T, groups, time_embed=True, embed_width=8, side='output').double()
    y = torch.randn(5, channels, dtype=torch.float64)
    matrix = step_matrix(denoiser.weight, reverse_step(linear_betas(), T)).detach()
    assert (matrix.shape, matrix.dtype) == (denoiser.weight.shape, torch.float64)
    dense = torch.block_diag(*matrix.split(matrix.shape[1]))
    expected = constants(T).c_x * torch.eye(channels).double() - constants(T).c_e * dense_predictor(denoiser)
    torch.testing.assert_close(dense, expected, rtol=1e-12, atol=1e-14)
    shift = -constants(T).c_e * denoiser.constant().detach()
    torch.testing.assert_close(y @ dense.T + shift, explicit_step(y, denoiser, T, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('options', [{}, dict(time_embed=True, embed_width=8), dict(step='ddim', to=2)])
@pytest.mark.parametrize('case', LAYERS)
def test_evaluation_denoises_and_is_reparameterised_exactly(case, options):
    model, x = denoised(case, **options)
    layer = model.mlp[0]
    with torch.no_grad():
        output = model.eval()(x)
        if 'step' not in options:
            expected = explicit_step(base_output(layer, x), layer.denoiser, T, LAYERS[case][2])
            torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        assert (output - base_output(layer, x)).abs().max() > 1e-4
        deployed = reparameterize(model)
        torch.testing.assert_close(deployed(x), output, rtol=1e-12, atol=1e-12)
        denoise_state(model).denoise_eval = False
        torch.testing.assert_close(model(x), base_output(layer, x), rtol=0, atol=0)
    assert type(deployed.mlp[0]) is type(LAYERS[case][0]())
    stock = Net(LAYERS[case][0]()).double()
    stock.mlp[0].switch_to_deploy()
    stock.load_state_dict(deployed.state_dict(), strict=True)
    torch.testing.assert_close(stock(x), deployed(x))


def test_reparameterisation_does_not_modify_the_training_model():
    model, x = denoised('conv of 2 groups')
    before, output = snapshot(model), model.eval()(x)
    reparameterize(model)
    assert isinstance(model.mlp[0], DenoiseReplaced)
    assert all(torch.equal(value, before[key]) for key, value in snapshot(model).items())
    assert torch.equal(model(x), output)


@pytest.mark.parametrize('include', ['mlp', 'linear', 'conv', 'all', 'last', r'mlp\.0$', r'branches'])
@pytest.mark.parametrize('case', ['linear', 'conv'])
def test_inner_layers_are_never_converted(case, include):
    model = Net(LAYERS[case][0]())
    chooses = include in ('all', 'last', r'mlp\.0$') or include == case or (case == 'linear' and include == 'mlp')
    if not chooses:
        with pytest.raises(UserError, match='no layer can be converted|a part of'):
            convert(model, include)
        return
    rows = convert(model, include)
    assert [(row.name, row.type, row.side) for row in rows] == [('mlp.0', type(LAYERS[case][0]()).__name__, 'output')]
    assert {name for name, _ in model.named_parameters() if 'denoiser' in name} == {
        'mlp.0.denoiser.weight', 'mlp.0.denoiser.bias'
    }  # fmt: skip
    assert all(type(branch) is model.mlp[0].replaced_type for branch in model.mlp[0].branches)


def test_a_model_of_base_and_replaced_layers():
    """Both take part in the same count of timesteps, and either kind can be left out by its type."""
    model = nn.Sequential(nn.Linear(5, 5), BranchedLinear(5, 6), nn.Linear(6, 2))
    convert(model, 'linear')
    assert {name: int(layer.denoiser.timestep) for name, layer in denoise_layers(model).items()} == {
        '0': 3, '1': 2, '2': 1
    }  # fmt: skip
    assert [len(layer.denoiser.weight) for layer in denoise_layers(model).values()] == [5, 6, 6]
    x = torch.randn(4, 5)
    expected = model.eval()(x)
    torch.testing.assert_close(reparameterize(model)(x), expected, rtol=1e-5, atol=1e-6)
    other = nn.Sequential(nn.Conv2d(3, 5, 1), BranchedLinear(5, 6))
    convert(other, 'all', types=(nn.Conv2d,))
    assert list(denoise_layers(other)) == ['0']


@pytest.mark.parametrize('side', [None, 'output', 'narrow'])
def test_every_side_but_the_input_is_the_output(side):
    model, _ = denoised('linear', side=side)
    assert model.mlp[0].side == 'output'
    assert model.mlp[0].denoiser.weight.shape == (6, 6)


def test_the_input_side_is_refused_and_the_model_is_not_modified():
    model = Net(BranchedConv(4, 6))
    with pytest.raises(UserError, match=r'mlp.0, a BranchedConv, which is denoised at its output only: .*exclude'):
        convert(model, 'all', side='input')
    assert type(model.mlp[0]) is BranchedConv


@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint', 'eval_only'])
@pytest.mark.parametrize('case', LAYERS)
def test_each_phase_trains_its_own_part(case, phase):
    model, x = denoised(case)
    layer, dim = model.mlp[0], LAYERS[case][2]
    set_phase(model.train(), phase)
    denoise_state(model).generator = torch.Generator().manual_seed(5)
    output = model(x)
    noise = noise_loss(model)
    base = base_output(layer, x)
    denoise = explicit_step(base.detach(), layer.denoiser, T, dim)
    torch.testing.assert_close(
        output.detach(), base.detach() if phase == 'denoise' else denoise, rtol=1e-12, atol=1e-12
    )
    if phase in ('denoise', 'joint'):
        generator = torch.Generator().manual_seed(5)
        eps = torch.randn(base.shape, dtype=torch.float64, generator=generator)
        expected = explicit_noise_loss(base.detach(), eps, layer, T, dim=dim)
        torch.testing.assert_close(noise.detach(), expected, rtol=1e-12, atol=1e-12)
    else:
        assert noise == 0
    if phase != 'eval_only':
        (output.square().sum() + noise).backward()
    trained = {name.partition('.denoiser.')[1] for name, p in model.named_parameters() if p.grad is not None}
    assert (
        trained == {'denoise': {'.denoiser.'}, 'backbone': {''}, 'joint': {'', '.denoiser.'}, 'eval_only': set()}[phase]
    )


@pytest.mark.parametrize('phase', ['backbone', 'joint'])
def test_the_task_loss_reaches_the_inner_layers_through_the_step(phase):
    model, x = denoised('conv of 2 groups')
    set_phase(model.train(), phase)
    layer = model.mlp[0]
    weights = [branch.weight for branch in layer.branches]
    found = torch.autograd.grad(model(x).square().sum(), [*weights, layer.branches[0].bias])
    step = explicit_step(base_output(layer, x), layer.denoiser, T, 1)
    expected = torch.autograd.grad(step.square().sum(), [*weights, layer.branches[0].bias])
    for value, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('case', ['linear', 'conv of 2 groups'])
def test_the_noise_of_the_bias_acts_in_training_only(case):
    """``y' = x_hat + sqrt(beta) z`` with one ``z`` for the batch."""
    model, x = denoised(case, bias_noise=True)
    layer, dim = model.mlp[0], LAYERS[case][2]
    set_phase(model.train(), 'backbone')
    denoise_state(model).generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        output = model(x)
        expected = explicit_step(base_output(layer, x), layer.denoiser, T, dim)
        z = torch.randn(len(layer.denoiser.weight), generator=torch.Generator().manual_seed(5)).double()
        added = (constants(T).beta ** 0.5 * z).view(-1, *[1] * (x.dim() - 2 if dim == 1 else 0))
        torch.testing.assert_close(output, expected + added, rtol=1e-12, atol=1e-12)
        assert not torch.equal(model(x), output)
        assert torch.equal(model.eval()(x), model(x))
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_names_are_those_of_the_layer_and_the_predictor():
    base, (model, x) = Net(BranchedConv(4, 6, groups=2)).double(), denoised('conv of 2 groups')
    missing, unexpected = model.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected
    assert {name.rpartition('.denoiser.')[0] for name in missing} == {'mlp.0'}
    set_phase(model.train(), 'denoise')
    assert torch.equal(model(x), base(x))


@pytest.mark.parametrize('way', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize('case', ['linear', 'conv of 2 groups'])
def test_copies_and_pickles(case, way):
    torch.manual_seed(0)
    model = nn.Sequential(LAYERS[case][0]())
    convert(model, 'all', timestep=T)
    x = torch.randn(LAYERS[case][1])
    set_phase(model.train(), 'joint')
    graph = model(x)
    copied = way(model)
    (graph.sum() + noise_loss(model)).backward()
    assert type(copied[0]) is type(model[0]) is denoise_replaced(type(LAYERS[case][0]()))
    assert copied[0].state is denoise_state(copied) is not denoise_state(model)
    assert torch.equal(copied.eval()(x), model.eval()(x))
    torch.testing.assert_close(reparameterize(copied)(x), model(x), rtol=1e-5, atol=1e-6)
