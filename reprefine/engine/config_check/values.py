"""What the values of a config's common settings may be, so that a wrong one is refused before data are read."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mmengine.config import Config

from ..errors import UserError


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


def kind(wanted: str, *kinds: type, none: bool = False) -> Rule:
    """Ask for an object of some types, or also for None."""
    return Rule(
        f'{wanted}{" or None" if none else ""}',
        lambda value: (
            isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds) or (none and value is None)
        ),
    )


def sorted_steps() -> Rule:
    """Ask for whole numbers from 1 on, each larger than the one before."""
    return Rule(
        'a list of growing whole numbers of at least 1',
        lambda value: (
            isinstance(value, list | tuple)
            and all(_is_whole(step) and step >= 1 for step in value)
            and all(a < b for a, b in zip(value, value[1:], strict=False))
        ),
    )


COUNT = whole(0)
SOME = whole(1)
FLAG = kind('True or False', bool)
RULES = {
    'max_corrupt': COUNT,
}


def check_values(cfg: Config) -> None:
    """Refuse values that no run could work with.

    Args:
        cfg: The config.

    Raises:
        UserError: With the config path of the setting, its value and what it must be.
    """
    for pattern, rule in RULES.items():
        for path, value in find(cfg._cfg_dict, pattern.split('.'), ''):
            if not rule.holds(value):
                raise UserError(f'{path}: must be {rule.wanted}, not {value!r}')


def find(node: Any, keys: list[str], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every entry below ``node`` that ``keys`` lead to.

    Args:
        node: A dict or a list; of a list, every item is looked at.
        keys: Names; ``*name`` stands for every key that ends like this.
        path: Where ``node`` stands.
    """
    if not keys:
        yield path, node
    elif isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from find(item, keys, f'{path}.{index}')
    elif isinstance(node, Mapping):
        key, *rest = keys
        for name in [name for name in node if _matches(name, key)]:
            yield from find(node[name], rest, f'{path}.{name}' if path else name)


def _matches(name: str, key: str) -> bool:
    return name.endswith(key[1:]) if key.startswith('*') else name == key
