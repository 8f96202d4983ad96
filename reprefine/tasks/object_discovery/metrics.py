"""CorLoc: the share of images whose predicted box is correct."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torchvision.ops import box_iou

from reprefine.engine.errors import UserError
from reprefine.registry import METRICS


def is_localized(box: Tensor, objects: Tensor, iou_thr: float = 0.5) -> bool:
    """Return whether a box (4,) has an intersection over union above ``iou_thr`` with any of the objects (N, 4)."""
    return bool((box_iou(box[None], objects) > iou_thr).any())


@METRICS.register_module()
class CorLoc(BaseMetric):
    """Correct localisation: the share of images whose box has an IoU above a threshold with any object, in percent.

    Evaluates the box with the highest score of each image. Images without an object are skipped.

    Args:
        iou_thr: IoU that a correct box exceeds.
        with_ignored: Whether objects that detection ignores are included: the difficult objects of VOC, which
            published results include, or the crowds of COCO, which they exclude.
        **kwargs: Other arguments of mmengine's ``BaseMetric``.
    """

    default_prefix = 'discovery'

    def __init__(self, iou_thr: float = 0.5, with_ignored: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.iou_thr = iou_thr
        self.with_ignored = with_ignored

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Store for each image of a batch whether its box is correct."""
        for sample in data_samples:
            keys = ('gt_instances', 'ignored_instances')[: 1 + self.with_ignored]
            objects = torch.cat([_boxes(sample[key]) for key in keys if key in sample])
            if len(objects):
                predicted = sample['pred_instances']
                scores = predicted['scores']
                best = _boxes(predicted)[scores.argmax()] if len(scores) else None
                self.results.append(best is not None and is_localized(best, objects, self.iou_thr))

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Return the share in percent.

        Raises:
            UserError: If no image has an object.
        """
        if not results:
            raise UserError('CorLoc: no image of the test set has an object: check ann_file of the dataset')
        return {'CorLoc': 100 * sum(results) / len(results)}


def _boxes(instances: Any) -> Tensor:
    """Return the boxes of a prediction or an annotation on the CPU, shape (N, 4)."""
    boxes = instances['bboxes']
    return torch.as_tensor(getattr(boxes, 'tensor', boxes)).detach().cpu().float().view(-1, 4)
