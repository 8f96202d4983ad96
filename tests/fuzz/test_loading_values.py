"""Bad values of data loaders and data sets."""

from tests.fuzz.harness import judge_training, parametrize
from tests.fuzz.values import LOADING
from tests.helpers.run import SMALL


@parametrize(LOADING)
def test_ends_as_the_table_says(case, tmp_path, capsys):
    judge_training(case, tmp_path, capsys, *SMALL, 'train_cfg.max_epochs=1')
