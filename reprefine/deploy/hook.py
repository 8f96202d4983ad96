"""A hook that folds what a run has saved."""

import copy
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from reprefine.deploy.checkpoint import reparameterize_file
from reprefine.deploy.compare import evaluated_copy
from reprefine.deploy.examples import Example, outputs_of, random_example
from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS


@HOOKS.register_module()
class ReparameterizeHook(Hook):
    """After training, writes folded copies of the last and the best checkpoint, whatever methods the model has.

    The copies are ``<name>_deploy.pth`` beside the originals. Where everything folds away (DenoiseRep) the untouched
    baseline config loads them strictly, otherwise (PDDR) the same config with ``deploy=True``.
    """

    priority = 'LOWEST'  # after CheckpointHook has written its files

    def after_train(self, runner: Runner) -> None:
        """Fold what ``CheckpointHook`` has saved."""
        if not is_main_process():
            return
        examples = self._examples(runner)
        for key in ('last_ckpt', 'best_ckpt'):
            source = runner.message_hub.get_info(key)
            if source is not None and Path(source).is_file():
                target = Path(source).with_name(f'{Path(source).stem}_deploy.pth')
                model = copy.deepcopy(unwrap(runner.model))
                folding = reparameterize_file(model, source, target, examples, overwrite=True)
                runner.logger.info(
                    f'The folded checkpoint is saved to {target}; it differs by {folding.comparison.worst[1]:.0e}, '
                    f'on {folding.comparison}'
                )

    @staticmethod
    def _examples(runner: Runner) -> list[Example]:
        """Return a random input if the config has a model that runs on one; else the layers alone are compared."""
        if not runner.cfg.get('model'):
            return []
        model = evaluated_copy(unwrap(runner.model), torch.float32)
        try:
            example = random_example(runner.cfg, model)
            outputs_of(model, example)
        except Exception as error:  # of somebody's model on an input that may not be one of its
            runner.logger.info(f'The model runs on no random image ({error}): its layers alone are compared')
            return []
        return [example]
