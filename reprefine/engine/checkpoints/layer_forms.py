"""Checkpoints whose layers have a form that the model does not have, such as the training form of a folding method.

A plain model would load such a file with a warning at most: what the method has trained beside the weight of a layer
would be dropped, and a wrong model used.

A method declares the names that tell its forms at the top level of one of its modules, as ``FORM_KEYS = r'<pattern>'``.
Declarations are read from the source, because a run with the plain model does not import the method.
"""

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

from reprefine.engine.errors import UserError

METHODS = Path(__file__).parents[2] / 'methods'
_DECLARATION = re.compile(r"^FORM_KEYS = r'(.+)'$", re.MULTILINE)


@cache
def form_keys() -> re.Pattern[str]:
    """Return the pattern of the names by which methods tell their forms of layers."""
    sources = (file.read_text(encoding='utf-8') for file in sorted(METHODS.rglob('*.py')))
    patterns = [pattern for source in sources for pattern in _DECLARATION.findall(source)]
    return re.compile('|'.join(f'(?:{pattern})' for pattern in patterns) or r'(?!)')


def refuse_other_form(unexpected: Collection[str], filename: str) -> None:
    """Refuse a checkpoint with layers in a form of a method that the model has not.

    Args:
        unexpected: Names in the file that the model lacks.
        filename: Name for the message.

    Raises:
        UserError: With the first name and what to do.
    """
    names = [name for name in unexpected if form_keys().search(name)]
    if names:
        more = f' and {len(names) - 1} more' if len(names) > 1 else ''
        raise UserError(
            f'checkpoint {filename} holds layers in a form that the model does not have ({names[0]}{more}): give the '
            'config it was written with, or make a plain checkpoint with tools/model_converters/reparameterize_model.py'
        )
