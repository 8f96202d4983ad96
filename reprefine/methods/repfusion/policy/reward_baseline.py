"""The reward baseline of REINFORCE, which is subtracted from the reward."""

import torch
from torch import Tensor

from reprefine.engine.errors import UserError

from ..functional import ema_update

REWARD_BASELINES = ('none', 'batch_mean', 'ema', 'value')


class RewardBaseline:
    """Estimate of the expected reward.

    Args:
        kind: ``'none'``: 0, as in the released code; ``'batch_mean'``: mean of the batch; ``'ema'``: exponential moving
            average of the batch means, initialised with the first and used before it is updated; ``'value'``: output of
            a value network for the image.
        momentum: Weight of the newest mean in the moving average.

    Raises:
        UserError: If the kind is unknown.
    """

    def __init__(self, kind: str = 'ema', momentum: float = 0.1) -> None:
        if kind not in REWARD_BASELINES:
            raise UserError(f"unknown baseline '{kind}': use {', '.join(REWARD_BASELINES)}")
        self.kind, self.momentum = kind, momentum
        self.average: Tensor | None = None

    def __call__(self, mean: Tensor, values: Tensor | None = None) -> Tensor:
        """Return the baseline, and update the moving average.

        Args:
            mean: Mean reward over the batches of all ranks, a scalar.
            values: Outputs of the value network ``[N]``, for ``'value'``.

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
        current = mean if self.average is None else self.average
        self.average = ema_update(current, mean, self.momentum)
        return current

    def state_dict(self) -> dict[str, Tensor]:
        """Return the moving average, if there is one."""
        return {} if self.average is None else dict(average=self.average)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the moving average of :meth:`state_dict`."""
        self.average = state.get('average')
