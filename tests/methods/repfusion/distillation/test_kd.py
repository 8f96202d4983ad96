"""Ordinary distillation: every term by its formula, and a teacher that stays as it was loaded."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import KDClassifier
from reprefine.methods.repfusion.distillation import distances as d
from reprefine.methods.repfusion.distillation.kd import Outputs, outputs_of


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
    given = {key: value for key, value in classifier(4).items() if key != 'type'}
    return KDClassifier(teacher=dict(model=classifier(8), pretrained=checkpoint), kd=kd, **given)


def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))


SAMPLES = [DataSample().set_gt_label(index % 5) for index in range(6)]
HINT = dict(type='reprefine.HintKD', teacher_channels=64, student_channels=32)
TERMS = [
    (dict(type='reprefine.LogitsKD', weight=2.0), lambda s, t, kd: 2 * F.mse_loss(s.logits, t.logits)),
    (
        dict(type='reprefine.SoftTargetKD', temperature=3.0),
        lambda s, t, kd: 9 * F.kl_div((s.logits / 3).log_softmax(1), (t.logits / 3).softmax(1), reduction='batchmean'),
    ),
    (HINT, lambda s, t, kd: F.mse_loss(t.pooled @ kd.map.weight.T + kd.map.bias, s.pooled)),
    (dict(type='reprefine.AttentionKD', weight=10.0), lambda s, t, kd: 10 * d.attention_transfer(s.map, t.map)),
    (dict(type='reprefine.RelationalKD', weight=0.1), lambda s, t, kd: 0.1 * d.relational(s.pooled, t.pooled)),
    (dict(type='reprefine.AttentionKD', power=1.0), lambda s, t, kd: d.attention_transfer(s.map, t.map, 1.0)),
    (
        dict(type='reprefine.RelationalKD', squared=True),
        lambda s, t, kd: d.relational(s.pooled, t.pooled, squared=True),
    ),
]


@pytest.mark.parametrize(('kd', 'expected'), TERMS, ids=lambda value: value['type'] if isinstance(value, dict) else '')
def test_terms_and_the_loss_of_the_labels(checkpoint, kd, expected):
    model = student(checkpoint, kd).eval()
    losses = model(images(), SAMPLES, mode='loss')
    ours, theirs = outputs_of(model, images())[1], model.teacher(images())
    assert_close(losses['loss_kd'], expected(ours, theirs, model.kd))
    labels = torch.tensor([index % 5 for index in range(6)])
    assert_close(losses['loss_task'], F.cross_entropy(ours.logits, labels))
    total, log = model.parse_losses(losses)
    assert_close(log['loss'], losses['loss_task'] + losses['loss_kd'])
    assert torch.equal(log['loss'], total)
    assert ours.map.shape == (6, 32, 1, 1)
    assert theirs.pooled.shape == (6, 64)


@pytest.mark.parametrize(('kd', 'expected'), TERMS, ids=lambda value: value['type'] if isinstance(value, dict) else '')
def test_terms_under_autocast_are_those_in_float64(kd, expected):
    """Also the linear map of the hint and the softened predictions of logits that differ by hundreds."""
    torch.manual_seed(0)
    shapes = ((6, 32, 2, 2), (6, 32), (6, 5)), ((6, 64, 2, 2), (6, 64), (6, 5))
    student, teacher = (Outputs(*(10 + 20 * torch.randn(shape) for shape in side)) for side in shapes)
    term = MODELS.build(kd)
    with torch.autocast('cpu', torch.bfloat16):
        value = term(student, teacher)
    assert value.dtype == torch.float32
    double = [Outputs(*(part.double() for part in side)) for side in (student, teacher)]
    assert_close(value.double(), expected(*double, term.double()), rtol=1e-4, atol=0)


def test_map_of_the_hint_is_learned_unless_it_is_to_stay(checkpoint):
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
    model.teacher.train()  # nothing of the model gets there, a hook over all modules might
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
    with pytest.raises(KeyError):
        student_without = {key: value for key, value in classifier(4).items() if key != 'type'}
        KDClassifier(teacher=dict(model=classifier(8)), kd=HINT, **student_without)


def test_trained_student_is_a_plain_classifier(checkpoint):
    model = student(checkpoint, HINT).eval()
    plain = ImageClassifier(**{key: value for key, value in classifier(4).items() if key != 'type'}).eval()
    match = load_weights(plain, dict(state_dict=model.state_dict()))
    assert match.ratio == 1
    assert {key.split('.')[0] for key in match.unexpected} == {'kd'}
    assert_close(plain(images()), model(images()))
