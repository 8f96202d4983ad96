"""Configs of the attentive probe without a denoiser."""

import pytest

from tests.configs.walk import configs_below, train_and_test


@pytest.mark.parametrize('path', configs_below('baselines/classification/attentive'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)
