"""Retrieval metrics of person re-identification."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from rich.progress import track

from reprefine.engine.errors import UserError
from reprefine.registry import METRICS

from .functional import Tags, distance_blocks, match_ranks, retrieval_metrics, row_blocks
from .predictions import Predictions
from .rerank import rerank_blocks

DISTANCES = ('euclidean', 'cosine')
RERANK_ARGUMENTS = {'k1', 'k2', 'lambda_value'}


@METRICS.register_module()
class ReIDMetric(BaseMetric):
    """mAP, mINP and CMC in percent, over one dataset with queries and gallery.

    Reads ``feature`` (shape (D,)), ``pid``, ``camera``, ``role`` and ``img_path`` of each data sample. Gallery images
    with the identity and camera of the query are excluded, and so are queries without a match.

    Args:
        distance: ``euclidean`` or ``cosine``. The cosine distance always normalises features; both rank normalised
            features equally.
        normalize: Whether to L2-normalise features before the Euclidean distance.
        topk: Ranks of the CMC.
        rerank: Any of ``k1``, ``k2`` and ``lambda_value`` of
            :func:`~reprefine.tasks.reid.rerank.rerank_blocks`; None for no re-ranking.
        out_file: ``.npz`` file to write with the features and tags of all images.
        **kwargs: Arguments of mmengine's ``BaseMetric``.

    Raises:
        UserError: The distance or an argument of the re-ranking is unknown, or the suffix of the file is not .npz.
    """

    default_prefix = 'reid'

    def __init__(
        self,
        distance: str = 'euclidean',
        normalize: bool = True,
        topk: Sequence[int] = (1, 5, 10),
        rerank: dict | None = None,
        out_file: str | None = None,
        **kwargs: Any,
    ):
        if distance not in DISTANCES:
            raise UserError(f'ReIDMetric: unknown distance {distance!r}; choose from {", ".join(DISTANCES)}')
        if out_file is not None and not out_file.endswith('.npz'):
            raise UserError(f'ReIDMetric: out_file {out_file} must end with .npz')
        unknown = set(rerank or ()) - RERANK_ARGUMENTS
        if unknown:
            raise UserError(
                f'ReIDMetric: rerank takes no {", ".join(unknown)}; choose from {", ".join(sorted(RERANK_ARGUMENTS))}'
            )
        super().__init__(**kwargs)
        self.normalize = normalize or distance == 'cosine'
        self.topk = tuple(topk)
        self.rerank = rerank
        self.out_file = out_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store one entry per sample, so that samples padded by a distributed sampler can be removed.

        Raises:
            UserError: The predictions have no features.
        """
        if not all('feature' in sample for sample in data_samples):
            raise UserError("ReIDMetric: predictions have no field 'feature'; use a head such as BNNeckHead")
        features = torch.stack([sample['feature'] for sample in data_samples]).detach().float().cpu().numpy()
        for feature, sample in zip(features, data_samples, strict=True):
            is_query = sample['role'] == 'query'
            self.results.append((feature, sample['pid'], sample['camera'], is_query, sample['img_path']))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Compute the metrics.

        Args:
            results: Entries that :meth:`process` stored in all processes.

        Returns:
            The metrics of :func:`~reprefine.tasks.reid.functional.retrieval_metrics`.

        Raises:
            UserError: Features are not finite, or no query has a match.
        """
        feature, pid, camera, is_query, img_path = (np.array(column) for column in zip(*results, strict=True))
        predictions = Predictions(torch.from_numpy(feature), Tags(pid, camera), is_query, img_path)
        if self.out_file:
            predictions.save(self.out_file)
        return self.evaluate_predictions(predictions)

    def evaluate_predictions(self, predictions: Predictions) -> dict[str, float]:
        """Compute the metrics of stored features.

        Args:
            predictions: Features and tags of all test images.

        Returns:
            The metrics, without the prefix.

        Raises:
            UserError: Features are not finite, or no query has a match.
        """
        is_query, tags = predictions.is_query, predictions.tags
        _check_predictions(predictions)
        blocks = row_blocks(np.count_nonzero(is_query), np.count_nonzero(~is_query))
        distances = track(
            self._distances(predictions), 'ranking', total=len(blocks), transient=True, disable=len(blocks) == 1
        )
        ranks = match_ranks(distances, tags[is_query], tags[~is_query])
        skipped = sum(len(query_ranks) == 0 for query_ranks in ranks)
        if skipped == len(ranks):
            raise UserError(
                'ReIDMetric: no query has a match from another camera in the gallery: complete the test set'
            )
        if skipped:
            print_log(f'{skipped} of {len(ranks)} queries have no match in the gallery and are skipped', 'current')
        return retrieval_metrics(ranks, self.topk)

    def _distances(self, predictions: Predictions) -> Iterator[np.ndarray]:
        feature = F.normalize(predictions.feature) if self.normalize else predictions.feature
        queries, gallery = feature[predictions.is_query], feature[~predictions.is_query]
        if self.rerank is None:
            return distance_blocks(queries, gallery)
        return rerank_blocks(queries, gallery, **self.rerank)


def _check_predictions(predictions: Predictions) -> None:
    queries, images = int(predictions.is_query.sum()), len(predictions.is_query)
    if not 0 < queries < images:
        raise UserError(
            f'ReIDMetric: {queries} queries and {images - queries} gallery images; test on the complete test set'
        )
    if not predictions.feature.isfinite().all():
        raise UserError(
            'ReIDMetric: features have NaN or infinite values, the model has diverged: use another checkpoint'
        )
