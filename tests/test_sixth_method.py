"""A method is three folders and no edit elsewhere: a copy of the tree gets one more, and its own tests try it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.fresh import fresh_environment
from tests.helpers.repository import ROOT, files
from tests.helpers.tiny_method import FILES

NAME = 'feature_penalty'
CONFIG_RULES, RULES = 'tests/configs/test_configs.py', ('tests/test_repository.py', 'tests/test_import_rule.py')
OF_NAME = f'{NAME} or feature-penalty or every or index'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy the files of the repository, and nothing that lies beside them, such as datasets."""
    copy = tmp_path / 'tree'
    for file in files('*'):
        target = copy / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (copy / 'reprefine/.mim').mkdir(exist_ok=True)
    (copy / 'reprefine/.mim/configs').symlink_to('../../configs')  # as in a checkout
    return copy


def add(tree: Path, *parts: str) -> None:
    """Write those files of the tiny method whose path contains one of ``parts``."""
    for path, text in FILES.items():
        if any(part in path for part in parts):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Python in the copy."""
    env = fresh_environment(PYTHONPATH=str(tree))
    return subprocess.run([sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True, check=False)


def run_pytest(tree: Path, *arguments: str) -> str:
    """Run tests in the copy and return what they print."""
    quiet = ['-q', '-p', 'no:cacheprovider', '--tb=short', f'--basetemp={tree.parent}/tmp']
    return run(tree, '-m', 'pytest', *quiet, *arguments).stdout


def test_three_folders_are_enough(tree):
    add(tree, '')
    pages = re.search(r'^PAGES := (.*)$', (tree / 'Makefile').read_text(), flags=re.MULTILINE)[1].split()
    for page in pages:  # as make pages does
        result = run(tree, '-m', page, '--write')
        assert result.returncode == 0, result.stderr
    index = (tree / 'model-index.yml').read_text()
    assert f'configs/{NAME}/metafile.yml' in index
    assert f'{NAME}/model.py' in (tree / 'reprefine/methods/README.md').read_text()
    guarantees = [f'tests/guarantees/test_bad_{what}.py' for what in ('files', 'steps', 'checkpoints')]
    printed = run_pytest(tree, f'tests/methods/{NAME}', CONFIG_RULES, *guarantees, '-k', OF_NAME)
    assert re.search(r'^\d\d passed', printed, flags=re.MULTILINE), printed
    assert re.search(r'^\d+ passed', run_pytest(tree, *RULES), flags=re.MULTILINE)


def test_what_is_missing_is_named(tree):
    add(tree, 'reprefine/methods', 'configs/feature_penalty/classification')
    printed = run_pytest(tree, CONFIG_RULES, 'tests/guarantees/test_bad_files.py', '-k', OF_NAME)
    for message in (
        f'write configs/{NAME}/README.md',
        f'write tests/methods/{NAME}/subject.py',
        f'write tests/methods/{NAME}/**/test_resume.py',
        'train and test these in a test file of tests/methods/<method>/configs: '
        f"['configs/{NAME}/classification/vit-tiny_feature-penalty_digits.py']",
    ):
        assert message in printed, printed
