"""Renaming of state dict keys in checkpoints of other code, and the options of the tools for it."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reprefine.engine.errors import UserError

MODULE_PREFIX = ((r'^module\.', ''),)  # of distributed wrappers; mmengine's default, too


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint-key`` and ``--revise-keys`` to a parser; see :func:`key_options`."""
    parser.add_argument(
        '--checkpoint-key',
        metavar='KEY',
        help="entry of the checkpoint that holds the weights, such as 'teacher' (default: state_dict, or all of it)",
    )
    parser.add_argument(
        '--revise-keys',
        nargs='+',
        default=[],
        metavar='PATTERN=REPLACEMENT',
        help="regular expressions that rename its keys, such as '^backbone\\.='",
    )


def key_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return ``checkpoint_key`` and ``revise_keys`` from the options of :func:`add_key_arguments`.

    Raises:
        UserError: If a renaming has no ``=``.
    """
    return dict(checkpoint_key=args.checkpoint_key, revise_keys=parse_renames(args.revise_keys, '--revise-keys'))


def parse_renames(values: Sequence[str], flag: str = '--rename') -> list[tuple[str, str]]:
    """Split command-line values ``PATTERN=REPLACEMENT`` at their last ``=``.

    Raises:
        UserError: If a value has no ``=``.
    """
    if wrong := [value for value in values if '=' not in value]:
        raise UserError(f'{flag} {wrong[0]}: expected PATTERN=REPLACEMENT')
    return [tuple(value.rsplit('=', 1)) for value in values]


def rename_key(name: str, renames: Sequence[tuple[str, str]]) -> str:
    """Apply pairs of regular expression and replacement to a name, one after another.

    Raises:
        UserError: If a pattern is no regular expression.
    """
    for pattern, replacement in renames:
        try:
            name = re.sub(pattern, replacement, name)
        except re.error as error:
            raise UserError(f"the renaming of '{pattern}' is no regular expression: {error}") from error
    return name


def rename_keys(state_dict: Mapping[str, Any], revise_keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return a state dict with renamed keys.

    Args:
        state_dict: Weights by name.
        revise_keys: Pairs of regular expression and replacement, applied one after another.

    Raises:
        UserError: If a pattern is no regular expression, or two weights would get the same key.
    """
    result: dict[str, Any] = {}
    for key, value in state_dict.items():
        name = rename_key(key, revise_keys)
        if name in result:
            raise UserError(f'two weights get the key {name} (one of them is {key}): change revise_keys')
        result[name] = value
    return result


def unwrap_state_dict(checkpoint: dict[str, Any], containers: Sequence[str]) -> dict[str, Any]:
    """Return the state dict of a checkpoint from within nested entries.

    Args:
        checkpoint: The checkpoint.
        containers: Names of entries that may hold the state dict, outermost first.
    """
    for container in containers:
        checkpoint = checkpoint[container] if isinstance(checkpoint.get(container), dict) else checkpoint
    return checkpoint
