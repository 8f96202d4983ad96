"""Nearest-neighbour classification."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from reprefine.tasks.classification.functional import knn_top1, knn_votes, merge_neighbors, nearest_neighbors
from tests.methods.feature_transform.toys import unit


@pytest.mark.parametrize('k', [1, 3, 50])
def test_votes_are_the_weighted_neighbours(k):
    query, bank = unit(4, 6, seed=1), unit(20, 6, seed=2)
    labels = torch.arange(20) % 3
    expected = torch.zeros(4, 3, dtype=torch.float64)
    for row, q in enumerate(query):
        similarity = [(float(q @ b), int(label)) for b, label in zip(bank, labels, strict=True)]
        for s, label in sorted(similarity, reverse=True)[:k]:
            expected[row, label] += np.exp(s / 0.07)
    neighbors = nearest_neighbors(query, bank, labels, k, chunk=3)
    votes = knn_votes(neighbors, 3, 0.07)
    assert_close(votes / votes.sum(1, keepdim=True), expected / expected.sum(1, keepdim=True), rtol=1e-9, atol=1e-12)
    truth = expected.argmax(1)
    truth[0] = (truth[0] + 1) % 3
    assert knn_top1(neighbors, truth, 0.07) == 75
    parts = [
        nearest_neighbors(query, bank[rows], labels[rows], k) for rows in (slice(11), slice(11, 12), slice(12, 20))
    ]
    assert_close(tuple(merge_neighbors(parts, k)), tuple(neighbors))


def test_neighbour_votes_agree_with_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier

    query, bank = unit(50, 6, seed=1), unit(200, 6, seed=2)
    labels = torch.arange(200) % 4
    classifier = KNeighborsClassifier(20, metric='cosine', weights=lambda d: np.exp((1 - d) / 0.07))
    expected = classifier.fit(bank.numpy(), labels.numpy()).predict(query.numpy())
    assert knn_votes(nearest_neighbors(query, bank, labels, 20), 4, 0.07).argmax(1).tolist() == expected.tolist()
