"""Loading into PDConv: a state dict matches, is converted, or raises; it never leaves random weights."""

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv

from ..toys import image, make_conv, randomise


def wrap(conv: nn.Module) -> nn.Module:
    return nn.Sequential(conv)


def make(mode: str, deploy: bool = False, **options) -> PDConv:
    torch.manual_seed(7)
    options = dict(group_num=4, reduction=4) | options
    return PDConv(8, 16, 3, padding=1, mode=mode, deploy=deploy, **options).double().eval()


LOADERS = [
    lambda module, state: module.load_state_dict(state),
    lambda module, state: module.load_state_dict(state, strict=False),
    lambda module, state: load_state_dict(module, state, strict=False),  # mmengine's own
]


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_branches_are_reparameterised_by_a_deployed_module(mode, load):
    trained, target = wrap(make_conv(mode=mode)), wrap(make(mode, deploy=True))
    load(target, trained.state_dict())
    x = image(2, 8, 6, 7)
    torch.testing.assert_close(target(x), trained(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_deployed_weights_are_refused_by_branches(mode, load):
    deployed_form = make_conv(mode=mode)
    deployed_form.switch_to_deploy()
    with pytest.raises(UserError, match='0 has the deployed form in the checkpoint.*deploy=True'):
        load(wrap(make(mode)), wrap(deployed_form).state_dict())


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_each_form_loads_itself(mode):
    trained, again = make_conv(mode=mode), make(mode)
    x = image(2, 8, 6, 7)
    again.load_state_dict(trained.state_dict())
    torch.testing.assert_close(again(x), trained(x))
    trained.switch_to_deploy()
    deployed = make(mode, deploy=True)
    deployed.load_state_dict(trained.state_dict())
    assert torch.equal(deployed(x), trained(x))


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize(
    ('source', 'target'),
    [
        (dict(mode='B'), dict(mode='A')),
        (dict(mode='A'), dict(mode='B')),
        (dict(branches=('standard1', 'group')), dict()),
        (dict(), dict(branches=('standard1', 'skeleton'))),
        (dict(group_num=8), dict(group_num=4)),
    ],
)
def test_other_branches_are_refused(source, target, deploy):
    options = dict(mode='A') | target
    with pytest.raises(UserError, match='the checkpoint does not match PD-'):
        load_state_dict(wrap(make(deploy=deploy, **options)), wrap(make_conv(**source)).state_dict(), strict=False)


def test_a_deployed_mixture_of_other_size_is_refused():
    deployed_form = make_conv(mode='B', branches=('standard1', 'group'))
    deployed_form.switch_to_deploy()
    with pytest.raises(UserError, match='reparam_weight'):
        load_state_dict(wrap(make('B', deploy=True)), wrap(deployed_form).state_dict(), strict=False)


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_plain_convolution_is_taken_over_with_its_output(mode, bias, deploy):
    plain = nn.Conv2d(8, 16, 3, padding=1, bias=bias).double()
    target = randomise(make(mode, deploy=deploy))
    target.load_state_dict(plain.state_dict())
    x = image(3, 8, 6, 7)
    torch.testing.assert_close(target(x), plain(x), rtol=1e-10, atol=1e-10)


def test_a_checkpoint_without_the_convolution_says_so_as_ever():
    keys = wrap(make('A')).load_state_dict({}, strict=False)
    assert '0.standard1.conv.weight' in keys.missing_keys
