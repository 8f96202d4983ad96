"""Figures: which timesteps were chosen, and what a teacher's features are worth at each."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .policy.histogram import STATS, HistogramRun

LABELS = dict(
    reward='mean reward',
    policy_entropy='entropy of the policy (nats)',
    timestep_mean='mean timestep',
    timestep_std='std of the timesteps',
    effective_timesteps='effective number of timesteps',
    head_accuracy='accuracy of the head',
    reward_baseline='baseline of the reward',
)


def binned_share(counts: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each bin of timesteps in each epoch.

    Args:
        counts: ``[E, T]``.
        bins: Number of bins of nearly equal width, at most ``T``.

    Returns:
        Shares ``[E, bins]``, whose rows sum to 1, and the edges ``[bins + 1]``.
    """
    edges = np.linspace(0, counts.shape[1], min(bins, counts.shape[1]) + 1).round().astype(int)
    sums = np.add.reduceat(counts, edges[:-1], axis=1)
    return sums / np.maximum(counts.sum(axis=1, keepdims=True), 1), edges


def plot_timesteps(
    runs: Sequence[HistogramRun],
    stats: Sequence[str] = ('reward', 'policy_entropy'),
    bins: int = 50,
    by_class: bool = False,
) -> Figure:
    """Draw a heat map of epoch and timestep for each run, and below them curves that compare the runs.

    Args:
        runs: The runs, named as the legend shall name them.
        stats: Statistics to compare.
        bins: Bins of timesteps.
        by_class: Also draw the mean timestep of each class.

    Raises:
        UserError: If a statistic is unknown, or no run has classes although they are asked for.
    """
    if unknown := set(stats) - set(STATS):
        raise UserError(f'unknown statistic {", ".join(sorted(unknown))}: use {", ".join(STATS)}')
    if by_class and not any(run.class_means.shape[1] for run in runs):
        raise UserError('no run has a mean timestep by class: its hook had no head or no labels')
    rows = 2 + by_class
    width = max(4.2 * len(runs), 3.6 * len(stats))
    figure = Figure(figsize=(width, 3.2 * rows), layout='constrained', dpi=150)
    parts = figure.subfigures(rows, 1)
    panels = parts[0].subplots(1, len(runs), squeeze=False)[0]
    for axes, run in zip(panels, runs, strict=True):
        image = _heat_map(axes, run, bins)
        parts[0].colorbar(image, ax=axes, label='share of the images')
    for axes, stat in zip(parts[1].subplots(1, len(stats), squeeze=False)[0], stats, strict=True):
        for run in runs:
            axes.plot(run.epochs, run.stats[stat], label=run.name, marker='.', linewidth=1.2)
        _label(axes, LABELS[stat])
        axes.legend(fontsize=7, frameon=False)
    if by_class:
        for axes, run in zip(parts[2].subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
            for label, means in enumerate(run.class_means.T):
                axes.plot(run.epochs, means, linewidth=0.8, label=str(label))
            axes.set_title(run.name, fontsize=9)
            _label(axes, 'mean timestep by class')
    return figure


def _heat_map(axes: Axes, run: HistogramRun, bins: int):
    share, edges = binned_share(run.counts, bins)
    times = np.append(run.epochs - 0.5, run.epochs[-1] + 0.5)
    image = axes.pcolormesh(times, edges, share.T, cmap='viridis', vmin=0)
    axes.set_title(run.name, fontsize=9)
    axes.set_xlabel('epoch')
    axes.set_ylabel('timestep')
    return image


def _label(axes: Axes, y: str) -> None:
    axes.set_xlabel('epoch')
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)


def plot_probe(
    timesteps: Sequence[int], accuracy: Sequence[float], rank: Sequence[float], chosen: np.ndarray | None
) -> Figure:
    """Draw accuracy of a linear probe and effective rank over the timesteps.

    Args:
        timesteps: The grid.
        accuracy: Per cent, NaN without labels.
        rank: Effective ranks.
        chosen: How often a policy chose each of the ``T`` timesteps, drawn behind; None: not drawn.
    """
    figure = Figure(figsize=(8, 3.4), layout='constrained', dpi=150)
    for axes, values, name in zip(
        figure.subplots(1, 2), (accuracy, rank), ('accuracy of a linear probe (%)', 'effective rank'), strict=True
    ):
        if chosen is not None:
            behind = axes.twinx()
            behind.fill_between(np.arange(len(chosen)), chosen / chosen.sum(), color='0.85', step='mid', linewidth=0)
            behind.set_yticks([])
            axes.set_zorder(behind.get_zorder() + 1)
            axes.patch.set_visible(False)
        axes.plot(timesteps, values, marker='.', linewidth=1.2)
        axes.set_xlabel('timestep')
        axes.set_ylabel(name)
        axes.grid(alpha=0.25)
    return figure


def write_stats(runs: Sequence[HistogramRun], path: Path) -> None:
    """Write run, epoch, all statistics and the timestep chosen most often as CSV."""
    with atomic_write(path) as partial, open(partial, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'epoch', *STATS, 'mode'])
        for run in runs:
            columns = [run.stats[key].tolist() for key in STATS]
            modes = run.counts.argmax(axis=1).tolist()
            writer.writerows([run.name, *row] for row in zip(run.epochs.tolist(), *columns, modes, strict=True))
