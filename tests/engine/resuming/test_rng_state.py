"""RNG states are saved and restored, and seeds of different batches differ."""

import random

import numpy as np
import torch

import reprefine.engine.checkpoints.checkpoint  # noqa: F401, lets weights-only loading take numpy's state
from reprefine.engine.resuming.rng_state import get_rng_state, mix_seeds, seeded_cpu, set_rng_state


def draw():
    return random.random(), np.random.rand(), *np.random.randn(2), torch.rand(()).item()


def test_rng_state_is_restored_from_a_file(tmp_path):
    np.random.randn()  # keeps the second value of a pair
    torch.save(get_rng_state(), tmp_path / 'state.pth')
    draws = [draw() for _ in range(2)]
    assert draws[0] != draws[1]
    set_rng_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert [draw() for _ in range(2)] == draws


def test_draws_of_a_seeded_block_depend_only_on_its_seed_and_the_state_is_restored():
    np.random.seed(0)  # drops the second value of a pair
    state = get_rng_state()
    after = draw()
    results = []
    for seed in (2**62 + 1, 2**62 + 1, 5):
        set_rng_state(state)
        with seeded_cpu(seed):
            results.append(draw())
        assert draw() == after
    assert results[0] == results[1]
    assert all(a != b for a, b in zip(results[0], results[2], strict=True))


def test_mix_seeds_is_splitmix_and_hashes_neighbours_differently():
    # The finaliser of SplitMix64 by hand, in unsigned arithmetic.
    value = np.uint64((3 * 0x9E3779B97F4A7C15 + 5 * 0xD1B54A32D192ED03) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = np.uint64(int(value ^ (value >> np.uint64(shift))) * factor % 2**64)
    assert mix_seeds(3, 4) == int(value ^ (value >> np.uint64(31))) >> 1
    numbers = [mix_seeds(seed, epoch, batch) for seed in range(8) for epoch in range(8) for batch in range(64)]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 2**63 for number in numbers)
    ones = np.unpackbits(np.array(numbers, np.uint64).view(np.uint8)).mean() * 64 / 63
    assert abs(ones - 0.5) < 0.005
