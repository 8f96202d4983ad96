"""Writes ``docs/errors.md``, every error message of the package: ``python -m tests.helpers.errors_page --write``."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.pages import write_as_tool
from tests.helpers.repository import ROOT, files

PAGE = ROOT / 'docs/errors.md'
HEAD = """\
<!-- Written by `python -m tests.helpers.errors_page --write` from the source. -->

# Error messages

What a user can get wrong ends in one line, the last that is printed: what is wrong, the value found, the value wanted
and the remedy. These are all of them, with the module that raises each. Words between ‹ and › are filled in; search the
page for the words around them. `--traceback` shows where an error was raised.
"""


def page() -> str:
    """Return the text of the page: the messages by package."""
    packages = defaultdict(list)
    for file in files('reprefine/*.py', 'tools/*.py'):
        path = file.relative_to(ROOT)
        packages['/'.join(path.parts[: min(3, len(path.parts) - 1)])] += [(path, text) for text in messages(file)]
    parts = [HEAD]
    for package, found in packages.items():
        if found:
            lines = [f'| {cell(text)} | [{path.stem}](../{path}) |' for path, text in found]
            parts.append('\n'.join([f'## {package}', '', '| message | module |', '|---|---|', *lines]) + '\n')
    return '\n'.join(parts)


def messages(file: Path) -> Iterator[str]:
    """Yield the messages of the ``UserError`` that a file makes, in the order of its lines."""
    tree = ast.parse(file.read_text())
    for node in sorted((node for node in ast.walk(tree) if isinstance(node, ast.Call)), key=lambda node: node.lineno):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, 'attr', '')
        if name == 'UserError' and node.args and (text := template(node.args[0])).strip('‹› '):
            yield text


def template(node: ast.expr) -> str:
    """Return the text of a message with ‹names› for what is filled in; of another expression, its source."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(map(template, node.values))
    if isinstance(node, ast.FormattedValue):
        return f'‹{placeholder(node.value)}›'
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return f'‹{placeholder(node)}›'


def placeholder(node: ast.expr) -> str:
    """Return a short name for an expression: its last attribute, key or variable."""
    names = [part.id if isinstance(part, ast.Name) else part.attr for part in ast.walk(node)
             if isinstance(part, ast.Name | ast.Attribute)]  # fmt: skip
    return names[0].strip('_').replace('_', ' ') if names else 'value'


def cell(text: str) -> str:
    """Return a message as a cell of a Markdown table."""
    text = ' '.join(text.split())
    for character in '\\`*_[]<>|':
        text = text.replace(character, f'\\{character}')
    return text


if __name__ == '__main__':
    write_as_tool(PAGE, page, __spec__.name)
