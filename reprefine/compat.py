"""Repairs of the host libraries that must be in place before a config or a checkpoint is read.

The repairs of the readers of configs and YAML files, and the switch to weights-only loading, are applied when
``reprefine`` is imported; those that need torch or mmcv are applied by ``reprefine.registry``, because importing
``reprefine`` must not pay for them. All are harmless where not needed.
"""

import os
import pickle
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

try:
    from mmengine.config import utils as config_utils
except ModuleNotFoundError:  # reprefine.check_env must still be able to say so
    config_utils = None


def force_weights_only_loading() -> None:
    """Make every ``torch.load`` of the process weights-only, also those of the host libraries.

    The opposite switch of torch goes: with both set, torch loads nothing at all.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)


def allow_mmengine_checkpoints() -> None:
    """Let weights-only loading accept what mmengine itself stores in a checkpoint.

    mmengine calls ``torch.load`` bare, which on torch >= 2.6 refuses the logging history and the numpy scalars of its
    own checkpoints. The allow-list names data types only, none of which runs code of its choosing. The history stores
    references to its own statistics as calls of ``getattr``; a stand-in answers that name and knows nothing else.
    """
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    def history_method(owner: type, name: str) -> object:
        if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
            raise pickle.UnpicklingError(f'GLOBAL {_name_of(owner)}.{name} is no statistic of the logging history')
        return getattr(owner, name)

    dtype_classes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdgUSO'}
    reconstruct = np._core.multiarray._reconstruct
    scalar = np._core.multiarray.scalar
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (history_method, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *dtype_classes,
            bytes,  # numpy's empty placeholder for an array's content
            # Files written under numpy 1 name the same functions by their old module.
            reconstruct,
            (reconstruct, 'numpy.core.multiarray._reconstruct'),
            scalar,
            (scalar, 'numpy.core.multiarray.scalar'),
        ]
    )


def _name_of(owner: object) -> str:
    return getattr(owner, '__qualname__', type(owner).__name__)


def repair_checkpoint_loader() -> None:
    """Let the host libraries read checkpoints as :mod:`reprefine.engine.checkpoints.checkpoint` does.

    That is: ``.safetensors`` too, one clear line for a bad file, a report of the keys of a part that starts from one,
    and no config text, which mmengine would run.
    """
    from .engine.checkpoints.checkpoint import register_loaders
    from .engine.checkpoints.pretrained import register_initializer

    register_loaders()
    register_initializer()


def read_yaml_safely() -> None:
    """Let mmengine's reader of YAML files build data only; its own loader calls whatever function a file names."""
    import yaml
    from mmengine.fileio import YamlHandler

    class DataLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
        """The safe loader and tuples, which mmengine writes."""

    DataLoader.add_constructor(
        'tag:yaml.org,2002:python/tuple', lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
    )

    def load_from_fileobj(self: YamlHandler, file: Any, **kwargs: Any) -> Any:
        from .engine.errors import UserError, one_line

        try:
            return yaml.load(file, **kwargs | {'Loader': DataLoader})  # noqa: S506, it is a safe one
        except yaml.YAMLError as error:
            raise UserError(f'YAML file refused, it is damaged or more than data: {one_line(error)}') from error

    YamlHandler.load_from_fileobj = load_from_fileobj


def repair_adjust_hue() -> None:
    """Let mmcv's ``adjust_hue``, and with it mmpretrain's ``ColorJitter``, turn the hue back under numpy 2.

    There ``np.uint8`` refuses negative numbers instead of wrapping them. Exchanging red and blue reverses the circle of
    hues, so that a turn back becomes a turn forward.
    """
    import mmcv
    import numpy as np

    turn_forward = mmcv.image.photometric.adjust_hue
    if turn_forward.__module__ == __name__:
        return

    def adjust_hue(img: np.ndarray, hue_factor: float, backend: str | None = None) -> np.ndarray:
        if hue_factor >= 0:
            return turn_forward(img, hue_factor, backend)
        reversed_hues = np.ascontiguousarray(img[..., ::-1])
        return np.ascontiguousarray(turn_forward(reversed_hues, -hue_factor, backend)[..., ::-1])

    mmcv.adjust_hue = mmcv.image.adjust_hue = mmcv.image.photometric.adjust_hue = adjust_hue


def handle_configs_once() -> None:
    """Let mmengine format the text of a config once, and look through a package that a config inherits from once.

    It formats the same text, which takes some tenths of a second for a large config, for the log, the work dir, each
    visualisation backend, the message hub and every checkpoint. The fork imports the formatter for each call, where it
    is left alone. For every ``mmdet::`` mmengine reloads ``pkg_resources`` and reads the metafiles of all models.
    """
    from mmengine.config import config as module

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

    module.is_installed, config_utils.load = is_installed_once, lru_cache(config_utils.load)


def _format_once(format_code: Callable[..., tuple[str, bool]]) -> Callable[..., tuple[str, bool]]:
    @lru_cache(8)
    def formatted(text: str, style: tuple, options: tuple) -> tuple[str, bool]:
        return format_code(text, style_config=dict(style), **dict(options))

    def format_once(text: str, style_config: dict[str, Any], **options: Any) -> tuple[str, bool]:
        return formatted(text, tuple(style_config.items()), tuple(options.items()))

    return format_once


force_weights_only_loading()
if config_utils is not None:
    from . import config_bases

    config_bases.register_packages()
    config_bases.inherit_without_scope()
    config_bases.read_bases_of_text_style()
    read_yaml_safely()
    handle_configs_once()
