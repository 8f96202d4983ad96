"""Bad values of optimisers, schedules, loops and metrics."""

from tests.fuzz.harness import check_training, parametrize
from tests.fuzz.values import OPTIMISATION
from tests.helpers.run import SMALL


@parametrize(OPTIMISATION)
def test_ends_as_the_table_says(case, tmp_path, capsys):
    check_training(case, tmp_path, capsys, *SMALL, 'train_cfg.max_epochs=1')
