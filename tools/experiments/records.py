"""Records of experiments: one value for each seed, and what is needed to repeat them."""

import json
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ('torch', 'mmengine', 'numpy', 'scikit-learn')
KINDS = ('mechanism', 'end to end')
# What lies in these folders decides the values; a change of a page does not.
CODE = ('reprefine', 'configs', 'tools', ':!configs/*/results/*', ':!*.md')


@dataclass(frozen=True)
class Metric:
    """A measured quantity.

    Attributes:
        label: Head of its column, with the unit.
        digits: Decimals in tables.
        compare: Whether tables have a column with the difference to the control.
    """

    label: str
    digits: int = 2
    compare: bool = True


@dataclass(frozen=True)
class Row:
    """One setting of an experiment.

    Attributes:
        name: Name in the table.
        values: Values by metric, one for each seed.
        control: Name of the row that it is compared with, pair by pair; None for a control.
    """

    name: str
    values: dict[str, list[float]]
    control: str | None = None


@dataclass(frozen=True)
class Record:
    """An experiment: its rows, and what is needed to repeat it.

    Attributes:
        title: One line about what was compared.
        kind: ``'mechanism'``, which must work if the method is implemented correctly, or ``'end to end'``.
        data: Data, with the number of training and test images.
        seeds: Seeds, in the order of the values.
        metrics: Quantities by name.
        rows: The settings, in the order of the table.
        command: Command that was run in the root of the repository.
        commit: Commit of the code, with ``+changes`` if it was changed.
        versions: Versions of Python and of packages.
        minutes: Running time in minutes, all parts added.
        threads: CPU threads that were used at a time.
        notes: Other values that a page quotes.
    """

    title: str
    kind: str
    data: str
    seeds: list[int]
    metrics: dict[str, Metric]
    rows: list[Row]
    command: str
    commit: str
    versions: dict[str, str]
    minutes: float
    threads: int
    notes: dict[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """Return a row by its name.

        Raises:
            UserError: If there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise UserError(f'the record has no row {name!r}: use one of {", ".join(row.name for row in self.rows)}')


def check_record(record: Record) -> None:
    """Check that every row has one value for each seed and metric, and that its control exists.

    Raises:
        UserError: If not.
    """
    if record.kind not in KINDS:
        raise UserError(f'kind={record.kind!r}: use one of {", ".join(KINDS)}')
    for row in record.rows:
        if row.control is not None:
            record.row(row.control)
        for name, values in row.values.items():
            if name not in record.metrics or len(values) != len(record.seeds):
                raise UserError(f'{row.name}: {name} has {len(values)} values for {len(record.seeds)} seeds')


def save_record(file: Path, record: Record) -> None:
    """Write a record as JSON, each list of numbers on one line.

    Args:
        file: JSON file, in ``configs/<method>/results`` for a record that is to be committed.
        record: The record; :func:`environment` gives command, commit and versions.

    Raises:
        UserError: If a row does not have one value for each seed.
    """
    check_record(record)
    text = json.dumps(asdict(record), indent=1, ensure_ascii=False)
    text = re.sub(r'\[[^\[\]{}"]*\]', lambda match: f'[{" ".join(match[0][1:-1].split())}]', text)
    with atomic_write(file) as partial:
        Path(partial).write_text(f'{text}\n')


def read_record(file: Path) -> Record:
    """Read a record.

    Raises:
        UserError: If the file is missing, or is not a record.
    """
    try:
        content = json.loads(file.read_text())
        rows = [Row(**row) for row in content.pop('rows')]
        metrics = {name: Metric(**metric) for name, metric in content.pop('metrics').items()}
        record = Record(rows=rows, metrics=metrics, **content)
    except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror}') from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{file} is not the record of an experiment: {error}') from error
    check_record(record)
    return record


def environment() -> dict[str, Any]:
    """Return command, commit and versions of this process, as arguments of :class:`Record`."""
    return dict(command=command(), commit=commit(), versions=versions())


def command() -> str:
    """Return the command of this process, with paths relative to the repository."""
    words = [word.removeprefix(f'{ROOT}/') for word in sys.argv]
    return shlex.join(['python', *words])


def commit() -> str:
    """Return the abbreviated commit of the code, with ``+changes`` if the code was changed; ``unknown`` without git."""
    head = _git('rev-parse', '--short=7', 'HEAD')
    changes = _git('status', '--porcelain', '--untracked-files=all', *CODE)
    return 'unknown' if not head else f'{head}+changes' if changes else head


def _git(*words: str) -> str:
    result = subprocess.run(['git', '-C', str(ROOT), *words], capture_output=True, text=True, check=False)
    return result.stdout.strip()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the values."""
    return {'python': platform.python_version(), **{name: version(name) for name in PACKAGES}}
