"""The PD convolution: deployed equals trained, gate, gradients, refusals."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import BRANCHES, ConvNorm, PDConv

from ..toys import image, make_conv, randomise

SUBSETS = [
    ('standard1',),
    ('standard1', 'standard2'),
    ('standard1', 'group'),
    ('standard1', 'skeleton'),
    ('standard1', 'skeleton', 'group'),
    BRANCHES,
]


def deployed(conv: PDConv, **options) -> PDConv:
    deployed_form = copy.deepcopy(conv)
    deployed_form.switch_to_deploy()
    for name, value in options.items():
        setattr(deployed_form, name, value)
    return deployed_form


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_deployed_equals_trained(mode, stride, dtype):
    conv = make_conv(mode=mode, stride=stride, dtype=dtype)
    x = image(3, 8, 9, 14, dtype=dtype)
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    assert relative(deployed(conv)(x), conv(x)) < bound


@pytest.mark.parametrize(
    'geometry',
    [
        dict(dilation=2, padding=2),
        dict(kernel_size=5, padding=2),
        dict(dilation=(1, 3), padding=(2, 3)),
        dict(kernel_size=5, padding=(5, 4), dilation=2, stride=2),
        dict(padding=3),
        dict(groups=2),
        dict(groups=4, group_num=8),
        dict(branches=('standard1', 'standard2'), padding=0),
    ],
)
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_any_geometry(mode, geometry):
    conv = make_conv(mode=mode, **geometry)
    x = image(2, 8, 11, 10)
    plain = nn.Conv2d(8, 16, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups).double()
    assert conv(x).shape == plain(x).shape
    for execution in ('kernel', 'output'):
        assert relative(deployed(conv, execution=execution)(x), conv(x)) < 1e-12


@pytest.mark.parametrize('samples', [1, 3, 16])  # 16 = output channels
@pytest.mark.parametrize('execution', ['kernel', 'output', 'auto'])
def test_every_sample_has_its_own_mixture(execution, samples):
    conv = make_conv(mode='B')
    deployed_form = deployed(conv, execution=execution)
    x = image(samples, 8, 5, 6) + image(samples, 8, 1, 1, seed=2)
    assert relative(deployed_form(x), conv(x)) < 1e-12
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    assert relative(deployed_form(x[order]), conv(x)[order]) < 1e-12
    deployed_form.reparam_bias.zero_()
    assert relative(deployed_form(x), conv(x)) > 1e-2


def test_auto_execution_takes_outputs_for_small_maps_of_a_batch():
    conv = deployed(make_conv(mode='B'))
    assert conv._execution(image(1, 8, 7, 7)) == 'kernel'
    assert conv._execution(image(8, 8, 7, 7)) == 'output'
    assert conv._execution(image(8, 8, 28, 28)) == 'kernel'


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_conversion_leaves_nothing_but_what_a_deployed_module_has(mode):
    conv = make_conv(mode=mode, dtype=torch.float32).train()  # conversion must not care
    statistics = copy.deepcopy(dict(conv.named_buffers()))
    x = image(2, 8, 6, 6, dtype=torch.float32)
    deployed_form = deployed(conv)
    for name, value in conv.named_buffers():
        assert torch.equal(value, statistics[name])
    assert relative(deployed_form.eval()(x), conv.eval()(x)) < 1e-5
    built = PDConv(8, 16, 3, padding=1, mode=mode, group_num=4, reduction=4, deploy=True)
    assert deployed_form.state_dict().keys() == built.state_dict().keys()
    flags = {name: parameter.requires_grad for name, parameter in deployed_form.named_parameters()}
    assert flags == {name: parameter.requires_grad for name, parameter in built.named_parameters()}
    before = copy.deepcopy(deployed_form.state_dict())
    deployed_form.switch_to_deploy()
    assert all(torch.equal(value, before[name]) for name, value in deployed_form.state_dict().items())


def test_conversion_keeps_type_device_and_frozen_weights():
    conv = make_conv(dtype=torch.bfloat16).requires_grad_(False)
    deployed_form = deployed(conv)
    assert deployed_form.reparam.weight.dtype == torch.bfloat16
    assert not deployed_form.reparam.weight.requires_grad
    deployed_form = deployed(make_conv(mode='B', dtype=torch.float32).to('meta'))
    assert deployed_form.reparam_weight.is_meta
    assert not deployed_form.reparam_weight.requires_grad


def test_gate():
    conv = make_conv(64, 64, mode='B', reduction=16)
    gate = conv.gate
    assert gate.fc1.weight.shape == (4, 64)
    x = image(5, 64, 6, 8)
    pi = gate(x)
    torch.testing.assert_close(pi.sum(1), torch.ones(5).double())
    pattern = image(5, 64, 6, 8, seed=3)
    torch.testing.assert_close(gate(x + pattern - pattern.mean((2, 3), keepdim=True)), pi)
    assert (gate(x + 1) - pi).abs().max() > 1e-3


@pytest.mark.parametrize('branches', SUBSETS[1:])
def test_gate_orders_the_branches(branches):
    conv = make_conv(mode='B', branches=branches[::-1])
    x = image(2, 8, 6, 6)
    for index, name in enumerate(
        branch for branch in ('standard1', 'standard2', 'skeleton', 'group') if branch in branches
    ):
        nn.init.zeros_(conv.gate.fc2.weight)
        nn.init.zeros_(conv.gate.fc2.bias)
        conv.gate.fc2.bias.data[index] = 1e4
        torch.testing.assert_close(conv(x), getattr(conv, name)(x))


@pytest.mark.parametrize('branches', SUBSETS)
def test_uniform_gate_is_the_mean_of_the_branches(branches):
    a, b = (make_conv(mode=mode, branches=branches) for mode in 'AB')
    nn.init.zeros_(b.gate.fc2.weight)
    nn.init.zeros_(b.gate.fc2.bias)
    b.load_state_dict(b.state_dict() | a.state_dict())
    x = image(2, 8, 6, 6)
    torch.testing.assert_close(b(x), a(x) / len(branches))
    torch.testing.assert_close(deployed(b)(x), deployed(a)(x) / len(branches))
    assert b.gate.fc2.out_features == len(branches)


def test_single_branch_is_convolution_and_norm():
    conv = make_conv(branches=('standard1',), dtype=torch.float32).train()
    plain = ConvNorm(8, 16, (3, 3), (1, 1), (1, 1), (1, 1), 1, dict(type='BN'))
    plain.load_state_dict(conv.standard1.state_dict())
    x = image(4, 8, 6, 6, dtype=torch.float32)
    assert torch.equal(conv(x), plain(x))


def test_first_branch_and_skeleton_are_the_asymmetric_block():
    conv = make_conv(branches=('standard1', 'skeleton'))
    x = image(2, 8, 6, 7)
    vertical = nn.functional.conv2d(x, conv.skeleton.vertical.conv.weight, padding=(1, 0))
    horizontal = nn.functional.conv2d(x, conv.skeleton.horizontal.conv.weight, padding=(0, 1))
    square = nn.functional.conv2d(x, conv.standard1.conv.weight, padding=1)
    norms = conv.standard1.bn, conv.skeleton.vertical.bn, conv.skeleton.horizontal.bn
    expected = sum(norm(y) for norm, y in zip(norms, (square, vertical, horizontal), strict=True))
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_every_parameter_learns(mode):
    conv = make_conv(mode=mode).train()
    conv(image(4, 8, 6, 6)).square().sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_a_branch_learns_as_if_it_were_alone():
    conv = make_conv().train()
    x, upstream = image(4, 8, 6, 6), image(4, 16, 6, 6, seed=5)
    conv(x).backward(upstream)
    for name in conv.branches:
        alone = copy.deepcopy(getattr(conv, name))
        alone.zero_grad()
        alone(x).backward(upstream)
        for actual, reference in zip(getattr(conv, name).parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(actual.grad, reference.grad)


@pytest.mark.parametrize('form', ['branches', 'fused', 'auto', 'deploy'])
def test_mixed_precision(form):
    conv = make_conv(64, 64, mode='B', dtype=torch.float32, compute='branches' if form == 'deploy' else form)
    for _, part in conv.conv_norms():
        part.bn.running_var.clamp_(min=0.1)
    x = image(3, 64, 8, 8, dtype=torch.float32)
    if form == 'deploy':
        conv.switch_to_deploy()
    conv.train(form in ('branches', 'fused'))
    with torch.autocast('cpu', torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    assert relative(y.float(), conv(x)) < 1e-2


def test_initial_weights():
    torch.manual_seed(0)
    conv = PDConv(256, 256, 3, padding=1, mode='B')
    for _, part in conv.conv_norms():
        height, width = part.conv.kernel_size
        assert part.conv.weight.std().item() == pytest.approx((2 / (256 * height * width)) ** 0.5, rel=0.03)
        assert (part.bn.weight == 1).all()
        assert not part.bn.bias.any()
    assert conv.gate.fc1.weight.abs().max() <= 1 / 16


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(kernel_size=1, padding=0), 'odd size above 1'),
        (dict(kernel_size=(3, 5)), 'use a square, odd size'),
        (dict(padding=0), 'is smaller than dilation'),
        (dict(dilation=2), 'is smaller than dilation'),
        (dict(group_num=3), 'group_num=3 does not divide'),
        (dict(group_num=0), "group_num=0: use a positive integer or 'auto'"),
        (dict(group_num='Auto'), "group_num='Auto': use"),
        (dict(mode='B', reduction=0), 'reduction=0: use a positive integer'),
        (dict(padding_mode='reflect'), "use 'zeros'"),
        (dict(mode='C'), "mode='C': use one of A, B"),
        (dict(branches=('group',)), 'use standard1'),
        (dict(branches=('standard1', 'dense')), 'use standard1'),
        (dict(norm_cfg=dict(type='GN', num_groups=2)), 'cannot be fused'),
        (dict(norm_cfg=dict(type='BN', track_running_stats=False)), 'cannot be fused'),
        (dict(groups=3), 'groups=3 does not divide'),
        (dict(execution='fast'), 'kernel, output'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(UserError, match=message):
        make_conv(**options)


def test_sync_norm_is_reparameterised_too():
    conv = make_conv(norm_cfg=dict(type='SyncBN'))
    x = image(2, 8, 6, 6)
    assert relative(deployed(conv)(x), conv(x)) < 1e-12


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg', 'mmpose'])
def test_is_a_conv_layer_of_every_library(scope):
    cfg = dict(type='reprefine.PDConv', mode='B', group_num='auto')
    with DefaultScope.overwrite_default_scope(scope):
        module = ConvModule(8, 16, 3, padding=1, conv_cfg=cfg)
        point = build_conv_layer(cfg, 8, 16, 1, bias=True)
    assert isinstance(module.conv, PDConv)
    randomise(module).eval()
    x = image(2, 8, 6, 6, dtype=torch.float32)
    expected = module(x)
    module.conv.switch_to_deploy()
    torch.testing.assert_close(module(x), expected)
    assert type(point) is nn.Conv2d
    assert point.bias is not None


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('execution', ['auto', 'kernel', 'output'])
def test_mixtures_of_an_empty_batch(execution, groups):
    conv = make_conv(mode='B', groups=groups, stride=2, execution=execution, compute='auto')
    x = image(0, 8, 9, 14)
    assert conv(x).shape == deployed(conv)(x).shape == (0, 16, 5, 7)
