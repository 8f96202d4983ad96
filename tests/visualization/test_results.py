"""Tables and curves of repeated runs."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from reprefine.visualization.results import (
    epoch_series,
    markdown_table,
    mean_std,
    paired_difference,
    plot_bars,
    plot_curves,
    read_scalars,
    seconds_of_training,
)


def test_mean_std_uses_the_sample_deviation():
    assert mean_std([1.0, 2.0, 4.0]) == f'2.33 ± {np.sqrt(((4 / 3) ** 2 + (1 / 3) ** 2 + (5 / 3) ** 2) / 2):.2f}'
    assert mean_std([3.14159], digits=3) == '3.142'


@pytest.mark.parametrize(
    ('values', 'control', 'text'),
    [
        ([2.0, 4.0], [1.0, 2.0], '+1.50 ± 0.71'),
        ([1.0, 1.0], [2.0, 2.0], '-1.00 ± 0.00'),
        ([5.0], [5.0], '+0.00'),
    ],
)
def test_paired_difference(values, control, text):
    assert paired_difference(values, control) == text


def test_markdown_table():
    assert markdown_table(['a', 'b'], [['x', '1']]) == '| a | b |\n| --- | ---: |\n| x | 1 |'


@pytest.fixture
def records(tmp_path):
    """Two runs into one folder, as after --resume."""
    parts = {
        '1': [
            {'loss': 4.0, 'lr': 1, 'time': 0.5, 'epoch': 1, 'step': 10},
            {'loss': 2.0, 'lr': 1, 'time': 0.1, 'epoch': 1, 'step': 20},
            {'accuracy/top1': 50.0, 'time': 9.0, 'step': 1},
        ],
        '2': [
            {'loss': 1.0, 'lr': 1, 'time': 0.1, 'epoch': 2, 'step': 40},
            {'accuracy/top1': 75.0, 'time': 9.0, 'step': 2},
        ],
    }
    for name, rows in parts.items():
        file = tmp_path / name / 'vis_data' / 'scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
    return read_scalars(tmp_path)


def test_records_are_read_in_order(records):
    assert [row['step'] for row in records] == [10, 20, 1, 40, 2]


def test_epoch_series_averages_within_an_epoch(records):
    epochs, losses = epoch_series(records, 'loss')
    assert epochs.tolist() == [1, 2]
    assert losses.tolist() == [3.0, 1.0]
    assert epoch_series(records, 'accuracy/top1')[1].tolist() == [50.0, 75.0]


def test_training_time_is_robust_and_ignores_validation(records):
    assert seconds_of_training(records) == pytest.approx(0.1 * 40)
    assert seconds_of_training([]) == 0.0


def test_plots_are_readable_images(tmp_path):
    runs = np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]])
    plot_curves([('t', 'y', {'a': (np.arange(3), runs), 'b': (np.arange(3), runs[:1])})], 'epoch', tmp_path / 'c.png')
    plot_bars(['x', 'y'], {'one': [1, 2], 'two': [2, 1]}, 'v', 't', tmp_path / 'b.png')
    for name in ('c.png', 'b.png'):
        assert imread(tmp_path / name).std() > 0
