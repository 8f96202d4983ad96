"""Fixes of calls of the host libraries that fail without them, made by ``reprefine.registry``.

A call that works without the package does the same with it. What changes working calls is in ``reprefine.set_up``.
"""

import pickle


def allow_mmengine_checkpoints() -> None:
    """Let weights-only loading accept what mmengine itself stores in a checkpoint.

    mmengine calls ``torch.load`` bare, which on torch >= 2.6 refuses the logging history and the numpy scalars of its
    own checkpoints. The allow-list names data types only, none of which runs code of its choosing. The history stores
    references to its own statistics as calls of ``getattr``; a stand-in answers that name and knows nothing else,
    unless the user has allowed the real one.
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
            # Files written under numpy 1 name the same functions by their old module.
            reconstruct,
            (reconstruct, 'numpy.core.multiarray._reconstruct'),
            scalar,
            (scalar, 'numpy.core.multiarray.scalar'),
        ]
    )


def _name_of(owner: object) -> str:
    return getattr(owner, '__qualname__', type(owner).__name__)


def fix_adjust_hue() -> None:
    """Let mmcv's ``adjust_hue``, and with it mmpretrain's ``ColorJitter``, turn the hue back under numpy 2.

    There ``np.uint8`` refuses negative numbers instead of wrapping them. Exchanging red and blue reverses the circle of
    hues, so that a turn back becomes a turn forward.
    """
    import mmcv
    import numpy as np

    turn = mmcv.image.photometric.adjust_hue
    if turn.__module__ == __name__:
        return

    def adjust_hue(img: np.ndarray, hue_factor: float, backend: str | None = None) -> np.ndarray:
        try:
            return turn(img, hue_factor, backend)
        except OverflowError:
            reversed_hues = np.ascontiguousarray(img[..., ::-1])
            return np.ascontiguousarray(turn(reversed_hues, -hue_factor, backend)[..., ::-1])

    mmcv.adjust_hue = mmcv.image.adjust_hue = mmcv.image.photometric.adjust_hue = adjust_hue
