"""Feature transformation on every task: its backbone is pre-trained, and the task trained from it."""

import pytest

from tests.methods.feature_transform.on_tasks import METHOD

from .matrix import TASKS
from .matrix_cell import assert_starts_from, stages


@pytest.mark.parametrize('task', TASKS)
def test_pretrains_the_backbone_and_starts_from_it(task, tmp_path, toy_folder):
    with stages(METHOD, task, tmp_path, toy_folder) as run:
        pretrain = run.write('pretrain.py')
        assert run.train(pretrain) == 0
        task_config = run.write('finetune.py')
        assert_starts_from(run, task_config, pretrain, 'backbone.')
        assert run.train(task_config, is_first=False) == 0
        run.test(task_config)
