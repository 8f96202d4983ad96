"""The commands of the tutorial run one after the other, unchanged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / 'docs/tutorial.md'
pytestmark = pytest.mark.timeout(900)  # seven processes, of which each imports the host libraries
BLOCK = re.compile(r'^```(bash|python title="([\w.-]+)")\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def run(commands: str, folder: Path) -> str:
    """Run commands in a folder, with the Python of the tests, and return what they print."""
    paths = dict(PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}', PYTHONPATH=str(ROOT))
    script = ['bash', '-euo', 'pipefail', '-c', commands]
    found = subprocess.run(script, cwd=folder, env=os.environ | paths, capture_output=True, text=True)
    assert found.returncode == 0, f'{commands}\n{found.stdout}\n{found.stderr}'
    return found.stdout


@pytest.fixture(scope='module')
def tutorial(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The folder that the tutorial has run in, and the output of each block of commands by its first line."""
    folder, printed = tmp_path_factory.mktemp('tutorial'), {}
    for name in ('tools', 'configs'):
        (folder / name).symlink_to(ROOT / name)
    for kind, file, text in BLOCK.findall(TUTORIAL.read_text()):
        if kind == 'bash':
            printed[text.splitlines()[0]] = run(text, folder)
        else:
            (folder / file).write_text(text)
    return folder, printed


def test_every_block_of_the_tutorial_is_run():
    assert TUTORIAL.read_text().count('```') == 2 * len(BLOCK.findall(TUTORIAL.read_text())) > 0


def test_folded_network_predicts_as_the_trained_one(tutorial):
    folder, _ = tutorial
    before, after = (json.loads((folder / f'{name}.json').read_text()) for name in ('before', 'after'))
    assert before
    assert after == pytest.approx(before)


def test_onnxruntime_runs_the_network(tutorial):
    assert tutorial[1]['python run.py'].startswith('(2, 1000) [')
