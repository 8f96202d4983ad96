"""R^2 of the student's features on held-out images."""

import math

import pytest
import torch
from mmengine.evaluator import Evaluator
from sklearn.metrics import r2_score
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import StudentR2, r_squared

from ..tiny import LAYER, TEACHER
from .test_distiller import distiller, images, samples

TWO_LAYERS = [LAYER, ['mid_block', 16]]


def test_r_squared_is_that_of_scikit_learn_weighted_by_the_variances():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(50, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.1])
    predictions = targets + torch.randn(50, 3, generator=generator)
    expected = r2_score(targets, predictions, multioutput='variance_weighted')
    assert r_squared(predictions, targets) == pytest.approx(expected)


def test_r_squared_of_special_predictions():
    targets = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    assert r_squared(targets, targets) == 1
    assert r_squared(targets.mean(0).expand(2, -1), targets) == 0
    assert r_squared(-targets, targets) < 0
    assert math.isnan(r_squared(targets, torch.ones(2, 2)))


def evaluated(model, number=6):
    evaluator = Evaluator(StudentR2())
    for start in range(0, number, 2):
        chosen = slice(start, start + 2)
        evaluator.process(model(images(number)[chosen], samples(number)[chosen], mode='predict'))
    return evaluator.evaluate(number)


@pytest.mark.parametrize('layers', [[LAYER], TWO_LAYERS])
def test_metric_compares_projected_and_teachers_features_at_each_timestep(layers):
    paths = ['backbone.layer4.1.relu', 'backbone.layer3.1.relu'][: len(layers)]
    model = distiller(paths, teacher=dict(TEACHER, layers=layers), eval_timesteps=(3, 700)).eval()
    metrics = evaluated(model)
    assert list(metrics) == ['r2/t0003', 'r2/t0700', 'r2/mean']
    x = images(6)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    maps = [projector(recorded) for projector, recorded in zip(model.projectors, model.student(x), strict=True)]
    for t in (3, 700):
        targets = model.teacher(model.teacher.prepare(x, mean, std), torch.full((6,), t))
        values = [r_squared(s.mean((2, 3)), f.mean((2, 3))) for s, f in zip(maps, targets, strict=True)]
        assert metrics[f'r2/t{t:04d}'] == pytest.approx(sum(values) / len(values), rel=1e-4)
    assert metrics['r2/mean'] == pytest.approx((metrics['r2/t0003'] + metrics['r2/t0700']) / 2)


def test_evaluations_have_the_same_noise_and_do_not_change_that_of_the_training():
    model = distiller(teacher=dict(TEACHER, noise_mode='forward', seed=3), eval_timesteps=(900,)).eval()
    before = model.teacher.rng.count
    first = evaluated(model)
    assert model.teacher.rng.count == before
    model.train()(images(), samples(), mode='loss')
    assert model.teacher.rng.count == before + 1
    assert evaluated(model.eval()).keys() == first.keys()
    rows = [model(images(), samples(), mode='predict')[0].teacher_feats[0] for _ in range(2)]
    assert_close(*rows)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(eval_timesteps=(0,), loss=dict(type='reprefine.RelationalLoss')),
            'without projectors, such as with',
        ),
        (dict(), 'without eval_timesteps predicts nothing'),
    ],
)
def test_settings_without_an_evaluation_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        distiller(**options)(images(), samples(), mode='predict')


def test_evaluation_timesteps_are_checked():
    with pytest.raises(UserError, match=r'eval_timesteps: timestep 1000 is outside 0\.\.999'):
        distiller(eval_timesteps=(0, 1000))
