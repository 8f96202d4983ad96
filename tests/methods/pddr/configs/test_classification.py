import pytest

from tests.configs.deployed import deploys
from tests.configs.walk import configs_below, train_and_test

CONFIGS = [path for path in configs_below('pddr/classification') if not deploys(path)]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)
