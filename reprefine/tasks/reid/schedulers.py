"""Learning rate schedule of TransReID."""

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from reprefine.registry import PARAM_SCHEDULERS


def warmup_cosine(step: int, peak: float, start: float, floor: float, warmup: int, period: int) -> float:
    """Return the value of a linear warm-up followed by a cosine that starts at step 0, not at the end of the warm-up.

    Args:
        step: Number of steps.
        peak: Final value of the warm-up and initial value of the cosine.
        start: Value at step 0.
        floor: Value from step ``period`` on.
        warmup: Steps of the warm-up. At its end the cosine is already below ``peak``.
        period: Steps of the whole training.
    """
    if step < warmup:
        return start + (peak - start) * step / warmup
    return floor + (peak - floor) * (1 + math.cos(math.pi * min(step / period, 1))) / 2


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """:func:`warmup_cosine` for every parameter group; start and floor are the same for all groups.

    In mmengine the cosine starts at its ``begin``, and the warm-up at a factor of the learning rate of each group.

    Args:
        optimizer: The optimizer or its wrapper.
        period: Epochs (or iterations) of the training.
        warmup: Epochs (or iterations) of the warm-up.
        start_factor: Start of the warm-up, relative to the optimizer's ``lr``.
        floor_factor: End of the cosine, relative to the optimizer's ``lr``.
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
