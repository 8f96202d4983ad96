"""DenoiseRep over a student of a diffusion teacher, and over classifiers that start from one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reprefine.deploy import switch_to_deploy
from reprefine.engine.build import load_trained
from reprefine.methods.denoiserep.conversion.converted import denoise_layers
from tests.combinations import cells, checks
from tests.helpers.run import assert_equal

DISTILL = 'repfusion/distill/resnet14-narrow_repfusion-uniform-hint_30e_mnist5k-32px'
DOWNSTREAM = 'repfusion/classification/resnet14-narrow_repfusion-pre_5e_mnist5k-32px'
PREFIX = 'student.backbone.'
LEARNS = "model.student_layers=['backbone.layer3.1.conv2']"


@pytest.fixture(scope='module')
def distiller(tmp_path_factory, toy_folder) -> cells.Cell:
    """Return a denoised distiller, one of whose denoised layers is trained by the teacher."""
    denoise = r"include=[r'backbone\.layer', 'projectors']"
    folder = tmp_path_factory.mktemp('distiller')
    return cells.train(cells.denoised(DISTILL, denoise, folder, toy_folder, LEARNS))


@pytest.fixture(scope='module')
def baseline(tmp_path_factory, toy_folder) -> cells.Cell:
    folder = tmp_path_factory.mktemp('baseline')
    return cells.train(cells.brief(cells.tree_config(DISTILL), folder / 'run', toy_folder, LEARNS))


@torch.no_grad()
def run(model: nn.Module) -> list[Tensor]:
    """Return the projected maps of the student."""
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (features,) = model.eval()(images, mode='tensor')
    return [model.projectors[0](features)]


def test_each_phase_changes_its_own_parameters(distiller, baseline):
    # What comes behind the recorded layer learns nothing, with a method or without.
    behind = {f'student.backbone.layer3.1.bn2.{name}' for name in ('weight', 'bias')}
    checks.assert_phases(distiller, distiller.trained(), fixed=behind)
    checks.assert_gradients(distiller, baseline)


def test_resumed_equals_uninterrupted(distiller):
    checks.assert_resumes(distiller)


def test_only_the_student_is_denoised_and_depends_on_every_predictor(distiller):
    model = distiller.trained()
    assert 'student.backbone.layer3.1.conv2' in denoise_layers(model)
    assert not [name for name, _ in model.named_modules() if 'teacher' in name]
    checks.assert_depends_on_every_predictor(model, run)


def test_is_reparameterised_into_the_distiller_without_predictors(distiller, baseline):
    model = distiller.trained()
    deployed = checks.assert_deploys(model, run)
    network = load_trained(cells.config_of(baseline), str(cells.saved(deployed, distiller.work_dir / 'deployed.pth')))
    checks.assert_close(run(network), run(model))


def start_from(checkpoint: Path) -> str:
    return f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint='{checkpoint}', prefix='{PREFIX}')"


@pytest.fixture(scope='module', params=['baseline', 'deployed'])
def start(request, distiller, baseline) -> Path:
    """Return the checkpoint of a baseline distillation, or of a denoised one, deployed."""
    if request.param == 'baseline':
        return baseline.checkpoint(cells.ITERATIONS)
    return cells.saved(switch_to_deploy(distiller.trained()), distiller.work_dir / 'start.pth')


@pytest.fixture(scope='module')
def downstream(start, tmp_path_factory, toy_folder) -> cells.Cell:
    folder = tmp_path_factory.mktemp('downstream')
    return cells.train(cells.denoised(DOWNSTREAM, "include=['layer', 'head']", folder, toy_folder, start_from(start)))


def test_a_classifier_starts_from_the_student_and_is_denoised(downstream, start, tmp_path, toy_folder):
    weights, first = torch.load(start, weights_only=True)['state_dict'], downstream.weights(1)
    backbone = {f'backbone.{key.removeprefix(PREFIX)}': w for key, w in weights.items() if key.startswith(PREFIX)}
    assert_equal({name: first[name] for name in backbone}, backbone)  # the predictors alone have learned
    model = downstream.trained()
    checks.assert_phases(downstream, model)
    checks.assert_resumes(downstream)
    images = checks.on(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    checks.assert_depends_on_every_predictor(model, images)
    deployed = checks.assert_deploys(model, images)
    target = cells.brief(cells.tree_config(DOWNSTREAM), tmp_path, toy_folder)
    checks.assert_gradients(downstream, target)
    checks.assert_equal_tests(downstream, model, target, deployed.state_dict(), images)


def test_a_student_in_training_form_is_refused_as_a_start(distiller, tmp_path, toy_folder, capsys):
    option = start_from(distiller.checkpoint(cells.ITERATIONS))
    with pytest.raises(AssertionError):
        cells.train(cells.brief(cells.tree_config(DOWNSTREAM), tmp_path / 'run', toy_folder, option))
    assert 'holds layers in a form that the model does not have' in capsys.readouterr().err
