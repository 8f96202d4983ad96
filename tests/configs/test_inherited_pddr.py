"""A config of every folder of PDDR, inherited by name."""

import pytest

from tests.configs.inherited import folder_of, inherit_and_train, one_of_each_folder


@pytest.mark.parametrize('path', one_of_each_folder('pddr'), ids=folder_of)
def test_trains_and_tests(path, tmp_path, toy_folder):
    inherit_and_train(path, tmp_path, toy_folder)
