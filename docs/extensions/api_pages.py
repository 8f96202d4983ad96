"""Sphinx extension that writes the API reference: one page for each package, with its modules as sections."""

from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ('methods', 'tasks', 'models', 'deploy', 'engine', 'visualization')
NO_PACKAGE = ('registry', 'compat', 'everywhere', 'check_env')


def packages(folder: Path) -> Iterator[Path]:
    """Yield a package and those below it, in alphabetical order."""
    yield folder
    for file in sorted(folder.glob('*/__init__.py')):
        yield from packages(file.parent)


def dotted(file: Path) -> str:
    """Return the dotted name of a module or package."""
    return '.'.join(file.relative_to(ROOT).with_suffix('').parts)


def section(title: str, mark: str, *lines: str) -> str:
    """Return a reStructuredText section."""
    return '\n'.join([title, mark * len(title), '', *lines, ''])


def package_page(folder: Path) -> str:
    """Return the page of a package: its docstring, the pages below it, and its modules."""
    below = [dotted(file.parent) for file in sorted(folder.glob('*/__init__.py'))]
    toctree = ['.. toctree::', '   :maxdepth: 1', '', *(f'   {name}' for name in below), ''] if below else []
    head = section(dotted(folder), '=', f'.. automodule:: {dotted(folder)}', '   :no-members:', '', *toctree)
    modules = [file for file in sorted(folder.glob('*.py')) if not file.name.startswith('_')]
    parts = [section(file.stem, '-', f'.. automodule:: {dotted(file)}') for file in modules]
    return '\n'.join([head, *parts])


def write_pages(app: Sphinx) -> None:
    """Write the pages that have changed, and delete those of packages that are gone."""
    folder = Path(app.srcdir) / 'api/generated'
    folder.mkdir(parents=True, exist_ok=True)
    found = [page for name in PACKAGES for page in packages(ROOT / 'reprefine' / name)]
    texts = {f'{dotted(page)}.rst': package_page(page) for page in found}
    for name in NO_PACKAGE:
        module = f'reprefine.{name}'
        texts[f'{module}.rst'] = section(module, '=', f'.. automodule:: {module}')
    for file in folder.iterdir():
        if file.name not in texts:
            file.unlink()
    for name, text in texts.items():
        if not (folder / name).is_file() or (folder / name).read_text() != text:
            (folder / name).write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect('builder-inited', write_pages)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
