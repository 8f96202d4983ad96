"""Training stops at the step whose loss or gradient is not finite, before a checkpoint can hold the damage."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from reprefine.registry import HOOKS

from .build import unwrap
from .errors import UserError
from .late_read import FlagReader, flag_reader
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
        self._is_checked = False
        self._reader: FlagReader[Step] = FlagReader()
        self._swaps = Swaps()

    def before_train(self, runner: Runner) -> None:
        """Begin to watch the model's losses, the optimisers' updates and the writing of checkpoints."""
        self._runner = runner
        self._model = unwrap(runner.model)
        self._reader = flag_reader(next((p.device for p in self._model.parameters()), torch.device('cpu')))
        self._wrappers = _optim_wrappers(runner.optim_wrapper)
        if hasattr(self._model, 'parse_losses'):
            self._swaps.swap(self._model, 'parse_losses', self._watched_losses(self._model.parse_losses))
        for wrapper in self._wrappers:
            if not scales_gradients(wrapper):
                self._watch_update(wrapper)
        self._swaps.swap(runner, 'save_checkpoint', self._after_flush(runner.save_checkpoint))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note which step begins."""
        if self._losses:  # of a step that made no update
            self._check()
        self._step = Step(runner.iter + 1, runner.epoch + 1, data_batch)
        if self.replay:
            self._step.snapshot = capture(self._model, data_batch)

    def after_train(self, runner: Runner) -> None:
        """Look at the last step, and leave model and optimisers as they were."""
        if self._losses:
            self._check()
        self._flush()
        self._swaps.undo()

    def _watched_losses(self, parse_losses: Callable) -> Callable:
        def watched(losses: dict) -> tuple[Tensor, dict[str, Tensor]]:
            loss, terms = parse_losses(losses)
            self._step.terms.update((name, value.detach()) for name, value in terms.items())
            self._losses.append(loss.detach())
            if not self._update_follows():
                self._check()
            return loss, terms

        return watched

    def _update_follows(self) -> bool:
        """Tell whether the update of this step will look at the loss, together with the gradient."""
        wrapper = self._wrappers[0]
        return len(self._wrappers) == 1 and not scales_gradients(wrapper) and wrapper.should_sync()

    def _watch_update(self, wrapper: OptimWrapper) -> None:
        if wrapper.clip_grad_kwargs:  # which would hide an infinite gradient
            by_norm = wrapper.clip_func is torch.nn.utils.clip_grad_norm_
            self._swaps.swap(wrapper, 'clip_func', self._clip if by_norm else self._before_clip(wrapper.clip_func))
        self._swaps.handles.append(wrapper.optimizer.register_step_pre_hook(self._before_update))

    def _clip(
        self,
        parameters: Sequence[nn.Parameter],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Tensor:
        """Do as :func:`torch.nn.utils.clip_grad_norm_`, and look at the norm before the gradients are scaled by it."""
        grads = [parameter.grad for parameter in parameters]
        total = torch.nn.utils.get_total_norm(grads, norm_type, foreach=foreach)  # an error is ours to raise
        self._step.parameters = parameters
        if self._reader.is_late:  # the gradients will be gone
            self._step.norms = gradient_norms(parameters)
        self._check(total)
        self._is_checked = True
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total, foreach)
        return total

    def _before_clip(self, clip: Callable) -> Callable:
        def checked(parameters: Sequence[nn.Parameter], **kwargs: Any) -> Any:
            self._check_gradient(parameters)
            self._is_checked = True
            return clip(parameters, **kwargs)

        return checked

    def _before_update(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if self._is_checked:
            self._is_checked = False
            return
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if parameters:
            self._check_gradient(parameters)

    def _check_gradient(self, parameters: Sequence[nn.Parameter]) -> None:
        self._step.parameters, self._step.norms = parameters, gradient_norms(parameters)
        self._check(self._step.norms.sum())

    def _check(self, norm: Tensor | None = None) -> None:
        """Raise a flag on every rank if a loss since the last check, or the gradient's norm, is not finite on any."""
        values = self._losses if norm is None else [*self._losses, norm]
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
            return write_replay(self._runner.work_dir, step, self._wrappers[0], self._model)
        except (UserError, TypeError, OSError) as error:  # must not hide what has happened
            self._runner.logger.error(f'no replay file: {error}')
            return None

    def _remedy(self, files: Sequence[str]) -> str:
        parts = [REMEDY]
        if self._wrappers[0]._accumulative_counts > 1:
            parts.append('gradients are summed over several batches, of which this is the last')
        if files:
            # The copy in the work dir holds what the command line changed.
            config = Path(self._runner.work_dir, Path(self._runner.cfg.filename or 'CONFIG').name)
            parts.append(f'run the step again with: python tools/misc/replay_step.py {config} {files[0]}')
        else:
            parts.append('--cfg-options finite_check.replay=True writes the step to a file that can be run again')
        return '; '.join(parts)


def _optim_wrappers(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    return list(optim_wrapper.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]


def scales_gradients(wrapper: OptimWrapper) -> bool:
    """Tell whether infinite gradients are expected, because a scale is being sought at which there are none."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return isinstance(wrapper, ApexOptimWrapper) or (scaler is not None and scaler.is_enabled())


def add_finite_check(runner: Runner) -> None:
    """Register the check with a runner, unless it has one or the config says ``finite_check = False``."""
    options = runner.cfg.get('finite_check', True)
    if options in (False, None) or any(isinstance(hook, FiniteCheckHook) for hook in runner.hooks):
        return
    runner.register_hook(FiniteCheckHook(**({} if options is True else options)))
