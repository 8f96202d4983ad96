"""Nearest-neighbour accuracy during pre-training."""

import pytest
import torch
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.tasks.classification import hooks
from reprefine.tasks.classification.functional import nearest_neighbors
from reprefine.tasks.classification.hooks import KNNMonitorHook, extract_features, find_neighbors
from tests.methods.feature_transform.toys import (
    loader,
    logged_losses,
    moco_ft,
    runner,
    scalars,
)


def test_features_are_pooled_unit_vectors_in_order():
    model = moco_ft().eval()
    features, labels = extract_features(model, loader(10, two_views=False))
    assert labels.tolist() == [i % 3 for i in range(10)]
    image = loader(10, two_views=False).dataset[7]['inputs'][None]
    expected = model.backbone(image)[-1].mean(dim=(2, 3))[0]
    assert_close(features[7], expected / expected.norm(), rtol=0, atol=1e-5)


@pytest.mark.parametrize('k', [4, 50])
def test_labelled_images_are_compared_block_by_block(k, monkeypatch):
    """Never all of them at once, with the neighbours that a comparison with all of them gives."""
    model, sizes = moco_ft().eval(), []
    query, _ = extract_features(model, loader(7, two_views=False))
    bank, labels = extract_features(model, loader(30, two_views=False))
    expected = nearest_neighbors(query, bank, labels, k)

    def counted(query, bank, *args):
        sizes.append(len(bank))
        return nearest_neighbors(query, bank, *args)

    monkeypatch.setattr(hooks, 'nearest_neighbors', counted)
    monkeypatch.setattr(hooks, 'BLOCK_SIZE', 8)
    found = find_neighbors(model, loader(30, two_views=False), query, k)
    assert sizes == [8, 8, 8, 6]
    for column, reference in zip(found, expected, strict=True):
        assert_close(column[:, : min(k, 30)], reference)
    assert (found.similarity[:, 30:] == -torch.inf).all()


@pytest.mark.parametrize('label', [-1, None])
def test_images_without_a_label_are_refused(label):
    images = loader(9, two_views=False)
    get = type(images.dataset).__getitem__

    class Partly(type(images.dataset)):
        def __getitem__(self, index):
            item = get(self, index)
            if index == 7:
                item['data_samples'] = DataSample() if label is None else DataSample().set_gt_label(label)
            return item

    images.dataset.__class__ = Partly
    with pytest.raises(UserError, match='an image of bank or query has no label, or -1'):
        extract_features(moco_ft().eval(), images)


def test_monitor_logs_every_second_epoch_and_the_last_without_touching_the_run(tmp_path):
    """Random features distinguish colours; the training is the same with and without the monitor."""
    monitor = KNNMonitorHook(loader(30, two_views=False), loader(12, two_views=False), k=5, interval=2)
    made = runner(tmp_path / 'seen', moco_ft())
    made.register_hook(monitor)
    made.train()
    logged = {line['step']: line['knn_top1'] for line in scalars(made) if 'knn_top1' in line}
    assert set(logged) == {2, 3}
    assert all(value == 100 for value in logged.values())
    assert made.message_hub.get_scalar('val/knn_top1').current() == 100
    unseen = runner(tmp_path / 'unseen', moco_ft())
    unseen.train()
    assert logged_losses(unseen) == logged_losses(made)
    assert made.model.training
