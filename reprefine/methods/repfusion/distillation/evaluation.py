"""Evaluation of a student on held-out images: how much of the variance of the teacher's features it explains."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.structures import BaseDataElement
from torch import Tensor

from reprefine.registry import METRICS

from .loss_functions import global_average_pool


def r_squared(predictions: Tensor, targets: Tensor) -> float:
    """Return the coefficient of determination ``R^2``, over all channels together.

    It is 1 for a perfect prediction, 0 for the mean of the targets, and negative for worse ones.

    Args:
        predictions: ``[N, C]``.
        targets: ``[N, C]``; NaN is returned if they are constant.
    """
    predictions, targets = predictions.double(), targets.double()
    unexplained = (predictions - targets).square().sum()
    total = (targets - targets.mean(dim=0)).square().sum()
    return (1 - unexplained / total).item() if total > 0 else float('nan')


def feature_samples(
    student: Sequence[Tensor], teacher: Sequence[Sequence[Tensor]], timesteps: Sequence[int]
) -> list[BaseDataElement]:
    """Return the pooled features of each image.

    Args:
        student: Projected map ``[N, C_l, H, W]`` of each pair ``l`` of layers.
        teacher: Map ``[N, C_l, H', W']`` of each pair, at each of the ``T`` timesteps.
        timesteps: The timesteps ``[T]``.

    Returns:
        A data element for each image: ``student_feats``, a feature ``[C_l]`` for each pair; ``teacher_feats``, features
        ``[T, C_l]`` for each pair; and ``timesteps``.
    """
    pooled = [global_average_pool(recorded) for recorded in student]
    rows = [[global_average_pool(recorded) for recorded in maps] for maps in teacher]
    targets = [torch.stack(columns, dim=1) for columns in zip(*rows, strict=True)]
    names = dict(timesteps=tuple(timesteps))
    return [
        BaseDataElement(student_feats=[p[i] for p in pooled], teacher_feats=[f[i] for f in targets], metainfo=names)
        for i in range(len(pooled[0]))
    ]


@METRICS.register_module()
class StudentR2(BaseMetric):
    """``R^2`` of a student's projected and pooled features, see :func:`r_squared`.

    The keys are ``r2/t<timestep>`` for each of the distiller's ``eval_timesteps``, and ``r2/mean``, the mean over them;
    with several pairs of layers, means over the pairs.
    """

    default_prefix = 'r2'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Store the features of a batch."""
        self.timesteps = data_samples[0]['timesteps']
        for sample in data_samples:
            pairs = zip(sample['student_feats'], sample['teacher_feats'], strict=True)
            self.results.append([(student.cpu(), teacher.cpu()) for student, teacher in pairs])

    def compute_metrics(self, results: list[list[tuple[Tensor, Tensor]]]) -> dict[str, float]:
        """Return ``R^2`` at each timestep, and its mean."""
        values = torch.zeros(len(self.timesteps), dtype=torch.float64)
        for pair in zip(*results, strict=True):
            student, teacher = (torch.stack(column) for column in zip(*pair, strict=True))
            at_timesteps = [r_squared(student, teacher[:, index]) for index in range(len(self.timesteps))]
            values += torch.tensor(at_timesteps, dtype=torch.float64) / len(results[0])
        columns = {f't{t:04d}': value for t, value in zip(self.timesteps, values.tolist(), strict=True)}
        return columns | {'mean': values.mean().item()}
