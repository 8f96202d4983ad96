"""A norm belongs to the convolution whose output only it consumes in the forward pass, in any registration order."""

import copy

import pytest
import timm
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, convert_to_pd
from reprefine.methods.pddr.conversion.norm_tracing import trace_norms
from reprefine.methods.pddr.layers.lookup import pd_convs
from reprefine.registry import MODELS

from ..toys import image, randomise

OPTIONS = dict(group_num='auto', reduction=4)


class Net(nn.Module):
    """Two convolutions and two norms, registered in an order that says nothing; ``kind`` is how they are applied."""

    def __init__(self, kind: str):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.drop, self.act = nn.Dropout(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.kind)(x)

    def usual(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))

    def crossed(self, x):
        return self.bn1(self.conv2(self.bn2(self.conv1(x)).relu()))

    def after_activation(self, x):
        return self.bn2(self.conv2(self.bn1(self.act(self.conv1(x)))).relu())

    def before_convolution(self, x):
        return self.conv2(self.bn2(self.conv1(self.bn1(x.repeat(1, 3, 1, 1)[:, :8])[:, :3]).relu()).relu())

    def read_twice(self, x):
        y = self.conv1(x)
        return self.bn2(self.conv2(self.bn1(y) + y))

    def read_by_the_caller(self, x):
        y = self.conv1(x)
        return y, self.bn2(self.conv2(self.bn1(y)))

    def norm_used_twice(self, x):
        return self.bn1(self.conv2(self.bn1(self.conv1(x)).relu()))

    def convolution_with_two_norms(self, x):
        y = self.conv1(x).relu()
        return self.bn1(self.conv2(y)) + self.bn2(self.conv2(y.relu()))

    def behind_dropout(self, x):
        return self.bn2(self.conv2(self.bn1(self.drop(self.conv1(x)))))

    def past_the_module(self, x):
        y = F.conv2d(x, self.conv1.weight, self.conv1.bias, padding=1)
        return self.bn2(self.conv2(self.bn1(y)))


def make(kind: str) -> Net:
    return randomise(Net(kind)).double().eval()


def outputs(net: nn.Module) -> list[Tensor]:
    result = net(image(2, 3, 12, 10))
    return list(result) if isinstance(result, tuple) else [result]


PAIRS = {
    'usual': {'conv1': 'bn1', 'conv2': 'bn2'},
    'crossed': {'conv1': 'bn2', 'conv2': 'bn1'},
    'after_activation': {'conv1': None, 'conv2': None},
    'before_convolution': {'conv1': None, 'conv2': None},
    'read_twice': {'conv1': None, 'conv2': 'bn2'},
    'read_by_the_caller': {'conv1': None, 'conv2': 'bn2'},
    'norm_used_twice': {'conv1': None, 'conv2': None},
    'convolution_with_two_norms': {'conv1': None, 'conv2': None},
    'behind_dropout': {'conv1': None, 'conv2': 'bn2'},
    'past_the_module': {'conv2': 'bn2'},
}


@pytest.mark.parametrize('kind', PAIRS)
def test_the_forward_pass_decides(kind):
    net = make(kind)
    names = {module: name for name, module in net.named_modules()}
    found = {names[conv]: norm and names[norm] for conv, norm in trace_norms(net).norms.items()}
    assert found == PAIRS[kind]


@torch.no_grad()
@pytest.mark.parametrize('mode', ['A', 'B'])
@pytest.mark.parametrize('kind', [kind for kind in PAIRS if kind != 'past_the_module'])
def test_the_output_stays_and_norms_that_do_not_belong_too(kind, mode):
    plain = make(kind)
    net = copy.deepcopy(plain)
    assert convert_to_pd(net, 'conv', mode=mode, **OPTIONS) == ['conv1', 'conv2']
    for actual, reference in zip(outputs(net), outputs(plain), strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-9, atol=1e-9)
    absorbed = {norm for norm in PAIRS[kind].values() if norm}
    assert {name for name in ('bn1', 'bn2') if isinstance(getattr(net, name), nn.Identity)} == absorbed
    assert {name: conv.replaced_norm for name, conv in pd_convs(net).items()} == PAIRS[kind]


@torch.no_grad()
@pytest.mark.parametrize('kind', ['usual', 'crossed', 'read_twice', 'behind_dropout'])
def test_without_a_rule_those_with_a_norm_are_taken(kind):
    plain = make(kind)
    net = copy.deepcopy(plain)
    assert convert_to_pd(net, **OPTIONS) == [conv for conv, norm in PAIRS[kind].items() if norm]
    torch.testing.assert_close(outputs(net), outputs(plain), rtol=1e-9, atol=1e-9)
    other = copy.deepcopy(plain)
    convert_to_pd(other, warm_start=False, **OPTIONS)
    other.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(outputs(other), outputs(plain), rtol=1e-9, atol=1e-9)


def test_without_a_rule_and_norms_directly_behind_nothing_is_taken():
    with pytest.raises(
        UserError, match='rule=None.*followed by a batch norm only.*candidates of the model: conv1, conv2'
    ):
        convert_to_pd(make('after_activation'), **OPTIONS)


@torch.no_grad()
def test_a_norm_that_does_more_is_not_absorbed():
    torch.manual_seed(0)
    net = randomise(timm.create_model('regnetx_002', num_classes=5)).eval()  # its BatchNormAct2d hold the activations
    plain = copy.deepcopy(net)
    x = image(2, 3, 64, 64, dtype=torch.float32)
    with pytest.raises(UserError, match='rule=None'):
        convert_to_pd(net, **OPTIONS)
    convert_to_pd(net, 'stem.conv', branches=('standard1', 'standard2'))
    torch.testing.assert_close(net(x), plain(x), rtol=1e-3, atol=1e-3 * plain(x).abs().max().item())


def test_what_the_forward_pass_does_not_reach_is_refused():
    net = make('past_the_module')
    with pytest.raises(UserError, match='conv1: the batch norm that follows it is unknown.*does not reach it'):
        convert_to_pd(net, **OPTIONS)
    assert convert_to_pd(net, 'conv2', **OPTIONS) == ['conv2']


class Flat(nn.Module):
    """Runs on images of one size only, past a convolution whose norm nothing but the forward pass can tell."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.bn = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4 * 5 * 7, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).flatten(1))


def test_a_model_that_runs_on_no_usual_image_needs_an_example():
    with pytest.raises(UserError, match=r'does not run on input of shape 2x2x32x64 \(RuntimeError.*give an example'):
        convert_to_pd(Flat(), **OPTIONS)
    assert convert_to_pd(Flat(), example=image(1, 2, 5, 7, dtype=torch.float32), **OPTIONS) == ['conv']
    assert convert_to_pd(Flat(), example=(torch.zeros(2, 2, 5, 7),), **OPTIONS) == ['conv']


def test_an_input_shape_in_a_config():
    MODELS.register_module(name='TestFlat', module=Flat, force=True)
    with DefaultScope.overwrite_default_scope('reprefine'):
        cfg, pd = dict(type='reprefine.PDConverted', base_type='TestFlat'), dict(mode='A', group_num='auto')
        with pytest.raises(UserError, match='give an example'):
            MODELS.build(cfg | dict(pd=pd))
        assert isinstance(MODELS.build(cfg | dict(pd=pd | dict(input_shape=(2, 5, 7)))).conv, PDConv)


class Maps(nn.Module):
    """Takes what no image is; its convolutions are in modules that say how they apply their norms."""

    def __init__(self, *modules: nn.Module):
        super().__init__()
        self.inner = nn.ModuleList(modules)

    def forward(self, maps: dict) -> list:
        return [module(maps[index]) for index, module in enumerate(self.inner)]


@torch.no_grad()
def test_modules_that_define_their_order_need_no_forward_pass():
    norm_cfg = dict(type='BN')
    torch.manual_seed(0)
    net = Maps(
        ConvModule(8, 8, 3, padding=1, norm_cfg=norm_cfg),
        ConvModule(8, 8, 3, padding=1, norm_cfg=norm_cfg, order=('act', 'conv', 'norm')),
        ConvModule(8, 8, 3, padding=1, norm_cfg=norm_cfg, order=('norm', 'act', 'conv')),
        ConvModule(8, 8, 3, padding=1, norm_cfg=norm_cfg, order=('conv', 'act', 'norm')),
        ConvModule(8, 8, 3, padding=1),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(8)),
    )
    plain = copy.deepcopy(randomise(net).double().eval())
    assert convert_to_pd(net, **OPTIONS) == ['inner.0.conv', 'inner.1.conv', 'inner.5.0']
    maps = [image(2, 8, 6, 7, seed=index) for index in range(7)]
    torch.testing.assert_close(net(maps), plain(maps), rtol=1e-9, atol=1e-9)


class Suspicious(nn.Module):
    """Computes something else as soon as its convolution is of another type."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        return y if type(self.conv) is nn.Conv2d else 1.01 * y


@torch.no_grad()
def test_an_output_that_differs_is_refused_and_nothing_changes():
    net = Suspicious().eval()
    before, state = net(image(1, 3, 8, 8, dtype=torch.float32)), net.state_dict()
    with pytest.raises(
        UserError, match='differs from the base model by 1.0e-02 of the largest output, more than 3.5e-04'
    ):
        convert_to_pd(net, **OPTIONS)
    assert net.state_dict().keys() == state.keys()
    assert torch.equal(net(image(1, 3, 8, 8, dtype=torch.float32)), before)
    assert convert_to_pd(copy.deepcopy(net), tolerance=0.02, **OPTIONS) == ['conv']
    assert convert_to_pd(net, warm_start=False, **OPTIONS) == ['conv']


@pytest.mark.parametrize('options', [dict(affine=False), dict(track_running_stats=False)])
def test_a_norm_that_cannot_be_fused_is_named(options):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, **options))
    (key,) = options
    with pytest.raises(UserError, match=f'0 cannot be disentangled: its norm 1 has .*{key}=False.*must be True'):
        convert_to_pd(net, **OPTIONS)
    assert not pd_convs(net)


def test_a_module_with_two_places_is_refused():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    net = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), conv)
    with pytest.raises(UserError, match='0 cannot be disentangled: 0 and 3 share one module'):
        convert_to_pd(net, r'^0$', **OPTIONS)


def test_observing_leaves_no_trace():
    net = make('usual').train()
    net.conv1.eval()
    state = copy.deepcopy(net.state_dict())
    rng = torch.get_rng_state()
    assert trace_norms(net).call is not None
    assert torch.equal(torch.get_rng_state(), rng)
    assert [module.training for module in (net, net.conv1, net.bn1)] == [True, False, True]
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
