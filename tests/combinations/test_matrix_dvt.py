"""METHOD on every task: a trained denoiser between backbone and head, if there are patch features."""

import os
from pathlib import Path

import pytest
import torch

from reprefine.engine.cli.launch import default_work_dir
from tests.configs.brief import ROOT
from tests.configs.walk import brief_arguments
from tests.helpers.run import run_train
from tests.methods.dvt.on_tasks import METHOD
from tests.methods.dvt.pair_files import write_pairs

from .matrix import TASKS
from .matrix_cell import assert_refused, stages

DENOISER = ROOT / 'configs/dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k.py'
RUNS = [task for task in TASKS if not METHOD.cells[task].reason]


@pytest.fixture(scope='module')
def denoiser(tmp_path_factory) -> Path:
    """Work directory of a denoiser's training."""
    folder = tmp_path_factory.mktemp('denoiser')
    write_pairs(folder, 4, channels=768)
    assert (
        run_train(str(DENOISER), '--work-dir', str(folder / 'run'), *brief_arguments(DENOISER, lambda _: folder)) == 0
    )
    return folder / 'run'


@pytest.fixture
def linked(denoiser, tmp_path) -> None:
    """The denoiser at the default path of its training."""
    work_dir = tmp_path / default_work_dir(str(DENOISER))
    work_dir.parent.mkdir(parents=True)
    os.symlink(denoiser, work_dir)


@pytest.mark.parametrize('task', RUNS)
def test_is_trained_with_the_denoiser_as_neck(task, tmp_path, toy_folder, denoiser, linked):
    with stages(METHOD, task, tmp_path, toy_folder) as run:
        config = run.write('train.py', denoiser='iter_2.pth')
        assert run.train(config, is_first=False) == 0
        run.test(config)
        trained = torch.load(run.checkpoint(config), weights_only=True)['state_dict']
        expected = torch.load(denoiser / 'iter_2.pth', weights_only=True)['state_dict']
        assert len(expected) > 10
        for name, value in expected.items():
            (found,) = [other for key, other in trained.items() if key.endswith(name.removeprefix('neck'))]
            assert torch.equal(found, value), name


@pytest.mark.parametrize('task', [task for task in TASKS if task not in RUNS])
def test_is_refused(task, tmp_path, toy_folder, linked, capsys):
    with stages(METHOD, task, tmp_path, toy_folder) as run:
        assert_refused(run, run.write('train.py', denoiser='iter_2.pth'), capsys)
