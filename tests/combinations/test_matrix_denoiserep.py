"""DenoiseRep on every task: from a checkpoint of the baseline to one that the baseline's config tests."""

import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import default_work_dir
from reprefine.methods.denoiserep import denoise_layers
from tests.configs.deployed import randomised
from tests.methods.denoiserep.on_tasks import METHOD
from tests.methods.denoiserep.walk import phases_of

from .matrix import TASKS
from .matrix_cell import Stages, assert_deploys, stages


def write_baseline(run: Stages) -> None:
    """Write a checkpoint of the baseline, with random norm statistics."""
    work_dir = run.folder / default_work_dir(str(run.baseline))
    work_dir.mkdir(parents=True)
    model = build_model(run.config(run.baseline, work_dir))
    torch.save(dict(state_dict=randomised(model).state_dict()), work_dir / 'epoch_1.pth')


@pytest.mark.parametrize('task', TASKS)
def test_refines_a_baseline_and_is_deployed(task, tmp_path, toy_folder):
    with stages(METHOD, task, tmp_path, toy_folder) as run:
        write_baseline(run)
        config = run.write('refine.py')
        assert run.train(config, is_first=False) == 0
        work_dir = tmp_path / default_work_dir(str(config))
        assert phases_of(work_dir) == {'denoise', 'backbone'}
        run.test(config)
        assert not denoise_layers(assert_deploys(run, config))
        run.test(run.baseline, work_dir / f'{run.checkpoint(config).stem}_deploy.pth')
