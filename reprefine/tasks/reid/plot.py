"""Figures of rankings: in each row a query and its nearest gallery images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .functional import distance_blocks, nearest
from .predictions import Predictions

CORRECT, WRONG, QUERY = '#1a9641', '#d7191c', '#404040'


def plot_ranking(predictions: Predictions, out: Path, topk: int = 10, num: int = 8) -> list[bool]:
    """Draw queries with their nearest gallery images, framed green if the identity is correct and red if not.

    The queries are chosen evenly from those with a match. Images with the identity and camera of the query are
    excluded. Distances are those of L2-normalised features.

    Args:
        predictions: Features of queries and gallery, and their files.
        out: Image file; missing parent folders are created.
        topk: Number of gallery images per query.
        num: Number of queries.

    Returns:
        For each query, whether the identity of its first gallery image is correct.

    Raises:
        UserError: No query has a match, or the suffix of the file is not an image format.
    """
    chosen = _select_queries(predictions, num)
    figure = Figure(figsize=(0.8 * (topk + 1.4), 1.9 * len(chosen)), layout='constrained', dpi=120)
    grid = figure.subplots(len(chosen), topk + 1, squeeze=False, width_ratios=[1.2] + [1] * topk)
    for axes in grid.flat:
        axes.set_axis_off()
    hits = []
    for row, (query, ranking) in zip(grid, _rankings(predictions, chosen, topk), strict=True):
        correct = predictions.tags.pid[ranking] == predictions.tags.pid[query]
        hits.append(bool(correct[0]))
        _draw(row[0], predictions, query, QUERY, 'query')
        for axes, image, is_correct in zip(row[1:], ranking, correct, strict=False):
            _draw(axes, predictions, image, CORRECT if is_correct else WRONG)
    try:
        with atomic_write(out) as partial:
            figure.savefig(partial)
    except ValueError as error:
        raise UserError(f'{out} cannot be written: {error}') from error
    return hits


def _select_queries(predictions: Predictions, num: int) -> np.ndarray:
    """Return the indices of at most ``num`` queries with a match, evenly spaced."""
    tags, is_query = predictions.tags, predictions.is_query
    gallery = set(zip(tags.pid[~is_query], tags.camera[~is_query], strict=True))
    cameras_of: dict[int, set[int]] = {}
    for pid, camera in gallery:
        cameras_of.setdefault(pid, set()).add(camera)
    queries = np.flatnonzero(is_query)
    matched = [q for q in queries if cameras_of.get(tags.pid[q], set()) - {tags.camera[q]}]
    if not matched:
        raise UserError('no query has a match from another camera in the gallery: complete the test set')
    indices = np.linspace(0, len(matched) - 1, min(num, len(matched))).round().astype(int)
    return np.array(matched)[indices]


def _rankings(predictions: Predictions, queries: np.ndarray, topk: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each query with the indices of its nearest gallery images."""
    feature, tags = F.normalize(predictions.feature), predictions.tags
    gallery = np.flatnonzero(~predictions.is_query)
    (distances,) = distance_blocks(feature[queries], feature[gallery], len(queries) * len(gallery))
    for query, distance in zip(queries, distances, strict=True):
        yield query, gallery[nearest(distance, tags[query], tags[gallery], topk)]


def _draw(axes: Axes, predictions: Predictions, index: int, colour: str, label: str = '') -> None:
    """Draw an image with a frame; the title is its identity and camera (numbered as in the release)."""
    image = Image.fromarray(read_image(predictions.img_path[index]))
    axes.imshow(image.resize((128, 256), Image.Resampling.BICUBIC))
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], ylabel=label)
    axes.set_title(f'{predictions.tags.pid[index]} c{predictions.tags.camera[index] + 1}', fontsize=8, pad=3)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=3)
