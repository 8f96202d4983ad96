"""Imports all modules that runs need in the process from which they are forked."""

import contextlib
import gc
import importlib
import pkgutil

from mmengine.utils.dl_utils import collect_env

from reprefine.registry import DATASETS
from tests.helpers.formatting import skip_config_formatting

HOSTS = ('mmpretrain', 'mmdet', 'mmseg', 'mmpose')
PARTS = ('engine', 'methods', 'models', 'tasks', 'visualization')
OTHERS = (
    'diffusers.models.unets.unet_2d',
    'diffusers.schedulers.scheduling_ddpm',
    'matplotlib.backends.backend_agg',
    'torch.utils.serialization.config',
)


def preload() -> None:
    """Import the package and the OpenMMLab libraries, and cache the digits.

    The garbage collector then ignores all of it (``gc.freeze``), and forked processes copy less memory.
    """
    for host in HOSTS:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f'{host}.utils').register_all_modules(init_default_scope=False)
    for part in PARTS:
        package = importlib.import_module(f'reprefine.{part}')
        for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):
            with contextlib.suppress(ModuleNotFoundError):  # needs a library that is not installed
                importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    collect_env()  # which imports more
    DATASETS.build(dict(type='reprefine.SmallDigits', source='digits', split='train'))
    gc.collect()
    gc.freeze()


skip_config_formatting()
preload()
