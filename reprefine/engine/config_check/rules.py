"""Kinds of values, each in words and as a test."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a setting may be.

    Attributes:
        wanted: In words, behind *must be*.
        holds: Whether a value is that.
    """

    wanted: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int, *others: Any) -> Rule:
    """Ask for an integer of at least ``least``, or one of ``others``."""
    alternatives = ''.join(f' or {other!r}' for other in others)
    return Rule(
        f'a whole number of at least {least}{alternatives}',
        lambda value: _is_whole(value) and value >= least or any(value is other or value == other for other in others),
    )


def number(least: float, most: float = math.inf) -> Rule:
    """Ask for a finite number between two others."""
    limits = f'of at least {least:g}' if most == math.inf else f'from {least:g} to {most:g}'
    return Rule(f'a number {limits}', lambda value: _is_number(value) and least <= value <= most)


def kind(wanted: str, *kinds: type) -> Rule:
    """Ask for an object of some types."""
    return Rule(wanted, lambda value: isinstance(value, kinds))


def word(*words: str) -> Rule:
    """Ask for one of some words."""
    return Rule(' or '.join(map(repr, words)), lambda value: isinstance(value, str) and value in words)


def items(wanted: str, holds: Callable[[Any], bool], least: int = 0) -> Rule:
    """Ask for a list of at least ``least`` items of a kind."""
    return Rule(
        f'a list of {wanted}',
        lambda value: isinstance(value, list | tuple) and len(value) >= least and all(map(holds, value)),
    )


def or_else(rule: Rule, other: Rule) -> Rule:
    """Ask for one of two things."""
    return Rule(f'{rule.wanted} or {other.wanted}', lambda value: rule.holds(value) or other.holds(value))


def _grows(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not all(_is_whole(step) and step >= 1 for step in value):
        return False
    return all(a <= b for a, b in zip(value, value[1:], strict=False))


def type_name(node: Mapping, key: str = 'type') -> str:
    """Return the name, without a scope, of what ``type`` names or, in configs of the new style, is."""
    kind = node.get(key)
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]


NOTHING = Rule('None', lambda value: value is None)
COUNT, SOME, SEED = (
    whole(0),
    whole(1),
    Rule('a whole number from 0 to 4294967295', lambda v: _is_whole(v) and 0 <= v < 1 << 32),
)
FLAG, TEXT, DICT = kind('True or False', bool), kind('a string', str), kind('a dict', Mapping)
DICTS = or_else(DICT, items('dicts', lambda value: isinstance(value, Mapping)))
SIZE = or_else(SOME, items('whole numbers of at least 1', lambda value: _is_whole(value) and value >= 1, 1))
SHARE = number(0, 1)
ABOVE_ZERO = Rule('a number above 0', lambda value: _is_number(value) and value > 0)
BETAS = items('numbers from 0 to below 1', lambda value: _is_number(value) and 0 <= value < 1, 2)
LEVELS = ('HIGHEST', 'VERY_HIGH', 'HIGH', 'ABOVE_NORMAL', 'NORMAL', 'BELOW_NORMAL', 'LOW', 'VERY_LOW', 'LOWEST')
PRIORITY = Rule(
    f'a whole number from 0 to 100 or one of {", ".join(LEVELS)}',
    lambda value: _is_whole(value) and 0 <= value <= 100 or isinstance(value, str) and value.upper() in LEVELS,
)
POSITIVES = items('numbers above 0', ABOVE_ZERO.holds, 1)
STEPS = Rule('a list of growing whole numbers of at least 1', _grows)
NAME_OF_STEP = Rule('a file name with {} for the step', lambda value: isinstance(value, str) and value.count('{') == 1)
DIRECTION = or_else(word('greater', 'less'), items("'greater' or 'less'", lambda value: value in ('greater', 'less')))
RENAMES = items(
    'pairs of pattern and replacement',
    lambda value: isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(text, str) for text in value),
)
TEXTS = or_else(TEXT, items('strings', lambda value: isinstance(value, str)))
