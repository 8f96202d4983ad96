"""Folding whole models."""

import pytest
import torch
from torch import nn

from reprefine.deploy import Foldable, relative_difference, switch_to_deploy


class Doubler(nn.Module):
    """Counts how often it was folded; holds a foldable child that only it may fold."""

    def __init__(self, child=None):
        super().__init__()
        self.child = child
        self.folded = 0

    def switch_to_deploy(self):
        self.folded += 1


def test_outermost_foldable_modules_are_asked_once():
    inner, outer, other = Doubler(), Doubler(), Doubler()
    outer.child = inner
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(outer), other)
    assert switch_to_deploy(model) is model
    assert (outer.folded, other.folded, inner.folded) == (1, 1, 0)


def test_protocol_tells_foldable_modules_apart():
    assert isinstance(Doubler(), Foldable)
    assert not isinstance(nn.Linear(1, 1), Foldable)


def test_relative_difference_is_scaled_by_the_reference():
    reference = torch.tensor([0.0, -4.0, 2.0])
    assert relative_difference(reference + torch.tensor([0.0, 0.0, 1.0]), reference) == pytest.approx(0.25)
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0.0
