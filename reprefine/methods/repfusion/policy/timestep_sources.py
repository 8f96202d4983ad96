"""Rules that choose a timestep for every image of a batch; the distiller never knows which one is at work."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..functional import check_timesteps
from ..random_draws import Draws


class TimestepSource:
    """What chooses timesteps. It is no module: nothing of it reaches the distiller's state dict.

    Args:
        seed: Seed of the draws.

    Attributes:
        num_timesteps: Number of steps of the teacher; None before :meth:`bind`.
        draws: The random numbers; their count is all that resuming needs.
        pair: Index of the only pair of layers to distil in this batch; None: all of them.
    """

    def __init__(self, seed: int = 0) -> None:
        self.draws = Draws(seed)
        self.num_timesteps: int | None = None
        self.pair: int | None = None

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Check the rule against the teacher.

        Args:
            num_timesteps: Number of steps of the teacher.
            num_layers: Number of its hooked layers.

        Raises:
            UserError: If the rule names a timestep that the teacher lacks.
        """
        self.num_timesteps = num_timesteps

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Return timesteps ``[N]`` (int64) for images ``[N, C, H, W]`` in [-1, 1]."""
        raise NotImplementedError

    def observe(self, t: Tensor, teacher_feats: Sequence[Tensor], data_samples: list[Any] | None) -> None:
        """Take note of the teacher's features at the chosen timesteps; only rules that learn do."""

    def observe_student(self, student_maps: Sequence[Tensor]) -> None:
        """Take note of what the student made of the images of the last :meth:`select`; only some rewards do.

        Args:
            student_maps: One map ``[N, C, H, W]`` a pair of layers, projected to the width of the teacher's if the loss
                projects; with their graph.
        """

    def _uniform(self, x: Tensor, low: int, high: int) -> Tensor:
        # Drawn on the CPU, so that every device sees the same timesteps.
        return torch.randint(low, high, (len(x),), generator=self.draws.next()).to(x.device, non_blocking=True)


@MODELS.register_module()
class UniformTimesteps(TimestepSource):
    """``t ~ U{0 .. max_timestep - 1}`` for each image. :class:`MaxTimestepDecayHook` lowers the limit.

    Args:
        max_timestep: Exclusive upper limit; None: all timesteps of the teacher.
        seed: Seed of the draws.
    """

    def __init__(self, max_timestep: int | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self.max_timestep = max_timestep

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Check the limit."""
        super().bind(num_timesteps, num_layers)
        self.max_timestep = num_timesteps if self.max_timestep is None else self.max_timestep
        if not 1 <= self.max_timestep <= num_timesteps:
            raise UserError(f'max_timestep={self.max_timestep} is outside 1..{num_timesteps}, the steps of the teacher')

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Draw."""
        return self._uniform(x_teacher, 0, self.max_timestep)


@MODELS.register_module()
class FixedTimesteps(TimestepSource):
    """The same timestep for all images.

    Args:
        timestep: The timestep.
    """

    def __init__(self, timestep: int) -> None:
        super().__init__()
        self.timestep = timestep

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Check the timestep."""
        super().bind(num_timesteps, num_layers)
        check_timesteps([self.timestep], num_timesteps, type(self).__name__)

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Return the timestep."""
        return torch.full((len(x_teacher),), self.timestep, device=x_teacher.device)


@MODELS.register_module()
class ZeroTimesteps(FixedTimesteps):
    """``t = 0`` for all images."""

    def __init__(self) -> None:
        super().__init__(0)


@MODELS.register_module()
class IntervalTimesteps(TimestepSource):
    """One interval of timesteps for each pair of layers; every batch distils one pair, at timesteps of its interval.

    Pair ``k`` owns ``[bounds[k+1], bounds[k])``, the last one ``[0, bounds[-1])``.

    Args:
        bounds: Descending upper limits, one a pair.
        seed: Seed of the draws.

    Raises:
        UserError: If they do not descend.
    """

    def __init__(self, bounds: Sequence[int], seed: int = 0) -> None:
        super().__init__(seed)
        self.bounds = list(bounds)
        if not self.bounds or any(a <= b for a, b in zip(self.bounds, [*self.bounds[1:], 0], strict=True)):
            raise UserError(f'IntervalTimesteps: bounds {self.bounds} must descend to a value above 0')

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Check the limits."""
        super().bind(num_timesteps, num_layers)
        check_timesteps([bound - 1 for bound in self.bounds], num_timesteps, 'IntervalTimesteps')
        if len(self.bounds) != num_layers:
            raise UserError(f'IntervalTimesteps has {len(self.bounds)} bounds for {num_layers} layers of the teacher')

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Draw the pair, then its timesteps."""
        self.pair = int(torch.randint(len(self.bounds), (), generator=self.draws.next()))
        low = [*self.bounds[1:], 0][self.pair]
        return self._uniform(x_teacher, low, self.bounds[self.pair])
