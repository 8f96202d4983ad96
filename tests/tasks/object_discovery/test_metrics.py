import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.tasks.object_discovery import CorLoc
from reprefine.tasks.object_discovery.metrics import is_localized


def iou_by_pixels(a: list[int], b: list[int]) -> float:
    pixels = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (a, b)]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def test_iou_equals_that_of_pixels():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(200):
        corners = torch.randint(1, 5, (4, 4), generator=generator)
        boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)
        overlaps = [iou_by_pixels(boxes[0].tolist(), other.tolist()) for other in boxes[1:]]
        hits += any(overlap > 0.5 for overlap in overlaps)
        assert is_localized(boxes[0].float(), boxes[1:].float()) == any(overlap > 0.5 for overlap in overlaps)
    assert 10 < hits < 190


def sample(found: list, objects: list, ignored: list = (), scores: list | None = None) -> dict:
    boxes = {name: dict(bboxes=torch.tensor(value).float().view(-1, 4)) for name, value in
             dict(gt_instances=objects, ignored_instances=list(ignored), pred_instances=found).items()}  # fmt: skip
    boxes['pred_instances']['scores'] = torch.tensor(scores or [1.0] * len(found))
    return boxes


def measure(samples: list[dict], **kwargs) -> float:
    metric = CorLoc(**kwargs)
    metric.process({}, samples)
    return metric.evaluate(len(samples))['discovery/CorLoc']


BOX, ELSEWHERE = [0, 0, 10, 10], [50, 50, 60, 60]
HALF = [0, 0, 10, 20]  # overlaps BOX by exactly one half


def test_corloc_is_the_share_of_images():
    samples = [
        sample([BOX], [ELSEWHERE, BOX]),
        sample([BOX], [ELSEWHERE]),
        sample([BOX], [HALF]),
        sample([], [BOX]),
        sample([ELSEWHERE, BOX], [BOX], scores=[0.1, 0.9]),
    ]
    assert measure(samples) == pytest.approx(40)
    assert measure(samples, iou_thr=0.4) == pytest.approx(60)


def test_ignored_objects_are_included_if_with_ignored():
    samples = [sample([BOX], [ELSEWHERE], [BOX]), sample([BOX], [], [BOX]), sample([BOX], [])]
    assert measure(samples) == 100
    assert measure(samples, with_ignored=False) == 0


def test_a_test_set_without_objects_is_refused():
    with pytest.raises(UserError, match='no image of the test set has an object'):
        measure([sample([BOX], [])])
