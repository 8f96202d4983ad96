"""PDConverted in configs: the module's own config with another type, from which the module itself comes back."""

import copy
import inspect
import pickle
from pathlib import Path

import mmpretrain
import pytest
import timm
import torch
from mmdet.apis import init_detector
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import init_model
from torch import nn

from reprefine.engine.build import build_model
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, build_pd_module
from reprefine.methods.pddr.layers.lookup import pd_convs
from reprefine.methods.pddr.layers.state_dict import move_replaced_norms
from tests.helpers.run import run_test, run_train
from tests.helpers.tiny_hosts import CLASSIFIER, DETECTOR, SEGMENTOR, write_config, write_images
from tests.methods.feature_transform.toys import MOCO
from tests.methods.feature_transform.toys import build as build_moco

from ..toys import image, randomise

PD = "dict(rule=r'layer\\d.*conv2$', mode='{mode}', group_num='auto', reduction=4)"
BACKBONE = """
_base_ = './{base}'
model = dict(backbone=dict(
    type='reprefine.PDConverted', base_type={{{{_base_.model.backbone.type}}}}, pd={pd}, init_cfg=None,
))
"""
WHOLE = """
_base_ = './{base}'
model = dict(type='reprefine.PDConverted', base_type={{{{_base_.model.type}}}}, pd={pd})
"""


def configs(folder: Path, text: str, leaf: str, mode: str = 'A') -> tuple[Config, Config]:
    """Return a config, and one that inherits from it."""
    plain = write_config(folder, text, 'plain.py')
    refined = write_config(folder, leaf.format(base='plain.py', pd=PD.format(mode=mode)), 'refined.py')
    return Config.fromfile(plain), Config.fromfile(refined)


def build(cfg: Config) -> nn.Module:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return build_model(cfg)


def saved(model: nn.Module, path: Path) -> str:
    """Write a checkpoint of a plain model whose norms are as uneven as trained ones, and return its path."""
    randomise_softly(model)
    meta = dict(dataset_meta=dict(classes=('square', 'disc'), palette=[(0, 0, 0), (9, 9, 9)]))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return str(path)


@torch.no_grad()
def randomise_softly(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low in ((norm.running_var, 0.5), (norm.weight, 0.5), (norm.running_mean, -0.2)):
                tensor.copy_(low + 0.7 * torch.rand(len(tensor), generator=generator))


def assert_same_maps(model: nn.Module, plain: nn.Module, size: tuple[int, int] = (64, 64)) -> None:
    x = image(2, 3, *size, dtype=torch.float32)
    with torch.no_grad():
        for actual, reference in zip(model.eval().extract_feat(x), plain.eval().extract_feat(x), strict=True):
            torch.testing.assert_close(actual, reference, rtol=0, atol=1e-4 * reference.abs().max().item())


@pytest.mark.parametrize('text', [CLASSIFIER, DETECTOR, SEGMENTOR], ids=['mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('leaf', [BACKBONE, WHOLE], ids=['backbone', 'model'])
def test_over_an_inherited_config_the_module_is_what_it_was(text, leaf, tmp_path):
    plain_cfg, cfg = configs(tmp_path, text, leaf)
    assert cfg.model.keys() - {'base_type', 'pd'} == plain_cfg.model.keys()
    for part in (plain_cfg.model.backbone, cfg.model.backbone):
        part.init_cfg = None
    plain, model = build(plain_cfg), build(cfg)
    assert type(model) is type(plain)
    assert type(model.backbone) is type(plain.backbone)
    prefix = 'backbone.context_path.backbone' if text is SEGMENTOR else 'backbone'
    places = [name.removesuffix('.conv2') for name in pd_convs(model)]
    assert places == [f'{prefix}.layer{stage}.{block}' for stage in range(1, 5) for block in range(2)]
    replaced = tuple(f'{place}.{part}.' for place in places for part in ('conv2', 'bn2'))
    kept = [name for name in plain.state_dict() if not name.startswith(replaced)]
    assert [name for name in model.state_dict() if not name.startswith(replaced)] == kept
    saved(plain, tmp_path / 'plain.pth')
    model.load_state_dict(plain.state_dict())
    assert_same_maps(model, plain)


def test_a_config_inherited_by_package_is_looked_up_in_its_scope(tmp_path):
    """mmengine marks every dict of such a config with the scope of the package."""
    text = """
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
model = dict(
    backbone=dict(type='reprefine.PDConverted', base_type={{_base_.model.backbone.type}}, base_channels=8,
                  stem_channels=8, pd=dict(rule='layer4')),
    head=dict(in_channels=64),
)
model['backbone']['pd']['group_num'] = 'auto'
"""
    cfg = Config.fromfile(write_config(tmp_path, text))
    with DefaultScope.overwrite_default_scope('mmdet'):  # whose ResNet has other arguments
        model = ROOT.build(cfg.model | dict(_scope_='mmpretrain'))
    assert type(model.backbone) is mmpretrain.models.ResNet
    assert len(pd_convs(model)) == 4


@pytest.mark.parametrize('leaf', [BACKBONE, WHOLE], ids=['backbone', 'model'])
def test_entry_points_of_the_hosts_build_and_load_it(leaf, tmp_path):
    """They set keys of the model such as ``pretrained`` and ``train_cfg``, and load a checkpoint of the plain one."""
    write_images(tmp_path)
    plain_cfg, cfg = configs(tmp_path, DETECTOR, leaf, 'B')
    plain = init_detector(plain_cfg, saved(init_detector(plain_cfg, device='cpu'), tmp_path / 'd.pth'), device='cpu')
    model = init_detector(cfg, str(tmp_path / 'd.pth'), device='cpu')
    assert model.dataset_meta['classes'] == ('square', 'disc')
    assert len(pd_convs(model)) == 8
    assert_same_maps(model, plain)

    plain_cfg, cfg = configs(tmp_path, SEGMENTOR, leaf, 'B')
    plain = init_model(plain_cfg, saved(init_model(plain_cfg, device='cpu'), tmp_path / 's.pth'), device='cpu')
    model = init_model(cfg, str(tmp_path / 's.pth'), device='cpu')
    assert len(pd_convs(model)) == 8
    assert_same_maps(model, plain)

    plain_cfg, cfg = configs(tmp_path, CLASSIFIER, leaf, 'B')
    file = saved(mmpretrain.get_model(plain_cfg), tmp_path / 'c.pth')
    plain, model = (mmpretrain.get_model(each, pretrained=file) for each in (plain_cfg, cfg))
    assert len(pd_convs(model)) == 8
    assert_same_maps(model, plain)
    with DefaultScope.overwrite_default_scope('mmpretrain'):  # that of the process is the one of the last host
        infer = [ImageClassificationInferencer(each, file, device='cpu') for each in (plain_cfg, cfg)]
        scores = [each(str(tmp_path / 'images/0.png'))[0]['pred_scores'] for each in infer]
    torch.testing.assert_close(*map(torch.as_tensor, scores), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('leaf', [BACKBONE, WHOLE], ids=['backbone', 'model'])
def test_tools_train_and_test_it_in_both_forms(leaf, tmp_path):
    write_images(tmp_path)
    configs(tmp_path, CLASSIFIER, leaf, 'B')
    text = (tmp_path / 'refined.py').read_text()
    write_config(tmp_path, text.replace("mode='B'", "mode='B', deploy=True"), 'deployed.py')
    options = ['--cfg-options', 'model.backbone.init_cfg=None', 'test_dataloader.sampler.shuffle=False']
    options += [f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')]
    options += [f'{name}_dataloader.persistent_workers=False' for name in ('train', 'val', 'test')]
    run = ['--work-dir', str(tmp_path / 'run'), *options]
    assert run_train(str(tmp_path / 'refined.py'), *run, 'train_cfg.max_epochs=1') == 0
    scores = []
    for name in ('refined', 'deployed'):
        out = tmp_path / f'{name}.pkl'
        assert run_test(str(tmp_path / f'{name}.py'), str(tmp_path / 'run/epoch_1.pth'), *run, '--out', str(out)) == 0
        scores.append(torch.stack([sample['pred_score'] for sample in pickle.loads(out.read_bytes())]))
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)


def test_options_are_those_of_the_conversion_and_of_the_layer():
    options = inspect.signature(build_pd_module.config_options['pd']).parameters.values()
    names = {option.name for option in options if option.kind is not option.POSITIONAL_ONLY}
    assert names == {
        *('rule', 'deploy', 'input_shape', 'warm_start', 'mode', 'branches', 'group_num', 'reduction'),
        *('norm_cfg', 'execution', 'compute'),
    }
    assert all(option.kind is not option.VAR_KEYWORD for option in options)


def test_every_option_reaches_the_layer():
    pd = dict(
        mode='B', branches=('standard1', 'group'), group_num='auto', reduction=2, norm_cfg=dict(type='SyncBN'),
        execution='output', compute='lean', rule=['layer4.0'], deploy=False,
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        net = build_pd_module('ResNet', pd, depth=18, base_channels=8, stem_channels=8)
    layers = pd_convs(net)
    assert set(layers) == {'layer4.0.conv1', 'layer4.0.conv2'}
    conv = layers['layer4.0.conv1']
    assert (conv.mode, conv.branches, conv.reduction) == ('B', ('standard1', 'group'), 2)
    assert (conv.execution, conv.compute) == ('output', 'lean')
    assert isinstance(conv.standard1.bn, nn.SyncBatchNorm)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        net = build_pd_module('ResNet', dict(deploy=True, group_num='auto'), depth=18)
    assert all(conv.deploy for conv in pd_convs(net).values())


def test_the_nested_form_is_refused_with_the_flat_one_written_out():
    neck = dict(type='mmdet.FPN', in_channels=[8, 16], out_channels=8, num_outs=3, norm_cfg=dict(type='BN'))
    cfg = dict(type='reprefine.PDConverted', module=neck, rule='fpn_convs', mode='A', group_num='auto')
    flat = (
        "dict(type='reprefine.PDConverted', base_type='mmdet.FPN', in_channels=[8, 16], out_channels=8, num_outs=3, "
        "norm_cfg=dict(type='BN'), pd=dict(rule='fpn_convs', mode='A', group_num='auto'))"
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        with pytest.raises(UserError) as refused:
            ROOT.build(cfg)
        assert str(refused.value).endswith(f'instead of module=dict(...): write {flat}')
        assert '\n' not in str(refused.value)
        assert len(pd_convs(ROOT.build(Config.fromstring(f'neck = {flat}', '.py').neck))) == 2
        with pytest.raises(UserError, match="has no base_type.*such as base_type='ResNet'"):
            ROOT.build(dict(type='reprefine.PDConverted', pd=dict(mode='A')))


@torch.no_grad()
@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_weights_that_the_constructor_loads_from_a_file_stay(mode, deploy, tmp_path):
    options = dict(model_name='resnet10t', pretrained=False, features_only=True)
    pd = dict(mode=mode, group_num='auto', reduction=4, deploy=deploy)
    with DefaultScope.overwrite_default_scope('mmseg'):
        plain = ROOT.build(dict(type='mmseg.TIMMBackbone', **options)).eval()
        randomise_softly(plain)
        torch.save(plain.timm_model.state_dict(), tmp_path / 'timm.pth')
        cfg = dict(type='reprefine.PDConverted', base_type='mmseg.TIMMBackbone', pd=pd, **options)
        net = ROOT.build(cfg | dict(checkpoint_path=str(tmp_path / 'timm.pth'))).eval()
        other = ROOT.build(cfg).eval()
        cold = ROOT.build(cfg | dict(checkpoint_path=str(tmp_path / 'timm.pth'), pd=pd | dict(warm_start=False))).eval()
    net.init_weights()
    x = image(2, 3, 32, 32, dtype=torch.float32)
    for actual, reference in zip(net(x), plain(x), strict=True):
        torch.testing.assert_close(actual, reference, rtol=0, atol=1e-4 * reference.abs().max().item())
    for random in (other, cold):
        assert (random(x)[-1] - plain(x)[-1]).abs().max() > 1e-2 * plain(x)[-1].abs().max()
        if not deploy:
            assert all(part.bn.weight.all() for conv in pd_convs(random).values() for _, part in conv.conv_norms())


class Mixed(nn.Module):
    """A network that its constructor loads, and a random convolution behind it."""

    def __init__(self, checkpoint: str):
        super().__init__()
        self.trained = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.trained.load_state_dict(torch.load(checkpoint))
        self.random = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.register_module('absent', None)

    def forward(self, x):
        return self.random(self.trained(x))


@torch.no_grad()
def test_only_what_was_loaded_keeps_its_weights(tmp_path):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
    torch.save(randomise(plain).eval().state_dict(), tmp_path / 'part.pth')
    net = build_pd_module(Mixed, dict(group_num='auto'), checkpoint=str(tmp_path / 'part.pth')).eval()
    x = image(2, 3, 6, 5, dtype=torch.float32)
    torch.testing.assert_close(net.trained(x), plain(x), rtol=1e-4, atol=1e-4)
    assert not net.trained[0].standard2.bn.weight.any()
    assert net.random[0].standard2.bn.weight.all()
    warm = build_pd_module(Mixed, dict(group_num='auto', warm_start=True), checkpoint=str(tmp_path / 'part.pth'))
    assert not warm.random[0].standard2.bn.weight.any()


class Copied(Mixed):
    """The same with a copy of what was loaded."""

    def __init__(self, checkpoint: str):
        super().__init__(checkpoint)
        self.random = nn.Sequential(*copy.deepcopy(self.random), nn.Conv2d(8, 3, 1), *copy.deepcopy(self.trained))


def test_a_copy_of_what_was_loaded_is_loaded_and_nothing_is_left_behind(tmp_path):
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
    torch.save(plain.state_dict(), tmp_path / 'part.pth')
    net = build_pd_module(Copied, dict(group_num='auto'), checkpoint=str(tmp_path / 'part.pth'))
    warm = {name for name, conv in pd_convs(net).items() if not conv.standard2.bn.weight.any()}
    assert warm == {'trained.0', 'random.3'}
    assert len(pd_convs(net)) == 3
    hooks = [hook.hook for module in net.modules() for hook in module._load_state_dict_pre_hooks.values()]
    assert hooks == [move_replaced_norms] * 2
    assert not any('constructor' in name for module in net.modules() for name in vars(module))
    assert not nn.Sequential(nn.Conv2d(1, 1, 1))[0]._load_state_dict_pre_hooks


def test_a_model_with_a_moving_average_of_its_parts_is_refused_as_a_whole():
    with pytest.raises(UserError, match='MoCoFT cannot be converted: encoder_k is a moving average.*part'):
        build_moco(MOCO, type='reprefine.PDConverted', base_type='reprefine.MoCoFT', pd=dict(rule='backbone'))


@torch.no_grad()
def test_a_file_of_init_cfg_loads_into_the_converted_module(tmp_path):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        options = dict(depth=18, base_channels=8, stem_channels=8)
        plain = ROOT.build(dict(type='ResNet', **options))
        plain.eval()  # returns nothing
        randomise_softly(plain)
        torch.save(dict(state_dict={f'backbone.{k}': v for k, v in plain.state_dict().items()}), tmp_path / 'plain.pth')
        start = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'), prefix='backbone.')
        cfg = dict(type='reprefine.PDConverted', base_type='ResNet', init_cfg=start, **options)
        net = ROOT.build(cfg | dict(pd=dict(mode='B', group_num='auto')))
    assert net.layer1[0].conv1.standard2.bn.weight.all()
    net.init_weights()
    net.eval()
    x = image(2, 3, 64, 64, dtype=torch.float32)
    expected = plain(x)[0]
    torch.testing.assert_close(net(x)[0], expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_a_vision_transformer_with_a_file_of_its_own_has_nothing_to_convert(tmp_path):
    vit = timm.create_model('vit_tiny_patch16_224', depth=1)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    given = dict(model_name='vit_tiny_patch16_224', checkpoint=str(tmp_path / 'vit.pth'), model_args=dict(depth=1))
    with pytest.raises(UserError, match='no convolution can be disentangled with rule=None'):
        build_pd_module('reprefine.TimmViT', {}, **given)


class Beside(nn.Module):
    """A convolution beside a transformer that loads its file when it is initialised."""

    def __init__(self, vit: dict):
        super().__init__()
        self.vit, self.conv = ROOT.build(vit), nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))

    def forward(self, x):
        return self.conv(x), *self.vit(x)


def test_a_vision_transformer_beside_converted_layers_loads_its_file(tmp_path):
    vit = timm.create_model('vit_tiny_patch16_224', depth=1)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    given = dict(model_name='vit_tiny_patch16_224', checkpoint=str(tmp_path / 'vit.pth'), model_args=dict(depth=1))
    net = build_pd_module(Beside, dict(group_num='auto'), vit=dict(type='reprefine.TimmViT', **given))
    assert isinstance(net.conv[0], PDConv)
    net.vit.init_weights()
    for name, value in vit.state_dict().items():
        if name in net.vit.vit.state_dict() and not name.startswith('head'):
            assert torch.equal(net.vit.vit.state_dict()[name], value), name
