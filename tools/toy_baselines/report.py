"""The table of the toy baselines."""

import argparse
import json
import platform
from pathlib import Path

from chance import CHANCE
from mmengine.config import Config
from recipe import Recipe

from reprefine.engine.cli.launch import add_config_arguments, load_config
from reprefine.visualization.results import markdown_table, read_scalars, seconds_of_training

HEADER = ('data', 'config', 'iterations', 'measure', 'result', 'chance', 'minutes of training')


def write_table(recipes: dict[str, Recipe], data: Path, out: Path) -> str:
    """Write ``table.md`` below ``out`` and return it: one row a recipe, and what the machine is."""
    rows = [_row(recipe, data, out / name) for name, recipe in recipes.items()]
    text = f'{markdown_table(HEADER, rows)}\n\nMachine: {platform.machine()}, one thread a run, no GPU.\n'
    (out / 'table.md').write_text(text)
    return text


def _row(recipe: Recipe, data: Path, folder: Path) -> tuple[str, ...]:
    records = [record for record in read_scalars(folder) if 'loss' in record]
    result = _result(recipe, records, folder)
    chance = CHANCE[recipe.chance](_test_config(recipe, data))
    beats = result < chance if recipe.lower_is_better else result > chance
    return (
        recipe.data_root,
        f'`{recipe.config}`',
        str(records[-1]['step']),
        recipe.measure,
        f'{result:.3g}{"" if beats else " (no better than chance)"}',
        f'{chance:.3g}',
        f'{seconds_of_training(records) / 60:.1f}',
    )


def _test_config(recipe: Recipe, data: Path) -> Config:
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_config_arguments(parser)
    options = ['--cfg-options', *recipe.both] if recipe.both else []
    args = parser.parse_args([str(recipe.config_file), '--data-root', str(data / recipe.data_root), *options])
    return load_config(args.config, args.cfg_options, args.data_root)


def _result(recipe: Recipe, records: list[dict], folder: Path) -> float:
    if recipe.metric == 'loss':
        return records[-1]['loss']
    return json.loads((folder / 'metrics.json').read_text())[recipe.metric] * recipe.factor
