"""Write the tables and numbers of Markdown pages from the records of experiments.

A page marks a table by `<!-- table: RECORD -->` and `<!-- end -->` on lines of their own, and a number by
`<!-- value: RECORD :: ROW :: METRIC :: FORM -->...<!-- end -->`; the tool writes what is between the marks. RECORD is
relative to the page. FORM is `mean` (± standard deviation), `difference` (to the control of the row, pair by pair),
`note` (the note METRIC; ROW is empty), or `source` (seeds, command, commit and time; ROW and METRIC are empty). A table
takes ` | rows: A; B` and ` | metrics: a; b` after RECORD.
"""

import argparse
import re
from functools import partial
from pathlib import Path

from records import ROOT, Record, Row, read_record

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write
from reprefine.visualization.results import markdown_table, mean_std, paired_difference

EXAMPLE = """example:
  python tools/experiments/tables.py            # writes all pages
  python tools/experiments/tables.py --check    # says which pages differ from their records
"""
TABLE = re.compile(r'^<!-- table: (?P<arguments>.*?) -->\n.*?^<!-- end -->$', re.MULTILINE | re.DOTALL)
VALUE = re.compile(r'<!-- value: (?P<arguments>.*?) -->(?:(?!<!--).)*<!-- end -->', re.DOTALL)
MAX_HEADER = 20  # characters of a control's name in the head of a column


def record_table(record: Record, rows: list[str] | None = None, metrics: list[str] | None = None) -> str:
    """Return the table of a record: mean ± standard deviation, and paired differences to the control.

    Args:
        record: The record.
        rows: Names of rows; default all.
        metrics: Names of metrics; default all.

    Raises:
        UserError: If the record has no such row or metric.
    """
    chosen = [record.row(name) for name in rows] if rows else record.rows
    names = metrics or list(record.metrics)
    if unknown := set(names) - set(record.metrics):
        raise UserError(f'the record has no metric {min(unknown)!r}: use {", ".join(record.metrics)}')
    compared = {name for name in names if record.metrics[name].compare and any(row.control for row in chosen)}
    controls = {row.control for row in chosen} - {None}
    (control,) = controls if len(controls) == 1 else ('control',)
    difference = f'minus {control if len(control) <= MAX_HEADER else "control"}'
    header = ['']
    for name in names:
        header += [record.metrics[name].label, *([difference] if name in compared else [])]
    return markdown_table(header, [_cells(record, row, names, compared) for row in chosen])


def _cells(record: Record, row: Row, names: list[str], compared: set[str]) -> list[str]:
    cells = [row.name]
    for name in names:
        cells.append(mean_std(row.values[name], record.metrics[name].digits) if name in row.values else '')
        if name in compared:
            both = row.control and name in row.values and name in record.row(row.control).values
            cells.append(row_difference(record, row, name) if both else '')
    return cells


def row_difference(record: Record, row: Row, metric: str) -> str:
    """Return mean ± standard deviation of the paired differences of a row and its control."""
    control = record.row(row.control).values[metric]
    return paired_difference(row.values[metric], control, record.metrics[metric].digits)


def source_line(record: Record, link: str) -> str:
    """Return seeds, command, commit, duration and a link to the record."""
    first, last = record.seeds[0], record.seeds[-1]
    seeds = f'Seeds {first} to {last}' if len(record.seeds) > 1 else f'Seed {first}'
    threads = f'{record.threads} thread{"s" if record.threads > 1 else ""}'
    return (
        f'{seeds}, mean ± standard deviation, paired differences. `{record.command}` at commit `{record.commit}`, '
        f'{record.minutes:.0f} minutes on {threads} ([record]({link}))'
    )


def _table(page: Path, match: re.Match) -> str:
    file, *options = [part.strip() for part in match['arguments'].split('|')]
    chosen = {key: [name.strip() for name in names.split(';')] for key, names in (o.split(':', 1) for o in options)}
    text = record_table(read_record(page.parent / file), **chosen)
    return f'<!-- table: {match["arguments"]} -->\n{text}\n<!-- end -->'


def _value(page: Path, match: re.Match) -> str:
    file, name, metric, form = [part.strip() for part in match['arguments'].split('::')]  # | would end a table's cell
    record = read_record(page.parent / file)
    texts = {
        'mean': lambda: mean_std(record.row(name).values[metric], record.metrics[metric].digits),
        'difference': lambda: row_difference(record, record.row(name), metric),
        'note': lambda: str(record.notes[metric]),
        'source': lambda: source_line(record, file),
    }
    try:
        return f'<!-- value: {match["arguments"]} -->{texts[form]()}<!-- end -->'
    except KeyError as error:
        raise UserError(
            f'{page.name}: {match["arguments"]}: {error} is no metric, note or form of this record'
        ) from error


def updated(page: Path) -> str:
    """Return the text of a page with its tables and numbers as they are in the records."""
    text = TABLE.sub(partial(_table, page), page.read_text())
    return VALUE.sub(partial(_value, page), text)


def pages() -> list[Path]:
    """Return the pages that have tables or numbers of records."""
    found = [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'configs').rglob('*.md')]
    return [page for page in sorted(found) if re.search('<!-- (table|value): ', page.read_text())]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--check', action='store_true', help='write nothing; exit code 1 if a page differs')


def main(args: argparse.Namespace) -> None:
    """Write the pages that differ from their records, or name them.

    Raises:
        UserError: If ``--check`` finds a page that differs.
    """
    stale = {page: text for page in pages() if (text := updated(page)) != page.read_text()}
    if args.check and stale:
        names = ', '.join(str(page.relative_to(ROOT)) for page in stale)
        raise UserError(f'{names}: numbers differ from the records; run python tools/experiments/tables.py')
    for page, text in stale.items():
        with atomic_write(page) as partial_file:
            Path(partial_file).write_text(text)
        print(page.relative_to(ROOT))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
