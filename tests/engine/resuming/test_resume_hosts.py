"""Runs of each host library, and of a host library's own training tool, that are killed and resumed."""

import runpy
import signal
import sys
from pathlib import Path

import pytest

from tests.helpers.killed import assert_equal_runs, kill_and_resume, run, train_config
from tests.helpers.run import DIGITS, SMALL, read_until, start
from tests.helpers.subjects import write_subject


@pytest.mark.parametrize('library', ['mmpretrain', 'mmdet', 'mmseg', 'mmpose'])
def test_killed_and_resumed_equals_uninterrupted(library, tmp_path):
    pytest.importorskip(library)
    for runs in kill_and_resume(train_config, write_subject(library, tmp_path).config, folder=tmp_path):
        assert_equal_runs(*runs)


def test_stopped_in_a_validation_after_the_last_checkpoint(tmp_path):
    pytest.importorskip('mmpretrain')
    stops = [(signal.SIGKILL, ('after_train_epoch', 3)), (signal.SIGINT, ('after_val_iter', 1))]
    for runs in kill_and_resume(
        train_config, write_subject('mmpretrain', tmp_path).config, folder=tmp_path, stops=stops
    ):
        assert_equal_runs(*runs)


def train_with_host_tool(work_dir, tool, config, *options):
    """Resume with the training tool of a host library, in this process."""
    sys.argv = [tool, config, '--work-dir', work_dir, '--no-persistent-workers', *options, '--resume']
    runpy.run_path(tool, run_name='__main__')


def test_the_tool_of_a_host_library_resumes_exactly_with_one_line_in_the_config(tmp_path):
    mmpretrain = pytest.importorskip('mmpretrain')
    tool = str(Path(mmpretrain.__file__).parent / '.mim/tools/train.py')
    config, host_config = (str(tmp_path / name) for name in ('config.py', 'host_config.py'))
    for path, head in ((config, ''), (host_config, "custom_imports = dict(imports=['reprefine.everywhere'])")):
        Path(path).write_text(f'_base_ = {DIGITS!r}\n{head}\n')
    options = (*SMALL, 'train_cfg.max_epochs=4', 'default_hooks.checkpoint.interval=4')
    assert train_config(str(tmp_path / 'uninterrupted'), config, *options) == 0

    resumed = tmp_path / 'resumed'
    # A process that has not imported reprefine before it reads the config.
    process = start(tool, host_config, '--work-dir', str(resumed), *options, 'default_hooks.logger.interval=1')
    read_until(process, 'Epoch(train) [1][1/2]')
    process.terminate()
    error = process.communicate()[1].strip().splitlines()[-1]
    assert process.returncode == 143
    assert error.startswith(f'stopped by SIGTERM; continue from {resumed}/iter_')
    run(train_with_host_tool, tool, host_config, *options, work_dir=resumed)
    assert_equal_runs(tmp_path / 'uninterrupted', resumed, error)
