"""Entry point of the command-line tools: a parser with an example, and the exit code."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from reprefine.engine.errors import run_cli

AddArguments = Callable[[argparse.ArgumentParser], None]


def make_parser(add_arguments: AddArguments, description: str, example: str) -> argparse.ArgumentParser:
    """Return the argument parser of a tool.

    Args:
        add_arguments: Adds the arguments of the tool to the parser.
        description: Purpose of the tool, shown above the arguments; usually the docstring of its module.
        example: Commands that show its use, shown below the arguments with line breaks as they are.
    """
    parser = argparse.ArgumentParser(
        description=description, epilog=example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return parser


def run_as_tool(
    main: Callable[[argparse.Namespace], None],
    add_arguments: AddArguments,
    description: str,
    example: str,
    leave: Callable[[int], NoReturn] = sys.exit,
) -> NoReturn:
    """Parse the command line, run ``main``, and end the process with the exit code of :func:`run_cli`.

    Args:
        main: The tool. It receives the parsed arguments.
        add_arguments: See :func:`make_parser`.
        description: See :func:`make_parser`.
        example: See :func:`make_parser`.
        leave: Ends the process with the exit code.
    """
    leave(run_cli(main, make_parser(add_arguments, description, example)))
