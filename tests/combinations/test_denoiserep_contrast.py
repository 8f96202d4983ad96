"""DenoiseRep over the contrastive model with transformed features, and over a classifier that starts from it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reprefine.deploy import switch_to_deploy
from reprefine.engine.build import build_model, load_trained
from reprefine.methods.denoiserep.conversion.converted import denoise_layers
from reprefine.methods.denoiserep.training.phases import set_phase
from tests.combinations import cells, checks
from tests.helpers.run import assert_equal

BASE = 'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k'
DOWNSTREAM = 'feature_transform/classification/resnet14-narrow-moco-v2-ft-pre_linear-30e_mnist5k'
# What MoCo moves in every iteration.
QUEUE = frozenset({'queue', 'queue_ptr', 'encoder_k.steps'})


@pytest.fixture(scope='module')
def refined(tmp_path_factory, toy_folder) -> cells.Cell:
    denoise = r"include=['layer', 'neck'], exclude='downsample'"
    return cells.train(cells.denoised(BASE, denoise, tmp_path_factory.mktemp('cell'), toy_folder))


@pytest.fixture(scope='module')
def baseline(tmp_path_factory, toy_folder) -> cells.Cell:
    return cells.brief(cells.tree_config(BASE), tmp_path_factory.mktemp('baseline'), toy_folder)


@torch.no_grad()
def run(model: nn.Module) -> list[Tensor]:
    """Return queries and keys of the same images."""
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model.eval()
    return checks.tensors([model.neck(model.backbone(images)), model.encoder_k(images)])


def test_each_phase_changes_its_own_parameters(refined, baseline):
    model = refined.trained()
    momentum = checks.predictors(model, with_momentum=True) - checks.predictors(model)
    checks.assert_phases(refined, model, both=momentum | QUEUE)
    checks.assert_gradients(refined, baseline)


def test_resumed_equals_uninterrupted(refined):
    checks.assert_resumes(refined)


def test_evaluation_depends_on_every_predictor_of_both_encoders(refined):
    model = refined.trained()
    assert len(denoise_layers(model, with_momentum=True)) == 2 * len(denoise_layers(model)) > 20
    checks.assert_depends_on_every_predictor(model, run)


def test_predictors_of_the_momentum_encoder_are_moving_averages(refined):
    model = refined.trained()
    query = nn.Sequential(model.backbone, model.neck)
    before, target = (cells.copied(module) for module in (model.encoder_k.module, query))
    assert before.keys() == target.keys()
    model.encoder_k.update_parameters(query)
    for name, parameter in model.encoder_k.module.named_parameters():
        torch.testing.assert_close(parameter, before[name].lerp(target[name], model.encoder_k.momentum))
    model.encoder_k.momentum = 1
    model.encoder_k.update_parameters(query)
    assert_equal(cells.copied(model.encoder_k.module), target)


def test_predictors_of_the_momentum_encoder_are_initialised_from_their_sources(refined):
    model = build_model(cells.config_of(refined))
    layers = denoise_layers(model, with_momentum=True)
    for name, layer in denoise_layers(model).items():
        part, _, inner = name.partition('.')
        momentum_layer = layers[f'encoder_k.module.{("backbone", "neck").index(part)}.{inner}']
        assert_equal(momentum_layer.denoiser.state_dict(), layer.denoiser.state_dict())
        assert momentum_layer.is_momentum_copy
        assert not layer.is_momentum_copy


def test_keys_and_queue_are_those_of_the_baseline_while_the_predictors_are_trained(refined, baseline):
    model, weights = build_model(cells.config_of(refined)), refined.weights(1)
    model.load_state_dict(weights)
    base_model = build_model(cells.config_of(baseline))
    base_model.load_state_dict({name: weights[name] for name in weights.keys() - model.added_keys})
    batch = cells.first_batch(baseline)
    set_phase(model.train(), 'denoise')
    cells.losses_of(model, batch)
    for norm in base_model.train().modules():
        if 'running_mean' in norm._buffers:
            norm.eval()
    cells.losses_of(base_model, batch)
    state, expected = model.state_dict(), base_model.state_dict()
    assert_equal({name: state[name] for name in expected}, dict(expected))
    assert not torch.equal(expected['queue'], weights['queue'])


def test_both_encoders_are_reparameterised_and_the_baseline_config_continues_training(refined, baseline):
    model = refined.trained()
    deployed = checks.assert_deploys(model, run)
    network = load_trained(cells.config_of(baseline), str(cells.saved(deployed, refined.work_dir / 'deployed.pth')))
    checks.assert_close(run(network), run(model))
    # The key encoder of the deployed model itself is still updated, too.
    for moco in (deployed, network):
        moco.encoder_k.momentum = 1
        moco.encoder_k.update_parameters(nn.Sequential(moco.backbone, moco.neck))
        queries, keys = run(moco)
        assert torch.equal(queries, keys)


@pytest.fixture(scope='module')
def start(refined) -> Path:
    """Return the checkpoint of the deployed contrastive model."""
    return cells.saved(switch_to_deploy(refined.trained()), refined.work_dir / 'start.pth')


def init_from(checkpoint: Path) -> str:
    return f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint='{checkpoint}', prefix='backbone.')"


@pytest.fixture(scope='module')
def downstream(start, tmp_path_factory, toy_folder) -> cells.Cell:
    """Return a classifier with a frozen backbone from the deployed contrastive model, with its own noise predictors."""
    folder = tmp_path_factory.mktemp('downstream')
    return cells.train(cells.denoised(DOWNSTREAM, "include=['layer', 'head']", folder, toy_folder, init_from(start)))


def test_a_classifier_starts_from_the_deployed_model(downstream, start):
    weights, trained = torch.load(start, weights_only=True)['state_dict'], downstream.weights(cells.ITERATIONS)
    backbone = {name: weights[name] for name in weights if name.startswith('backbone.')}
    assert_equal({name: trained[name] for name in backbone}, backbone)


def test_a_classifier_that_starts_from_it_is_converted_itself(downstream, toy_folder, tmp_path):
    baseline = cells.brief(cells.tree_config(DOWNSTREAM), tmp_path, toy_folder)
    model = downstream.trained()
    # All stages are frozen, and the statistics of their norms fixed.
    frozen = {name for name in downstream.weights(1) if name.startswith('backbone.')} - model.added_keys
    checks.assert_phases(downstream, model, fixed=frozen)
    checks.assert_gradients(downstream, baseline)
    checks.assert_resumes(downstream)
    images = checks.on(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    checks.assert_depends_on_every_predictor(model, images)
    deployed = checks.assert_deploys(model, images)
    checks.assert_equal_tests(downstream, model, baseline, deployed.state_dict(), images)


def test_a_checkpoint_in_training_form_is_refused_as_a_start(refined, tmp_path, toy_folder, capsys):
    in_training_form = cells.brief(
        cells.tree_config(DOWNSTREAM), tmp_path / 'run', toy_folder, init_from(refined.checkpoint(cells.ITERATIONS))
    )
    with pytest.raises(AssertionError):
        cells.train(in_training_form)
    assert 'holds layers in a form that the model does not have' in capsys.readouterr().err
