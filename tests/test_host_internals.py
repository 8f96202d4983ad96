"""What the code reaches for inside other libraries is listed in ``host_internals.py``, and is there."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mmengine.hooks import CheckpointHook

import reprefine
from reprefine.check_env import installed_versions
from tests.host_internals import OFFICIAL_ONLY, OURS, PRIVATE, REPLACED

ROOT = Path(__file__).parents[1]
FILES = [
    path for folder in ('reprefine', 'tools') for path in (ROOT / folder).rglob('*.py') if '.mim' not in path.parts
]
LIBRARIES = {'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mmpose', 'torch', 'torchvision', 'numpy', 'diffusers'}
LIBRARIES |= {'timm', 'yaml', 'atexit', 'pickle'}
PUBLIC = {'_replace', '_asdict', '_fields', '_exit'}  # documented: of named tuples, and os._exit


class Reach(NamedTuple):
    """One place of the code.

    Attributes:
        path: Name of what is reached for, from the module if that is known.
        is_replaced: Whether something else is put there.
    """

    path: str
    is_replaced: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition('.')[2]


def is_private(name: str) -> bool:
    return name.startswith('_') and not name.startswith('__')


@cache
def owner_and_name(path: str) -> tuple[Any, str]:
    """Import what a dotted path leads through; return its last but one part and the last one."""
    *parts, name = path.split('.')
    owner: Any = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], 2):
        if not hasattr(owner, part):
            importlib.import_module('.'.join(parts[:index]))
        owner = getattr(owner, part)
    return owner, name


@cache
def source_of(owner: Any) -> str:
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):  # written in C
        return ''


def has(owner: Any, name: str) -> bool:
    """Tell whether a module, a class or its instances have an attribute."""
    if hasattr(owner, name):
        return True
    if inspect.ismodule(owner):
        return importlib.util.find_spec(f'{owner.__name__}.{name}') is not None
    return any(re.search(rf'\w\.{name}\b', source_of(part)) for part in inspect.getmro(owner))


@pytest.mark.parametrize('path', PRIVATE | REPLACED)
def test_what_is_listed_is_there(path):
    owner, name = owner_and_name(path)
    if path not in OFFICIAL_ONLY or 'mmengine' in installed_versions():
        assert has(owner, name), f'{path} is gone; it is used, because: {(PRIVATE | REPLACED)[path]}'


def imports_of(tree: ast.AST) -> dict[str, str]:
    """Return the dotted path of every imported name."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split('.')[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f'{node.module}.{alias.name}' for alias in node.names}
    return found


def path_of(node: ast.AST, imported: dict[str, str]) -> str:
    """Return the dotted path of an expression, and of one that is not rooted in an import its last name with a dot."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, '')
    if isinstance(node, ast.Attribute):
        return f'{path_of(node.value, imported)}.{node.attr}'
    return path_of(node.value, imported) if isinstance(node, ast.Subscript) else ''


def is_self(node: ast.AST) -> bool:
    return ast.unparse(node) in ('self', 'cls', 'super()')


def reaches(tree: ast.AST) -> Iterator[Reach]:
    """Yield what the code of a file reaches for, but for what its classes do with themselves."""
    imported = imports_of(tree)
    of_classes = {node for part in ast.walk(tree) if isinstance(part, ast.ClassDef) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from (Reach(f'{node.module}.{alias.name}') for alias in node.names if is_private(alias.name))
            if is_private(node.module.rpartition('.')[2]):
                yield Reach(node.module)
        elif (
            isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and not (is_self(node.value) and node in of_classes)
        ):
            yield Reach(path_of(node, imported))
        elif isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            name = str(node.args[1].value)
            if ast.unparse(node.func) in ('getattr', 'hasattr') and is_private(name):
                yield Reach(f'{path_of(node.args[0], imported)}.{name}')
            elif ast.unparse(node.func).split('_')[-1] in ('setattr', 'delattr', 'patches.set'):
                yield Reach(f'{path_of(node.args[0], imported)}.{name}', is_replaced=True)
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield Reach(path_of(node, imported), is_replaced=True)


def own_names(folder: Path) -> set[str]:
    """Return the private names that the files of a folder define."""
    names = set()
    for path in folder.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


def is_same(one: str, other: str) -> bool:
    """Tell whether two dotted paths lead to the same object, or to the same name of the same owner."""
    (owner, name), (other_owner, other_name) = owner_and_name(one), owner_and_name(other)
    if owner is other_owner:
        return name == other_name
    return hasattr(owner, name) and getattr(owner, name) is getattr(other_owner, other_name, None)


def matches(reach: Reach, listed: dict[str, str]) -> bool:
    """Tell whether a list has an entry for what the code reaches for."""
    if reach.path.split('.')[0] not in LIBRARIES:
        return any(reach.name in path.split('.') for path in listed)
    same_name = (path for path in listed if path.endswith(f'.{reach.name}'))
    return any(path.startswith(f'{reach.path}.') for path in listed) or any(
        is_same(path, reach.path) for path in same_name
    )


def unlisted(path: Path, tree: ast.AST) -> set[str]:
    """Return what a file reaches for that is not listed."""
    own = own_names(path.parent) | OURS.keys() | PUBLIC
    found = set()
    for reach in reaches(tree):
        root = reach.path.split('.')[0]
        if reach.is_replaced and root in LIBRARIES and not is_private(reach.name):
            found |= set() if matches(reach, REPLACED) else {reach.path}
        elif is_private(reach.name) and (root in LIBRARIES or not (root or reach.name in own)):
            found |= set() if matches(reach, PRIVATE) else {reach.path}
    return found


@pytest.mark.parametrize(
    'folder', sorted({path.parent for path in FILES}), ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_files_reach_for_is_listed(folder):
    paths = sorted(folder.glob('*.py'))
    assert {str(path): unlisted(path, ast.parse(path.read_text())) for path in paths} == {str(p): set() for p in paths}


def own_classes() -> list[type]:
    """Import the package and return its classes that extend one of another library."""
    names = [module.name for module in pkgutil.walk_packages(reprefine.__path__, 'reprefine.')]
    names.remove('reprefine.everywhere')  # would exchange the Runner of all tests
    found = [value for name in names for value in vars(importlib.import_module(name)).values()]
    classes = {value for value in found if inspect.isclass(value) and value.__module__.startswith('reprefine.')}
    return sorted((value for value in classes if foreign_bases(value)), key=str)


def foreign_bases(value: type) -> list[type]:
    return [base for base in value.__mro__ if base.__module__.split('.')[0] in LIBRARIES]


def names_used(value: type) -> set[str]:
    """Return the private names that a class and its bases of this package define, or ask ``self`` for."""
    names = set()
    for base in value.__mro__:
        if base.__module__.split('.')[0] not in ('reprefine', 'tests'):
            continue
        tree = ast.parse(textwrap.dedent(source_of(base)))
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return {name for name in names if is_private(name)}


def inherited(value: type) -> Iterator[tuple[list[type], str]]:
    """Yield the private names of a class that bases of other libraries have, too, with these bases."""
    for name in sorted(names_used(value)):
        bases = [
            base
            for base in foreign_bases(value)
            if name in vars(base) or re.search(rf'self\.{name}\b', source_of(base))
        ]
        if bases:
            yield bases, name


def classes_sharing(classes: list[type]) -> tuple[set[str], set[str]]:
    """Return what classes share with their bases without being listed, and what is listed and shared."""
    listed = [(*owner_and_name(path), path) for path in PRIVATE]
    missing, found = set(), set()
    for value in classes:
        for bases, name in inherited(value):
            entries = {path for owner, entry, path in listed if entry == name and owner in value.__mro__}
            found |= entries
            if not entries:
                missing.add(f'{value.__qualname__}: {bases[-1].__module__}.{bases[-1].__name__}.{name}')
    return missing, found


def test_what_classes_share_with_their_bases_is_listed_and_nothing_in_vain():
    classes = own_classes()
    assert len(classes) > 100
    missing, shared = classes_sharing(classes)
    assert missing == set()
    used = {reach.name for path in FILES for reach in reaches(ast.parse(path.read_text()))}
    assert {path for path in PRIVATE if path not in shared and path.rpartition('.')[2] not in used} == set()
    assert {path for path in REPLACED if path.rpartition('.')[2] not in used} == set()


CODE = """
from mmengine.runner import Runner, loops as l
from mmengine.runner.utils import _get_batch_size
import mmengine.fileio
Runner.train = l._gone = print
runner._hidden.x = getattr(hook, '_secret')
mmengine.fileio.handlers.table['json'] = None
patches.set(Runner, 'val', print)
runner._resume, runner._own(), self._patched
class A:
    def _own(self): return self._inside
"""


def test_the_checks_can_fail(tmp_path):
    file = tmp_path / 'code.py'
    file.write_text(CODE)
    assert unlisted(file, ast.parse(CODE)) == {
        'mmengine.runner.utils._get_batch_size', 'mmengine.runner.Runner.train', 'mmengine.runner.loops._gone',
        '._hidden', '._secret', 'mmengine.fileio.handlers.table', 'mmengine.runner.Runner.val', '._patched',
    }  # fmt: skip
    assert not has(*owner_and_name('mmengine.runner.Runner._gone'))
    assert not has(*owner_and_name('mmengine.runner._gone'))

    class Extended(CheckpointHook):
        def _init_rule(self, *args: Any) -> None:
            return self._save_best_checkpoint(self.out_dir)

    missing, shared = classes_sharing([Extended])
    assert [text.split(': ')[1] for text in missing] == ['mmengine.hooks.checkpoint_hook.CheckpointHook._init_rule']
    assert shared == {'mmengine.hooks.CheckpointHook._save_best_checkpoint'}
