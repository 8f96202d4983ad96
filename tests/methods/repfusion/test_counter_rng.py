"""Random numbers by seed, rank and counter."""

import pytest
import torch
from scipy import stats

from reprefine.engine.resuming.rng_state import mix_seeds
from reprefine.methods.repfusion.counter_rng import CounterRNG


def test_draws_depend_on_seed_and_counter_alone():
    first, second = CounterRNG(3), CounterRNG(3)
    draws = [torch.rand(4, generator=first.next_generator()) for _ in range(5)]
    second.count = 3
    assert torch.equal(torch.rand(4, generator=second.next_generator()), draws[3])
    assert len({tuple(draw.tolist()) for draw in draws}) == 5
    assert not torch.equal(torch.rand(4, generator=CounterRNG(4).next_generator()), draws[0])
    values = {mix_seeds(seed, count) for seed in range(60) for count in range(60)}
    assert len(values) == 3600
    assert all(0 <= value < 2**63 for value in values)


def test_first_numbers_of_successive_draws_are_uniform():
    rng = CounterRNG(0)
    firsts = torch.stack([torch.rand((), generator=rng.next_generator()) for _ in range(4000)])
    assert firsts.mean().item() == pytest.approx(0.5, abs=0.02)
    assert firsts.histc(10, 0, 1).sub(400).abs().max() < 90


@pytest.mark.parametrize('probability', [0.1, 0.5])
@pytest.mark.parametrize('seed', [0, 7])
def test_bernoulli_samples_have_the_probability_and_are_independent(probability, seed):
    rng, samples = CounterRNG(seed), []
    for rng.count in range(20000):
        samples.append(rng.bernoulli(probability))
    assert stats.binomtest(sum(samples), len(samples), probability).pvalue > 0.001
    pairs = sum(a and b for a, b in zip(samples[::2], samples[1::2], strict=True))
    assert stats.binomtest(pairs, len(samples) // 2, probability**2).pvalue > 0.001


def test_bernoulli_sample_is_equal_on_all_ranks_and_does_not_increment_the_counter(monkeypatch):
    results = []
    for rank in range(3):
        monkeypatch.setattr('mmengine.dist.get_rank', lambda rank=rank: rank)
        rng = CounterRNG(3)
        shared, own = [], []
        for _ in range(50):
            shared.append(rng.bernoulli(0.5))
            assert rng.bernoulli(0.5) == shared[-1]
            own.append(torch.rand((), generator=rng.next_generator()).item())
        assert rng.count == 50
        results.append((shared, own))
    assert results[0][0] == results[1][0] == results[2][0]
    assert set(results[0][0]) == {True, False}
    assert results[0][1] != results[1][1]
    assert not any(CounterRNG().bernoulli(0.0) for _ in range(100))
