"""Interleaved timing of several functions, and its statistics."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Workload = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median and interquartile range of repeated values.

    Attributes:
        median: The median.
        iqr: 75th minus 25th percentile, linearly interpolated.
        count: Number of values.
    """

    median: float
    iqr: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Spread':
        """Return the spread of at least one value."""
        low, median, high = np.percentile(values, [25, 50, 75]).tolist()
        return cls(median, high - low, len(values))


def interleave(
    prepare: Sequence[Callable[[], Workload]],
    repeats: int,
    warmup: int,
    synchronize: Callable[[], None] = lambda: None,
) -> tuple[list[float], ...]:
    """Time several workloads alternately (A B, B A, A B, …), so that a drift of the machine affects all alike.

    Args:
        prepare: For A, for B, …, a function that returns the next workload; it is not timed itself.
        repeats: Timed rounds.
        warmup: Rounds before them that are not timed.
        synchronize: Waits for the device; called before the clock is started and before it is stopped.

    Returns:
        Seconds of A, of B, …, one value per round.
    """
    seconds: tuple[list[float], ...] = tuple([] for _ in prepare)
    for round_index in range(warmup + repeats):
        for side in list(range(len(prepare)))[:: 1 if round_index % 2 == 0 else -1]:
            elapsed = _time(prepare[side](), synchronize)
            if round_index >= warmup:
                seconds[side].append(elapsed)
    return seconds


def _time(work: Workload, synchronize: Callable[[], None]) -> float:
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start
