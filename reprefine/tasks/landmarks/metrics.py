"""Failure rate and area under the error curve of facial landmarks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from reprefine.registry import METRICS

from .functional import area_under_curve, failure_rate, normalized_errors


@METRICS.register_module()
class LandmarkErrorRates(BaseMetric):
    """FR and AUC of the normalised errors of faces, as reported for WFLW with the mean error (mmpose's ``NME``).

    mmpose's ``AUC`` averages over landmarks instead of faces, in pixels.

    Args:
        threshold: Largest error of a success, in units of the reference distance.
        reference: The two landmarks whose distance is the unit; default the outer eye corners of WFLW.
        **kwargs: Arguments of mmengine's ``BaseMetric``.
    """

    def __init__(self, threshold: float = 0.1, reference: Sequence[int] = (60, 72), **kwargs: Any):
        super().__init__(**kwargs)
        self.threshold = threshold
        self.reference = tuple(reference)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the error of each face of a batch.

        Args:
            data_batch: Not used.
            data_samples: Each with ``keypoints`` of shape (n, K, 2) in ``pred_instances`` and ``gt_instances``, and
                ``keypoints_visible`` of shape (n, K) or (n, K, 2) in the latter.
        """
        for sample in data_samples:
            predicted, annotated = sample['pred_instances']['keypoints'], sample['gt_instances']['keypoints']
            visible = sample['gt_instances']['keypoints_visible']
            valid = (visible[..., 0] if visible.ndim == 3 else visible) > 0
            self.results.extend(normalized_errors(predicted, annotated, valid, self.reference).tolist())

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Return ``FR@t`` and ``AUC@t`` over all faces with a valid landmark."""
        errors = np.array(results)
        errors = errors[np.isfinite(errors)]
        return {
            f'FR@{self.threshold:.2f}': failure_rate(errors, self.threshold),
            f'AUC@{self.threshold:.2f}': area_under_curve(errors, self.threshold),
        }
