"""Methods and tasks import neither each other nor other methods and tasks; models, deploy and engine import neither."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = ('methods', 'tasks')
# What a method or a task may import from the package.
FOUNDATION = {'registry', 'models', 'engine', 'visualization', 'deploy'}
# What may import neither methods nor tasks.
BELOW = {'models', 'deploy', 'engine'}


def resolve(name: str, level: int, package: str) -> str:
    """Return the absolute dotted name of a possibly relative import made inside ``package``."""
    if not level:
        return name
    parts = package.split('.')
    base = parts[: len(parts) - level + 1]
    return '.'.join([*base, name] if name else base)


def called_name(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, 'id', '')


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of everything imported, anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve(node.module or '', node.level, package)
            yield from ((node.lineno, f'{base}.{alias.name}') for alias in node.names)
        elif isinstance(node, ast.Call) and called_name(node) in {'import_module', '__import__'} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                stripped = name.value.lstrip('.')
                yield node.lineno, resolve(stripped, len(name.value) - len(stripped), package)


def allowed(target: str, owner: tuple[str, ...]) -> bool:
    """Tell whether a file of the folder ``owner`` (parts below the package) may import ``target``."""
    parts = tuple(target.split('.'))
    if parts[0] != 'reprefine':
        return True
    if owner[0] in PLUGINS:
        own_folder = len(owner) > 1 and parts[1:3] == owner[:2]
        return own_folder or (len(parts) > 1 and parts[1] in FOUNDATION)
    # `from reprefine import *` would import by a name that cannot be checked.
    return owner[0] not in BELOW or not (len(parts) > 1 and parts[1] in {*PLUGINS, '*'})


def violations(root: Path) -> list[str]:
    """List the forbidden imports of the package at ``root / 'reprefine'``."""
    found = []
    for path in sorted((root / 'reprefine').rglob('*.py')):
        folder = path.relative_to(root).parent.parts
        if len(folder) < 2:
            continue
        for line, target in imported(ast.parse(path.read_text()), '.'.join(folder)):
            if not allowed(target, folder[1:]):
                found.append(f'{path.relative_to(root)}:{line} imports {target}')
    return found


def test_the_package_keeps_the_rule():
    assert violations(ROOT) == []


FORBIDDEN = {
    'methods/a/layers.py': [
        'from reprefine.methods.b import x',
        'from reprefine.methods.b.layers import x',
        'import reprefine.methods.b',
        'import reprefine.tasks.reid as r',
        'from ..b import x',
        'from .. import b',
        'from ...tasks import reid',
        'from ... import tasks',
        'from reprefine import tasks',
        'import reprefine',
        'def f():\n    from ..b import x',
        'if 1:\n    import reprefine.tasks.reid',
        "import importlib\nimportlib.import_module('reprefine.methods.b')",
        "from importlib import import_module\nimport_module('..b', __package__)",
        "__import__('reprefine.tasks.reid')",
        'from ...check_env import x',
    ],
    'methods/a/sub/deep.py': ['from ...b import x', 'from ....tasks.reid import x'],
    'methods/__init__.py': ['from . import a', 'from .a import x'],
    'tasks/reid/metric.py': ['from ..depth import x', 'from reprefine.methods.a import x'],
    'models/vit.py': ['from ..methods.a import x', 'from .. import tasks', 'from reprefine import *'],
    'engine/hooks.py': ['def f():\n    import reprefine.tasks.reid'],
    'engine/check/deep.py': ['from ...methods import a'],
    'deploy/onnx.py': ["import importlib\nimportlib.import_module('reprefine.methods')"],
}
PERMITTED = {
    'methods/a/layers.py': [
        'import torch',
        'from .functional import x',
        'from . import functional',
        'from ..a.functional import x',
        'from ...registry import MODELS',
        'from ... import registry',
        'from reprefine.engine.errors import UserError',
        'import reprefine.models.vit',
        'from reprefine.deploy import x',
        'from ...visualization import x',
        "import importlib\nimportlib.import_module('mmdet.models')",
    ],
    'methods/a/sub/deep.py': ['from ..layers import x', 'from ....registry import MODELS'],
    'methods/__init__.py': ['from ..registry import import_submodules'],
    'engine/hooks.py': ['from ..registry import HOOKS', 'from ..models import vit', 'from .errors import UserError'],
    'check_env.py': ['from .methods.a import x'],
}


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(path, code) for path, codes in table.items() for code in codes]


def write(root: Path, path: str, code: str) -> Path:
    file = root / 'reprefine' / path
    file.parent.mkdir(parents=True)
    file.write_text(code)
    return root


@pytest.mark.parametrize(('path', 'code'), pairs(FORBIDDEN))
def test_forbidden_import_is_found(tmp_path, path, code):
    found = violations(write(tmp_path, path, code))
    assert len(found) == 1
    assert found[0].startswith(f'reprefine/{path}:')


@pytest.mark.parametrize(('path', 'code'), pairs(PERMITTED))
def test_permitted_import_is_left_alone(tmp_path, path, code):
    assert violations(write(tmp_path, path, code)) == []
