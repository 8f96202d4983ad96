"""Metadata of an exported backbone."""

import torch

from reprefine.methods.repfusion.distillation.export import export_backbone
from reprefine.methods.repfusion.policy.histogram import STATS, TimestepHistogram


def test_timesteps_of_an_unfinished_epoch_are_counted(tmp_path):
    histogram, stats = TimestepHistogram(5), torch.zeros(len(STATS))
    histogram.add(torch.tensor([1, 1, 4]), None, stats)
    histogram.end_epoch(1)
    histogram.add(torch.tensor([0, 4]), None, stats)
    checkpoint = dict(
        state_dict={'student.backbone.conv1.weight': torch.ones(1)},
        repfusion_selector=dict(histogram=histogram.state_dict()),
    )
    torch.save(checkpoint, tmp_path / 'epoch_2.pth')
    meta = export_backbone(tmp_path / 'epoch_2.pth', tmp_path / 'backbone.pth')
    assert meta['timesteps'] == [1, 2, 0, 0, 2]
