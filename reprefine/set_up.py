"""Setting up a process for a run: weights-only loading, safe YAML, and caches for reading configs.

The tools, the Runner and ``reprefine.everywhere`` call :func:`set_up`. Importing ``reprefine`` does not, because it
changes working calls of torch and mmengine in the whole process.
"""

import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

# Environment variable with which processes started by this one are set up when they import the package.
MARK = 'REPREFINE_SET_UP'


def set_up(loaders: bool = True) -> None:
    """Set up this process, and those it starts, for a run; a second call changes nothing.

    Afterwards every ``torch.load`` is weights-only, YAML is loaded as data, mmengine loads checkpoints by
    :mod:`reprefine.engine.checkpoints.checkpoint`, and mmengine formats and looks up configs once.

    Args:
        loaders: Whether to replace mmengine's checkpoint loaders, which imports torch.
    """
    os.environ[MARK] = '1'
    force_weights_only_loading()
    try:
        import mmengine.config  # noqa: F401
    except ModuleNotFoundError:  # reprefine.check_env must still report that
        return
    read_yaml_safely()
    cache_config_functions()
    if loaders:
        from reprefine.engine.checkpoints.checkpoint import register_loaders
        from reprefine.engine.checkpoints.pretrained import register_initializer

        register_loaders()
        register_initializer()


def force_weights_only_loading() -> None:
    """Make every ``torch.load`` of the process weights-only, also those of other libraries.

    The opposite environment variable is removed, as torch refuses to load with both.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)


def read_yaml_safely() -> None:
    """Let mmengine load YAML files as data only; its own loader calls any function that a file names."""
    import yaml
    from mmengine.fileio import YamlHandler

    if YamlHandler.load_from_fileobj.__module__ == __name__:
        return

    class DataLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
        """The safe loader, with the tuples that mmengine writes."""

    DataLoader.add_constructor(
        'tag:yaml.org,2002:python/tuple', lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
    )

    def load_from_fileobj(self: YamlHandler, file: Any, **kwargs: Any) -> Any:
        from reprefine.engine.errors import UserError, one_line

        try:
            return yaml.load(file, **kwargs | {'Loader': DataLoader})  # noqa: S506, DataLoader is safe
        except yaml.YAMLError as error:
            raise UserError(
                f'YAML file cannot be loaded, it is corrupted or has more than data: {one_line(error)}'
            ) from error

    YamlHandler.load_from_fileobj = load_from_fileobj


def cache_config_functions() -> None:
    """Let mmengine format the text of a config once, and look up a package that a config inherits from once.

    It formats the same text, some tenths of a second for a large config, for the log, the work dir, each visualisation
    backend, the message hub and every checkpoint. The fork imports the formatter in each call and is not patched. For
    every ``mmdet::`` mmengine reloads ``pkg_resources`` and reads the metafiles of all models.
    """
    from mmengine.config import config as module
    from mmengine.config import utils

    if hasattr(module.is_installed, 'cache_clear'):
        return
    if hasattr(module, 'FormatCode'):
        module.FormatCode = _cached_format_code(module.FormatCode)
    is_installed = module.is_installed

    @lru_cache
    def is_installed_once(package: str) -> bool:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'pkg_resources is deprecated')  # which a user cannot change
            return is_installed(package)

    module.is_installed, utils.load = is_installed_once, lru_cache(utils.load)


def _cached_format_code(format_code: Callable[..., tuple[str, bool]]) -> Callable[..., tuple[str, bool]]:
    @lru_cache(8)
    def cached(text: str, style: tuple, options: tuple) -> tuple[str, bool]:
        return format_code(text, style_config=dict(style), **dict(options))

    def format_once(text: str, style_config: dict[str, Any], **options: Any) -> tuple[str, bool]:
        return cached(text, tuple(style_config.items()), tuple(options.items()))

    return format_once
