"""Writes ``docs/methods_and_tasks.md`` from the matrix: ``python -m tests.combinations.matrix_page --write``."""

import textwrap
from collections.abc import Iterable, Sequence

from tests.configs.brief import ROOT
from tests.helpers.pages import write_as_tool

from .matrix import TASKS, Cell, Method, methods
from .matrix_cell import placeholders_of

PAGE = ROOT / 'docs/methods_and_tasks.md'
NAMES = dict(reid='re-identification', face_parsing='face parsing')
REPARAMETERIZE = 'python tools/model_converters/reparameterize_model.py'
HEAD = """\
<!-- Written by `python -m tests.combinations.matrix_page --write`; its content is tests/methods/*/on_tasks.py. -->

# Any method on any task

A method is a few lines of config over a baseline, the same lines for every task. In this table a tick links the
baseline that they are tested on: checked strictly, trained for two iterations on toy data and tested; methods with a
deployed form are reparameterised, with equal outputs before and after.

"""
TAIL = """\
## Run one

Save the configs of a method in a folder, change the baseline and the values in the table below them, and run them in
order, each by `python tools/train.py FILE`. `--data-root` sets the path of your data or of
[toy data](get_started/use.md#data-and-toy-data-for-every-benchmark), and `--cfg-options` changes single values:

    python tools/dataset_tools/make_toy_data.py --out data/toy --only coco
    python tools/train.py train.py --data-root data/toy/coco --cfg-options train_cfg.max_epochs=1

For a baseline of your own, or an official config such as `mmdet::retinanet/retinanet_r50_fpn_1x_coco.py`, replace the
one in `_base_` and add `custom_imports = dict(imports=['reprefine'])`.

## Combine two

Write both into one config: DenoiseRep changes the type of the model, PDDR that of its backbone, DVT adds a neck,
RepFusion and feature transformation choose what the backbone starts from. The [tutorial](tutorial.md) trains two
methods at once, reparameterises them and runs the result in onnxruntime.
"""


def page() -> str:
    """Return the text of the page."""
    return HEAD + '\n'.join([_overview(), *map(_section, methods()), TAIL])


def _name(task: str) -> str:
    return NAMES.get(task, task)


def _link(cell: Cell, text: str) -> str:
    return f'[{text}](../configs/baselines/{cell.baseline}.py)'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


def _overview() -> str:
    rows = []
    for method in methods():
        marks = ['–' if method.cells[task].reason else _link(method.cells[task], '✓') for task in TASKS]
        rows.append([f'[{method.title}](#{method.title.lower().replace(" ", "-")})', *marks])
    return _table(['', *map(_name, TASKS)], rows)


def _section(method: Method) -> str:
    shown = next(task for task in TASKS if not method.cells[task].reason)
    parts = [f'## {method.title}\n', _wrapped(f'{method.about} [More](../configs/{method.readme}/README.md).')]
    for name, text in method.configs(shown, **placeholders_of(method.cells[shown])).items():
        parts.append(f'`{name}`, for {_name(shown)}:\n\n```python\n{text}```\n')
    parts.append(_values(method))
    if method.is_deployable:
        (config,) = method.files
        parts.append(
            'The tool writes a checkpoint of the baseline:\n\n'
            f'    {REPARAMETERIZE} {config} CHECKPOINT OUT --export-plain\n'
        )
    refused = {_name(task): cell.reason for task, cell in method.cells.items() if cell.reason}
    parts += [_wrapped(f'Not for {task}: {reason}.') for task, reason in _grouped(refused)]
    return '\n'.join(parts)


def _wrapped(text: str) -> str:
    return f'{textwrap.fill(text, 120, break_on_hyphens=False)}\n'


def _values(method: Method) -> str:
    """Return the table of the values of a snippet for each task."""
    runs = {task: cell for task, cell in method.cells.items() if not cell.reason}
    known = {task: placeholders_of(cell) | cell.values for task, cell in runs.items()}
    texts = ''.join(method.files.values())
    used = {name for values in known.values() for name in values if f'${name}' in texts}
    varying = [name for name in sorted(used, key=texts.index) if len({values[name] for values in known.values()}) > 1]
    rows = [
        [_name(task), _link(cell, cell.baseline.rpartition('/')[2]), *(f'`{known[task][name]}`' for name in varying)]
        for task, cell in runs.items()
    ]
    return _table(['task', 'baseline', *varying], rows)


def _grouped(reasons: dict[str, str]) -> list[tuple[str, str]]:
    """Return each reason once, with the names of its tasks."""
    return [
        (' and '.join(filter(None, (', '.join(names[:-1]), names[-1]))), reason)
        for reason in dict.fromkeys(reasons.values())
        for names in [[name for name, own in reasons.items() if own == reason]]
    ]


if __name__ == '__main__':
    write_as_tool(PAGE, page, __spec__.name)
