"""Breaks one sample, the gradient or the loss of one training step."""

from pathlib import Path

from mmengine.hooks import Hook

from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS


@HOOKS.register_module(force=True)
class PoisonHook(Hook):
    """Gives the first sample of a step an input that is not finite, or the step a gradient or a loss that is not.

    Args:
        iteration: The step, from 1.
        value: What the input becomes, or what the gradient is multiplied with.
        rank: The process whose sample it is.
        gradient: Whether the gradient of the first trainable parameter is broken instead.
        loss: Whether the value is added to the losses of a classifier instead, which leaves the gradient as it is.
    """

    def __init__(self, iteration=2, value=float('nan'), rank=0, gradient=False, loss=False):
        self.iteration, self.value, self.rank, self.gradient, self.loss = iteration, value, rank, gradient, loss

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Change the batch in place."""
        if runner.iter + 1 != self.iteration or runner.rank != self.rank:
            return
        inputs = data_batch.get('inputs')
        if self.gradient:
            parameter = next(p for p in runner.model.parameters() if p.requires_grad)
            parameter.register_hook(lambda grad: grad * self.value)
        elif self.loss:
            head = unwrap(runner.model).head
            compute = head.loss
            head.loss = lambda *args, **kwargs: {name: x + self.value for name, x in compute(*args, **kwargs).items()}
        elif isinstance(inputs, list):
            inputs[0] = inputs[0].float() * self.value
        else:
            data_batch['inputs'] = inputs.float()
            data_batch['inputs'][0] *= self.value


def poisoned(base='()', **options):
    """Return the lines that add the hook to a config whose custom hooks are ``base``."""
    words = ''.join(f', {key}={value}' for key, value in options.items())
    return f"""
custom_imports = dict(imports=['reprefine', 'tests.helpers.poison'])
custom_hooks = [*{base}, dict(type='reprefine.PoisonHook'{words})]
"""


def derived(folder: Path, config: str, **options) -> str:
    """Write a config that adds the hook to another; return its path."""
    path = folder / 'poisoned.py'
    path.write_text(f'_base_ = {config!r}' + poisoned('_base_.custom_hooks', **options))
    return str(path)


def written(work_dir: Path) -> list[str]:
    """Return the config in the folder of a run, and the one replay file beside it."""
    (file,) = work_dir.glob('nonfinite_iter_*.pth')
    (config,) = work_dir.glob('*.py')
    return [str(config), str(file)]
