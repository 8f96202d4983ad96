"""Bad values of a refinement, and values changed between a run and its resumption."""

import shutil

from tests.fuzz.harness import check, check_training, parametrize
from tests.fuzz.values import METHOD, RESUMED
from tests.helpers.run import DENOISED, DIGITS, SMALL, run_train


@parametrize(METHOD)
def test_of_denoiserep(case, tmp_path, capsys):
    options = ('train_cfg.max_epochs=1', 'load_from=None')
    check_training(case, tmp_path, capsys, *SMALL, *options, config=DENOISED)


@parametrize(RESUMED)
def test_resumed(case, valid, tmp_path, capsys):
    work_dir = tmp_path / 'run'
    shutil.copytree(valid.parent, work_dir)
    (work_dir / 'last_checkpoint').unlink()  # names the folder that was copied
    argv = (DIGITS, '--work-dir', str(work_dir), *SMALL, '--resume', '--cfg-options', *case.options)
    check(case, lambda: run_train(*argv), tmp_path, capsys)
