"""Bad checkpoints, given to load_from and to --resume."""

from tests.fuzz.checkpoints import RESUMED, STARTED
from tests.fuzz.corrupted import parametrize, write_corrupted
from tests.fuzz.harness import Case, check_training
from tests.helpers.run import SMALL

ONE = (*SMALL, 'train_cfg.max_epochs=1')


@parametrize(STARTED)
def test_started_from(bad, valid, tmp_path, capsys):
    case = Case(bad.name, bad.ending, (f'load_from={write_corrupted(bad, valid, tmp_path)}',))
    check_training(case, tmp_path, capsys, *ONE)


@parametrize(RESUMED)
def test_resumed(bad, valid, tmp_path, capsys):
    check_training(
        Case(bad.name, bad.ending), tmp_path, capsys, '--resume', str(write_corrupted(bad, valid, tmp_path)), *SMALL
    )
