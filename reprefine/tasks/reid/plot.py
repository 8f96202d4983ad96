"""Pictures of rankings: a query a row, followed by the gallery images nearest to it."""

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

from .functional import blocks_of_distance, nearest
from .predictions import Predictions

RIGHT, WRONG, QUERY = '#1a9641', '#d7191c', '#404040'


def plot_ranking(predictions: Predictions, out: Path, topk: int = 10, num: int = 8) -> list[bool]:
    """Draw queries with their nearest gallery images, framed green where the identity is right and red where not.

    The queries are spread evenly over those that have a match. Images of a query's own identity and camera are left
    out. Distances are those of normalised features.

    Args:
        predictions: Features of queries and gallery, and their files.
        out: Image file; its folder is made.
        topk: Gallery images of each query.
        num: Number of queries.

    Returns:
        For each query drawn, whether its first image is right.

    Raises:
        UserError: No query has a match, or the file name has no known ending.
    """
    chosen = _spread_queries(predictions, num)
    figure = Figure(figsize=(0.8 * (topk + 1.4), 1.9 * len(chosen)), layout='constrained', dpi=120)
    grid = figure.subplots(len(chosen), topk + 1, squeeze=False, width_ratios=[1.2] + [1] * topk)
    for axes in grid.flat:
        axes.set_axis_off()
    hits = []
    for row, (query, ranking) in zip(grid, _rankings(predictions, chosen, topk), strict=True):
        right = predictions.tags.pid[ranking] == predictions.tags.pid[query]
        hits.append(bool(right[0]))
        _draw(row[0], predictions, query, QUERY, 'query')
        for axes, image, is_right in zip(row[1:], ranking, right, strict=False):
            _draw(axes, predictions, image, RIGHT if is_right else WRONG)
    try:
        with atomic_write(out) as partial:
            figure.savefig(partial)
    except ValueError as error:
        raise UserError(f'{out} cannot be written: {error}') from error
    return hits


def _spread_queries(predictions: Predictions, num: int) -> np.ndarray:
    """Return the indices of at most ``num`` queries that have a match."""
    tags, is_query = predictions.tags, predictions.is_query
    gallery = set(zip(tags.pid[~is_query], tags.camera[~is_query], strict=True))
    cameras_of: dict[int, set[int]] = {}
    for pid, camera in gallery:
        cameras_of.setdefault(pid, set()).add(camera)
    queries = np.flatnonzero(is_query)
    matched = [q for q in queries if cameras_of.get(tags.pid[q], set()) - {tags.camera[q]}]
    if not matched:
        raise UserError('no query has a match from another camera in the gallery: nothing to draw')
    places = np.linspace(0, len(matched) - 1, min(num, len(matched))).round().astype(int)
    return np.array(matched)[places]


def _rankings(predictions: Predictions, queries: np.ndarray, topk: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each query with the indices of its nearest gallery images."""
    feature, tags = F.normalize(predictions.feature), predictions.tags
    gallery = np.flatnonzero(~predictions.is_query)
    (distances,) = blocks_of_distance(feature[queries], feature[gallery], len(queries) * len(gallery))
    for query, distance in zip(queries, distances, strict=True):
        yield query, gallery[nearest(distance, tags[query], tags[gallery], topk)]


def _draw(axes: Axes, predictions: Predictions, index: int, colour: str, label: str = '') -> None:
    """Draw an image in a frame, with identity and camera (as counted in the release) above it."""
    image = Image.fromarray(read_image(predictions.img_path[index]))
    axes.imshow(image.resize((128, 256), Image.Resampling.BICUBIC))
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[], ylabel=label)
    axes.set_title(f'{predictions.tags.pid[index]} c{predictions.tags.camera[index] + 1}', fontsize=8, pad=3)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=3)
