"""Refinement of learned representations for OpenMMLab models.

Importing the package stays light, and changes no call of another library that works without it: configs may inherit
ours (``reprefine.config_bases``), and a config's first ``reprefine.X`` imports the registries and what registers X.
What a run needs beyond that is set up by the tools, the Runner and ``reprefine.everywhere`` (``reprefine.set_up``).
"""

import os

from reprefine.version import __version__

try:
    from reprefine import config_bases
except ModuleNotFoundError:  # no mmengine: reprefine.check_env must still be able to say so
    pass
else:
    from reprefine.set_up import MARK, set_up

    config_bases.enable()
    if MARK in os.environ:  # started by a process of ours, such as a loader's worker
        set_up(loaders=False)

__all__ = ['__version__']
