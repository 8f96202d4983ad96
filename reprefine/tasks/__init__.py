"""The task kits: what OpenMMLab lacks for one benchmark each."""

from reprefine.registry import import_submodules

import_submodules(__name__)
