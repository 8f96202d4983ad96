"""Bad images, read by the loader of each OpenMMLab library."""

import pytest

from tests.fuzz.harness import Case, check_training, parametrize
from tests.fuzz.hosts import CONFIGS
from tests.fuzz.images import IMAGE_CASES
from tests.helpers.tiny_hosts import write_config, write_images


@parametrize(IMAGE_CASES)
def test_ends_as_the_table_says(case, tmp_path, capsys):
    pytest.importorskip(case.library)
    write_images(tmp_path)
    config = write_config(tmp_path, CONFIGS[case.library])
    check_training(Case(case.name, case.ending, case.options, case.make), tmp_path, capsys, config=config)
