"""Iterating over the dicts of a nested config."""

from collections.abc import Iterator, Mapping
from typing import Any


def iter_dicts(node: Any, path: str = '') -> Iterator[tuple[str, Mapping]]:
    """Yield every dict in ``node``, itself included, with its dotted config path; outer dicts first.

    Args:
        node: A dict, a list, or a leaf, which yields nothing.
        path: Config path of ``node``; empty for a whole config.
    """
    if isinstance(node, Mapping):
        yield path, node
        for key, value in node.items():
            yield from iter_dicts(value, f'{path}.{key}' if path else key)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from iter_dicts(value, f'{path}.{index}')


def find_values(cfg: Any, key: str) -> Iterator[Any]:
    """Yield the values of ``key`` in all nested dicts of a config, outermost first."""
    return (node[key] for _, node in iter_dicts(cfg) if key in node)
