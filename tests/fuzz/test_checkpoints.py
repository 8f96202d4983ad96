"""Bad checkpoints, given to test.py."""

from tests.fuzz.checkpoints import CUTS, FLIPS, OTHERS
from tests.fuzz.corrupted import parametrize, write_corrupted
from tests.fuzz.harness import Case, check_testing
from tests.helpers.run import SMALL


@parametrize(CUTS + FLIPS + OTHERS)
def test_tested(bad, valid, tmp_path, capsys):
    check_testing(Case(bad.name, bad.ending), tmp_path, write_corrupted(bad, valid, tmp_path), capsys, *SMALL)
