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


def find_checkpoints(cfg: Any) -> list[str]:
    """Return what a run loads, each once: the checkpoint of the whole model, or those of its parts and teachers.

    Args:
        cfg: A whole config.

    Returns:
        Paths and URLs, and ``timm: NAME`` for pretrained weights that timm finds by the name of the model.
    """
    named = [cfg.get('load_from'), *_named_in(cfg.get('model') or cfg.get('backbone') or {})]
    return list(dict.fromkeys(start for start in named if start))


def _named_in(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if isinstance(value, str) and key in ('checkpoint', 'source', 'pretrained'):
                yield value
            elif key == 'pretrained' and value is True:
                yield f'timm: {node["model_name"]}'
            else:
                yield from _named_in(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _named_in(item)
