"""Selection of layers, reasons for skipping others, invalid options (check 13)."""

import warnings
from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from reprefine.methods.denoiserep import convert, denoise_layers, reparameterize
from reprefine.methods.denoiserep.conversion.select import select_layers
from reprefine.registry import MODELS

from ..toys import TinyViT

MLP = ['blocks.0.mlp.fc1', 'blocks.0.mlp.fc2', 'blocks.1.mlp.fc1', 'blocks.1.mlp.fc2']
ATTN = ['blocks.0.attn.qkv', 'blocks.0.attn.proj', 'blocks.1.attn.qkv', 'blocks.1.attn.proj']
LINEAR = [*ATTN[:2], *MLP[:2], *ATTN[2:], *MLP[2:], 'head']


@pytest.mark.parametrize(
    ('include', 'exclude', 'expected'),
    [
        ('mlp', (), MLP),
        ('attn', (), ATTN),
        ('linear', (), LINEAR),
        ('conv', (), ['patch_embed']),
        ('all', (), ['patch_embed', *LINEAR]),
        ('last', (), ['head']),
        (r'fc1$', (), [MLP[0], MLP[2]]),
        ([r'^head$', r'patch'], (), ['patch_embed', 'head']),
        ('linear', r'attn|head', MLP),
        ('mlp', [r'blocks\.0', r'fc2'], [MLP[2]]),
    ],
)
def test_presets_and_patterns(include, exclude, expected):
    assert [c.name for c in select_layers(TinyViT(), include, exclude)] == expected
    assert [row.name for row in convert(TinyViT(), include, exclude)] == expected


def test_types_restrict_the_selection():
    assert [c.name for c in select_layers(TinyViT(), '', types=(nn.Conv2d,))] == ['patch_embed']
    assert [c.name for c in select_layers(TinyViT(), 'all', types=(nn.Linear,))] == LINEAR


@pytest.mark.parametrize(('include', 'exclude'), [('ffn', ()), ('conv', 'patch'), ('mlp', 'blocks'), ([], ())])
def test_no_match_raises_and_names_what_there_is(include, exclude):
    model = TinyViT()
    with pytest.raises(
        ValueError, match=r'no layer can be converted .* 10 Linear and Conv2d layers, such as patch_embed'
    ):
        convert(model, include, exclude)
    assert not denoise_layers(model)


class WithMultihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.fc = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(self.attn(x, x, x)[0])


class ReadsWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.fc = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(nn.functional.linear(x, self.qkv.weight, self.qkv.bias))


class Special(nn.Linear):
    pass


class Holder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.special, self.fc = layer, nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(self.special(x))


@pytest.mark.parametrize(
    ('make', 'name', 'reason'),
    [
        (WithMultihead, 'attn.out_proj', 'MultiheadAttention reads its weight'),
        (ReadsWeight, 'qkv', 'ReadsWeight reads its weight'),
        (lambda: Holder(Special(8, 8)), 'special', 'Special is a custom subclass of'),
        (lambda: Holder(weight_norm(nn.Linear(8, 8))), 'special', 'parametrised'),
        (lambda: Holder(spectral_norm(nn.Linear(8, 8))), 'special', 'parametrised'),
        (lambda: Holder(parametrizations.weight_norm(nn.Linear(8, 8))), 'special', 'parametrised'),
    ],
)
@pytest.mark.filterwarnings('ignore::FutureWarning')
def test_layers_that_cannot_be_reparameterised_are_skipped_with_a_warning(make, name, reason):
    model = make()
    layer = model.get_submodule(name)
    with pytest.warns(UserWarning, match=rf"'{name}' is not denoised: .*{reason}"):
        rows = {row.name: row for row in convert(model, 'linear')}
    assert model.get_submodule(name) is layer
    assert reason in rows[name].skipped
    assert rows[name].timestep is None
    assert (rows['fc'].skipped, rows['fc'].timestep, rows['fc'].width, rows['fc'].side) == (None, 1, 8, 'input')


class Tied(nn.Module):
    """``how``: two layers with one weight, one layer under two names, or a head tied to an embedding."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.embed, self.a, self.b, self.fc = nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        if how == 'weight':
            self.b.weight = self.a.weight
        elif how == 'module':
            self.b = self.a
        else:
            self.a.weight = self.embed.weight

    def forward(self, x):
        return self.fc(self.b(self.a(x)).relu())


@pytest.mark.parametrize(('how', 'names'), [('weight', {'a', 'b'}), ('module', {'a', 'b'}), ('embedding', {'a'})])
def test_every_layer_of_a_tied_weight_is_skipped(how, names):
    """Reparameterising one of them would untie them, and the state dict would no longer be the baseline's."""
    model = Tied(how)
    with pytest.warns(UserWarning, match='tied'):
        rows = convert(model, 'linear')
    assert {row.name for row in rows if row.skipped} == names
    assert set(denoise_layers(model)) == {'a', 'b', 'fc'} - names
    deployed = reparameterize(model)
    assert (deployed.a.weight is deployed.b.weight) == (how != 'embedding')
    stock = Tied(how)
    stock.load_state_dict(deployed.state_dict())
    x = torch.randn(3, 8)
    torch.testing.assert_close(stock(x), model.eval()(x))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(timestep='middle'), "unknown timestep policy 'middle'"),
        (dict(timestep=[1, 2]), '2 timesteps are given for 4 layers'),
        (dict(timestep={'fc1': 3}), "no pattern .* matches the layer 'blocks.0.mlp.fc2'"),
        (dict(timestep=[1, 2, 3, 1000]), 'outside the schedule of 1000 steps'),
        (dict(timestep=-1), 'outside the schedule'),
        (dict(steps=4), '4 layers need 4 timesteps'),
        (dict(step='ddim', to=2), 'is not below the timestep'),
        (dict(step='ddim'), 'with its target'),
        (dict(to=0), 'with its target'),
        (dict(step='euler'), "step='euler'"),
        (dict(side='left'), "side='left': use 'input', 'output' or 'narrow'"),
        (dict(bias_policy='drop'), "bias_policy='drop'"),
        (dict(loss_type='huber'), 'huber'),
        (dict(kernel_size=3), '3x3 predictor cannot be merged'),
    ],
)
def test_bad_options_are_refused_and_do_not_change_the_model(options, message):
    model = TinyViT()
    modules = dict(model.named_modules())
    with pytest.raises(ValueError, match=message):
        convert(model, 'mlp', **options)
    assert dict(model.named_modules()) == modules
    assert not model._forward_pre_hooks


def build_backbone(config: dict) -> nn.Module:
    import_module('mmdet.models')
    import_module('mmpretrain.models')

    return MODELS.build(config)


SWIN_V2_T = dict(type='mmpretrain.SwinTransformerV2', arch='tiny', img_size=256, window_size=[8, 8, 8, 8])
SWIN_T = dict(type='mmdet.SwinTransformer', depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))


@pytest.mark.parametrize(
    ('config', 'include', 'count'),
    [
        (SWIN_T, 'mlp', 24),
        (SWIN_V2_T, 'mlp', 24),
        (dict(type='mmdet.ResNet', depth=50), 'conv', 53),
        (dict(type='mmpretrain.VisionTransformer', arch='deit-t'), 'mlp', 24),
    ],
)
def test_counts_on_real_backbones(config, include, count):
    model = build_backbone(config)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        rows = convert(model, include)
    assert len(rows) == count
    assert [row.timestep for row in rows] == list(range(count, 0, -1))
    assert all('cpb_mlp' not in row.name for row in rows)
    if include == 'mlp':
        assert {row.name.partition('ffn.')[2] for row in rows} == {'layers.0.0', 'layers.1'}


def test_swin_v2_keeps_the_layer_whose_weight_is_read():
    """Its qkv is a functional call; the coordinate table is an MLP but holds no feature."""
    model = build_backbone(SWIN_V2_T)
    with pytest.warns(UserWarning, match='WindowMSAV2 reads its weight'):
        rows = convert(model, 'linear')
    skipped = [row.name for row in rows if row.skipped]
    assert len(skipped) == 12
    assert all(name.endswith('.qkv') for name in skipped)
    converted = [row.name for row in rows if not row.skipped]
    assert len(converted) == 24 + 12 + 3  # FFN, output projections, patch merging
    assert not any('cpb_mlp' in name for name in converted)
    with pytest.warns(UserWarning, match='.'):
        named = convert(build_backbone(SWIN_V2_T), '', types=(nn.Linear,), timestep='reference')
    assert sum('cpb_mlp' in row.name for row in named) == 24
