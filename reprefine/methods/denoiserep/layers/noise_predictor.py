"""The noise predictor that is attached to one layer."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..functional import (
    StepConstants,
    blockwise_product,
    ddim_step,
    linear_betas,
    no_step,
    reverse_step,
    sinusoidal_embedding,
)

SIDES = ('input', 'output')
STEPS = ('ddpm', 'ddim', 'none', 'selected')
NO_TARGET = {'ddpm': -1, 'none': -2}  # stored in place of the target timestep, which only a DDIM step has
# Key in a checkpoint that identifies a layer with a noise predictor; read by reprefine.engine.checkpoints.layer_forms.
FORM_KEYS = r'(^|\.)denoiser\.timestep$'


class TimeEmbedding(nn.Module):
    """Time vector ``tau = M2 GELU(M1 e(T) + m1) + m2`` of one layer, a constant because ``T`` is fixed.

    Args:
        channels: Width of the predictor.
        width: Width of the sinusoidal embedding ``e(T)``, even and at least 4.

    Raises:
        UserError: If the width is odd or too small.
    """

    def __init__(self, channels: int, width: int = 2048) -> None:
        super().__init__()
        if width < 4 or width % 2:
            raise UserError(f'the width of the time embedding must be even and at least 4, not {width}')
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, channels), nn.GELU(), nn.Linear(channels, channels))

    def forward(self, timestep: int) -> Tensor:
        """Return ``tau`` of shape ``[channels]``."""
        weight = self.mlp[0].weight
        return self.mlp(sinusoidal_embedding(timestep, self.width, weight.device).to(weight.dtype))


class NoisePredictor(nn.Module):
    """Linear noise predictor ``eps_hat = D (x + tau) + d`` with the timestep of its layer.

    Timestep, schedule, step and side are buffers of the state dict: loading takes the timestep from the checkpoint, and
    raises ``UserError`` if one of the others differs, because the weights were trained for them. With
    ``step='selected'`` loading takes the step from the checkpoint, too.

    Args:
        channels: Number of channels ``C`` of the feature.
        timestep: ``T``, 0-based index of the schedule.
        groups: Number of diagonal blocks of ``D``, which has the shape ``[C, C / groups]``.
        constant: Whether there is a bias ``d``; without it there is no time vector either.
        time_embed: Whether to learn the time vector ``tau``.
        embed_width: Width of its sinusoidal embedding.
        steps: Length of the noise schedule.
        ddim_to: Target of a deterministic DDIM-like step; None for another step.
        step: ``'ddpm'``, the reverse step, unless ``ddim_to`` is given; ``'none'``, the identity; or ``'selected'``,
            the identity until :meth:`set_step` or a checkpoint sets a step.
        side: ``'input'`` or ``'output'`` of the layer, the feature that is denoised.
    """

    added_by_refinement = True  # see reprefine.engine.checkpoints.method_keys

    def __init__(
        self,
        channels: int,
        timestep: int,
        groups: int = 1,
        constant: bool = True,
        time_embed: bool = False,
        embed_width: int = 2048,
        steps: int = 1000,
        ddim_to: int | None = None,
        side: str = 'input',
        step: str = 'ddpm',
    ) -> None:
        super().__init__()
        self.steps, self.is_selectable = steps, step == 'selected'
        target = NO_TARGET['ddpm' if step == 'ddpm' else 'none'] if ddim_to is None else ddim_to
        width = channels // groups
        bound = 1 / math.sqrt(width)  # PyTorch's default for a Linear of this fan-in
        self.weight = nn.Parameter(torch.empty(channels, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if constant else None
        self.time_embed = TimeEmbedding(channels, embed_width) if time_embed and constant else None
        self.register_buffer('timestep', torch.tensor(timestep))
        self.register_buffer('schedule', torch.tensor([steps, target]))
        self.register_buffer('side', torch.tensor(SIDES.index(side)))
        self.step: StepConstants
        self._set_constants(timestep, target)

    def _set_constants(self, timestep: int, target: int) -> None:
        betas = linear_betas(self.steps)
        if target >= 0:
            self.step = ddim_step(betas, timestep, target)
        else:
            self.step = (no_step if target == NO_TARGET['none'] else reverse_step)(betas, timestep)
        self._timestep, self._target = timestep, target

    @property
    def step_name(self) -> str:
        """``'ddpm'``, ``'ddim'`` or ``'none'``."""
        return next((name for name, target in NO_TARGET.items() if target == self._target), 'ddim')

    def set_step(self, timestep: int, step: str, to: int | None = None) -> None:
        """Set timestep and step in place; the weights, which have to belong to the timestep, are kept.

        Args:
            timestep: ``T``, 0-based index of the schedule.
            step: ``'ddpm'``, ``'ddim'`` or ``'none'``.
            to: Target timestep of a DDIM step.

        Raises:
            UserError: If a timestep is not an index of the schedule, or ``to`` is not below ``timestep``.
        """
        target = to if step == 'ddim' else NO_TARGET[step]
        self._set_constants(timestep, target)
        self.timestep.fill_(timestep)
        self.schedule[1] = target

    def constant(self) -> Tensor | None:
        """Return the constant term ``D tau + d`` of shape ``[C]``, or None if the predictor has no bias."""
        if self.time_embed is None:
            return self.bias
        return self.bias + blockwise_product(self.weight, self.time_embed(self._timestep))

    def set_predictor(self, weight: Tensor, constant: Tensor | None) -> None:
        """Set ``D`` and, through the bias, the constant term in place; ``tau`` is kept.

        Args:
            weight: ``D``, shape ``[C, C / g]``.
            constant: ``D tau + d``, shape ``[C]``; None leaves the bias unchanged.
        """
        with torch.no_grad():
            self.weight.copy_(weight)
            if constant is not None:
                self.bias.add_(constant.to(self.bias) - self.constant())

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        if f'{prefix}weight' in state_dict:
            self._check_schedule_and_side(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
        timestep, target = int(self.timestep), int(self.schedule[1])
        if (timestep, target) != (self._timestep, self._target):
            self._set_constants(timestep, target)

    def _check_schedule_and_side(self, state_dict: dict, prefix: str) -> None:
        """Check that a state dict has the schedule and the side of this predictor; older files store neither.

        Raises:
            UserError: If one differs.
        """
        own = {f'{prefix}{name}': getattr(self, name) for name in ('schedule', 'side')}
        if not own.keys() <= state_dict.keys():
            warnings.warn(
                'the checkpoint does not store the schedule and the side of its noise predictors: those of the model '
                'are assumed',
                stacklevel=2,
            )
            state_dict |= own
        found = [state_dict[name].tolist() for name in own]
        wanted = [value.tolist() for value in own.values()]
        if self.is_selectable:
            wanted[0][1] = found[0][1]
        if found != wanted:
            raise UserError(
                f'{prefix[:-1]} was trained with {_describe(*found)}, but the model has {_describe(*wanted)}: '
                'set steps, step, to and side as in the run that wrote the checkpoint'
            )

    def extra_repr(self) -> str:
        """Show the timestep, the step and the shape of ``D``."""
        return f'timestep={self._timestep}, step={self.step_name}, predictor={tuple(self.weight.shape)}'


def _describe(schedule: list[int], side: int) -> str:
    steps, to = schedule
    target = f'to={to}' if to >= 0 else "step='none'" if to == NO_TARGET['none'] else 'no DDIM target'
    return f'steps={steps}, {target} and side={SIDES[side]!r}'
