"""Strict configs: a misspelt key, type or argument stops before data is touched."""

from .check import check_config
from .options import merge_options
from .values import require_settings

__all__ = ['check_config', 'merge_options', 'require_settings']
