"""Configs of the attentive probe on denoised features: each adds the denoiser to its twin, and nothing else."""

import pytest
from mmengine.registry import DefaultScope

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test
from tests.methods.dvt.configs.variables import without_variables

NECKS = configs_below('dvt/classification')


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_denoiser_alone(path):
    twin = ROOT / 'configs/baselines/classification/attentive' / path.name.replace('-dvt', '', 1)
    ours, theirs = load_config(str(path)), load_config(str(twin))
    denoiser, ours.model.neck = ours.model.neck
    assert denoiser == ours.denoiser
    assert denoiser.features.model_id == ours.model.backbone.model_name
    assert without_variables(ours) == without_variables(theirs)


def test_only_pooling_and_classifier_are_trained():
    cfg = load_config(str(next(path for path in NECKS if 'vit-b-dinov2-dvt' in path.stem)))
    cfg.model.backbone.model_args = dict(depth=1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build_model(cfg).train()
    trained = {name.rpartition('.')[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {'neck.1.pool', 'neck.1.pool.q', 'neck.1.pool.kv', 'head.fc'}
