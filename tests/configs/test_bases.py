"""Bases of configs: short chains, no index into a list of a base, and what one method uses is in its own folder."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.configs.brief import ROOT
from tests.configs.walk import CONFIGS

FOLDER = ROOT / 'configs'
FILES = sorted(FOLDER.rglob('*.py'))
LONGEST = 3
REMEDY = (
    'List the bases of the file in the middle side by side in the leaf, as OpenMMLab lists model, dataset, schedule '
    'and runtime; merge a base that only one file uses into it; or let a base start from the official configs.'
)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text().replace('{{', '(').replace('}}', ')'))


@cache
def bases_of(path: Path) -> list[Path]:
    """Return our own files that a config names as bases, official ones left out."""
    for node in parse(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_':
            named = ast.literal_eval(node.value)
            return [
                (path.parent / base).resolve()
                for base in ([named] if isinstance(named, str) else named)
                if '::' not in base
            ]
    return []


def longest_chain(path: Path) -> list[Path]:
    """Return the longest chain of our files from a config to its end. Official configs below are not ours."""
    return [path, *max(map(longest_chain, bases_of(path)), key=len, default=[])]


def indices_into_bases(module: ast.Module) -> list[str]:
    """Return the expressions that take elements of what ``_base_`` holds by position."""
    roots = {'_base_'}
    found = []
    for statement in module.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Subscript) and not (
                isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
            ):
                found += [ast.unparse(node)] * (_root(node.value) in roots)
        if isinstance(statement, ast.Assign) and {_root(value) for value in _values(statement.value)} & roots:
            roots |= {name.id for target in statement.targets for name in _values(target) if isinstance(name, ast.Name)}
    return found


def _values(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ''


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_chain_of_bases_is_short(path):
    chain = [str(file.relative_to(FOLDER)) for file in longest_chain(path)]
    assert len(chain) <= LONGEST, f'{" -> ".join(chain)}: {len(chain)} files of ours, at most {LONGEST}. {REMEDY}'


def test_chains_are_measured(tmp_path):
    bases = {'a': "['b.py', 'd.py']", 'b': "'c.py'", 'c': "['mmdet::_base_/default_runtime.py', 'd.py']"}
    for name, value in bases.items():
        (tmp_path / f'{name}.py').write_text(f'_base_ = {value}\n')
    (tmp_path / 'd.py').write_text('model = dict()\n')
    assert [path.stem for path in longest_chain(tmp_path / 'a.py')] == ['a', 'b', 'c', 'd']


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_list_of_a_base_is_indexed(path):
    assert not indices_into_bases(parse(path)), 'name the variable in the base'


def test_indices_into_lists_of_bases_are_found():
    for text in (
        'hooks = _base_.custom_hooks[:-1]',
        'a, b = _base_.train_pipeline, _base_.test_pipeline\nb[1].scale = 8',
        'model = dict(neck={{_base_.model.neck[0]}})',
    ):
        assert indices_into_bases(ast.parse(text.replace('{{', '(').replace('}}', ')')))
    for text in ("mean = _base_.native['mean']", 'sizes = [1, 2]\nsize = sizes[0]'):
        assert not indices_into_bases(ast.parse(text))


def test_a_base_that_only_one_method_uses_is_in_the_folder_of_the_method():
    users: dict[Path, set[str]] = {path: set() for path in FILES if path.is_relative_to(FOLDER / '_base_')}
    for path in FILES:
        for base in bases_of(path):
            users.get(base, set()).add(path.relative_to(FOLDER).parts[0])
    methods = {path.parent.name for path in FOLDER.glob('*/metafile.yml')}
    assert len(users) > 30
    assert len(methods) == 5
    assert {str(path) for path, names in users.items() if not names or len(names) == 1 and names <= methods} == set()
