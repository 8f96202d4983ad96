"""Plots of score statistics: curves with bands, and 3-D waterfall plots."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .score_files import ScoreRun

LABELS = dict(
    pos_mean='mean score of positives',
    pos_var='variance of positive scores',
    neg_mean='mean score of negatives',
    neg_var='variance of negative scores',
    exp_pos='mean exp(score / T) of positives',
    exp_neg='mean exp(score / T) of negatives',
    p_pos='probability of the positive',
    contrast_top1='positive scores highest (%)',
)


@dataclass(frozen=True)
class PlotStyle:
    """Settings of the plots.

    Attributes:
        x: Horizontal axis, ``'iter'`` or ``'epoch'``.
        start: Points up to this x value are not shown.
        smooth: Window of the centred running mean, in records.
        band: Whether to shade one standard deviation around means whose variance is recorded.
        ylim: Limits of the y axis by statistic.
        vlines: x values of vertical lines.
    """

    x: str = 'iter'
    start: float = 0
    smooth: int = 1
    band: bool = False
    ylim: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    vlines: Sequence[float] = ()


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Return the centred running mean, over fewer values at the ends.

    Args:
        values: ``[n]``.
        width: Odd size of the window; an even one is increased by 1.

    Returns:
        Shape ``[n]``.
    """
    half = width // 2
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    indices = np.arange(len(values))
    low, high = np.maximum(indices - half, 0), np.minimum(indices + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def select_curve(run: ScoreRun, key: str, style: PlotStyle) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y values of one curve.

    Raises:
        UserError: If the run has no such statistic, no epochs for an axis of epochs, or no records after the start.
    """
    if key not in run.values:
        raise UserError(f'{run.name} has no {key}: use one of {", ".join(run.values)}')
    x = run.iters if style.x == 'iter' else run.epochs
    if x is None:
        raise UserError(f'{run.name} was trained by iterations and has no epochs: use --x iter')
    shown = x > style.start
    if not shown.any():
        raise UserError(f'{run.name} ends before {style.x} {style.start:g}: lower --start')
    return x[shown], running_mean(run.values[key], style.smooth)[shown]


def plot_lines(runs: Sequence[ScoreRun], keys: Sequence[str], style: PlotStyle) -> Figure:
    """Plot a panel for each statistic with a curve for each run.

    Args:
        runs: The runs; their names are the legend.
        keys: Statistics.
        style: Settings.
    """
    figure = Figure(figsize=(4.2 * len(keys), 3.4), layout='constrained', dpi=150)
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        for run in runs:
            x, values = select_curve(run, key, style)
            (line,) = axes.plot(x, values, label=run.name, linewidth=1.2)
            variance = key.replace('_mean', '_var')
            if style.band and variance != key:
                std = np.sqrt(select_curve(run, variance, style)[1])
                axes.fill_between(x, values - std, values + std, color=line.get_color(), alpha=0.15, linewidth=0)
        for x in style.vlines:
            axes.axvline(x, color='0.5', linestyle='--', linewidth=0.8)
        _label(axes, key, style)
        axes.set_ylim(style.ylim.get(key))
        axes.grid(alpha=0.25)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside lower center', ncols=min(len(names), 6), frameon=False)
    return figure


def plot_waterfall(runs: Sequence[ScoreRun], keys: Sequence[str], style: PlotStyle) -> Figure:
    """Plot a 3-D panel for each statistic, with the runs along the x axis.

    Arguments as for :func:`plot_lines`; vertical lines and bands are not supported.
    """
    figure = Figure(figsize=(5 * len(keys), 4), dpi=150)
    figure.subplots_adjust(left=0.04, right=0.95, bottom=0.04, top=1, wspace=0.12)
    for index, key in enumerate(keys):
        axes = figure.add_subplot(1, len(keys), index + 1, projection='3d')
        for row, run in enumerate(runs):
            x, values = select_curve(run, key, style)
            axes.plot(np.full(len(x), row), x, values, linewidth=1.0)
        names = [run.name for run in runs]
        axes.set_xticks(range(len(runs)), names, fontsize=7, ha='right', va='center', rotation_mode='anchor')
        axes.tick_params(labelsize=7, pad=1)
        axes.tick_params(axis='z', pad=4)
        axes.yaxis.set_major_locator(MaxNLocator(4, prune='lower'))
        axes.zaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel(_x_label(style), fontsize=8, labelpad=6)
        axes.set_zlabel(_y_label(key), fontsize=8, labelpad=10)
        axes.set_zlim(style.ylim.get(key))
        axes.set_box_aspect((4, 4, 3), zoom=0.95)
        axes.view_init(elev=24, azim=-52)
    return figure


def write_csv(runs: Sequence[ScoreRun], keys: Sequence[str], path: Path) -> None:
    """Write run, iteration, epoch and statistics as recorded, without smoothing and without a start."""
    with atomic_write(path) as partial, open(partial, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'iter', 'epoch', *keys])
        for run in runs:
            epochs = [''] * len(run.iters) if run.epochs is None else run.epochs.tolist()
            columns = [run.values[key].tolist() for key in keys]
            writer.writerows([run.name, *row] for row in zip(run.iters.tolist(), epochs, *columns, strict=True))


def _label(axes: Axes, key: str, style: PlotStyle) -> None:
    axes.set_xlabel(_x_label(style))
    axes.set_ylabel(_y_label(key))


def _x_label(style: PlotStyle) -> str:
    return 'iteration' if style.x == 'iter' else 'epoch'


def _y_label(key: str) -> str:
    before = ' before the transform' if key.startswith('raw_') else ''
    return LABELS.get(key.removeprefix('raw_'), key) + before
