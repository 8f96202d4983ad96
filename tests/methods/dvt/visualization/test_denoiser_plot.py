"""The plot of raw, target and denoised features."""

import numpy as np

from reprefine.methods.dvt.visualization.denoiser_plot import LABELS, Prediction, denoiser_strip
from reprefine.methods.dvt.visualization.plot import GAP, LABEL


def tile_of(plot: np.ndarray, row: int, column: int, size: tuple[int, int]) -> np.ndarray:
    top, left = LABEL + row * (size[0] + GAP), column * (size[1] + GAP)
    return plot[top : top + size[0], left : left + size[1]]


def features(seed: int, shape=(3, 4, 8)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_seven_columns_and_the_prediction_in_colours_of_the_target():
    image = np.full((10, 20, 3), (10, 200, 30), np.uint8)
    target = features(1)
    rows = [Prediction(image, features(0), target, target), Prediction(None, features(0), features(2), features(3))]
    plot = denoiser_strip(rows, height=30)
    assert len(LABELS) == 7
    assert plot.shape == (LABEL + 2 * 30 + GAP, 7 * 40 + 6 * GAP, 3)

    def tile(row, column):
        return tile_of(plot, row, column, (30, 40))

    assert (tile(0, 0) == (10, 200, 30)).all()
    assert (tile(1, 0) == 255).all()
    # A perfect prediction has the tiles of the target; another one has not.
    assert (tile(0, 5) == tile(0, 3)).all()
    assert (tile(0, 6) == tile(0, 4)).all()
    assert (tile(1, 5) != tile(1, 3)).any()
    shifted = denoiser_strip([Prediction(None, features(0), target, target + 3)], height=30)
    own = denoiser_strip([Prediction(None, features(0), target, target)], height=30)
    assert (shifted != own).any()  # the range is the target's: a shift shows
    assert (denoiser_strip(rows, height=30) == plot).all()


def test_constant_features_are_plotted():
    flat = np.ones((3, 4, 8), np.float32)
    assert denoiser_strip([Prediction(None, flat, flat, flat)]).shape[0] == LABEL + 128
