"""Refinement of learned representations for OpenMMLab models.

Importing the package is fast and changes no working call of another library: configs can inherit ours
(``reprefine.config_bases``), and the first ``reprefine.X`` in a config imports the registries and the module of X.
The tools, the Runner and ``reprefine.everywhere`` set up the process for a run (``reprefine.set_up``).
"""

import os

from reprefine.version import __version__

try:
    from reprefine import config_bases
except ModuleNotFoundError:  # without mmengine reprefine.check_env must still report that
    pass
else:
    from reprefine.set_up import MARK, set_up

    config_bases.enable()
    if MARK in os.environ:  # started by a process that is set up, such as the worker of a data loader
        set_up(loaders=False)

__all__ = ['__version__']
