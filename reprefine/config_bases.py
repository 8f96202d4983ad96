"""Inheriting configs of this package: ``_base_ = 'reprefine::…'``, or ``read_base()`` in new-style configs."""

import ast
from importlib import metadata
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config import utils as config_utils

CONFIGS = Path(__file__).parent / '.mim' / 'configs'
MODULES = 'reprefine.configs.'  # not real modules; dashes in file names become underscores


def enable() -> None:
    """Make configs of this package inheritable; other configs are unaffected."""
    register_packages()
    inherit_without_scope()
    read_bases_of_text_style()


def register_packages() -> None:
    """Register ``reprefine::`` and, for the forked packages, ``mmseg::`` for ``_base_`` of a config."""
    # Module names, for which mmengine imports the package to find its folder. With a distribution name it would look
    # into site-packages, where an editable install has no folder and mmseg's fork has another name.
    config_utils.MODULE2PACKAGE['reprefine'] = 'reprefine.version'
    try:
        metadata.distribution(config_utils.MODULE2PACKAGE['mmseg'])
    except metadata.PackageNotFoundError:
        config_utils.MODULE2PACKAGE['mmseg'] = 'mmseg'


def inherit_without_scope() -> None:
    """Let ``_base_ = 'reprefine::…'`` inherit as the path of the file does.

    mmengine adds ``_scope_`` to dicts inherited from a package, so that types are looked up in the registries of that
    package only. Types in our configs are those of their ``default_scope``.
    """
    get_cfg_path = Config._get_cfg_path

    def without_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
        path, scope = get_cfg_path(cfg_path, filename)
        return path, None if scope == 'reprefine' else scope

    Config._get_cfg_path = staticmethod(without_scope)


def read_bases_of_text_style() -> None:
    """Let a new-style config import from ours, which are of the text style with ``_base_``.

    Within ``with read_base():``, ``from reprefine.configs.<folder>.<name> import *`` or ``import model`` imports
    the values of ``configs/<folder>/<name>.py``.
    """
    get_base_modules = Config._get_base_modules

    def other_base_modules(nodes: list[ast.stmt]) -> list[str]:
        modules = get_base_modules(nodes)  # moves the imports out of the with statement
        for index, node in enumerate(nodes):
            if isinstance(node, ast.ImportFrom) and node.module in modules and node.module.startswith(MODULES):
                names = {alias.name: alias.asname or alias.name for alias in node.names}
                code = f"globals().update(__import__('{__name__}').config_bases.read_base({node.module!r}, {names!r}))"
                nodes[index] = ast.copy_location(ast.parse(code).body[0], node)
        return [module for module in modules if not module.startswith(MODULES)]

    Config._get_base_modules = staticmethod(other_base_modules)


def read_base(module: str, names: dict[str, str]) -> dict[str, Any]:
    """Return values of one of our configs.

    Args:
        module: ``reprefine.configs.<folder>.<name>``, the path of the config with underscores for dashes.
        names: Names in the config and in the importing config; ``*`` for all.

    Raises:
        ImportError: If there is no such config, or no such name in it.
    """
    *folders, stem = module.removeprefix(MODULES).split('.')
    files = [path for path in CONFIGS.joinpath(*folders).glob('*.py') if path.stem.replace('-', '_') == stem]
    if not files:
        raise ImportError(f'no config is named {module}; it is reprefine.configs.<folder>.<name> with _ for -')
    values = Config.fromfile(files[0])._cfg_dict
    if '*' in names:
        return dict(values)
    for name in names:
        if name not in values:
            raise ImportError(f'{module} has no {name}; it has {", ".join(values)}')
    return {new: values[name] for name, new in names.items()}
