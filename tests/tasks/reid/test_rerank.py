import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from reprefine.engine.errors import UserError
from reprefine.tasks.reid.functional import Tags, distance_blocks, match_ranks, retrieval_metrics
from reprefine.tasks.reid.rerank import (
    find_neighbours,
    jaccard_distance,
    reciprocal_neighbours,
    rerank_blocks,
)

from . import references


def draw(spread=0.8):
    (queries, query_pid), (gallery, gallery_pid) = (
        references.clustered(size, 9, 8, seed, spread) for size, seed in ((14, 1), (60, 2))
    )
    return queries, gallery, query_pid, gallery_pid


@pytest.mark.parametrize(
    ('k1', 'k2', 'lambda_value'), [(20, 6, 0.3), (7, 3, 0.0), (5, 1, 0.5), (1, 1, 0.3), (13, 13, 1.0), (73, 6, 0.3)]
)
def test_equals_the_loop(k1, k2, lambda_value):
    queries, gallery, *_ = draw()
    result = np.concatenate(list(rerank_blocks(queries, gallery, k1, k2, lambda_value)))
    expected = references.rerank(queries.numpy(), gallery.numpy(), k1, k2, lambda_value)
    np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.mark.parametrize('block', [1, 200, 10**6])
def test_blocks_do_not_change_the_result(block):
    queries, gallery, *_ = draw()
    whole = np.concatenate(list(rerank_blocks(queries, gallery)))
    blocks = list(rerank_blocks(queries, gallery, block=block))
    assert max(part.size for part in blocks) <= max(block, len(gallery))
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=2e-6)


def test_neighbours():
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    nearest, farthest = find_neighbours(features, 2, block=5)
    assert nearest.tolist() == [[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 2, 1]]
    assert farthest.tolist() == [49, 36, 16, 49]
    expected = [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert reciprocal_neighbours(nearest).toarray().tolist() == expected


def test_jaccard_distance():
    a = np.array([[0.5, 0.0, 0.5, 0.0]])
    b = np.array([[0.5, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    distance = jaccard_distance(csr_array(a), csr_array(b).tocsc())
    assert distance.tolist() == pytest.approx([0, 1, 1 - 0.5 / 1.5])


def test_reranking_improves_clustered_identities():
    queries, gallery, query_pid, gallery_pid = draw(spread=1.0)
    tags = Tags(query_pid, np.zeros(14)), Tags(gallery_pid, np.ones(60))
    baseline, reranked = (
        retrieval_metrics(match_ranks(blocks, *tags))['mAP']
        for blocks in (distance_blocks(queries, gallery), rerank_blocks(queries, gallery, 7, 3))
    )
    assert reranked > baseline + 1


def test_a_common_mean_changes_nothing():
    queries, gallery, *_ = draw()
    queries, gallery = (torch.round(part * 2**10) / 2**16 for part in (queries, gallery))
    near, far = (np.concatenate(list(rerank_blocks(queries + mean, gallery + mean, 7, 3))) for mean in (0.0, 16.0))
    np.testing.assert_allclose(far, near, atol=1e-4)


def test_equal_features_stay_finite():
    features = torch.ones(30, 4)
    blocks = np.concatenate(list(rerank_blocks(features[:5], features[5:])))
    assert np.isfinite(blocks).all()


@pytest.mark.parametrize('arguments', [dict(k1=74), dict(k1=5, k2=6), dict(k2=0)])
def test_invalid_sizes_are_refused(arguments):
    queries, gallery, *_ = draw()
    with pytest.raises(UserError, match='give 1 <= k2 <= k1 < number of images'):
        rerank_blocks(queries, gallery, **arguments)
