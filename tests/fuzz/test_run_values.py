"""Bad values of hooks and of the run itself."""

from tests.fuzz.harness import check_training, parametrize
from tests.fuzz.values import RUN
from tests.helpers.run import SMALL


@parametrize(RUN)
def test_ends_as_the_table_says(case, tmp_path, capsys):
    check_training(case, tmp_path, capsys, *SMALL, 'train_cfg.max_epochs=1')
