"""Patches of calls of other libraries that fail without them, applied by ``reprefine.registry``.

Calls that work without the package are unchanged. Patches of working calls are in ``reprefine.set_up``.
"""

import pickle


def allow_mmengine_checkpoints() -> None:
    """Let weights-only loading accept the types that mmengine stores in a checkpoint.

    mmengine calls ``torch.load`` with defaults, which on torch >= 2.6 refuses the logging history and the numpy scalars
    of its own checkpoints. The allow-list has data types only, none of which runs code from the file. The history
    stores references to its statistics as calls of ``getattr``; a replacement returns these statistics only, unless
    the user has allowed the real ``getattr``.
    """
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    def history_method(owner: object, name: str) -> object:
        if getattr in torch.serialization.get_safe_globals():
            return getattr(owner, name)
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
            # Files written with numpy 1 have the old module names.
            reconstruct,
            (reconstruct, 'numpy.core.multiarray._reconstruct'),
            scalar,
            (scalar, 'numpy.core.multiarray.scalar'),
        ]
    )


def _name_of(owner: object) -> str:
    return getattr(owner, '__qualname__', type(owner).__name__)


def fix_adjust_hue() -> None:
    """Let mmcv's ``adjust_hue``, and with it mmpretrain's ``ColorJitter``, decrease the hue under numpy 2.

    There ``np.uint8`` refuses negative numbers instead of wrapping them around. Swapping red and blue negates the hue
    angle, so that a decrease becomes an increase.
    """
    import mmcv
    import numpy as np

    original = mmcv.image.photometric.adjust_hue
    if original.__module__ == __name__:
        return

    def adjust_hue(img: np.ndarray, hue_factor: float, backend: str | None = None) -> np.ndarray:
        try:
            return original(img, hue_factor, backend)
        except OverflowError:
            swapped = np.ascontiguousarray(img[..., ::-1])
            return np.ascontiguousarray(original(swapped, -hue_factor, backend)[..., ::-1])

    mmcv.adjust_hue = mmcv.image.adjust_hue = mmcv.image.photometric.adjust_hue = adjust_hue
