"""Depth configs with the denoiser and the gradient loss."""

import pytest

from tests.configs.walk import configs_below, train_and_test

CONFIGS = [path for path in configs_below('dvt/depth') if 'gradloss' in path.stem]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)
