"""Figures of branch and gate statistics, and overlays of attribution maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from reprefine.engine.errors import UserError, one_line
from reprefine.engine.files import atomic_write

from .functional import common_histograms, density_of_fit


def overlay(image: np.ndarray, heat: np.ndarray, blend: str = 'average') -> np.ndarray:
    """Blend an image with the colour-coded map.

    Args:
        image: RGB image ``[H, W, 3]``, 8 bit.
        heat: Map ``[H, W]`` in [0, 1].
        blend: ``'average'`` of both, or ``'map'``, which uses the map as opacity of its colours.

    Returns:
        RGB image ``[H, W, 3]``, 8 bit.
    """
    opacity = 0.5 if blend == 'average' else heat[..., None]
    colours = colormaps['jet'](heat)[..., :3] * 255
    return (image * (1 - opacity) + colours * opacity).round().astype(np.uint8)


def plot_branches(weights: Mapping[str, Tensor], responses: Mapping[str, Tensor], title: str, out: Path) -> None:
    """Plot the branches of one convolution: histograms of weights, fitted normal densities, histograms of responses.

    Args:
        weights: Weights by branch, any shape.
        responses: Global average ``[O]`` of the output for one image, by branch.
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
    """Plot the mean gates as heat maps of layers and classes, one panel for each branch.

    Args:
        gates: Mean gates ``[C, J]`` by layer.
        branches: Names of the J branches.
        classes: Names of the C classes.
        out: File to write.
    """
    table = np.stack([gate.numpy() for gate in gates.values()])  # [layers, C, J]
    height = max(2.6, 0.22 * len(gates) + 1.2)
    figure = Figure(figsize=(1.8 + 2.6 * len(branches), height), layout='constrained')
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    limits = dict(vmin=np.nanmin(table), vmax=np.nanmax(table))
    for index, (axes, branch) in enumerate(zip(panels, branches, strict=True)):
        heat_map = axes.imshow(table[..., index], aspect='auto', cmap='viridis', **limits)
        _label(axes, branch, classes)
    panels[0].set_yticks(range(len(gates)), list(gates), fontsize=7)
    figure.colorbar(heat_map, ax=panels, label='mean gate')
    save(figure, out)


def _label(axes: Axes, branch: str, classes: Sequence[str]) -> None:
    axes.set_title(branch, fontsize=10)
    axes.set_xlabel('class')
    if len(classes) <= 20:
        axes.set_xticks(range(len(classes)), classes, fontsize=7)


def save(figure: Figure, out: Path) -> None:
    """Write a figure, atomically.

    Args:
        figure: The figure.
        out: File to write; its extension is the format.

    Raises:
        UserError: If the format is unknown.
    """
    FigureCanvasAgg(figure)
    try:
        with atomic_write(out) as partial:
            figure.savefig(partial, dpi=110)
    except ValueError as error:
        raise UserError(f'{out} cannot be written: {one_line(error)}; use an extension such as .png') from error
