"""The data root of a config: replacing it, and checking that the files and folders of the datasets exist."""

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from reprefine.engine.config_check.walk import iter_dicts
from reprefine.engine.errors import UserError

# Strings under these keys are no data, even if they lie in the data folder.
NOT_DATA = ('type', 'checkpoint', 'load_from', 'resume', 'work_dir')


def set_data_root(cfg: Config, data_root: str) -> None:
    """Replace the config's own data root wherever it occurs, in place.

    A config joins its data root to other paths while it is parsed, so the root is looked for in the datasets of all
    data loaders and then replaced at the start of every path: in nested datasets, evaluators, pipelines and variables.

    Args:
        cfg: The parsed config.
        data_root: The new folder.

    Raises:
        UserError: The data loaders have no data root, or several that are not below one another.
    """
    old = _find_root(cfg)
    new = data_root.rstrip('/')
    for key, value in dict.items(cfg._cfg_dict):
        cfg[key] = _replace_root(value, key, old, new)


def _find_root(cfg: Config) -> str:
    """Return the one data root of the config's datasets, without a trailing slash."""
    roots: dict[str, str] = {}
    for loader in [key for key in cfg if key.endswith('dataloader')]:
        for path, node in iter_dicts(cfg[loader], loader):
            # Datasets without a root may hold their folder as the prefix.
            key = 'data_root' if node.get('data_root') else 'data_prefix'
            if 'type' in node and isinstance(node.get(key), str) and node[key]:
                roots.setdefault(node[key].rstrip('/'), f'{path}.{key}')
    outer = [root for root in roots if not any(_is_below(root, other) for other in roots if other != root)]
    if len(outer) == 1:
        return outer[0]
    if not outer:
        raise UserError('--data-root: no dataset of this config has a data_root; set its paths by --cfg-options')
    listing = ', '.join(f"{roots[root]} = '{root}'" for root in outer)
    raise UserError(f'--data-root: this config has {len(outer)} data roots; set each by --cfg-options: {listing}')


def _is_below(path: str, root: str) -> bool:
    return path.startswith(f'{root}/')


def _replace_root(node: Any, key: str, old: str, new: str) -> Any:
    """Return ``node``, the value of ``key``, with ``old`` replaced by ``new`` at the start of every path."""
    if key in NOT_DATA:
        return node
    if isinstance(node, dict):
        # ConfigDict.items() would resolve lazy imports, and the config could no longer be dumped.
        return ConfigDict({name: _replace_root(value, name, old, new) for name, value in dict.items(node)})
    if isinstance(node, list | tuple):
        return type(node)(_replace_root(value, key, old, new) for value in node)
    # A bare word such as 'data' is a folder only where a root is expected.
    is_root = node == old and ('/' in old or key.endswith(('data_root', 'data_prefix')))
    if isinstance(node, str) and (is_root or _is_below(node, old)):
        return new + node.removeprefix(old) or '/'
    return node


def check_data_folders(cfg: Config, loaders: Sequence[str]) -> None:
    """Refuse a config whose datasets lack their folder, or files and folders in it, before a model is built.

    Args:
        cfg: The config.
        loaders: Names of the data loaders that will be used.

    Raises:
        UserError: With the config path of the dataset and everything that is expected and missing, or its annotation
            file, if that begins with a byte-order mark.
    """
    for name in loaders:
        for path, node in iter_dicts(cfg.get(name) or {}, name):
            root = node.get('data_root')
            if not isinstance(root, str) or not root or '://' in root or _is_downloaded(node):
                continue
            folder = Path(root).expanduser()
            if not folder.is_dir():
                raise UserError(
                    f'{path}.data_root: folder {root} does not exist; put the data there or give --data-root'
                )
            if missing := [f'{key} {part}' for key, part in _required_paths(node) if not (folder / part).exists()]:
                raise UserError(f'{path}: {root} lacks {", ".join(missing)}; unpack the rest there or give --data-root')
            _refuse_byte_order_mark(f'{path}.ann_file', folder / str(node.get('ann_file') or ''))


def _refuse_byte_order_mark(path: str, file: Path) -> None:
    """Refuse a byte-order mark, which the libraries would take for a part of the first name in the file."""
    if not file.is_file():
        return
    with open(file, 'rb') as opened:
        if opened.read(len(BOM_UTF8)) == BOM_UTF8:
            raise UserError(f'{path}: {file} begins with a byte-order mark: save it as UTF-8 without one')


def _required_paths(node: Mapping) -> Iterator[tuple[str, str]]:
    """Yield the files and folders that a dataset of OpenMMLab joins to its root, after the keys that name them."""
    if str(node.get('type')).startswith('reprefine.'):
        return  # these check it themselves, and say how to make what is missing
    prefix = node.get('data_prefix')
    named = {'ann_file': node.get('ann_file')}
    named |= {f'data_prefix.{key}': value for key, value in prefix.items()} if isinstance(prefix, dict) else {}
    named |= {'data_prefix': prefix} if isinstance(prefix, str) else {}
    yield from ((key, value) for key, value in named.items() if isinstance(value, str) and value)


def _is_downloaded(node: Mapping) -> bool:
    """Return whether the dataset downloads its files."""
    if not isinstance(node.get('type'), str):
        return False
    with DATASETS.switch_scope_and_registry(node.get('_scope_')) as registry:
        dataset = registry.get(node['type'])
    return dataset is not None and node.get('download', 'download' in signature(dataset).parameters)
