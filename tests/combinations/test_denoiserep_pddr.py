"""DenoiseRep over networks with disentangled layers: convolutions of a ResNet, linear layers of a perceptron."""

import pytest
import torch
from torch import nn

from reprefine.methods.denoiserep.conversion.converted import denoise_layers
from reprefine.methods.pddr import PDConv, PDLinear
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_layers
from tests.combinations import cells, checks
from tests.methods.pddr.toys import randomise

FOLDER = 'pddr/classification/'
RESNET, MLP = ('baselines/classification/resnet18-w32_10e_mnist5k', 'baselines/classification/mlp_5e_mnist5k')
# Config that is refined, selection of layers, and the baseline config that loads the deployed weights.
CASES = {
    'conv A': (f'{FOLDER}resnet18-w32-pda_10e_mnist5k', "include=['backbone'], exclude=['downsample']", RESNET),
    'conv B': (
        f'{FOLDER}resnet18-w32-pdb_10e_mnist5k',
        "include=['layer', 'head']",
        f'{FOLDER}deploy/resnet18-w32-pdb_deploy_mnist5k',
    ),
    'linear A': (f'{FOLDER}mlp-pda_5e_mnist5k', "include='linear'", MLP),
    'linear B': (f'{FOLDER}mlp-pdb_5e_mnist5k', "include='linear'", None),
}


@pytest.fixture(scope='module', params=CASES)
def case(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def refined(case, tmp_path_factory, toy_folder) -> cells.Cell:
    base, denoise, _ = CASES[case]
    return cells.train(cells.denoised(base, denoise, tmp_path_factory.mktemp('cell'), toy_folder))


@pytest.fixture
def run(case) -> checks.Run:
    images = torch.randn(4, 1 if 'linear' in case else 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return checks.on(images)


def is_branched(module: nn.Module) -> bool:
    return isinstance(module, (PDConv, PDLinear)) and not module.deploy


def test_disentangled_layers_are_denoised_as_one(refined, case):
    model = refined.trained()
    layers, replaced = denoise_layers(model), pd_layers(model)
    assert replaced.keys() <= layers.keys()
    assert not [name for name in layers for owner in replaced if name.startswith(f'{owner}.')]
    assert {layers[name].side for name in replaced} == {'output'}


def test_each_phase_changes_its_own_parameters(refined, case, toy_folder, tmp_path):
    checks.assert_phases(refined, refined.trained())
    checks.assert_gradients(refined, cells.brief(cells.tree_config(CASES[case][0]), tmp_path, toy_folder))


def test_resumed_equals_uninterrupted(refined):
    checks.assert_resumes(refined)


def test_evaluation_depends_on_every_predictor(refined, run):
    checks.assert_depends_on_every_predictor(refined.trained(), run)


@pytest.mark.parametrize('statistics', [lambda model: model, randomise], ids=['trained', 'awkward'])
def test_all_layers_are_reparameterised(refined, run, statistics):
    model = statistics(refined.trained())
    deployed = checks.assert_deploys(model, run, is_branched)
    assert pd_layers(deployed).keys() == pd_layers(model).keys()


def test_the_baseline_config_tests_the_deployed_weights(refined, case, run, toy_folder, tmp_path):
    base, _, baseline = CASES[case]
    model = refined.trained()
    deployed = checks.assert_deploys(model, run)
    state = deployed.state_dict() if 'B' in case else baseline_state_dict(deployed)
    # Of PDLinear no config of the tree has the deployed form: it is that of the training form with another argument.
    options = () if baseline else ('model.backbone.layer_cfg.deploy=True',)
    target = cells.brief(cells.tree_config(baseline or base), tmp_path, toy_folder, *options)
    checks.assert_equal_tests(refined, model, target, state, run)
