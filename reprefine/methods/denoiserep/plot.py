"""Figures of DenoiseRep: noise losses during training, and feature spectra without and with denoising."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')  # files only, no display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprefine.engine.errors import UserError

from .spectrum import Spectra

NOISE_PREFIX = 'noise/'


def noise_series(records: Sequence[dict]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return iterations and noise losses by layer, as logged with ``log_layers=True``.

    In phases of the backbone there is no noise loss, and mmengine repeats the last value, which is replaced by NaN.

    Args:
        records: Lines of mmengine's ``scalars.json``, oldest first.

    Raises:
        UserError: If no record holds a noise loss.
    """
    training = [record for record in records if 'lr' in record]
    layers = dict.fromkeys(key for record in training for key in record if key.startswith(NOISE_PREFIX))
    if not layers:
        raise UserError('no noise loss by layer was logged: train with --cfg-options model.denoise.log_layers=True')
    steps = np.array([record['step'] for record in training])
    values = np.array([[record.get(key, np.nan) for key in layers] for record in training])
    values[1:][(values[1:] == values[:-1]).all(axis=1)] = np.nan
    return {key.removeprefix(NOISE_PREFIX): (steps, column) for key, column in zip(layers, values.T, strict=True)}


def plot_noise_losses(series: dict[str, tuple[np.ndarray, np.ndarray]], out: Path) -> None:
    """Plot the noise loss of every layer over the iterations, coloured by depth; gaps are phases of the backbone.

    Args:
        series: Iterations and noise losses by layer, see :func:`noise_series`.
        out: File to write.
    """
    figure, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
    norm = Normalize(1, max(len(series), 2))
    for depth, (steps, values) in enumerate(series.values(), start=1):
        axis.plot(steps, values, color=plt.cm.viridis(norm(depth)), linewidth=1.4)
    axis.set(xlabel='iteration', ylabel='noise loss of the layer', title='noise loss of every denoised layer')
    axis.grid(alpha=0.3)
    _add_layer_colorbar(figure, norm, axis)
    figure.savefig(out, dpi=130)
    plt.close(figure)


def plot_spectra(spectra: Spectra, out: Path) -> None:
    """Plot the eigenvalues of every layer's output without and with denoising, and their relative change.

    Args:
        spectra: Eigenvalues by layer, see :func:`~.spectrum.feature_spectra`.
        out: File to write.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.5, 6.5), sharex=True, layout='constrained')
    norm = Normalize(1, max(len(spectra), 2))
    for depth, (before, after) in enumerate(spectra.values(), start=1):
        kept = before > before[0] * 1e-7  # smaller ones are rounding errors of float32
        rank, color = np.linspace(0, 1, len(before))[kept], plt.cm.viridis(norm(depth))
        above.semilogy(rank, before[kept], color=color, linewidth=1)
        above.semilogy(rank, after[kept], color=color, linewidth=1.4, linestyle='--')
        below.plot(rank, 100 * (after[kept] / before[kept] - 1), color=color, linewidth=1.4)
    above.plot([], [], color='0.3', linewidth=1, label='before the merge')
    above.plot([], [], color='0.3', linewidth=1.4, linestyle='--', label='after')
    above.legend(frameon=False)
    above.set(ylabel='eigenvalue of the covariance', title='spectrum of the output of every denoised layer')
    below.set(xlabel='rank of the eigenvalue / width of the layer', ylabel='change by the merge (%)')
    for axis in (above, below):
        axis.grid(alpha=0.3)
    _add_layer_colorbar(figure, norm, (above, below))
    figure.savefig(out, dpi=130)
    plt.close(figure)


def _add_layer_colorbar(figure: Figure, norm: Normalize, axes: Axes | Sequence[Axes]) -> None:
    """Add a colour bar that numbers the layers."""
    ticks = MaxNLocator('auto', steps=[1, 2, 2.5, 5, 10], integer=True)
    figure.colorbar(ScalarMappable(norm, 'viridis'), ax=axes, label='layer, from input to output', ticks=ticks)
