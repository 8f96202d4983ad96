"""Curves of score statistics: lines, bands, and runs one behind the other."""

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
class Style:
    """How curves are drawn.

    Attributes:
        x: Horizontal axis, ``'iter'`` or ``'epoch'``.
        start: Points up to this place are left out; the others keep their place.
        smooth: Records averaged for a point, itself in the middle; fewer at the ends.
        band: Shade one standard deviation around means whose variance is known.
        ylim: Limits by statistic.
        vlines: Places of vertical lines.
    """

    x: str = 'iter'
    start: float = 0
    smooth: int = 1
    band: bool = False
    ylim: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    vlines: Sequence[float] = ()


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Return the running mean over ``width`` values centred on each, over those that exist at the ends.

    Args:
        values: ``[n]``.
        width: Odd; an even one counts as the next odd one.
    """
    reach = width // 2
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def curve(run: ScoreRun, key: str, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """Return the places and values of one curve.

    Raises:
        UserError: If the run has no such statistic, no epochs although they are asked for, or nothing after the start.
    """
    if key not in run.values:
        raise UserError(f'{run.name} has no {key}; it has {", ".join(run.values)}')
    places = run.iters if style.x == 'iter' else run.epochs
    if places is None:
        raise UserError(f'{run.name} was trained by iterations and has no epochs: use --x iter')
    shown = places > style.start
    if not shown.any():
        raise UserError(f'{run.name} ends before {style.x} {style.start:g}: lower --start')
    return places[shown], smoothed(run.values[key], style.smooth)[shown]


def plot_lines(runs: Sequence[ScoreRun], keys: Sequence[str], style: Style) -> Figure:
    """Draw a panel for each statistic with a line for each run.

    Args:
        runs: The runs, named as the legend shall name them.
        keys: Statistics.
        style: How to draw.
    """
    figure = Figure(figsize=(4.2 * len(keys), 3.4), layout='constrained', dpi=150)
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        for run in runs:
            places, values = curve(run, key, style)
            (line,) = axes.plot(places, values, label=run.name, linewidth=1.2)
            variance = key.replace('_mean', '_var')
            if style.band and variance != key:
                spread = np.sqrt(curve(run, variance, style)[1])
                axes.fill_between(
                    places, values - spread, values + spread, color=line.get_color(), alpha=0.15, linewidth=0
                )
        for place in style.vlines:
            axes.axvline(place, color='0.5', linestyle='--', linewidth=0.8)
        _label(axes, key, style)
        axes.set_ylim(style.ylim.get(key))
        axes.grid(alpha=0.25)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside lower center', ncols=min(len(names), 6), frameon=False)
    return figure


def plot_waterfall(runs: Sequence[ScoreRun], keys: Sequence[str], style: Style) -> Figure:
    """Draw a space for each statistic with the runs one behind the other.

    Arguments as for :func:`plot_lines`; lines and bands are not drawn.
    """
    figure = Figure(figsize=(5 * len(keys), 4), dpi=150)
    figure.subplots_adjust(left=0.04, right=0.95, bottom=0.04, top=1, wspace=0.12)
    for index, key in enumerate(keys):
        axes = figure.add_subplot(1, len(keys), index + 1, projection='3d')
        for row, run in enumerate(runs):
            places, values = curve(run, key, style)
            axes.plot(np.full(len(places), row), places, values, linewidth=1.0)
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
    """Write the values as they were recorded, neither smoothed nor cut: run, iteration, epoch and the statistics."""
    with atomic_write(path) as partial, open(partial, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'iter', 'epoch', *keys])
        for run in runs:
            epochs = [''] * len(run.iters) if run.epochs is None else run.epochs.tolist()
            columns = [run.values[key].tolist() for key in keys]
            writer.writerows([run.name, *row] for row in zip(run.iters.tolist(), epochs, *columns, strict=True))


def _label(axes: Axes, key: str, style: Style) -> None:
    axes.set_xlabel(_x_label(style))
    axes.set_ylabel(_y_label(key))


def _x_label(style: Style) -> str:
    return 'iteration' if style.x == 'iter' else 'epoch'


def _y_label(key: str) -> str:
    before = ' before the transform' if key.startswith('raw_') else ''
    return LABELS.get(key.removeprefix('raw_'), key) + before
