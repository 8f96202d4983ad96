"""What a converted model trains, in turns."""

from collections.abc import Sequence

from torch import nn

from reprefine.engine.errors import UserError

from ..conversion.converted import denoise_state
from ..layers.state import PHASES


def check_phases(phases: Sequence[str], label_free: bool = False) -> None:
    """Refuse phases that do not exist, or that a run without labels cannot train.

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
    """Choose what a converted model trains.

    ``'denoise'``: the predictors, by the noise loss, the host staying fixed. ``'backbone'``: the host, by the task
    loss through the merged weights. ``'joint'``: both. ``'eval_only'``: nothing. Parameters that the host itself had
    frozen stay frozen in every phase, unlike the predictors of its frozen layers; gradients of what is now frozen are
    dropped, so that neither momentum nor weight decay moves it.

    Raises:
        UserError: If the phase is unknown.
    """
    check_phases([phase])
    state = denoise_state(model)
    for parameter in model.parameters():
        if parameter in state.predictors:
            learns = phase in ('denoise', 'joint') and state.predictors[parameter]
        else:
            own = state.trainable.setdefault(parameter, parameter.requires_grad)
            learns = phase in ('backbone', 'joint') and own
        parameter.requires_grad_(learns)
        if not parameter.requires_grad:
            parameter.grad = None
    state.phase = phase
    state.merged.clear()
    state.forget_modules()
