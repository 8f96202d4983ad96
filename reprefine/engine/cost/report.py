"""The report of a cost comparison, as a table and as a JSON file."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import mmengine
import torch
from rich.console import Console
from rich.table import Table

import reprefine
from reprefine.engine.errors import UserError

from .compare import CostComparison
from .rows import CostRow
from .stock import RunnerComparison
from .timing import Spread

HOST_LIBRARIES = ('mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mmpose', 'timm', 'diffusers')
SCALES = {'s': (1e3, 'ms'), 'byte': (2**-20, 'MiB'), 'FLOP': (1e-9, 'GFLOP'), '': (1e-6, 'M')}


def describe_environment(device: torch.device) -> dict:
    """Return the versions, the device and the load of the machine.

    Args:
        device: Device of the measurement.
    """
    versions = {module.__name__: module.__version__ for module in (torch, mmengine, reprefine)}
    versions |= {name: sys.modules[name].__version__ for name in HOST_LIBRARIES if name in sys.modules}
    return {
        'versions': {'python': platform.python_version(), **versions},
        'commit': _commit(Path(reprefine.__file__).parents[1]),
        'device': _device_name(device),
        'threads': torch.get_num_threads(),
        'load_average': list(os.getloadavg()),
    }


def _commit(root: Path) -> str | None:
    """Return the commit of the checkout at ``root``, with ``-dirty`` if files differ; None without a checkout."""
    if not (root / '.git').exists():
        return None
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cpu_info = Path('/proc/cpuinfo')
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    name = next(
        (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.processor()
    )
    return f'CPU, {name}, {os.cpu_count()} cores'


def make_report(comparison: CostComparison | RunnerComparison, rows: Sequence[CostRow], arguments: dict) -> dict:
    """Collect the results of a comparison and everything needed to repeat it.

    Args:
        comparison: The comparison that was run.
        rows: Its results.
        arguments: Arguments of the command.

    Returns:
        A dict of JSON types.
    """
    config, baseline = comparison.names
    batches = {'training': comparison.train_batch, 'inference, memory and FLOPs': comparison.input_batch}
    return {
        'config': config,
        'baseline': baseline,
        'arguments': arguments,
        'settings': asdict(comparison.settings),
        'environment': describe_environment(comparison.device),
        'inputs': {use: {'source': b.source, 'batch_size': b.size} for use, b in batches.items() if b},
        'notes': comparison.notes(),
        'figures': [asdict(row) for row in rows],
    }


def write_json(report: dict, path: Path) -> None:
    """Write a report.

    Args:
        report: The report.
        path: The file; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + '\n')


def check_output(path: Path | None) -> None:
    """Refuse a file that cannot be written, before the measurement.

    Raises:
        UserError: ``path`` is a folder, or its folder is a file.
    """
    if path is not None and (path.is_dir() or (path.parent.exists() and not path.parent.is_dir())):
        raise UserError(f'--out {path}: cannot be written; name a file in a folder')


def print_report(report: dict, rows: Sequence[CostRow]) -> None:
    """Print the rows and the environment of the measurement.

    Args:
        report: Result of :func:`make_report`.
        rows: Its rows.
    """
    # Wrapped cells are harder to read than long lines, also in a log file.
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(make_table(rows))
    environment = report['environment']
    versions = ', '.join(f'{name} {version}' for name, version in environment['versions'].items())
    load = ', '.join(f'{value:.2f}' for value in environment['load_average'])
    lines = [
        f'config    {report["config"]}',
        f'baseline  {report["baseline"]}',
        f'device    {environment["device"]}; {environment["threads"]} threads; load average {load}',
        f'versions  {versions}; commit {environment["commit"] or "unknown"}',
        *(f'{use}: {batch["source"]}, batch size {batch["batch_size"]}' for use, batch in report['inputs'].items()),
        *(f'{row.name}: not measured, {row.not_measured}' for row in rows if row.not_measured),
        *report['notes'],
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False)


def make_table(rows: Sequence[CostRow]) -> Table:
    """Return a table of the rows: median (interquartile range), ratio of config to baseline."""
    table = Table('figure', 'models', caption='median (interquartile range); ratio = config / baseline')
    for column in ('config', 'baseline', 'ratio'):
        table.add_column(column, justify='right')
    for row in rows:
        if row.not_measured:
            table.add_row(row.name, row.form, *['not measured'] * 2, '-')
            continue
        scale, unit = SCALES[row.unit]
        values = (_format(spread, scale, unit) for spread in (row.config, row.baseline))
        table.add_row(row.name, row.form, *values, _format(row.ratio, 1, '') if row.ratio else '-')
    return table


def _format(spread: Spread, scale: float, unit: str) -> str:
    text = f'{spread.median * scale:,.4g} {unit}'.strip()
    return f'{text} ({spread.iqr * scale:,.2g})' if spread.count > 1 else text
