"""DenoiseRep over disentangled layers of other forms: deployed, grouped, in a converted backbone, shared by levels."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprefine.deploy import switch_to_deploy
from reprefine.engine.build import build_model
from reprefine.methods.denoiserep import DenoiseRep, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_layers
from reprefine.methods.pddr import PDConv, PDLinear
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_layers
from tests.combinations import cells, checks
from tests.methods.denoiserep.toys import ToyClassifier
from tests.methods.pddr.toys import randomise

FOLDER = 'pddr/classification/'
# Small steps however large or small the gradients of random weights are.
ADAM = "optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-4))\n"
STEP = dict(timestep=400, step='ddim', to=20)


class Grouped(nn.Module):
    """A grouped and a strided disentangled convolution, with a disentangled head."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.first = PDConv(3, 8, 3, padding=1, mode=mode, group_num='auto', reduction=2)
        self.second = PDConv(8, 12, 3, stride=2, padding=2, dilation=2, groups=4, mode=mode, group_num=4, reduction=2)
        self.head = PDLinear(12, 5, mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


def toy(mode: str) -> nn.Module:
    torch.manual_seed(0)
    return DenoiseRep(Grouped(mode), base_type=ToyClassifier, denoise=dict(include='all', **STEP))


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_grouped_convolutions_do_not_mix_groups(mode):
    model = randomise(toy(mode))
    widths = {name: layer.denoiser.weight.shape for name, layer in denoise_layers(model).items()}
    assert widths == {'backbone.first': (8, 8), 'backbone.second': (12, 3), 'backbone.head': (5, 5)}
    run = checks.on(torch.randn(4, 3, 9, 7))
    checks.assert_depends_on_every_predictor(model.eval(), run)
    deployed = checks.assert_deploys(model, run)
    assert all(layer.deploy for layer in (deployed.backbone.first, deployed.backbone.second, deployed.backbone.head))


@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_reparameterisation_restores_requires_grad_in_every_phase(mode, phase):
    baseline, model = switch_to_deploy(ToyClassifier(Grouped(mode)).eval()), toy(mode)
    set_phase(model, phase)
    deployed = switch_to_deploy(model.eval())
    trainable = [{n for n, p in network.named_parameters() if p.requires_grad} for network in (deployed, baseline)]
    assert trainable[0] == trainable[1] != set()


@torch.no_grad()
def with_statistics(model: nn.Module) -> nn.Module:
    """Return a model whose norms have updated their statistics."""
    for _ in range(30):
        model.train()(torch.randn(8, 3, 28, 28), mode='tensor')
    return model.eval()


@pytest.mark.parametrize('mode', ['a', 'b'])
def test_a_deployed_network_is_denoised_and_reparameterised_into_its_own_form(mode, tmp_path, toy_folder):
    base = f'{FOLDER}deploy/resnet18-w32-pd{mode}_deploy_mnist5k'
    wide = '+model.backbone.pd_cfg.reduction=2'  # of two hidden units of a gate, both may be dead
    branched = cells.brief(cells.tree_config(f'{FOLDER}resnet18-w32-pd{mode}_10e_mnist5k'), tmp_path, toy_folder, wide)
    network = with_statistics(build_model(cells.config_of(branched)))
    start = cells.saved(switch_to_deploy(network), tmp_path / 'start.pth')
    options = (wide, f'load_from={start}')
    refined = cells.train(cells.denoised(base, "include=['layer']", tmp_path, toy_folder, *options, more=ADAM))
    baseline = cells.brief(cells.tree_config(base), tmp_path / 'baseline', toy_folder, wide)
    model, run = refined.trained(), checks.on(torch.randn(2, 3, 28, 28))
    fixed = {name for name in refined.weights(1) if name.endswith(('.reparam_weight', '.reparam_bias'))}
    assert bool(fixed) == (mode == 'b')  # the mixed kernels are not trained, refined or not
    checks.assert_phases(refined, model, fixed=fixed)
    checks.assert_gradients(refined, baseline)
    checks.assert_depends_on_every_predictor(model, run)
    checks.assert_equal_tests(refined, model, baseline, checks.assert_deploys(model, run).state_dict(), run)


CONVERTED = """_base_ = '{base}'

pd = dict(mode='{mode}', group_num='auto', reduction=2)
# Statistics that two iterations train.
norm = dict(type='BN', momentum=0.9)
model = dict(
    backbone=dict(
        type='reprefine.PDConverted', base_type={{{{_base_.model.backbone.type}}}}, pd=pd, norm_cfg=norm
    )
)
"""


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_part_that_another_method_has_refined(mode, tmp_path, toy_folder):
    base = 'baselines/classification/resnet18-w32_10e_mnist5k'
    config = tmp_path / 'converted.py'
    config.write_text(CONVERTED.format(base=cells.tree_config(base), mode=mode))
    refined = cells.train(cells.denoised(config, "include=['layer', 'head']", tmp_path, toy_folder, more=ADAM))
    model, run = refined.trained(), checks.on(torch.randn(2, 3, 28, 28))
    assert pd_layers(model).keys() < denoise_layers(model).keys()
    checks.assert_phases(refined, model)
    checks.assert_gradients(refined, cells.brief(config, tmp_path, toy_folder))
    checks.assert_depends_on_every_predictor(model, run)
    deployed = checks.assert_deploys(model, run, is_branched)
    if mode == 'A':
        baseline = cells.brief(cells.tree_config(base), tmp_path / 'baseline', toy_folder)
        checks.assert_equal_tests(refined, model, baseline, baseline_state_dict(deployed), run)
    else:
        baseline = cells.brief(config, tmp_path / 'baseline', toy_folder, 'model.backbone.pd.deploy=True')
        checks.assert_equal_tests(refined, model, baseline, deployed.state_dict(), run)


def is_branched(module: nn.Module) -> bool:
    return isinstance(module, (PDConv, PDLinear)) and not module.deploy
