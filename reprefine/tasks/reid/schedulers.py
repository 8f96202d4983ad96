"""The learning rate of TransReID's recipes."""

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from reprefine.registry import PARAM_SCHEDULERS


def warmup_cosine(step: int, peak: float, start: float, floor: float, warmup: int, period: int) -> float:
    """Return a linear warm-up, then a cosine that counts from step 0 and not from the end of the warm-up.

    Args:
        step: Steps taken.
        peak: Value that the warm-up leads to and the cosine comes from.
        start: Value at step 0.
        floor: Value from step ``period`` on.
        warmup: Steps of the warm-up. At its end the cosine is already below ``peak``.
        period: Steps from the beginning of training to its end.
    """
    if step < warmup:
        return start + (peak - start) * step / warmup
    return floor + (peak - floor) * (1 + math.cos(math.pi * min(step / period, 1))) / 2


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """:func:`warmup_cosine` for every group of parameters; start and floor are the same for all groups.

    mmengine's cosine counts from where it begins, and its warm-up starts at a share of each group's own rate.

    Args:
        optimizer: The optimizer or its wrapper.
        period: Epochs (or iterations) of the training.
        warmup: Of these, the warm-up.
        start_factor: Start of the warm-up, as a share of the optimizer's ``lr``.
        floor_factor: End of the cosine, as a share of the optimizer's ``lr``.
        **kwargs: Arguments of mmengine's schedulers, such as ``by_epoch``.
    """

    def __init__(
        self,
        optimizer: Any,
        period: int,
        warmup: int = 20,
        start_factor: float = 0.01,
        floor_factor: float = 0.002,
        **kwargs: Any,
    ) -> None:
        lr = getattr(optimizer, 'optimizer', optimizer).defaults['lr']
        self.shape = dict(start=start_factor * lr, floor=floor_factor * lr, warmup=warmup, period=period)
        super().__init__(optimizer, **kwargs)

    def _get_value(self) -> list[float]:
        return [warmup_cosine(self.last_step, peak, **self.shape) for peak in self.base_values]
