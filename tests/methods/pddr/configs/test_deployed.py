"""Classifiers that are converted for deployment."""

import pytest

from tests.configs.deployed import assert_converts, deploys
from tests.configs.walk import configs_below

CONFIGS = [path for path in configs_below('pddr/classification') if deploys(path)]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_converted_model_predicts_the_same(path, tmp_path, toy_folder):
    assert_converts(path, tmp_path, toy_folder)
