import math

import pytest
import torch

from reprefine.tasks.segmentation.functional import (
    LabelledFeatures,
    class_centroids,
    class_shares,
    labelled_patches,
    nearest_entries,
    neighbor_weights,
    vote,
)

VOID = 255


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def labels():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (12, 20), generator=generator)
    labels[labels == 3] = VOID
    labels[:4, :5] = VOID
    return labels


def shares_by_loops(labels, num_classes, rows, columns):
    height, width = labels.shape[0] // rows, labels.shape[1] // columns
    shares = torch.zeros(num_classes, rows, columns)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] < num_classes:
                shares[labels[y, x], y // height, x // width] += 1 / (height * width)
    return shares


def test_shares_are_those_of_the_pixels(labels):
    shares = class_shares(labels, 4, (3, 4))
    assert torch.allclose(shares, shares_by_loops(labels, 4, 3, 4))
    assert shares[:, 0, 0].tolist() == [0, 0, 0, 0]
    assert shares[3].sum() == 0


def test_labels_that_patches_do_not_divide():
    shares = class_shares(torch.tensor([[0, 0, 1]]), 2, (1, 2))
    assert shares.tolist() == [[[1.0, 0.5]], [[0.0, 0.5]]]  # the middle pixel is part of both


def test_centroids_are_means_over_the_pixels_of_a_class(labels):
    features = draw(5, 3, 4)
    found = class_centroids(features, class_shares(labels, 4, (3, 4)))
    pixels = features.repeat_interleave(4, 1).repeat_interleave(5, 2)
    expected = torch.stack([pixels[:, labels == label].mean(1) for label in range(3)])
    assert torch.allclose(found.features, expected)
    assert found.shares.tolist() == torch.eye(4)[:3].tolist()


def test_patches_without_a_label_are_left_out(labels):
    features = draw(5, 3, 4)
    shares = shares_by_loops(labels, 4, 3, 4)
    found = labelled_patches(features, class_shares(labels, 4, (3, 4)))
    expected = [(r, c) for r in range(3) for c in range(4) if shares[:, r, c].sum() > 0]
    assert len(expected) == 11
    assert torch.equal(found.features, torch.stack([features[:, r, c] for r, c in expected]))
    own = torch.stack([shares[:, r, c] / shares[:, r, c].sum() for r, c in expected])
    assert torch.allclose(found.shares.float(), own)


def votes_by_loops(queries, bank, k, temperature):
    results = []
    for query in queries.tolist():
        scored = []
        for key, share in zip(bank.features.tolist(), bank.shares.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, key, strict=True))
            scored.append((dot / math.dist(query, [0] * len(query)) / math.dist(key, [0] * len(key)), share))
        nearest = sorted(scored, key=lambda pair: -pair[0])[:k]
        weights = [1.0 if temperature is None else math.exp(similarity / temperature) for similarity, _ in nearest]
        total = sum(weights)
        classes = range(bank.shares.shape[1])
        results.append(
            [
                sum(weight * share[c] for weight, (_, share) in zip(weights, nearest, strict=True)) / total
                for c in classes
            ]
        )
    return torch.tensor(results, dtype=torch.float64)


@pytest.mark.parametrize('temperature', [None, 0.1, 2.0])
@pytest.mark.parametrize('chunk_size', [1, 7, 23, 1000])
@pytest.mark.parametrize('k', [1, 5, 40])
def test_votes_equal_loops(k, chunk_size, temperature):
    bank = LabelledFeatures(draw(23, 6, seed=1), draw(23, 4, seed=2).softmax(1))
    queries = draw(9, 6, seed=3)
    found = vote(queries, bank, k, temperature, chunk_size)
    assert torch.allclose(found, votes_by_loops(queries, bank, k, temperature))
    assert torch.allclose(found.sum(1), torch.ones(9, dtype=torch.float64))


def test_nearest_come_in_order_with_their_similarity():
    keys = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0], [-2.0, 0.0]])
    similarities, indices = nearest_entries(torch.tensor([[5.0, 0.0]]), keys, 3, 2)
    assert indices.tolist() == [[0, 2, 1]]
    assert similarities[0].tolist() == pytest.approx([1, math.sqrt(0.5), 0])


def test_low_temperature_selects_the_nearest_and_high_temperature_weights_equally():
    similarities = torch.tensor([[0.9, 0.8, 0.1]])
    assert neighbor_weights(similarities, 1e-3)[0].tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert neighbor_weights(similarities, 1e6)[0].tolist() == pytest.approx([1 / 3] * 3)
    assert neighbor_weights(similarities, None)[0].tolist() == pytest.approx([1 / 3] * 3)
