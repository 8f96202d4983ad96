"""Every published row is a config that follows the published recipe.

``tests/methods/<method>/configs/recipes.yml`` states the recipes, from the papers and the released codes; a row names
its config and what it must say. A path leads through dicts by key and through lists by index, or by the ``type`` of the
item in brackets: ``train_dataloader.dataset.pipeline[RandomCrop].crop_size``. ``batch`` is that of all GPUs together.
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tests.configs.published import PAGE, page
from tests.configs.published_recipes import RECIPES, config_of, rows

ROWS = [pytest.param(row, id=f'{method}: {row["row"]}') for method in sorted(RECIPES) for row in rows(method)]


def find(node: Any, path: str) -> Any:
    """Return what a path leads to; a list matches a type if exactly one of its items has it."""
    for key in re.findall(r'\[\w+\]|[^.\[\]]+', path):
        if key.startswith('['):
            (node,) = [item for item in node if str(item['type']).rpartition('.')[2] == key[1:-1]]
        elif isinstance(node, Mapping):
            node = node.get(key)
        else:
            node = node[int(key)]
    return node


def plain(value: Any) -> Any:
    """Return a value with tuples as lists and configs as dicts, as YAML has them."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def gpus_and_batch(name: str) -> int:
    """Return the number of GPUs that a config's name states, such as 8 of ``8xb32``; 1 without one."""
    named = re.search(r'_(\d+)xb\d+', name)
    return int(named[1]) if named else 1


@pytest.mark.parametrize('row', ROWS)
def test_the_config_of_a_row_follows_its_recipe(row):
    cfg = config_of(row['config'])
    wrong = []
    for path, wanted in row['expect'].items():
        if path == 'batch':
            found = row.get('gpus', gpus_and_batch(row['config'])) * cfg.train_dataloader.batch_size
        else:
            found = plain(find(cfg.to_dict(), path))
        if found != (pytest.approx(wanted) if isinstance(wanted, float) else wanted):
            wrong.append(f'{path}: {found!r}, published is {wanted!r}')
    assert not wrong, '\n'.join(wrong)


@pytest.mark.parametrize('method', sorted(RECIPES))
def test_every_row_has_a_config_of_its_own(method):
    configs = [row['config'] for row in rows(method)]
    assert len(set(configs)) == len(configs)
    assert len({row['row'] for row in rows(method)}) == len(configs)


def test_paths_find_items_by_type_and_index():
    cfg = dict(pipeline=[dict(type='reprefine.A', x=(1, 2)), dict(type='B', x=3)], other=dict(y=None))
    assert plain(find(cfg, 'pipeline[A].x')) == [1, 2]
    assert find(cfg, 'pipeline.1.x') == 3
    assert find(cfg, 'other.y') is None
    with pytest.raises(ValueError, match='not enough values'):
        find(cfg, 'pipeline[C].x')


def test_the_page_of_rows_is_what_the_recipes_say():
    assert PAGE.read_text() == page(), 'run python -m tests.configs.published --write'
