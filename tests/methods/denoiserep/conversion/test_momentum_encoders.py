"""Moving averages inside of a model, such as MoCo's key encoder, gain what the parts that they average gain."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import (
    DenoiseRep,
    convert,
    denoise_layers,
    is_converted,
    noise_loss,
    reparameterize,
    set_phase,
)
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.registry import MODELS

MOMENTUM = 0.25
PHASES = ('denoise', 'backbone', 'joint')
MOCO = dict(
    type='MoCo', queue_len=8, feat_dim=6, momentum=MOMENTUM,
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3),
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, norm_cfg=dict(type='BN')),
    neck=dict(type='MoCoV2Neck', in_channels=32, hid_channels=8, out_channels=6),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)  # fmt: skip


def moco(**options) -> DenoiseRep:
    pytest.importorskip('mmpretrain.models')
    torch.manual_seed(0)
    config = copy.deepcopy(MOCO) | dict(type='reprefine.DenoiseRep', base_type='MoCo', denoise=options)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


def batch() -> dict:
    generator = torch.Generator().manual_seed(1)
    return dict(inputs=[torch.rand(4, 3, 32, 32, generator=generator) for _ in range(2)], data_samples=None)


def source_of(model) -> nn.Module:
    """What MoCo averages."""
    return nn.Sequential(model.backbone, model.neck)


def test_both_encoders_have_the_same_names():
    model = moco(include='all')
    keys, source = model.encoder_k.module, source_of(model)
    for kind in ('named_parameters', 'named_buffers', 'named_modules'):
        assert [name for name, _ in getattr(keys, kind)()] == [name for name, _ in getattr(source, kind)()]
    assert len(denoise_layers(model)) == 22
    assert len(denoise_layers(model, with_momentum=True)) == 44
    assert model.added_keys > {'encoder_k.module.0.conv1.denoiser.weight', 'neck.mlp.0.denoiser.weight'}
    timesteps = [
        {name: int(layer.denoiser.timestep) for name, layer in denoise_layers(part, with_momentum=True).items()}
        for part in (keys, source)
    ]
    assert timesteps[0] == timesteps[1]
    assert not any(p.requires_grad for p in keys.parameters())


@pytest.mark.parametrize('phase', PHASES)
def test_every_parameter_of_the_keys_follows_its_namesake(phase):
    """By ``k <- (1 - m) k + m q``, predictors included; the first update copies."""
    model = moco(include='all', phase=phase).train()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.5))
    expected = {}
    start = {name: p.detach().clone() for name, p in model.encoder_k.module.named_parameters()}
    for step in range(3):
        for name, p in source_of(model).named_parameters():
            value = p.detach().clone()
            expected[name] = value if step == 0 else (1 - MOMENTUM) * expected[name] + MOMENTUM * value
        losses = model(**batch(), mode='loss')
        optimizer.update_params(sum(losses.values()))
        assert set(losses) == {'loss_task'} | ({'loss_denoise'} if phase != 'backbone' else set())
        for name, p in model.encoder_k.module.named_parameters():
            torch.testing.assert_close(p.detach(), expected[name], rtol=1e-5, atol=1e-7)
    moved = {name for name, p in model.encoder_k.module.named_parameters() if not torch.equal(p, start[name])}
    predictors = {name for name in start if '.denoiser.' in name}
    assert moved >= predictors or phase == 'backbone'
    if phase == 'denoise':  # the predictors of the copy started from draws of their own
        assert moved == predictors


def test_the_key_side_records_no_noise_loss():
    """The sum is that of the query encoder; a key encoder alone has no noise loss."""
    model = moco(include='all', log_layers=True).train()
    losses = model(**batch(), mode='loss')
    logged = {key.removeprefix('noise/') for key in losses if key.startswith('noise/')}
    assert logged == set(denoise_layers(model)) == set(denoise_state(model).layer_names)
    assert not any(name.startswith('encoder_k') for name in logged)
    momentum_layers = denoise_layers(model, with_momentum=True).keys() - denoise_layers(model).keys()
    assert momentum_layers == {
        name for name in denoise_layers(model, with_momentum=True) if name.startswith('encoder_k.')
    }
    losses['loss_denoise'].backward()
    assert all(p.grad is None for p in model.encoder_k.parameters())
    assert noise_loss(model) == 0  # taken by the loss


@pytest.mark.parametrize('phase', PHASES)
def test_no_phase_trains_the_keys(phase):
    model = moco(include='all')
    for before in (*PHASES, phase):
        set_phase(model, before)
    assert not any(p.requires_grad for p in model.encoder_k.parameters())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    own = {name for name in trained if '.denoiser.' in name}
    assert bool(own) == (phase != 'backbone')
    assert bool(trained - own) == (phase != 'denoise')


def test_both_encoders_are_reparameterised_and_training_continues():
    model = moco(include='all', phase='joint').train()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    for _ in range(2):
        optimizer.update_params(sum(model(**batch(), mode='loss').values()))
    with torch.no_grad():
        for layer in denoise_layers(model, with_momentum=True).values():
            layer.denoiser.weight.mul_(20)
    image = batch()['inputs'][0]
    model.eval()
    with torch.no_grad():
        expected = source_of(model)(image)[0], model.encoder_k(image)[0]
        deployed = reparameterize(model)
        found = source_of(deployed)(image)[0], deployed.encoder_k(image)[0]
    for output, expected_output in zip(found, expected, strict=True):
        torch.testing.assert_close(output, expected_output, rtol=1e-4, atol=1e-5)
    assert not denoise_layers(deployed, with_momentum=True)
    assert is_converted(model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        stock = MODELS.build(copy.deepcopy(MOCO))
    stock.load_state_dict(deployed.state_dict())
    before = {name: p.detach().clone() for name, p in deployed.encoder_k.module.named_parameters()}
    source = {name: p.detach() for name, p in source_of(deployed).named_parameters()}
    deployed.encoder_k.update_parameters(source_of(deployed))
    for name, p in deployed.encoder_k.module.named_parameters():
        expected_value = (1 - MOMENTUM) * before[name] + MOMENTUM * source[name]
        torch.testing.assert_close(p.detach(), expected_value, rtol=1e-5, atol=1e-6)


class Momentum(nn.Module):
    """A part, another one, and an average of what ``averaged`` makes of them."""

    def __init__(self, averaged, **options):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
        self.head = nn.Linear(4, 2)
        self.average = ExponentialMovingAverage(averaged(self), momentum=MOMENTUM, **options)

    def forward(self, x):
        return self.head(self.net(x))


AVERAGES = {
    'a part': (lambda model: model.net, {'module.0', 'module.1.0'}),
    'parts in a row': (lambda model: nn.Sequential(model.net, model.head), {'module.0.0', 'module.0.1.0', 'module.1'}),
    'parts by name': (
        lambda model: nn.ModuleDict(dict(a=model.head, b=model.net)),
        {'module.a', 'module.b.0', 'module.b.1.0'},
    ),
    'a layer': (lambda model: model.head, {'module'}),
    'something else': (lambda model: nn.Linear(3, 3), set()),
}


@pytest.mark.parametrize('update_buffers', [False, True])
@pytest.mark.parametrize('case', AVERAGES)
def test_averages_of_parts_gain_their_layers(case, update_buffers):
    averaged, expected = AVERAGES[case]
    model = Momentum(averaged, update_buffers=update_buffers)
    convert(model, 'linear')
    assert list(denoise_layers(model)) == ['net.0', 'net.1.0', 'head']
    momentum_layers = denoise_layers(model, with_momentum=True).keys() - denoise_layers(model).keys()
    assert momentum_layers == {f'average.{name}' for name in expected}
    if not expected:
        return
    source = averaged(model)
    for step in range(2):
        with torch.no_grad():
            for p in source.parameters():
                p.fill_(1.0 + 4 * step)
        model.average.update_parameters(source)
    for name, p in model.average.module.named_parameters():
        assert torch.equal(p, torch.full_like(p, 2.0)), name
    for name, buffer in model.average.module.named_buffers():
        torch.testing.assert_close(buffer, source.get_buffer(name))


@pytest.mark.parametrize(
    ('averaged', 'message'),
    [
        (lambda model: nn.Sequential(model.net, copy.deepcopy(model.net)), "'net.0' matches 2 layers of the moving"),
        (lambda model: nn.Sequential(model.net[0], nn.Identity()), "'net.1.0' matches 0 layers of the moving"),
        (lambda model: model.net[1], "the moving average 'average' copies 'net.1'"),
        (lambda model: nn.Sequential(model.net[1]), "the moving average 'average' copies 'net.1'"),
    ],
)
def test_an_average_whose_pairs_would_not_fit_is_refused(averaged, message):
    model = Momentum(averaged)
    with pytest.raises(UserError, match=message) as refused:
        convert(model, 'linear')
    assert 'exclude' in str(refused.value)
    assert not is_converted(model)
    convert(model, 'linear', exclude='net')
    assert list(denoise_layers(model, with_momentum=True)) == ['head']
