"""Chance level of each benchmark: the metric of a predictor that does not use the images."""

from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS

from reprefine.tasks.depth.functional import depth_metrics
from reprefine.tasks.landmarks.functional import normalized_errors

RANKINGS = 20
EYE_CORNERS = (60, 72)
# The crop of a 480x640 image of NYU on which depth is evaluated.
EIGEN_CROP = (slice(45, 471), slice(41, 601))


def frequent_class(cfg: Config) -> float:
    """Return the accuracy in percent if the most frequent class is always predicted."""
    labels = _build(cfg, 'test').get_gt_labels()
    return 100 * np.bincount(labels).max() / len(labels)


def queue_size(cfg: Config) -> float:
    """Return the contrastive loss if all keys have the same similarity: ln (K + 1)."""
    return float(np.log(cfg.model.queue_len + 1))


def random_ranking(cfg: Config) -> float:
    """Return the mean average precision in percent of a random ranking of the gallery, averaged over 20 rankings."""
    dataset, rng = _build(cfg, 'test'), np.random.default_rng(0)
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    values = []
    for _ in range(RANKINGS):
        metric = METRICS.build(cfg.test_evaluator)
        features = torch.from_numpy(rng.standard_normal((len(samples), 64)).astype(np.float32))
        metric.process(None, [{**sample, 'feature': row} for sample, row in zip(samples, features, strict=True)])
        values.append(metric.evaluate(len(samples))['reid/mAP'])
    return float(np.mean(values))


def no_detection(cfg: Config) -> float:
    """Return the average precision of boxes that match no object."""
    return 0.0


def frequent_pixel(cfg: Config) -> float:
    """Return the mean IoU in percent, over classes that occur, if the most frequent class is predicted everywhere."""
    dataset = _build(cfg, 'test')
    ignored = dataset.ignore_index
    counts = np.zeros(256, dtype=np.int64)
    for sample in dataset:
        counts += np.bincount(sample['data_samples'].gt_sem_seg.data.numpy().ravel(), minlength=256)
    counts[ignored] = 0
    return 100 * counts.max() / counts.sum() / np.count_nonzero(counts)


def mean_depth(cfg: Config) -> float:
    """Return the percentage of depths within a factor of 1.25 of the mean depth of the training pixels."""
    mean = torch.cat([_valid(sample) for sample in _build(cfg, 'train')]).mean()
    tests = [_valid(sample, EIGEN_CROP) for sample in _build(cfg, 'test')]
    return 100 * float(np.mean([depth_metrics(mean.expand_as(depth), depth)['d1'] for depth in tests]))


def _valid(sample: dict, crop: tuple[slice, slice] = (slice(None), slice(None))) -> torch.Tensor:
    depth = sample['data_samples'].gt_depth_map.data.squeeze(0)[crop]
    return depth[depth > 0.001]


def mean_shape(cfg: Config) -> float:
    """Return the normalised mean error in percent if the mean landmarks of the training boxes are predicted."""
    train, test = (_faces(_build(cfg, name)) for name in ('train', 'test'))
    shape = np.mean([(points - centre) / scale for points, centre, scale in train], axis=0)
    errors = [
        normalized_errors((shape * scale + centre)[None], points[None], np.ones((1, len(points))), EYE_CORNERS)
        for points, centre, scale in test
    ]
    return 100 * float(np.mean(errors))


def _faces(dataset: object) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(info['keypoints'][0], info['bbox_center'][0], info['bbox_scale'][0]) for info in infos]


def _build(cfg: Config, split: str) -> object:
    return DATASETS.build(cfg[f'{split}_dataloader'].dataset)


CHANCE: dict[str, Callable[[Config], float]] = {
    function.__name__: function
    for function in (
        frequent_class,
        queue_size,
        random_ranking,
        no_detection,
        frequent_pixel,
        mean_depth,
        mean_shape,
    )
}
