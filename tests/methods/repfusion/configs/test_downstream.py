"""Downstream, teacher, ordinary-distillation and ablation configs of RepFusion."""

import pytest
import torch

from reprefine.engine.cli.launch import load_config
from reprefine.methods.repfusion.distillation.student import Student
from tests.configs.brief import ROOT, brief_options
from tests.configs.walk import configs_below, train_and_test
from tests.helpers.run import run_train

STARTS = configs_below('repfusion/classification', 'repfusion/face_parsing', 'repfusion/landmarks')
LIGHT = configs_below('repfusion/classification', 'repfusion/teacher')


@pytest.mark.parametrize('path', LIGHT, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', STARTS, ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_start_alone(path):
    ours = load_config(str(path))
    assert ours.min_load_ratio == 1.0
    base = path.name.replace('-repfusion-pre', '').replace('_repfusion-pre', '').replace('linear-steps', 'linear')
    twin = load_config(str(ROOT / 'configs/baselines' / path.parent.name / base))
    backbone = ours.model.backbone.get('backbone_cfg', ours.model.backbone)
    start = backbone.pop('init_cfg')
    assert start.type == 'Pretrained'
    assert start.prefix == 'student.backbone.'
    twin.model.backbone.get('backbone_cfg', twin.model.backbone).pop('init_cfg', None)
    assert ours.model == twin.model
    keys = ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'test_evaluator')
    for key in keys if 'steps' not in path.name else keys[:1]:
        assert ours[key] == twin[key], key


@pytest.mark.parametrize('path', STARTS, ids=lambda path: path.stem)
def test_distillation_named_in_it_exists_and_has_all_its_weights(path):
    cfg = load_config(str(path))
    backbone = cfg.model.backbone.get('backbone_cfg', cfg.model.backbone)
    checkpoint = backbone.pop('init_cfg').checkpoint
    source = ROOT / 'configs' / checkpoint.removeprefix('work_dirs/').rpartition('/')[0]
    student = load_config(f'{source}.py').model
    if 'hrnet' not in path.name:
        distilled = Student(student.student.backbone, None, student.student_layers).state_dict()
    else:
        distilled = Student(student.student.backbone, student.student.neck, ['neck']).state_dict()
    epoch = int(checkpoint.rpartition('_')[2].removesuffix('.pth'))
    assert load_config(f'{source}.py').train_cfg.max_epochs == epoch
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(cfg.default_scope)
    shapes = {f'backbone.{key}': value.shape for key, value in MODELS.build(backbone).state_dict().items()}
    assert shapes == {key: value.shape for key, value in distilled.items() if key.startswith('backbone.')}


def test_another_stem_is_refused(tmp_path, toy_folder, capsys):
    path = ROOT / 'configs/repfusion/classification/resnet18-cifar_repfusion-pre_200e_cifar10.py'
    cfg = load_config(str(path))
    from mmpretrain.models import ResNet

    state = {f'student.backbone.{key}': value for key, value in ResNet(18).state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'distilled.pth')
    options = [option for option in brief_options(cfg) if not option.startswith('model.backbone.init_cfg')]
    options.append(f'model.backbone.init_cfg.checkpoint={tmp_path / "distilled.pth"}')
    root = str(toy_folder(['data/cifar10']))
    arguments = ('--work-dir', str(tmp_path / 'run'), '--data-root', root, '--cfg-options', *options)
    assert run_train(str(path), *arguments) == 1
    assert 'size mismatch (conv1.weight' in capsys.readouterr().err
