"""The page about methods and tasks is generated from the table of cells, and the table is complete."""

import ast
import re

import pytest

from .matrix import MAX_LINES, TASKS, methods
from .matrix_cell import baseline_of, placeholders_of
from .matrix_page import PAGE, page


def test_the_page_is_generated_from_the_table():
    assert PAGE.read_text() == page(), 'run python -m tests.combinations.matrix_page --write'


def test_links_of_the_page_exist():
    links = re.findall(r'\]\(([\w./-]+)', PAGE.read_text())
    assert len(links) > 40
    for link in links:
        assert (PAGE.parent / link).exists(), link


def test_every_method_has_a_cell_for_each_task():
    assert len(methods()) >= 5
    for method in methods():
        assert set(method.cells) == set(TASKS)
        for task, cell in method.cells.items():
            assert baseline_of(cell).is_file()
            assert cell.baseline.startswith(f'{task}/')
            assert bool(cell.reason) == bool(cell.refusal)


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.title)
def test_snippets_are_short(method):
    task = next(task for task in TASKS if not method.cells[task].reason)
    configs = method.configs(task, **placeholders_of(method.cells[task]))
    lines = [line for text in configs.values() for line in laid_over(text)]
    assert 0 < len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 120


def laid_over(text: str) -> list[str]:
    """Return the lines of a config except those that name its bases."""
    (bases,) = [node for node in ast.parse(text).body if ast.unparse(node).startswith('_base_ = ')]
    lines = text.splitlines()
    return lines[: bases.lineno - 1] + lines[bases.end_lineno :]
