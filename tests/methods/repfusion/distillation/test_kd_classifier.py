"""Knowledge distillation from a classifier: losses by their formulas, and a frozen teacher."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.config_check.deprecated import rename_deprecated_keys
from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import KDClassifier
from reprefine.methods.repfusion.distillation import loss_functions as f
from reprefine.methods.repfusion.distillation.kd_classifier import forward_classifier
from reprefine.methods.repfusion.distillation.kd_losses import ClassifierOutputs


def classifier(width):
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, stem_channels=width, base_channels=width),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=8 * width, loss=dict(type='CrossEntropyLoss')),
    )


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    init_default_scope('mmpretrain')
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp('kd') / 'teacher.pth'
    torch.save(dict(state_dict=MODELS.build(classifier(8)).state_dict()), path)
    return str(path)


def student(checkpoint, kd):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    config = {key: value for key, value in classifier(4).items() if key != 'type'}
    return KDClassifier(teacher=dict(model=classifier(8), pretrained=checkpoint), kd=kd, **config)


def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))


SAMPLES = [DataSample().set_gt_label(index % 5) for index in range(6)]
HINT = dict(type='reprefine.HintKD', teacher_channels=64, student_channels=32)
LOSSES = [
    (dict(type='reprefine.LogitsKD', loss_weight=2.0), lambda s, t, kd: 2 * F.mse_loss(s.logits, t.logits)),
    (
        dict(type='reprefine.SoftTargetKD', temperature=3.0),
        lambda s, t, kd: 9 * F.kl_div((s.logits / 3).log_softmax(1), (t.logits / 3).softmax(1), reduction='batchmean'),
    ),
    (HINT, lambda s, t, kd: F.mse_loss(t.pooled @ kd.map.weight.T + kd.map.bias, s.pooled)),
    (
        dict(type='reprefine.AttentionKD', loss_weight=10.0),
        lambda s, t, kd: 10 * f.attention_transfer_loss(s.feature_map, t.feature_map),
    ),
    (
        dict(type='reprefine.RelationalKD', loss_weight=0.1),
        lambda s, t, kd: 0.1 * f.relational_loss(s.pooled, t.pooled),
    ),
    (
        dict(type='reprefine.AttentionKD', power=1.0),
        lambda s, t, kd: f.attention_transfer_loss(s.feature_map, t.feature_map, 1.0),
    ),
    (
        dict(type='reprefine.RelationalKD', squared=True),
        lambda s, t, kd: f.relational_loss(s.pooled, t.pooled, squared=True),
    ),
]


@pytest.mark.parametrize(('kd', 'expected'), LOSSES, ids=lambda value: value['type'] if isinstance(value, dict) else '')
def test_kd_losses_are_added_to_the_loss_of_the_labels(checkpoint, kd, expected):
    model = student(checkpoint, kd).eval()
    losses = model(images(), SAMPLES, mode='loss')
    outputs, targets = forward_classifier(model, images())[1], model.teacher(images())
    assert_close(losses['loss_kd'], expected(outputs, targets, model.kd))
    labels = torch.tensor([index % 5 for index in range(6)])
    assert_close(losses['loss_task'], F.cross_entropy(outputs.logits, labels))
    total, log = model.parse_losses(losses)
    assert_close(log['loss'], losses['loss_task'] + losses['loss_kd'])
    assert torch.equal(log['loss'], total)
    assert outputs.feature_map.shape == (6, 32, 1, 1)
    assert targets.pooled.shape == (6, 64)


@pytest.mark.parametrize(('kd', 'expected'), LOSSES, ids=lambda value: value['type'] if isinstance(value, dict) else '')
def test_kd_losses_under_autocast_are_those_in_float64(kd, expected):
    """Also the linear map of the hint and the softened predictions of logits that differ by hundreds."""
    torch.manual_seed(0)
    shapes = ((6, 32, 2, 2), (6, 32), (6, 5)), ((6, 64, 2, 2), (6, 64), (6, 5))
    student, teacher = (ClassifierOutputs(*(10 + 20 * torch.randn(shape) for shape in widths)) for widths in shapes)
    loss = MODELS.build(kd)
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    double = [ClassifierOutputs(*(value.double() for value in outputs)) for outputs in (student, teacher)]
    assert_close(value.double(), expected(*double, loss.double()), rtol=1e-4, atol=0)


def test_the_former_name_of_the_weight_still_works():
    with pytest.warns(FutureWarning, match="'weight' is deprecated .* use 'loss_weight'"):
        assert MODELS.build(dict(type='reprefine.AttentionKD', weight=10.0)).loss_weight == 10
    config = dict(model=dict(kd=dict(HINT, weight=2.0)))
    with pytest.warns(FutureWarning, match="model.kd: 'weight' is deprecated"):
        rename_deprecated_keys(config)
    assert config['model']['kd'] == dict(HINT, loss_weight=2.0)


def test_linear_layer_of_the_hint_is_trained_unless_it_is_frozen(checkpoint):
    for frozen in (False, True):
        model = student(checkpoint, dict(HINT, legacy_frozen_map=frozen))
        model(images(), SAMPLES, mode='loss')['loss_kd'].backward()
        assert (model.kd.map.weight.grad is None) == frozen
        assert any(p is model.kd.map.weight for p in model.parameters())


def test_teacher_keeps_weights_statistics_and_mode(checkpoint):
    model = student(checkpoint, HINT)
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.train()
        sum(model(images(), SAMPLES, mode='loss').values()).backward()
        optimizer.step()
    model.teacher.train()  # as a hook over all modules might do
    assert not any(module.training for module in model.teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.teacher.state_dict().items())
    assert not any('teacher' in key for key in model.state_dict())
    assert copy.deepcopy(model).teacher is model.teacher


def test_missing_and_wrong_teachers_are_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        student(str(tmp_path / 'none.pth'), HINT)
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(8, 3, 7, 7)}), tmp_path / 'part.pth')
    with pytest.raises(UserError, match='belongs to another model'):
        student(str(tmp_path / 'part.pth'), HINT)
    with pytest.raises(UserError, match='teacher has no pretrained; give'):
        student_config = {key: value for key, value in classifier(4).items() if key != 'type'}
        KDClassifier(teacher=dict(model=classifier(8)), kd=HINT, **student_config)


def test_trained_student_is_a_classifier_of_mmpretrain(checkpoint):
    model = student(checkpoint, HINT).eval()
    baseline = ImageClassifier(**{key: value for key, value in classifier(4).items() if key != 'type'}).eval()
    match = load_weights(baseline, dict(state_dict=model.state_dict()))
    assert match.ratio == 1
    assert {key.split('.')[0] for key in match.unexpected} == {'kd'}
    assert_close(baseline(images()), model(images()))
