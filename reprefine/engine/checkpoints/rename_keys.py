"""Renaming the weights of checkpoints that other code wrote."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reprefine.engine.errors import UserError

MODULE_PREFIX = ((r'^module\.', ''),)  # of distributed wrappers, dropped by mmengine too


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two flags for checkpoints of other code; see :func:`key_options`."""
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
        help="regular expressions that rename its weights, such as '^backbone\\.='",
    )


def key_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments ``checkpoint_key`` and ``revise_keys`` from the flags of :func:`add_key_arguments`.

    Raises:
        UserError: If a renaming has no ``=``.
    """
    return dict(checkpoint_key=args.checkpoint_key, revise_keys=parse_renames(args.revise_keys, '--revise-keys'))


def parse_renames(words: Sequence[str], flag: str = '--rename') -> list[tuple[str, str]]:
    """Split ``PATTERN=REPLACEMENT`` of a command line at its last ``=``.

    Raises:
        UserError: If a word has none.
    """
    if wrong := [word for word in words if '=' not in word]:
        raise UserError(f'{flag} {wrong[0]}: expected PATTERN=REPLACEMENT')
    return [tuple(word.rsplit('=', 1)) for word in words]


def rename_key(name: str, renames: Sequence[tuple[str, str]]) -> str:
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


def rename_keys(state_dict: Mapping[str, Any], revise_keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return a state dict with renamed keys.

    Args:
        state_dict: Weights by name.
        revise_keys: Pairs of regular expression and replacement, applied in turn.

    Raises:
        UserError: If a pattern is no regular expression, or two weights would get one name.
    """
    result: dict[str, Any] = {}
    for key, value in state_dict.items():
        name = rename_key(key, revise_keys)
        if name in result:
            raise UserError(f'two weights get the name {name} (one of them is {key}): change the revised keys')
        result[name] = value
    return result


def unwrap_state_dict(checkpoint: dict[str, Any], containers: Sequence[str]) -> dict[str, Any]:
    """Return the state dict of a checkpoint, unwrapped from whichever of the named dicts hold it."""
    for container in containers:
        checkpoint = checkpoint[container] if isinstance(checkpoint.get(container), dict) else checkpoint
    return checkpoint
