"""Results of groups of runs side by side: mean and spread over seeds, and the paired difference to the first group."""

import ast
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reprefine.engine.errors import UserError


class RunResult(NamedTuple):
    """What one work directory tells.

    Attributes:
        folder: The work directory.
        seed: Its seed, None if it was not set or is not known.
        curves: For each scalar that was logged, its values in the order of time.
    """

    folder: Path
    seed: int | None
    curves: dict[str, list[float]]


def read_result(folder: str | Path) -> RunResult:
    """Read all scalars of a work directory, from the logs of training, validation and test, oldest first.

    Args:
        folder: Work directory of mmengine; a resumed run has several logs in it.

    Raises:
        UserError: If there is no log.
    """
    folder, curves, seed = Path(folder), {}, None
    logs = sorted(
        (
            path
            for path in folder.glob('*/**/*.json')
            if path.parent.name == 'vis_data' or path.stem == path.parent.name
        ),
        key=lambda path: (path.relative_to(folder).parts[0], path.parent.name != 'vis_data'),
    )
    # vis_data holds every line twice, in scalars.json and under the time of the run.
    logs = [path for path in logs if path.parent.name != 'vis_data' or path.name == 'scalars.json']
    if not logs:
        raise UserError(f'{folder} holds no log (*/vis_data/scalars.json): give a work directory of a finished run')
    for path in logs:
        for line in path.read_text().splitlines():
            for key, value in _record(line, path).items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    curves.setdefault(key, []).append(float(value))
    for config in sorted(folder.glob('*/vis_data/config.py')):
        seed = seed_of(config.read_text())
    return RunResult(folder, seed, curves)


def _record(line: str, path: Path) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(f'{path} is damaged: {error}') from error
    return record if isinstance(record, dict) else {}


def seed_of(config: str) -> int | None:
    """Return ``randomness.seed`` from the text of a config; nothing in it is run."""
    for node in ast.parse(config).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == 'randomness':
            for keyword in getattr(node.value, 'keywords', []):
                if keyword.arg == 'seed':
                    return ast.literal_eval(keyword.value)
    return None


def chosen_value(run: RunResult, metric: str, at: str = 'last') -> float:
    """Return one value of a run.

    Args:
        run: The run.
        metric: Name of a scalar.
        at: ``'last'``, ``'max'`` or ``'min'``.

    Raises:
        UserError: If the run has no such scalar.
    """
    if metric not in run.curves:
        raise UserError(f'{run.folder} has no {metric}; it has {", ".join(sorted(run.curves))}')
    return dict(last=lambda values: values[-1], max=max, min=min)[at](run.curves[metric])


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation (n - 1) and the number of values; of one value, itself."""
    if len(values) == 1:
        return f'{values[0]:.2f}'
    return f'{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} (n={len(values)})'


def difference(runs: Sequence[RunResult], base: Sequence[RunResult], metric: str, at: str) -> str:
    """Return the difference to the base: paired by seed if both have the same seeds, else of the means.

    Args:
        runs: Runs of a group.
        base: Runs of the baseline.
        metric: Name of a scalar.
        at: As in :func:`chosen_value`.
    """
    ours, theirs = (_by_seed(group, metric, at) for group in (runs, base))
    if ours is not None and theirs is not None and ours.keys() == theirs.keys() and len(ours) > 1:
        values = [ours[seed] - theirs[seed] for seed in sorted(ours)]
        error = statistics.stdev(values) / math.sqrt(len(values))
        return f'{statistics.mean(values):+.2f} ± {statistics.stdev(values):.2f} (paired, s.e. {error:.2f})'
    means = [statistics.mean(chosen_value(run, metric, at) for run in group) for group in (runs, base)]
    return f'{means[0] - means[1]:+.2f}'


def _by_seed(runs: Sequence[RunResult], metric: str, at: str) -> dict[int, float] | None:
    values = {run.seed: chosen_value(run, metric, at) for run in runs}
    return None if None in values or len(values) < len(runs) else values


def comparison_table(groups: Mapping[str, Sequence[RunResult]], metrics: Sequence[str], at: str = 'last') -> str:
    """Return a Markdown table: a row a group, and for each metric its value and its difference to the first group.

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
            row.append(spread([chosen_value(run, metric, at) for run in runs]))
            row.append('' if runs is base else difference(runs, base, metric, at))
        rows.append(row)
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)
