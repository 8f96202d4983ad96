"""Writes the lists of files into ``reprefine/methods/README.md``: ``python -m tests.helpers.methods_page --write``."""

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.helpers.methods import METHODS
from tests.helpers.pages import write_as_tool

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'reprefine/methods/README.md'
MARK = '<!-- Below: written by `make pages` from the docstrings of the modules. -->\n'


def page() -> str:
    """Return the text of the page: what is above the mark, then one list a method."""
    head = PAGE.read_text().partition(MARK)[0]
    return head + MARK + ''.join(_section(method) for method in METHODS)


def _section(method: str) -> str:
    folder = PAGE.parent / method
    return f'\n## {_title(method)}\n\n{_summary(folder / "__init__.py")}\n\n' + ''.join(_lines(folder))


def _title(method: str) -> str:
    metafile = ROOT / f'configs/{method}/metafile.yml'
    assert metafile.is_file(), f'write configs/{method}/metafile.yml, as the other methods have it'
    return yaml.safe_load(metafile.read_text())['Collections'][0]['Name']


def _lines(folder: Path, depth: int = 0) -> Iterator[str]:
    """Yield a line for each module of a package, then its sub-packages with theirs."""
    indent = '  ' * depth
    for file in sorted(folder.glob('*.py')):
        if file.name != '__init__.py':
            yield f'{indent}- [`{file.name}`]({file.relative_to(PAGE.parent)}): {_summary(file)}\n'
    for init in sorted(folder.glob('*/__init__.py')):
        yield f'{indent}- **`{init.parent.name}/`**: {_summary(init)}\n'
        yield from _lines(init.parent, depth + 1)


def _summary(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text()))
    assert text, f'{file.relative_to(ROOT)} needs a docstring that says what it contains'
    return ' '.join(text.partition('\n\n')[0].split())


if __name__ == '__main__':
    write_as_tool(PAGE, page, __spec__.name)
