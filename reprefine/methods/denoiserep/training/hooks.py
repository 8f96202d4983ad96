"""Hook that alternates the training phases."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from reprefine.deploy.meta import is_deployed
from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import HOOKS

from ..conversion.converted import denoise_state
from ..model import noise_key
from .phases import check_phases, set_phase


def phase_at(counter: int, phases: Sequence[str], phase_length: int, first_index: int = 0) -> str:
    """Return the phase of an epoch or iteration.

    Args:
        counter: 0-based index of the epoch or iteration.
        phases: Phases, which alternate cyclically.
        phase_length: Length of each phase, in epochs or iterations.
        first_index: Index of the first epoch or iteration. With 1 the first phase is one shorter, as in the released
            ReID code.
    """
    return phases[(counter + first_index) // phase_length % len(phases)]


@HOOKS.register_module()
class DenoisePhaseHook(Hook):
    """Alternates predictor and backbone phases. The phase depends on the counter alone, so resuming needs no state.

    Args:
        phase_length: Length of a phase, in epochs or iterations.
        by: ``'epoch'`` or ``'iter'``.
        phases: Phases of a cycle; ``('denoise',)`` trains predictors only (label-free).
        first_index: Index of the first epoch or iteration, 0 or 1.

    Raises:
        UserError: If an argument has another value, or ``phases`` is empty.
    """

    priority = 'HIGH'

    def __init__(
        self,
        phase_length: int = 10,
        by: str = 'epoch',
        phases: Sequence[str] = ('denoise', 'backbone'),
        first_index: int = 0,
    ) -> None:
        if by not in ('epoch', 'iter'):
            raise UserError(f"by={by!r}: use 'epoch' or 'iter'")
        if not isinstance(phase_length, int) or phase_length < 1:
            raise UserError(f'phase_length={phase_length!r}: use an integer of at least 1')
        if first_index not in (0, 1):
            raise UserError(f'first_index={first_index!r}: use 0 or 1')
        check_phases(phases)
        self.phase_length, self.by = phase_length, by
        self.phases, self.first_index = tuple(phases), first_index

    def phase_shares(self, train_cfg: dict) -> dict[str, float]:
        """Return the fraction of the training time in each phase, by name.

        If the training length has another unit than the phases, the fractions are those of one cycle.

        Args:
            train_cfg: Config of the training loop.
        """
        length = train_cfg.get('max_epochs' if self.by == 'epoch' else 'max_iters')
        length = length or len(self.phases) * self.phase_length
        counts = Counter(phase_at(i, self.phases, self.phase_length, self.first_index) for i in range(length))
        return {phase: count / length for phase, count in counts.items()}

    def set_phase(self, model: nn.Module, phase: str) -> None:
        """Set a model to a phase.

        Args:
            model: Converted model, which may be wrapped for distributed training.
            phase: Name of the phase.
        """
        set_phase(unwrap(model), phase)

    def fix_phase(self, phase: str) -> None:
        """Stay in one phase from the next epoch or iteration on.

        Args:
            phase: Name of the phase.
        """
        self.phases = (phase,)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check that the checkpoint is not a deployed one, whose weights contain merged predictors already.

        Raises:
            UserError: If the checkpoint holds the deployed form of denoising layers.
        """
        if is_deployed(checkpoint, 'Denoise'):
            raise UserError(
                'the checkpoint to start from is deployed already (DenoiseRep): start from the baseline checkpoint, or '
                'resume from that of the training form'
            )

    def before_train(self, runner: Runner) -> None:
        """Check that the run can train all phases.

        Raises:
            UserError: If the model computes no task loss but a phase trains the backbone with it.
        """
        check_phases(self.phases, _is_label_free(unwrap(runner.model)))

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the phase of the epoch."""
        if self.by == 'epoch':
            self._enter(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the phase of the iteration."""
        if self.by == 'iter':
            self._enter(runner, runner.iter)

    def _enter(self, runner: Runner, counter: int) -> None:
        model = unwrap(runner.model)
        phase = phase_at(counter, self.phases, self.phase_length, self.first_index)
        state = denoise_state(model)
        if not state.trainable or phase != state.phase:
            set_phase(model, phase)
            if not state.trains_predictors:
                _clear_noise_logs(runner)
            runner.logger.info(f'DenoiseRep enters phase "{phase}" at {self.by} {counter + self.first_index}')


def _clear_noise_logs(runner: Runner) -> None:
    """Remove the noise losses from the message hub: mmengine would log their last values in every later iteration."""
    scalars = runner.message_hub.log_scalars
    for key in [key for key in scalars if key.startswith(('train/loss_denoise', f'train/{noise_key("")}'))]:
        del scalars[key]


def _is_label_free(model: nn.Module) -> bool:
    return getattr(getattr(model, 'denoise', None), 'label_free', False)
