"""Deployment of refined models: ``switch_to_deploy``, comparison with the training form, export."""

from .protocol import Deployable, relative_difference, switch_to_deploy

__all__ = ['Deployable', 'relative_difference', 'switch_to_deploy']
