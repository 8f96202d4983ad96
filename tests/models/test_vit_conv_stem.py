import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from timm.models.volo import PatchEmbed
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.models.vit_conv_stem import IBN, ConvStemViT, PortraitViT, portrait_grid

TINY = dict(arch=dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16), img_size=(256, 128))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ('patches', 'grid'), [(196, (14, 14)), (128, (16, 8)), (192, (24, 8)), (2, (2, 1)), (1, (1, 1))]
)
def test_grid_of_patches(patches, grid):
    assert portrait_grid(patches) == grid


def test_every_grid_up_to_ratio_three_is_recovered():
    grids = [(ratio * width, width) for ratio in (1, 2, 3) for width in range(1, 50)]
    assert [portrait_grid(height * width) for height, width in grids] == grids


def test_grid_of_overlapping_patches_is_refused():
    with pytest.raises(UserError, match='210 patches'):
        portrait_grid(21 * 10)


def test_position_embedding_of_a_lower_image_is_resized_along_the_height():
    small, large = PortraitViT(**TINY), PortraitViT(**TINY | dict(img_size=(384, 128)))
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(8.0), indexing='ij')
    state = small.state_dict()
    state['pos_embed'] = torch.zeros(1, 129, 8)
    state['pos_embed'][0, 0] = 7  # class token
    state['pos_embed'][0, 1:, :2] = torch.stack([rows, columns], -1).flatten(0, 1)
    large.load_state_dict(state)
    assert torch.equal(large.pos_embed[0, 0], torch.full((8,), 7.0))
    grid = large.pos_embed[0, 1:].unflatten(0, (24, 8))
    assert torch.allclose(grid[..., 1], torch.arange(8.0).expand(24, 8), atol=1e-5)
    centres = (torch.arange(24) + 0.5) * 16 / 24 - 0.5
    assert torch.allclose(grid[4:-4, :, 0], centres[4:-4, None].expand(16, 8), atol=0.05)


def test_square_position_embedding_is_resized_as_by_mmpretrain():
    ours, theirs = PortraitViT(**TINY), VisionTransformer(**TINY)
    state = VisionTransformer(**TINY | dict(img_size=224)).state_dict()
    state['pos_embed'] = torch.randn(1, 197, 8)
    for model in (ours, theirs):
        model.load_state_dict(dict(state))
    assert torch.equal(ours.pos_embed, theirs.pos_embed)


def test_position_embedding_of_another_width_is_a_size_mismatch():
    state = PortraitViT(**TINY).state_dict() | dict(pos_embed=torch.zeros(1, 129, 4))
    with pytest.raises(RuntimeError, match='size mismatch for pos_embed'):
        PortraitViT(**TINY).load_state_dict(state)


def test_instance_batch_norm():
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64) * 2 + 1
    norm = IBN(5).double()
    nn.init.normal_(norm.IN.weight)
    nn.init.normal_(norm.BN.bias)
    out = norm(x)
    for channel in range(2):
        for sample in range(3):
            plane = x[sample, channel]
            expected = (plane - plane.mean()) / (plane.var(correction=0) + 1e-5).sqrt() * norm.IN.weight[channel]
            assert torch.allclose(out[sample, channel], expected)
    for channel in range(2, 5):
        planes = x[:, channel]
        expected = (planes - planes.mean()) / (planes.var(correction=0) + 1e-5).sqrt() + norm.BN.bias[channel - 2]
        assert torch.allclose(out[:, channel], expected)


def test_the_stem_has_the_architecture_of_volo():
    embed = ConvStemViT(**TINY, stem_channels=6).patch_embed
    reference = PatchEmbed(stem_conv=True, stem_stride=2, patch_size=16, hidden_dim=6, embed_dim=8)
    reference.conv[1], reference.conv[4] = IBN(6), IBN(6)
    reference.load_state_dict(embed.projection.state_dict())
    image = torch.randn(2, 3, 256, 128)
    tokens, grid = embed(image)
    assert grid == (16, 8)
    assert torch.allclose(tokens, reference(image).flatten(2).mT, atol=1e-6)


@pytest.mark.parametrize(('kernel', 'weights'), [(7, 9408), (3, 1728)])
def test_parameters_of_the_small_model(kernel, weights):
    with torch.device('meta'):
        model = ConvStemViT('deit-small', img_size=(256, 128), stem_kernel=kernel)
    blocks = 12 * ((384 + 1) * 3 * 384 + (384 + 1) * 384 + (384 + 1) * 1536 + (1536 + 1) * 384 + 4 * 384)
    stem = weights + 2 * 9 * 64 * 64 + 3 * 2 * 64 + (64 * 8 * 8 + 1) * 384
    assert count(model) == blocks + stem + (1 + 1 + 128) * 384 + 2 * 384
    assert count(model.layers) == blocks == 21_293_568


def test_base_model_has_24_by_8_positions():
    with torch.device('meta'):
        model = ConvStemViT('deit-base', img_size=(384, 128))
        plain = PortraitViT('deit-base', img_size=(384, 128))
    assert model.pos_embed.shape == plain.pos_embed.shape == (1, 1 + 24 * 8, 768)
    assert count(plain) == 85_054_464 + (1 + 1 + 24 * 8) * 768 + 2 * 768 + (16 * 16 * 3 + 1) * 768


def test_freezing_includes_the_stem():
    model = ConvStemViT(**TINY, frozen_stages=1)
    assert not any(parameter.requires_grad for parameter in model.patch_embed.parameters())


def test_other_image_sizes():
    model = ConvStemViT(**TINY)
    model.eval()
    (feature,) = model(torch.randn(2, 3, 384, 128))
    assert feature.shape == (2, 8)


def test_overlapping_patches_keep_their_size_after_the_stem():
    model = ConvStemViT(**TINY, patch_cfg=dict(stride=8))
    proj = model.patch_embed.projection.proj
    assert (proj.kernel_size, proj.stride) == ((8, 8), (4, 4))
