"""The report of a failed step, and its error message."""

import pytest
import torch
from torch import nn

from reprefine.engine.finite_check.nonfinite import (
    RankReport,
    TrainStep,
    find_nonfinite,
    format_error,
    gradient_norms,
    nonfinite_terms,
)

NAN, INF = float('nan'), float('inf')


def parameter(*grad, dtype=torch.float32):
    result = nn.Parameter(torch.zeros(len(grad), dtype=dtype))
    result.grad = torch.tensor(grad, dtype=dtype)
    return result


def test_norms_are_those_of_the_gradients():
    sparse = nn.Parameter(torch.zeros(4))
    sparse.grad = torch.sparse_coo_tensor([[1, 1]], [3.0, 1.0], (4,))
    norms = gradient_norms([parameter(3.0, 4.0), parameter(NAN, 1.0), parameter(-INF), sparse])
    torch.testing.assert_close(norms, torch.tensor([5.0, NAN, INF, 4.0]), equal_nan=True)


def test_half_precision_does_not_overflow():
    # Neither the squares nor the norm are numbers of float16, whose largest is 65504.
    norms = gradient_norms([parameter(48000.0, 64000.0, dtype=torch.float16), parameter(1.0)])
    torch.testing.assert_close(norms, torch.tensor([80000.0, 1.0]), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ('terms', 'expected'),
    [
        (dict(loss=INF, loss_a=1.0, loss_b=INF), dict(loss_b=INF)),
        (dict(loss=-INF, loss_a=1.0), dict(loss=-INF)),
        (dict(loss=1.0, accuracy=INF), {}),
    ],
)
def test_terms(terms, expected):
    assert nonfinite_terms({name: torch.tensor(value) for name, value in terms.items()}) == expected


@pytest.mark.parametrize('norms', [None, torch.tensor([1.0, INF])])
def test_gradients_are_named_also_when_only_their_norms_are_left(norms):
    good, bad = parameter(1.0), parameter(NAN if norms is None else 0.0)
    step = TrainStep(3, 1, dict(inputs=[torch.ones(1)], index=[7]), parameters=[good, bad], norms=norms)
    assert find_nonfinite(step, {id(good): 'a', id(bad): 'b'}, 2) == RankReport(2, {}, ['b'], ['index 7'])


def test_lines():
    step = TrainStep(3, 2)
    one = RankReport(0, {}, list('abcdefg'), ['x.png'])
    text = 'gradient is not finite at iteration 3 (epoch 2): all loss terms are finite, the gradient of '
    assert format_error(step, [one], 'fix it') == f'{text}a, b, c, d, e and 2 more is not; samples: x.png; fix it'
    loss = RankReport(1, dict(loss_a=NAN, loss_b=INF), [], [])
    text = 'loss is not finite at iteration 3 (epoch 2): rank 1: loss_a = nan, loss_b = inf; samples: those of batch 3'
    assert format_error(step, [one, loss], 'fix it') == f'{text}, which have no ids; fix it'
    overflow = format_error(step, [RankReport(0, {}, [], ['x.png'])], 'fix it')
    assert "all loss terms and gradients are finite, the gradient's norm is too large for its type" in overflow
    assert format_error(step, [loss] * 6, 'fix it').endswith('; 2 more ranks, see the log; fix it')
