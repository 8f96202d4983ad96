"""DenoiseRep over a detector whose neck and head have disentangled convolutions, which all levels share."""

from collections.abc import Iterator

import pytest
import torch

from reprefine.methods.denoiserep.conversion.converted import denoise_layers
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_layers
from tests.combinations import cells, checks
from tests.configs.small_networks import small_networks

BASE = 'pddr/detection/retinanet_r50-pda_pda-fpn-head_1x_coco'
NARROW = (
    '+model.backbone.base_channels=16',
    '+model.backbone.stem_channels=16',
    'model.neck.in_channels=[64,128,256,512]',
    'model.neck.out_channels=32',
    'model.bbox_head.in_channels=32',
    'model.bbox_head.feat_channels=32',
)
GROUPS = tuple(f'+model.{part}.group_num=auto' for part in ('backbone.pd_cfg', 'neck.conv_cfg', 'bbox_head.conv_cfg'))
BASELINE = 'baselines/detection/retinanet_r50_fpn_1x_coco'


@pytest.fixture(scope='module', autouse=True)
def networks() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(scope='module')
def refined(tmp_path_factory, toy_folder) -> cells.Cell:
    denoise = "include=['fpn_convs', 'bbox_head', r'layer1.*conv2']"
    return cells.train(cells.denoised(BASE, denoise, tmp_path_factory.mktemp('cell'), toy_folder, *NARROW, *GROUPS))


@pytest.fixture
def run() -> checks.Run:
    return checks.on(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))


def is_fixed(name: str) -> bool:
    """Return whether the detector does not change a weight: the first stage, and statistics of the backbone's norms."""
    first = name.startswith(('backbone.conv1.', 'backbone.bn1.', 'backbone.layer1.'))
    return first or (name.startswith('backbone.') and name.endswith(('.running_mean', '.running_var', '_tracked')))


def test_each_phase_changes_its_own_parameters(refined):
    model = refined.trained()
    assert any(is_fixed(name) for name in checks.predictors(model))  # which learn all the same
    checks.assert_phases(refined, model, fixed={name for name in refined.weights(1) if is_fixed(name)})


def test_resumed_equals_uninterrupted(refined):
    checks.assert_resumes(refined)


def test_evaluation_depends_on_every_predictor(refined, run):
    model = refined.trained()
    shared = [name for name in pd_layers(model) if name.startswith(('neck.', 'bbox_head.'))]
    assert len(shared) == 13
    assert set(shared) < denoise_layers(model).keys()
    checks.assert_depends_on_every_predictor(model, run)


def test_the_baseline_config_tests_the_deployed_weights(refined, run, toy_folder, tmp_path):
    model = refined.trained()
    deployed = checks.assert_deploys(model, run, lambda module: isinstance(module, PDConv) and not module.deploy)
    baseline = cells.brief(cells.tree_config(BASELINE), tmp_path / 'baseline', toy_folder, *NARROW)
    checks.assert_equal_tests(refined, model, baseline, baseline_state_dict(deployed), run)
