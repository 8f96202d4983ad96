"""Tables and plots of the results of repeated runs."""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')  # files only, no display
import numpy as np
from matplotlib import pyplot as plt


def mean_std(values: Sequence[float], digits: int = 2) -> str:
    """Return ``mean ± std`` (sample standard deviation, n - 1) of repeated runs, or the mean only of one run."""
    mean = f'{np.mean(values):.{digits}f}'
    return f'{mean} ± {np.std(values, ddof=1):.{digits}f}' if len(values) > 1 else mean


def paired_difference(values: Sequence[float], control: Sequence[float], digits: int = 2) -> str:
    """Return ``mean ± std`` of the signed difference to the control run of the same seed."""
    differences = np.subtract(values, control)
    text = mean_std(differences, digits)
    return text if text.startswith('-') else f'+{text}'


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others right-aligned."""
    rule = ['---', *(['---:'] * (len(header) - 1))]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in (header, rule, *rows))


def read_scalars(work_dir: Path) -> list[dict]:
    """Return the records of ``scalars.json`` of all runs in a work dir, oldest first."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines() if line]


def epoch_series(records: Sequence[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs and the mean of ``key`` in each epoch.

    Training records have the key ``epoch``; validation records store the epoch in ``step``.
    """
    values: dict[int, list[float]] = {}
    for record in records:
        if key in record:
            values.setdefault(int(record.get('epoch', record.get('step', 0))), []).append(record[key])
    epochs = sorted(values)
    return np.array(epochs), np.array([np.mean(values[epoch]) for epoch in epochs])


def seconds_of_training(records: Sequence[dict]) -> float:
    """Return the training time in seconds: the median time of an iteration times the number of iterations."""
    train = [record for record in records if 'lr' in record]
    return float(np.median([r['time'] for r in train]) * max(r['step'] for r in train)) if train else 0.0


def plot_curves(
    panels: Sequence[tuple[str, str, dict[str, tuple[np.ndarray, np.ndarray]]]], xlabel: str, out: Path
) -> None:
    """Plot one panel for each quantity: mean over the runs as a line, one standard deviation as a band.

    Args:
        panels: Title, y label, and for each curve its x values of shape (N,) and y values of shape (runs, N).
        xlabel: Label shared by the x axes.
        out: PNG file to write.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 3.6), layout='constrained', squeeze=False)
    labels = list(dict.fromkeys(label for _, _, curves in panels for label in curves))
    for axis, (title, ylabel, curves) in zip(axes[0], panels, strict=True):
        for label, (x, runs) in curves.items():
            mean, std = runs.mean(0), runs.std(0, ddof=1) if len(runs) > 1 else 0.0
            color = f'C{labels.index(label)}'  # equal in all panels
            axis.plot(x, mean, label=label, linewidth=1.6, color=color)
            axis.fill_between(x, mean - std, mean + std, color=color, alpha=0.18, linewidth=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(out, dpi=130)
    plt.close(figure)


def plot_bars(names: Sequence[str], groups: dict[str, Sequence[float]], ylabel: str, title: str, out: Path) -> None:
    """Plot grouped bars, one group for each name.

    Args:
        names: Labels of the x axis, N of them.
        groups: N values of each label; a label has one colour.
        ylabel: Label of the y axis.
        title: Title of the plot.
        out: PNG file to write.
    """
    figure, axis = plt.subplots(figsize=(max(6.0, 0.75 * len(names) + 2), 3.8), layout='constrained')
    width = 0.8 / len(groups)
    for i, (label, values) in enumerate(groups.items()):
        axis.bar(np.arange(len(names)) + (i - (len(groups) - 1) / 2) * width, values, width, label=label)
    axis.set_xticks(np.arange(len(names)), names, rotation=20, ha='right', fontsize=8)
    axis.set(ylabel=ylabel, title=title)
    axis.grid(axis='y', alpha=0.3)
    figure.legend(loc='outside lower center', ncols=len(groups), frameon=False)
    figure.savefig(out, dpi=130)
    plt.close(figure)
