"""Disentangled layers under another method: one that maps their output, and one that attaches a child to them."""

import copy

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn import functional as F

from reprefine.deploy import switch_to_deploy
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDLinear, PDResNet, convert_to_pd
from reprefine.methods.pddr.analysis import branch_weights, find_pd_conv, mean_gates
from reprefine.methods.pddr.conversion.lottery_ticket import lottery_ticket_state
from reprefine.methods.pddr.cost import model_parameters
from reprefine.methods.pddr.layers.branches import BRANCHES
from reprefine.methods.pddr.layers.lookup import pd_layers
from reprefine.models.replaced_layer import ReplacedLayer

from ..toys import LinearMap, attach, attach_everywhere, image, make_conv, randomise

CLOSE = dict(rtol=1e-10, atol=1e-10)
COMPUTES = ('auto', 'branches', 'fused', 'lean')
SMALL = dict(base_channels=8, stem_channels=8, norm_eval=False, out_indices=(3,), host='mmpretrain')


def make_linear(mode: str = 'A', deploy: bool = False) -> PDLinear:
    torch.manual_seed(1)
    return PDLinear(6, 4, mode, deploy).double().eval()


def own(state: dict) -> dict:
    return {key: value for key, value in state.items() if 'denoiser' not in key}


@pytest.mark.parametrize('layer', [make_conv(), make_conv(groups=2), make_linear()])
def test_it_is_a_replaced_layer_in_either_form(layer):
    assert isinstance(layer, ReplacedLayer)
    plain = layer.replaced_type
    assert (layer.out_channels, layer.groups) == ((16, layer.groups) if plain is nn.Conv2d else (4, 1))
    layer.switch_to_deploy()
    assert isinstance(layer, ReplacedLayer)


@torch.no_grad()
@pytest.mark.parametrize('execution', ['kernel', 'output'])
@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_map_of_the_output_equals_a_convolution_behind_the_layer(mode, groups, execution):
    conv, x = make_conv(mode=mode, groups=groups, execution=execution), image(3, 8, 9, 7)
    linear_map = LinearMap(16, groups).double()
    weight, shift = linear_map.full(), linear_map.shift
    expected = F.conv2d(conv(x), weight[:, :, None, None], shift, groups=groups)
    conv.switch_to_deploy()
    trainable = [parameter.requires_grad for parameter in conv.parameters()]
    conv.map_output(weight, shift)
    torch.testing.assert_close(conv(x), expected, **CLOSE)
    assert [parameter.requires_grad for parameter in conv.parameters()] == trainable
    again = make_conv(mode=mode, groups=groups, deploy=True)
    again.load_state_dict(conv.state_dict())
    torch.testing.assert_close(again(x), expected, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_map_of_the_output_of_a_linear_layer(mode):
    layer, x = make_linear(mode), image(5, 3, 6)
    weight, shift = image(4, 4, seed=2), image(4, seed=3)
    expected = F.linear(layer(x), weight, shift)
    layer.switch_to_deploy()
    layer.map_output(weight, shift)
    torch.testing.assert_close(layer(x), expected, **CLOSE)


@torch.no_grad()
def test_the_map_is_composed_in_double_precision_whatever_the_dtype_of_the_layer():
    conv = make_conv(mode='B', dtype=torch.float32)
    weight, shift = image(16, 16, seed=2, dtype=torch.float32), image(16, seed=3, dtype=torch.float32)
    conv.switch_to_deploy()
    exact = copy.deepcopy(conv).double()
    for layer in (conv, exact):
        layer.map_output(weight, shift)
    assert conv.reparam_weight.dtype == torch.float32
    assert torch.equal(conv.reparam_weight, exact.reparam_weight.float())
    assert torch.equal(conv.reparam_bias, exact.reparam_bias.float())


@pytest.mark.parametrize('layer', [make_conv(), make_linear('B')])
def test_branches_take_no_map_of_their_output(layer):
    with pytest.raises(RuntimeError, match='switch_to_deploy'):
        layer.map_output(torch.eye(layer.out_channels), torch.zeros(layer.out_channels))


LAYERS = {
    'conv': (lambda mode, **options: make_conv(mode=mode, **options), image(2, 8, 6, 7)),
    'linear': (make_linear, image(2, 6)),
}
LOADERS = [
    lambda module, state: module.load_state_dict(state, strict=False),
    lambda module, state: load_state_dict(module, state, strict=False),  # mmengine's own
]


@torch.no_grad()
@pytest.mark.parametrize('load', LOADERS)
@pytest.mark.parametrize('with_child', [False, True])
@pytest.mark.parametrize(('source', 'target'), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize('mode', ['A', 'B'])
@pytest.mark.parametrize('kind', LAYERS)
def test_checkpoints_of_each_form_load_beside_a_child_of_another_method(kind, mode, source, target, with_child, load):
    """A file with or without the child's weights loads into a layer that has one, and into one that has none."""
    make, x = LAYERS[kind]
    trained = attach(make(mode))
    trained.denoiser.weight.mul_(2)
    expected_own, expected = make(mode)(x), trained(x)
    if source:
        trained.switch_to_deploy()
    state = {f'0.{key}': value for key, value in trained.state_dict().items()}
    fresh = make(mode, deploy=target)
    for tensor in fresh.state_dict().values():
        tensor.mul_(0) if tensor.is_floating_point() else None
    alone, clone = nn.Sequential(copy.deepcopy(fresh)), nn.Sequential(attach(fresh))
    for model in (alone, clone):
        load(model, dict(state) if with_child else own(state))
    torch.testing.assert_close(alone(x), expected_own, **CLOSE)
    torch.testing.assert_close(
        PDConv.forward(clone[0], x) if kind == 'conv' else PDLinear.forward(clone[0], x), alone(x)
    )
    if with_child:
        torch.testing.assert_close(clone(x), expected, **CLOSE)
    else:
        assert torch.equal(clone[0].denoiser.weight, LinearMap(clone[0].out_channels, 1).weight.double())


@pytest.mark.parametrize('kind', LAYERS)
def test_deployed_weights_are_refused_by_branches_with_a_child(kind):
    deployed_form = attach(LAYERS[kind][0]('A'))
    deployed_form.switch_to_deploy()
    with pytest.raises(UserError, match='has the deployed form in the checkpoint'):
        attach(LAYERS[kind][0]('A')).load_state_dict(deployed_form.state_dict())


@torch.no_grad()
def test_torch_reports_what_a_child_lacks_or_has_too_much():
    state = {f'0.{key}': value for key, value in attach(make_conv()).state_dict().items()}
    names = ['0.denoiser.weight', '0.denoiser.shift']
    keys = nn.Sequential(make_conv()).load_state_dict(dict(state), strict=False)
    assert (keys.missing_keys, sorted(keys.unexpected_keys)) == ([], sorted(names))
    keys = nn.Sequential(attach(make_conv())).load_state_dict(own(state), strict=False)
    assert (sorted(keys.missing_keys), keys.unexpected_keys) == (sorted(names), [])
    alone = {name: state[name] for name in names}
    keys = nn.Sequential(attach(make_conv())).load_state_dict(alone, strict=False)
    assert '0.standard1.conv.weight' in keys.missing_keys
    with pytest.raises(RuntimeError, match='denoiser.weight: copying a param'):
        nn.Sequential(attach(make_conv())).load_state_dict(state | {names[0]: torch.zeros(3, 3)})


@torch.no_grad()
@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_plain_checkpoint_starts_a_layer_with_a_child(mode, deploy):
    torch.manual_seed(5)
    plain, x = nn.Conv2d(8, 16, 3, padding=1).double(), image(2, 8, 6, 7)
    layer = attach(make_conv(mode=mode, deploy=deploy))
    expected = copy.deepcopy(layer.denoiser)
    layer.load_state_dict(plain.state_dict() | {f'denoiser.{k}': v for k, v in expected.state_dict().items()})
    torch.testing.assert_close(PDConv.forward(layer, x), plain(x), **CLOSE)
    assert torch.equal(layer.denoiser.weight, expected.weight)


@torch.no_grad()
@pytest.mark.parametrize('mode', ['A', 'B'])
@pytest.mark.parametrize('kind', LAYERS)
def test_deploying_with_a_child_and_composing_with_it(kind, mode):
    make, x = LAYERS[kind]
    layer = attach(make(mode))
    expected, deployed_form = layer(x), layer.plain()
    assert type(deployed_form) in (PDConv, PDLinear)
    assert not any('denoiser' in key for key in deployed_form.state_dict())
    torch.testing.assert_close(deployed_form(x), expected, **CLOSE)
    assert not layer.deploy  # whose attributes the plain one does not share
    layer.switch_to_deploy()
    torch.testing.assert_close(layer(x), expected, **CLOSE)
    assert {key for key in layer.state_dict() if 'denoiser' in key} == {'denoiser.weight', 'denoiser.shift'}
    if kind == 'conv':
        assert not any('denoiser' in key for key in layer.training_form().state_dict())


@pytest.mark.parametrize('compute', COMPUTES)
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_every_way_to_compute_takes_the_branches_alone(mode, compute):
    torch.manual_seed(0)
    layer, x = attach(make_conv(mode=mode, compute=compute)).train(), image(3, 8, 6, 7)
    assert {index for index, _ in layer.conv_norms()} == set(range(len(BRANCHES)))
    reference = copy.deepcopy(layer)
    reference.compute = 'branches'
    torch.testing.assert_close(layer(x), reference(x), **CLOSE)
    for name, value in layer.named_buffers():
        torch.testing.assert_close(value, dict(reference.named_buffers())[name], **CLOSE)


@pytest.mark.parametrize('compute', COMPUTES)
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_norms_put_to_evaluation_one_by_one_keep_their_statistics(mode, compute):
    """As a method does that freezes the statistics without calling ``train`` of the model."""
    conv = make_conv(mode=mode, compute=compute).train()
    for module in conv.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.training = False
    assert conv.training
    before, x = copy.deepcopy(dict(conv.named_buffers())), image(3, 8, 6, 7)
    y = conv(x)
    assert all(torch.equal(value, before[name]) for name, value in conv.named_buffers())
    torch.testing.assert_close(y, make_conv(mode=mode)(x), **CLOSE)


@pytest.mark.parametrize('compute', COMPUTES)
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_one_norm_in_evaluation_among_others_keeps_its_statistics(mode, compute):
    conv = make_conv(mode=mode, compute=compute).train()
    conv.skeleton.horizontal.bn.training = False
    before = copy.deepcopy(dict(conv.named_buffers()))
    conv(image(3, 8, 6, 7))
    kept = {name for name, value in conv.named_buffers() if torch.equal(value, before[name])}
    assert kept == {name for name in before if name.startswith('skeleton.horizontal.')}


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_network_with_children_everywhere(mode):
    torch.manual_seed(0)
    pd_cfg = dict(mode=mode, group_num='auto', reduction=4)
    net = PDResNet(18, pd_cfg=pd_cfg, frozen_stages=1, zero_init_residual=True, **SMALL)
    parameters = model_parameters(net)
    attach_everywhere(net)
    assert len(pd_layers(net)) == 16
    assert model_parameters(net).stored == parameters.stored
    assert model_parameters(net)[:1] == parameters[:1]
    net.init_weights()
    assert not net.layer2[0].conv2.standard1.bn.weight.any()
    randomise(net.train())
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad != name.startswith(('layer1.', 'conv1.', 'bn1.')), name
    x = image(2, 3, 32, 32, dtype=torch.float32)
    net.eval()
    with torch.no_grad():
        expected = net(x)[0]
        deployed = switch_to_deploy(copy.deepcopy(net))
        assert all(layer.deploy for layer in pd_layers(deployed).values())
        torch.testing.assert_close(deployed(x)[0], expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_the_analyses_see_the_branches_of_a_layer_with_a_child():
    torch.manual_seed(0)
    net = nn.Sequential(make_conv(8, 8, mode='B', dtype=torch.float32), make_conv(8, 8, dtype=torch.float32))
    gates, counts = mean_gates(net, [(image(4, 8, 6, 6, dtype=torch.float32), torch.arange(4))], 4)
    weights = branch_weights(find_pd_conv(net, '1')[1])
    attach_everywhere(net)
    assert find_pd_conv(net, '1')[1] is net[1]
    found = branch_weights(net[1])
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    again = mean_gates(net, [(image(4, 8, 6, 6, dtype=torch.float32), torch.arange(4))], 4)
    assert torch.equal(again[0]['0'], gates['0'])
    assert torch.equal(again[1], counts)
    net[1].replaced_norm, net[1].replaced_bias = 'norm', False
    holder = nn.Module()
    holder.conv, holder.norm = net[1], nn.Identity()
    assert set(lottery_ticket_state(holder)) == {'conv.weight'} | {
        f'norm.{name}' for name in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
    }


class Replaced(nn.Sequential):
    """A layer of another method that consists of what could be disentangled."""

    replaced_type, out_channels, groups = nn.Conv2d, 8, 1

    def switch_to_deploy(self):
        raise NotImplementedError

    def map_output(self, weight, shift):
        raise NotImplementedError


def test_layers_inside_of_a_replaced_one_are_left_alone():
    def pair(channels: int) -> tuple[nn.Module, nn.Module]:
        return nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8)

    net = nn.Sequential(*pair(3), Replaced(*pair(8)))
    assert isinstance(net[2], ReplacedLayer)
    assert convert_to_pd(net, group_num='auto') == ['0']
    assert convert_to_pd(nn.Sequential(*pair(3), nn.Sequential(*pair(8))), group_num='auto') == ['0', '2.0']
