"""Tiles against explicit formulas, and plots of constant maps and of missing residuals."""

import numpy as np
import pytest
import torch

from reprefine.methods.dvt.visualization import plot

SIZE = (48, 64)


def features(seed=0, shape=(6, 8, 10)):
    return np.random.default_rng(seed).normal(size=shape) * np.linspace(3, 0.5, shape[-1])


def view(residual=True, constant=False):
    maps = [np.full((6, 8, 10), 1.5) if constant else features(seed) for seed in range(4)]
    image = np.random.default_rng(9).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return dict(image=image, raw=maps[0], F=maps[1], G=maps[2], Delta=maps[3] if residual else None)


def test_axes_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    values = features()
    expected = PCA(3).fit(values.reshape(-1, 10)).components_
    basis = plot.fit_pca(values)
    assert np.abs(np.abs(expected @ basis.axes) - np.eye(3)).max() < 1e-6
    assert (basis.axes[np.abs(basis.axes).argmax(0), range(3)] > 0).all()


def test_ranges_exclude_values_far_from_the_median():
    values = features()
    values[0, 0] += 1000
    basis = plot.fit_pca(values)
    for component in range(3):
        along = (values.reshape(-1, 10) @ basis.axes)[:, component]
        distance = (torch.from_numpy(along) - torch.from_numpy(along).median()).abs()
        assert len(distance) % 2 == 0  # the released code takes the lower of the middle two
        kept = along[(distance / distance.median() < 2).numpy()]
        assert (basis.low[component], basis.high[component]) == pytest.approx((kept.min(), kept.max()))
    assert basis.colors(values)[0, 0].max() <= 1


def test_ranges_without_deviation_include_all_values():
    """More than half of the values are equal: the median distance is 0."""
    values = np.zeros((4, 4, 5))
    values[0, 0, 2], values[0, 1, 2] = 1, -2
    basis = plot.fit_pca(values)
    assert (basis.low[0], basis.high[0]) == (-2, 1)


def test_colors_of_another_map():
    basis = plot.fit_pca(features())
    other = features(1)
    expected = np.clip((other @ basis.axes - basis.low) / (basis.high - basis.low), 0, 1)
    assert np.allclose(plot.pca_tile(other, (6, 8), basis), 255 * expected, atol=0.51)


def test_background_is_where_the_first_component_is_low():
    values = 0.01 * features()
    values[:, 4:, 0] += 5
    mask = plot.foreground(values)
    assert mask[:, 4:].all()
    assert not mask[:, :4].any()
    refitted = plot.fit_pca(values, mask)
    assert np.allclose(refitted.axes, plot.fit_pca(values[:, 4:]).axes)


def test_norms_and_similarities():
    values = features()
    length = np.sqrt((values**2).sum(-1))
    assert np.allclose(plot.norms(values), (length - length.min()) / (length.max() - length.min() + 1e-6))
    cosine = (values @ values[3, 4]) / (length * length[3, 4])
    scaled = (cosine - cosine.min()) / (cosine.max() - cosine.min())
    similar = plot.similarities(values)
    assert similar[3, 4] == -1
    scaled[3, 4] = -1
    assert np.allclose(similar, scaled)
    tile = plot.similarity_tile(values, (60, 80))
    assert tile[35, 45].tolist() == [255, 0, 0]  # inside that token


def test_clusters_depend_on_the_direction():
    values = np.zeros((6, 8, 10))
    for column in range(8):
        values[:, column, column % 4] = np.arange(1, 7)
    groups = plot.CosineClusters(values, 4)(values)
    assert (groups == groups[0]).all()
    assert len(set(groups[0, :4])) == 4
    assert np.array_equal(groups[:, :4], groups[:, 4:])


@pytest.mark.parametrize('residual', [True, False])
def test_fourteen_tiles_or_twelve(residual):
    full = plot.strip([view(residual)] * 2, 'readme')
    short = plot.strip([view(residual)] * 2, 'paper')
    assert full.shape == (26 + 2 * 48 + 12, 14 * 64 + 13 * 12, 3)
    assert short.shape == (26 + 2 * 48 + 12, 12 * 64 + 11 * 12, 3)

    def tile(picture, index):
        return picture[26 : 26 + 48, index * 76 : index * 76 + 64]

    assert np.array_equal(tile(full, 0), view()['image'])
    for index, kept in enumerate([*range(10), 12, 13]):
        assert np.array_equal(tile(short, index), tile(full, kept))
    assert (tile(full, 12) == 255).all() != residual
    assert np.array_equal(tile(full, 13), tile(full, 9)) != residual
    assert (full[26:, 64:76] == 255).all()
    assert (full[:26] < 128).any()


def test_a_constant_map_and_one_channel_are_plotted():
    assert plot.strip([view(constant=True)]).shape[1] == 14 * 64 + 13 * 12
    assert plot.pca_tile(np.zeros((3, 3, 1)), (6, 6)).shape == (6, 6, 3)


def test_repeated_calls_give_the_same_pixels():
    assert np.array_equal(plot.strip([view()]), plot.strip([view()]))
