"""A DVT neck after a vision transformer distilled from a diffusion teacher, and DenoiseRep over both."""

import pytest
import torch

from reprefine.deploy import relative_difference
from reprefine.methods.dvt.denoiser.network import FeatureDenoiser
from reprefine.methods.repfusion.distillation.export import export_backbone
from tests.combinations import cells, checks
from tests.helpers.run import assert_equal

DISTILL = 'repfusion/distill/resnet14-narrow_repfusion-uniform-hint_30e_mnist5k-32px'
SEGMENT = 'dvt/demo/vit-p4-dvt_linear_120_ade20k-64px'
# The student's patches and table of positions are those of the segmentor.
STUDENT = """_base_ = '{base}'

vit = dict(
    type='reprefine.TimmViT', model_name='vit_tiny_patch16_224', img_size=64, frozen=False,
    model_args=dict(patch_size=4, embed_dim=96, depth=1, num_heads=3),
)
model = dict(student=dict(backbone=dict(_delete_=True, **vit), neck=None), student_layers=['backbone'])
"""


@pytest.fixture(scope='module')
def student(tmp_path_factory, toy_folder) -> cells.Cell:
    """Return a vision transformer that is distilled from a diffusion teacher, without any other method."""
    folder = tmp_path_factory.mktemp('student')
    config = folder / 'student.py'
    config.write_text(STUDENT.format(base=cells.tree_config(DISTILL)))
    return cells.train(cells.brief(config, folder / 'run', toy_folder))


@pytest.fixture(scope='module')
def starts(student, tmp_path_factory) -> tuple[str, ...]:
    """Return options that name the files of the student's backbone and of a denoiser for its features."""
    folder = tmp_path_factory.mktemp('starts')
    backbone, neck = folder / 'vit.pth', folder / 'neck.pth'
    export_backbone(student.checkpoint(cells.ITERATIONS), backbone)
    cells.saved(FeatureDenoiser(96, 16, num_heads=3), neck)
    return (
        'model.backbone.model_args.depth=1',
        f'model.backbone.checkpoint={backbone}',
        r"+model.backbone.revise_keys=[('^vit\.','')]",
        f'model.neck.checkpoint={neck}',
    )


@pytest.fixture(scope='module')
def segmentor(starts, tmp_path_factory, toy_folder) -> cells.Cell:
    folder = tmp_path_factory.mktemp('segmentor')
    return cells.train(cells.brief(cells.tree_config(SEGMENT), folder / 'run', toy_folder, *starts))


@pytest.fixture(scope='module')
def refined(starts, tmp_path_factory, toy_folder) -> cells.Cell:
    folder = tmp_path_factory.mktemp('refined')
    return cells.train(cells.denoised(SEGMENT, r"include=r'\.mlp\.'", folder, toy_folder, *starts))


def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def frozen_weights(cell: cells.Cell) -> dict[str, torch.Tensor]:
    """Return the weights of backbone and neck, which the segmentor does not train."""
    return {name: value for name, value in cell.weights(1).items() if name.startswith(('backbone.', 'neck.'))}


def test_the_segmentor_has_the_weights_of_the_student_and_of_the_denoiser(segmentor, student, starts):
    distilled, held = student.weights(cells.ITERATIONS), frozen_weights(segmentor)
    assert_equal(
        {name: value for name, value in held.items() if name.startswith('backbone.')},
        {name.removeprefix('student.'): value for name, value in distilled.items() if name.startswith('student.')},
    )
    denoiser = torch.load(starts[-1].partition('=')[2], weights_only=True)['state_dict']
    assert_equal(
        {name: value for name, value in held.items() if name.startswith('neck.')},
        {f'neck.denoiser.{name}': value for name, value in denoiser.items()},
    )


def test_it_trains_the_head_alone_and_resumes(segmentor):
    first, last = segmentor.weights(1), segmentor.weights(cells.ITERATIONS)
    assert checks.moved(first, last) == first.keys() - frozen_weights(segmentor).keys()
    checks.assert_resumes(segmentor)


def test_the_neck_denoises_the_features_of_the_student(segmentor):
    model = segmentor.trained()
    run = checks.on(images())
    expected = run(model)
    model.neck.forward = lambda features: features
    assert relative_difference(run(model)[0], expected[0]) > 1e-2


def test_with_denoising_it_starts_from_the_same_files(refined, segmentor):
    weights, expected = frozen_weights(refined), frozen_weights(segmentor)
    assert_equal({name: weights[name] for name in expected}, expected)
    assert {name.partition('.')[0] for name in refined.trained().added_keys} == {'backbone', 'neck'}


def test_with_denoising_it_is_trained_in_phases_deployed_and_tested(refined, segmentor):
    model, run = refined.trained(), checks.on(images())
    checks.assert_phases(refined, model, fixed=frozen_weights(segmentor).keys())
    checks.assert_gradients(refined, segmentor)
    checks.assert_resumes(refined)
    checks.assert_depends_on_every_predictor(model, run)
    deployed = checks.assert_deploys(model, run)
    checks.assert_equal_tests(refined, model, segmentor, deployed.state_dict(), run)
