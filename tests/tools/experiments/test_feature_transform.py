"""Values that the end-to-end experiment of feature transformation reads from logs and tests of its jobs."""

import json

import pytest

from tests.helpers.run_tool import import_beside

experiment = import_beside('experiments/feature_transform.py', 'feature_transform')


def write_log(work_dir, *records):
    folder = work_dir / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(record) for record in records))


def test_last_scores_accuracies_and_time_are_those_of_the_logs(tmp_path):
    step = dict(lr=0.1, epoch=1)
    write_log(
        tmp_path,
        dict(step, time=2.0, step=10, neg_mean=0.9),
        dict(step=1, knn_top1=50.0),
        dict(step, time=4.0, step=20, neg_mean=0.1),
        dict(step=2, knn_top1=60.0),
        dict(step, time=2.0, step=30, neg_mean=0.2),
    )
    for probe, accuracy in (('linear', 70.0), ('digits', 80.0)):
        write_log(tmp_path / probe, dict(step, time=0.5, step=40))
        (tmp_path / probe / 'test.json').write_text(json.dumps({'accuracy/top1': accuracy}))
    values = experiment.read_values(tmp_path)
    assert values == dict(knn=60.0, neg_mean=0.2, linear=70.0, digits=80.0, seconds=pytest.approx(2 * 30 + 2 * 20))


def test_variants_have_equal_budgets_and_differ_in_the_config_only():
    trained = experiment.VARIANTS[:-1]
    assert {(variant.epochs, variant.options) for variant in trained} == {(60, ())}
    assert len({variant.config for variant in trained}) == len(trained)
    jobs = [experiment.make_jobs(variant, 1, experiment.Path('/out'), 8192)[0] for variant in trained]
    options = {tuple(job.command[job.command.index('--cfg-options') :]) for job in jobs}
    assert len(options) == 1
    assert 'model.queue_len=8192' in options.pop()
