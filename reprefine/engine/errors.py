"""User errors, and the entry point of tools that prints any error as one line instead of a traceback."""

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

MAX_LENGTH = 400  # characters of the message of an unexpected error
STDOUT = 1  # file descriptor, whatever sys.stdout is
LAUNCHED = 'REPREFINE_LAUNCHED'  # set by tools/misc/torchrun.py, which prints the error of its processes once


class UserError(ValueError):
    """An invalid input. The message is one line: the input, the value found, the value wanted and the remedy."""


def one_line(error: BaseException) -> str:
    """Return the message of ``error`` on a single line."""
    return ' '.join(str(error).split())


def run_cli(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> int:
    """Parse the arguments, run ``main`` and print an error as one line on stderr.

    The line of a :class:`UserError` is its message. For any other error, such as one of a host library, it has the
    type, the message, and the source file and line; the traceback is written to the log file of the run. The flag
    ``--traceback``, which is added to the parser, prints the traceback of any error. If the reader of the output closes
    it, as ``head`` does, nothing is printed. One of several processes passes its line to the launcher.

    Args:
        main: The tool. It receives the parsed arguments.
        parser: The tool's argument parser.
        argv: Arguments, default ``sys.argv[1:]``.

    Returns:
        Exit code: 0; 1 after an error; 130 after Ctrl-C; 141 if the output is closed.
    """
    parser.add_argument('--traceback', action='store_true', help='print the traceback of an error')
    args = _parse(parser, argv)
    set_up(loaders=False)  # load_config and the Runner set up the loaders, when they import torch
    earlier_logs = _log_files()
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
        line = one_line(error) if isinstance(error, UserError) else _unexpected(error, _log_files() - earlier_logs)
        _print_error(f'{parser.prog}: error: {line}')
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
                _print_error(usage.getvalue().rstrip())
            raise


def _print_error(text: str) -> None:
    """Print a text on stderr, or write it to the error file that torchrun reads."""
    if LAUNCHED not in os.environ:
        print(text, file=sys.stderr)
        return
    content = dict(message=text, extraInfo=dict(py_callstack='', timestamp=str(int(time.time()))))
    Path(os.environ['TORCHELASTIC_ERROR_FILE']).write_text(json.dumps(dict(message=content)))


def _output_closed(error: BaseException) -> bool:
    """Whether an error was raised because the output is closed; further output is then discarded."""
    if not isinstance(error, BrokenPipeError):
        return False
    output = select.poll()
    output.register(STDOUT, 0)
    if not output.poll(0):
        return False  # another pipe is broken, such as one between processes
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return True


def find_interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Return the ``KeyboardInterrupt`` that an error is, or in whose handling it was raised; None if there is none."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen


def _unexpected(error: Exception, logs: set[Path]) -> str:
    """Return the line for an unexpected error, and write its traceback to the run's log."""
    for log in logs:
        with open(log, 'a') as file:
            file.write(''.join(traceback.format_exception(error)))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f'is in {", ".join(map(str, logs))}' if logs else 'is shown with --traceback'
    return (
        f'{error_summary(error)} (at {"/".join(Path(frame.filename).parts[-3:])}:{frame.lineno}); the traceback {where}'
    )


def error_summary(error: BaseException) -> str:
    """Return type and message of an error on one line; for one from a loader's worker, those of the original error."""
    text = str(error).strip()
    if 'Original Traceback' in text:
        return _shortened(text.splitlines()[-1])
    return _shortened(f'{type(error).__name__}: {one_line(error) or "without a message"}')


def _shortened(line: str) -> str:
    return line if len(line) <= MAX_LENGTH else f'{line[:MAX_LENGTH]} ...'


def _log_files() -> set[Path]:
    """Return the log files of the runs that this process has started."""
    module = sys.modules.get('mmengine.logging')  # there are no loggers before it is imported
    loggers = module.MMLogger._instance_dict.values() if module else ()
    return {
        Path(handler.baseFilename)
        for logger in loggers
        for handler in logger.handlers
        if isinstance(handler, logging.FileHandler)
    }


def _release(error: BaseException | None) -> None:
    """Clear the frames of an error and its causes, so that loader workers end now.

    Garbage collection would close the ends of a worker's pipes in an arbitrary order, some of them twice.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
