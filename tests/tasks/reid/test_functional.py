import numpy as np
import pytest
import torch

from reprefine.tasks.reid.functional import (
    Tags,
    center,
    distance_blocks,
    match_ranks,
    nearest,
    retrieval_metrics,
    row_blocks,
    squared_distance,
)

from . import references


def draw(seed, queries=40, gallery=150, identities=12, cameras=3):
    rng = np.random.default_rng(seed)
    tags = [Tags(rng.integers(identities, size=size), rng.integers(cameras, size=size)) for size in (queries, gallery)]
    return rng, *tags


def by_hand(distance, pid, camera):
    """Ranks for one query of identity 1 seen by camera 0."""
    rows = [np.array([distance], float)]
    (ranks,) = match_ranks(rows, Tags(np.array([1]), np.array([0])), Tags(np.array(pid), np.array(camera)))
    return ranks.tolist()


@pytest.mark.parametrize('seed', range(8))
def test_metrics_equal_the_loop(seed):
    rng, queries, gallery = draw(seed)
    distance = rng.random((40, 150), dtype=np.float32)
    expected = references.evaluate(distance, queries, gallery, (1, 3, 20))
    assert retrieval_metrics(match_ranks([distance], queries, gallery), (1, 3, 20)) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize('seed', range(8))
def test_ties_go_to_the_lower_gallery_index(seed):
    rng, queries, gallery = draw(seed)
    distance = rng.integers(4, size=(40, 150)).astype(np.float32)
    expected = references.evaluate(distance, queries, gallery)
    assert retrieval_metrics(match_ranks([distance], queries, gallery)) == pytest.approx(expected, rel=1e-12)


def test_ranks_by_hand():
    # Sorted: 0.1 (other), 0.2 (match), 0.3 (same identity and camera: left out), 0.4 (other), 0.5 (match).
    assert by_hand([0.5, 0.3, 0.1, 0.2, 0.4], [1, 1, 7, 1, 8], [1, 0, 0, 2, 0]) == [2, 4]
    assert by_hand([3, 3, 3, 3], [5, 1, 6, 1], [0, 2, 0, 1]) == [2, 4]
    assert by_hand([1, 2], [1, 5], [0, 0]) == []


def test_metrics_by_hand():
    ranks = [np.array([1, 3]), np.array([]), np.array([2]), np.array([4, 5, 12])]
    values = retrieval_metrics(ranks)
    precision = [(1 + 2 / 3) / 2, 1 / 2, (1 / 4 + 2 / 5 + 3 / 12) / 3]
    assert values['mAP'] == pytest.approx(100 * sum(precision) / 3)
    assert values['mINP'] == pytest.approx(100 * (2 / 3 + 1 / 2 + 3 / 12) / 3)
    assert [values[f'CMC-{k}'] for k in (1, 5, 10)] == pytest.approx([100 / 3, 100, 100])


def test_average_precision_is_that_of_sklearn():
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    distance = rng.random((30, 60))
    queries = Tags(np.ones(30, int), np.zeros(30, int))
    gallery = Tags(rng.integers(3, size=60), np.ones(60, int))
    expected = np.mean([average_precision_score(gallery.pid == 1, -row) for row in distance])
    assert retrieval_metrics(match_ranks([distance], queries, gallery))['mAP'] == pytest.approx(100 * expected)


@pytest.mark.parametrize('block', [1, 151, 1000, 10**6])
def test_blocks_do_not_change_the_result(block):
    rng, queries, gallery = draw(1)
    # Whole numbers of mean 0 are exact in single precision, in whatever order they are added.
    q, g = (torch.from_numpy(rng.integers(-3, 4, size=(size, 8)).astype(np.float32)) for size in (40, 75))
    g = torch.cat([g, -g])
    distance = references.pairwise(q.numpy(), g.numpy())
    blocks = list(distance_blocks(q, g, block))
    assert max(part.size for part in blocks) <= max(block, 150)
    assert np.array_equal(np.concatenate(blocks) + q.square().sum(1)[:, None].numpy(), distance)
    expected = references.evaluate(distance, queries, gallery)
    assert retrieval_metrics(match_ranks(blocks, queries, gallery)) == pytest.approx(expected, rel=1e-12)


def test_distances_of_features_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (5 + 0.01 * torch.randn(size, 384, generator=generator) for size in (4, 50))
    exact = torch.cdist(queries.double(), gallery.double()).square()
    near = squared_distance(center(queries, gallery.mean(0)), center(gallery))
    assert ((near - exact) / exact).abs().max() < 1e-5  # 2 % otherwise
    (relative,) = distance_blocks(queries, gallery)
    difference = torch.from_numpy(relative) - exact  # one number for each query
    assert ((difference - difference[:, :1]).abs() / exact).max() < 1e-5


def test_squared_distance():
    a, b = torch.randn(5, 16), torch.randn(7, 16)
    torch.testing.assert_close(squared_distance(a, b), torch.cdist(a.double(), b.double()).square().float())
    assert squared_distance(a, a).min() == 0


def test_distances_survive_a_common_mean():
    """Features of mean 5 and deviation 0.01, whose squares take all digits that the distances have."""
    generator = torch.Generator().manual_seed(0)
    q, g = (5 + 0.01 * torch.randn(size, 512, generator=generator) for size in (20, 90))
    exact = torch.cdist(q.double(), g.double()).square()
    blocks = torch.from_numpy(np.concatenate(list(distance_blocks(q, g, 300)))).double()
    shift = (exact - blocks).mean(1, keepdim=True)  # what all of a query's distances lack
    torch.testing.assert_close(blocks + shift, exact, rtol=1e-4, atol=0)


def test_row_blocks_cover_every_row_once():
    assert row_blocks(7, 10, 30) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert row_blocks(2, 100, 30) == [slice(0, 1), slice(1, 2)]


def test_nearest_leaves_out_the_own_camera():
    gallery = Tags(np.array([1, 1, 2, 1, 2]), np.array([0, 1, 0, 1, 1]))
    query = Tags(np.array(1), np.array(0))
    distance = np.array([0.0, 0.4, 0.4, 0.1, 0.2])
    assert nearest(distance, query, gallery, 3).tolist() == [3, 4, 1]
    assert nearest(distance, query, gallery, 10).tolist() == [3, 4, 1, 2]
