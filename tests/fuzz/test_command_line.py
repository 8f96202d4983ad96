"""Bad command lines."""

import subprocess
import sys

from tests.fuzz.command_line import CONFIGS, TESTING, TRAINING
from tests.fuzz.harness import SECONDS, Case, check, parametrize
from tests.helpers.run import DIGITS, ROOT, SMALL, run_test, run_train

ONE = (*SMALL, 'train_cfg.max_epochs=1')


def check_line(case, run, first, folder, capsys):
    case.make(folder)
    words = [word.replace('{folder}', str(folder)) for word in case.words]
    check(Case(case.name, case.ending), lambda: run(*first, *words), folder, capsys)


@parametrize(CONFIGS)
def test_config(case, tmp_path, capsys):
    check_line(case, run_train, (), tmp_path, capsys)


@parametrize(TRAINING)
def test_training(case, tmp_path, capsys):
    check_line(case, run_train, (DIGITS, *ONE, '--work-dir', str(tmp_path / 'run')), tmp_path, capsys)


@parametrize(TESTING)
def test_testing(case, valid, tmp_path, capsys):
    check_line(case, run_test, (DIGITS, str(valid), '--work-dir', str(tmp_path), *SMALL), tmp_path, capsys)


def test_as_a_process(tmp_path):
    words = ('tools/train.py', DIGITS, '--cfg-options', 'model.backbone.patch_size=0', '--work-dir', str(tmp_path))
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert 'ZeroDivisionError' in done.stderr.strip().splitlines()[-1]
