import random
from types import SimpleNamespace

import numpy as np
import torch

from reprefine.engine.hooks import EpochSeedHook


def draws(seed=0, epoch=0, spent=0):
    torch.rand(spent)
    np.random.rand(spent)
    EpochSeedHook().before_train_epoch(SimpleNamespace(seed=seed, epoch=epoch, iter=10 * epoch))
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_random_numbers_of_an_epoch_do_not_depend_on_earlier_draws():
    assert draws(epoch=3) == draws(epoch=3, spent=7)


def test_seed_epoch_and_rank_change_every_generator(monkeypatch):
    reference = draws()
    others = [draws(seed=1), draws(epoch=1)]
    monkeypatch.setattr('reprefine.engine.hooks.get_rank', lambda: 1)
    for other in [*others, draws()]:
        assert all(a != b for a, b in zip(reference, other, strict=True))
