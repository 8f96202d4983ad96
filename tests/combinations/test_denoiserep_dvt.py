"""DenoiseRep over segmentors and depth estimators with a DVT neck, which is frozen or trained."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from reprefine.engine.build import build_model
from reprefine.methods.denoiserep.conversion.converted import denoise_layers
from tests.combinations import cells, checks

SMALL = (
    '+model.backbone.model_args.embed_dim=64',
    '+model.backbone.model_args.num_heads=2',
    'model.neck.in_channels=64',
    'model.neck.grid=4',
    'model.decode_head.in_channels=64',
)
TRAINED = ('model.neck.frozen=False', 'model.backbone.frozen=False')
BOTH = r"include=[r'blocks\.', 'decode_head'], exclude='attn'"
SEGMENTATION = 'dvt/segmentation/vit-b-dinov2-dvt_linear_8xb2-40k_voc12-512x512'
DEPTH = 'dvt/depth/vit-b-dinov2-dvt_linear_8xb2-38k_nyu-416x544'
# Config, what is denoised, and what is trained beside the head.
CASES = {
    'segmentation frozen': (SEGMENTATION, BOTH, ()),
    'segmentation trained': (SEGMENTATION, BOTH, TRAINED),
    'convolutions of the neck': (
        SEGMENTATION,
        r"include=r'^neck\.denoiser\.convs'",
        ('+model.neck.arch=conv3x3', TRAINED[0]),
    ),
    'depth frozen': (DEPTH, "include=r'^neck\\.'", ()),
    'depth trained': (DEPTH, "include='mlp', side='narrow'", TRAINED),
}


@pytest.fixture(scope='module', params=CASES)
def case(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def refined(case, tmp_path_factory, toy_folder) -> cells.Cell:
    base, denoise, trained = CASES[case]
    folder = tmp_path_factory.mktemp('cell')
    return cells.train(cells.denoised(base, denoise, folder, toy_folder, *SMALL, *trained))


@pytest.fixture(scope='module')
def baseline(case, tmp_path_factory, toy_folder) -> cells.Cell:
    base, _, trained = CASES[case]
    return cells.brief(cells.tree_config(base), tmp_path_factory.mktemp('baseline'), toy_folder, *SMALL, *trained)


@pytest.fixture
def run() -> checks.Run:
    images = torch.randn(2, 3, 56, 70, generator=torch.Generator().manual_seed(0))
    return checks.on(images)


def test_each_phase_changes_its_own_parameters(refined, baseline, case):
    model = refined.trained()
    parts = () if case.endswith('trained') else ('backbone.',) if 'conv' in case else ('backbone.', 'neck.')
    frozen = {name for name in refined.weights(1) if name.startswith(parts)} - model.added_keys
    # The loss of depth counts its calls.
    counters = {name for name in refined.weights(1) if name.endswith('.calls')}
    checks.assert_phases(refined, model, both=counters, fixed=frozen)
    checks.assert_gradients(refined, baseline)


def test_resumed_equals_uninterrupted(refined):
    checks.assert_resumes(refined)


def test_evaluation_depends_on_every_predictor(refined, run):
    model = refined.trained()
    assert any(name.startswith('neck.denoiser.') for name in denoise_layers(model))
    checks.assert_depends_on_every_predictor(model, run)


def test_the_baseline_config_tests_the_deployed_weights(refined, baseline, run):
    model = refined.trained()
    deployed = checks.assert_deploys(model, run)
    checks.assert_equal_tests(refined, model, baseline, deployed.state_dict(), run)


KEYS = {key: dict(lr_mult=10.0) for key in ('denoiser.weight', 'denoiser.bias')}


def test_predictors_may_have_their_own_learning_rate_beside_a_neck_named_denoiser(refined):
    model = build_model(cells.config_of(refined))
    settings = dict(optimizer=dict(type='SGD', lr=1.0), paramwise_cfg=dict(custom_keys=KEYS))
    wrapper = build_optim_wrapper(model, settings)
    rates = {id(group['params'][0]): group['lr'] for group in wrapper.optimizer.param_groups}
    found = {name for name, parameter in model.named_parameters() if rates.get(id(parameter)) == 10}
    assert found == checks.predictors(model)
