"""What is taken off a reward before it weighs an action."""

import torch
from torch import Tensor

from reprefine.engine.errors import UserError

from ..functional import moving_average

BASELINES = ('none', 'batch_mean', 'ema', 'value')


class Baseline:
    """The expected reward.

    Args:
        kind: ``'none'``: 0, as in the released code; ``'batch_mean'``: the mean of the batch; ``'ema'``: a moving
            average of those means, which begins with the first and is used before it takes in the batch; ``'value'``:
            what a network predicts from the image.
        momentum: Share of the newest mean in the moving average.

    Raises:
        UserError: If the kind is unknown.
    """

    def __init__(self, kind: str = 'ema', momentum: float = 0.1) -> None:
        if kind not in BASELINES:
            raise UserError(f"unknown baseline '{kind}': use {', '.join(BASELINES)}")
        self.kind, self.momentum = kind, momentum
        self.average: Tensor | None = None

    def __call__(self, mean: Tensor, values: Tensor | None = None) -> Tensor:
        """Return the baseline and take in the batch.

        Args:
            mean: Mean reward over the batches of all ranks, a scalar.
            values: Predictions of the value network ``[N]``, for ``'value'``.

        Returns:
            A scalar, or ``[N]`` for ``'value'``; detached.
        """
        mean = mean.detach()
        if self.kind == 'none':
            return torch.zeros_like(mean)
        if self.kind == 'batch_mean':
            return mean
        if self.kind == 'value':
            return values.detach()
        used = mean if self.average is None else self.average
        self.average = moving_average(used, mean, self.momentum)
        return used

    def state_dict(self) -> dict[str, Tensor]:
        """Return the moving average, if there is one."""
        return {} if self.average is None else dict(average=self.average)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a moving average."""
        self.average = state.get('average')
