"""Hook that enables the feature transformation for a range of epochs."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS


@HOOKS.register_module()
class FTScheduleHook(Hook):
    """Enables the feature transformation for a range of epochs. It has no state: resuming sets it by the epoch.

    Args:
        start_epoch: First epoch with the transform, 0-based.
        end_epoch: First epoch without it after that; None: until the end of training.

    Raises:
        UserError: If the range is empty.
    """

    def __init__(self, start_epoch: int = 0, end_epoch: int | None = None) -> None:
        if start_epoch < 0 or (end_epoch is not None and end_epoch <= start_epoch):
            raise UserError(
                f'start_epoch={start_epoch}, end_epoch={end_epoch}: no epoch has the transform; use 0 <= start < end'
            )
        self.start_epoch, self.end_epoch = start_epoch, end_epoch

    def before_train(self, runner: Runner) -> None:
        """Check the model and the training loop.

        Raises:
            UserError: If the model has no ``feature_transform``, or training is by iterations.
        """
        model = unwrap(runner.model)
        if not hasattr(model, 'feature_transform'):
            raise UserError(f'FTScheduleHook: {type(model).__name__} has no feature_transform; use reprefine.MoCoFT')
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise UserError('FTScheduleHook counts epochs: set train_cfg.by_epoch=True, or leave the hook out')

    def before_train_epoch(self, runner: Runner) -> None:
        """Enable or disable the transform for the epoch."""
        model = unwrap(runner.model)
        before_end = self.end_epoch is None or runner.epoch < self.end_epoch
        model.feature_transform.enabled = self.start_epoch <= runner.epoch and before_end
