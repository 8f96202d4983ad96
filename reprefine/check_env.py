"""Shows which tasks this environment can run, and why not: ``python -m reprefine.check_env [--json]``."""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import warnings
from collections.abc import Iterable
from dataclasses import asdict

from packaging.utils import canonicalize_name

from reprefine.engine.errors import UserError, one_line, run_cli
from reprefine.environment import MODULES, Devices, TaskRow, make_rows


def installed_versions() -> dict[str, str]:
    """Return the version of every installed distribution by canonical name."""
    found = importlib.metadata.distributions()
    return {canonicalize_name(dist.metadata['Name']): dist.version for dist in found if dist.metadata['Name']}


def try_import(module: str) -> str | None:
    """Import ``module`` without output.

    Returns:
        None if it imports, the error in one line otherwise.
    """
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        warnings.simplefilter('ignore')
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken package may raise anything
            return one_line(error) or type(error).__name__
    return None


def find_devices() -> Devices:
    """Return the devices known to torch and mmcv, as far as they import."""
    if try_import('torch'):
        return Devices()
    import torch

    gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    usable = {'gloo': torch.distributed.is_gloo_available(), 'nccl': torch.distributed.is_nccl_available() and gpus}
    ops_cuda = ''
    if try_import('mmcv.ops') is None:
        from mmcv.ops import get_compiling_cuda_version

        ops_cuda = get_compiling_cuda_version().replace('not available', '')
    return Devices(gpus, tuple(name for name, ok in usable.items() if ok), ops_cuda)


def print_table(rows: Iterable[TaskRow]) -> None:
    """Print ``rows`` as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table('task', 'runs', 'note', 'remedy', title='What this environment can run')
    for row in rows:
        table.add_row(row.task, '[green]yes[/]' if row.works else '[red]no[/]', escape(row.note), escape(row.remedy))
    Console().print(table)


def main(args: argparse.Namespace) -> None:
    """Check the environment and print the result.

    Args:
        args: With ``json``, the output is JSON instead of a table.

    Raises:
        UserError: If classification cannot be run, and so nothing else.
    """
    versions = installed_versions()
    imports = {module: try_import(module) for module in MODULES}
    rows = make_rows(versions, imports, find_devices())
    if args.json:
        print(json.dumps({'rows': [asdict(row) for row in rows], 'versions': versions}, indent=2, sort_keys=True))
    else:
        print_table(rows)
    least = rows[0]
    if not least.works:
        raise UserError(f'{least.task} cannot be run here: {least.note}; remedy: {least.remedy}')


def make_parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    parser = argparse.ArgumentParser(
        prog='python -m reprefine.check_env',
        description='Show which tasks this environment can run, and why not. Exit code 1 if none can be run.',
        epilog='example: python -m reprefine.check_env --json',
    )
    parser.add_argument('--json', action='store_true', help='print rows and versions as JSON')
    return parser


if __name__ == '__main__':
    raise SystemExit(run_cli(main, make_parser()))
