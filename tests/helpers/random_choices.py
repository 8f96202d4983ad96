"""Random choice of the moments at which tests stop a run, by the options of ``tests/conftest.py``."""

import os
import random


class _Options:
    seed = 0
    every_moment: str | None = None


def set_options(seed: int, every_moment: str | None) -> None:
    """Set the seed of all later choices; ``every_moment`` is ``'once'``, ``'again'`` or None."""
    _Options.seed, _Options.every_moment = seed, every_moment


def rng() -> random.Random:
    """Return the generator of the running test, seeded by the option and the name of the test."""
    return random.Random(f'{_Options.seed} {os.environ["PYTEST_CURRENT_TEST"]}')


def how_to_repeat() -> str:
    """Return the option that repeats the choice, for the message of a failure."""
    return f'drawn with --draw-seed={_Options.seed}'


def every_moment() -> str | None:
    """Return ``'once'`` or ``'again'`` if all moments are tried, see :mod:`tests.helpers.every_moment`."""
    return _Options.every_moment
