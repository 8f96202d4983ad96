"""Face parsing and landmark configs of RepFusion: each trains and tests."""

import pytest

from tests.configs.walk import configs_below, train_and_test


@pytest.mark.parametrize(
    'path', configs_below('repfusion/face_parsing', 'repfusion/landmarks'), ids=lambda path: path.stem
)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)
