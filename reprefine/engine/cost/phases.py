"""The phases of a training whose iterations do not all cost the same."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from .timing import Spread


@runtime_checkable
class PhasedHook(Protocol):
    """A hook that trains in phases."""

    def phase_shares(self, train_cfg: dict) -> dict[str, float]:
        """Return the share of the iterations that each phase takes, by name."""

    def enter(self, model: nn.Module, phase: str) -> None:
        """Set a model to a phase."""

    def hold(self, phase: str) -> None:
        """Stay in one phase from the next epoch or iteration on."""


class Phase(NamedTuple):
    """One phase.

    Attributes:
        name: Its name, empty for a training without phases.
        share: Its share of all iterations.
        enter: Sets the model to it.
    """

    name: str = ''
    share: float = 1.0
    enter: Callable[[nn.Module], None] = lambda model: None

    def title(self, figure: str, side: str = '') -> str:
        """Return the name of a figure that holds for this phase alone."""
        return f"{figure}, {side}phase '{self.name}' ({self.share:.0%} of the schedule)"


def training_phases(cfg: Config) -> list[Phase]:
    """Return the phases of a config's training, one without a name if no hook declares any.

    Args:
        cfg: Complete config.
    """
    for given in cfg.get('custom_hooks') or []:
        kind = given.get('type') if isinstance(given, dict) else type(given)
        kind = HOOKS.get(kind) if isinstance(kind, str) else kind
        if kind is not None and issubclass(kind, PhasedHook):
            hook = given if isinstance(given, Hook) else HOOKS.build(given)
            return phases_of(hook, cfg.get('train_cfg') or {})
    return [Phase()]


def phases_of(hook: PhasedHook, train_cfg: dict) -> list[Phase]:
    """Return the phases that a hook declares.

    Args:
        hook: The hook.
        train_cfg: Config of the training loop.
    """
    shares = hook.phase_shares(train_cfg)
    return [Phase(name, share, partial(hook.enter, phase=name)) for name, share in shares.items()]


def weighted_sum(phases: Sequence[Phase], seconds: Sequence[Sequence[float]]) -> list[float]:
    """Return what an iteration costs on average over the whole schedule, round by round.

    Args:
        phases: The phases.
        seconds: Times of each of them, one value a round.
    """
    return [
        sum(p.share * value for p, value in zip(phases, values, strict=True)) for values in zip(*seconds, strict=True)
    ]


def spreads(ours: Sequence[float], theirs: Sequence[float]) -> tuple[Spread, Spread, Spread]:
    """Return the spreads of two series of times and of their ratios, round by round."""
    return Spread.of(ours), Spread.of(theirs), Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])
