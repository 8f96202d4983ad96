"""Evaluation of depth maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmseg.evaluation import DepthMetric as MMSegDepthMetric

from reprefine.engine.errors import UserError
from reprefine.registry import METRICS

from .functional import depth_metrics


@METRICS.register_module()
class DepthMetric(MMSegDepthMetric):
    """mmseg's ``DepthMetric`` with the usual SILog, which stores nine numbers per image instead of its pixels.

    SILog is 100 times the standard deviation of the log error; mmseg subtracts half of the squared mean only. The
    measures are taken for each image and averaged over the images that have a valid pixel.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compute the measures of each image of a batch."""
        start = len(self.results)
        super().process(data_batch, data_samples)
        self.results[start:] = [depth_metrics(depth, target) for target, depth in self.results[start:]]

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Return the mean of each measure over the images.

        Raises:
            UserError: If no image has a valid pixel.
        """
        if self.format_only:
            return {}
        measured = [result for result in results if not np.isnan(result['d1'])]
        if not measured:
            raise UserError(
                'DepthMetric: no image has depth within min_depth_eval, max_depth_eval and crop_type: change these'
            )
        return {name: float(np.mean([result[name] for result in measured])) for name in self.metrics}
