import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from reprefine.engine.errors import UserError
from reprefine.tasks.segmentation import KNNHead
from reprefine.tasks.segmentation.functional import LabelledFeatures, vote


def make_head(**kwargs) -> KNNHead:
    with DefaultScope.overwrite_default_scope('mmseg'):
        return KNNHead(in_channels=2, num_classes=3, **kwargs).eval()


def sample(labels: torch.Tensor) -> SegDataSample:
    return SegDataSample(gt_sem_seg=PixelData(data=labels[None]))


DIRECTIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
LABELS = torch.tensor([[0, 0, 1, 1, 255, 255], [0, 0, 1, 1, 2, 2]])  # of a map with one row and three columns


def features_of(classes: list[int]) -> torch.Tensor:
    return DIRECTIONS[classes].T[None, :, None]


@pytest.mark.parametrize('entries', ['centroids', 'patches'])
def test_features_find_their_classes(entries):
    head = make_head(num_neighbors=1, entries=entries)
    assert head.loss([features_of([0, 1, 2])], [sample(LABELS)], None) == {}
    votes = head([2 * features_of([2, 0, 1, 1])])
    assert votes.shape == (1, 3, 1, 4)
    assert votes.argmax(1).tolist() == [[[2, 0, 1, 1]]]
    assert votes.max() == 1


def test_votes_are_those_of_the_formula():
    head = make_head(num_neighbors=3, temperature=0.5, chunk_size=2)
    generator = torch.Generator().manual_seed(0)
    bank = LabelledFeatures(torch.randn(7, 2, generator=generator), torch.rand(7, 3, generator=generator))
    head.bank.add(bank)
    maps = torch.randn(2, 2, 3, 4, generator=generator)
    votes = head([maps[:1], maps])
    for image, found in zip(maps, votes, strict=True):
        expected = vote(image.flatten(1).T, bank, 3, 0.5, 100)
        assert torch.allclose(found, expected.T.view(3, 3, 4), atol=1e-6)


def test_an_empty_bank_and_unknown_entries_are_refused():
    with pytest.raises(UserError, match='memory bank is empty'):
        make_head()([features_of([0])])
    with pytest.raises(UserError, match='choose from centroids, patches'):
        make_head(entries='pixels')


def test_nothing_is_trained_and_checkpoints_hold_the_bank():
    head = make_head(num_neighbors=1)
    head.loss([features_of([0, 1, 2])], [sample(LABELS)], None)
    assert list(head.parameters()) == []
    other = make_head(num_neighbors=1)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other([features_of([0, 2])]), head([features_of([0, 2])]))
