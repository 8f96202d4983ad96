"""A hook that makes an input, the gradient or the loss of a training step NaN or infinite."""

from pathlib import Path

from mmengine.hooks import Hook

from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS


@HOOKS.register_module(force=True)
class NonFiniteHook(Hook):
    """Multiplies the first input of an iteration, or the gradient, by a value, or adds it to the losses.

    Args:
        iteration: The iteration, from 1.
        value: The value.
        rank: The rank whose batch is changed.
        gradient: Whether to multiply the gradient of the first trainable parameter instead.
        loss: Whether to add to the losses of a classifier instead, which does not change the gradient.
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


def nonfinite_hook(base='()', **options):
    """Return the lines of a config that add the hook to the custom hooks ``base``."""
    arguments = ''.join(f', {key}={value}' for key, value in options.items())
    return f"""
custom_imports = dict(imports=['reprefine', 'tests.helpers.nonfinite'])
custom_hooks = [*{base}, dict(type='reprefine.NonFiniteHook'{arguments})]
"""


def config_with_nonfinite_hook(folder: Path, config: str, **options) -> str:
    """Write a config that adds the hook to another, and return its path."""
    path = folder / 'nonfinite.py'
    path.write_text(f'_base_ = {config!r}' + nonfinite_hook("_base_.get('custom_hooks', [])", **options))
    return str(path)


def replay_arguments(work_dir: Path) -> list[str]:
    """Return the config in a work dir and the replay file beside it, the arguments of ``replay_step.py``."""
    (file,) = work_dir.glob('nonfinite_iter_*.pth')
    (config,) = work_dir.glob('*.py')
    return [str(config), str(file)]
