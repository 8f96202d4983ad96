"""Figures of the selected timesteps, and of the evaluation of a teacher's features at each timestep."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .policy.histogram import STATS, RunHistogram

LABELS = dict(
    reward='mean reward',
    policy_entropy='entropy of the policy (nats)',
    timestep_mean='mean timestep',
    timestep_std='std of the timesteps',
    effective_timesteps='effective number of timesteps',
    head_accuracy='accuracy of the head',
    reward_baseline='reward baseline',
)


def binned_fractions(counts: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fraction of images in each bin of timesteps, for each epoch.

    Args:
        counts: ``[E, T]``.
        bins: Number of bins of nearly equal width; limited to ``T``.

    Returns:
        Fractions ``[E, bins]``, whose rows sum to 1, and bin edges ``[bins + 1]``.
    """
    edges = np.linspace(0, counts.shape[1], min(bins, counts.shape[1]) + 1).round().astype(int)
    sums = np.add.reduceat(counts, edges[:-1], axis=1)
    return sums / np.maximum(counts.sum(axis=1, keepdims=True), 1), edges


def plot_timesteps(
    runs: Sequence[RunHistogram],
    stats: Sequence[str] = ('reward', 'policy_entropy'),
    bins: int = 50,
    by_class: bool = False,
) -> Figure:
    """Draw a heat map of epoch and timestep for each run, and curves that compare the runs.

    Args:
        runs: The runs; their names are shown in the legend.
        stats: Statistics to compare.
        bins: Number of bins of timesteps.
        by_class: Also draw the mean timestep of each class.

    Raises:
        UserError: If a statistic is unknown, or ``by_class`` is set and no run has classes.
    """
    if unknown := set(stats) - set(STATS):
        raise UserError(f'unknown statistic {", ".join(sorted(unknown))}: use {", ".join(STATS)}')
    if by_class and not any(run.class_means.shape[1] for run in runs):
        raise UserError('no run has a mean timestep by class, which needs a head and labels: remove --classes')
    rows = 2 + by_class
    width = max(4.2 * len(runs), 3.6 * len(stats))
    figure = Figure(figsize=(width, 3.2 * rows), layout='constrained', dpi=150)
    subfigures = figure.subfigures(rows, 1)
    panels = subfigures[0].subplots(1, len(runs), squeeze=False)[0]
    for axes, run in zip(panels, runs, strict=True):
        image = _heat_map(axes, run, bins)
        subfigures[0].colorbar(image, ax=axes, label='fraction of the images')
    for axes, stat in zip(subfigures[1].subplots(1, len(stats), squeeze=False)[0], stats, strict=True):
        for run in runs:
            axes.plot(run.epochs, run.stats[stat], label=run.name, marker='.', linewidth=1.2)
        _label(axes, LABELS[stat])
        axes.legend(fontsize=7, frameon=False)
    if by_class:
        for axes, run in zip(subfigures[2].subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
            for label, means in enumerate(run.class_means.T):
                axes.plot(run.epochs, means, linewidth=0.8, label=str(label))
            axes.set_title(run.name, fontsize=9)
            _label(axes, 'mean timestep by class')
    return figure


def _heat_map(axes: Axes, run: RunHistogram, bins: int) -> QuadMesh:
    fractions, edges = binned_fractions(run.counts, bins)
    epoch_edges = np.append(run.epochs - 0.5, run.epochs[-1] + 0.5)
    image = axes.pcolormesh(epoch_edges, edges, fractions.T, cmap='viridis', vmin=0)
    axes.set_title(run.name, fontsize=9)
    axes.set_xlabel('epoch')
    axes.set_ylabel('timestep')
    return image


def _label(axes: Axes, y: str) -> None:
    axes.set_xlabel('epoch')
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)


def plot_probe(
    timesteps: Sequence[int], accuracy: Sequence[float], rank: Sequence[float], selected: np.ndarray | None
) -> Figure:
    """Draw accuracy of a linear probe and effective rank over the timesteps.

    Args:
        timesteps: Evaluated timesteps.
        accuracy: Accuracies in per cent; NaN without labels.
        rank: Effective ranks.
        selected: Count ``[T]`` of each timestep that a policy selected, drawn in the background; None: not drawn.
    """
    figure = Figure(figsize=(8, 3.4), layout='constrained', dpi=150)
    for axes, values, name in zip(
        figure.subplots(1, 2), (accuracy, rank), ('accuracy of a linear probe (%)', 'effective rank'), strict=True
    ):
        if selected is not None:
            background = axes.twinx()
            background.fill_between(
                np.arange(len(selected)), selected / selected.sum(), color='0.85', step='mid', linewidth=0
            )
            background.set_yticks([])
            axes.set_zorder(background.get_zorder() + 1)
            axes.patch.set_visible(False)
        axes.plot(timesteps, values, marker='.', linewidth=1.2)
        axes.set_xlabel('timestep')
        axes.set_ylabel(name)
        axes.grid(alpha=0.25)
    return figure


def write_stats(runs: Sequence[RunHistogram], path: Path) -> None:
    """Write run, epoch, all statistics and the most frequent timestep as CSV."""
    with atomic_write(path) as partial, open(partial, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'epoch', *STATS, 'mode'])
        for run in runs:
            columns = [run.stats[key].tolist() for key in STATS]
            modes = run.counts.argmax(axis=1).tolist()
            writer.writerows([run.name, *row] for row in zip(run.epochs.tolist(), *columns, modes, strict=True))
