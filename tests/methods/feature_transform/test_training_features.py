"""What mmengine and torch offer for training, on contrastive models: rates by name, averaging, recomputation, …"""

import copy
import pickle

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import ExponentialMovingAverage, convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn
from torch.testing import assert_close

from reprefine.registry import MODELS

from .test_models import BASE_MODELS, refined
from .toys import BACKBONE, build, moco_ft, runner, views


def step(model, seed=3):
    """Losses and statistics of a training step, the gradients, and the state that the step leaves."""
    torch.manual_seed(seed)  # of the transform's draws
    model.train().zero_grad()
    terms = model(views(), None, mode='loss')
    sum(value for key, value in terms.items() if 'loss' in key).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert gradients
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return {key: value.detach() for key, value in terms.items()}, gradients, state


def settings(model, constructor, rules):
    config = dict(optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1), constructor=constructor, paramwise_cfg=rules)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        groups = build_optim_wrapper(model, config).optimizer.param_groups
    of = {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    return {name: of[id(p)] for name, p in model.named_parameters() if id(p) in of}


@pytest.mark.parametrize(
    ('constructor', 'rules'),
    [
        ('LearningRateDecayOptimWrapperConstructor', dict(layer_decay_rate=0.5)),
        ('DefaultOptimWrapperConstructor', dict(custom_keys={'backbone.layer1': dict(lr_mult=0.1, decay_mult=0)})),
        ('DefaultOptimWrapperConstructor', dict(bias_lr_mult=2.0, norm_decay_mult=0.0)),
    ],
)
@BASE_MODELS
def test_learning_rates_are_those_of_the_base_model(base, constructor, rules):
    import mmpretrain.engine.optimizers  # noqa: F401, registers the constructor

    deep = dict(backbone=BACKBONE | dict(depth=50), neck=base['neck'] | dict(in_channels=128))
    expected, found = (settings(make(base, **deep), constructor, rules) for make in (build, refined))
    assert len(set(expected.values())) > 1
    assert found == expected


class Watch(Hook):
    """Remembers a weight of the query encoder after every iteration."""

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, *_, **__):
        self.seen.append(runner.model.backbone.conv1.weight.detach().clone())


def test_the_ema_hook_saves_the_average_which_starts_a_backbone(tmp_path):
    watch = Watch()
    made = runner(tmp_path, moco_ft(), custom_hooks=[dict(type='EMAHook', momentum=0.25), watch])
    made.train()
    average = watch.seen[0]
    for weight in watch.seen[1:]:
        average = 0.75 * average + 0.25 * weight
    saved = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert_close(saved['state_dict']['backbone.conv1.weight'], average)
    assert torch.equal(saved['ema_state_dict']['module.backbone.conv1.weight'], watch.seen[-1])
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'epoch_3.pth'), prefix='backbone.')
    backbone = build(BACKBONE, init_cfg=start)
    backbone.init_weights()
    assert_close(backbone.conv1.weight.detach(), average)


@BASE_MODELS
def test_an_average_of_the_model_is_that_of_the_base_model(base):
    averages = []
    for model in (build(base), refined(base, feature_transform=None)):
        average = ExponentialMovingAverage(model, momentum=0.25, update_buffers=True)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
        for seed in (1, 2):
            step(model, seed)
            optimizer.step()
            average.update_parameters(model)
        averages.append(average.state_dict())
    for key, value in averages[0].items():
        assert_close(averages[1][key], value, rtol=1e-4, atol=1e-5, msg=lambda message, key=key: f'{key}: {message}')


@pytest.mark.filterwarnings('ignore:torch.utils.checkpoint')
@pytest.mark.parametrize('way', ['of the runner', 'with_cp'])
@BASE_MODELS
def test_recomputed_stages_change_neither_loss_nor_gradients_nor_queues(base, way):
    model = refined(base, backbone=BACKBONE | dict(with_cp=way == 'with_cp'))
    if way == 'of the runner':
        turn_on_activation_checkpointing(model, ['backbone.layer2', 'backbone.layer4'])
    (terms, gradients, state), (expected, others, left) = step(model), step(refined(base))
    assert_close(terms, expected)
    assert_close(gradients, others)
    is_statistic = [key for key in left if 'running_' in key or 'num_batches' in key]  # moved by the recomputation
    assert_close(
        {k: v for k, v in state.items() if k not in is_statistic},
        {k: v for k, v in left.items() if k not in is_statistic},
    )


@BASE_MODELS
def test_sync_bn_reaches_both_encoders_and_changes_nothing_else(base):
    model, baseline = convert_sync_batchnorm(refined(base), 'torch'), refined(base)
    for encoder in (model.backbone, model.encoder_k):
        assert sum(isinstance(module, nn.SyncBatchNorm) for module in encoder.modules()) == 20
    assert list(model.state_dict()) == list(baseline.state_dict())
    assert_close(model.eval().extract_feat(views()[0]), baseline.eval().extract_feat(views()[0]))
    model = revert_sync_batchnorm(model)
    for actual, reference in zip(step(model), step(baseline), strict=True):
        assert_close(actual, reference)


@pytest.mark.parametrize('is_trained', [False, True])
@BASE_MODELS
def test_copies_are_independent_and_train_as_the_model_does(base, is_trained):
    model = refined(base)
    if is_trained:
        step(model)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    expected = step(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for clone in copies:
        for actual, reference in zip(step(clone), expected, strict=True):
            assert_close(actual, reference, rtol=0, atol=0)
        step(clone, seed=4)
        clone.feature_transform.enabled = False
    assert model.feature_transform.enabled
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@MODELS.register_module()
class OneConvolution(nn.Module):
    """The smallest backbone with a norm, because compiling takes its time."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, images):
        return (self.layers(images),)


@BASE_MODELS
def test_compiled_steps_of_training_and_evaluation_compute_the_same(base):
    small = dict(backbone=dict(type='reprefine.OneConvolution'), neck=base['neck'] | dict(in_channels=4))
    model, baseline = refined(base, **small), refined(base, **small)
    model.forward = torch.compile(model.forward, backend='eager')
    for seed in (3, 4):
        for actual, reference in zip(step(model, seed), step(baseline, seed), strict=True):
            assert_close(actual, reference)
    with torch.no_grad():
        assert torch.equal(model.eval()(views()[0])[0], baseline.eval()(views()[0])[0])
