"""Turning the layers of any model into denoising ones, switching phases, and folding them back."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.models.replaced_layer import ReplacedLayer

from .functional import LOSS_TYPES
from .layer import _DenoiseLayer
from .layers import DenoiseConv2d, DenoiseLinear
from .refusals import refuse_lost_biases, refuse_parts
from .replaced import denoise_replaced
from .select import Candidate, TimestepPolicy, assign_timesteps, find_layers
from .state import PHASES, DenoiseState
from .twins import find_twins, follow, list_anew


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of the report of :func:`convert`."""

    name: str
    type: str
    timestep: int | None
    width: int | None
    side: str | None
    skipped: str | None = None


class FusedModelError(UserError):
    """The model is folded already, or was never converted."""


def convert(
    model: nn.Module,
    include: str | Sequence[str] = 'mlp',
    exclude: str | Sequence[str] = (),
    types: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d),
    timestep: TimestepPolicy = 'descending',
    steps: int = 1000,
    step: str = 'ddpm',
    to: int | None = None,
    side: str | None = None,
    bias_policy: str = 'keep',
    loss_type: str = 'l1+l2',
    time_embed: bool = False,
    embed_width: int = 2048,
    bias_noise: bool = False,
    kernel_size: int = 1,
) -> list[ConvertedLayer]:
    """Attach a denoiser to the chosen layers of ``model``, in place. Outputs in the predictor phase stay as they were.

    Args:
        model: Any module. A model that is converted already is left as it is.
        include: Preset or regular expressions on qualified names; see :func:`~.select.find_layers`.
        exclude: Regular expressions of names to leave out.
        types: Host types to convert.
        timestep: Policy that gives each layer its timestep; see :func:`~.select.assign_timesteps`.
        steps: Length of the noise schedule.
        step: ``'ddpm'`` (reverse step) or ``'ddim'`` (deterministic step down to ``to``).
        to: Target timestep of the DDIM step.
        side: ``'input'``, ``'output'`` or ``'narrow'``, the one with fewer channels, whose predictor is the cheapest;
            None for the default of the type (Linear input, Conv2d output).
        bias_policy: ``'keep'`` gives layers without bias a predictor without constant, so that the folded model has
            the baseline's structure; ``'add'`` gives them a full predictor and, when folded, a bias.
        loss_type: ``'l1+l2'``, ``'l1'`` or ``'l2'``.
        time_embed: Whether predictors learn a time vector.
        embed_width: Width of its embedding.
        bias_noise: Whether training adds the stochastic term of the reverse step, as the released code does.
        kernel_size: Kernel of the predictor. Only 1 can be folded.

    Returns:
        A report with one row for every layer named by the selection.

    Raises:
        UserError: If no layer matches, or an option cannot be honoured.
        FusedModelError: If the model is folded already.
    """
    if is_converted(model):
        return report(model)
    if is_fused(model):
        raise FusedModelError('the model is folded already: converting it again would denoise its features twice')
    _check_options(kernel_size, step, to, side, bias_policy, loss_type)
    chosen, skipped = _choose(model, include, exclude, types)
    if bias_policy == 'add':
        refuse_lost_biases(model, chosen)
    state = DenoiseState([c.name for c in chosen])
    options = dict(
        side=side,
        state=state,
        loss_type=loss_type,
        bias_policy=bias_policy,
        bias_noise=bias_noise,
        time_embed=time_embed,
        embed_width=embed_width,
        steps=steps,
        ddim_to=to,
    )
    _replace(model, chosen, assign_timesteps(state.layer_names, timestep, steps), options)
    state.watch(model)
    return report(model) + [_skipped_row(c) for c in skipped]


def _choose(
    model: nn.Module,
    include: str | Sequence[str],
    exclude: str | Sequence[str],
    types: tuple[type[nn.Module], ...],
) -> tuple[list[Candidate], list[Candidate]]:
    """Return the layers to convert, and those that a selection names but must stay as they are."""
    refuse_parts(model, include)
    candidates = find_layers(model, include, exclude, types)
    chosen = [c for c in candidates if c.skipped is None]
    skipped = [c for c in candidates if c.skipped is not None]
    if not chosen:
        raise UserError(_no_match(include, exclude, skipped, model))
    for candidate in skipped:
        warnings.warn(f"'{candidate.name}' is not denoised: {candidate.skipped}", stacklevel=3)
    return chosen, skipped


def _replace(model: nn.Module, chosen: list[Candidate], timesteps: dict[str, int], options: dict[str, Any]) -> None:
    """Put denoising layers in the place of the chosen ones, and of their averages in momentum encoders."""
    twins = find_twins(model, chosen)
    layers = [
        _denoise_class(place.layer).from_host(place.layer, timestep=timesteps[source], name=source, **options)
        for place, source in [*((c, c.name) for c in chosen), *twins]
    ]
    followed = {candidate.name: layer for candidate, layer in zip(chosen, layers, strict=False)}
    for (_, source), twin in zip(twins, layers[len(chosen) :], strict=True):
        follow(twin, followed[source])
    predictors = {p: not layer.follows for layer in layers for p in layer.denoiser.parameters()}
    options['state'].predictors = predictors
    places = [*chosen, *(twin for twin, _ in twins)]
    for place, layer in zip(places, layers, strict=True):  # only now, so that an error leaves the model as it was
        setattr(place.parent, place.attribute, layer)
    list_anew(model)


def _denoise_class(layer: nn.Module) -> type[_DenoiseLayer]:
    if isinstance(layer, ReplacedLayer):
        return denoise_replaced(type(layer))
    return DenoiseLinear if isinstance(layer, nn.Linear) else DenoiseConv2d


def _check_options(
    kernel_size: int, step: str, to: int | None, side: str | None, bias_policy: str, loss_type: str
) -> None:
    if kernel_size != 1:
        raise UserError(
            f'a {kernel_size}x{kernel_size} predictor cannot be folded: the composed kernel is larger than the host; '
            'use kernel_size=1'
        )
    if step not in ('ddpm', 'ddim') or (step == 'ddim') != (to is not None):
        raise UserError("step is 'ddpm', or 'ddim' together with its target timestep `to`")
    if side not in (None, 'input', 'output', 'narrow'):
        raise UserError(f"side is 'input', 'output' or 'narrow', not '{side}'")
    if bias_policy not in ('keep', 'add'):
        raise UserError(f"bias_policy is 'keep' or 'add', not '{bias_policy}'")
    if loss_type not in LOSS_TYPES:
        raise UserError(f"loss_type is one of {', '.join(LOSS_TYPES)}, not '{loss_type}'")


def _no_match(
    include: str | Sequence[str], exclude: str | Sequence[str], skipped: list[Candidate], model: nn.Module
) -> str:
    hosts = [name for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    reason = f'; skipped: {skipped[0].name} ({skipped[0].skipped})' if skipped else ''
    return (
        f'no layer can be converted with include={include!r}, exclude={exclude!r}{reason}; '
        f'the model has {len(hosts)} Linear and Conv2d layers, such as {", ".join(hosts[:3]) or "none"}'
    )


def _skipped_row(candidate: Candidate) -> ConvertedLayer:
    return ConvertedLayer(candidate.name, type(candidate.layer).__name__, None, None, None, candidate.skipped)


def denoise_layers(model: nn.Module, with_twins: bool = False) -> dict[str, _DenoiseLayer]:
    """Return the denoising layers of a model by qualified name.

    Args:
        model: Converted model.
        with_twins: Whether to include those of momentum encoders, whose predictors are averages of the others'.
    """
    layers = ((name, m) for name, m in model.named_modules() if isinstance(m, _DenoiseLayer))
    return {name: layer for name, layer in layers if with_twins or not layer.follows}


def report(model: nn.Module) -> list[ConvertedLayer]:
    """Return one row for each denoising layer."""
    return [
        ConvertedLayer(
            name, layer.host_class.__name__, int(layer.denoiser.timestep), len(layer.denoiser.weight), layer.side
        )
        for name, layer in denoise_layers(model).items()
    ]


def is_converted(model: nn.Module) -> bool:
    """Whether the model has denoising layers."""
    return bool(denoise_layers(model))


def denoise_state(model: nn.Module) -> DenoiseState:
    """Return the state that the denoising layers of a model share.

    Raises:
        FusedModelError: If there are none.
    """
    if (state := getattr(model, '_denoise_state', None)) is not None and not state.is_fused:
        return state  # without a walk over the modules, as every training iteration asks for it
    for layer in denoise_layers(model).values():
        return layer.state
    raise FusedModelError('the model has no denoising layer: convert it first; a folded model cannot be folded again')


def noise_loss(model: nn.Module) -> Tensor:
    """Return the noise loss of the last forward pass, summed over layers, and forget it (zero if there was none).

    Raises:
        UserError: If the layers ran outside of the forward pass of the model that was converted.
    """
    state = denoise_state(model)
    losses = state.take()
    if state.ran_outside and not losses:
        raise UserError(
            'the noise loss was computed by a part of the model alone (such as forward_features), and is lost: call '
            'the model that was converted, or convert that part'
        )
    return sum_of(losses)


def sum_of(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum of the losses by layer, zero if there is none."""
    return torch.stack(list(losses.values())).sum() if losses else torch.zeros(())


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
        is_trainable = state.predictors.get(parameter)
        active = phase in (('backbone', 'joint') if is_trainable is None else ('denoise', 'joint'))
        if is_trainable is None:
            is_trainable = state.trainable.setdefault(parameter, parameter.requires_grad)
        parameter.requires_grad_(active and is_trainable)
        if not parameter.requires_grad:
            parameter.grad = None
    state.phase = phase
    state.merged.clear()
    state.forget_modules()


def fuse(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Fold every denoiser into its layer and return the plain model: same structure, same cost as the baseline.

    Args:
        model: Converted model.
        inplace: Whether to fold ``model`` itself or a copy of it.

    Raises:
        FusedModelError: If there is nothing to fold, e.g. because the model is folded already.
    """
    state = denoise_state(model)
    if not inplace:
        model = copy.deepcopy(model)
        state = denoise_state(model)
    for parameter in model.parameters():
        parameter.requires_grad_(state.trainable.get(parameter, parameter.requires_grad))
    for name, layer in denoise_layers(model, with_twins=True).items():
        parent, _, attribute = name.rpartition('.')
        setattr(model.get_submodule(parent), attribute, layer.fuse())
    list_anew(model)
    state.end()
    return model


def is_fused(model: nn.Module) -> bool:
    """Whether :func:`fuse` made this model."""
    state = getattr(model, '_denoise_state', None)
    return state is not None and state.is_fused
