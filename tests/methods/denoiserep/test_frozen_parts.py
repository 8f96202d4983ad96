"""Parts that a model keeps frozen, in evaluation mode while it trains: their predictors are trained like all others."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import DenoiseRep, denoise_layers, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state

VIT = dict(
    model_name='vit_tiny_patch16_224', img_size=32, model_args=dict(embed_dim=16, depth=2, num_heads=2), frozen=True
)


def timm_vit() -> nn.Module:
    from reprefine.models.timm_vit import TimmViT

    return TimmViT(**copy.deepcopy(VIT))


def dvt_denoiser() -> nn.Module:
    from reprefine.methods.dvt.denoiser.neck import DVTDenoiser

    return DVTDenoiser(16, grid=2, frozen=True, num_heads=2)


def resnet() -> nn.Module:
    models = pytest.importorskip('mmpretrain.models')
    norm = dict(type='BN', requires_grad=False)
    return models.ResNet(18, base_channels=4, stem_channels=4, frozen_stages=4, norm_eval=True, norm_cfg=norm)


NORMS = (nn.LayerNorm, nn.BatchNorm2d)


class Flat(nn.Module):
    """Trainable layers behind the frozen part."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(channels), nn.Linear(channels, 3)

    def forward(self, features):
        return self.fc(self.norm(features[-1].mean((2, 3))))


class Frozen(BaseModel):
    """A model with a frozen part and a trainable one."""

    def __init__(self, part, channels, size):
        super().__init__()
        self.part, self.head, self.size = part, Flat(channels), size

    def forward(self, inputs, mode='tensor'):
        output = self.head(self.part((inputs,) if self.size is None else inputs))
        return {'loss_task': output.square().mean()} if mode == 'loss' else output


# the part, its selection, the channels that it gives, the shape of its input
PARTS = {
    'TimmViT': (timm_vit, r'part\..*mlp|head.fc', 16, (4, 3, 32, 32)),
    'DVTDenoiser': (dvt_denoiser, r'part\..*mlp|head.fc', 16, (4, 16, 2, 2)),
    'ResNet': (resnet, r'part\.layer|head.fc', 32, (4, 3, 32, 32)),
}


def model_of(part: str, **options) -> tuple[DenoiseRep, torch.Tensor]:
    torch.manual_seed(0)
    factory, include, channels, shape = PARTS[part]
    size = None if part == 'DVTDenoiser' else shape[-1]
    model = DenoiseRep(factory(), channels, size, base_type=Frozen, denoise=dict(include=include, **options))
    return model, torch.rand(shape, generator=torch.Generator().manual_seed(1))


def predictors_of(model: nn.Module) -> set[str]:
    return {f'{name}.denoiser.{part}' for name in denoise_layers(model) for part in ('weight', 'bias')} & {
        name for name, _ in model.named_parameters()
    }


@pytest.mark.parametrize('phases', [('denoise',), ('joint',), ('backbone', 'denoise')])
@pytest.mark.parametrize('part', PARTS)
def test_predictors_of_a_frozen_part_learn_and_nothing_else_of_it(part, phases):
    model, x = model_of(part)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1))
    for phase in phases:
        model.train()  # as every epoch does; some backbones then freeze their parameters again
        assert not any(part.training for part in model.part.modules() if isinstance(part, NORMS))
        set_phase(model, phase)
        model.train()
        before = {name: value.detach().clone() for name, value in model.state_dict().items()}
        for _ in range(2):
            log = model.train_step(dict(inputs=x), optimizer)
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        learnt = predictors_of(model) if phase != 'backbone' else set()
        assert moved & predictors_of(model) == learnt
        assert not {name for name in moved - learnt if name.startswith('part.')}
        assert ('loss_denoise' in log) == bool(learnt)
        assert ('head.fc.weight' in moved) == (phase != 'denoise')
    assert len(predictors_of(model)) >= len(denoise_layers(model)) > 2


@pytest.mark.parametrize('part', PARTS)
def test_a_phase_of_the_constructor_reaches_the_frozen_part(part):
    """Without a hook, and although training mode has been entered before the first iteration."""
    model, x = model_of(part, log_layers=True)
    losses = model.train()(x, mode='loss')
    assert {key.removeprefix('noise/') for key in losses if key.startswith('noise/')} == set(denoise_layers(model))
    losses['loss_denoise'].backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == predictors_of(model)


@pytest.mark.parametrize('part', PARTS)
def test_both_forms_are_equal_and_the_part_stays_frozen(part):
    model, x = model_of(part)
    flags = {name: p.requires_grad for name, p in model.named_parameters() if name not in predictors_of(model)}
    model.train().train_step(dict(inputs=x), OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
    with torch.no_grad():
        for layer in denoise_layers(model).values():
            layer.denoiser.weight.mul_(50)
    with torch.no_grad():
        expected = model.eval()(x)
        denoise_state(model).denoise_eval = False
        assert (model(x) - expected).abs().max() > 1e-4
        model.switch_to_deploy()
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    stock = Frozen(PARTS[part][0](), *PARTS[part][2:3], model.size).eval()
    stock.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(stock(x), expected, rtol=1e-4, atol=1e-5)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert not any(flag for name, flag in flags.items() if name.startswith('part.'))


@pytest.mark.parametrize('phase', ['backbone', 'joint'])
@pytest.mark.parametrize('part', PARTS)
def test_the_frozen_part_is_denoised_while_the_rest_trains(part, phase):
    """The head must be trained on the features that it gets in evaluation."""
    model, x = model_of(part)
    set_phase(model, phase)
    with torch.no_grad():
        for layer in denoise_layers(model).values():
            layer.denoiser.weight.mul_(50)
    seen = []
    model.head.register_forward_pre_hook(lambda head, inputs: seen.append(inputs[0][-1].detach()))
    with torch.no_grad():
        model.train()(x)
        model.eval()(x)
        denoise_state(model).denoise_eval = False
        model(x)
    trained, evaluated, reference = seen
    torch.testing.assert_close(trained, evaluated, rtol=1e-5, atol=1e-5)
    assert (trained - reference).abs().max() > 1e-4


def saved(network: nn.Module, file) -> dict:
    torch.save(network.state_dict(), file)
    return network.state_dict()


def test_a_frozen_part_loads_its_own_checkpoint_when_training_begins(tmp_path):
    """The file has no predictors, and must fill the part exactly."""
    from reprefine.models.timm_vit import TimmViT

    torch.manual_seed(3)
    trained = saved(timm_vit().vit, tmp_path / 'vit.pth')
    part = TimmViT(**VIT, checkpoint=str(tmp_path / 'vit.pth'))
    model = DenoiseRep(part, 16, 32, base_type=Frozen, denoise=dict(include='mlp'))
    layers = denoise_layers(model)
    predictors = {name: model.get_parameter(name).clone() for name in predictors_of(model)}
    order = list(model.state_dict())
    model.init_weights()
    assert denoise_layers(model) == layers
    assert list(model.state_dict()) == order
    state = model.part.vit.state_dict()
    assert all(torch.equal(state[name], value) for name, value in trained.items())
    assert all(torch.equal(model.get_parameter(name), value) for name, value in predictors.items())


def test_a_checkpoint_that_does_not_fit_is_refused_and_the_layers_stay(tmp_path):
    from reprefine.models.timm_vit import TimmViT

    torch.save({'head.weight': torch.zeros(2)}, tmp_path / 'vit.pth')
    part = TimmViT(**VIT, checkpoint=str(tmp_path / 'vit.pth'))
    model = DenoiseRep(part, 16, 32, base_type=Frozen, denoise=dict(include='mlp'))
    layers = denoise_layers(model)
    with pytest.raises(UserError, match='belongs to another model'):
        model.init_weights()
    assert denoise_layers(model) == layers


def test_weights_that_an_initialiser_puts_anew_are_those_of_the_layers():
    class Renewing(Frozen):
        def init_weights(self):
            fc = self.head.fc
            assert type(fc) is nn.Linear
            fc.weight = nn.Parameter(torch.ones_like(fc.weight))

    model = DenoiseRep(timm_vit(), 16, 32, base_type=Renewing, denoise=dict(include='head.fc'))
    model.init_weights()
    assert torch.equal(model.head.fc.weight, torch.ones(3, 16))
    assert list(denoise_layers(model)) == ['head.fc']
