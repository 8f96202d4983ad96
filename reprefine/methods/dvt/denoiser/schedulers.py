"""Learning rate schedule of the denoiser."""

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from reprefine.registry import PARAM_SCHEDULERS


def denoiser_lr(step: int, peak: float, total: int, warmup: int, floor: float) -> float:
    """Return the learning rate of one iteration: linear warm-up from 0 to ``peak``, then cosine decay to ``floor``.

    Args:
        step: Number of the iteration, from 0.
        peak: Learning rate of the iterations ``warmup - 1`` and ``warmup``.
        total: Number of iterations.
        warmup: Number of warm-up iterations; the first has learning rate 0.
        floor: Value of the cosine at iteration ``total``.
    """
    if step < warmup:
        return peak * step / max(warmup - 1, 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1)
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


@PARAM_SCHEDULERS.register_module()
class DenoiserLR(LRSchedulerMixin, _ParamScheduler):
    """Scheduler of :func:`denoiser_lr`; the peak is the optimizer's ``lr``.

    mmengine's ``LinearLR`` cannot start at 0.

    Args:
        optimizer: The optimizer or its wrapper.
        total: Number of iterations.
        warmup_ratio: Fraction of warm-up iterations.
        floor: Learning rate at the end.
        **kwargs: Arguments of mmengine's schedulers; ``by_epoch`` and ``end`` are set here.
    """

    def __init__(
        self, optimizer: Any, total: int, warmup_ratio: float = 0.15, floor: float = 1e-6, **kwargs: Any
    ) -> None:
        self.shape = dict(total=total, warmup=int(warmup_ratio * total), floor=floor)
        super().__init__(optimizer, **{**kwargs, 'by_epoch': False, 'end': total})

    def _get_value(self) -> list[float]:
        return [denoiser_lr(self.last_step, peak, **self.shape) for peak in self.base_values]
