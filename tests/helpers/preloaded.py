"""What runs import late, imported and frozen once in the process that they are forked from."""

import contextlib
import gc
import importlib
import pkgutil

from mmengine.utils.dl_utils import collect_env

from reprefine.registry import DATASETS
from tests.helpers.layout import leave_out_layout

HOSTS = ('mmpretrain', 'mmdet', 'mmseg', 'mmpose')
PARTS = ('engine', 'methods', 'models', 'tasks', 'visualization')
OTHERS = (
    'diffusers.models.unets.unet_2d',
    'diffusers.schedulers.scheduling_ddpm',
    'matplotlib.backends.backend_agg',
    'torch.utils.serialization.config',
)


def preload() -> None:
    """Import all parts of the package and of its host libraries, and read the digits, which are kept.

    mmengine's datasets then collect garbage among nothing of it, and forked processes copy less of it.
    """
    for host in HOSTS:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f'{host}.utils').register_all_modules(init_default_scope=False)
    for part in PARTS:
        package = importlib.import_module(f'reprefine.{part}')
        for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):
            with contextlib.suppress(ModuleNotFoundError):  # needs a host library that is not installed
                importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    collect_env()  # which imports more
    DATASETS.build(dict(type='reprefine.SmallDigits', source='digits', split='train'))
    gc.collect()
    gc.freeze()


leave_out_layout()
preload()
