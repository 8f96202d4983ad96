"""The backbone with a known position pattern."""

import pytest
import torch
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.models.patterned_backbone import PatternedBackbone

BACKBONE = dict(
    type='reprefine.TimmViT',
    model_name='vit_tiny_patch16_224',
    img_size=32,
    model_args=dict(depth=2, embed_dim=64, num_heads=2),
)


def test_known_pattern_is_added_to_every_image():
    torch.manual_seed(0)
    model = PatternedBackbone(BACKBONE, channels=64, grid=2, scale=0.5, seed=3).eval()
    x = torch.randn(4, 3, 48, 32, generator=torch.Generator().manual_seed(5))
    difference = model(x[:, :, :32])[0] - model.backbone(x[:, :, :32])[-1]
    expected = 0.5 * torch.randn(64, 2, 2, generator=torch.Generator().manual_seed(3))
    assert_close(difference, expected.expand(4, -1, -1, -1), rtol=0, atol=1e-5)
    assert not any('pattern' in name for name in model.state_dict())
    with pytest.raises(UserError, match=r'the feature map has shape .64, 3, 2., the pattern .64, 2, 2.; set channels'):
        model(x)
