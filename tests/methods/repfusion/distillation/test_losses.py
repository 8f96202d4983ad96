"""Losses for configs: which pairs they take, how they weigh them, and what they refuse."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import (
    AttentionTransferLoss,
    ContrastiveFeatureLoss,
    DenseLoss,
    HintLoss,
    RelationalLoss,
)
from reprefine.methods.repfusion.distillation import distances as d
from reprefine.methods.repfusion.functional import info_nce


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


A, B = draw(5, 4, 3, 3), draw(5, 4, 3, 3, seed=1)
C, D = draw(5, 4, 2, 2, seed=2), draw(5, 4, 2, 2, seed=3)
SINGLE = [
    (HintLoss, lambda: d.hint(A, B)),
    (AttentionTransferLoss, lambda: 1000 * d.attention_transfer(A, B)),
    (partial(AttentionTransferLoss, power=1.0), lambda: 1000 * d.attention_transfer(A, B, 1.0)),
    (partial(RelationalLoss, squared=True), lambda: d.relational(A, B, squared=True)),
    (RelationalLoss, lambda: d.relational(A, B)),
    (DenseLoss, lambda: d.dense(A, B)),
    (ContrastiveFeatureLoss, lambda: info_nce(A.mean((2, 3)), B.mean((2, 3)), 0.1).mean()),
]


@pytest.mark.parametrize(('cls', 'expected'), SINGLE, ids=lambda value: getattr(value, '__name__', ''))
def test_default_weights_are_those_of_the_paper(cls, expected):
    assert_close(cls()([A], [B]), expected())


@pytest.mark.parametrize('cls', [cls for cls, _ in SINGLE])
def test_pairs_are_averaged_and_the_weight_multiplies(cls):
    both = cls(loss_weight=3.0)([A, C], [B, D])
    assert_close(both, 3.0 * (cls(loss_weight=1.0)([A], [B]) + cls(loss_weight=1.0)([C], [D])) / 2)


def test_terms_of_the_dense_loss_add_up():
    loss = DenseLoss([['l2', 1.0], ['l1', 10.0]])
    assert_close(loss([A], [B]), (A - B).square().mean() + 10 * (A - B).abs().mean())


@pytest.mark.parametrize('terms', [[['l3', 1.0]], []])
def test_unknown_distances_are_named_with_the_valid_ones(terms):
    with pytest.raises(UserError, match='choose from l2, l1, l2_norm, cosine'):
        DenseLoss(terms)


@pytest.mark.parametrize('cls', [cls for cls, _ in SINGLE])
def test_half_precision_features_are_compared_in_float32(cls):
    loss = cls()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss([A.bfloat16()], [B.bfloat16()])
    assert value.dtype == torch.float32
    assert_close(value, loss([A.bfloat16().float()], [B.bfloat16().float()]))


@pytest.mark.parametrize(
    'loss', [*(cls() for cls, _ in SINGLE), DenseLoss([['l1', 1.0], ['l2_norm', 1.0], ['cosine', 1.0]])]
)
@pytest.mark.parametrize(('mean', 'scale'), [(0.0, 1.0), (3.0, 0.1), (0.0, 300.0)])
def test_value_and_gradient_under_autocast_are_those_in_float64(loss, mean, scale):
    """Of features that come in float32; a product in bfloat16 would err by 1e-2."""
    features, target = mean + scale * A, mean + scale * B
    results = []
    for dtype, enabled in ((torch.float64, False), (torch.float32, True)):
        given = features.to(dtype).requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            value = loss([given], [target]) if enabled else loss.loss_weight * loss.distance(given, target.double())
        results.append((value.detach().double(), torch.autograd.grad(value, given)[0].double()))
    (expected, gradient), (value, ours) = results
    assert_close(value, expected, rtol=1e-4, atol=0)
    assert ((ours - gradient).norm() / gradient.norm()).item() < 1e-3


@pytest.mark.parametrize('cls', [cls for cls, _ in SINGLE])
def test_a_missing_pair_is_an_error(cls):
    with pytest.raises(ValueError, match='zip'):
        cls()([A], [B, D])


def test_relational_losses_take_any_width():
    assert RelationalLoss()([draw(5, 7, 2, 2)], [B]).isfinite()
    assert AttentionTransferLoss()([draw(5, 7, 2, 2)], [B]).isfinite()
    assert {cls for cls, _ in SINGLE if getattr(cls, 'func', cls).projects} == {
        HintLoss,
        DenseLoss,
        ContrastiveFeatureLoss,
    }
