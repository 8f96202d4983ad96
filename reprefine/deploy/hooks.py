"""Hooks that deploy the model of a run: its checkpoints after training, or a copy of it in tests."""

import copy
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS

from .checkpoint import reparameterize_file
from .compare import evaluated_copy
from .examples import Example, outputs_of, random_example
from .protocol import switch_to_deploy


@HOOKS.register_module()
class ReparameterizeHook(Hook):
    """After training, writes the deployed form of the last and the best checkpoint, for any methods in the model.

    The files are ``<name>_deploy.pth`` beside the originals. The baseline config loads them strictly if all methods can
    be reparameterised away (DenoiseRep), otherwise (PDDR) the same config with ``deploy=True``.
    """

    priority = 'LOWEST'  # after CheckpointHook has written its files

    def after_train(self, runner: Runner) -> None:
        """Reparameterise the checkpoints of ``CheckpointHook``."""
        if not is_main_process():
            return
        examples = self._examples(runner)
        for key in ('last_ckpt', 'best_ckpt'):
            source = runner.message_hub.get_info(key)
            if source is not None and Path(source).is_file():
                target = Path(source).with_name(f'{Path(source).stem}_deploy.pth')
                model = copy.deepcopy(unwrap(runner.model))
                result = reparameterize_file(model, source, target, examples, overwrite=True)
                runner.logger.info(
                    f'The deployed checkpoint is saved to {target}; largest difference '
                    f'{result.comparison.worst[1]:.0e}, on {result.comparison}'
                )

    @staticmethod
    def _examples(runner: Runner) -> list[Example]:
        """Return a random input if the config's model runs on one, otherwise none: then only layers are compared."""
        if not runner.cfg.get('model'):
            return []
        model = evaluated_copy(unwrap(runner.model), torch.float32)
        try:
            example = random_example(runner.cfg, model)
            outputs_of(model, example)
        except Exception as error:  # any error of a model that does not take such an input
            runner.logger.info(f'The model does not run on random images ({error}): only its layers are compared')
            return []
        return [example]


@HOOKS.register_module()
class DeployBeforeTestHook(Hook):
    """Evaluates a deployed copy of the model in the test loop, for any methods in the model.

    The copy is made at the start of the test epoch, after ``EMAHook`` has loaded its averages into the model, and the
    model itself is restored after the loop, so that training can continue. The copy takes the memory of a second model;
    it is not wrapped for distributed training: every process makes its own.
    """

    priority = 'LOWEST'  # after EMAHook

    def __init__(self) -> None:
        self._trained: nn.Module | None = None

    def before_test_epoch(self, runner: Runner) -> None:
        """Replace the runner's model by the deployed copy."""
        self._restore(runner)
        deployed = switch_to_deploy(copy.deepcopy(unwrap(runner.model)).eval())
        before, after = (sum(p.numel() for p in m.parameters()) for m in (runner.model, deployed))
        runner.logger.info(f'The deployed form of the model is tested: {before:,} -> {after:,} parameters')
        self._trained, runner.model = runner.model, deployed

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Restore the runner's model."""
        self._restore(runner)

    def before_train(self, runner: Runner) -> None:
        """Restore the runner's model after a test that raised an error."""
        self._restore(runner)

    def _restore(self, runner: Runner) -> None:
        if self._trained is not None:
            runner.model, self._trained = self._trained, None
