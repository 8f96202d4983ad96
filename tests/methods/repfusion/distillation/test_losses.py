"""Losses for configs: pairs of layers, weights, precision and errors."""

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
from reprefine.methods.repfusion.distillation import loss_functions as f
from reprefine.methods.repfusion.functional import info_nce


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


A, B = draw(5, 4, 3, 3), draw(5, 4, 3, 3, seed=1)
C, D = draw(5, 4, 2, 2, seed=2), draw(5, 4, 2, 2, seed=3)
SINGLE = [
    (HintLoss, lambda: f.hint_loss(A, B)),
    (AttentionTransferLoss, lambda: 1000 * f.attention_transfer_loss(A, B)),
    (partial(AttentionTransferLoss, power=1.0), lambda: 1000 * f.attention_transfer_loss(A, B, 1.0)),
    (partial(RelationalLoss, squared=True), lambda: f.relational_loss(A, B, squared=True)),
    (RelationalLoss, lambda: f.relational_loss(A, B)),
    (DenseLoss, lambda: f.dense_loss(A, B)),
    (ContrastiveFeatureLoss, lambda: info_nce(A.mean((2, 3)), B.mean((2, 3)), 0.1).mean()),
]


@pytest.mark.parametrize(('cls', 'expected'), SINGLE, ids=lambda value: getattr(value, '__name__', ''))
def test_default_weights_are_those_of_the_paper(cls, expected):
    assert_close(cls()([A], [B]), expected())


@pytest.mark.parametrize('cls', [cls for cls, _ in SINGLE])
def test_pairs_are_averaged_and_the_weight_multiplies(cls):
    both = cls(loss_weight=3.0)([A, C], [B, D])
    assert_close(both, 3.0 * (cls(loss_weight=1.0)([A], [B]) + cls(loss_weight=1.0)([C], [D])) / 2)


def test_terms_of_the_dense_loss_are_summed():
    loss = DenseLoss([['l2', 1.0], ['l1', 10.0]])
    assert_close(loss([A], [B]), (A - B).square().mean() + 10 * (A - B).abs().mean())


@pytest.mark.parametrize('terms', [[['l3', 1.0]], []])
def test_unknown_losses_are_named_with_the_valid_ones(terms):
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
    """Of float32 features; a product in bfloat16 would have an error of 1e-2."""
    features, target = mean + scale * A, mean + scale * B
    results = []
    for dtype, enabled in ((torch.float64, False), (torch.float32, True)):
        student = features.to(dtype).requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            value = (
                loss([student], [target])
                if enabled
                else loss.loss_weight * loss.unweighted_loss(student, target.double())
            )
        results.append((value.detach().double(), torch.autograd.grad(value, student)[0].double()))
    (expected, expected_gradient), (value, gradient) = results
    assert_close(value, expected, rtol=1e-4, atol=0)
    assert ((gradient - expected_gradient).norm() / expected_gradient.norm()).item() < 1e-3


@pytest.mark.parametrize('cls', [cls for cls, _ in SINGLE])
def test_a_missing_pair_is_an_error(cls):
    with pytest.raises(ValueError, match='zip'):
        cls()([A], [B, D])


def test_losses_without_projection_accept_any_number_of_channels():
    assert RelationalLoss()([draw(5, 7, 2, 2)], [B]).isfinite()
    assert AttentionTransferLoss()([draw(5, 7, 2, 2)], [B]).isfinite()
    assert {cls for cls, _ in SINGLE if getattr(cls, 'func', cls).projects} == {
        HintLoss,
        DenseLoss,
        ContrastiveFeatureLoss,
    }
