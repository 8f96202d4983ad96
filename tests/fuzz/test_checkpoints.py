"""Bad checkpoints, given to test.py."""

from tests.fuzz.checkpoints import CUTS, FLIPS, OTHERS
from tests.fuzz.harness import Case, judge_testing
from tests.fuzz.spoiled import made, parametrize
from tests.helpers.run import SMALL


@parametrize(CUTS + FLIPS + OTHERS)
def test_tested(bad, sound, tmp_path, capsys):
    judge_testing(Case(bad.name, bad.ending), tmp_path, made(bad, sound, tmp_path), capsys, *SMALL)
