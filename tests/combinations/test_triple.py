"""Three methods in one model: DenoiseRep over MoCo with transformed features, whose encoder has disentangled layers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reprefine.deploy import switch_to_deploy
from reprefine.methods.denoiserep.conversion.converted import denoise_layers
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_convs
from tests.combinations import cells, checks
from tests.helpers.run import assert_equal

CONTRAST = 'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k'
LINEAR = 'feature_transform/classification/resnet14-narrow-moco-v2-ft-pre_linear-30e_mnist5k'
ENCODER = """_base_ = '{base}'

model = dict(backbone=dict(type='reprefine.PDResNet', pd_cfg=dict(mode='{mode}', group_num='auto'), deploy={deploy}))
"""
QUEUE = frozenset({'queue', 'queue_ptr', 'encoder_k.steps'})


def written(folder: Path, base: str, mode: str, deploy: bool = False) -> Path:
    """Write a config whose backbone has disentangled convolutions."""
    config = folder / 'pd.py'
    config.write_text(ENCODER.format(base=cells.tree_config(base), mode=mode, deploy=deploy))
    return config


@pytest.fixture(scope='module', params=['A', 'B'])
def mode(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def pd_config(mode, tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp('config'), CONTRAST, mode)


@pytest.fixture(scope='module')
def refined(pd_config, tmp_path_factory, toy_folder) -> cells.Cell:
    denoise = r"include=['layer', 'neck'], exclude='downsample'"
    folder = tmp_path_factory.mktemp('cell')
    # Branches that begin at zero would not move in the first iteration, nor their averages in the second.
    options = ('model.backbone.zero_init_residual=False', 'model.momentum=0.5')
    return cells.train(cells.denoised(pd_config, denoise, folder, toy_folder, *options))


@torch.no_grad()
def run(model: nn.Module) -> list[Tensor]:
    """Return queries and keys of the same images."""
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model.eval()
    return checks.tensors([model.neck(model.backbone(images)), model.encoder_k(images)])


def is_branched(module: nn.Module) -> bool:
    return isinstance(module, PDConv) and not module.deploy


def test_each_phase_changes_its_own_parameters(refined, pd_config, tmp_path, toy_folder):
    model = refined.trained()
    momentum = checks.predictors(model, with_momentum=True) - checks.predictors(model)
    checks.assert_phases(refined, model, both=momentum | QUEUE)
    checks.assert_gradients(refined, cells.brief(pd_config, tmp_path, toy_folder))


def test_resumed_equals_uninterrupted(refined):
    checks.assert_resumes(refined)


def test_evaluation_depends_on_every_predictor_of_both_encoders(refined):
    model = refined.trained()
    layers = denoise_layers(model, with_momentum=True)
    assert pd_convs(model).keys() <= layers.keys()
    assert len(pd_convs(model.encoder_k)) == len(pd_convs(model.backbone)) > 0
    checks.assert_depends_on_every_predictor(model, run)


def test_both_methods_are_reparameterised_in_both_encoders(refined, mode, tmp_path, toy_folder):
    model = refined.trained()
    deployed = checks.assert_deploys(model, run, is_branched)
    if mode == 'A':
        baseline = cells.brief(cells.tree_config(CONTRAST), tmp_path, toy_folder)
        state = baseline_state_dict(deployed)
    else:
        config = written(tmp_path, CONTRAST, mode, True)
        baseline, state = cells.brief(config, tmp_path, toy_folder), deployed.state_dict()
    network = cells.loaded(baseline, state)
    checks.assert_close(run(network), run(model))
    network.encoder_k.momentum = 1
    network.encoder_k.update_parameters(nn.Sequential(network.backbone, network.neck))
    queries, keys = run(network)
    assert torch.equal(queries, keys)


def test_a_classifier_without_methods_starts_from_the_deployed_encoder(refined, mode, tmp_path, toy_folder):
    deployed = switch_to_deploy(refined.trained())
    state = baseline_state_dict(deployed) if mode == 'A' else deployed.state_dict()
    start = tmp_path / 'start.pth'
    torch.save(dict(state_dict=state, meta={}), start)
    init = f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint='{start}', prefix='backbone.')"
    config = cells.tree_config(LINEAR) if mode == 'A' else written(tmp_path, LINEAR, mode, True)
    trained = cells.train(cells.brief(config, tmp_path / 'run', toy_folder, init)).weights(cells.ITERATIONS)
    backbone = {name: state[name] for name in state if name.startswith('backbone.')}
    assert_equal({name: trained[name] for name in backbone}, backbone)
