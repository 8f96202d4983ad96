"""VOC average precision at several IoU thresholds, computed in the main process."""

from collections.abc import Sequence

import numpy as np
from mmdet.evaluation.functional.mean_ap import average_precision, get_cls_results, tpfp_default
from mmdet.evaluation.metrics import VOCMetric

from reprefine.registry import METRICS


def class_average_precision(
    detections: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    ignored: Sequence[np.ndarray],
    iou_thrs: Sequence[float],
    eval_mode: str,
) -> np.ndarray | None:
    """Return the average precision of one class at each IoU threshold.

    Args:
        detections: Boxes and scores of each image, shape (N_i, 5).
        boxes: True boxes of each image, shape (M_i, 4).
        ignored: Boxes of each image whose detection is neither a true nor a false positive, shape (K_i, 4).
        iou_thrs: IoU from which a detection is a true positive.
        eval_mode: ``11points`` or ``area``.

    Returns:
        Shape (len(iou_thrs),); None if the class has no true box.
    """
    count = sum(len(image) for image in boxes)
    if not count:
        return None
    order = np.argsort(-np.concatenate([image[:, 4] for image in detections]))
    values = []
    for threshold in iou_thrs:
        # VOC counts pixels: a box from x1 to x2 is x2 - x1 + 1 wide.
        flags = [
            tpfp_default(found, true, skipped, threshold, use_legacy_coordinate=True)
            for found, true, skipped in zip(detections, boxes, ignored, strict=True)
        ]
        tp, fp = (np.cumsum(np.hstack(part)[0, order]) for part in zip(*flags, strict=True))
        precision = tp / np.maximum(tp + fp, np.finfo(np.float32).eps)
        values.append(average_precision(tp / count, precision, eval_mode))
    return np.array(values)


@METRICS.register_module()
class VOCAveragePrecision(VOCMetric):
    """mmdet's ``VOCMetric`` without the processes that it forks for every IoU threshold.

    Forking a process that runs threads may deadlock, and sorting the boxes once is enough for all thresholds. The
    values are the same: ``APxx`` at each threshold, and their mean ``mAP``.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the metrics of ``(annotation, detections by class)`` of all images."""
        annotations, detections = zip(*results, strict=True)
        per_class = []
        for label in range(len(self.dataset_meta['classes'])):
            found, boxes, ignored = get_cls_results(detections, annotations, label)
            per_class.append(class_average_precision(found, boxes, ignored, self.iou_thrs, self.eval_mode))
        means = np.mean(
            [values for values in per_class if values is not None] or [np.zeros(len(self.iou_thrs))], axis=0
        )
        metrics = {
            f'AP{round(100 * threshold)}': float(value) for threshold, value in zip(self.iou_thrs, means, strict=True)
        }
        return {'mAP': float(means.mean()), **metrics}
