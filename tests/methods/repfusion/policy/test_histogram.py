"""The histogram of timesteps: counts, rows and classes."""

import torch

from reprefine.methods.repfusion.policy.histogram import STATS, TimestepHistogram


def test_counts_rows_and_classes():
    histogram = TimestepHistogram(10, num_classes=2)
    row = torch.full((len(STATS),), float('nan'), dtype=torch.float64)
    row[STATS.index('reward')] = -2.0
    histogram.add(torch.tensor([1, 1, 9]), torch.tensor([0, 1, 1]), row)
    row[STATS.index('reward')] = -1.0
    histogram.add(torch.tensor([2]), torch.tensor([0]), row)
    assert histogram.mean('reward') == -1.5
    assert histogram.mean('policy_entropy') != histogram.mean('policy_entropy')
    histogram.end_epoch(1)
    assert histogram.total().tolist() == [0, 2, 1, 0, 0, 0, 0, 0, 0, 1]
    histogram.add(torch.tensor([4]), torch.tensor([0]), row)
    other = TimestepHistogram(10, num_classes=2)
    other.load_state_dict(histogram.state_dict())
    assert other.total().tolist() == histogram.total().tolist()
    other.end_epoch(2)
    assert other.rows['classes'].tolist() == [[[3, 10], [2, 2]], [[4, 0], [1, 0]]]
