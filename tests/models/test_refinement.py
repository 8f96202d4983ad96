"""The base class of methods that extend a model, by a small method that adds a loss."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.config_check.check import check_config
from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import DenoiseRep
from reprefine.models.refinement import Refinement, refined_type
from reprefine.registry import MODELS
from tests.helpers.small_models import HOSTS, refined, stock_config


class FeaturePenalty(Refinement):
    """Penalises the features of a submodule."""

    option_key = 'penalty'

    def refine(self, part='backbone', weight=0.5):
        self.weight = weight
        self.get_submodule(part).register_forward_hook(self.record)

    def record(self, part, inputs, outputs):
        self.penalty = sum(feature.square().mean() for feature in outputs)

    def extra_losses(self):
        return {'loss_penalty': self.weight * self.__dict__.pop('penalty')}


class Base(BaseModel):
    """A linear model of one output, with an attribute, a buffer and a second loss."""

    def __init__(self, width=3, *, bias=True):
        super().__init__()
        self.width, self.backbone = width, nn.Sequential(nn.Linear(width, 1, bias=bias))
        self.register_buffer('count', torch.zeros(()))

    def forward(self, inputs, targets=None, mode='tensor'):
        output = self.backbone(inputs)
        if mode == 'loss':
            error = (output - targets).square().mean()
            return {'loss': error, 'loss_size': output.abs().mean(), 'accuracy': torch.tensor(0.5)}
        return output


class OtherBase(Base):
    pass


@pytest.fixture
def registered():
    """The registered name of the method."""
    MODELS.register_module(name='FeaturePenalty', module=FeaturePenalty)
    yield 'reprefine.FeaturePenalty'
    MODELS.module_dict.pop('FeaturePenalty')


def model(**options) -> Base:
    torch.manual_seed(0)
    return FeaturePenalty(base_type=Base, penalty=options)


def batch() -> dict:
    generator = torch.Generator().manual_seed(1)
    return dict(inputs=torch.randn(4, 3, generator=generator), targets=torch.randn(4, 1, generator=generator))


@pytest.mark.parametrize('case', ['swin classifier', 'fcn, dilated'])
def test_a_loss_is_added_to_those_of_any_base_model(case, registered):
    library, text, _, _, make_batch, _ = HOSTS[case]
    stock = MODELS.build(stock_config(library, text))
    config = stock_config(library, refined(text, registered, penalty=dict(weight=2.0)))
    torch.manual_seed(0)
    np.random.seed(0)
    network, data = MODELS.build(config), make_batch()
    stock.load_state_dict(network.state_dict())
    logs = []
    for trained in (network, stock):
        torch.manual_seed(2)
        log = trained.train().train_step(copy.deepcopy(data), OptimWrapper(torch.optim.SGD(trained.parameters(), 0.1)))
        logs.append({key: value.item() for key, value in log.items()})
    added = logs[0].pop('loss_penalty')
    assert logs[0].pop('loss') == pytest.approx(logs[1]['loss'] + added, rel=1e-5)
    if 'loss_task' in logs[0]:  # mmpretrain calls its only term `loss`
        assert logs[0].pop('loss_task') == pytest.approx(logs[1]['loss'], rel=1e-5)
    assert logs[0] == pytest.approx({key: value for key, value in logs[1].items() if key != 'loss'}, rel=1e-5)
    moved = [key for key, p in network.named_parameters() if not torch.allclose(p, stock.get_parameter(key), atol=1e-6)]
    assert any(key.startswith('backbone.') for key in moved)
    assert not any(key.startswith(('head.', 'decode_head.', 'auxiliary_head.')) for key in moved)


def test_losses_are_those_of_the_base_and_those_of_the_method():
    network, data = model(weight=2.0), batch()
    losses = network(**data, mode='loss')
    output = network(data['inputs'])
    assert list(losses) == ['loss_task', 'loss_size', 'accuracy', 'loss_penalty']
    torch.testing.assert_close(losses['loss_task'], (output - data['targets']).square().mean())
    torch.testing.assert_close(losses['loss_size'], output.abs().mean())
    assert losses['accuracy'] == 0.5
    torch.testing.assert_close(losses['loss_penalty'], 2.0 * sum(row.square().mean() for row in output))


def test_the_model_is_the_base_model():
    network = model()
    assert isinstance(network, Base)
    assert isinstance(network, FeaturePenalty)
    assert network.width == 3
    assert network.state_dict().keys() == Base().state_dict().keys()
    assert [name for name, _ in network.named_modules()] == [name for name, _ in Base().named_modules()]
    assert vars(network).keys() - vars(Base()).keys() == {'weight'}
    assert type(network).__name__ == 'FeaturePenaltyBase'
    assert type(network).__doc__ == Base.__doc__


def test_arguments_go_to_the_base_and_options_to_the_method():
    network = FeaturePenalty(5, bias=False, base_type=Base, penalty=dict(weight=3.0))
    assert (network.width, network.backbone[0].bias, network.weight) == (5, None, 3.0)
    assert FeaturePenalty(base_type=Base).weight == 0.5
    assert FeaturePenalty(base_type=Base, penalty=None).weight == 0.5
    with pytest.raises(TypeError, match='unexpected keyword argument'):
        FeaturePenalty(base_type=Base, weight=3.0)


def test_there_is_one_type_for_each_method_and_base():
    first, second = model(), model(weight=1.0)
    assert type(first) is type(second) is refined_type(FeaturePenalty, Base)
    other = FeaturePenalty(base_type=OtherBase)
    assert type(other) is not type(first)
    assert type(first).refines == (FeaturePenalty, Base)
    assert not isinstance(first, DenoiseRep)


class Bases:
    """``base_type`` by name, in the scope of the config."""

    def __enter__(self):
        MODELS.register_module(name='PenalisedBase', module=Base)

    def __exit__(self, *_):
        MODELS.module_dict.pop('PenalisedBase')


@pytest.mark.parametrize('base', ['reprefine.PenalisedBase', 'PenalisedBase', Base])
def test_the_base_is_named_in_the_scope_of_the_config_or_is_a_class(base, registered):
    with Bases(), DefaultScope.overwrite_default_scope('reprefine'):
        built = MODELS.build(dict(type=registered, base_type=base, width=2, penalty=dict(weight=4)))
    assert type(built) is refined_type(FeaturePenalty, Base)
    assert (built.width, built.weight) == (2, 4)


@pytest.mark.parametrize('way', [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_and_pickles_are_of_the_same_type_and_compute_the_same(way):
    network, data = model(weight=2.0), batch()
    network.train_step(data, OptimWrapper(torch.optim.SGD(network.parameters(), 0.1)))
    in_flight = network(**data, mode='loss')
    copied = way(network)
    sum(value for key, value in in_flight.items() if 'loss' in key).backward()
    assert type(copied) is type(network)
    assert copied is not network
    assert copied.weight == 2.0
    torch.testing.assert_close(copied(data['inputs']), network(data['inputs']), rtol=0, atol=0)
    del network.penalty
    assert torch.equal(copied(**data, mode='loss')['loss_penalty'], in_flight['loss_penalty'])
    assert all(p.grad is None for p in copied.parameters())


def test_the_hook_of_a_copy_belongs_to_the_copy():
    network = model()
    copied = copy.deepcopy(network)
    copied(batch()['inputs'])
    assert 'penalty' in vars(copied)
    assert 'penalty' not in vars(network)
    with torch.no_grad():
        copied.backbone[0].weight.zero_()
    assert network.backbone[0].weight.abs().max() > 0


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            dict(penalty=dict(weight=2)),
            r'FeaturePenalty takes the keys of the base model beside its own: inherit the config of the base model and '
            r"write dict\(type='reprefine.FeaturePenalty', base_type=\{\{_base_.model.type\}\}, "
            r'penalty=dict\(weight=2\)\)$',
        ),
        (
            dict(model=dict(type='reprefine.Any'), weight=2, data_preprocessor=dict(mean=1)),
            r'base_type=\{\{_base_.model.type\}\}, penalty=dict\(weight=2\)\)$',
        ),
        (
            dict(base_type='reprefine.Unknown'),
            "base_type='reprefine.Unknown' of FeaturePenalty is not a registered model",
        ),
        (dict(base_type='reprefine.DenoiseRep'), "base_type='reprefine.DenoiseRep' of FeaturePenalty has a base_type"),
        (dict(base_type=refined_type(FeaturePenalty, Base)), 'apply one of the two methods to a part of the model'),
        (dict(base_type=dict), 'is not a model'),
    ],
)
def test_an_invalid_base_type_is_refused_with_the_remedy(config, message, registered):
    with pytest.raises(UserError, match=message) as refused:
        MODELS.build(dict(type=registered) | config)
    assert '\n' not in str(refused.value)


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (dict(base_type='ImageClasifier'), r"model.base_type: .*'ImageClassifier'"),
        (dict(base_type='ImageClassifier', backbon=1), r"model.backbon: .*'backbone'"),
        (dict(base_type='ImageClassifier', penalty=dict(wait=1)), r"model.penalty.wait: .*'weight'"),
        (dict(base_type='ImageClassifier', penallty=dict()), r"model.penallty: .*'penalty'"),
        (dict(base_type='ImageClassifier', backbone=dict(type='ResNet', detph=1)), r"model.backbone.detph: .*'depth'"),
        (dict(model=dict(type='ImageClassifier'), weight=2), r'model: .* penalty=dict\(weight=2\)\)$'),
        (dict(base_type='reprefine.DenoiseRep'), r'model.base_type: .* has a base_type of its own'),
    ],
)
def test_the_config_check_finds_wrong_arguments_of_the_base_and_the_method(model, message, registered, monkeypatch):
    pytest.importorskip('mmpretrain')
    with pytest.raises(UserError, match=message):
        check_config(Config(dict(default_scope='mmpretrain', model=dict(type=registered, **model))))
