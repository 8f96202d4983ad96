"""The hook that ends training at the first loss or gradient that is not finite, before a checkpoint is written."""

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

from .flag_reader import FlagReader, flag_reader
from .nonfinite import NonFiniteError, TrainStep, find_nonfinite, format_error, gradient_norms
from .replay import take_snapshot, write_replay
from .step_pre_hooks import Patches, StepPreHooks


@HOOKS.register_module()
class FiniteCheckHook(Hook):
    """Ends training on every rank at the iteration whose loss or gradient is NaN or infinite.

    Loss and gradient are checked before the optimizer steps. On the CPU the run ends there, with weights and optimizer
    unchanged. On a GPU, reading the result would wait for the device: it is copied to the host without blocking, and
    read before the next step, and before a checkpoint is written. With a gradient scaler, infinite gradients are
    expected, and only the loss is checked.

    Args:
        replay: Write the step into the work dir, for ``tools/misc/replay_step.py``. Every iteration then copies the
            state of the model, the batch and the RNG state.
    """

    priority = 'LOWEST'  # after the other hooks have prepared the iteration

    def __init__(self, replay: bool = False) -> None:
        self.replay = replay
        self._step = TrainStep(0, 0)
        self._losses: list[Tensor] = []
        self._reader: FlagReader[TrainStep] = FlagReader()
        self._patches = Patches()

    def before_train(self, runner: Runner) -> None:
        """Patch the model's ``parse_losses``, the optimizers' steps and the saving of checkpoints."""
        self._runner = runner
        self._model = unwrap(runner.model)
        self._reader = flag_reader(next((p.device for p in self._model.parameters()), torch.device('cpu')))
        if hasattr(self._model, 'parse_losses'):
            self._patches.set(self._model, 'parse_losses', self._checked_losses(self._model.parse_losses))
        self._optim = StepPreHooks(runner.optim_wrapper, self._patches, self._check_gradient)
        self._patches.set(runner, 'save_checkpoint', self._after_flush(runner.save_checkpoint))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep what identifies the iteration, and its snapshot for a replay."""
        self._check()  # an iteration without an optimizer step
        self._step = TrainStep(runner.iter + 1, runner.epoch + 1, data_batch)
        if self.replay:
            self._step.snapshot = take_snapshot(self._model, data_batch, runner.hooks)

    def after_train(self, runner: Runner) -> None:
        """Check the last iteration, and remove the patches."""
        self._check()
        self._flush()
        self._patches.undo()

    def _checked_losses(self, parse_losses: Callable) -> Callable:
        def checked(losses: dict) -> tuple[Tensor, dict[str, Tensor]]:
            loss, terms = parse_losses(losses)
            self._step.terms.update((name, value.detach()) for name, value in terms.items())
            self._losses.append(loss.detach())
            if not self._optim.will_step:
                self._check()
            return loss, terms

        return checked

    def _check_gradient(self, parameters: Sequence[nn.Parameter], total: Tensor | None) -> None:
        """Check the gradient; a deferred check keeps the norms of all parameters, as the gradient will be gone."""
        self._step.parameters = parameters
        if parameters and (total is None or self._reader.is_deferred):
            self._step.norms = gradient_norms(parameters)
            total = self._step.norms.sum() if total is None else total
        self._check(total)

    def _check(self, norm: Tensor | None = None) -> None:
        """Set the flag on every rank if a loss since the last check, or the gradient norm, is not finite on any."""
        values = self._losses if norm is None else [*self._losses, norm]
        if not values:
            return
        # A sum with NaN or infinity is not finite.
        flag = sum(value.to(values[0].device) for value in values).isfinite().logical_not()
        self._losses = []
        if get_world_size() > 1:
            count = flag.float()
            dist.all_reduce(count, dist.ReduceOp.MAX)
            flag = count > 0
        self._raise_if_failed(self._reader.add(flag, self._step))

    def _flush(self) -> None:
        self._raise_if_failed(self._reader.flush())

    def _after_flush(self, save_checkpoint: Callable) -> Callable:
        def save(*args: Any, **kwargs: Any) -> None:
            self._flush()
            save_checkpoint(*args, **kwargs)

        return save

    def _raise_if_failed(self, step: TrainStep | None) -> None:
        """End the run on every rank with the same line if ``step`` failed."""
        if step is None:
            return
        self._patches.undo()
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        found = find_nonfinite(step, names, get_rank())
        ranks = all_gather_object(found)
        if step.snapshot is not None and (found.terms or not any(other.terms for other in ranks)):
            found = replace(found, file=self._write_replay(step))
        ranks = all_gather_object(found)
        for each in ranks:
            self._runner.logger.error(f'rank {each.rank}: samples of iteration {step.iteration}: {each.samples}')
        files = [each.file for each in ranks if each.file]
        raise NonFiniteError(format_error(step, ranks, self._remedy(files)))

    def _write_replay(self, step: TrainStep) -> str | None:
        try:
            return write_replay(self._runner.work_dir, step, self._optim.wrappers[0], self._model)
        except (UserError, TypeError, OSError) as error:  # must not hide the error of the step
            self._runner.logger.error(f'no replay file: {error}')
            return None

    def _remedy(self, files: Sequence[str]) -> str:
        parts = ['lower the learning rate or fix the samples']
        if self._optim.accumulates:
            parts.append('gradients are accumulated over several batches, of which this is the last')
        if files:
            # The copy in the work dir has the changes of the command line.
            config = Path(self._runner.work_dir, Path(self._runner.cfg.filename or 'CONFIG').name)
            parts.append(f'run the step again with: python tools/misc/replay_step.py {config} {files[0]}')
        else:
            parts.append('--cfg-options finite_check.replay=True writes the step to a file that can be run again')
        return '; '.join(parts)


def add_finite_check(runner: Runner) -> None:
    """Register the hook with a runner, unless it has one or the config has ``finite_check = False``."""
    options = runner.cfg.get('finite_check', True)
    if options in (False, None) or any(isinstance(hook, FiniteCheckHook) for hook in runner.hooks):
        return
    runner.register_hook(FiniteCheckHook(**({} if options is True else options)))
