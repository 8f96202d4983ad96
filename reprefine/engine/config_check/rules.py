"""Rules for values of a config: a test, and its description for the error message."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """The valid values of a setting.

    Attributes:
        wanted: Their description, after *must be*.
        is_valid: Whether a value is valid.
    """

    wanted: str
    is_valid: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def integer(least: int, *others: Any) -> Rule:
    """Require an integer of at least ``least``, or one of ``others``."""
    alternatives = ''.join(f' or {other!r}' for other in others)
    return Rule(
        f'an integer of at least {least}{alternatives}',
        lambda value: _is_integer(value) and value >= least or any(value is o or value == o for o in others),
    )


def number(least: float, most: float = math.inf) -> Rule:
    """Require a finite number from ``least`` to ``most``."""
    limits = f'of at least {least:g}' if most == math.inf else f'from {least:g} to {most:g}'
    return Rule(f'a number {limits}', lambda value: _is_number(value) and least <= value <= most)


def instance(wanted: str, *types: type) -> Rule:
    """Require an instance of one of ``types``."""
    return Rule(wanted, lambda value: isinstance(value, types))


def one_of(*strings: str) -> Rule:
    """Require one of ``strings``."""
    return Rule(' or '.join(map(repr, strings)), lambda value: isinstance(value, str) and value in strings)


def list_of(wanted: str, is_valid: Callable[[Any], bool], least: int = 0) -> Rule:
    """Require a list of at least ``least`` items for which ``is_valid`` returns True."""
    return Rule(
        f'a list of {wanted}',
        lambda value: isinstance(value, list | tuple) and len(value) >= least and all(map(is_valid, value)),
    )


def either(rule: Rule, other: Rule) -> Rule:
    """Require one of two rules."""
    return Rule(f'{rule.wanted} or {other.wanted}', lambda value: rule.is_valid(value) or other.is_valid(value))


def _is_increasing(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not all(_is_integer(step) and step >= 1 for step in value):
        return False
    return all(a <= b for a, b in zip(value, value[1:], strict=False))


def type_name(node: Mapping, key: str = 'type') -> str:
    """Return the name, without a scope, of the type in ``node``: a string or, in new-style configs, a class."""
    kind = node.get(key)
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]


NONE = Rule('None', lambda value: value is None)
NON_NEGATIVE, POSITIVE = integer(0), integer(1)
SEED = Rule('an integer from 0 to 4294967295', lambda value: _is_integer(value) and 0 <= value < 1 << 32)
BOOL, STRING, DICT = instance('True or False', bool), instance('a string', str), instance('a dict', Mapping)
DICTS = either(DICT, list_of('dicts', DICT.is_valid))
STRINGS = either(STRING, list_of('strings', STRING.is_valid))
SIZE = either(POSITIVE, list_of('integers of at least 1', POSITIVE.is_valid, 1))
RATIO = number(0, 1)
ABOVE_ZERO = Rule('a number above 0', lambda value: _is_number(value) and value > 0)
ALL_ABOVE_ZERO = list_of('numbers above 0', ABOVE_ZERO.is_valid, 1)
BETAS = list_of('numbers from 0 to below 1', lambda value: _is_number(value) and 0 <= value < 1, 2)
LEVELS = ('HIGHEST', 'VERY_HIGH', 'HIGH', 'ABOVE_NORMAL', 'NORMAL', 'BELOW_NORMAL', 'LOW', 'VERY_LOW', 'LOWEST')
PRIORITY = Rule(
    f'an integer from 0 to 100 or one of {", ".join(LEVELS)}',
    lambda value: _is_integer(value) and 0 <= value <= 100 or isinstance(value, str) and value.upper() in LEVELS,
)
MILESTONES = Rule('a list of increasing integers of at least 1', _is_increasing)
FILENAME_TMPL = Rule('a file name with {} for the step', lambda value: isinstance(value, str) and value.count('{') == 1)
COMPARISON = either(
    one_of('greater', 'less'), list_of("'greater' or 'less'", lambda value: value in ('greater', 'less'))
)
REVISE_KEYS = list_of(
    'pairs of pattern and replacement',
    lambda value: isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(text, str) for text in value),
)
