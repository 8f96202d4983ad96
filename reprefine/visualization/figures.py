"""Figures as files."""

from pathlib import Path

from matplotlib.figure import Figure

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the ending of the name tells the format.

    Raises:
        UserError: If the ending has no format.
    """
    try:
        with atomic_write(path) as partial:
            figure.savefig(partial)
    except ValueError as error:
        raise UserError(f'{path} cannot be written: {error}') from error
