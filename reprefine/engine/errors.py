"""Errors a user can mend, shown as one line instead of a traceback."""

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence


class UserError(ValueError):
    """Something the user gave is wrong. The message names the thing and the remedy, in one line."""


def one_line(error: BaseException) -> str:
    """Return the message of ``error`` on a single line."""
    return ' '.join(str(error).split())


def run_cli(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> int:
    """Parse the arguments, run ``main`` and turn a :class:`UserError` into one line on stderr.

    A flag ``--traceback`` is added to the parser; with it the error is shown where it arose.

    Args:
        main: The tool. It receives the parsed arguments.
        parser: The tool's argument parser.
        argv: Arguments, default ``sys.argv[1:]``.

    Returns:
        Exit code: 0, or 1 after a :class:`UserError`.
    """
    parser.add_argument('--traceback', action='store_true', help='show where an error arose')
    args = parser.parse_args(argv)
    try:
        main(args)
    except UserError as error:
        if args.traceback:
            traceback.print_exc()
        print(f'{parser.prog}: error: {one_line(error)}', file=sys.stderr)
        _release(error)
        return 1
    return 0


def _release(error: BaseException | None) -> None:
    """Drop what the frames of ``error`` and its causes hold, so that loader workers end now and in order.

    Left to the garbage collector, the ends of a worker's pipes are closed in any order, some of them twice.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
