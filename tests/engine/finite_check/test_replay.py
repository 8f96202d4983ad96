"""A step runs again from its replay file with the same numbers."""

import torch
from mmengine.model import BaseModel
from torch import nn

from reprefine.engine.cli.launch import load_config
from reprefine.engine.finite_check.replay import get_attributes, read_replay, set_attributes, take_snapshot
from reprefine.engine.finite_check.rerun import record_nonfinite_modules, rerun
from tests.helpers.nonfinite import config_with_nonfinite_hook, replay_arguments
from tests.helpers.run import DENOISED, DIGITS, SMALL, assert_equal, run_train
from tests.methods.repfusion.run import distiller

KEPT = ('--no-validate', '--cfg-options', 'finite_check.replay=True')


def rerun_of(config, file):
    """The recorded terms and what a second run of the step gives."""
    content = read_replay(file)
    return content['terms'], rerun(load_config(config), content)


def test_denoiserep_runs_again_in_its_phase_with_its_noise(tmp_path):
    options = (*SMALL[1:], 'load_from=None', 'custom_hooks.0.phase_length=1', 'model.backbone.drop_rate=0.2')
    for iteration in (1, 3):  # one in each phase
        run = tmp_path / str(iteration)
        config = config_with_nonfinite_hook(tmp_path, DENOISED, iteration=iteration, gradient=True)
        assert run_train(config, '--work-dir', str(run), *KEPT, *options) == 1
        terms, found = rerun_of(*replay_arguments(run))
        assert found.terms == terms
        assert ('loss_denoise' in terms) == (iteration == 1)
        assert all(('.denoiser.' in name) == (iteration == 1) for name in found.gradients)


def test_mixed_precision_and_dropout_run_again(tmp_path):
    config = config_with_nonfinite_hook(tmp_path, DIGITS, gradient=True)
    options = (*SMALL[1:], 'model.backbone.drop_rate=0.2')
    assert run_train(config, '--work-dir', str(tmp_path / 'run'), '--amp', *KEPT, *options) == 1
    _, file = replay_arguments(tmp_path / 'run')
    assert read_replay(file)['autocast'] == 'bfloat16'
    terms, found = rerun_of(*replay_arguments(tmp_path / 'run'))
    assert found.terms == terms
    content = read_replay(file)
    content['autocast'] = None
    assert rerun(load_config(replay_arguments(tmp_path / 'run')[0]), content).terms != terms


class Counting(BaseModel):
    """Its state changes with every forward pass."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.mode = nn.Linear(2, 2), nn.BatchNorm1d(2), 'plain'

    def forward(self, inputs, mode='loss'):
        return dict(loss=self.norm(self.layer(inputs)).sum())


def test_the_snapshot_is_of_the_state_before_the_step():
    model = Counting()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = dict(inputs=torch.rand(3, 2))
    kept = take_snapshot(model, batch)
    model(**batch)
    with torch.no_grad():
        model.layer.weight.add_(1)
    assert not torch.equal(model.norm.running_mean, before['norm.running_mean'])
    assert_equal(kept['state_dict'], before)
    assert torch.equal(kept['batch']['inputs'], batch['inputs'])


def test_attributes_are_restored():
    model, other = Counting(), Counting()
    model.mode = 'changed'
    model.norm.eval()
    set_attributes(other, {**get_attributes(model), 'absent.attribute': 1, 'layer.new': 2})
    assert other.mode == 'changed'
    assert (other.training, other.norm.training) == (True, False)
    assert not hasattr(other.layer, 'new')


def test_attributes_of_objects_that_are_no_modules_are_restored():
    models = [distiller(), distiller()]  # its source of timesteps counts what it has drawn
    models[0].timestep_source.bind(1000)
    models[0].timestep_source.select(torch.zeros(2, 3, 4, 4), None)
    set_attributes(models[1], get_attributes(models[0]))
    models[1].timestep_source.bind(1000)
    drawn = [model.timestep_source.select(torch.zeros(9, 3, 4, 4), None) for model in models]
    assert torch.equal(*drawn)


def test_the_first_nonfinite_module_is_named():
    class Broken(nn.Module):
        def forward(self, x):
            return dict(x=[x / 0])

    class Take(nn.Module):
        def forward(self, x):
            return x['x'][0]

    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Broken(), Take()), nn.ReLU())
    with record_nonfinite_modules(model) as found:
        model(torch.ones(1, 2))
    assert found[0] == '1.0 (Broken)'
    assert found[-1] == 'the model (Sequential)'
    assert not any(module._forward_hooks for module in model.modules())
