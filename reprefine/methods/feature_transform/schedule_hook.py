"""When the transform is on."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS


@HOOKS.register_module()
class FTScheduleHook(Hook):
    """Switches the transform on for some epochs. The state follows from the epoch, so resuming needs none.

    Args:
        start_epoch: First epoch with the transform, counted from 0.
        end_epoch: First epoch without it again; None: it stays on.

    Raises:
        UserError: If no epoch has the transform.
    """

    def __init__(self, start_epoch: int = 0, end_epoch: int | None = None) -> None:
        if start_epoch < 0 or (end_epoch is not None and end_epoch <= start_epoch):
            raise UserError(f'start_epoch={start_epoch}, end_epoch={end_epoch}: no epoch has the transform')
        self.start_epoch, self.end_epoch = start_epoch, end_epoch

    def before_train(self, runner: Runner) -> None:
        """Check that there is a transform, and epochs to count.

        Raises:
            UserError: If not.
        """
        model = unwrap(runner.model)
        if not hasattr(model, 'feature_transform'):
            raise UserError(f'FTScheduleHook: {type(model).__name__} has no feature_transform; use reprefine.MoCoFT')
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError('FTScheduleHook counts epochs: set train_cfg.by_epoch=True, or leave the hook out')

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the state of the epoch."""
        model = unwrap(runner.model)
        before_end = self.end_epoch is None or runner.epoch < self.end_epoch
        model.feature_transform.enabled = self.start_epoch <= runner.epoch and before_end
