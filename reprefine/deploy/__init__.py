"""Folding refined models into plain ones, and proving that the two agree."""

from .fold import Foldable, relative_difference, switch_to_deploy

__all__ = ['Foldable', 'relative_difference', 'switch_to_deploy']
