"""Bad checkpoints, given to load_from and to --resume."""

from tests.fuzz.checkpoints import RESUMED, STARTED
from tests.fuzz.harness import Case, judge_training
from tests.fuzz.spoiled import made, parametrize
from tests.helpers.run import SMALL

ONE = (*SMALL, 'train_cfg.max_epochs=1')


@parametrize(STARTED)
def test_started_from(bad, sound, tmp_path, capsys):
    case = Case(bad.name, bad.ending, (f'load_from={made(bad, sound, tmp_path)}',))
    judge_training(case, tmp_path, capsys, *ONE)


@parametrize(RESUMED)
def test_resumed(bad, sound, tmp_path, capsys):
    judge_training(Case(bad.name, bad.ending), tmp_path, capsys, '--resume', str(made(bad, sound, tmp_path)), *SMALL)
