"""A plain wheel holds the whole config tree, and a config can be inherited from it."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG_FILES = ('.py', '.md', '.yml')
NOT_OURS = shutil.ignore_patterns('.*', 'work_dirs', 'build', 'dist', '*.egg-info', '__pycache__', 'data')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the tree that has data in it."""
    place = tmp_path_factory.mktemp('wheel')
    source = place / 'source'
    shutil.copytree(ROOT, source, symlinks=True, ignore=NOT_OURS)
    shutil.copytree(ROOT / 'reprefine' / '.mim', source / 'reprefine' / '.mim', symlinks=True)
    (source / 'data').mkdir()
    (source / 'data' / 'images.py').write_text('')
    method = source / 'configs' / 'some_method'
    (method / 'classification').mkdir(parents=True)
    (method / 'classification' / 'vit.py').write_text("_base_ = '../../_base_/reprefine.py'\nanswer = 42\n")
    (method / 'README.md').write_text('# Some method\n')
    (method / 'metafile.yml').write_text('Models: []\n')
    command = [sys.executable, '-m', 'pip', 'wheel', str(source), '--no-deps', '--no-build-isolation', '--no-index']
    done = subprocess.run([*command, '-w', str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(place.glob('reprefine-*.whl'))


@pytest.fixture(scope='module')
def content(wheel):
    return zipfile.ZipFile(wheel).namelist()


def test_every_config_is_inside(content):
    source = [path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*') if path.suffix in CONFIG_FILES]
    assert source
    missing = {f'reprefine/.mim/{path.as_posix()}' for path in source if '__pycache__' not in path.parts} - set(content)
    assert not missing
    added = 'reprefine/.mim/configs/some_method/'
    assert {f'{added}README.md', f'{added}metafile.yml', f'{added}classification/vit.py'} <= set(content)


def test_every_module_is_inside_and_nothing_else(content):
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'reprefine').rglob('*.py')}
    modules = {path for path in modules if not path.startswith('reprefine/.mim/')}
    assert modules <= set(content)
    assert {'reprefine/methods/README.md', 'reprefine/tasks/README.md'} <= set(content)
    assert {name.split('/')[0].split('-')[0] for name in content} == {'reprefine'}


def test_licence_travels_along(content):
    assert any(re.search(r'dist-info/(licenses/)?LICENSE$', name) for name in content)


def test_no_package_family_is_required(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith('METADATA'))
    required = re.findall(r'^Requires-Dist: ([\w.-]+)(?![^\n]*extra ==)', archive.read(metadata).decode(), re.MULTILINE)
    assert {'numpy', 'rich', 'scikit-learn'} <= set(required)
    assert not [name for name in required if name.startswith(('mm', 'onedl', 'torch'))]


@pytest.mark.parametrize('name', ['_base_/reprefine.py', 'some_method/classification/vit.py'])
def test_config_is_inherited_from_the_unpacked_wheel(wheel, tmp_path, name):
    site = tmp_path / 'site'
    zipfile.ZipFile(wheel).extractall(site)
    (tmp_path / 'config.py').write_text(f"_base_ = 'reprefine::{name}'\n")
    code = (
        'import reprefine; from mmengine.config import Config; config = Config.fromfile("config.py"); '
        'print(reprefine.__file__); print(config.custom_imports["imports"], config.get("answer"))'
    )
    environment = os.environ | {'PYTHONPATH': str(site)}
    output = subprocess.check_output([sys.executable, '-c', code], text=True, cwd=tmp_path, env=environment)
    where, read = output.splitlines()[-2:]
    assert Path(where).is_relative_to(site)
    assert read == f"['reprefine'] {42 if 'vit' in name else None}"


def test_config_is_inherited_from_the_checkout(tmp_path):
    (tmp_path / 'config.py').write_text("_base_ = 'reprefine::_base_/reprefine.py'\n")
    code = (
        'import reprefine; from mmengine.config import Config; '
        'print(Config.fromfile("config.py").custom_imports["imports"])'
    )
    output = subprocess.check_output([sys.executable, '-c', code], text=True, cwd=tmp_path)
    assert output.strip().endswith("['reprefine']")


def test_pinned_versions_agree():
    def read(name):
        return (ROOT / 'requirements' / name).read_text()

    hooks = (ROOT / '.pre-commit-config.yaml').read_text()
    for tool in ('ruff', 'codespell', 'mypy'):
        version = re.search(rf'^{tool}==(\S+)$', read('tests.txt'), re.MULTILINE)[1]
        assert set(re.findall(rf'{tool}==([\d.]+)', hooks)) == {version}
    # Later mlxtend releases want a newer numpy than mmpretrain bears.
    assert 'numpy==2.2.6' in read('build.txt')
    assert 'mlxtend==0.23.4' in read('optional.txt')
