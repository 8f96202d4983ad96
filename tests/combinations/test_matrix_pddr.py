"""METHOD on every task: trained, tested and deployed."""

import pytest

from reprefine.methods.pddr import PDConv
from tests.methods.pddr.on_tasks import METHOD

from .matrix import TASKS
from .matrix_cell import assert_deploys, assert_refused, stages

RUNS = [task for task in TASKS if not METHOD.cells[task].reason]


@pytest.mark.parametrize('task', RUNS)
def test_is_trained_and_deployed(task, tmp_path, toy_folder):
    with stages(METHOD, task, tmp_path, toy_folder) as run:
        config = run.write('train.py')
        assert run.train(config) == 0
        run.test(config)
        model = assert_deploys(run, config)
        converted = [module for module in model.backbone.modules() if isinstance(module, PDConv)]
        assert converted
        assert all(layer.deploy for layer in converted)


@pytest.mark.parametrize('task', [task for task in TASKS if task not in RUNS])
def test_is_refused(task, tmp_path, toy_folder, capsys):
    with stages(METHOD, task, tmp_path, toy_folder) as run:
        assert_refused(run, run.write('train.py'), capsys)
