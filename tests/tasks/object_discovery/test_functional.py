import numpy as np
import pytest
import torch

from reprefine.tasks.object_discovery.functional import (
    bounding_box,
    connected_component,
    degrees,
    expand_seed,
    localize,
    object_patches,
    patch_correlations,
)


def draw_features(seed: int, channels: int = 6, height: int = 7, width: int = 9) -> torch.Tensor:
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flood_fill(mask: np.ndarray, seed: tuple[int, int]) -> set[tuple[int, int]]:
    """Return the entries connected to the seed by edges."""
    found, pending = set(), [seed]
    while pending:
        row, column = pending.pop()
        inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
        if inside and (row, column) not in found and (mask[row, column] or (row, column) == seed):
            found.add((row, column))
            pending += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return found


def lost_by_loops(features: np.ndarray, prominence: str, k: int) -> tuple[tuple[int, int], set, tuple[int, ...]]:
    """Return seed, patches and box as described in the paper, with loops."""
    channels, height, width = features.shape
    tokens = [features[:, row, column] for row in range(height) for column in range(width)]
    n = len(tokens)
    dot = [[sum(tokens[p][c] * tokens[q][c] for c in range(channels)) for q in range(n)] for p in range(n)]
    degree = [sum(dot[p][q] > 0 for q in range(n) if q != p) for p in range(n)]
    norm = [sum(value**2 for value in token) for token in tokens]
    order = sorted(range(n), key=lambda p: (degree[p] if prominence == 'degree' else -norm[p], p))
    seed = order[0]
    chosen = [q for q in order[:k] if dot[q][seed] > 0]
    mask = np.array([sum(dot[q][s] for s in chosen) > 0 for q in range(n)]).reshape(height, width)
    position = seed // width, seed % width
    patches = flood_fill(mask, position)
    rows, columns = zip(*patches, strict=True)
    return position, patches, (min(columns), min(rows), max(columns) + 1, max(rows) + 1)


@pytest.mark.parametrize('prominence', ['degree', 'norm'])
@pytest.mark.parametrize('k', [1, 10, 100])
def test_equals_loops(prominence, k):
    for number in range(6):
        features = draw_features(number)
        seed, patches, box = lost_by_loops(features.numpy(), prominence, k)
        found = localize(features, prominence, k)
        assert found.seed == seed
        assert {tuple(position) for position in found.mask.nonzero().tolist()} == patches
        assert found.box == box


@pytest.mark.parametrize('prominence', ['degree', 'norm'])
def test_finds_the_smaller_of_two_regions(prominence):
    features = torch.zeros(2, 8, 10)
    features[0] = 1.0
    features[:, 2:5, 3:9] = torch.tensor([-1.0, 2.0])[:, None, None]
    found = localize(features, prominence)
    assert found.box == (3, 2, 9, 5)
    assert found.mask.sum() == 18
    assert found.seed == (2, 3)


def test_two_objects_give_the_box_of_the_one_with_the_seed():
    features = torch.zeros(1, 6, 12)
    features[0] = -1.0
    features[0, 1:3, 1:3] = 2.0
    features[0, 3:5, 8:11] = 3.0
    assert localize(features, 'norm').box == (8, 3, 11, 5)
    assert localize(features, 'degree').box == (1, 1, 3, 3)  # equally few neighbours: the first


def test_a_degree_does_not_count_the_patch_itself():
    tokens = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    assert degrees(patch_correlations(tokens)).tolist() == [1, 1, 0, 0]


def test_the_seed_is_expanded_by_positively_correlated_patches_among_the_most_prominent():
    tokens = torch.tensor([[1.0, 0.0], [2.0, 0.5], [-1.0, 0.0], [3.0, 0.0], [0.5, 0.1]])
    seed, chosen = expand_seed(patch_correlations(tokens), torch.tensor([1.0, 5.0, 4.0, 3.0, 0.0]), 4)
    assert seed == 1
    assert chosen.tolist() == [1, 3, 0]
    assert object_patches(patch_correlations(tokens), chosen).tolist() == [True, True, False, True, True]


def test_diagonal_neighbours_are_not_connected():
    mask = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=torch.bool)
    assert connected_component(mask, (0, 0)).nonzero().tolist() == [[0, 0]]
    assert bounding_box(connected_component(mask, (1, 1))) == (1, 1, 3, 3)


def test_features_of_zeros_give_the_first_patch():
    found = localize(torch.zeros(3, 4, 5))
    assert (found.seed, found.box) == ((0, 0), (0, 0, 1, 1))


def test_scale_and_rotation_of_the_features_change_nothing():
    features = draw_features(7)
    rotation = torch.linalg.qr(draw_features(8, 6, 6, 1)[..., 0])[0]
    rotated = torch.einsum('dc,chw->dhw', rotation, 3 * features)
    for prominence in ('degree', 'norm'):
        assert localize(rotated, prominence).box == localize(features, prominence).box
