import logging
import re

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import nn

from reprefine.engine.checkpoints.method_keys import added_names
from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.methods.pddr import convert_to_pd
from reprefine.models.timm_vit import TimmViT, center_padding
from tests.helpers.run import ROOT

FAMILIES = [Config.fromfile(path) for path in sorted((ROOT / 'configs/_base_/models').glob('vit-b-*.py'))]
NAMES = {cfg.backbone.model_name: cfg for cfg in FAMILIES}
DINOV2_REG = 'vit_base_patch14_reg4_dinov2.lvd142m'
EVA = 'eva02_base_patch16_clip_224.merged2b'
TINY = dict(depth=2, embed_dim=48, num_heads=3)


def tiny(model_name='vit_tiny_patch16_224', **kwargs):
    """A model with two blocks and random biases and position embeddings."""
    torch.manual_seed(0)
    kwargs.setdefault('img_size', 56 if 'patch14' in model_name else 64)
    model = TimmViT(model_name, **{'model_args': TINY, **kwargs})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def images(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def max_difference(a, b):
    assert a.shape == b.shape
    return (a - b).abs().max()


@pytest.mark.parametrize('name', NAMES)
def test_features_are_those_of_timm(name):
    model = tiny(name, with_cls_token=True, out_indices=(0, 1))
    x = images(4 * model.patch_size, 6 * model.patch_size)
    outputs = model(x)
    expected = model.vit.forward_intermediates(x, norm=True, return_prefix_tokens=True, intermediates_only=True)
    for (features, cls_token), (maps, prefix) in zip(outputs, expected, strict=True):
        assert max_difference(features, maps) < 1e-5
        assert max_difference(cls_token, prefix[:, 0]) < 1e-5
    tokens = model.vit.forward_features(x)
    assert max_difference(outputs[-1][1], tokens[:, 0]) < 1e-5


@pytest.mark.parametrize(('name', 'prefix'), [('vit_tiny_patch16_224', 1), (DINOV2_REG, 5), (EVA, 1)])
def test_the_feature_map_contains_the_patch_tokens_row_by_row(name, prefix):
    model = tiny(name)
    x = images(2 * model.patch_size, 3 * model.patch_size)
    (features,) = model(x)
    tokens = model.vit.forward_features(x)
    assert tokens.shape[1] == prefix + 6
    for index in range(6):
        assert max_difference(features[:, :, index // 3, index % 3], tokens[:, prefix + index]) < 1e-5


def test_final_norm_of_an_inner_block_can_be_left_out():
    model = tiny(out_indices=(0,), final_norm=False)
    x = images(64, 64)
    plain = model(x)[0].movedim(1, -1)
    assert max_difference(plain.flatten(1, 2), model.vit.get_intermediate_layers(x, n=(0,))[0]) < 1e-5
    model.final_norm = True
    assert max_difference(model(x)[0].movedim(1, -1), model.vit.norm(plain)) < 1e-5


@pytest.mark.parametrize(
    ('size', 'multiple', 'padding'),
    [(512, 14, (3, 3)), (480, 14, (5, 5)), (640, 14, (2, 2)), (416, 14, (2, 2)), (544, 14, (1, 1)), (512, 16, (0, 0)),
     (30, 14, (6, 6)), (44, 14, (6, 6)), (27, 14, (0, 1))],
)  # fmt: skip
def test_padding_is_centred(size, multiple, padding):
    assert center_padding(size, multiple) == padding


def test_padding_adds_zeros_on_all_sides():
    model = tiny(DINOV2_REG)
    x = images(30, 45)
    (features,) = model(x)
    assert features.shape == (2, 48, 3, 4)
    model.center_pad = False
    assert torch.equal(model(F.pad(x, (5, 6, 6, 6)))[0], features)


@pytest.mark.parametrize('stride', [14, 7])
def test_cropped_feature_maps_cover_the_unpadded_image(stride):
    """A feature map that is linear in pixel coordinates is, cropped, the same function at the cells of the image."""
    model = TimmViT(DINOV2_REG, stride=stride, crop_padding=True, model_args=dict(depth=1))
    height, width = 112 - 6, 140  # 3 pixels above and below, none beside
    rows, columns = model.grid_size(height, width)
    centers = torch.arange(rows) * stride + 7.0 - 3
    linear = (centers[:, None] + 1000 * torch.arange(columns))[None, None].float()
    cropped = model._crop(linear, torch.zeros(1, 3, height, width))
    expected = ((torch.arange(rows) + 0.5) * height / rows).clamp(centers[0], centers[-1])
    assert max_difference(cropped, (expected[:, None] + 1000 * torch.arange(columns))[None, None]) < 1e-2
    assert torch.equal(model._crop(linear, torch.zeros(1, 3, 112, 140)), linear)


def test_native_statistics_are_those_of_the_training():
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    clip = 'vit_base_patch16_clip_384.laion2b_ft_in12k_in1k'
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    x = (pixels - mean[:, None, None]) / std[:, None, None]
    known = timm.get_pretrained_cfg(clip)
    own = (pixels - torch.tensor(known.mean)[:, None, None]) / torch.tensor(known.std)[:, None, None]
    plain, native = tiny(clip), tiny(clip, norm='native')
    assert max_difference(native(x)[0], plain(own)[0]) < 1e-4
    assert max_difference(native(x)[0], plain(x)[0]) > 1e-2
    assert torch.equal(tiny(DINOV2_REG, norm='native')(images(28, 28))[0], tiny(DINOV2_REG)(images(28, 28))[0])
    assert not any('norm_s' in key for key in native.state_dict())


@pytest.mark.parametrize(('stride', 'grid'), [(7, (6, 9)), (5, (8, 12)), (14, (3, 5)), (None, (3, 5))])
def test_stride_moves_the_patches(stride, grid):
    """With identity blocks, the feature map is the normalised projection of each patch."""
    model = tiny(DINOV2_REG, stride=stride, center_pad=False)
    nn.init.zeros_(model.vit.pos_embed)
    for block in model.vit.blocks:
        nn.init.zeros_(block.ls1.gamma)
        nn.init.zeros_(block.ls2.gamma)
    x = images(51, 71)
    (features,) = model(x)
    assert features.shape[2:] == grid == model.grid_size(51, 71)
    step = stride or 14
    weight, bias = model.vit.patch_embed.proj.weight, model.vit.patch_embed.proj.bias
    for row, column in [(0, 0), (grid[0] - 1, grid[1] - 1), (1, 2)]:
        patch = x[:, :, row * step : row * step + 14, column * step : column * step + 14]
        token = torch.einsum('bchw,dchw->bd', patch, weight) + bias
        assert max_difference(features[:, :, row, column], model.vit.norm(token)) < 1e-4


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', EVA])
def test_stride_gives_the_same_as_timm_on_an_image_of_the_patches(name):
    """Overlapping patches side by side form an image that timm divides into the same patches."""
    x = images(64, 48)
    apart = F.fold(F.unfold(x, 16, stride=8), (7 * 16, 5 * 16), 16, stride=16)
    overlapping, plain = tiny(name, stride=8), tiny(name)
    assert max_difference(overlapping(x)[0], plain.vit.forward_intermediates(apart, norm=True)[1][-1]) < 1e-5


def test_a_frozen_model_stays_in_eval_mode_and_gets_no_gradient():
    model = tiny(model_args=dict(TINY, drop_path_rate=0.5)).train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    x = images(32, 32).requires_grad_()
    assert not model(x)[0].requires_grad
    assert torch.equal(model(x)[0], model(x)[0])


def test_unfrozen_model_trains():
    model = tiny(frozen=False)
    assert model.train().vit.training
    model(images(32, 32))[0].square().sum().backward()
    assert model.vit.patch_embed.proj.weight.grad.abs().max() > 0
    assert not model.eval().vit.training


def test_init_weights_loads_the_weights(tmp_path):
    source = tiny()
    torch.save({'state_dict': source.vit.state_dict()}, tmp_path / 'vit.pth')
    host = BaseModule()
    host.backbone = tiny(checkpoint=str(tmp_path / 'vit.pth'))
    nn.init.zeros_(host.backbone.vit.pos_embed)
    host.init_weights()  # as the runner does; it must not reach timm's own init_weights
    x = images(64, 64)
    assert torch.equal(host.backbone(x)[0], source(x)[0])
    assert not host.backbone.vit.pos_embed.requires_grad


def test_init_cfg_loads_a_checkpoint_of_a_pre_training(tmp_path):
    trained = tiny()
    state = {f'student.backbone.{key}': value for key, value in trained.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='student.backbone.')
    model = tiny(init_cfg=start, pretrained=True)
    torch.nn.init.zeros_(model.vit.norm.weight)
    model.init_weights()
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_init_weights_keeps_random_weights_without_a_checkpoint():
    host = BaseModule()
    host.backbone = tiny()
    before = host.backbone(images(32, 32))[0]
    host.init_weights()
    assert torch.equal(host.backbone(images(32, 32))[0], before)


def test_checkpoint_of_the_authors_and_of_another_grid(tmp_path):
    """DeiT-III's names of the layer scales, and safetensors with a position embedding of 4x4 instead of 2x2."""
    from safetensors.torch import save_file
    from timm.layers import resample_abs_pos_embed

    source = tiny('deit3_base_patch16_224.fb_in1k')
    state = {re.sub(r'ls(\d)\.gamma', r'gamma_\1', key): value for key, value in source.vit.state_dict().items()}
    save_file({**state, 'head.weight': torch.zeros(5, 48)}, tmp_path / 'deit3.safetensors')
    model = tiny('deit3_base_patch16_224.fb_in1k', img_size=32, checkpoint=str(tmp_path / 'deit3.safetensors'))
    model.init_weights()
    assert torch.equal(model.vit.blocks[1].ls2.gamma, source.vit.blocks[1].ls2.gamma)
    table = resample_abs_pos_embed(source.vit.pos_embed, (2, 2), num_prefix_tokens=0)
    assert max_difference(model.vit.pos_embed, table) < 1e-6


def test_a_checkpoint_must_be_complete(tmp_path):
    state = tiny().vit.state_dict()
    del state['norm.weight']
    torch.save(state, tmp_path / 'vit.pth')
    with pytest.raises(UserError, match=r'vit\.pth .*norm\.weight'):
        tiny(checkpoint=str(tmp_path / 'vit.pth')).init_weights()
    (tmp_path / 'vit.safetensors').write_bytes(b'no weights')
    with pytest.raises(UserError, match='cannot be read'):
        tiny(checkpoint=str(tmp_path / 'vit.safetensors')).init_weights()


def test_pretrained_weights_are_downloaded_only_if_requested(monkeypatch):
    asked = []
    create = timm.create_model

    def fake(name, pretrained, **kwargs):
        asked.append(pretrained)
        torch.manual_seed(5)
        return create(name, **kwargs)

    monkeypatch.setattr(timm, 'create_model', fake)
    model = tiny(pretrained=True)
    assert asked == [False]
    model.init_weights()
    assert asked == [False, True]
    torch.manual_seed(5)
    trained = create('vit_tiny_patch16_224', img_size=64, num_classes=0, **TINY)
    assert torch.equal(model.vit.blocks[1].attn.qkv.weight, trained.blocks[1].attn.qkv.weight)


def test_failed_download_names_the_remedy(monkeypatch):
    model = tiny(pretrained=True)
    monkeypatch.setattr(timm, 'create_model', lambda *_, **__: (_ for _ in ()).throw(OSError('no network')))
    with pytest.raises(UserError, match='set checkpoint to a local file'):
        model.init_weights()


@pytest.mark.parametrize(
    ('name', 'kwargs', 'message'),
    [
        ('vit_tiny_patch16_225', {}, 'did you mean vit_tiny_patch16_224'),
        ('resnet18', {}, 'dynamic_img_size'),
        ('swin_tiny_patch4_window7_224', {}, 'is a SwinTransformer'),
        ('vit_tiny_patch16_224', dict(model_args=dict(TINY, class_token=False, global_pool='')), 'has no class token'),
        ('vit_tiny_patch16_224', dict(model_args=dict(TINY, global_pool='avg')), 'set final_norm=False'),
        ('vit_tiny_patch16_224', dict(norm='clip'), "norm='clip': use 'imagenet' or 'native'"),
    ],
)
def test_an_unsuitable_model_is_refused(name, kwargs, message):
    with pytest.raises(UserError, match=message):
        TimmViT(name, **{'with_cls_token': True, **kwargs})


def test_the_seven_families_are_found():
    assert len(NAMES) == 7


@pytest.mark.parametrize('name', NAMES)
def test_family_table_agrees_with_timm(name):
    cfg, known = NAMES[name], timm.get_pretrained_cfg(name)
    assert cfg.native.mean == pytest.approx([255 * value for value in known.mean])
    assert cfg.native.std == pytest.approx([255 * value for value in known.std])
    patch = TimmViT(name, model_args=dict(depth=1)).patch_size
    assert cfg.native['size'] == {14: 518, 16: 512}[patch]
    assert cfg.backbone.pretrained


def test_mmpretrain_computes_the_same():
    from mmpretrain.models.backbones import VisionTransformer

    model = tiny('vit_base_patch14_dinov2.lvd142m')
    twin = VisionTransformer(
        arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192),
        img_size=56,
        patch_size=14,
        layer_scale_init_value=1e-5,
        out_type='featmap',
    )
    twin.eval()
    names = [
        ('patch_embed.proj', 'patch_embed.projection'),
        (r'^norm\.', 'ln1.'),
        (r'blocks\.(\d+)\.norm', r'layers.\1.ln'),
        ('blocks', 'layers'),
        (r'ls1\.gamma', 'attn.gamma1.weight'),
        (r'ls2\.gamma', 'ffn.gamma2.weight'),
        (r'mlp\.fc1', 'ffn.layers.0.0'),
        (r'mlp\.fc2', 'ffn.layers.1'),
    ]
    state = {}
    for key, value in model.vit.state_dict().items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        state[key] = value
    twin.load_state_dict(state)
    x = images(56, 56)
    assert max_difference(twin(x)[0], model(x)[0]) < 1e-4


@pytest.fixture
def records():
    """Warnings in the log."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_instance('timm_vit')
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'deit3_base_patch16_224.fb_in1k', DINOV2_REG, EVA])
@pytest.mark.parametrize('nest', [dict, lambda state: dict(model=state)])
def test_a_position_embedding_becomes_smaller_only_if_img_size_is_set(name, nest, tmp_path, records):
    patch = 14 if 'patch14' in name else 16
    large = tiny(name, img_size=40 * patch)
    torch.save(nest(large.vit.state_dict()), tmp_path / 'vit.pth')
    line = f'vit.pth has a position embedding of 40x40 patches, the model one of .*: set img_size={40 * patch}, '
    with pytest.raises(UserError, match=line):
        tiny(name, img_size=None, checkpoint=str(tmp_path / 'vit.pth')).init_weights()
    same = tiny(name, img_size=40 * patch, checkpoint=str(tmp_path / 'vit.pth'))
    same.init_weights()
    assert torch.equal(same.vit.pos_embed, large.vit.pos_embed)
    assert records == []
    small = tiny(name, img_size=4 * patch, checkpoint=str(tmp_path / 'vit.pth'))
    small.init_weights()
    assert len(records) == 1
    assert re.search('the position embedding of .*vit.pth, 40x40, is resampled to 4x4 of img_size', records[0])


@pytest.mark.parametrize('registers', [0, 4])
def test_a_position_embedding_of_the_same_or_a_smaller_size_gives_no_warning(registers, tmp_path, records):
    args = dict(TINY, reg_tokens=registers)  # in this family the table has entries for the registers
    for img_size in (32, 224):
        torch.save(tiny(img_size=img_size, model_args=args).vit.state_dict(), tmp_path / 'vit.pth')
        tiny(img_size=None, model_args=args, checkpoint=str(tmp_path / 'vit.pth')).init_weights()
    assert records == []


@pytest.mark.parametrize(('img_size', 'warns'), [(None, False), (224, False), (448, False), (96, True)])
def test_downloaded_weights_warn_too(img_size, warns, monkeypatch, records):
    """The download is replaced by random weights."""
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda *args, **kwargs: create(*args, **{**kwargs, 'pretrained': False}))
    tiny(img_size=img_size, pretrained=True).init_weights()
    assert [('vit_tiny_patch16_224, 14x14' in line) for line in records] == [True] * warns


def test_entry_and_names_of_the_file_can_be_chosen(tmp_path):
    source = tiny()
    state = {f'backbone.vit.{name}': value for name, value in source.vit.state_dict().items()}
    torch.save(dict(ema=state), tmp_path / 'a.pth')
    line = r"0.0% of the model loaded.*entry 'ema' with 'backbone.vit.' removed from .*revise_keys=\[\(r'\^back"
    with pytest.raises(UserError, match=line):
        tiny(checkpoint=str(tmp_path / 'a.pth')).init_weights()
    model = tiny(checkpoint=str(tmp_path / 'a.pth'), checkpoint_key='ema', revise_keys=[(r'^backbone\.vit\.', '')])
    model.init_weights()
    assert torch.equal(model.vit.pos_embed, source.vit.pos_embed)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'deit3_base_patch16_224.fb_in1k', EVA])
@pytest.mark.parametrize('source', ['file', 'timm'])
def test_weights_are_loaded_into_layers_that_another_method_has_converted(name, source, tmp_path, monkeypatch):
    trained = tiny(name)
    torch.save(trained.vit.state_dict(), tmp_path / 'vit.pth')
    model = tiny(name, **{'checkpoint': str(tmp_path / 'vit.pth')} if source == 'file' else {'pretrained': True})
    convert(model, 'all')
    predictors = {key: value.clone() for key, value in model.state_dict().items() if key in added_names(model)}
    monkeypatch.setattr(timm, 'create_model', lambda *_, **__: trained.vit)
    model.init_weights()
    state = model.state_dict()
    assert len(predictors) > 20
    assert state.keys() - predictors.keys() == trained.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in (trained.state_dict() | predictors).items())
    x = images(64, 64)
    denoise_state(model).denoise_eval = False
    assert torch.equal(model.eval()(x)[0], trained(x)[0])


def test_a_checkpoint_of_a_converted_model_must_be_complete_and_have_no_predictors(tmp_path):
    state = tiny().vit.state_dict()
    torch.save({key: value for key, value in state.items() if key != 'norm.weight'}, tmp_path / 'lacks.pth')
    refined = tiny()
    convert(refined, 'mlp')
    torch.save(refined.vit.state_dict(), tmp_path / 'training_form.pth')
    for file, line in (
        ('lacks', r'1 missing \(norm\.weight\); at least 100%'),
        ('training_form', 'in a form that the model'),
    ):
        model = tiny(checkpoint=str(tmp_path / f'{file}.pth'))
        if file == 'lacks':
            convert(model, 'mlp')
        with pytest.raises(UserError, match=rf'{file}\.pth .*{line}'):
            model.init_weights()


def test_its_patch_embedding_cannot_be_disentangled():
    with pytest.raises(UserError, match='no convolution can be disentangled'):
        convert_to_pd(tiny(), 'patch_embed')
