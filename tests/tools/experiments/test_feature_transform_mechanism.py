"""The mechanism of feature transformation: scores with fixed weights, and training with the transform switched off."""

import pytest
import torch
import torch.nn.functional as F

from reprefine.methods.feature_transform import FeatureTransform
from tests.helpers.run_tool import import_beside

mechanism, scores, training, records = (
    import_beside('experiments/feature_transform_mechanism.py', name)
    for name in ('feature_transform_mechanism', 'feature_transform_scores', 'moco_training', 'records')
)


@pytest.fixture(scope='module')
def vectors():
    """Queries, keys near them, and a queue that the mean of the queries is not orthogonal to."""
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(16, generator=generator)
    q = torch.randn(8, 16, generator=generator) + center
    k = q + torch.randn(8, 16, generator=generator)
    queue = torch.randn(16, 64, generator=generator) + center[:, None]
    return F.normalize(q), F.normalize(k), F.normalize(queue, dim=0)


@pytest.mark.parametrize(('pos', 'neg'), [(None, None), (0.2, None), (5.0, None), (None, 0.2), (None, 1.6), (2.0, 1.6)])
def test_the_mean_of_many_draws_is_the_closed_form(vectors, pos, neg):
    sides = {side: alpha if alpha is None else dict(alpha=alpha) for side, alpha in (('pos', pos), ('neg', neg))}
    measured = scores.measured_scores(*vectors, FeatureTransform(**sides), 4000, 1)
    expected = scores.expected_scores(scores.within(*vectors), pos, neg)
    assert measured.pop('deviation') < 1e-5
    assert measured == pytest.approx(expected, rel=0.04, abs=1e-6)
    raw = scores.expected_scores(scores.within(*vectors), None, None)
    assert (measured['pos_mean'] < raw['pos_mean'] - 0.1) == (pos is not None)
    if pos is None:
        assert measured['neg_mean'] == pytest.approx(raw['neg_mean'], abs=1e-6)
        assert (measured['neg_var'] < 0.9 * raw['neg_var']) == (neg is not None)


def test_switched_off_equals_moco_exactly_and_mmpretrain_up_to_rounding():
    off, base, ft = mechanism.VARIANTS[1:4]
    values = mechanism.training_part(None, 3, (mechanism.MOCO, off, base, ft), epochs=2, images=128)
    moco = values['MoCo']
    assert values[off.name] == moco
    assert moco['pos_mean'] == moco['raw_pos_mean']
    assert values[base.name]['loss'] == pytest.approx(moco['loss'], abs=1e-4)
    assert set(values[base.name]) == {'loss', 'knn'}
    assert values['FT']['pos_mean'] < values['FT']['raw_pos_mean']
    assert values['FT']['loss'] != moco['loss']


def test_variants_share_batches_and_draws_and_a_seed_repeats_them():
    variants = (training.Variant('a', dict(neg=None)), training.Variant('b', dict(neg=None)))
    runs = [training.train_together(variants, None, training.view_batches(1, 5, 128), 5)[1] for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0]['a'] == runs[0]['b']
    assert len(runs[0]['a']) == 2
    other = training.train_together(variants[:1], None, training.view_batches(1, 6, 128), 6)[1]
    assert other['a'] != runs[0]['a']


def test_fixed_weights_are_those_of_the_checkpoint():
    weights = training.build_moco(training.Variant('MoCo'), seed=2).state_dict()
    settings = {'MoCo': (None, None), 'FT': (2.0, 1.6)}
    before = {key: value.clone() for key, value in weights.items()}
    values = scores.fixed_weights(weights, 0, settings, draws=3)
    assert all(torch.equal(value, before[key]) for key, value in weights.items())
    for name in scores.MEASURED:
        assert values['MoCo'][name] == pytest.approx(values['MoCo'][f'expected_{name}'], abs=1e-5)
    assert values['FT']['pos_mean'] < values['MoCo']['pos_mean']
    q, k, queue = scores.training_features(weights, 0)
    assert q.shape == k.shape == (64, 128)
    assert queue.shape == (128, 2048)


def test_records_have_a_row_for_each_setting_and_start_with_its_control():
    values = dict.fromkeys((*scores.MEASURED, *(f'expected_{name}' for name in scores.MEASURED), 'deviation'), 0.5)
    parts = {f'scores_seed{seed}': dict.fromkeys(mechanism.SETTINGS, values) | dict(seconds=60) for seed in (0, 1)}
    record = mechanism.score_record(parts, [0, 1])
    records.check_record(record)
    assert [row.name for row in record.rows] == list(mechanism.SETTINGS)
    assert record.minutes == 2
    trained = {name: dict.fromkeys(mechanism.TRAINED, 0.5) for name in ('MoCo', 'FT')}
    parts = {f'epoch{start}_seed0': {**trained, 'seconds': 30} for start in mechanism.STARTS}
    record = mechanism.training_record('t', mechanism.start_rows(parts, [0]), parts, [0])
    records.check_record(record)
    assert {row.name: row.control for row in record.rows}['FT from epoch 5'] == 'MoCo from epoch 5'
    assert record.minutes == 2
