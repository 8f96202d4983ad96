"""Reparameterisation of checkpoint files."""

import re

import pytest
import torch
from torch import nn

from reprefine.deploy import switch_to_deploy
from reprefine.deploy.checkpoint import reparameterize_checkpoint, reparameterize_file
from reprefine.deploy.examples import Example
from reprefine.deploy.meta import deployed_layers, is_deployed
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.errors import UserError
from tests.deploy.toys import TwoBranches, baseline_layers, two_layers

EXAMPLE = Example(torch.randn(3, 5, generator=torch.Generator().manual_seed(1)), None, 'random vectors')
META = dict(epoch=7, iter=9, dataset_meta=dict(classes=('a', 'b')), cfg='secret', time='now')


@pytest.fixture
def trained(tmp_path):
    file = tmp_path / 'trained.pth'
    torch.save(dict(state_dict=two_layers().state_dict(), optimizer=dict(state={}), meta=META), file)
    return file


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_written_are_weights_and_the_reparameterised_layers(trained, tmp_path, suffix):
    out = tmp_path / f'out{suffix}'
    result = reparameterize_file(two_layers(), trained, out, [EXAMPLE])
    assert (result.parameters, result.averaged) == (2 * 39, False)
    content = read_checkpoint(str(out))
    assert content.keys() == {'state_dict', 'meta'}
    assert content['meta'].keys() == {'epoch', 'iter', 'dataset_meta', 'deployed'}
    assert deployed_layers(content) == {'0': 'TwoBranches', '2': 'TwoBranches'}
    again = two_layers()
    for layer in (again[0], again[2]):
        layer.switch_to_deploy()
    again.load_state_dict(content['state_dict'])  # strict
    torch.testing.assert_close(again(EXAMPLE.inputs), two_layers()(EXAMPLE.inputs))


def test_the_baseline_must_load_the_result_and_is_compared(trained):
    result = reparameterize_checkpoint(two_layers(), trained, [EXAMPLE], into=baseline_layers(), to_baseline=True)
    assert set(result.written.state_dict()) == set(baseline_layers().state_dict())
    torch.testing.assert_close(result.written(EXAMPLE.inputs), two_layers()(EXAMPLE.inputs))
    with pytest.raises(UserError, match=r'do not fit the deployed model: .*missing \(0.weight'):
        reparameterize_checkpoint(two_layers(), trained, [EXAMPLE], into=baseline_layers())
    narrow = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    with pytest.raises(UserError, match=r'do not fit the baseline: .*size mismatch \(2.weight'):
        reparameterize_checkpoint(two_layers(), trained, [EXAMPLE], into=narrow, to_baseline=True)


def refusal(tmp_path, source, model=None, out='out.pth', **options) -> str:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError) as caught:
        reparameterize_file(model or two_layers(), source, tmp_path / out, [EXAMPLE], **options)
    assert sorted(tmp_path.iterdir()) == before
    return str(caught.value)


def test_a_model_without_training_form_is_refused(trained, tmp_path):
    assert 'has no deployable layer' in refusal(tmp_path, trained, baseline_layers())
    deployed = two_layers()
    for layer in (deployed[0], deployed[2]):
        layer.switch_to_deploy()
    torch.save(dict(state_dict=deployed.state_dict()), tmp_path / 'unmarked.pth')
    assert 'the config builds the deployed form already' in refusal(tmp_path, tmp_path / 'unmarked.pth', deployed)
    assert 'does not fit the config, or is deployed already' in refusal(tmp_path, tmp_path / 'unmarked.pth')


@pytest.mark.parametrize('meta', [dict(denoiserep_fused=True), dict(pddr_deployed=True), dict(deployed={'0': 'X'})])
def test_a_deployed_checkpoint_is_refused(meta, tmp_path):
    torch.save(dict(state_dict=two_layers().state_dict(), meta=meta), tmp_path / 'deployed.pth')
    assert re.search(
        r'deployed.pth is deployed already \((DenoiseRep|PDConv|X)\)', refusal(tmp_path, tmp_path / 'deployed.pth')
    )


def test_meta_keys_of_earlier_versions_are_read():
    assert is_deployed(dict(meta=dict(denoiserep_fused=True)), 'Denoise')
    assert not is_deployed(dict(meta=dict(denoiserep_fused=False, pddr_deployed=True)), 'Denoise')
    assert is_deployed(dict(meta=dict(deployed={'0': 'DenoiseLinear'})), 'Denoise')
    assert not is_deployed(dict(meta=dict(deployed={'0': 'PDConv'})), 'Denoise')
    assert not is_deployed(dict(meta=None), 'Denoise')


@pytest.mark.parametrize('error', [0.01, float('nan')])
def test_what_differs_is_named_and_not_written(error, trained, tmp_path):
    message = refusal(tmp_path, trained, two_layers(error))
    assert re.search(
        r'trained.pth: the deployed form of .* differs by \S+ of its largest .*, more than 1.0e-05', message
    )
    assert refusal(tmp_path, trained, tolerance=1e-30).count('more than 1.0e-30') == 1
    if error == 0.01:
        reparameterize_file(two_layers(error), trained, tmp_path / 'out.pth', [EXAMPLE], tolerance=10.0)


@torch.no_grad()
def test_weights_that_are_not_finite_are_named(tmp_path):
    model = two_layers()
    model[2].second.weight[1, 1] = float('nan')
    torch.save(model.state_dict(), tmp_path / 'trained.pth')
    assert 'not finite: 2.second.weight' in refusal(tmp_path, tmp_path / 'trained.pth')


def test_a_layer_left_in_training_form_fails(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(TwoBranches, 'switch_to_deploy', lambda self: None)
    with pytest.raises(RuntimeError, match='0 is in training form still'):
        reparameterize_file(two_layers(), trained, tmp_path / 'out.pth', [EXAMPLE])
    assert not (tmp_path / 'out.pth').exists()


class Backbone(nn.Module):
    """As those of OpenMMLab libraries, whose ``train`` returns None."""

    def __init__(self):
        super().__init__()
        self.layers = two_layers()

    def train(self, mode: bool = True) -> None:
        super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_a_backbone_whose_train_returns_none(tmp_path):
    torch.save(Backbone().state_dict(), tmp_path / 'trained.pth')
    result = reparameterize_checkpoint(Backbone(), tmp_path / 'trained.pth', [EXAMPLE], into=deployed_backbone())
    assert list(result.layers) == ['layers.0', 'layers.2']
    torch.testing.assert_close(result.written(EXAMPLE.inputs), Backbone()(EXAMPLE.inputs))


def deployed_backbone() -> Backbone:
    return switch_to_deploy(Backbone())


def test_targets(trained, tmp_path):
    assert 'out.txt is neither a .pth nor a .safetensors file' in refusal(tmp_path, trained, out='out.txt')
    (tmp_path / 'out.pth').write_text('precious')
    assert 'out.pth exists' in refusal(tmp_path, trained)
    assert (tmp_path / 'out.pth').read_text() == 'precious'
    reparameterize_file(two_layers(), trained, tmp_path / 'out.pth', [EXAMPLE], overwrite=True)
    assert torch.load(tmp_path / 'out.pth', weights_only=True)['meta']['epoch'] == 7
