"""Accuracy on long-tailed data, for all classes and for many-, medium- and few-shot classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmpretrain.evaluation.metrics import Accuracy
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import METRICS

from .image_lists import class_counts, read_list


def shot_accuracy(predicted: Tensor, truth: Tensor, counts: Tensor, many: int = 100, few: int = 20) -> dict[str, float]:
    """Return the accuracy in percent on three groups of classes; groups without images are left out.

    Args:
        predicted: Predicted classes ``[N]``.
        truth: True classes ``[N]``.
        counts: Number of training images of each class ``[C]``.
        many: Classes with more training images than this are ``many_shot``.
        few: Classes with fewer than this are ``few_shot``; the others are ``medium_shot``.
    """
    shots = counts[truth]
    groups = dict(many_shot=shots > many, medium_shot=(shots >= few) & (shots <= many), few_shot=shots < few)
    correct = (predicted == truth).double()
    return {name: 100 * correct[group].mean().item() for name, group in groups.items() if group.any()}


@METRICS.register_module()
class ShotAccuracy(Accuracy):
    """Top-k accuracy, and top-1 on classes with many, some and few training images: ``{many,medium,few}_shot``.

    Args:
        train_list: Image list of the training set, ``path label`` in each line; read when metrics are computed.
        many: Classes with more training images than this are ``many_shot``.
        few: Classes with fewer than this are ``few_shot``.
        **kwargs: Arguments of mmpretrain's ``Accuracy``.

    Raises:
        UserError: ``few`` is above ``many``.
    """

    def __init__(self, train_list: str, many: int = 100, few: int = 20, **kwargs: Any) -> None:
        if few > many:
            raise UserError(f'ShotAccuracy: few={few} is above many={many}: give few <= many')
        super().__init__(**kwargs)
        self.train_list, self.many, self.few = train_list, many, few

    def compute_metrics(self, results: Sequence[dict[str, Tensor]]) -> dict[str, float]:
        """Return the accuracies in percent.

        Raises:
            UserError: The list of training images is missing or corrupted.
        """
        truth = torch.cat([result['gt_label'] for result in results])
        predicted = torch.stack([_predicted(result) for result in results])
        counts = class_counts(read_list(Path(self.train_list)), at_least=int(truth.max()) + 1)
        shots = shot_accuracy(predicted, truth, torch.from_numpy(counts), self.many, self.few)
        return super().compute_metrics(results) | shots


def _predicted(result: dict[str, Tensor]) -> Tensor:
    return result['pred_score'].argmax() if 'pred_score' in result else result['pred_label'].squeeze()
