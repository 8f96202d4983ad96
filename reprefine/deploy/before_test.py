"""A hook that tests the deployed form of the model that a run trains."""

import copy

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from reprefine.deploy.protocol import switch_to_deploy
from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS


@HOOKS.register_module()
class DeployBeforeTestHook(Hook):
    """Evaluates, in the test loop, a folded copy in place of the model, whatever methods the model has.

    The model itself stays as it is and takes its place again after the loop, so that training may go on. It starts with
    the epoch of the test, once ``EMAHook`` has put its averages into the model. The copy takes the memory of a
    second model, and is not wrapped for distributed training: every process folds its own.
    """

    priority = 'LOWEST'  # after EMAHook

    def __init__(self) -> None:
        self._trained: nn.Module | None = None

    def before_test_epoch(self, runner: Runner) -> None:
        """Put the folded copy in place of the model."""
        self._restore(runner)
        deployed = switch_to_deploy(copy.deepcopy(unwrap(runner.model)).eval())
        before, after = (sum(p.numel() for p in m.parameters()) for m in (runner.model, deployed))
        runner.logger.info(f'The deployed form of the model is tested: {before:,} -> {after:,} parameters')
        self._trained, runner.model = runner.model, deployed

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Put the model back in its place."""
        self._restore(runner)

    def before_train(self, runner: Runner) -> None:
        """Put the model back in its place after a test that was broken off."""
        self._restore(runner)

    def _restore(self, runner: Runner) -> None:
        if self._trained is not None:
            runner.model, self._trained = self._trained, None
