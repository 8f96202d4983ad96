"""Random numbers that resuming and any number of processes reproduce."""

import torch

from reprefine.engine.resuming.rng_state import mix_seeds


class Draws:
    """Numbers the draws, and seeds each by its number.

    Draw ``count`` of a rank depends on the seed, the rank and ``count`` alone. All ranks draw equally often, so one
    integer in a checkpoint lets every rank go on exactly.

    Args:
        seed: Seed of the first rank; rank ``r`` uses ``seed + 1000 r``.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.count = seed, 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def next(self, device: torch.device | str = 'cpu') -> torch.Generator:
        """Return a generator on ``device``, seeded for the next draw."""
        from mmengine.dist import get_rank

        device = torch.device(device)
        generator = self._generators.setdefault(device, torch.Generator(device))
        generator.manual_seed(mix_seeds(self.seed + 1000 * get_rank(), self.count))
        self.count += 1
        return generator

    def bernoulli(self, probability: float) -> bool:
        """Return a Bernoulli draw that belongs to the coming :meth:`next`, whose number it leaves as it is.

        It depends on the seed and the count alone, so that all ranks see the same.

        Args:
            probability: Of True.
        """
        return mix_seeds(self.seed, self.count, 1) < probability * 2**63
