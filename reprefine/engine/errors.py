"""Errors a user can mend, shown as one line instead of a traceback."""

import argparse
import io
import json
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path

from reprefine.set_up import set_up

LONGEST = 400  # characters of a message that is not ours
STDOUT = 1  # the file, whatever sys.stdout is at the moment
LAUNCHED = 'REPREFINE_LAUNCHED'  # set by tools/misc/torchrun.py, which tells the error of its processes once


class UserError(ValueError):
    """Something the user gave is wrong. The message names the thing and the remedy, in one line."""


def one_line(error: BaseException) -> str:
    """Return the message of ``error`` on a single line."""
    return ' '.join(str(error).split())


def run_cli(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> int:
    """Parse the arguments, run ``main`` and turn an error into one line on stderr.

    The line of a :class:`UserError` is its message. Any other error, such as one that a host library raises over a
    value it cannot work with, is told with its type and its place; its traceback goes into the log file of the run. A
    flag ``--traceback`` is added to the parser; with it every error is shown where it arose. When whoever reads the
    output closes it, as ``head`` does, the tool ends without a word. One of several processes leaves its line to the
    launcher.

    Args:
        main: The tool. It receives the parsed arguments.
        parser: The tool's argument parser.
        argv: Arguments, default ``sys.argv[1:]``.

    Returns:
        Exit code: 0, 1 after an error, 130 when the user interrupts, or 141 when the output is closed.
    """
    parser.add_argument('--traceback', action='store_true', help='show where an error arose')
    args = _parse(parser, argv)
    set_up(loaders=False)  # which load_config and the Runner complete, when they import torch
    former = _log_files()
    try:
        main(args)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if find_interruption(error):
            print(f'\n{parser.prog}: stopped by the user', file=sys.stderr)
            return 130
        if _output_closed(error):
            return 128 + signal.SIGPIPE
        if args.traceback:
            traceback.print_exc()
        line = one_line(error) if isinstance(error, UserError) else _unexpected(error, _log_files() - former)
        _tell(f'{parser.prog}: error: {line}')
        _release(error)
        return 1
    return 0


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    if LAUNCHED not in os.environ:
        return parser.parse_args(argv)
    with redirect_stderr(io.StringIO()) as usage:
        try:
            return parser.parse_args(argv)
        except SystemExit as error:
            if error.code:
                _tell(usage.getvalue().rstrip())
            raise


def _tell(text: str) -> None:
    """Print ``text`` on stderr, or write it where torchrun finds the errors of its processes."""
    if LAUNCHED not in os.environ:
        print(text, file=sys.stderr)
        return
    content = dict(message=text, extraInfo=dict(py_callstack='', timestamp=str(int(time.time()))))
    Path(os.environ['TORCHELASTIC_ERROR_FILE']).write_text(json.dumps(dict(message=content)))


def _output_closed(error: BaseException) -> bool:
    """Tell whether ``error`` comes of an output that nobody reads; what is still to be written then goes nowhere."""
    if not isinstance(error, BrokenPipeError):
        return False
    output = select.poll()
    output.register(STDOUT, 0)
    if not output.poll(0):
        return False  # another pipe broke, such as one between processes
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return True


def find_interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interruption that ``error`` is, or that a library turned into it by catching all exceptions."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen


def _unexpected(error: Exception, logs: set[Path]) -> str:
    """Return the line for an error that is not ours, and write its traceback into the run's log."""
    for log in logs:
        with open(log, 'a') as file:
            file.write(''.join(traceback.format_exception(error)))
    place = traceback.extract_tb(error.__traceback__)[-1]
    told = f'is in {", ".join(map(str, logs))}' if logs else 'is shown with --traceback'
    return (
        f'{error_summary(error)} (at {"/".join(Path(place.filename).parts[-3:])}:{place.lineno}); the traceback {told}'
    )


def error_summary(error: BaseException) -> str:
    """Return type and message of ``error`` on a single line; of one raised in a loader's worker, those it had there."""
    text = str(error).strip()
    if 'Original Traceback' in text:
        return _shortened(text.splitlines()[-1])
    return _shortened(f'{type(error).__name__}: {one_line(error) or "without a message"}')


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else f'{line[:LONGEST]} ...'


def _log_files() -> set[Path]:
    """Return the log files of the runs that this process has started."""
    module = sys.modules.get('mmengine.logging')  # of no use before it is imported
    loggers = module.MMLogger._instance_dict.values() if module else ()
    return {
        Path(handler.baseFilename)
        for logger in loggers
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler)
    }


def _release(error: BaseException | None) -> None:
    """Drop what the frames of ``error`` and its causes hold, so that loader workers end now and in order.

    Left to the garbage collector, the ends of a worker's pipes are closed in any order, some of them twice.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
