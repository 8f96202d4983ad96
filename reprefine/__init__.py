"""Refinement of learned representations for OpenMMLab models.

Importing the package stays light: it repairs what the host libraries need (``reprefine.compat``) and declares the
registries; methods and task kits are imported when a config first asks for one of them.
"""

from . import compat  # noqa: F401  (applies the repairs on import)
from .version import __version__

__all__ = ['__version__']
