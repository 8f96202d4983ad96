"""What a process needs for a run of ours beyond what importing the package does: safe readers, and configs read once.

The tools, the Runner and ``reprefine.everywhere`` call :func:`set_up`. Importing ``reprefine`` does not, because this
changes what working calls of torch and mmengine do in the whole process.
"""

import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

# Processes that one of ours starts find it in their environment, and set themselves up when they import the package.
MARK = 'REPREFINE_SET_UP'


def set_up(loaders: bool = True) -> None:
    """Prepare this process, and those it starts, for a run; a second call changes nothing.

    From then on every ``torch.load`` is weights-only, YAML is data, mmengine's loaders read checkpoints as
    :mod:`reprefine.engine.checkpoints.checkpoint` does, and mmengine formats and searches configs once.

    Args:
        loaders: Whether to replace mmengine's loaders of checkpoints now, which takes importing torch.
    """
    os.environ[MARK] = '1'
    force_weights_only_loading()
    try:
        import mmengine.config  # noqa: F401
    except ModuleNotFoundError:  # reprefine.check_env must still be able to say so
        return
    read_yaml_safely()
    handle_configs_once()
    if loaders:
        from reprefine.engine.checkpoints.checkpoint import register_loaders
        from reprefine.engine.checkpoints.pretrained import register_initializer

        register_loaders()
        register_initializer()


def force_weights_only_loading() -> None:
    """Make every ``torch.load`` of the process weights-only, also those of the host libraries.

    The opposite switch of torch goes: with both set, torch loads nothing at all.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)


def read_yaml_safely() -> None:
    """Let mmengine's reader of YAML files build data only; its own loader calls whatever function a file names."""
    import yaml
    from mmengine.fileio import YamlHandler

    if YamlHandler.load_from_fileobj.__module__ == __name__:
        return

    class DataLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
        """The safe loader and tuples, which mmengine writes."""

    DataLoader.add_constructor(
        'tag:yaml.org,2002:python/tuple', lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
    )

    def load_from_fileobj(self: YamlHandler, file: Any, **kwargs: Any) -> Any:
        from reprefine.engine.errors import UserError, one_line

        try:
            return yaml.load(file, **kwargs | {'Loader': DataLoader})  # noqa: S506, it is a safe one
        except yaml.YAMLError as error:
            raise UserError(f'YAML file refused, it is damaged or more than data: {one_line(error)}') from error

    YamlHandler.load_from_fileobj = load_from_fileobj


def handle_configs_once() -> None:
    """Let mmengine format the text of a config once, and look through a package that a config inherits from once.

    It formats the same text, which takes some tenths of a second for a large config, for the log, the work dir, each
    visualisation backend, the message hub and every checkpoint. The fork imports the formatter for each call, where it
    is left alone. For every ``mmdet::`` mmengine reloads ``pkg_resources`` and reads the metafiles of all models.
    """
    from mmengine.config import config as module
    from mmengine.config import utils

    if hasattr(module.is_installed, 'cache_clear'):
        return
    if hasattr(module, 'FormatCode'):
        module.FormatCode = _format_once(module.FormatCode)
    is_installed = module.is_installed

    @lru_cache
    def is_installed_once(package: str) -> bool:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'pkg_resources is deprecated')  # nothing that a user could change
            return is_installed(package)

    module.is_installed, utils.load = is_installed_once, lru_cache(utils.load)


def _format_once(format_code: Callable[..., tuple[str, bool]]) -> Callable[..., tuple[str, bool]]:
    @lru_cache(8)
    def formatted(text: str, style: tuple, options: tuple) -> tuple[str, bool]:
        return format_code(text, style_config=dict(style), **dict(options))

    def format_once(text: str, style_config: dict[str, Any], **options: Any) -> tuple[str, bool]:
        return formatted(text, tuple(style_config.items()), tuple(options.items()))

    return format_once
