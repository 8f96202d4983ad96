"""Random numbers that resuming and any number of processes reproduce."""

import torch

_MASK = (1 << 64) - 1


def mix(seed: int, count: int) -> int:
    """Return 63 well-mixed bits of two integers (the finaliser of SplitMix64)."""
    value = (seed * 0x9E3779B97F4A7C15 + (count + 1) * 0xD1B54A32D192ED03) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) >> 1


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
        generator.manual_seed(mix(self.seed + 1000 * get_rank(), self.count))
        self.count += 1
        return generator
