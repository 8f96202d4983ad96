"""Figures of the analyses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .functional import common_histograms, density_of_fit


def overlay(image: np.ndarray, heat: np.ndarray, blend: str = 'average') -> np.ndarray:
    """Lay the colours of a map over an image.

    Args:
        image: RGB image (H, W, 3), 8 bit.
        heat: Map (H, W) in the range from 0 to 1.
        blend: ``'average'`` of both, or ``'map'``: the map is the opacity of its colours, so that what it leaves out
            shows as it is.

    Returns:
        (H, W, 3), 8 bit.
    """
    opacity = 0.5 if blend == 'average' else heat[..., None]
    colours = colormaps['jet'](heat)[..., :3] * 255
    return (image * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def plot_branches(weights: Mapping[str, Tensor], responses: Mapping[str, Tensor], title: str, out: Path) -> None:
    """Draw, for the branches of one convolution, histograms of weights, normal fits to them, and mean responses.

    Args:
        weights: Weights of each branch, any shape.
        responses: Mean response of each branch to one image in each channel (O,).
        title: Title of the figure.
        out: File to write.
    """
    figure = Figure(figsize=(13, 3.4), layout='constrained')
    for axes, (name, values) in zip(
        figure.subplots(1, 3), (('weight', weights), ('weight', weights), ('mean response', responses)), strict=True
    ):
        edges, shares = common_histograms(values)
        for group, share in shares.items():
            if axes is figure.axes[1]:
                at = np.linspace(edges[0], edges[-1], 201)
                axes.plot(at, density_of_fit(values[group], at), label=group)
            else:
                axes.stairs(share, edges, label=group, linewidth=1.5)
        axes.set(xlabel=name, ylabel='density of normal fit' if axes is figure.axes[1] else 'share')
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    figure.suptitle(title)
    save(figure, out)


def plot_gates(gates: Mapping[str, Tensor], branches: Sequence[str], classes: Sequence[str], out: Path) -> None:
    """Draw the mean gate of each layer and class, one panel a branch.

    Args:
        gates: For each layer (C, J).
        branches: Names of the J branches.
        classes: Names of the C classes.
        out: File to write.
    """
    table = np.stack([gate.numpy() for gate in gates.values()])  # layers, classes, branches
    height = max(2.6, 0.22 * len(gates) + 1.2)
    figure = Figure(figsize=(1.8 + 2.6 * len(branches), height), layout='constrained')
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    span = dict(vmin=np.nanmin(table), vmax=np.nanmax(table))
    for index, (axes, branch) in enumerate(zip(panels, branches, strict=True)):
        drawn = axes.imshow(table[..., index], aspect='auto', cmap='viridis', **span)
        _label(axes, branch, classes)
    panels[0].set_yticks(range(len(gates)), list(gates), fontsize=7)
    figure.colorbar(drawn, ax=panels, label='mean gate')
    save(figure, out)


def _label(axes: Axes, branch: str, classes: Sequence[str]) -> None:
    axes.set_title(branch, fontsize=10)
    axes.set_xlabel('class')
    if len(classes) <= 20:
        axes.set_xticks(range(len(classes)), classes, fontsize=7)


def save(figure: Figure, out: Path) -> None:
    """Write a figure; the file appears whole or not at all.

    Raises:
        UserError: If the ending names no format.
    """
    FigureCanvasAgg(figure)
    try:
        with atomic_write(out) as partial:
            figure.savefig(partial, dpi=110)
    except ValueError as error:
        raise UserError(f'{out} cannot be written: {error}') from error
