"""Processes forked from one that has imported everything, which start in a tenth of a second."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(['pytest', 'tests.helpers.killed', 'tests.helpers.preloaded'])


def start(function: Callable[..., Any], *arguments: Any) -> multiprocessing.Process:
    """Start ``function(*arguments)`` of a module in a process of its own."""
    process = _context.Process(target=function, args=arguments)
    process.start()
    return process


def exit_code(function: Callable[..., Any], *arguments: Any) -> int:
    """Run ``function(*arguments)`` of a module in a process of its own, and return its exit code."""
    process = start(function, *arguments)
    process.join()
    return process.exitcode


def run_ranks(function: Callable[..., Any], *arguments: Any, count: int = 2) -> None:
    """Run ``function(rank, *arguments)`` of a module in a process for each rank; an error of one is raised here."""
    torch.multiprocessing.start_processes(function, arguments, nprocs=count, start_method='forkserver')


def write_output_to(file: str | Path) -> None:
    """Let this process write its output and errors to the end of a file."""
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(number, 1)
    os.dup2(number, 2)


def run_script(file: str, argv: tuple[str, ...], environment: dict[str, str], output: str | Path) -> None:
    """Run a Python script as the main program of this process.

    Args:
        file: The script.
        argv: Its arguments.
        environment: All variables of its environment.
        output: File for its output and errors.
    """
    os.environ.clear()
    os.environ.update(environment)
    write_output_to(output)
    torch.set_num_threads(1)
    sys.argv = [file, *argv]
    runpy.run_path(file, run_name='__main__')
