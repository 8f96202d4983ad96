"""Schedules of a distillation, and its random numbers in the checkpoint."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS

from ..functional import max_timestep_at

DRAWS = 'repfusion_draws'


@HOOKS.register_module()
class MaxTimestepDecayHook(Hook):
    """Lowers the limit of the timesteps epoch by epoch. It follows from the epoch, so resuming needs no state.

    Args:
        start: Exclusive upper limit in the first epoch.
        end: Limit from epoch ``epochs`` on.
        epochs: Length of the linear decay, rounded down in every epoch.
    """

    priority = 'NORMAL'  # after RLTimestepSelectorHook, whose policy it may limit

    def __init__(self, start: int = 1000, end: int = 50, epochs: int = 100) -> None:
        if not 1 <= end <= start or epochs < 1:
            raise UserError(f'MaxTimestepDecayHook: start={start}, end={end}, epochs={epochs} is no decay')
        self.start, self.end, self.epochs = start, end, epochs

    def before_train(self, runner: Runner) -> None:
        """Check that there is a limit to lower.

        Raises:
            UserError: If not, or if training does not go by epochs.
        """
        source = _source(runner)
        if not hasattr(source, 'max_timestep'):
            raise UserError(
                f'MaxTimestepDecayHook: {type(source).__name__} has no limit to lower; use reprefine.UniformTimesteps '
                'or RLTimestepSelectorHook'
            )
        if self.start > source.num_timesteps:
            raise UserError(f'MaxTimestepDecayHook: start={self.start} exceeds the {source.num_timesteps} steps')
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError('MaxTimestepDecayHook counts epochs: set train_cfg.by_epoch=True, or leave the hook out')

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the limit of the epoch."""
        _source(runner).max_timestep = max_timestep_at(runner.epoch, self.start, self.end, self.epochs)


@HOOKS.register_module()
class DrawCountHook(Hook):
    """Keeps the number of draws of noise and timesteps in the checkpoint, so that resuming draws what comes next.

    Beside it stands the teacher's fingerprint, which tells later what the student learned from.
    """

    def before_train(self, runner: Runner) -> None:
        """Take the fingerprint, once."""
        self._fingerprint = unwrap(runner.model).teacher.fingerprint()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the numbers, which are those of every rank."""
        model = unwrap(runner.model)
        counts = dict(teacher=model.teacher.draws.count, timesteps=model.timestep_source.draws.count)
        checkpoint[DRAWS] = dict(counts, fingerprint=self._fingerprint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take them over when resuming."""
        if runner._resume and DRAWS in checkpoint:
            model = unwrap(runner.model)
            model.teacher.draws.count = checkpoint[DRAWS]['teacher']
            if model.timestep_source is not None:  # a policy, which comes when training begins, keeps its own number
                model.timestep_source.draws.count = checkpoint[DRAWS]['timesteps']


def _source(runner: Runner) -> Any:
    return unwrap(runner.model).timestep_source
