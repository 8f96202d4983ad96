"""Images and labels of the linear probe."""

import pytest
import torch
from mmpretrain.structures import DataSample

from reprefine.methods.repfusion.teacher.linear_probe import load_images

from ..run import distiller


@pytest.mark.parametrize(('last', 'known'), [(2, True), (-1, False), (None, False)])
def test_no_labels_are_returned_if_an_image_is_unlabelled(last, known):
    """A linear classifier would otherwise learn -1 as one more class."""
    samples = [DataSample().set_gt_label(label) for label in (0, 1)]
    samples.append(DataSample() if last is None else DataSample().set_gt_label(last))
    batches = [
        dict(inputs=torch.zeros(3, 3, 16, 16, dtype=torch.uint8), data_samples=given)
        for given in ([DataSample().set_gt_label(0) for _ in range(3)], samples)
    ]
    images, labels = load_images(distiller(), batches, 6)
    assert images.shape == (6, 3, 16, 16)
    assert (labels is not None) is known
    if known:
        assert labels.tolist() == [0, 0, 0, 0, 1, 2]
