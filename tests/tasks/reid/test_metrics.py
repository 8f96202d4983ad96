import numpy as np
import pytest
import torch
from mmengine.registry import METRICS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.tasks.reid import ReIDMetric, ReIDTTAModel
from reprefine.tasks.reid.functional import Tags
from reprefine.tasks.reid.predictions import Predictions
from tests.helpers.forked import run_ranks

from . import references, workers


def draw(queries=12, gallery=50, identities=6, scale=True):
    """Features of unequal length and the samples that carry them."""
    (q, query_pid), (g, gallery_pid) = (
        references.clustered(size, identities, 8, seed, 1.5) for size, seed in ((queries, 1), (gallery, 2))
    )
    rng = np.random.default_rng(3)
    tags = Tags(query_pid, rng.integers(3, size=queries)), Tags(gallery_pid, rng.integers(3, size=gallery))
    if scale:
        g = g * torch.from_numpy(rng.uniform(0.5, 2, (gallery, 1)).astype(np.float32))
    return q, g, *tags


def samples_of(features, tags, role):
    return [
        dict(feature=feature, pid=int(pid), camera=int(camera), role=role, img_path=f'{role}{number}.jpg')
        for number, (feature, pid, camera) in enumerate(zip(features, tags.pid, tags.camera, strict=True))
    ]


def evaluate(data, **arguments):
    queries, gallery, query_tags, gallery_tags = data
    metric = ReIDMetric(**arguments)
    samples = samples_of(queries, query_tags, 'query') + samples_of(gallery, gallery_tags, 'gallery')
    for start in range(0, len(samples), 7):
        metric.process(None, samples[start : start + 7])
    return metric.evaluate(len(samples))


def unit(features):
    return features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)


def prefixed(metrics):
    return pytest.approx({f'reid/{name}': value for name, value in metrics.items()}, rel=1e-9)


def test_distances():
    queries, gallery, *tags = data = draw()
    cosine = 1 - unit(queries).astype(float) @ unit(gallery).astype(float).T
    euclidean = references.pairwise(queries.numpy(), gallery.numpy())
    expected = references.evaluate(cosine, *tags)
    assert evaluate(data) == prefixed(expected)
    assert evaluate(data, distance='cosine', normalize=False) == prefixed(expected)
    unscaled = references.evaluate(euclidean, *tags)
    assert evaluate(data, normalize=False) == prefixed(unscaled)
    assert abs(expected['mAP'] - unscaled['mAP']) > 1


def test_reranking():
    queries, gallery, *tags = data = draw()
    distance = references.rerank(unit(queries), unit(gallery), 9, 4, 0.3)
    assert evaluate(data, rerank=dict(k1=9, k2=4, lambda_value=0.3)) == prefixed(references.evaluate(distance, *tags))


def test_topk():
    assert evaluate(draw(), topk=(1, 7)).keys() == {'reid/mAP', 'reid/mINP', 'reid/CMC-1', 'reid/CMC-7'}


def test_queries_without_a_match_are_skipped():
    queries, gallery, query_tags, gallery_tags = draw()
    unmatched = Tags(np.append(query_tags.pid, 99), np.append(query_tags.camera, 0))
    more = torch.cat([queries, torch.ones(1, 8)])
    assert evaluate((more, gallery, unmatched, gallery_tags)) == evaluate((queries, gallery, query_tags, gallery_tags))


def test_half_precision_features_are_accepted():
    queries, gallery, *tags = draw(scale=False)
    full = evaluate((queries.half().float(), gallery.half().float(), *tags))
    assert evaluate((queries.half(), gallery.half(), *tags)) == full


def test_out_file_has_the_features_of_all_images(tmp_path):
    queries, gallery, query_tags, gallery_tags = data = draw()
    metrics = evaluate(data, out_file=str(tmp_path / 'new' / 'features.npz'))
    predictions = Predictions.load(tmp_path / 'new' / 'features.npz')
    assert torch.equal(predictions.feature, torch.cat([queries, gallery]))
    assert predictions.is_query.tolist() == [True] * 12 + [False] * 50
    assert predictions.tags[predictions.is_query].pid.tolist() == query_tags.pid.tolist()
    assert predictions.tags[~predictions.is_query].camera.tolist() == gallery_tags.camera.tolist()
    assert predictions.img_path[[0, 12]].tolist() == ['query0.jpg', 'gallery0.jpg']
    assert prefixed(ReIDMetric().evaluate_predictions(predictions)) == metrics


def test_registered_under_its_name():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        metric = METRICS.build(dict(type='reprefine.ReIDMetric', topk=[1]))
    assert metric.topk == (1,)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda q, g, qt, gt: (q * torch.nan, g, qt, gt), 'NaN'),
        (lambda q, g, qt, gt: (q, g, Tags(qt.pid + 50, qt.camera), gt), 'no query has a match'),
        (lambda q, g, qt, gt: (q, g[:0], qt, gt[:0]), '12 queries and 0 gallery images'),
        (lambda q, g, qt, gt: (q[:0], g, qt[:0], gt), '0 queries and 50 gallery images'),
    ],
)
def test_features_that_cannot_be_ranked_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        evaluate(change(*draw()))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(distance='l1'), 'choose from euclidean, cosine'),
        (dict(out_file='a.pkl'), 'end with .npz'),
        (dict(rerank=dict(k1=9, k3=2)), 'rerank takes no k3; choose from k1, k2, lambda_value'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        ReIDMetric(**arguments)


def test_predictions_without_features_are_refused():
    with pytest.raises(UserError, match="no field 'feature'"):
        ReIDMetric().process(None, [dict(pred_score=torch.ones(2), pid=0)])


class Brightness(nn.Module):
    """A model whose features differ for the left and the right half of an image."""

    def test_step(self, data):
        for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
            sample.set_field(image.float().mean((0, 1)), 'feature')
        return data['data_samples']


def test_views_are_averaged():
    images = torch.rand(3, 3, 4, 2)
    views = [images, images.flip(3)]
    samples = [[DataSample(metainfo=dict(pid=pid, role='query')) for pid in range(3)] for _ in views]
    merged = ReIDTTAModel(Brightness()).test_step(dict(inputs=views, data_samples=samples))
    assert [sample.pid for sample in merged] == [0, 1, 2]
    for image, sample in zip(images, merged, strict=True):
        torch.testing.assert_close(sample.feature, image.mean().expand(2))
        assert sample.role == 'query'


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    run_ranks(workers.work, str(folder))
    return folder, [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(2)]


def test_two_processes_evaluate_every_image_once(two_processes, tmp_path):
    folder, ranks = two_processes
    expected, seen = workers.evaluate(str(tmp_path / 'one.npz'))
    assert seen == 21
    # Each process has seen 11 of the 21 images: the sampler has repeated the first one.
    assert [rank['metrics'] for rank in ranks] == [(expected, 11)] * 2
    one, two = (Predictions.load(path) for path in (tmp_path / 'one.npz', folder / 'two.npz'))
    assert two.img_path.tolist() == [f'{number}.jpg' for number in range(21)]
    assert torch.equal(one.feature, two.feature)


def test_two_processes_train_on_the_batches_of_one(two_processes):
    first, second = (rank['batches'] for rank in two_processes[1])
    assert [a + b for a, b in zip(first, second, strict=True)] == workers.draw_batches(4)
    assert len(first) > 1
