"""Child registries of every mmengine root, under the scope ``reprefine``.

A config addresses what is registered here as ``type='reprefine.X'``. The locations are imported on the first look-up,
so that ``import reprefine`` itself stays light.
"""

import importlib
import pkgutil

from mmengine import registry as roots
from mmengine.registry import Registry

from .compat import repair_adjust_hue, repair_checkpoint_loader

repair_checkpoint_loader()
repair_adjust_hue()


HOSTS = {'mmpretrain', 'mmdet', 'mmseg', 'mmpose'}


def import_submodules(package: str) -> None:
    """Import every direct sub-module of ``package``, so that adding a folder is all it takes to register its parts.

    What builds on a host library that is not installed is left out.

    Args:
        package: Dotted name of an imported package.
    """
    paths = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(paths):
        try:
            importlib.import_module(f'{package}.{module.name}')
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] not in HOSTS:
                raise


def _child(root: Registry, *locations: str) -> Registry:
    """Declare the child of ``root`` whose modules live in the sub-packages ``locations``."""
    return Registry(root.name, parent=root, scope='reprefine', locations=[f'reprefine.{place}' for place in locations])


MODELS = _child(roots.MODELS, 'methods', 'models', 'tasks')
DATASETS = _child(roots.DATASETS, 'methods', 'tasks')
DATA_SAMPLERS = _child(roots.DATA_SAMPLERS, 'tasks')
TRANSFORMS = _child(roots.TRANSFORMS, 'tasks')
METRICS = _child(roots.METRICS, 'methods', 'tasks')
TASK_UTILS = _child(roots.TASK_UTILS, 'methods', 'tasks')
HOOKS = _child(roots.HOOKS, 'engine.hooks', 'engine.finite_check.finite', 'methods', 'tasks', 'visualization')
PARAM_SCHEDULERS = _child(roots.PARAM_SCHEDULERS, 'methods', 'tasks')
LOOPS = _child(roots.LOOPS, 'engine.resuming.loops', 'methods', 'tasks')
RUNNERS = _child(roots.RUNNERS, 'engine.runner')
OPTIM_WRAPPERS = _child(roots.OPTIM_WRAPPERS, 'engine.optim', 'methods')
OPTIM_WRAPPER_CONSTRUCTORS = _child(roots.OPTIM_WRAPPER_CONSTRUCTORS, 'methods')
VISUALIZERS = _child(roots.VISUALIZERS, 'visualization')
