"""PDResNet over the ResNet of every library."""

import copy
import importlib

import pytest
import torch
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDResNet
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_convs
from reprefine.registry import MODELS

from .toys import image, randomise

HOSTS = ['mmpretrain', 'mmdet', 'mmseg', 'mmpose']
SMALL = dict(base_channels=8, stem_channels=8, norm_eval=False, out_indices=(3,))


def build(host: str = 'mmpretrain', plain: bool = False, **options) -> nn.Module:
    importlib.import_module(f'{host}.models')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host):
        net = ROOT.build(dict(type='ResNet' if plain else 'reprefine.PDResNet', **options))
    net.eval()
    return net


def pd(mode: str, **options) -> dict:
    return dict(mode=mode, group_num='auto', reduction=4) | options


def settle(net: nn.Module) -> nn.Module:
    """Let every norm see data, so that deep networks stay in range, then make its parameters uneven."""
    net.train()
    with torch.no_grad():
        for seed in range(3):
            net(image(4, 3, 64, 64, dtype=torch.float32, seed=seed))
        generator = torch.Generator().manual_seed(0)
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.add_(0.3 * torch.randn(norm.num_features, generator=generator))
                norm.bias.add_(0.1 * torch.randn(norm.num_features, generator=generator))
    net.eval()
    return net


def branch_by_branch(net: nn.Module) -> nn.Module:
    for conv in pd_convs(net).values():
        conv.compute = 'branches'
    return net


@pytest.mark.parametrize('host', HOSTS)
def test_is_the_resnet_of_the_library_of_the_config(host):
    net = build(host, depth=18, pd_cfg=pd('A'), **SMALL)
    resnet = importlib.import_module(f'{host}.models.backbones.resnet').ResNet
    assert isinstance(net, PDResNet)
    assert isinstance(net, resnet)
    plain = build(host, plain=True, depth=18, **SMALL)
    settle(net)
    plain.load_state_dict(baseline_state_dict(net))  # strict
    x = image(2, 3, 64, 64, dtype=torch.float32)
    torch.testing.assert_close(plain(x)[0], branch_by_branch(net)(x)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('mode', ['A', 'B'])
@pytest.mark.parametrize('host', HOSTS)
def test_plain_weights_start_with_the_plain_output(host, mode):
    plain = settle(build(host, plain=True, depth=50, **SMALL))
    net = build(host, depth=50, pd_cfg=pd(mode), **SMALL)
    net.load_state_dict(plain.state_dict())
    x = image(2, 3, 64, 64, dtype=torch.float32)
    expected = plain(x)[0]
    torch.testing.assert_close(branch_by_branch(net)(x)[0], expected, rtol=0, atol=1e-5 * expected.max().item())


def test_plain_weights_by_config(tmp_path):
    plain = settle(build(plain=True, depth=18, **SMALL))
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in plain.state_dict().items()}}, tmp_path / 'plain.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'), prefix='backbone.')
    net = build(depth=18, pd_cfg=pd('B'), init_cfg=init_cfg, zero_init_residual=True, **SMALL)
    net.init_weights()
    x = image(2, 3, 64, 64, dtype=torch.float32)
    expected = plain(x)[0]
    torch.testing.assert_close(net(x)[0], expected, rtol=0, atol=1e-5 * expected.max().item())


@pytest.mark.parametrize(('depth', 'mode', 'count'), [(18, 'A', 16), (34, 'A', 32), (50, 'A', 16), (18, 'B', 16)])
def test_whole_network_deployed(depth, mode, count):
    net = branch_by_branch(build(depth=depth, pd_cfg=dict(mode=mode)))
    head = nn.Linear(net.feat_dim, 10)
    settle(net)
    x = image(2, 3, 64, 64, dtype=torch.float32)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    head(net(x)[0].mean((2, 3))).square().mean().backward()
    optimizer.step()
    net.eval()
    assert len(pd_convs(net)) == count
    expected = head(net(x)[0].mean((2, 3)))
    deployed_form = copy.deepcopy(net)
    deployed_form.switch_to_deploy()
    logits = head(deployed_form(x)[0].mean((2, 3)))
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(logits.argmax(1), expected.argmax(1))
    again = build(depth=depth, pd_cfg=dict(mode=mode), deploy=True)
    again.load_state_dict(net.state_dict())  # the training checkpoint
    torch.testing.assert_close(again(x)[0], deployed_form(x)[0])


def test_the_deployed_form_is_asked_for_beside_the_options_of_the_layers():
    with pytest.raises(UserError, match='pd_cfg has the key deploy, an argument of PDResNet'):
        PDResNet(18, pd_cfg=dict(mode='A', deploy=True))


def test_names_of_what_is_not_replaced_stay():
    net, plain = build(depth=50, pd_cfg=pd('A'), **SMALL), build(plain=True, depth=50, **SMALL)
    replaced = [f'{name}.' for name in pd_convs(net)]
    norms = [f'{name.rpartition(".")[0]}.{conv.replaced_norm}.' for name, conv in pd_convs(net).items()]
    kept = {name for name in net.state_dict() if not name.startswith(tuple(replaced))}
    assert kept == {name for name in plain.state_dict() if not name.startswith(tuple(replaced + norms))}
    assert all(name.endswith('.conv2.') for name in replaced)


@pytest.mark.parametrize('mode', ['A', 'B'])
@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('host', ['mmpretrain', 'mmdet'])
def test_residual_branches_may_start_at_zero(host, depth, mode):
    net = build(host, depth=depth, pd_cfg=pd(mode), zero_init_residual=True, **SMALL)
    net.init_weights()
    branch_by_branch(net)
    shortcuts = []

    def compare(block, inputs, output):
        identity = inputs[0] if block.downsample is None else block.downsample(inputs[0])
        shortcuts.append(torch.equal(output, identity.relu()))

    for block in net.modules():
        if hasattr(block, 'downsample'):
            block.register_forward_hook(compare)
    net(image(2, 3, 64, 64, dtype=torch.float32))
    assert len(shortcuts) == sum(net.stage_blocks)
    assert all(shortcuts)
    net = build(host, depth=depth, pd_cfg=pd(mode), **SMALL)
    net.init_weights()
    assert all((m.weight == 1).all() for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_frozen_stages_are_frozen_before_the_first_call_of_train():
    net = PDResNet(18, pd_cfg=pd('B'), host='mmdet', frozen_stages=2, **SMALL)  # an optimiser may be built now
    frozen = ('layer1.', 'layer2.', 'conv1.', 'bn1.')
    assert all(parameter.requires_grad != name.startswith(frozen) for name, parameter in net.named_parameters())


def test_residual_branches_start_at_zero_whatever_the_norms_are_initialised_with():
    init_cfg = dict(type='Constant', layer='BatchNorm2d', val=1, bias=0.3)
    net = build(depth=18, pd_cfg=pd('A'), zero_init_residual=True, init_cfg=init_cfg, **SMALL)
    net.init_weights()
    block = net.layer1[1].eval()
    x = image(2, 8, 6, 6, dtype=torch.float32)
    assert (block.conv1.standard1.bn.bias == 0.3).all()
    assert torch.equal(block(x), x.relu())


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_frozen_stages_and_norms(mode):
    options = SMALL | dict(norm_eval=True, frozen_stages=2)
    net = build('mmdet', depth=18, pd_cfg=pd(mode), **options)
    frozen = {f'layer{stage}.' for stage in (1, 2)} | {'conv1.', 'bn1.'}
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(frozen)), name
    net.train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    net(image(2, 3, 64, 64, dtype=torch.float32))[0].sum().backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == name.startswith(tuple(frozen)), name
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


def test_statistics_of_a_frozen_stage_stay_though_others_move():
    net = build('mmdet', depth=18, pd_cfg=pd('A'), **SMALL, frozen_stages=1)
    net.train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    net(image(2, 3, 64, 64, dtype=torch.float32))
    moved = {name for name, value in net.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if not name.startswith(('layer1.', 'bn1.'))}


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_dilated_stages(mode):
    stages = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True, deep_stem=True)
    net = build('mmseg', depth=50, pd_cfg=pd(mode), **SMALL, **stages)
    assert {conv.dilation for conv in pd_convs(net.layer4).values()} == {(2, 2), (4, 4)}
    settle(branch_by_branch(net))
    x = image(2, 3, 64, 48, dtype=torch.float32)
    expected = net(x)[0]
    assert expected.shape[2:] == (8, 6)
    net.switch_to_deploy()
    assert (net(x)[0] - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_recomputation_of_the_host_gives_the_same_gradients():
    grads = []
    for with_cp in (False, True):
        net = build(depth=18, pd_cfg=pd('B'), with_cp=with_cp, **SMALL)
        net.train()
        net(image(2, 3, 64, 64, dtype=torch.float32).requires_grad_())[0].square().mean().backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    for actual, reference in zip(*grads, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-3, atol=1e-6)


def test_memory_format_of_the_training_changes_nothing():
    net = build(depth=18, pd_cfg=pd('B'), channels_last=True, **SMALL)
    net.train()
    x = image(2, 3, 64, 64, dtype=torch.float32)
    y = net(x)[0]
    assert y.is_contiguous()
    net.channels_last = False
    torch.testing.assert_close(y, net(x)[0], rtol=1e-4, atol=1e-4)


class Scale(nn.Module):
    def __init__(self, in_channels: int):
        super().__init__()
        self.factor = nn.Parameter(torch.full((in_channels, 1, 1), 0.5))

    def forward(self, x):
        return x * self.factor


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('host', HOSTS)
def test_attention_is_applied_before_the_addition(host, depth):
    net = build(host, depth=depth, attention=dict(type=Scale), attention_stages=(True, False, True, True), **SMALL)
    plain = build(host, plain=True, depth=depth, **SMALL)
    settle(plain)
    missing = net.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == [name for name in net.state_dict() if 'attention.factor' in name]
    assert {name.partition('.')[0] for name in missing} == {'layer1', 'layer3', 'layer4'}
    x = image(2, 3, 64, 64, dtype=torch.float32)
    last = 'norm3' if depth == 50 else 'norm2'
    with torch.no_grad():
        for name, block in plain.named_modules():
            if hasattr(block, 'downsample') and not name.startswith('layer2'):
                getattr(block, last).weight.mul_(0.5)
                getattr(block, last).bias.mul_(0.5)
    torch.testing.assert_close(net(x)[0], plain(x)[0])


def test_without_branches_it_is_the_plain_resnet():
    net = build(depth=18, **SMALL)
    assert not any(isinstance(module, PDConv) for module in net.modules())
    assert net.state_dict().keys() == build(plain=True, depth=18, **SMALL).state_dict().keys()


def test_can_be_built_and_copied_by_hand():
    net = PDResNet(18, pd_cfg=pd('A'), host='mmseg', **SMALL)
    assert type(net).__mro__[3].__module__ == 'mmseg.models.backbones.resnet'
    clone = copy.deepcopy(randomise(net))
    clone.switch_to_deploy()
    assert not any(conv.deploy for conv in pd_convs(net).values())
    assert MODELS.get('PDResNet') is PDResNet
