"""Training phases of a converted model."""

from collections.abc import Sequence

from torch import nn

from reprefine.engine.errors import UserError

from ..conversion.converted import denoise_state
from ..layers.state import PHASES


def check_phases(phases: Sequence[str], label_free: bool = False) -> None:
    """Check that phases exist and that a run without labels can train them.

    Args:
        phases: The phases of a run.
        label_free: Whether the run computes no task loss.

    Raises:
        UserError: If there is none, one is unknown, or one trains the backbone without labels.
    """
    unknown = [phase for phase in phases if phase not in PHASES]
    if unknown or not phases:
        problem = f'unknown phase {unknown[0]!r}' if unknown else f'phases={phases!r} names none'
        raise UserError(f'{problem}: use one of {", ".join(PHASES)}')
    if label_free and set(phases) != {'denoise'}:
        raise UserError(
            f'label_free=True trains predictors only, but the phases are {", ".join(phases)}: set '
            "phases=('denoise',) in DenoisePhaseHook, or phase='denoise' without one"
        )


def set_phase(model: nn.Module, phase: str) -> None:
    """Set which parameters of a converted model are trained, and by which loss.

    ``'denoise'``: the predictors by the noise loss; the base model is frozen. ``'backbone'``: the base model by the
    task loss through the merged weights; the predictors are frozen. ``'joint'``: both. ``'eval_only'``: none.
    Parameters that the base model itself has frozen stay frozen in every phase, but predictors of its frozen layers are
    trained. Gradients of frozen parameters are set to None, so that neither momentum nor weight decay changes them.

    Args:
        model: Converted model.
        phase: One of :data:`~..layers.state.PHASES`.

    Raises:
        UserError: If the phase is unknown.
    """
    check_phases([phase])
    state = denoise_state(model)
    for parameter in model.parameters():
        if parameter in state.predictors:
            is_trained = phase in ('denoise', 'joint') and state.predictors[parameter]
        else:
            trainable = state.trainable.setdefault(parameter, parameter.requires_grad)
            is_trained = phase in ('backbone', 'joint') and trainable
        parameter.requires_grad_(is_trained)
        if not parameter.requires_grad:
            parameter.grad = None
    state.phase = phase
    state.merged.clear()
    state.reset_stochastic_modules()
