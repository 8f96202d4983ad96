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
    """A hook whose training has phases of different cost."""

    def phase_shares(self, train_cfg: dict) -> dict[str, float]:
        """Return the share of the iterations that each phase takes, by name."""

    def set_phase(self, model: nn.Module, phase: str) -> None:
        """Set a model to a phase."""

    def fix_phase(self, phase: str) -> None:
        """Keep one phase from the next epoch or iteration on."""


class Phase(NamedTuple):
    """A phase of a training.

    Attributes:
        name: Its name, empty for a training without phases.
        share: Its share of all iterations.
        apply: Sets a model to the phase.
    """

    name: str = ''
    share: float = 1.0
    apply: Callable[[nn.Module], None] = lambda model: None

    def title(self, row: str, side: str = '') -> str:
        """Return the name of a row for this phase alone."""
        return f"{row}, {side}phase '{self.name}' ({self.share:.0%} of the schedule)"


def training_phases(cfg: Config) -> list[Phase]:
    """Return the phases of a config's training, a single one without a name if no hook has any.

    Args:
        cfg: Complete config.
    """
    for given in cfg.get('custom_hooks') or []:
        kind = given.get('type') if isinstance(given, dict) else type(given)
        kind = HOOKS.get(kind) if isinstance(kind, str) else kind
        if kind is not None and issubclass(kind, PhasedHook):
            hook = given if isinstance(given, Hook) else HOOKS.build(given)
            return hook_phases(hook, cfg.get('train_cfg') or {})
    return [Phase()]


def hook_phases(hook: PhasedHook, train_cfg: dict) -> list[Phase]:
    """Return the phases of a hook.

    Args:
        hook: The hook.
        train_cfg: Config of the training loop.
    """
    shares = hook.phase_shares(train_cfg)
    return [Phase(name, share, partial(hook.set_phase, phase=name)) for name, share in shares.items()]


def weighted_sum(phases: Sequence[Phase], seconds: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean time of an iteration over the whole schedule, for each round.

    Args:
        phases: The phases.
        seconds: Times of each of them, one value per round.
    """
    return [
        sum(p.share * value for p, value in zip(phases, values, strict=True)) for values in zip(*seconds, strict=True)
    ]


def paired_spreads(config: Sequence[float], baseline: Sequence[float]) -> tuple[Spread, Spread, Spread]:
    """Return the spreads of two series of times, and of their ratios in each round."""
    ratios = [a / b for a, b in zip(config, baseline, strict=True)]
    return Spread.of(config), Spread.of(baseline), Spread.of(ratios)
