"""Child registries of every mmengine root, under the scope ``reprefine``.

A config addresses what is registered here as ``type='reprefine.X'``. The first look-up of X imports the module that
registers it and no other, so that a run imports only the methods, tasks and libraries that its config names.
"""

import importlib
from collections.abc import Set
from typing import Any

from mmengine import registry as roots
from mmengine.registry import Registry

from reprefine.compat import allow_mmengine_checkpoints, fix_adjust_hue
from reprefine.engine.config_check.deprecated import current_type
from reprefine.registered import registered

allow_mmengine_checkpoints()
fix_adjust_hue()

LIBRARIES = {'mmpretrain', 'mmdet', 'mmseg', 'mmpose'}


class LazyRegistry(Registry):
    """A child registry that imports the module that registers a name on the first look-up of the name.

    Args:
        variable: Name of the root in ``mmengine.registry``, and of the child here.
    """

    def __init__(self, variable: str) -> None:
        root = getattr(roots, variable)
        super().__init__(root.name, parent=root, scope='reprefine')
        self.variable = variable

    def names(self) -> Set[str]:
        """Return all registered names, also those of modules that are not imported."""
        return self.module_dict.keys() | {
            name for registry, name in registered('reprefine') if registry == self.variable
        }

    def get(self, key: str) -> Any:
        """Return the class or function registered as ``key``, as mmengine's registries do.

        A class whose OpenMMLab library is not installed is not found.
        """
        scope = 'reprefine.' if key.startswith('reprefine.') else ''
        name = current_type(key.removeprefix(scope))
        source = registered('reprefine').get((self.variable, name))
        try:
            if source is not None and name not in self.module_dict:
                importlib.import_module(source.module)
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] not in LIBRARIES:
                raise
        return super().get(scope + name)

    def import_from_location(self) -> None:
        """Do nothing, as :meth:`get` imports the module."""


MODELS = LazyRegistry('MODELS')
DATASETS = LazyRegistry('DATASETS')
DATA_SAMPLERS = LazyRegistry('DATA_SAMPLERS')
TRANSFORMS = LazyRegistry('TRANSFORMS')
METRICS = LazyRegistry('METRICS')
TASK_UTILS = LazyRegistry('TASK_UTILS')
HOOKS = LazyRegistry('HOOKS')
PARAM_SCHEDULERS = LazyRegistry('PARAM_SCHEDULERS')
LOOPS = LazyRegistry('LOOPS')
RUNNERS = LazyRegistry('RUNNERS')
OPTIM_WRAPPERS = LazyRegistry('OPTIM_WRAPPERS')
OPTIM_WRAPPER_CONSTRUCTORS = LazyRegistry('OPTIM_WRAPPER_CONSTRUCTORS')
VISUALIZERS = LazyRegistry('VISUALIZERS')
