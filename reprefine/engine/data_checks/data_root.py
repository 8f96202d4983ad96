"""Move a config to another data folder."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from reprefine.engine.errors import UserError

# Strings under these keys are no data, even if they lie in the data folder.
NOT_DATA = ('type', 'checkpoint', 'load_from', 'resume', 'work_dir')


def set_data_root(cfg: Config, data_root: str) -> None:
    """Replace the config's own data root wherever it stands, in place.

    A config joins its data root to other paths while it is parsed, so the root is looked for in the datasets of all
    data loaders and then replaced at the head of every path: in nested datasets, evaluators, pipelines and variables.

    Args:
        cfg: The parsed config.
        data_root: The folder that takes the root's place.

    Raises:
        UserError: The data loaders have no data root, or several that do not lie in one another.
    """
    old = _own_root(cfg)
    new = data_root.rstrip('/')
    for key, value in dict.items(cfg._cfg_dict):
        cfg[key] = _moved(value, key, old, new)


def _own_root(cfg: Config) -> str:
    """Return the one root of the config's datasets, without a trailing slash."""
    roots: dict[str, str] = {}
    for key, value in cfg.items():
        if key.endswith('dataloader'):
            for path, root in _roots(value, key):
                roots.setdefault(root.rstrip('/'), path)
    outer = [root for root in roots if not any(_below(root, other) for other in roots if other != root)]
    if len(outer) == 1:
        return outer[0]
    if not outer:
        raise UserError('--data-root: no dataset of this config has a data_root; set its paths by --cfg-options')
    listing = ', '.join(f"{roots[root]} = '{root}'" for root in outer)
    raise UserError(f'--data-root: this config has {len(outer)} data roots; set each by --cfg-options: {listing}')


def _roots(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the config path and the value of every data root below ``node``."""
    if isinstance(node, Mapping):
        # Datasets without a root may hold their folder as the prefix.
        name = 'data_root' if node.get('data_root') else 'data_prefix'
        if 'type' in node and isinstance(node.get(name), str) and node[name]:
            yield f'{path}.{name}', node[name]
        for key, value in node.items():
            yield from _roots(value, f'{path}.{key}')
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _roots(value, f'{path}.{index}')


def _below(path: str, root: str) -> bool:
    return path.startswith(f'{root}/')


def _moved(node: Any, key: str, old: str, new: str) -> Any:
    """Return ``node``, the value of ``key``, with ``old`` replaced by ``new`` at the head of every path."""
    if key in NOT_DATA:
        return node
    if isinstance(node, Mapping):
        # ConfigDict.items() would resolve lazy imports, and the config could no longer be dumped.
        return ConfigDict({name: _moved(value, name, old, new) for name, value in dict.items(node)})
    if isinstance(node, list | tuple):
        return type(node)(_moved(value, key, old, new) for value in node)
    # A bare word such as 'data' is a folder only where a root is expected.
    is_root = node == old and ('/' in old or key.endswith(('data_root', 'data_prefix')))
    if isinstance(node, str) and (is_root or _below(node, old)):
        return new + node.removeprefix(old) or '/'
    return node
