"""Comparison of groups of runs: mean and standard deviation over seeds, and paired difference to the baseline."""

import ast
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reprefine.engine.errors import UserError


class RunResult(NamedTuple):
    """Logged scalars of one run.

    Attributes:
        folder: The work directory.
        seed: Its seed; None if it was not set or is unknown.
        curves: Logged values by scalar, in chronological order.
    """

    folder: Path
    seed: int | None
    curves: dict[str, list[float]]


def read_run_result(folder: str | Path) -> RunResult:
    """Read the scalars that training, validation and test logged in a work directory, in chronological order.

    Args:
        folder: Work directory of mmengine; a resumed run has several logs.

    Raises:
        UserError: If there is no log, or one is corrupted.
    """
    folder, seed = Path(folder), None
    curves: dict[str, list[float]] = {}
    logs = sorted(
        (path for path in folder.glob('*/**/*.json') if path.parent.name in ('vis_data', path.stem)),
        key=lambda path: (path.relative_to(folder).parts[0], path.parent.name != 'vis_data'),
    )
    # vis_data has every line twice, in scalars.json and in <timestamp>.json.
    logs = [path for path in logs if path.parent.name != 'vis_data' or path.name == 'scalars.json']
    if not logs:
        raise UserError(f'{folder} has no log (*/vis_data/scalars.json): give a work directory of a finished run')
    for path in logs:
        for line in path.read_text().splitlines():
            for key, value in _record(line, path).items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    curves.setdefault(key, []).append(float(value))
    for config in sorted(folder.glob('*/vis_data/config.py')):
        seed = read_seed(config.read_text())
    return RunResult(folder, seed, curves)


def _record(line: str, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f'{path} is corrupted: {error}; remove the line') from error
    return record if isinstance(record, dict) else {}


def read_seed(config: str) -> int | None:
    """Return ``randomness.seed`` from the text of a config, without executing it."""
    for node in ast.parse(config).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == 'randomness':
            for keyword in getattr(node.value, 'keywords', []):
                if keyword.arg == 'seed':
                    return ast.literal_eval(keyword.value)
    return None


def select_value(run: RunResult, metric: str, at: str = 'last') -> float:
    """Return the last, largest or smallest value of a scalar.

    Args:
        run: The run.
        metric: Name of a scalar.
        at: ``'last'``, ``'max'`` or ``'min'``.

    Raises:
        UserError: If the run has no such scalar.
    """
    if metric not in run.curves:
        raise UserError(f'{run.folder} has no {metric}: use one of {", ".join(sorted(run.curves))}')
    return dict(last=lambda values: values[-1], max=max, min=min)[at](run.curves[metric])


def format_mean_std(values: Sequence[float]) -> str:
    """Return ``mean ± std (n=...)`` with the sample standard deviation (n - 1); of one value, the value."""
    if len(values) == 1:
        return f'{values[0]:.2f}'
    return f'{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} (n={len(values)})'


def format_difference(runs: Sequence[RunResult], base: Sequence[RunResult], metric: str, at: str) -> str:
    """Return the difference to the baseline: paired by seed if both have the same seeds, else of the means.

    Args:
        runs: Runs of a group.
        base: Runs of the baseline.
        metric: Name of a scalar.
        at: As in :func:`chosen_value`.
    """
    refined, baseline = (_by_seed(group, metric, at) for group in (runs, base))
    if refined is not None and baseline is not None and refined.keys() == baseline.keys() and len(refined) > 1:
        values = [refined[seed] - baseline[seed] for seed in sorted(refined)]
        error = statistics.stdev(values) / math.sqrt(len(values))
        return f'{statistics.mean(values):+.2f} ± {statistics.stdev(values):.2f} (paired, s.e. {error:.2f})'
    means = [statistics.mean(select_value(run, metric, at) for run in group) for group in (runs, base)]
    return f'{means[0] - means[1]:+.2f}'


def _by_seed(runs: Sequence[RunResult], metric: str, at: str) -> dict[int, float] | None:
    values = {run.seed: select_value(run, metric, at) for run in runs}
    return None if None in values or len(values) < len(runs) else values


def comparison_table(groups: Mapping[str, Sequence[RunResult]], metrics: Sequence[str], at: str = 'last') -> str:
    """Return a Markdown table with a row for each group: each metric and its difference to the first group.

    Args:
        groups: Runs by the name of their group, the baseline first.
        metrics: Names of scalars.
        at: As in :func:`chosen_value`.
    """
    base = next(iter(groups.values()))
    header = ['runs', *(column for metric in metrics for column in (metric, 'difference'))]
    rows = [header, ['---'] * len(header)]
    for name, runs in groups.items():
        row = [name]
        for metric in metrics:
            row.append(format_mean_std([select_value(run, metric, at) for run in runs]))
            row.append('' if runs is base else format_difference(runs, base, metric, at))
        rows.append(row)
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)
