"""Training stops at the step whose loss or gradient is not finite, before a checkpoint can hold the damage."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS

from .deferred_read import FlagReader, flag_reader
from .gradient_check import UpdateWatch
from .nonfinite import NonFiniteError, Step, find, gradient_norms, message
from .replay import capture, write_replay
from .swap import Swaps

REMEDY = 'lower the learning rate or mend the samples'


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Stops training on every rank at the step whose loss or gradient is NaN or infinite.

    Loss and gradient are looked at before the update. On the CPU the run stops there, with the weights and the
    optimiser as they were. On a GPU looking would wait for the device: the result is copied to the host meanwhile, and
    looked at before the next update, and before a checkpoint is written. Where a gradient scaler is at work infinite
    gradients are part of the method, and only the loss counts.

    Args:
        replay: Write the step into the work dir, for ``tools/misc/replay_step.py``. Every step then copies the model's
            state, the batch and the random state.
    """

    priority = 'LOWEST'  # other hooks have prepared the step

    def __init__(self, replay: bool = False) -> None:
        self.replay = replay
        self._step = Step(0, 0)
        self._losses: list[Tensor] = []
        self._reader: FlagReader[Step] = FlagReader()
        self._swaps = Swaps()

    def before_train(self, runner: Runner) -> None:
        """Begin to watch the model's losses, the optimisers' updates and the writing of checkpoints."""
        self._runner = runner
        self._model = unwrap(runner.model)
        self._reader = flag_reader(next((p.device for p in self._model.parameters()), torch.device('cpu')))
        if hasattr(self._model, 'parse_losses'):
            self._swaps.swap(self._model, 'parse_losses', self._watched_losses(self._model.parse_losses))
        self._update = UpdateWatch(runner.optim_wrapper, self._swaps, self._look)
        self._swaps.swap(runner, 'save_checkpoint', self._after_flush(runner.save_checkpoint))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note which step begins."""
        self._check()  # a step that made no update
        self._step = Step(runner.iter + 1, runner.epoch + 1, data_batch)
        if self.replay:
            self._step.snapshot = capture(self._model, data_batch, runner.hooks)

    def after_train(self, runner: Runner) -> None:
        """Look at the last step, and leave model and optimisers as they were."""
        self._check()
        self._flush()
        self._swaps.undo()

    def _watched_losses(self, parse_losses: Callable) -> Callable:
        def watched(losses: dict) -> tuple[Tensor, dict[str, Tensor]]:
            loss, terms = parse_losses(losses)
            self._step.terms.update((name, value.detach()) for name, value in terms.items())
            self._losses.append(loss.detach())
            if not self._update.follows:
                self._check()
            return loss, terms

        return watched

    def _look(self, parameters: Sequence[nn.Parameter], total: Tensor | None) -> None:
        """Check the gradient; with a late look its norms are kept by parameter, because the gradient will be gone."""
        self._step.parameters = parameters
        if parameters and (total is None or self._reader.is_late):
            self._step.norms = gradient_norms(parameters)
            total = self._step.norms.sum() if total is None else total
        self._check(total)

    def _check(self, norm: Tensor | None = None) -> None:
        """Raise a flag on every rank if a loss since the last check, or the gradient's norm, is not finite on any."""
        values = self._losses if norm is None else [*self._losses, norm]
        if not values:
            return
        # What is not finite stays so in a sum.
        flag = sum(value.to(values[0].device) for value in values).isfinite().logical_not()
        self._losses = []
        if get_world_size() > 1:
            count = flag.float()
            dist.all_reduce(count, dist.ReduceOp.MAX)
            flag = count > 0
        self._stop_if(self._reader.add(flag, self._step))

    def _flush(self) -> None:
        self._stop_if(self._reader.flush())

    def _after_flush(self, save_checkpoint: Callable) -> Callable:
        def save(*args: Any, **kwargs: Any) -> None:
            self._flush()
            save_checkpoint(*args, **kwargs)

        return save

    def _stop_if(self, step: Step | None) -> None:
        """End the run on every rank, and say why, if ``step`` failed."""
        if step is None:
            return
        self._swaps.undo()
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        finding = find(step, names, get_rank())
        findings = all_gather_object(finding)
        if step.snapshot is not None and (finding.terms or not any(other.terms for other in findings)):
            finding = replace(finding, file=self._write(step))
        findings = all_gather_object(finding)
        for each in findings:
            self._runner.logger.error(f'rank {each.rank}: samples of iteration {step.iteration}: {each.samples}')
        files = [each.file for each in findings if each.file]
        raise NonFiniteError(message(step, findings, self._remedy(files)))

    def _write(self, step: Step) -> str | None:
        try:
            return write_replay(self._runner.work_dir, step, self._update.wrappers[0], self._model)
        except (UserError, TypeError, OSError) as error:  # must not hide what has happened
            self._runner.logger.error(f'no replay file: {error}')
            return None

    def _remedy(self, files: Sequence[str]) -> str:
        parts = [REMEDY]
        if self._update.accumulates:
            parts.append('gradients are summed over several batches, of which this is the last')
        if files:
            # The copy in the work dir holds what the command line changed.
            config = Path(self._runner.work_dir, Path(self._runner.cfg.filename or 'CONFIG').name)
            parts.append(f'run the step again with: python tools/misc/replay_step.py {config} {files[0]}')
        else:
            parts.append('--cfg-options finite_check.replay=True writes the step to a file that can be run again')
        return '; '.join(parts)


def add_finite_check(runner: Runner) -> None:
    """Register the check with a runner, unless it has one or the config says ``finite_check = False``."""
    options = runner.cfg.get('finite_check', True)
    if options in (False, None) or any(isinstance(hook, FiniteCheckHook) for hook in runner.hooks):
        return
    runner.register_hook(FiniteCheckHook(**({} if options is True else options)))
