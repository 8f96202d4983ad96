"""List the configs of the model zoo with published and measured values, by method, task and dataset."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/list_configs.py --method pddr --task detection
"""
ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ('method', 'task', 'dataset', 'config', 'published', 'baseline', 'measured here', 'training')
PAGE_HEAD = """<!-- Written by `tools/analysis_tools/list_configs.py --page docs/model_zoo.md` from the metafiles. -->

# Model zoo

Every config in the metafiles of the methods. Published values are the authors', none of them run here; the baseline is
the network without the method, as published beside it. GPUs and batch size are those of the name of the config.
No checkpoint of a full training is hosted. `tools/analysis_tools/list_configs.py` prints the same in a terminal.

"""


def zoo_rows() -> Iterator[dict[str, str]]:
    """Yield a row for each config of the metafiles and each of its published or measured results."""
    import yaml

    for file in sorted(ROOT.glob('configs/*/metafile.yml')):
        content = yaml.safe_load(file.read_text())
        for model in content['Models']:
            results = [('published', found) for found in model.get('Published', ())]
            results += [('measured here', found) for found in model.get('Results', ())]
            for kind, found in results or [('published', {})]:
                yield _row(file.parent.name, model, kind, found)


def _row(method: str, model: dict[str, Any], kind: str, result: dict[str, Any]) -> dict[str, str]:
    task, metadata = model['Config'].split('/')[2], model.get('Metadata', {})
    return dict.fromkeys(COLUMNS, '') | {
        'method': method,
        'task': result.get('Task', task.replace('_', ' ')).lower(),
        'dataset': result.get('Dataset', metadata.get('Training Data', '')),
        kind: _values(result.get('Metrics', {})),
        'baseline': _values(result.get('Baseline', {})),
        'training': _training(model['Name'], metadata),
        'config': model['Config'],
    }


def _values(metrics: dict[str, float]) -> str:
    return ', '.join(f'{name} {value}' for name, value in metrics.items())


def _training(name: str, metadata: dict[str, Any]) -> str:
    """Return the length of the training, and GPUs and batch size if the name of the config has them."""
    length = [f'{metadata[key]:,} {key.lower()}' for key in ('Epochs', 'Iterations') if key in metadata]
    devices = [f'{found[1]} x {found[2]} images' for found in [re.search(r'_(\d+)xb(\d+)', name)] if found]
    return ', '.join(length + devices)


def select_rows(method: str | None, task: str | None, dataset: str | None) -> list[dict[str, str]]:
    """Return the rows whose method, task and dataset contain the words given, upper and lower case alike.

    Raises:
        UserError: If there is none.
    """
    wanted = {'method': method, 'task': task, 'dataset': dataset}
    rows = list(zoo_rows())
    found = [row for row in rows if all(not word or word.lower() in row[key].lower() for key, word in wanted.items())]
    if not found:
        values = '; '.join(f'{key}s: {", ".join(sorted({row[key] for row in rows}))}' for key in ('method', 'task'))
        raise UserError(f'no config has {", ".join(f"{k} {w}" for k, w in wanted.items() if w)}; {values}')
    return found


def zoo_page(rows: list[dict[str, str]]) -> str:
    """Return the page of the documentation: a table with links to the configs and what each starts from."""
    from mmengine.config import Config

    from reprefine.engine.config_check.walk import find_checkpoints

    lines = [f'| {" | ".join((*COLUMNS, "starts from"))} |', '|---' * (len(COLUMNS) + 1) + '|']
    for row in rows:
        cfg = Config.fromfile(ROOT / row['config'], import_custom_modules=False)
        starts = '<br>'.join(f'`{start}`' for start in find_checkpoints(cfg)) or 'random weights'
        link = f'[{Path(row["config"]).stem}](../{row["config"]})'
        lines.append(f'| {" | ".join([*(row | dict(config=link)).values(), starts])} |')
    return PAGE_HEAD + '\n'.join(lines) + '\n'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--method', help='part of the name of a method, such as pddr')
    parser.add_argument('--task', help='part of the name of a task, such as detection')
    parser.add_argument('--dataset', help='part of the name of a dataset, such as coco')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--page', type=Path, help='Markdown page to write instead, with what each config starts from')


def main(args: argparse.Namespace) -> None:
    """Print the selected configs, or write the page."""
    rows = select_rows(args.method, args.task, args.dataset)
    if args.page:
        args.page.write_text(zoo_page(rows))
    elif args.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        from rich.console import Console
        from rich.table import Table

        shown = [column for column in COLUMNS if any(row[column] for row in rows)]
        table = Table(*shown)
        for row in rows:
            table.add_row(*(row[column] for column in shown))
        Console(width=None if Console().is_terminal else 200).print(table)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
