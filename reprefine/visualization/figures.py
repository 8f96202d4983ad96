"""The style of figures, and their saving."""

from pathlib import Path

from cycler import cycler
from matplotlib.figure import Figure

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

# The colours of Okabe and Ito, which colour-blind readers can tell apart; light yellow is left out.
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
# For `with plt.rc_context(FIGURE_STYLE)`. Importing this changes nothing.
FIGURE_STYLE = {
    'axes.prop_cycle': cycler(color=COLORS),
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.alpha': 0.3,
    'axes.titlesize': 11,
    'axes.labelsize': 10,
    'font.family': 'DejaVu Sans',
    'font.size': 10,
    'legend.frameon': False,
    'figure.dpi': 130,
    'savefig.facecolor': 'white',
}


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically; the suffix of the file determines the format.

    Raises:
        UserError: If the suffix is not an image format.
    """
    try:
        with atomic_write(path) as partial:
            figure.savefig(partial)
    except ValueError as error:
        raise UserError(f'{path} cannot be written: {error}') from error
