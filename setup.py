"""Packaging of reprefine together with its config tree."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Read ``requirements/<name>.txt`` without comments."""
    lines = (HERE / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def version() -> str:
    """Read the version without importing the package."""
    scope: dict = {}
    exec((HERE / 'reprefine' / 'version.py').read_text(), scope)
    return scope['__version__']


setup(
    name='reprefine',
    version=version(),
    description='Refinement of learned representations for OpenMMLab models',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['reprefine', 'reprefine.*']),
    # reprefine/.mim/configs is a link to configs/: a wheel gets copies, an editable install follows the link.
    package_data={'reprefine': ['.mim/*.yml', '.mim/configs/**/*', 'methods/*.md', 'tasks/*.md']},
    # Neither OpenMMLab package family is required here: official and fork overwrite each other's files.
    install_requires=requirements('runtime'),
    extras_require={
        'optional': requirements('optional'),
        'tests': requirements('tests'),
        'docs': requirements('docs'),
    },
)
