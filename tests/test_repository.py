"""Rules for the files of the repository: links, sizes, docstrings, annotations, nothing of one machine."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.repository import ROOT, files

LINK = re.compile(r'(?<!`)!?\[[^\]]*\]\(([^)\s]+)(?:\s+"[^"]*")?\)')
HOME = re.compile(r'(?<![\w.:/-])/(?:home|root|work|Users|mnt|media)/\w')
PATH = re.compile(r'(?<![\w/.-])((?:reprefine|tests|tools|configs|docs|requirements)/[\w/.-]+\.(?:py|sh|md|yml|txt))\b')
MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 80


def broken_links(page: Path) -> list[str]:
    """Relative links of a Markdown page that lead nowhere."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = [
        link.split('#')[0] for link in LINK.findall(text) if '://' not in link and not link.startswith('mailto:')
    ]
    return [f'{page.name}: {target}' for target in targets if target and not (page.parent / target).exists()]


def too_long(path: Path) -> Iterator[str]:
    """The file, or its functions, beyond the limits."""
    text = path.read_text()
    if (count := len(text.splitlines())) > MAX_FILE_LINES:
        yield f'{path.name}: {count} lines'
    for node in ast.walk(ast.parse(text)):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and (count := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES:
            yield f'{path.name}: {node.name} has {count} lines'


def public(body: list[ast.stmt], prefix: str = '') -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and methods with their dotted names, and ``__init__`` for its annotations."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith('_') and node.name != '__init__':
                continue
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f'{prefix}{node.name}.')


def decorators(node: ast.AST) -> set[str]:
    return {ast.unparse(decorator).split('(')[0].split('.')[-1] for decorator in node.decorator_list}


def lacking_docstring(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    if tree.body and not ast.get_docstring(tree):
        yield f'{path.name}: module'
    for name, node in public(tree.body):
        # The class describes the arguments of its constructor; an overload or setter is described by its twin.
        if node.name != '__init__' and not {'overload', 'setter'} & decorators(node) and not ast.get_docstring(node):
            yield f'{path.name}: {name}'


def lacking_annotation(path: Path) -> Iterator[str]:
    for name, node in public(ast.parse(path.read_text()).body):
        if isinstance(node, ast.ClassDef):
            continue
        bound = '.' in name and 'staticmethod' not in decorators(node)
        positional = [*node.args.posonlyargs, *node.args.args][bound:]
        variadic = [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
        for argument in (*positional, *node.args.kwonlyargs, *variadic):
            if argument.annotation is None and argument.arg != '_':
                yield f'{path.name}: {name}({argument.arg})'
        if node.returns is None and node.name != '__init__':
            yield f'{path.name}: {name} -> ?'


def found_in_package(check) -> list[str]:
    return [finding for path in files('reprefine/*.py') for finding in check(path)]


def test_relative_links_resolve():
    pages = files('*.md')
    assert len(pages) > 3
    assert [link for page in pages for link in broken_links(page)] == []


def missing_paths(text: str, name: str) -> list[str]:
    """Paths of files of the repository that a text mentions and that do not exist."""
    return [f'{name}: {path}' for path in sorted(set(PATH.findall(text))) if not (ROOT / path).exists()]


def test_paths_in_texts_exist():
    texts = [*files('*.md'), ROOT / 'Makefile']
    mentioned = [path for text in texts for path in PATH.findall(text.read_text())]
    assert len(mentioned) > 200
    assert [missing for text in texts for missing in missing_paths(text.read_text(), text.name)] == []


def test_ignored_tests_of_the_makefile_exist():
    ignored = re.findall(r'(?<=[ \t,])(\w+/[\w/]*test_\w+\.py)', (ROOT / 'Makefile').read_text())
    paths = [path for path in ignored if not path.startswith('tests/')]
    assert len(paths) == 3
    assert [path for path in paths if not (ROOT / 'tests/methods' / path).is_file()] == []


def test_tables_of_measurements_name_the_commit_that_they_are_of():
    pages = [page for page in files('*.md') if '### Measured here' in page.read_text()]
    assert len(pages) >= 5
    for page in pages:
        section = page.read_text().split('### Measured here')[1].split('\n### ')[0]
        assert re.search(r'commit\s+`[0-9a-f]{7}`', section), page


def test_nothing_names_a_path_of_one_machine():
    texts = files('*.md', '*.py', '*.sh', '*.txt', '*.toml', '*.yml', '*.yaml', '*.cff', 'Makefile', '.ci/*')
    assert [
        f'{path.relative_to(ROOT)}:{number}: {line.strip()}'
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if HOME.search(line)
    ] == []


@pytest.mark.parametrize('check', [too_long, lacking_docstring, lacking_annotation])
def test_package(check):
    assert len(files('reprefine/*.py')) > 5
    assert found_in_package(check) == []


def test_the_checks_can_fail(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('[a](gone.md) [b](page.md#top) ![c](gone.png "title") [d](https://x.org/y)\n```\n[e](no.md)\n```\n')
    assert broken_links(page) == ['page.md: gone.md', 'page.md: gone.png']
    code = tmp_path / 'code.py'
    code.write_text(
        '\n'.join(
            [
                'def bare(a, *, b: int): pass',
                'class Thing:',
                '    def __init__(self, x): pass',
                '    def method(self) -> None: pass',
                '    def _hidden(self, y): pass',
                '    @staticmethod',
                '    def static(z) -> None: """Do."""',
                'def long() -> None:',
                '    """Be long."""',
                *['    pass'] * 90,
                *['# filler'] * 300,
            ]
        )
    )
    assert [text.split(': ')[1] for text in too_long(code)] == ['399 lines', 'long has 92 lines']
    assert [text.split(': ')[1] for text in lacking_docstring(code)] == ['module', 'bare', 'Thing', 'Thing.method']
    assert [text.split(': ')[1] for text in lacking_annotation(code)] == [
        'bare(a)', 'bare -> ?', 'Thing.__init__(x)', 'Thing.static(z)',
    ]  # fmt: skip
    assert missing_paths('run tools/gone.py or tools/train.py', 'page.md') == ['page.md: tools/gone.py']
    assert HOME.search('see /' + 'home/me/data')
    assert not HOME.search('https://x.org/home/me and data/work/x')
