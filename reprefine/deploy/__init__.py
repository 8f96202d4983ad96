"""Folding refined models into plain ones, and proving that the two agree."""

from reprefine.deploy.protocol import Deployable, relative_difference, switch_to_deploy

__all__ = ['Deployable', 'relative_difference', 'switch_to_deploy']
