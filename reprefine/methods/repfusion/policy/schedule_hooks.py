"""Hooks of a distillation: the decay of the maximum timestep, and the checkpointing of random number counters."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS

from ..functional import max_timestep_at

# Entry of the checkpoint.
DRAW_COUNTS = 'repfusion_draws'


@HOOKS.register_module()
class MaxTimestepDecayHook(Hook):
    """Decays the upper limit of the timesteps linearly, as a function of the epoch, so that resuming needs no state.

    Args:
        start: Exclusive upper limit in the first epoch.
        end: Exclusive upper limit from epoch ``epochs`` on.
        epochs: Length of the decay; the limit of each epoch is rounded down.

    Raises:
        UserError: If the limits do not decay.
    """

    priority = 'NORMAL'  # after RLTimestepSelectorHook, whose policy it may limit

    def __init__(self, start: int = 1000, end: int = 50, epochs: int = 100) -> None:
        if not 1 <= end <= start or epochs < 1:
            raise UserError(
                f'MaxTimestepDecayHook: start={start}, end={end}, epochs={epochs} is no decay: give 1 <= end <= start '
                'and epochs >= 1'
            )
        self.start, self.end, self.epochs = start, end, epochs

    def before_train(self, runner: Runner) -> None:
        """Check that the timestep source has an upper limit.

        Raises:
            UserError: If it has none or a lower one than ``start``, or the training loop does not count epochs.
        """
        source = _timestep_source(runner)
        if not hasattr(source, 'max_timestep'):
            raise UserError(
                f'MaxTimestepDecayHook: {type(source).__name__} has no max_timestep; use reprefine.UniformTimesteps or '
                'RLTimestepSelectorHook'
            )
        if self.start > source.num_timesteps:
            raise UserError(
                f'MaxTimestepDecayHook: start={self.start} exceeds the {source.num_timesteps} timesteps of the '
                'teacher: lower it'
            )
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError(
                f'MaxTimestepDecayHook counts epochs, but the loop is {type(runner.train_loop).__name__}: set '
                'train_cfg.by_epoch=True, or remove the hook'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the limit of the epoch."""
        _timestep_source(runner).max_timestep = max_timestep_at(runner.epoch, self.start, self.end, self.epochs)


@HOOKS.register_module()
class DrawCountHook(Hook):
    """Saves the counters of the random numbers of noise and timesteps in the checkpoint, for exact resuming.

    The entry ``repfusion_draws`` also contains the teacher's fingerprint, which :func:`export_backbone` records.
    """

    def before_train(self, runner: Runner) -> None:
        """Compute the fingerprint, once."""
        self._fingerprint = unwrap(runner.model).teacher.fingerprint()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save the counters, which are equal on all ranks."""
        model = unwrap(runner.model)
        counts = dict(teacher=model.teacher.rng.count, timesteps=model.timestep_source.rng.count)
        checkpoint[DRAW_COUNTS] = dict(counts, fingerprint=self._fingerprint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the counters when resuming."""
        if runner._resume and DRAW_COUNTS in checkpoint:
            model = unwrap(runner.model)
            model.teacher.rng.count = checkpoint[DRAW_COUNTS]['teacher']
            if model.timestep_source is not None:  # RLTimestepSelectorHook sets its own later, and saves its counter
                model.timestep_source.rng.count = checkpoint[DRAW_COUNTS]['timesteps']


def _timestep_source(runner: Runner) -> Any:
    return unwrap(runner.model).timestep_source
