"""Renaming the weights of checkpoints that other code wrote."""

import re
from collections.abc import Sequence
from typing import Any

from ..errors import UserError


def parse_renames(words: Sequence[str]) -> list[tuple[str, str]]:
    """Split ``PATTERN=REPLACEMENT`` of a command line at its last ``=``.

    Raises:
        UserError: If a word has none.
    """
    if wrong := [word for word in words if '=' not in word]:
        raise UserError(f'--rename {wrong[0]}: expected PATTERN=REPLACEMENT')
    return [tuple(word.rsplit('=', 1)) for word in words]


def rename(name: str, renames: Sequence[tuple[str, str]]) -> str:
    """Apply pairs of regular expression and replacement to a name, in turn.

    Raises:
        UserError: If a pattern is no regular expression.
    """
    for pattern, replacement in renames:
        try:
            name = re.sub(pattern, replacement, name)
        except re.error as error:
            raise UserError(f"the renaming of '{pattern}' is no regular expression: {error}") from error
    return name


def weights_of(checkpoint: dict[str, Any], containers: Sequence[str]) -> dict[str, Any]:
    """Return the state dict of a checkpoint, unwrapped from whichever of the named dicts hold it."""
    for container in containers:
        checkpoint = checkpoint[container] if isinstance(checkpoint.get(container), dict) else checkpoint
    return checkpoint
