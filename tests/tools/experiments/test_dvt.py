"""The end-to-end experiment of DVT: the choice of the denoiser's iterations, and its record."""

import json

import pytest
import torch

from reprefine.methods.dvt import DVTDenoiser, FeaturePairs
from tests.helpers.run_tool import import_beside

jobs = import_beside('experiments/dvt.py', 'dvt_parts.jobs')
reports = import_beside('experiments/dvt.py', 'reports.dvt')
records = import_beside('experiments/dvt.py', 'records')


@pytest.mark.parametrize(
    ('losses', 'chosen'),
    [({1: 1.0, 2: 0.5, 4: 0.498}, 2), ({1: 1.0, 2: 0.9, 4: 0.8}, 4), ({1: 1.0, 2: 1.2, 4: 0.1}, 1)],
)
def test_training_is_as_long_as_the_loss_on_validation_scenes_falls(losses, chosen):
    assert reports.stops_falling(losses) == chosen


def test_the_loss_is_that_of_stored_pairs(tmp_path):
    """0 for a denoiser that gives the targets, and the distance of its output to other targets."""
    torch.manual_seed(0)
    neck, raw = DVTDenoiser(in_channels=96, num_heads=3, grid=16), torch.randn(2, 16, 16, 96)
    torch.save({f'neck.{key}': value for key, value in neck.state_dict().items()}, tmp_path / 'iter_1.pth')
    predicted = reports.predict(tmp_path / 'iter_1.pth', raw)
    assert reports.validation_loss(tmp_path / 'iter_1.pth', raw, predicted) == pytest.approx(0, abs=1e-5)
    assert reports.validation_loss(tmp_path / 'iter_1.pth', raw, -predicted) > 2
    pairs = FeaturePairs(tmp_path / 'features', 'vit')
    pairs.write_meta({})
    pairs.write('a.jpg', raw[0].numpy(), predicted[0].numpy())
    assert all(
        torch.equal(x, y)
        for x, y in zip(reports.stored_pairs(tmp_path / 'features'), (raw[:1], predicted[:1]), strict=True)
    )


def test_views_denoisers_and_probes_of_a_repetition_have_its_seed(tmp_path):
    repetitions = [jobs.Repetition(number, number % 2, tmp_path) for number in range(4)]
    made = {job.name: job.command for job in jobs.make_jobs(repetitions, 1500, 300)}
    assert (
        'stage1.seed=3' in made['denoise patterned 3']
        and f'backbone.checkpoint={tmp_path}/vit1/vit.pth' in (made['denoise features 3'])
    )
    for name in ('train dvt 3 300', 'train patterned-control 3 300', 'probe raw 3', 'test patterned-dvt 3'):
        assert 'randomness.seed=3' in made[name]
    assert 'train_dataloader.dataset.target=raw' in made['train control 0 300']


def test_the_record_compares_with_raw_features_of_the_same_run(tmp_path, monkeypatch):
    for name, value in zip(reports.ROWS, (40, 41, 40, 30, 35, 30), strict=True):
        for run in (0, 1):
            folder = tmp_path / f'run{run}/probe_{name}'
            folder.mkdir(parents=True)
            (folder / 'test.json').write_text(json.dumps(dict(mIoU=value + run, aAcc=90.0, other=1)))
    monkeypatch.setattr(reports, 'RESULTS', tmp_path)
    monkeypatch.setattr(reports, '_draw_denoiser', lambda out, iterations: torch.zeros(4, 4, 3).byte().numpy())
    table = reports.write_record(tmp_path, 2, 1, dict(iterations=300))
    assert '| known pattern: denoiser | 35.50 ± 0.71 | +5.00 ± 0.00 |' in table
    record = records.read_record(tmp_path / 'end_to_end.json')
    assert record.seeds == [0, 1] and record.notes == dict(vits=1, iterations=300) and record.minutes == 0
