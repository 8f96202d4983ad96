import numpy as np
import pytest
from mmengine.registry import METRICS, init_default_scope

from reprefine.engine.cli.launch import load_config
from reprefine.tasks.landmarks import LandmarkErrorRates
from tests.helpers.run import ROOT

# Landmarks that a horizontal flip swaps, from the annotation scheme of WFLW.
FLIPPED = {
    **{i: 32 - i for i in range(16)}, 33: 46, 34: 45, 35: 44, 36: 43, 37: 42, 38: 50, 39: 49, 40: 48, 41: 47, 55: 59,
    56: 58, 60: 72, 61: 71, 62: 70, 63: 69, 64: 68, 65: 75, 66: 74, 67: 73, 76: 82, 77: 81, 78: 80, 83: 87, 84: 86,
    88: 92, 89: 91, 93: 95, 96: 97,
}  # fmt: skip


def samples(count: int = 6, all_valid: bool = False) -> list[dict]:
    rng = np.random.default_rng(0)
    annotated = rng.uniform(0, 200, (count, 1, 98, 2)).astype(np.float32)
    predicted = annotated + rng.normal(0, 8, annotated.shape).astype(np.float32)
    valid = (rng.random((count, 1, 98)) < (2 if all_valid else 0.7)).astype(np.float32)
    return [
        dict(pred_instances=dict(keypoints=p), gt_instances=dict(keypoints=a, keypoints_visible=v))
        for p, a, v in zip(predicted, annotated, valid, strict=True)
    ]


def evaluate(metric, batch):
    metric.process({}, batch)
    return metric.evaluate(len(batch))


def test_rates_of_a_shift():
    batch = samples(all_valid=True)
    for sample in batch:
        annotated = sample['gt_instances']['keypoints']
        distance = np.linalg.norm(annotated[:, 60] - annotated[:, 72], axis=-1)
        sample['pred_instances']['keypoints'] = annotated + np.array([0.05 * distance.item(), 0], np.float32)
    rates = evaluate(LandmarkErrorRates(), batch)
    assert rates == {'FR@0.10': 0, 'AUC@0.10': pytest.approx(0.5, abs=1e-5)}


def test_agrees_with_the_mean_error_of_mmpose():
    pytest.importorskip('mmpose')
    init_default_scope('mmpose')
    nme = METRICS.build(dict(type='NME', norm_mode='keypoint_distance', keypoint_indices=None))
    nme.dataset_meta = dict(dataset_name='wflw')
    batch = samples(all_valid=True)
    mean = evaluate(nme, batch)['NME']
    assert mean > 0.01
    # Where no error exceeds the threshold, the area is linear in the mean error.
    threshold = 10.0
    rates = evaluate(LandmarkErrorRates(threshold), batch)
    assert rates['FR@10.00'] == 0
    assert rates['AUC@10.00'] == pytest.approx(1 - mean / threshold, rel=1e-5)


def test_invisible_landmarks_and_faces_without_any_are_skipped():
    batch = samples()
    before = evaluate(LandmarkErrorRates(), batch)
    for sample in batch:
        hidden = sample['gt_instances']['keypoints_visible'][0] == 0
        sample['pred_instances']['keypoints'][0, hidden] += 1e4
        weights = np.ones_like(sample['gt_instances']['keypoints_visible'])
        pair = np.stack([sample['gt_instances']['keypoints_visible'], weights], axis=-1)
        sample['gt_instances']['keypoints_visible'] = pair
    empty = samples(1)[0]
    empty['gt_instances']['keypoints_visible'][:] = 0
    assert evaluate(LandmarkErrorRates(), [*batch, empty]) == before


@pytest.mark.parametrize('name', ['hrnetv2-w18_2xb128', 'r50_2xb64'])
def test_configs_measure_both(name):
    pytest.importorskip('mmpose')
    cfg = load_config(f'{ROOT}/configs/baselines/landmarks/{name}-60e_wflw-256x256.py')
    metrics = [METRICS.build(metric) for metric in cfg.test_evaluator]
    assert [type(metric).__name__ for metric in metrics] == ['NME', 'LandmarkErrorRates']
    metrics[0].dataset_meta = dict(dataset_name='wflw')
    batch = samples(all_valid=True)
    evaluate(metrics[0], batch)
    assert tuple(metrics[0].keypoint_indices) == metrics[1].reference == (60, 72)


def test_a_flip_keeps_ten_landmarks():
    mmpose = pytest.importorskip('mmpose.datasets.datasets.utils')
    info = mmpose.parse_pose_metainfo(dict(from_file='configs/_base_/datasets/wflw.py'))
    partner = np.array(info['flip_indices'])
    assert np.array_equal(partner[partner], np.arange(98))
    assert np.flatnonzero(partner == np.arange(98)).tolist() == [16, 51, 52, 53, 54, 57, 79, 85, 90, 94]
    assert {i: j for i, j in enumerate(partner.tolist()) if i != j} == FLIPPED | {j: i for i, j in FLIPPED.items()}
