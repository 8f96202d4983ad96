"""Weights that no model should be given."""

import pytest
import torch
from torch import nn

from reprefine.engine.checkpoints.weights import check_finite, load_weights
from reprefine.engine.errors import UserError


def test_weights_that_are_not_finite_are_refused_but_masks_may_be():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model.register_buffer('mask', torch.tensor([0.0, float('-inf')]))
    check_finite(model, 'a.pth')
    for value in ('nan', 'inf'):
        with torch.no_grad():
            model[0].bias[1] = float(value)
        with pytest.raises(UserError, match='a.pth holds weights that are not finite: 0.bias$'):
            check_finite(model, 'a.pth')


def test_complex_weights_do_not_lose_their_imaginary_part_in_silence():
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    complex_weights = {name: value * 1j for name, value in model.state_dict().items()}
    match = load_weights(model, complex_weights)
    assert (match.share, sorted(match.missing)) == (0, ['bias', 'weight'])
    assert torch.equal(model.weight, before)
    model = nn.Linear(2, 3, dtype=torch.complex64)
    assert load_weights(model, complex_weights).share == 1
    assert torch.equal(model.weight, complex_weights['weight'])
