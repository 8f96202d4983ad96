import numpy as np
import pytest
from mmdet.evaluation.functional.mean_ap import eval_map

from reprefine.tasks.detection.metrics import VOCAveragePrecision, class_average_precision

THRESHOLDS = [0.5, 0.55, 0.75, 0.95]
CLASSES = ('a', 'b', 'c')


def random_results(rng, images=1):
    """Jittered copies of true boxes, some of them twice, and false ones; class c never occurs."""
    results = []
    for _ in range(images):
        corner = rng.uniform(0, 60, (6, 2))
        boxes = np.hstack([corner, corner + rng.uniform(10, 40, (6, 2))]).astype(np.float32)
        labels = rng.integers(0, 2, 6)
        found = np.vstack([boxes + rng.normal(0, 1.5, boxes.shape), boxes[:2], boxes[::-1] + 20])
        dets = np.hstack([found, rng.uniform(0, 1, (len(found), 1))]).astype(np.float32)
        classes = np.concatenate([labels, labels[:2], labels])
        annotation = dict(bboxes=boxes[:5], labels=labels[:5], bboxes_ignore=boxes[5:], labels_ignore=labels[5:])
        results.append((annotation, [dets[classes == label] for label in range(3)]))
    return results


def compute(results, **kwargs):
    metric = VOCAveragePrecision(iou_thrs=THRESHOLDS, **kwargs)
    metric.dataset_meta = dict(classes=CLASSES, dataset_type='VOC2007')
    return metric.compute_metrics(results)


@pytest.mark.parametrize('eval_mode', ['11points', 'area'])
@pytest.mark.parametrize('seed', range(5))
def test_equals_mmdet_on_single_images(eval_mode, seed):
    """mmdet forks no processes for one image."""
    results = random_results(np.random.default_rng(seed))
    metrics = compute(results, eval_mode=eval_mode)
    (annotation, dets) = results[0]
    for threshold in THRESHOLDS:
        expected, _ = eval_map(
            [dets], [annotation], iou_thr=threshold, eval_mode=eval_mode, use_legacy_coordinate=True, logger='silent'
        )
        assert metrics[f'AP{round(100 * threshold)}'] == pytest.approx(expected, abs=1e-6)
    assert metrics['mAP'] == pytest.approx(np.mean([metrics[key] for key in ('AP50', 'AP55', 'AP75', 'AP95')]))


def test_several_images_by_hand():
    """Class a: two true boxes; the best-scored detection is right, the second wrong, the third right."""
    box = np.array([[0, 0, 9, 9]], np.float32)
    none = np.zeros((0, 5), np.float32)
    annotation = dict(
        bboxes=box, labels=np.array([0]), bboxes_ignore=np.zeros((0, 4)), labels_ignore=np.zeros(0, dtype=int)
    )
    first = np.array([[0, 0, 9, 9, 0.9], [50, 50, 59, 59, 0.8]], np.float32)
    second = np.array([[0, 0, 9, 9, 0.7]], np.float32)
    results = [(annotation, [first, none, none]), (annotation, [second, none, none])]
    # Precision is 1 up to recall 1/2 and 2/3 up to recall 1.
    assert compute(results, eval_mode='area')['AP50'] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert compute(results, eval_mode='11points')['AP50'] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_no_detection_at_all_is_zero():
    annotation, _ = random_results(np.random.default_rng(0))[0]
    none = np.zeros((0, 5), np.float32)
    assert compute([(annotation, [none] * 3)])['mAP'] == 0


@pytest.mark.parametrize(('last_row', 'expected'), [(4, 1.0), (3, 0.0)])
def test_boxes_include_the_pixels_of_both_ends(last_row, expected):
    """A box that ends at row 4 covers half of 10 x 10 pixels; by the differences of its corners it would be 4/9."""
    true, found = np.float32([[0, 0, 9, 9]]), np.float32([[0, 0, 9, last_row, 1]])
    values = class_average_precision([found], [true], [np.zeros((0, 4), np.float32)], [0.5], 'area')
    assert values.tolist() == [expected]
