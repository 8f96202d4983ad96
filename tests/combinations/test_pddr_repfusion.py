"""Students of a diffusion teacher that have disentangled convolutions."""

import pytest
import torch
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_convs
from reprefine.methods.repfusion import RepFusionDistiller
from reprefine.methods.repfusion.distillation.export import export_backbone
from tests.combinations.pd_networks import (
    KINDS,
    MODES,
    accuracy_of,
    assert_close,
    assert_trained,
    branch_by_branch,
    classifier,
    deployed_copy,
    images,
    refined,
)
from tests.helpers.killed import assert_equal_runs, kill_and_resume
from tests.methods.repfusion.run import distiller, make_runner

SMALL = dict(depth=18, base_channels=4, stem_channels=4)
BACKBONES = dict(PDResNet=dict(type='ResNet', **SMALL), PDConverted=dict(type='ResNet_CIFAR', **SMALL))
BOTH = [(kind, mode) for kind in KINDS for mode in MODES]
LAYERS = {'backbone.layer4.1.conv2': 32, 'backbone.layer3': 16, 'backbone.layer4.1.relu': 32}
SAVE = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
PREFIX = 'student.backbone.'


def model(kind: str, mode: str, layer: str = 'backbone.layer4.1.conv2', seed: int = 0) -> nn.Module:
    student = dict(backbone=refined(BACKBONES[kind], kind, mode))
    return distiller(seed, student=student, student_layers=[layer])


def short(folder, student: nn.Module, iters: int, **options):
    return make_runner(
        folder, model=student, train_cfg=dict(by_epoch=False, max_iters=iters), default_hooks=SAVE, **options
    )


@pytest.fixture(scope='module', params=BOTH, ids=lambda both: '-'.join(both))
def trained(request, tmp_path_factory):
    """A distiller trained for two iterations, and its checkpoint."""
    folder = tmp_path_factory.mktemp('repfusion')
    student = model(*request.param)
    short(folder, student, 2).train()
    return *request.param, branch_by_branch(student), folder / 'iter_2.pth'


@pytest.mark.parametrize('layer', LAYERS)
@pytest.mark.parametrize(('kind', 'mode'), BOTH)
def test_recorded_layers_may_be_or_contain_disentangled_convolutions(kind, mode, layer):
    student = model(kind, mode, layer).train()
    assert type(student) is RepFusionDistiller
    assert len(pd_convs(student)) == len(pd_convs(student.student['backbone'])) == 16
    assert student.projectors[0].in_channels == LAYERS[layer]
    shown, x = [], images(4)
    module = student.student.get_submodule(layer)
    module.register_forward_hook(lambda _, __, y: shown.append(y.detach().clone()))
    torch.manual_seed(0)
    student(x, mode='loss')['loss_feat'].backward()
    torch.testing.assert_close(student.student(x)[0], shown[-1])
    assert student.student['backbone'].layer1[0].conv1.skeleton.vertical.conv.weight.grad.any()
    if isinstance(module, PDConv):
        assert all(parameter.grad is not None for parameter in module.parameters())


def train(work_dir, kind, mode):
    short(work_dir, model(kind, mode, seed=1), 5, resume=True).train()


@pytest.mark.parametrize(('kind', 'mode'), [('PDResNet', 'A'), ('PDConverted', 'B')])
def test_killed_and_resumed_equals_uninterrupted(kind, mode, tmp_path):
    for runs in kill_and_resume(train, kind, mode, folder=tmp_path):
        assert_equal_runs(*runs, 'repfusion_draws')


@torch.no_grad()
@pytest.mark.parametrize('layer', LAYERS)
def test_the_deployed_form_computes_the_same(trained, layer):
    kind, mode, distilled, _ = trained
    assert_trained(distilled.student['backbone'].layer3)
    again = branch_by_branch(model(kind, mode, layer))
    again.student.load_state_dict(distilled.student.state_dict())
    deployed, x = deployed_copy(again), images()
    assert_close(deployed.student(x), again.student(x))  # which are recorded in the deployed layers, too
    assert_close(deployed.extract_feat(x), distilled.extract_feat(x))
    assert not any('standard' in name for name in deployed.state_dict())


@torch.no_grad()
def test_the_distiller_is_reparameterised_into_the_baseline(trained):
    kind, mode, distilled, _ = trained
    if mode == 'B':
        with pytest.raises(UserError, match='no standard module equals it'):
            baseline_state_dict(distilled)
        return
    baseline = distiller(student=dict(backbone=BACKBONES[kind]), student_layers=list(distilled.student.recorder.paths))
    baseline.load_state_dict(baseline_state_dict(distilled))  # strict
    baseline.eval()
    assert_close(baseline.extract_feat(images()), distilled.extract_feat(images()))


@torch.no_grad()
def test_a_classifier_starts_from_the_exported_backbone(trained, tmp_path):
    """PD-A: the baseline config loads them. PD-B: the same config with ``deploy=True``, from either form."""
    kind, mode, distilled, checkpoint = trained
    backbone = BACKBONES[kind]
    expected = distilled.extract_feat(images())
    state = baseline_state_dict(distilled) if mode == 'A' else deployed_copy(distilled).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'distilled.pth')
    export_backbone(tmp_path / 'distilled.pth', tmp_path / 'deployed.pth', 'backbone.')
    deployed = refined(backbone, kind, mode, deploy=True)
    downstream = classifier(backbone if mode == 'A' else deployed, tmp_path / 'deployed.pth')
    assert_close(downstream.extract_feat(images(), stage='backbone'), expected)
    accuracy = accuracy_of(downstream, tmp_path, f'{kind}-{mode}')
    export_backbone(checkpoint, tmp_path / 'training_form.pth', 'backbone.')
    for config in (deployed, refined(backbone, kind, mode)):
        from_training_form = classifier(config, tmp_path / 'training_form.pth')
        from_training_form.head.load_state_dict(downstream.head.state_dict())
        assert_close(from_training_form.extract_feat(images(), stage='backbone'), expected)
        name = f'{kind}-{mode}-{len(list(tmp_path.iterdir()))}'
        assert accuracy_of(from_training_form, tmp_path, name) == accuracy
