"""Toy data for runs of configs of the tree."""

from tests.configs.conftest import toy_folder

__all__ = ['toy_folder']
