"""The hook that alternates the phases."""

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
    """Return the phase of epoch or iteration ``counter`` (0-based): blocks of ``phase_length``, taken in turn.

    With ``first_index=1`` epochs count from one, so that the first block is one shorter, as in the published ReID code.
    """
    return phases[(counter + first_index) // phase_length % len(phases)]


@HOOKS.register_module()
class DenoisePhaseHook(Hook):
    """Alternates predictor and backbone phases. The phase follows from the counter, so resuming needs no state.

    Args:
        phase_length: Length of a phase, in epochs or iterations.
        by: ``'epoch'`` or ``'iter'``.
        phases: The cycle; ``('denoise',)`` trains predictors only (label-free).
        first_index: Index of the first epoch or iteration, 0 or 1.

    Raises:
        UserError: If an argument is none of these values, or ``phases`` is empty.
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
            raise UserError(f"by is 'epoch' or 'iter', not '{by}'")
        if not isinstance(phase_length, int) or phase_length < 1:
            raise UserError(f'phase_length must be a whole number of at least 1, not {phase_length!r}')
        if first_index not in (0, 1):
            raise UserError(f'first_index is {first_index!r}: use 0 or 1')
        check_phases(phases)
        self.phase_length, self.by = phase_length, by
        self.phases, self.first_index = tuple(phases), first_index

    def phase_shares(self, train_cfg: dict) -> dict[str, float]:
        """Return the share of the training that each phase takes, by name.

        Where the length is not given in epochs or iterations as the phases are, it is one cycle.

        Args:
            train_cfg: Config of the training loop.
        """
        length = train_cfg.get('max_epochs' if self.by == 'epoch' else 'max_iters')
        length = length or len(self.phases) * self.phase_length
        counts = Counter(phase_at(i, self.phases, self.phase_length, self.first_index) for i in range(length))
        return {phase: count / length for phase, count in counts.items()}

    def enter(self, model: nn.Module, phase: str) -> None:
        """Set a model to a phase."""
        set_phase(unwrap(model), phase)

    def hold(self, phase: str) -> None:
        """Stay in one phase from the next epoch or iteration on."""
        self.phases = (phase,)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a folded checkpoint: denoising it again would fold two denoisers into one weight.

        Raises:
            UserError: If denoising layers were folded when the checkpoint was written.
        """
        if is_deployed(checkpoint, 'Denoise'):
            raise UserError(
                'the checkpoint to start from is folded already (DenoiseRep): start from the baseline checkpoint, or '
                'resume from the unfolded one'
            )

    def before_train(self, runner: Runner) -> None:
        """Refuse phases that a label-free run cannot train.

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
            if not state.learns_noise:
                _end_log(runner)
            runner.logger.info(f'DenoiseRep enters phase "{phase}" at {self.by} {counter + self.first_index}')


def _end_log(runner: Runner) -> None:
    """Take the noise losses out of what is logged: mmengine would repeat their last values until there are new ones."""
    scalars = runner.message_hub.log_scalars
    for key in [key for key in scalars if key.startswith(('train/loss_denoise', f'train/{noise_key("")}'))]:
        del scalars[key]


def _is_label_free(model: nn.Module) -> bool:
    return getattr(getattr(model, 'denoise', None), 'label_free', False)
