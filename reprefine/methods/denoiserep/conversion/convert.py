"""Turning the layers of any model into denoising ones."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from reprefine.engine.errors import UserError
from reprefine.models.replaced_layer import ReplacedLayer

from ..functional import LOSS_TYPES
from ..layers.base import _DenoiseLayer
from ..layers.linear_conv import DenoiseConv2d, DenoiseLinear
from ..layers.replaced import denoise_replaced
from ..layers.state import DenoiseState
from .converted import ConvertedLayer, FusedModelError, is_converted, is_fused, report
from .momentum_encoders import find_twins, follow, list_anew
from .refusals import refuse_lost_biases, refuse_parts
from .select import Candidate, TimestepPolicy, assign_timesteps, find_layers


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
