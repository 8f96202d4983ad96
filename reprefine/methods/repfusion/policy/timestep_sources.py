"""Timestep sources: fixed and random rules that select the timestep of each image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..counter_rng import CounterRNG
from ..functional import check_timesteps


class TimestepSource:
    """Base class of what selects timesteps. It is no module, so that the distiller's state dict does not contain it.

    Args:
        seed: Seed of the random timesteps.

    Attributes:
        num_timesteps: Number of timesteps of the teacher; None before :meth:`bind`.
        rng: Random numbers of the timesteps.
        pair: Index of the only pair of layers to distil in this batch; None: all pairs.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = CounterRNG(seed)
        self.num_timesteps: int | None = None
        self.pair: int | None = None

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Set the teacher's number of timesteps, and check the settings against it.

        Args:
            num_timesteps: Number of timesteps of the teacher.
            num_layers: Number of its recorded layers.

        Raises:
            UserError: If a setting does not fit the teacher.
        """
        self.num_timesteps = num_timesteps

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Return timesteps ``[N]`` (int64) for images ``[N, C, H, W]`` in [-1, 1]."""
        raise NotImplementedError

    def observe(self, t: Tensor, teacher_feats: Sequence[Tensor], data_samples: list[Any] | None) -> None:
        """Receive the teacher's features at the selected timesteps, for a policy.

        Args:
            t: Timesteps ``[N]``.
            teacher_feats: One map ``[N, C, H, W]`` for each recorded layer.
            data_samples: One a sample.
        """

    def observe_student(self, student_maps: Sequence[Tensor]) -> None:
        """Receive the student's features for the images of the last :meth:`select`, for a policy.

        Args:
            student_maps: One map ``[N, C, H, W]`` for each pair of layers, with its graph; projected if the loss
                projects.
        """

    def _uniform(self, x: Tensor, low: int, high: int) -> Tensor:
        # Sampled on the CPU, so that the timesteps do not depend on the device.
        return torch.randint(low, high, (len(x),), generator=self.rng.next_generator()).to(x.device, non_blocking=True)


@MODELS.register_module()
class UniformTimesteps(TimestepSource):
    """``t ~ U{0 .. max_timestep - 1}`` for each image; :class:`MaxTimestepDecayHook` may decay the limit.

    Args:
        max_timestep: Exclusive upper limit; None: all timesteps of the teacher.
        seed: Seed of the random timesteps.
    """

    def __init__(self, max_timestep: int | None = None, seed: int = 0) -> None:
        super().__init__(seed)
        self.max_timestep = max_timestep

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Set the default limit, and check it."""
        super().bind(num_timesteps, num_layers)
        self.max_timestep = num_timesteps if self.max_timestep is None else self.max_timestep
        if not 1 <= self.max_timestep <= num_timesteps:
            raise UserError(
                f'max_timestep={self.max_timestep} is outside 1..{num_timesteps}, the number of timesteps of the '
                'teacher'
            )

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Sample the timesteps."""
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
        """Return the timestep of all images."""
        return torch.full((len(x_teacher),), self.timestep, device=x_teacher.device)


@MODELS.register_module()
class ZeroTimesteps(FixedTimesteps):
    """``t = 0`` for all images."""

    def __init__(self) -> None:
        super().__init__(0)


@MODELS.register_module()
class IntervalTimesteps(TimestepSource):
    """One interval of timesteps for each pair of layers; each batch distils one random pair.

    The interval of pair ``k`` is ``[bounds[k+1], bounds[k])``, that of the last pair ``[0, bounds[-1])``.

    Args:
        bounds: Decreasing exclusive upper limits, one for each pair.
        seed: Seed of the random pairs and timesteps.

    Raises:
        UserError: If the limits do not decrease.
    """

    def __init__(self, bounds: Sequence[int], seed: int = 0) -> None:
        super().__init__(seed)
        self.bounds = list(bounds)
        if not self.bounds or any(a <= b for a, b in zip(self.bounds, [*self.bounds[1:], 0], strict=True)):
            raise UserError(f'IntervalTimesteps: bounds {self.bounds} must decrease and be above 0')

    def bind(self, num_timesteps: int, num_layers: int = 1) -> None:
        """Check the limits and their number."""
        super().bind(num_timesteps, num_layers)
        check_timesteps([bound - 1 for bound in self.bounds], num_timesteps, 'IntervalTimesteps')
        if len(self.bounds) != num_layers:
            raise UserError(
                f'IntervalTimesteps has {len(self.bounds)} bounds for {num_layers} layers of the teacher: give one each'
            )

    def select(self, x_teacher: Tensor, data_samples: list[Any] | None) -> Tensor:
        """Sample the pair, then its timesteps."""
        self.pair = int(torch.randint(len(self.bounds), (), generator=self.rng.next_generator()))
        low = [*self.bounds[1:], 0][self.pair]
        return self._uniform(x_teacher, low, self.bounds[self.pair])
