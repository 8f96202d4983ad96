"""Repairs of the host libraries that must be in place before a config or a checkpoint is read.

The repair of the config reader is applied when ``reprefine`` is imported; those that need torch or mmcv are applied by
``reprefine.registry``, because importing ``reprefine`` must not pay for them. All are harmless where not needed.
"""

try:
    from mmengine.config import utils as config_utils
except ModuleNotFoundError:  # reprefine.check_env must still be able to say so
    config_utils = None


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
            raise ValueError(f'the checkpoint asks for {owner}.{name}, which is no statistic of the logging history')
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


def register_config_packages() -> None:
    """Make ``reprefine::`` and, with the forked packages, ``mmseg::`` work in ``_base_`` of a config."""
    # Module names on purpose: mmengine then finds the folder by import. By the name of the distribution it would look
    # into site-packages, where an editable install has no folder, and where mmseg's fork goes by another name.
    config_utils.MODULE2PACKAGE['reprefine'] = 'reprefine.version'
    config_utils.MODULE2PACKAGE['mmseg'] = 'mmseg'


if config_utils is not None:
    register_config_packages()
