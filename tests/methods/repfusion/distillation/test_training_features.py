"""Features of mmengine and torch with the distiller: learning rates by name, EMA, checkpointing, SyncBN, compiling."""

import copy
import pickle

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert
from reprefine.methods.pddr import PDConv, convert_to_pd
from reprefine.methods.repfusion.distillation.export import export_backbone
from reprefine.registry import MODELS

from ..run import distiller as distiller_of_the_run
from ..run import trained
from .test_distiller import BACKBONE, distiller, images, samples

INNER = 'backbone.layer4.1.conv2'  # within a stage and within a residual block


def step(model, seed=3):
    """Loss of a training step, and the gradients."""
    torch.manual_seed(seed)  # of the timesteps
    model.train().zero_grad()
    loss = model(images(), samples(), mode='loss')['loss_feat']
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_step(model, other):
    (loss, gradients), (expected, others) = step(model), step(other)
    assert_close(loss, expected)
    assert len(gradients) > 2  # more than the projector's
    assert_close(gradients, others)
    assert model.student.recorder._outputs == [None]


@pytest.mark.parametrize(
    'rules',
    [
        dict(custom_keys={'backbone.layer1': dict(lr_mult=0.1), 'backbone.conv1': dict(lr_mult=10, decay_mult=0)}),
        dict(custom_keys={'.backbone.layer1.0': dict(lr_mult=0.1)}),
        dict(bias_lr_mult=2.0, norm_decay_mult=0.0),
    ],
)
def test_rates_by_name_and_kind_are_those_of_the_backbone_whether_or_not_the_student_is_named(rules):
    def settings(model, rules):
        config = dict(optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1), paramwise_cfg=rules)
        groups = build_optim_wrapper(model, config).optimizer.param_groups
        of = {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
        return {name.removeprefix('student.'): of[id(p)] for name, p in model.named_parameters()}

    keys = {f'student.{key.removeprefix(".")}': value for key, value in rules.get('custom_keys', {}).items()}
    named = rules | dict(custom_keys=keys)
    plain_rules = rules | dict(custom_keys={key.removeprefix('student.'): value for key, value in keys.items()})
    expected = settings(
        MODELS.build(
            dict(
                type='mmpretrain.ImageClassifier',
                backbone=BACKBONE,
                data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
            )
        ),
        plain_rules,
    )
    assert len(set(expected.values())) > 1
    for given in (rules, named):
        found = settings(distiller(), given)
        assert {name: found[name] for name in expected} == expected


class WeightRecording(Hook):
    """Records a weight of the student after every iteration."""

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, *_, **__):
        self.weights.append(runner.model.student['backbone'].conv1.weight.detach().clone())


def test_the_ema_hook_averages_the_student_and_the_average_is_what_is_exported(tmp_path):
    recording = WeightRecording()
    runner = trained(tmp_path, hooks=[dict(type='EMAHook', momentum=0.25), recording])
    saved = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    average = recording.weights[0]
    for weight in recording.weights[1:]:
        average = 0.75 * average + 0.25 * weight
    name = 'student.backbone.conv1.weight'
    assert_close(saved['state_dict'][name], average)
    assert torch.equal(saved['ema_state_dict'][f'module.{name}'], recording.weights[-1])
    assert not any('teacher' in key for key in (*saved['state_dict'], *saved['ema_state_dict']))
    export_backbone(tmp_path / 'epoch_3.pth', tmp_path / 'backbone.pth')
    assert_close(torch.load(tmp_path / 'backbone.pth', weights_only=True)['state_dict']['conv1.weight'], average)
    assert runner.model.teacher.fingerprint() == distiller_of_the_run().teacher.fingerprint()


@pytest.mark.filterwarnings('ignore:torch.utils.checkpoint')
@pytest.mark.parametrize('way', ['of the runner', 'with_cp'])
def test_recomputed_stages_before_and_around_the_recorded_layer_change_nothing(way):
    """``with_cp`` recomputes blocks up to their last activation; the runner's way whole stages."""
    model = distiller(backbone=BACKBONE | dict(with_cp=way == 'with_cp'))
    if way == 'of the runner':
        turn_on_activation_checkpointing(model, ['student.backbone.layer2', 'student.backbone.layer3'])
    assert_same_step(model, distiller())


@pytest.mark.filterwarnings('ignore:torch.utils.checkpoint')
@pytest.mark.parametrize('way', ['of the runner', 'with_cp'])
def test_a_layer_without_a_graph_within_a_recomputed_stage_is_refused(way):
    """Otherwise only the projector would be trained."""
    model = distiller((INNER,), backbone=BACKBONE | dict(with_cp=way == 'with_cp'))
    if way == 'of the runner':
        turn_on_activation_checkpointing(model, ['student.backbone.layer4'])
    with pytest.raises(UserError, match=f'student layer {INNER} is recorded without its graph.*activation_checkpoint'):
        step(model)
    with torch.no_grad():
        assert model.student(images())[0].shape == (4, 32, 1, 1)


def test_a_frozen_layer_is_refused_unless_the_student_is_frozen():
    model = distiller(('backbone.layer1.1.relu',), BACKBONE | dict(frozen_stages=1))
    with pytest.raises(UserError, match='layer1.1.relu is recorded without its graph.*it is frozen'):
        step(model)
    model.student.requires_grad_(False)
    assert step(model)[1].keys() == {'projectors.0.weight', 'projectors.0.bias'}


def test_non_reentrant_checkpointing_records_once():
    """It runs the layer and its hook again in the backward pass."""
    model = distiller((INNER,))
    stage = model.student['backbone'].layer4
    stage.forward = lambda x, forward=stage.forward: checkpoint(forward, x, use_reentrant=False)
    assert_same_step(model, distiller((INNER,)))


@pytest.mark.parametrize('layer', ['backbone.bn1', 'backbone.layer4.1.relu'])
def test_sync_bn_replaces_recorded_norms_and_not_those_of_the_teacher(layer):
    model, plain = distiller((layer,)), distiller((layer,))
    teacher = list(model.teacher.modules())
    twin = convert_sync_batchnorm(model, 'torch')
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in twin.modules()) == 20
    assert all(module is former for module, former in zip(twin.teacher.modules(), teacher, strict=True))
    assert_close(twin.eval().student(images()), plain.eval().student(images()))
    assert_same_step(revert_sync_batchnorm(twin), plain)
    assert_close(dict(twin.named_buffers()), dict(plain.named_buffers()))


@pytest.mark.parametrize('is_trained', [False, True])
def test_copies_are_independent_and_train_like_the_model(is_trained):
    model = distiller((INNER,))
    if is_trained:
        step(model)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    assert copies[0].teacher is model.teacher
    assert copies[1].teacher.fingerprint() == model.teacher.fingerprint()
    expected = step(model)
    for twin in copies:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        assert_close(step(twin), expected, rtol=0, atol=0)
        torch.optim.SGD(twin.parameters(), 1.0).step()
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not torch.equal(twin.student(images())[0], model.student(images())[0])


def test_compiled_steps_of_training_and_evaluation_compute_the_same():
    small = dict(layers=('backbone.norm',), backbone=dict(type='reprefine.InPlaceNet'))  # for a short compile time
    model, plain = distiller(**small), distiller(**small)
    assert_same_step(model, plain)  # the teacher warns of the image size once
    model.forward = torch.compile(model.forward, backend='eager')
    assert_same_step(model, plain)
    with torch.no_grad():
        assert torch.equal(model.eval()(images())[0], plain.eval()(images())[0])


def test_a_recorded_layer_that_another_method_replaces_is_recorded():
    refined, disentangled = distiller((INNER,)), distiller((INNER,))
    convert(refined, r'layer4\.1\.conv2$')
    convert_to_pd(disentangled.student['backbone'], r'layer4\.1\.conv2$', group_num='auto')
    seen = []
    for model in (refined, disentangled):
        layer = model.student['backbone'].layer4[1].conv2
        layer.register_forward_hook(lambda _, __, output: seen.append(output.clone()))  # the next layer works in place
        assert torch.equal(model.student(images())[0], seen[-1])
    assert isinstance(layer, PDConv)
    step(disentangled)
    assert layer.standard2.conv.weight.grad is not None
