"""Counter-based random numbers, which resuming and any number of processes reproduce."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reprefine.engine.resuming.rng_state import mix_seeds


class CounterRNG:
    """Random generators that are seeded by a counter.

    Draw ``count`` of a rank depends on the seed, the rank and ``count`` alone. All ranks draw equally often, so that
    the counter in a checkpoint is all that resuming needs on every rank.

    Args:
        seed: Seed of rank 0; rank ``r`` uses ``seed + 1000 r``.

    Attributes:
        count: Number of draws so far.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.count = seed, 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def next_generator(self, device: torch.device | str = 'cpu') -> torch.Generator:
        """Return a generator on ``device``, seeded for the next draw, and increment the counter."""
        from mmengine.dist import get_rank

        device = torch.device(device)
        generator = self._generators.setdefault(device, torch.Generator(device))
        generator.manual_seed(mix_seeds(self.seed + 1000 * get_rank(), self.count))
        self.count += 1
        return generator

    @contextmanager
    def restarted(self) -> Iterator[None]:
        """Draw from the first count on, and restore the counter afterwards.

        Every evaluation then draws the same numbers, and does not change those of the training.
        """
        count, self.count = self.count, 0
        try:
            yield
        finally:
            self.count = count

    def bernoulli(self, probability: float) -> bool:
        """Return a Bernoulli sample that is equal on all ranks, without incrementing the counter.

        It depends on the seed and the counter alone, and is independent of the draws of :meth:`next_generator`.

        Args:
            probability: Probability of True.
        """
        return mix_seeds(self.seed, self.count, 1) < probability * 2**63
