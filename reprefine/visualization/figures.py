"""Saving of figures."""

from pathlib import Path

from matplotlib.figure import Figure

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write


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
