"""Random number generators (RNG) of Python, NumPy and torch: their states, and seeds that depend on the batch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_MASK = (1 << 64) - 1


def mix_seeds(*numbers: int) -> int:
    """Return a 63-bit hash of one or more integers: the finaliser of SplitMix64, applied once per integer."""
    value = numbers[0]
    for number in numbers[1:] or (0,):
        value = (value * 0x9E3779B97F4A7C15 + (number + 1) * 0xD1B54A32D192ED03) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value >> 1


def get_rng_state() -> dict[str, Any]:
    """Return the RNG states of Python, NumPy, torch and the current GPU, in types that weights-only loading accepts.

    This does not synchronise with the GPU.
    """
    state = dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state())
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what :func:`get_rng_state` returned."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def seed_cpu(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch on the CPU."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)


_spare = np.random.MT19937(0)


@contextmanager
def seeded_cpu(seed: int) -> Iterator[None]:
    """Seed the CPU generators within the block and restore their states afterwards.

    NumPy's generator is exchanged rather than copied, which is much faster. Not restored is the second value of a pair
    of normal numbers that ``np.random.randn`` may keep.
    """
    state = random.getstate(), np.random.get_bit_generator(), torch.default_generator.get_state()
    np.random.set_bit_generator(_spare)
    seed_cpu(seed)
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_bit_generator(state[1])
        torch.default_generator.set_state(state[2])
