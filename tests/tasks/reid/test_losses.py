import math

import pytest
import torch

from reprefine.tasks.reid.losses import BatchHardTripletLoss, batch_hard_distances

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3])


def make_features(dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(len(LABELS), 6, generator=generator, dtype=torch.float64) * scale).to(dtype)


def brute_force(features, labels):
    pairs = []
    for i, anchor in enumerate(features.tolist()):
        distances = [math.dist(anchor, other) for other in features.tolist()]
        positives = [d for j, d in enumerate(distances) if labels[j] == labels[i]]
        negatives = [d for j, d in enumerate(distances) if labels[j] != labels[i]]
        pairs.append((max(positives), min(negatives)))
    return torch.tensor(pairs, dtype=torch.float64).T


def test_hardest_distances():
    d_ap, d_an = batch_hard_distances(make_features(), LABELS)
    expected_ap, expected_an = brute_force(make_features(), LABELS)
    assert torch.allclose(d_ap, expected_ap, rtol=1e-12)
    assert torch.allclose(d_an, expected_an, rtol=1e-12)
    assert d_ap[-1] == 0  # the only image of its identity


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_distances_are_computed_in_float32_at_least(dtype):
    features = make_features(dtype, scale=30.0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        d_ap, d_an = batch_hard_distances(features, LABELS)
    expected_ap, expected_an = brute_force(features, LABELS)
    assert d_ap.dtype == d_an.dtype == torch.float32
    assert torch.allclose(d_ap.double(), expected_ap, rtol=1e-6)
    assert torch.allclose(d_an.double(), expected_an, rtol=1e-6)


def test_soft_margin():
    d_ap, d_an = brute_force(make_features(), LABELS)
    expected = sum(math.log(1 + math.exp(p - n)) for p, n in zip(d_ap.tolist(), d_an.tolist(), strict=True)) / 10
    assert BatchHardTripletLoss()(make_features(), LABELS).item() == pytest.approx(expected, rel=1e-12)
    halved = BatchHardTripletLoss(loss_weight=0.5)(make_features(), LABELS)
    assert halved.item() == pytest.approx(expected / 2, rel=1e-12)


def test_hard_margin():
    d_ap, d_an = brute_force(make_features(), LABELS)
    excess = [p - n + 0.3 for p, n in zip(d_ap.tolist(), d_an.tolist(), strict=True)]
    assert min(excess) < 0 < max(excess)
    expected = sum(max(e, 0) for e in excess) / 10
    assert BatchHardTripletLoss(margin=0.3)(make_features(), LABELS).item() == pytest.approx(expected, rel=1e-12)


def test_gradient():
    # Without the last image, the only one of its identity: its distance to itself has no derivative.
    features = make_features()[:-1].requires_grad_()
    for loss in (BatchHardTripletLoss(), BatchHardTripletLoss(margin=0.3)):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, LABELS[:-1]), features)


@pytest.mark.parametrize('margin', [None, 0.3])
def test_equal_features_have_a_finite_loss_and_gradient(margin):
    features = torch.ones(4, 3, requires_grad=True)
    loss = BatchHardTripletLoss(margin)(features, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) if margin is None else margin)
    assert torch.equal(features.grad, torch.zeros(4, 3))


@pytest.mark.parametrize('margin', [None, 0.3])
def test_the_loss_of_a_single_identity_is_zero(margin):
    features = torch.randn(4, 3, requires_grad=True)
    loss = BatchHardTripletLoss(margin)(features, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros(4, 3))
