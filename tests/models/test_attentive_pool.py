import pytest
import torch

from reprefine.models.attentive_pool import AttentivePool


@pytest.fixture
def pool():
    torch.manual_seed(0)
    return AttentivePool(8, num_heads=2)


def pooled_by_loops(pool: AttentivePool, features: torch.Tensor) -> torch.Tensor:
    """Return the pooled feature of one map, head by head and position by position."""
    layer = pool.pool
    query = layer.q(layer.latent[0, 0])
    tokens = [features[:, row, column] for row in range(features.shape[1]) for column in range(features.shape[2])]
    pairs = [layer.kv(token) for token in tokens]
    parts = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = torch.stack([query[head] @ pair[:8][head] / 2 for pair in pairs])  # the root of 4 channels
        weights = scores.exp() / scores.exp().sum()
        parts.append(sum(weight * pair[8:][head] for weight, pair in zip(weights, pairs, strict=True)))
    return torch.cat(parts)


def test_equals_loops(pool):
    maps = 3 * torch.randn(2, 8, 3, 5)
    (found,) = pool((torch.zeros(2, 8, 1, 1), maps))
    assert torch.allclose(found, torch.stack([pooled_by_loops(pool, image) for image in maps]), atol=1e-5)


def test_order_of_positions_does_not_matter(pool):
    maps = torch.randn(1, 8, 4, 4)
    assert torch.allclose(pool([maps])[0], pool([maps.flip(2, 3)])[0], atol=1e-6)


def test_number_of_parameters():
    assert sum(p.numel() for p in AttentivePool(768).parameters()) == 768 + 3 * (768 * 768 + 768)
