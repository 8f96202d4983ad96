"""The published recipes as data, ``tests/methods/<method>/configs/recipes.yml``, and the configs of their rows."""

import functools
from collections.abc import Iterator
from typing import Any

import yaml
from mmengine.config import Config

from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT

CONFIGS = ROOT / 'configs'
RECIPES = {
    path.parts[-3]: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / 'tests/methods').glob('*/configs/recipes.yml'))
}


@functools.cache
def config_of(row: str) -> Config:
    """Return the config of a row by its path below ``configs/``, which nobody changes."""
    return load_config(str(CONFIGS / f'{row}.py'))


def rows(method: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a method, each with the expectations of the recipe that it names.

    A row with ``each: [a, b]`` stands for one row of ``a`` and one of ``b``, which take the place of ``{each}`` in it.
    """
    content = RECIPES[method]
    for row in [filled(each, name) for each in content['rows'] for name in each.get('each', [''])]:
        expected: dict[str, Any] = {}
        for recipe in row.get('recipes', ()):
            expected |= content['recipes'][recipe]
        yield row | {'expect': expected | row.get('expect', {})}


def filled(value: Any, name: str) -> Any:
    """Return a row with ``name`` in the place of ``{each}``."""
    if isinstance(value, dict):
        return {key: filled(item, name) for key, item in value.items() if key != 'each'}
    return value.replace('{each}', name) if isinstance(value, str) else value
