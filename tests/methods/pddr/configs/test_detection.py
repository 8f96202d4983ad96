import pytest

from tests.configs.deployed import assert_converts, deploys
from tests.configs.walk import configs_below, train_and_test

CONFIGS = configs_below('pddr/detection')


@pytest.mark.parametrize('path', [path for path in CONFIGS if not deploys(path)], ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', [path for path in CONFIGS if deploys(path)], ids=lambda path: path.stem)
def test_converted_model_predicts_the_same(path, tmp_path, toy_folder):
    assert_converts(path, tmp_path, toy_folder)
