"""Converting the convolutions of any model, and going back to the plain model."""

import copy
from functools import partial

import pytest
import timm
import torch
import torchvision
from mmcv.cnn import ConvModule
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.deploy import switch_to_deploy
from reprefine.deploy.forms import baseline_copy
from reprefine.engine.cost.counting import count_parameters
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, convert_to_pd
from reprefine.methods.pddr.cost import model_parameters
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_convs
from reprefine.models.split_batch_norm import SplitBatchNorm2d
from reprefine.registry import MODELS

from ..toys import image, randomise


def small_net() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        ConvModule(3, 8, 7, padding=3, norm_cfg=dict(type='BN')),
        ConvModule(8, 16, 3, padding=1, stride=2, norm_cfg=dict(type='BN', eps=1e-3)),
        nn.Conv2d(16, 16, 3, padding=1, bias=True),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        ConvModule(16, 16, 3, padding=1, groups=4, norm_cfg=dict(type='BN')),
        nn.Conv2d(16, 4, 3, padding=1),
        nn.Conv2d(4, 4, 1),
    )
    return randomise(net).double().eval()


OPTIONS = dict(group_num='auto', reduction=4)


@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_conversion_keeps_the_output(mode, deploy):
    plain = small_net()
    net = copy.deepcopy(plain)
    names = convert_to_pd(net, mode=mode, deploy=deploy, **OPTIONS)
    assert names == ['1.conv', '2']
    x = image(2, 3, 12, 10)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-9, atol=1e-9)
    assert isinstance(net[1].norm, nn.Identity)
    assert not any(parameter.is_meta for parameter in net.parameters())


@pytest.mark.parametrize(
    ('rule', 'names'),
    [
        (r'^6$', ['6']),
        ([r'^1', r'^6'], ['1.conv', '6']),
        (lambda name, conv: conv.kernel_size == (7, 7), ['0.conv']),
        (lambda name, conv: conv.groups > 1, ['5.conv']),
    ],
)
def test_a_rule_chooses(rule, names):
    plain = small_net()
    net = copy.deepcopy(plain)
    assert convert_to_pd(net, rule, mode='B', **OPTIONS) == names
    assert sorted(pd_convs(net)) == sorted(names)
    x = image(2, 3, 12, 10)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('rule', [None, r'\d'])
def test_plain_export_fits_the_untouched_model(rule):
    net, plain = small_net(), small_net()
    convert_to_pd(net, rule, **OPTIONS)
    randomise(net, seed=3)
    x = image(2, 3, 12, 10)
    expected = net(x)
    plain.load_state_dict(baseline_state_dict(net))  # strict
    torch.testing.assert_close(plain(x), expected, rtol=1e-8, atol=1e-8)
    switch_to_deploy(net)
    for name, value in baseline_state_dict(net).items():
        torch.testing.assert_close(plain.state_dict()[name], value, msg=name)


def test_no_plain_export_of_mixtures_or_without_a_place_for_the_bias():
    net = small_net()
    convert_to_pd(net, mode='B', **OPTIONS)
    with pytest.raises(UserError, match='PD-B.*no standard module equals it'):
        baseline_state_dict(net)
    with pytest.raises(UserError, match='baseline cannot hold its bias'):
        baseline_state_dict(nn.Sequential(PDConv(8, 8, 3, padding=1, group_num=4)))


def test_plain_checkpoints_load_into_a_converted_model():
    plain = small_net()
    net = small_net()
    convert_to_pd(net, warm_start=False, **OPTIONS)
    x = image(2, 3, 12, 10)
    assert (net(x) - plain(x)).abs().max() > 1e-2
    copied = copy.deepcopy(net)  # hooks must follow the copy
    copied.load_state_dict(plain.state_dict())
    torch.testing.assert_close(copied(x), plain(x), rtol=1e-9, atol=1e-9)
    state = plain.state_dict()
    del state['1.bn.weight']
    with pytest.raises(UserError, match='1.conv: .*lacks its batch norm bn'):
        net.load_state_dict(state, strict=False)


@pytest.mark.parametrize('name', ['torchvision', 'timm'])
def test_networks_of_other_libraries(name):
    torch.manual_seed(0)
    plain = torchvision.models.resnet18() if name == 'torchvision' else timm.create_model('resnet26d', num_classes=10)
    randomise_softly(plain)
    net = copy.deepcopy(plain)
    names = (
        convert_to_pd(net, r'layer\d', mode='B') if name == 'torchvision' else convert_to_pd(net, r'layer\d.*conv2$')
    )
    assert len(names) == (16 if name == 'torchvision' else 8)
    x = image(2, 3, 64, 64, dtype=torch.float32)
    expected = plain(x)
    torch.testing.assert_close(net(x), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    again = copy.deepcopy(switch_to_deploy(net))
    torch.testing.assert_close(again(x), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def randomise_softly(net: nn.Module) -> None:
    for module in net.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1)


@pytest.mark.parametrize(
    ('rule', 'options', 'message'),
    [
        ('absent', {}, "rule='absent'; candidates of the model: 0.conv, 1.conv, 2"),
        (
            None,
            dict(group_num=64),
            '1.conv cannot be disentangled: group_num=64 does not divide 8 input and 16 output channels',
        ),
    ],
)
def test_what_cannot_be_converted_is_said_and_nothing_changes(rule, options, message):
    net = small_net()
    with pytest.raises(UserError, match=message):
        convert_to_pd(net, rule, **options)
    assert not pd_convs(net)


def test_parts_of_a_detector_by_config():
    neck = dict(type='mmdet.FPN', in_channels=[8, 16], out_channels=8, num_outs=3)
    import mmdet.models  # noqa: F401  (registers FPN)

    with DefaultScope.overwrite_default_scope('mmdet'):
        pd = dict(rule='fpn_convs', mode='A', group_num='auto')
        fpn = MODELS.build(neck | dict(type='reprefine.PDConverted', base_type='mmdet.FPN', pd=pd))
        plain = ROOT.build(neck)
    assert sorted(pd_convs(fpn)) == ['fpn_convs.0.conv', 'fpn_convs.1.conv']
    fpn.init_weights()
    randomise(fpn).eval()
    maps = [image(1, 8, 8, 8, dtype=torch.float32), image(1, 16, 4, 4, dtype=torch.float32)]
    expected = fpn(maps)
    plain.load_state_dict(baseline_state_dict(fpn))
    for actual, reference in zip(plain(maps), expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_choice_of_those_that_keep_their_weights():
    plain = small_net()
    net = copy.deepcopy(plain)
    convert_to_pd(net, warm_start=lambda name, conv: name == '2', **OPTIONS)
    x = image(2, 16, 6, 5)
    torch.testing.assert_close(net[2](x), plain[3](plain[2](x)), rtol=1e-9, atol=1e-9)
    assert net[1].conv.standard2.bn.weight.all()  # in which every branch works


@pytest.mark.parametrize('kind', [nn.BatchNorm2d, nn.SyncBatchNorm, partial(SplitBatchNorm2d, num_splits=3)])
def test_norms_of_the_branches_behave_as_the_one_they_replace(kind):
    norm = kind(8, eps=1e-3, momentum=0.02)
    norm.requires_grad_(False)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm).double()
    net[0].eval()
    convert_to_pd(net, group_num='auto')
    norms = [part.bn for _, part in net[0].conv_norms()]
    assert all(isinstance(bn, type(norm)) for bn in norms)
    assert {getattr(bn, 'num_splits', None) for bn in norms} == {getattr(norm, 'num_splits', None)}
    assert {(bn.eps, bn.momentum, bn.weight.requires_grad) for bn in norms} == {(1e-3, 0.02, False)}
    assert {bn.running_var.dtype for bn in norms} == {torch.float64}
    assert not any(module.training for module in net[0].modules())
    assert net.training


def test_a_kernel_that_is_computed_is_no_candidate():
    conv = nn.utils.spectral_norm(nn.Conv2d(8, 8, 3, padding=1))
    net = nn.Sequential(conv, nn.BatchNorm2d(8))
    with pytest.raises(UserError, match='candidates of the model: none'):
        convert_to_pd(net, group_num='auto')


@pytest.mark.parametrize('training', [False, True])
def test_plain_model_keeps_mode_and_resolution_of_the_norms(training):
    net = small_net().train(training)
    convert_to_pd(net, group_num='auto')
    plain = baseline_copy(net)
    assert all(module.training == training for module in plain.modules())
    assert (plain[1].bn.eps, plain[3].eps) == (1e-3, 1e-5)
    assert plain[1].conv.weight.dtype == torch.float64
    assert all(conv.deploy is False for conv in pd_convs(net).values())


def test_parameters_of_the_plain_network_are_counted_with_its_biases():
    plain = small_net()
    net = copy.deepcopy(plain)
    convert_to_pd(net, r'\d', mode='B', **OPTIONS)
    assert any(conv.replaced_bias for conv in pd_convs(net).values())
    assert model_parameters(net).plain == count_parameters(plain)
