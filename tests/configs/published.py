"""Writes ``docs/published_rows.md`` from the recipes of the methods: ``python -m tests.configs.published --write``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from reprefine.engine.cli.launch import default_work_dir
from reprefine.engine.config_check.walk import find_checkpoints
from tests.configs.brief import ROOT
from tests.configs.published_recipes import RECIPES, config_of, rows
from tests.helpers.pages import write_as_tool

PAGE = ROOT / 'docs/published_rows.md'
HEAD = """\
<!-- Written by `python -m tests.configs.published --write`; its content is tests/methods/*/configs/recipes.yml. -->

# The published rows

Every row that the papers and the released codes publish has a config with its recipe: a test compares epochs, rates,
batch, schedule, augmentation and start of each with the published ones. The numbers stand in the README of the method.
`tools/train.py CONFIG` trains a row, on as many GPUs as its name says by `tools/dist_train.sh CONFIG GPUS`. What it
starts from is trained by the config of that path below `configs/`, imported as the error message says, or downloaded.

"""


def page() -> str:
    """Return the text of the page."""
    return HEAD + '\n'.join(f'## {_title(method)}\n\n{_table(method)}' for method in sorted(RECIPES))


def _title(method: str) -> str:
    metafile = yaml.safe_load((ROOT / f'configs/{method}/metafile.yml').read_text())
    return metafile['Collections'][0]['Name']


def _table(method: str) -> str:
    lines = ['| row | config | start | evaluation |', '|---|---|---|---|', *map(_line, rows(method))]
    return ''.join(f'{line}\n' for line in lines)


def _line(row: Mapping[str, Any]) -> str:
    path = f'configs/{row["config"]}.py'
    cfg = config_of(row['config'])
    starts = ', '.join(f'`{start}`' for start in find_checkpoints(cfg)) or 'random weights'
    return f'| {row["row"]} | [{Path(path).stem}](../{path}) | {starts} | {_evaluation(path, cfg)} |'


def _evaluation(path: str, cfg: Config) -> str:
    if 'stage1' in cfg:
        return 'its features train the denoiser'
    if not cfg.get('test_dataloader'):
        return 'by the rows that start from it'
    loop = cfg.get('train_cfg') or {}
    if not loop:
        return f'`python tools/test.py {path}`'
    # A loop that states neither makes one pass over the data.
    end = f'iter_{loop["max_iters"]}' if loop.get('max_iters') else f'epoch_{loop.get("max_epochs", 1)}'
    return f'`python tools/test.py {path} {default_work_dir(path)}/{end}.pth`'


if __name__ == '__main__':
    write_as_tool(PAGE, page, __spec__.name)
