"""Which of many cases a test tries: drawn ones by default; the options of ``tests/conftest.py`` choose others."""

import os
import random


class _Options:
    seed = 0
    every_moment: str | None = None


def set_options(seed: int, every_moment: str | None) -> None:
    """Let all later draws follow from ``seed``; ``every_moment`` is ``'once'``, ``'again'`` or None."""
    _Options.seed, _Options.every_moment = seed, every_moment


def draws() -> random.Random:
    """Return the generator of the running test: a function of the seed and the test's name alone."""
    return random.Random(f'{_Options.seed} {os.environ["PYTEST_CURRENT_TEST"]}')


def drawn_by() -> str:
    """Return the words in which a failure tells how to draw the same."""
    return f'drawn with --draw-seed={_Options.seed}'


def every_moment() -> str | None:
    """Return ``'once'`` or ``'again'``, if nothing is to be drawn; see :mod:`tests.helpers.every_moment`."""
    return _Options.every_moment
