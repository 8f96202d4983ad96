"""Configs of segmentation with the denoiser, but for that of the newer release."""

import pytest

from tests.configs.walk import configs_below, train_and_test

CONFIGS = configs_below('dvt/segmentation')


@pytest.mark.parametrize('path', [path for path in CONFIGS if '-50k' not in path.stem], ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)
