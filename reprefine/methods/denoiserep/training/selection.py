"""Selection of timesteps, step and layers of the closed-form fit by a metric on validation images."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from reprefine.engine.errors import UserError

from ..conversion.converted import denoise_layers, denoise_state
from ..conversion.select import PRESETS
from ..conversion.timesteps import TimestepPolicy, assign_timesteps
from .moments import FeatureMoments, set_optimal_predictor

NO_STEP = 'none'


@dataclass(frozen=True)
class StepCandidate:
    """One candidate of :func:`select_step`, with its value.

    Attributes:
        step: ``'ddpm'``, ``'ddim'``, or ``'none'`` for the model without denoising.
        timestep: Policy of :func:`~..conversion.timesteps.assign_timesteps` for the denoised layers; None for no step.
        layers: Selection of the denoised layers, see :func:`layers_named`; None for no step.
        value: Metric on the validation images.
    """

    step: str = NO_STEP
    timestep: TimestepPolicy | None = None
    layers: str | Sequence[str] | None = None
    value: float = float('nan')

    def __str__(self) -> str:
        return self.step if self.step == NO_STEP else f'{self.step}, T={self.timestep}, layers {self.layers}'


def select_step(
    model: nn.Module,
    moments: dict[str, FeatureMoments],
    evaluate: Callable[[], float],
    timesteps: Sequence[TimestepPolicy],
    steps: Sequence[str] = ('ddpm', 'ddim'),
    layers: Sequence[str | Sequence[str]] = ('all',),
    to: int = 0,
    rule: str = 'greater',
) -> list[StepCandidate]:
    """Set the step of every layer to the candidate that is best on validation images.

    The moments of the features do not depend on the timestep, so that no candidate needs another pass over the
    training data. The model without denoising is the first candidate; a later one must be strictly better.

    Args:
        model: Model converted with ``step='selected'``.
        moments: Result of :func:`~.moments.collect_moments`, reduced over processes.
        evaluate: Evaluates the model as it is on the validation images and returns the metric.
        timesteps: Timesteps, or other policies of :func:`~..conversion.timesteps.assign_timesteps`.
        steps: Some of ``'ddpm'``, the published reverse step, and ``'ddim'``, the deterministic step down to ``to``.
        layers: Sets of converted layers, see :func:`layers_named`.
        to: Target timestep of the DDIM step.
        rule: ``'greater'`` or ``'less'``: which values of the metric are better.

    Returns:
        All candidates with their values, the chosen one first, the others in the order in which they were evaluated:
        every set of layers with every timestep and step.

    Raises:
        UserError: If an option is invalid, or the model was converted with another ``step``.
    """
    _check(model, timesteps, steps, rule)
    for selection in layers:
        layers_named(model, selection)  # an invalid one is refused before anything is evaluated
    candidates = [StepCandidate()]
    candidates += [StepCandidate(step, t, selection) for selection in layers for t in timesteps for step in steps]
    values = []
    for candidate in candidates:
        _set_candidate(model, moments, candidate, to)
        values.append(evaluate())
    sign = 1 if rule == 'greater' else -1
    best = max(range(len(values)), key=lambda index: sign * values[index])  # the first of equal ones
    _set_candidate(model, moments, candidates[best], to)
    scored = [StepCandidate(c.step, c.timestep, c.layers, value) for c, value in zip(candidates, values, strict=True)]
    return [scored.pop(best), *scored]


def layers_named(model: nn.Module, selection: str | Sequence[str]) -> list[str]:
    """Return the names of the converted layers that a selection names, in forward order.

    Args:
        model: Converted model.
        selection: ``'first'``, ``'last'``, another preset of :data:`~..conversion.select.PRESETS`, such as ``'all'`` or
            ``'mlp'``, or regular expressions, one of which must be found in the name.

    Raises:
        UserError: If there is none.
    """
    names = list(denoise_layers(model))
    if selection in ('first', 'last'):
        return names[:1] if selection == 'first' else names[-1:]
    include, exclude = selection, None
    if isinstance(selection, str) and selection in PRESETS:
        include, exclude = PRESETS[selection]
    patterns = [include] if isinstance(include, str) else include
    found = [n for n in names if any(re.search(p, n) for p in patterns) and not (exclude and re.search(exclude, n))]
    if not found:
        raise UserError(f'layers={selection!r} names none of the {len(names)} denoised layers, such as {names[0]}')
    return found


def set_layer_steps(
    model: nn.Module,
    moments: dict[str, FeatureMoments],
    timesteps: dict[str, int],
    step: str = 'ddpm',
    to: int | None = None,
) -> None:
    """Set some layers to a step with the optimal predictor, and all others to no step.

    Args:
        model: Model converted with ``step='selected'``.
        moments: Moments by layer.
        timesteps: Timestep of each layer that denoises, by name; empty for the model without denoising.
        step: ``'ddpm'`` or ``'ddim'``.
        to: Target timestep of a DDIM step.
    """
    for name, layer in denoise_layers(model).items():
        predictor = layer.denoiser
        if name not in timesteps:
            predictor.set_step(int(predictor.timestep), NO_STEP)
            continue
        predictor.set_step(timesteps[name], step, to if step == 'ddim' else None)
        set_optimal_predictor(predictor, moments[name])


def _set_candidate(model: nn.Module, moments: dict[str, FeatureMoments], candidate: StepCandidate, to: int) -> None:
    if candidate.step == NO_STEP:
        set_layer_steps(model, moments, {})
        return
    length = next(iter(denoise_layers(model).values())).denoiser.steps
    timesteps = assign_timesteps(layers_named(model, candidate.layers), candidate.timestep, length)
    set_layer_steps(model, moments, timesteps, candidate.step, to)


def _check(model: nn.Module, timesteps: Sequence[TimestepPolicy], steps: Sequence[str], rule: str) -> None:
    if not all(layer.denoiser.is_selectable for layer in denoise_layers(model).values()):
        raise UserError("select needs layers whose step it can set: convert them with step='selected' (model.denoise)")
    if not denoise_state(model).denoise_eval:
        raise UserError('select evaluates the denoised model, but denoise_eval=False: leave it out')
    if isinstance(timesteps, str) or not timesteps:
        raise UserError(f'select.timesteps={timesteps!r}: give a list of at least one timestep')
    if isinstance(steps, str) or not steps or not {'ddpm', 'ddim'}.issuperset(steps):
        raise UserError(f"select.steps={steps!r}: give a list of 'ddpm', 'ddim' or both")
    if rule not in ('greater', 'less'):
        raise UserError(f"select.rule={rule!r}: use 'greater' or 'less'")


def candidate_table(candidates: Sequence[StepCandidate], metric: str) -> str:
    """Return one line for each candidate of :func:`select_step`, the chosen one marked.

    Args:
        candidates: Result of :func:`select_step`.
        metric: Name of the metric.
    """
    rows = [f'  {candidate.value:9.4f}  {candidate}' for candidate in candidates]
    return '\n'.join([f'Denoising step by {metric} on the validation images:', f'{rows[0]}  <- chosen', *rows[1:]])
