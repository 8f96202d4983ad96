"""The table of reprefine/tasks/README.md lists the files that exist."""

from pathlib import Path

TASKS = Path(__file__).parents[2] / 'reprefine' / 'tasks'
FILE, FOLDER = '●', '▣'


def read_table() -> tuple[list[str], list[list[str]]]:
    """Return the tasks in the header and the cells of the rows."""
    rows = [line.strip('|').split('|') for line in (TASKS / 'README.md').read_text().splitlines() if line[:1] == '|']
    header, _, *body = [[cell.strip() for cell in row] for row in rows]
    return header[2:], body


def files_of(task: str) -> dict[str, str]:
    """Return the mark of each file of a task."""
    found = {path.name: FILE for path in (TASKS / task).glob('*.py')}
    return found | {f'{path.parent.name}.py': FOLDER for path in (TASKS / task).glob('*/__init__.py')}


def test_the_table_has_a_column_for_each_task():
    tasks, _ = read_table()
    assert tasks == sorted(path.parent.name for path in TASKS.glob('*/__init__.py'))


def test_the_table_lists_the_files_of_each_task():
    tasks, body = read_table()
    names = [row[0].strip('`') for row in body]
    assert len(names) == len(set(names))
    assert all(len(row) == 2 + len(tasks) and row[1] for row in body)
    for column, task in enumerate(tasks, start=2):
        listed = {name: row[column] for name, row in zip(names, body, strict=True) if row[column]}
        assert listed == files_of(task), task
