import numpy as np
import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.tasks.depth.functional import depth_metrics
from reprefine.tasks.depth.metrics import DepthMetric


def make_metric(**kwargs):
    return DepthMetric(min_depth_eval=0.001, max_depth_eval=10.0, crop_type='nyu_crop', prefix='depth', **kwargs)


def sample(seed, target=None):
    generator = torch.Generator().manual_seed(seed)
    depth, random = (0.5 + 9 * torch.rand(1, 480, 640, generator=generator) for _ in range(2))
    target = random if target is None else target
    return dict(pred_depth_map=dict(data=depth), gt_depth_map=dict(data=target), img_path='room_1.jpg')


def test_window_of_eigen_et_al():
    target = torch.full((480, 640), 5.0)
    mask = make_metric()._get_eval_mask(target)
    assert mask.sum() == 426 * 560
    assert mask[45:471, 41:601].all()
    target[100, 100], target[101, 100] = 0.001, 10.0
    assert make_metric()._get_eval_mask(target).sum() == 426 * 560 - 2


def test_measures_are_taken_per_image_and_averaged():
    metric = make_metric()
    samples = [sample(0), sample(1), sample(2, target=torch.full((1, 480, 640), 3.0))]
    metric.process({}, samples[:2])
    metric.process({}, samples[2:])
    window = np.s_[..., 45:471, 41:601]
    single = [
        depth_metrics(s['pred_depth_map']['data'][window].flatten(), s['gt_depth_map']['data'][window].flatten())
        for s in samples
    ]
    expected = {f'depth/{name}': np.mean([values[name] for values in single]) for name in single[0]}
    assert metric.evaluate(3) == pytest.approx(expected, rel=1e-6)


def test_pixels_are_not_stored():
    metric = make_metric()
    metric.process({}, [sample(0)])
    assert all(isinstance(value, float) for value in metric.results[0].values())


def test_images_without_depth_are_skipped():
    metric = make_metric()
    metric.process({}, [sample(0), sample(1, target=torch.zeros(1, 480, 640))])
    both = metric.evaluate(2)
    metric.process({}, [sample(0)])
    assert both == pytest.approx(metric.evaluate(1))


def test_no_depth_at_all_is_refused():
    metric = make_metric()
    metric.process({}, [sample(0, target=torch.zeros(1, 480, 640))])
    with pytest.raises(UserError, match='no image has depth'):
        metric.evaluate(1)
