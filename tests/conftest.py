"""What holds for all tests."""

import gc

import pytest


@pytest.fixture(scope='module', autouse=True)
def what_is_imported_is_not_looked_through_again() -> None:
    """mmengine collects garbage for every data set it builds, among all objects of the host libraries."""
    gc.collect()
    gc.freeze()
