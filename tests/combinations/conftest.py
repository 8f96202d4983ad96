"""Toy data for runs of configs of the tree."""

import pytest

from tests.configs.conftest import toy_folder

pytest.register_assert_rewrite('tests.combinations.checks')

__all__ = ['toy_folder']
