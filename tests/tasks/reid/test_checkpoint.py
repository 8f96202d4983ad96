"""Published checkpoints are replaced by timm models, whose keys TransReID-SSL uses."""

import argparse

import pytest
import torch
from mmengine.registry import init_default_scope
from timm.models.vision_transformer import VisionTransformer
from timm.models.volo import PatchEmbed
from torch import nn

from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.errors import UserError
from reprefine.models.vit_conv_stem import IBN
from reprefine.registry import MODELS
from reprefine.tasks.reid.checkpoint import import_checkpoint
from tests.helpers.run_tool import run_tool

TOOL = 'model_converters/import_transreid_ssl.py'
IDENTITIES = 5


class StemEmbed(PatchEmbed):
    """VOLO's stem with the norms of TransReID-SSL, as timm's ViT expects it."""

    def __init__(self):
        super().__init__(stem_conv=True, stem_stride=2, patch_size=16, hidden_dim=6, embed_dim=128)
        self.conv[1], self.conv[4] = IBN(6), IBN(6)

    def forward(self, x):
        return super().forward(x).flatten(2).mT


def reference(stem):
    """A small ViT with random norms and biases."""
    model = VisionTransformer(
        img_size=(64, 32), patch_size=16, embed_dim=128, depth=2, num_heads=2, num_classes=0, global_pool='token'
    )
    if stem:
        model.patch_embed = StemEmbed()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model.eval()


def supervised(model):
    """The state dict of a trained re-identification model."""
    state = {f'base.{key}': value for key, value in model.state_dict().items()}
    neck = {f'bottleneck.{key}': value for key, value in nn.BatchNorm1d(128).state_dict().items()}
    neck['bottleneck.running_mean'] = torch.randn(128)
    return state | neck | {'classifier.weight': torch.randn(IDENTITIES, 128), 'base.fc.weight': torch.randn(10, 128)}


def dino(model):
    """A checkpoint of self-supervised training."""
    teacher = {f'module.backbone.{key}': value for key, value in model.state_dict().items()}
    head = {'module.head.mlp.0.weight': torch.randn(4, 128)}
    student = {key: value + 1 for key, value in teacher.items()}
    return dict(student=student, teacher=teacher | head, epoch=3, args=argparse.Namespace(arch='vit_small'))


def bare(model):
    return model.state_dict()


def convert(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / 'source.pth')
    backbone = import_checkpoint(tmp_path / 'source.pth', tmp_path / 'target.pth')
    return backbone, torch.load(tmp_path / 'target.pth', weights_only=True)


@pytest.mark.parametrize('form', [supervised, dino, bare])
@pytest.mark.parametrize('stem', [True, False])
def test_imported_backbone_computes_the_same(form, stem, tmp_path):
    model = reference(stem)
    config, target = convert(tmp_path, form(model))
    assert config['type'] == ('reprefine.ConvStemViT' if stem else 'reprefine.PortraitViT')
    assert (config['img_size'], config['patch_size'], config.get('stem_kernel', 7)) == ((64, 32), 16, 7)
    assert target['meta'] == dict(source='source.pth', backbone=config)
    backbone = MODELS.build(config)
    backbone.eval()
    weights = {key.removeprefix('backbone.'): value for key, value in target['state_dict'].items()}
    backbone.load_state_dict({key: value for key, value in weights.items() if not key.startswith('head.')})
    image = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.allclose(backbone(image)[-1], model(image), rtol=1e-5, atol=1e-5)


def reid_model(backbone, identities=IDENTITIES):
    triplet = dict(type='reprefine.BatchHardTripletLoss')
    head = dict(type='reprefine.BNNeckHead', num_classes=identities, in_channels=128, triplet=triplet)
    init_default_scope('mmpretrain')  # independent of earlier tests
    return MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head))


def test_supervised_checkpoint_loads_strictly(tmp_path):
    state = supervised(reference(stem=True))
    config, target = convert(tmp_path, state)
    model = reid_model(config)
    model.load_state_dict(target['state_dict'])  # strict
    assert torch.equal(model.head.bottleneck.running_mean, state['bottleneck.running_mean'])
    assert torch.equal(model.head.classifier.weight, state['classifier.weight'])


def test_pretrained_checkpoint_loads_into_a_model_for_higher_images(tmp_path):
    config, target = convert(tmp_path, dino(reference(stem=True)))
    match = load_weights(reid_model(config | dict(img_size=(96, 32))), target)
    assert not match.unexpected
    assert {name.split('.')[0] for name in match.not_loaded} == {'head'}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.update({'base.sie_embed': torch.zeros(6, 1, 128)}), 'unexpected keys sie_embed'),
        (lambda state: state.update({'epoch': 3}), 'unexpected keys epoch'),
        (lambda state: state.pop('base.blocks.1.mlp.fc1.bias'), 'missing keys.*layers.1.ffn.layers.0.0.bias'),
        (lambda state: state.pop('base.patch_embed.conv.1.IN.weight'), 'missing keys.*conv.1.IN.weight'),
        (lambda state: state.pop('base.cls_token'), 'missing key backbone.cls_token'),
        (lambda state: state.update({'base.norm.bias': torch.zeros(4)}), 'size mismatch.*backbone.ln1.bias'),
        (lambda state: state.update({'base.pos_embed': torch.zeros(1, 11, 128)}), '10 patches'),
    ],
)
def test_unexpected_and_missing_keys_and_size_mismatches_are_refused(change, message, tmp_path):
    state = supervised(reference(stem=True))
    change(state)
    with pytest.raises(UserError, match=f'source.pth is not a TransReID-SSL checkpoint of a ViT: .*{message}'):
        convert(tmp_path, state)
    assert not (tmp_path / 'target.pth').exists()


def test_tool(tmp_path, capsys):
    source, target = tmp_path / 'source.pth', tmp_path / 'target.pth'
    torch.save(bare(reference(stem=False)), source)
    assert run_tool(TOOL, source, target) == 0
    assert "fits model.backbone = {'type': 'reprefine.PortraitViT'" in capsys.readouterr().out
    content = target.read_bytes()
    assert run_tool(TOOL, source, target) == 1
    assert f'{target} exists' in capsys.readouterr().err
    assert target.read_bytes() == content
