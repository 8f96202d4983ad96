"""Plots of feature maps: PCA, clusters, norms and cosine similarities, and grids of such tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

GAP = 12  # white pixels between tiles
LABEL = 26  # height of the line of labels in pixels
LABELS = (
    'input', 'raw: PCA', 'raw: clusters', 'raw: norm', 'raw: similarity',
    'F: PCA', 'F: clusters', 'F: norm', 'F: similarity', 'G: PCA', 'G: norm',
    'true residual', 'predicted residual', 'G + Delta: PCA',
)  # fmt: skip
LAYOUTS = dict(readme=range(14), paper=(*range(10), 12, 13))


@dataclass(frozen=True)
class PcaBasis:
    """Three principal axes, shown as red, green and blue, and the ranges of their components.

    Attributes:
        axes: ``[C, 3]``, each with its entry of largest magnitude positive.
        low: Components that are shown as 0, ``[3]``.
        high: Components that are shown as 1, ``[3]``.
    """

    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def colors(self, features: np.ndarray) -> np.ndarray:
        """Return colours ``[..., 3]`` in [0, 1] of features ``[..., C]``."""
        return np.clip((features @ self.axes - self.low) / np.maximum(self.high - self.low, 1e-12), 0, 1)


def fit_pca(features: np.ndarray, mask: np.ndarray | None = None) -> PcaBasis:
    """Fit the three principal axes of a feature map, and ranges without outliers.

    A component within twice the median absolute deviation of its median is no outlier; if there is none, the ranges
    include all components.

    Args:
        features: ``[rows, columns, C]``.
        mask: Tokens to fit, ``[rows, columns]``; all by default.
    """
    tokens = features.reshape(-1, features.shape[-1]).astype(np.float64)
    if mask is not None and mask.sum() > 3:
        tokens = tokens[mask.ravel()]
    centered = tokens - tokens.mean(0)
    axes = np.linalg.eigh(centered.T @ centered)[1][:, : -min(3, tokens.shape[1]) - 1 : -1]
    axes = np.pad(axes, ((0, 0), (0, 3 - axes.shape[1])))
    axes *= np.where(axes[np.abs(axes).argmax(0), range(3)] < 0, -1, 1)
    values = tokens @ axes
    distance = np.abs(values - _lower_median(values))
    near = distance < 2 * _lower_median(distance)
    near |= ~near.any(0)
    low = np.where(near, values, np.inf).min(0)
    return PcaBasis(axes, low, np.where(near, values, -np.inf).max(0))


def _lower_median(values: np.ndarray) -> np.ndarray:
    """Return the median of each column, the lower one of an even number, as ``torch.median``."""
    return np.sort(values, 0)[(len(values) - 1) // 2]


def foreground(features: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Return the mask of tokens whose first component, scaled to [0, 1], is at least ``threshold``."""
    first = features @ fit_pca(features).axes[:, 0]
    return (first - first.min()) / max(float(np.ptp(first)), 1e-12) >= threshold


def norms(features: np.ndarray) -> np.ndarray:
    """Return the L2 norms of the tokens, scaled to [0, 1], ``[rows, columns]``."""
    length = np.linalg.norm(features, axis=-1)
    return (length - length.min()) / (np.ptp(length) + 1e-6)


def similarities(features: np.ndarray) -> np.ndarray:
    """Return cosine similarities to the central token, scaled to [0, 1], ``[rows, columns]``; that token is -1."""
    unit = features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-8)
    row, column = features.shape[0] // 2, features.shape[1] // 2
    cosine = unit @ unit[row, column]
    scaled = (cosine - cosine.min()) / max(float(np.ptp(cosine)), 1e-12)
    scaled[row, column] = -1
    return scaled


class CosineClusters:
    """K-means clusters of tokens by cosine similarity.

    Args:
        features: Feature map to fit, ``[rows, columns, C]``.
        count: Number of clusters; fewer if there are fewer distinct tokens.
        seed: Seed of the initial centres.
    """

    def __init__(self, features: np.ndarray, count: int = 5, seed: int = 0):
        from sklearn.cluster import KMeans

        tokens = self._normalize(features)
        self.count = count
        distinct = len(np.unique(tokens.round(6), axis=0))
        self.kmeans = KMeans(min(count, distinct), n_init=4, random_state=seed).fit(tokens)

    @staticmethod
    def _normalize(features: np.ndarray) -> np.ndarray:
        tokens = features.reshape(-1, features.shape[-1]).astype(np.float64)
        return tokens / np.maximum(np.linalg.norm(tokens, axis=1, keepdims=True), 1e-8)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the clusters of tokens as numbers in [0, 1], ``[rows, columns]``."""
        labels = self.kmeans.predict(self._normalize(features)).reshape(features.shape[:-1])
        return labels / max(self.count - 1, 1)


def enlarge(tile: np.ndarray, size: tuple[int, int], smooth: bool = False) -> np.ndarray:
    """Resize a tile of one pixel per token to ``size`` (height, width), nearest neighbour or bilinear (``smooth``)."""
    method = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return cv2.resize(tile, size[::-1], interpolation=method)


def _rgb8(colors: np.ndarray) -> np.ndarray:
    return (255 * colors[..., :3]).round().astype(np.uint8)


def pca_tile(features: np.ndarray, size: tuple[int, int], basis: PcaBasis | None = None) -> np.ndarray:
    """Plot the principal components of ``[rows, columns, C]`` as RGB of ``size``, in a given basis or its own."""
    return enlarge(_rgb8((basis or fit_pca(features)).colors(features)), size)


def norm_tile(features: np.ndarray, size: tuple[int, int], colormap: str = 'inferno') -> np.ndarray:
    """Plot the norms of ``[rows, columns, C]`` as RGB of ``size``."""
    return enlarge(_rgb8(colormaps[colormap](norms(features))), size)


def similarity_tile(features: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Plot the similarities to the central token as RGB of ``size``; that token is red."""
    values = enlarge(similarities(features).astype(np.float32), size, smooth=True)
    tile = _rgb8(colormaps['turbo'](values.clip(0, 1)))
    tile[values < 0] = (255, 0, 0)
    return tile


def cluster_tile(features: np.ndarray, size: tuple[int, int], clusters: CosineClusters | None = None) -> np.ndarray:
    """Plot the clusters of ``[rows, columns, C]`` as RGB of ``size``, by given clusters or its own."""
    clusters = clusters or CosineClusters(features)
    return enlarge(_rgb8(colormaps['rainbow'].resampled(clusters.count)(clusters(features))), size)


def view_tiles(view: Mapping[str, np.ndarray | None]) -> list[np.ndarray]:
    """Plot the 14 tiles of one view.

    Args:
        view: ``image``, RGB ``[H, W, 3]``, 8 bit; ``raw``, ``F`` and ``G``, ``[rows, columns, C]``; ``Delta`` likewise
            or None if it was not fitted: then its tile is white and the last tile shows ``G`` alone.
    """
    image, raw, semantics, artifact, residual = (view[name] for name in ('image', 'raw', 'F', 'G', 'Delta'))
    size = image.shape[:2]
    blank = np.full_like(image, 255)
    return [
        image,
        *_four_tiles(raw, size),
        *_four_tiles(semantics, size),
        pca_tile(artifact, size),
        norm_tile(artifact, size),
        norm_tile(raw - semantics - artifact, size),
        blank if residual is None else norm_tile(residual, size),
        pca_tile(artifact if residual is None else artifact + residual, size),
    ]


def _four_tiles(features: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    return [plot(features, size) for plot in (pca_tile, cluster_tile, norm_tile, similarity_tile)]


def strip(views: Sequence[Mapping[str, np.ndarray | None]], layout: str = 'readme') -> np.ndarray:
    """Plot one row of tiles per view below a line of labels, as RGB.

    Args:
        views: Arguments of :func:`view_tiles`, with images of one size.
        layout: ``'readme'`` shows all 14 tiles, ``'paper'`` leaves out the norms of ``G`` and of the true residual.
    """
    shown = LAYOUTS[layout]
    rows = [[tiles[index] for index in shown] for tiles in map(view_tiles, views)]
    return mosaic(rows, [LABELS[index] for index in shown])


def mosaic(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str]) -> np.ndarray:
    """Arrange tiles of one size in rows, with white gaps and a line of labels on top."""
    height, width = rows[0][0].shape[:2]
    columns = len(labels)
    total = LABEL + len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP
    canvas = np.full((*total, 3), 255, np.uint8)
    canvas[:LABEL] = _label_line(tuple(labels), width, total[1])
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            top, left = LABEL + row * (height + GAP), column * (width + GAP)
            canvas[top : top + height, left : left + width] = tile
    return canvas


@lru_cache(maxsize=8)  # the line is the same in every frame of a video
def _label_line(labels: tuple[str, ...], width: int, total: int) -> np.ndarray:
    """Return the labels, each centred on its column and small enough for it, ``[LABEL, total, 3]``."""
    figure = Figure(figsize=(total / 100, LABEL / 100), dpi=100)
    size = min(11, 1.2 * width / max(len(label) for label in labels))
    for index, label in enumerate(labels):
        center = (index * (width + GAP) + width / 2) / total
        figure.text(center, 0.5, label, ha='center', va='center', fontsize=size)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return cv2.resize(np.asarray(canvas.buffer_rgba())[..., :3], (total, LABEL))
